"""How well a calibration lays the silhouettes of sweeps upon the edges of pictures: the score that everything asks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.calibration.edges import CHANNELS, image_edges
from seg_perception.geometry import lens
from seg_perception.geometry.camera import CameraModel
from seg_perception.geometry.lens import CameraParams
from seg_perception.geometry.transforms import transform_points

_PX_PER_DEG = 14.0  # pictures are shrunk to this, which is finer than LiDARs are
_BLUR_PX = 1.5  # a map is shrunk until its blur is this wide
_LATE_S = 0.005  # a step in time, for slopes
_TILES = 6, 3  # across and down: what lies in one part of a picture is one observation

Maps = NDArray[np.float32]
Moved = Callable[[float], NDArray[np.float64]]


class Picture:
    """The edges of one picture, at any blur. camera: of the picture as it is given."""

    def __init__(self, pixels: NDArray[np.uint8], camera: CameraModel) -> None:
        shrink = max(1.0, math.radians(camera.K[0, 0]) / _PX_PER_DEG)
        size = round(camera.width / shrink), round(camera.height / shrink)
        self.camera = camera.scaled(*size)
        self._px_per_deg = math.radians(self.camera.K[0, 0])
        shrunk = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
        self._edges = image_edges(shrunk, self._px_per_deg)
        self._maps: dict[float, tuple[Maps, CameraParams]] = {}

    def maps(self, blur_deg: float) -> tuple[Maps, CameraParams]:
        """(CHANNELS, H, W), of mean 0 and deviation 1 each, and the camera of that size."""
        if blur_deg not in self._maps:
            blur_px = blur_deg * self._px_per_deg
            shrink = max(1.0, blur_px / _BLUR_PX)
            size = round(self.camera.width / shrink), round(self.camera.height / shrink)
            maps = []
            for edges in self._edges:
                blurred = cv2.resize(cv2.GaussianBlur(edges, (0, 0), blur_px), size, interpolation=cv2.INTER_AREA)
                maps.append((blurred - blurred.mean()) / max(float(blurred.std()), 1e-6))
            self._maps[blur_deg] = np.array(maps, np.float32), self.camera.scaled(*size).params
        return self._maps[blur_deg]


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """One sweep and one picture.

    middle, beyond: (N, 3) as `edges.LidarEdges` has them, deskewed to the sweep's stamp. moved: from the LiDAR as it
    stood at the sweep's stamp to the LiDAR as it stood when the picture was taken, (4, 4), were that so many seconds
    later than its stamp says.
    """

    picture: Picture
    middle: NDArray[np.float64]
    beyond: NDArray[np.float64]
    moved: Moved


class Alignment:
    """Silhouettes in and around the view that one calibration gives, to be scored under others near it."""

    def __init__(self, pairs: Sequence[Pair], T_cam_lidar: NDArray[np.float64], margin_deg: float, most: int) -> None:
        """T_cam_lidar: as the sensors are mounted, without motion. most: silhouettes a pair; of more, every n-th."""
        self.T_cam_lidar = T_cam_lidar
        self.tiles = _TILES[0] * _TILES[1]
        self._pairs = [(pair, *_in_view(pair, T_cam_lidar, margin_deg, most)) for pair in pairs]
        self.count = sum(len(points) for _, points, _, _ in self._pairs)
        self.units = len(pairs) * self.tiles

    def sums(self, T_cam_lidar: NDArray[np.float64], late_s: float, blur_deg: float) -> NDArray[np.float64]:
        """(units,) sums over the silhouettes of each part of each picture: larger the better they lie on edges."""
        return self.slopes(T_cam_lidar, late_s, blur_deg, False)[:, 0]

    def slopes(
        self, T_cam_lidar: NDArray[np.float64], late_s: float, blur_deg: float, wanted: bool = True
    ) -> NDArray[np.float64]:
        """(units, 8): the sums, and how they change, a radian about each axis of the camera, a metre along each, and a
        second later; only the sums where slopes are not `wanted`."""
        found = np.zeros((len(self._pairs), self.tiles, 8))
        for rows, (pair, points, channel, tile) in zip(found, self._pairs, strict=True):
            maps, params = pair.picture.maps(blur_deg)
            T = T_cam_lidar @ pair.moved(late_s)
            later = T_cam_lidar @ (pair.moved(late_s + _LATE_S) - pair.moved(late_s - _LATE_S)) / (2.0 * _LATE_S)
            _add(params, T, later, T_cam_lidar[:3, 3], points, channel, tile, maps, wanted, rows)
        return found.reshape(self.units, 8)


def _in_view(
    pair: Pair, T_cam_lidar: NDArray[np.float64], margin_deg: float, most: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Silhouettes in view or up to a margin beside it; for each, which map it is compared with, and its tile."""
    camera, T = pair.picture.camera, T_cam_lidar @ pair.moved(0.0)
    uv = camera.project(transform_points(T, pair.middle))[0]
    across = camera.project(transform_points(T, pair.beyond))[0] - uv
    margin = margin_deg * math.radians(camera.K[0, 0])
    size = np.array([camera.width, camera.height])
    kept = np.flatnonzero(np.all((uv > -margin) & (uv < size + margin), axis=1) & np.isfinite(across).all(axis=1))
    kept = kept[:: max(1, -(-len(kept) // most))]
    angle = np.arctan2(across[kept, 1], across[kept, 0])
    channel = np.round(angle * CHANNELS / math.pi).astype(np.int64) % CHANNELS
    column, row = np.clip(uv[kept] / size * _TILES, 0, np.array(_TILES) - 1).astype(np.int64).T
    return pair.middle[kept], channel, row * _TILES[0] + column


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _add(params, T, later, centre, points, channel, tile, maps, wanted, sums):  # type: ignore[no-untyped-def]
    """Add to each tile what the maps hold where its points are seen, in between pixels; nothing out of the picture.

    later: by how much T changes a second. centre: about which the turns are.
    """
    height, width = maps.shape[1], maps.shape[2]
    for i in range(points.shape[0]):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        X = T[0, 0] * x + T[0, 1] * y + T[0, 2] * z + T[0, 3]
        Y = T[1, 0] * x + T[1, 1] * y + T[1, 2] * z + T[1, 3]
        Z = T[2, 0] * x + T[2, 1] * y + T[2, 2] * z + T[2, 3]
        u, v = lens.project_point(params, X, Y, Z)
        if not (u >= 0.0 and u < width - 1.0 and v >= 0.0 and v < height - 1.0):
            continue
        col, row = int(u), int(v)
        a, b = u - col, v - row
        there = maps[channel[i]]
        one, two = there[row, col], there[row, col + 1]
        three, four = there[row + 1, col], there[row + 1, col + 1]
        above, below = one + a * (two - one), three + a * (four - three)
        sums[tile[i], 0] += above + b * (below - above)
        if not wanted:
            continue
        du, dv = (1.0 - b) * (two - one) + b * (four - three), below - above
        step = 1e-4 * math.sqrt(X * X + Y * Y + Z * Z)
        u1, v1 = lens.project_point(params, X + step, Y, Z)
        u2, v2 = lens.project_point(params, X, Y + step, Z)
        u3, v3 = lens.project_point(params, X, Y, Z + step)
        gx, gy = (du * (u1 - u) + dv * (v1 - v)) / step, (du * (u2 - u) + dv * (v2 - v)) / step
        gz = (du * (u3 - u) + dv * (v3 - v)) / step
        if math.isnan(gx + gy + gz):
            continue
        X, Y, Z = X - centre[0], Y - centre[1], Z - centre[2]
        slopes = sums[tile[i]]
        slopes[1] += gz * Y - gy * Z
        slopes[2] += gx * Z - gz * X
        slopes[3] += gy * X - gx * Y
        slopes[4] += gx
        slopes[5] += gy
        slopes[6] += gz
        slopes[7] += gx * (later[0, 0] * x + later[0, 1] * y + later[0, 2] * z + later[0, 3])
        slopes[7] += gy * (later[1, 0] * x + later[1, 1] * y + later[1, 2] * z + later[1, 3])
        slopes[7] += gz * (later[2, 0] * x + later[2, 1] * y + later[2, 2] * z + later[2, 3])
