"""From points to the pixels that see them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.borrowing import borrowed
from seg_perception.geometry import lens
from seg_perception.geometry.camera import CameraModel
from seg_perception.geometry.columns import BLOCK, bounds_of, by_axis
from seg_perception.geometry.workspace import Workspace

_ROLLING_STEPS = 3
_BEYOND = 0.25  # of the image's height: points may enter from that far above or below
_ROUNDING = 1e-6  # of |x| + |y| + |z|: more than float32 errs by in five products and their sum
_FEW = 0.5  # of a block: fewer are sorted out before the lens, of more all go through it
_SAMPLES, _MORE = 129, 0.02  # rays to each side of an image; share by which they may miss its outermost point
_WIDEST = math.radians(80.0)  # off axis; beyond, the plane z = 1 is no window


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """The points that fall into an image.

    index: (M,) int32 into the points given. uv: (M, 2) float32 pixels, rounded once from float64, so right to 0.0003 in
    images of up to 8192; in memory all u, then all v, which the compiler likes best. distance: (M,) float32 metres from
    the optical centre: along the ray, so that it means the same behind 90 degrees off axis, where z is negative.
    points: (N, 3) float32, the points given, none copied; empty where nobody will ask for them.
    """

    index: NDArray[np.int32]
    uv: NDArray[np.float32]
    distance: NDArray[np.float32]
    points: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 3), np.float32))

    @property
    def arrays(self) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
        """index, uv and distance, as compiled code takes them, uv as (2, M): a view (M, 2) of that is another type to
        numba where M is 0 or 1, for which it would compile once more, in the middle of a drive."""
        return self.index, self.uv.T, self.distance

    def select(self, mask: NDArray[np.bool_]) -> Projection:
        """Only the points where `mask` (M,) is True."""
        count = int(np.count_nonzero(mask))
        index, uv, distance = np.empty(count, np.int32), np.empty((2, count), np.float32), np.empty(count, np.float32)
        _select(mask, *self.arrays, index, uv, distance)
        return Projection(index, uv.T, distance, self.points)


def project(
    points: NDArray[np.float32],
    T_cam_lidar: NDArray[np.float64],
    camera: CameraModel,
    T_rows: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    workspace: Workspace | None = None,
    bounds: NDArray[np.float32] | None = None,
) -> Projection:
    """Project points (N, 3), metres in the LiDAR's frame, through the camera's lens into the pixels of its image.

    T_rows: for a rolling shutter, T_cam_lidar at its first and its last row; each point is projected at the instant of
    the row on which it falls, the camera moving evenly in between. Points that are not finite, beyond the lens's valid
    angle or outside the image are left out. One pass, one core. workspace: whose arrays to use for the answer. Points
    whose axes lie one after the other in memory are read as they are, others are turned first. bounds:
    `bounds_of(points)`, where several cameras share it.
    """
    workspace, count = workspace or Workspace(), len(points)
    index = workspace.array("index", count, np.int32)
    uv, distance = workspace.array("uv", 2 * count, np.float32), workspace.array("distance", count, np.float32)
    T = camera.T_lens_cam @ T_cam_lidar
    columns = by_axis(points)
    if T_rows is None:
        bounds = bounds_of(columns.T, workspace) if bounds is None else bounds
        found = _project(camera.params, T, _window(camera), columns, bounds, index, uv, distance)
    else:
        first, last = (camera.T_lens_cam @ T_row for T_row in T_rows)
        found = _project_rolling(camera.params, T, first, last, columns, index, uv, distance)
    return Projection(index[:found], uv[: 2 * found].reshape(2, found).T, distance[:found], points)


@lru_cache(maxsize=64)
def _window(camera: CameraModel) -> tuple[float, float, float, float]:
    """What of the plane z = 1 the image can show, a little more: least and largest x, least and largest y.

    A lens is one-to-one up to its limit, so the rays of the border go around all others; where some of the border lies
    beyond the limit, the limit goes around. A lens that sees up to 80 degrees off axis or more gets no window, all NaN.
    """
    u, v = np.linspace(-0.5, camera.width - 0.5, _SAMPLES), np.linspace(-0.5, camera.height - 0.5, _SAMPLES)
    sides = [(u, np.full(_SAMPLES, v[0])), (u, np.full(_SAMPLES, v[-1]))]
    sides += [(np.full(_SAMPLES, u[0]), v), (np.full(_SAMPLES, u[-1]), v)]
    rays = np.empty((4 * _SAMPLES, 3))
    lens.unproject_pixels(camera.params, np.concatenate([np.column_stack(side) for side in sides]), rays)
    limit = math.tan(min(lens.valid_angle(camera.params), _WIDEST))
    if np.isnan(rays).any():
        low, high = np.full(2, -limit), np.full(2, limit)
    else:
        plane = rays[:, :2] / np.maximum(rays[:, 2:], 1e-9)
        low, high = plane.min(axis=0), plane.max(axis=0)
    more = _MORE * (high - low)
    low, high = low - more, high + more
    if max(np.abs(low).max(), np.abs(high).max()) >= math.tan(_WIDEST):
        return math.nan, math.nan, math.nan, math.nan
    return float(low[0]), float(high[0]), float(low[1]), float(high[1])


@numba.njit(cache=True, nogil=True, inline="always")
def _carried(T, x, y, z):  # type: ignore[no-untyped-def]
    return (
        T[0, 0] * x + T[0, 1] * y + T[0, 2] * z + T[0, 3],
        T[1, 0] * x + T[1, 1] * y + T[1, 2] * z + T[1, 3],
        T[2, 0] * x + T[2, 1] * y + T[2, 2] * z + T[2, 3],
    )


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _project(params, T_lens_lidar, window, by_axis, bounds, index, uv, distance):  # type: ignore[no-untyped-def]
    """Fill the outputs from their start, uv (2N,) with all u and then all v; return how many points lie in the image.

    A block of points at a time, in columns, so that the compiler takes several points at once: most are turned away by
    the planes around what the image shows, in float32, a whole block by its bounds alone; those that are left go
    through the lens, in float64. Where only a few of a block are left, these alone.
    """
    room = np.empty((6, BLOCK)), np.empty(BLOCK, np.uint8)
    return _through(params, T_lens_lidar, _planes(window, T_lens_lidar), by_axis, bounds, index, uv, distance, room)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _through(params, T_lens_lidar, planes, by_axis, bounds, index, uv, distance, room):  # type: ignore[no-untyped-def]
    """What `_project` says, in that room."""
    by_axis, bounds, (room, passing) = borrowed((by_axis, bounds, room))
    index, uv, distance, planes = borrowed((index, uv, distance, planes))
    X, Y, Z, u, v, far = room[0], room[1], room[2], room[3], room[4], room[5]
    us, vs = uv[: index.shape[0]], uv[index.shape[0] :]
    found, count, whole = 0, by_axis.shape[1], False
    for block in range(bounds.shape[0]):
        outside, crossed = _beside(planes, bounds[block])
        if outside:
            continue
        first, last = block * BLOCK, min((block + 1) * BLOCK, count)
        xs, ys, zs = by_axis[0, first:last], by_axis[1, first:last], by_axis[2, first:last]
        # After a block that all lies in the image most likely comes another one, of which the lens will tell.
        waiting = _pass(planes, xs, ys, zs, passing) if crossed and not whole else last - first
        if waiting == 0:
            continue
        some = waiting < _FEW * (last - first)
        if some:
            _gather(passing[: last - first], first, xs, ys, zs, index[found:], u, v, far)
            _carry(T_lens_lidar, u[:waiting], v[:waiting], far[:waiting], X, Y, Z)
        else:
            waiting = last - first
            _carry(T_lens_lidar, xs, ys, zs, X, Y, Z)
            _number(first, index[found : found + waiting])
        lens.project_columns(params, X[:waiting], Y[:waiting], Z[:waiting], u[:waiting], v[:waiting])
        here = slice(found, found + waiting)
        inside = _round(params, X, Y, Z, u, v, us[here], vs[here], distance[here], passing)
        whole = inside == last - first
        if inside < waiting:
            _keep(passing[:waiting], index[here], us[here], vs[here], distance[here])
        found += inside
    _copy(vs[:found], uv[found : 2 * found])
    return found


@numba.njit(cache=True, nogil=True)
def _number(first, index):  # type: ignore[no-untyped-def]
    """The numbers of a block's points, of which the first one has the number `first`."""
    for k in range(index.shape[0]):
        index[k] = first + k


@numba.njit(cache=True, nogil=True)
def _keep(inside, index, us, vs, distance):  # type: ignore[no-untyped-def]
    """Those inside move up to the start."""
    kept = 0
    for k in range(inside.shape[0]):  # without a branch
        index[kept], us[kept], vs[kept], distance[kept] = index[k], us[k], vs[k], distance[k]
        kept += inside[k]


@numba.njit(cache=True, nogil=True)
def _copy(source, target):  # type: ignore[no-untyped-def]
    """What `target[:] = source` does, which Numba makes several times slower."""
    for k in range(target.shape[0]):
        target[k] = source[k]


@numba.njit(cache=True, nogil=True)
def _beside(planes, bounds):  # type: ignore[no-untyped-def]
    """Whether all within bounds (2, 3) lies beyond one of the planes; and whether some of it may."""
    outside, crossed = bounds[0, 0] > bounds[1, 0], False  # nothing but NaN
    for n in range(planes.shape[0]):
        least = most = np.float64(planes[n, 3])
        for k in range(3):
            one, other = np.float64(planes[n, k]) * bounds[0, k], np.float64(planes[n, k]) * bounds[1, k]
            least, most = least + min(one, other), most + max(one, other)
        outside |= most < 0.0
        crossed |= not least >= 0.0
    return outside, crossed


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _round(params, X, Y, Z, u, v, us, vs, distance, inside):  # type: ignore[no-untyped-def]
    """u, v and distance as float32, and whether they then lie in the image, as 1 or 0; returns how many do."""
    for k in range(us.shape[0]):
        us[k], vs[k] = u[k], v[k]
    for k in range(distance.shape[0]):
        distance[k] = math.sqrt(np.float32(X[k] * X[k] + Y[k] * Y[k] + Z[k] * Z[k]))
    right, bottom = np.float32(params.width - 0.5), np.float32(params.height - 0.5)
    first = np.float32(-0.5)
    for k in range(us.shape[0]):
        inside[k] = (us[k] >= first) & (us[k] < right) & (vs[k] >= first) & (vs[k] < bottom)
    count = 0
    for k in range(us.shape[0]):
        count += inside[k]
    return count


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _planes(window, T_lens_lidar):  # type: ignore[no-untyped-def]
    """(5, 4) float32: n and d of planes in the LiDAR's frame, n of unit length; whatever the image can show lies where
    n . p + d >= 0 for all of them. A lens without a window gets planes that all points pass."""
    left, right, top, bottom = window
    planes = np.zeros((5, 4), np.float32)
    planes[:, 3] = 1.0
    if math.isnan(left):
        return planes
    normals = (0.0, 0.0, 1.0), (1.0, 0.0, -left), (-1.0, 0.0, right), (0.0, 1.0, -top), (0.0, -1.0, bottom)
    for n in range(5):
        x, y, z = normals[n]
        length = math.sqrt(x * x + y * y + z * z)
        for k in range(4):
            planes[n, k] = (x * T_lens_lidar[0, k] + y * T_lens_lidar[1, k] + z * T_lens_lidar[2, k]) / length
    return planes


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _pass(planes, xs, ys, zs, passing):  # type: ignore[no-untyped-def]
    """Whether a point lies on the inner side of all planes, or so near to one that float32 cannot tell, as 1 or 0;
    returns how many do."""
    rounding = np.float32(_ROUNDING)
    (a0, b0, c0, d0), (a1, b1, c1, d1), (a2, b2, c2, d2) = planes[0], planes[1], planes[2]
    (a3, b3, c3, d3), (a4, b4, c4, d4) = planes[3], planes[4]
    offset = abs(d0) + abs(d1) + abs(d2) + abs(d3) + abs(d4)
    for i in range(xs.shape[0]):
        x, y, z = xs[i], ys[i], zs[i]
        least = -rounding * (abs(x) + abs(y) + abs(z) + offset)
        inside = (a0 * x + b0 * y + c0 * z + d0 >= least) & (a1 * x + b1 * y + c1 * z + d1 >= least)
        inside &= (a2 * x + b2 * y + c2 * z + d2 >= least) & (a3 * x + b3 * y + c3 * z + d3 >= least)
        passing[i] = inside & (a4 * x + b4 * y + c4 * z + d4 >= least)
    count = 0
    for i in range(xs.shape[0]):
        count += passing[i]
    return count


@numba.njit(cache=True, nogil=True)
def _gather(passing, first, xs, ys, zs, index, x, y, z):  # type: ignore[no-untyped-def]
    """Those that pass, from the start of index, x, y and z; the number of a block's first point is `first`."""
    count = 0
    for i in range(passing.shape[0]):  # without a branch: which of few pass is nothing to be guessed
        index[count] = first + i
        x[count], y[count], z[count] = xs[i], ys[i], zs[i]
        count += passing[i]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _carry(T, x, y, z, X, Y, Z):  # type: ignore[no-untyped-def]
    """Columns of points into another frame."""
    xx, xy, xz, xt = T[0, 0], T[0, 1], T[0, 2], T[0, 3]
    yx, yy, yz, yt = T[1, 0], T[1, 1], T[1, 2], T[1, 3]
    zx, zy, zz, zt = T[2, 0], T[2, 1], T[2, 2], T[2, 3]
    for k in range(x.shape[0]):
        X[k] = xx * x[k] + xy * y[k] + xz * z[k] + xt
        Y[k] = yx * x[k] + yy * y[k] + yz * z[k] + yt
        Z[k] = zx * x[k] + zy * y[k] + zz * z[k] + zt


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _project_rolling(params, T_middle, T_first, T_last, by_axis, index, uv, distance):  # type: ignore[no-untyped-def]
    """The same; from the row on which a point falls follows where the camera was, from that the row, three times."""
    found, count = 0, by_axis.shape[1]
    for i in range(count):
        x, y, z = np.float64(by_axis[0, i]), np.float64(by_axis[1, i]), np.float64(by_axis[2, i])
        X, Y, Z = _carried(T_middle, x, y, z)
        u, v = lens.project_point(params, X, Y, Z)
        if math.isnan(v):
            continue
        X0, Y0, Z0 = _carried(T_first, x, y, z)
        X1, Y1, Z1 = _carried(T_last, x, y, z)
        for _ in range(_ROLLING_STEPS):
            share = min(max(v / (params.height - 1.0), -_BEYOND), 1.0 + _BEYOND)
            X, Y, Z = X0 + share * (X1 - X0), Y0 + share * (Y1 - Y0), Z0 + share * (Z1 - Z0)
            u, v = lens.project_point(params, X, Y, Z)
        if lens.in_image(params, float(np.float32(u)), float(np.float32(v))):
            index[found] = i
            uv[found], uv[count + found] = u, v
            distance[found] = math.sqrt(X * X + Y * Y + Z * Z)
            found += 1
    uv[found : 2 * found] = uv[count : count + found]
    return found


@numba.njit(cache=True, nogil=True)
def _select(mask, index, uv, distance, index_kept, uv_kept, distance_kept):  # type: ignore[no-untyped-def]
    count = 0
    for m in range(mask.shape[0]):
        if mask[m]:
            index_kept[count], distance_kept[count] = index[m], distance[m]
            uv_kept[0, count], uv_kept[1, count] = uv[0, m], uv[1, m]
            count += 1
