"""What a camera could not see gets no label from it.

The LiDAR and the camera stand apart, so the LiDAR measures points that something hides from the camera. LiDAR points
are sparser than pixels: between two neighbouring returns of a near car the wall behind it shines through, unless each
return stands for the patch around it. So each point covers the patch that the LiDAR's spacing leaves to it, as large as
the camera sees it, and hides what lies behind by more than its own surface recedes over such a patch. A road does not
hide itself, however sparse and slanted; a pole and a leaf, which are no slanted surfaces, hide what is a little behind.

Near the outlines of things more tells than a patch: there `fusion.doubts` may have the last word.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.borrowing import borrowed
from seg_perception.config import VisibilityConfig
from seg_perception.geometry.camera import CameraModel
from seg_perception.geometry.projection import Projection
from seg_perception.geometry.range_image import RangeImage
from seg_perception.geometry.workspace import Workspace

_USUAL_DEG = 0.2, 0.49  # between columns and between beams, of 64 beams: where neither set nor measured
_CELL_PX = 4.0  # of the depth buffer at 1920 columns or more; proportionally less below, at least a pixel
_LARGEST = np.float32(3.0)  # a patch looks at most this much larger to the camera than to the LiDAR
_BLOCK = 1024  # points whose columns stay in the nearest cache
_ZERO, _HALF, _ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
_NOTHING = np.int16(-1)
_FREE, DISTANCE, CLASS = np.int32(2**31 - 1), np.int32(-256), np.int32(255)
"""In the buffer: no patch; and the bits of a distance and of a class. Of a distance as float32 the upper 24 bits, good
to a 65,000th, order like itself. Of two patches as near as each other the lower class counts, in whichever order."""

_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")


def visible(projection: Projection, camera: CameraModel, config: VisibilityConfig) -> NDArray[np.bool_]:
    """Which of the M points in view the camera sees: (M,) bool."""
    return hiding(projection, range_image(projection.points, config), camera, config) < 0


def range_image(
    points: NDArray[np.float32], config: VisibilityConfig, workspace: Workspace | None = None
) -> RangeImage:
    """All points (N, 3) of a sweep by their direction from the LiDAR, in whose frame they are."""
    return RangeImage(points, *spacing_deg(config), workspace)


def hiding(
    projection: Projection,
    sweep: RangeImage,
    camera: CameraModel,
    config: VisibilityConfig,
    workspace: Workspace | None = None,
    classes: tuple[NDArray[np.uint8], NDArray[np.bool_]] | None = None,
) -> NDArray[np.int16]:
    """(M,) int16: the class of what hides each of the M points in view from the camera, -1 where nothing does.

    sweep: the points projected, by direction. workspace: whose arrays to use; the answer is one of them. classes: what
    the picture has for the points, (M,), and which classes stand free, (256,); without them all are of class 0. A point
    is hidden where the patch of a nearer one covers it and it lies behind that one by more than depth_tolerance_m plus
    what the nearer one's surface recedes from one LiDAR point to the next.
    """
    workspace = workspace or Workspace()
    hider = workspace.array("hider", len(projection.index), np.int16)
    if config.method == "none":
        hider.fill(_NOTHING)
    else:
        _patched(projection, sweep, camera, config, workspace, classes, hider)
    return hider


def _patched(
    projection: Projection,
    sweep: RangeImage,
    camera: CameraModel,
    config: VisibilityConfig,
    workspace: Workspace,
    classes: tuple[NDArray[np.uint8], NDArray[np.bool_]] | None,
    hider: NDArray[np.int16],
) -> None:
    """Fill hider by patches; those of what stands free are freestanding_cover as large."""
    buffer, own, (wide, tall) = patches(len(hider), camera, config, workspace)
    across_px, along_px = spacing_px(camera, config)
    class_id, free = classes or (np.zeros(len(hider), np.uint8), np.zeros(256, np.bool_))
    half = config.cover * across_px / wide, config.beam_cover * along_px / tall
    sizes = (1.0 / wide, 1.0 / tall), half, config.freestanding_cover, config.depth_tolerance_m
    by_direction, shape = (sweep.cell, sweep.range, sweep.across, sweep.along), (buffer.shape[0] - 1, buffer.shape[1])
    _hide(*projection.arrays, by_direction, class_id, free, sizes, shape, buffer.ravel(), own, hider)


class Patches(NamedTuple):
    """What `hiding` by patches leaves. buffer: (rows + 1, columns) int32, of each cell of the picture the distance
    beyond which something hides, in the bits DISTANCE of a float32, and its class in CLASS; two rows stand for one of
    the picture. own: (M,) int32, of each point the flat place of the upper one. cell_px: width and height of a cell."""

    buffer: NDArray[np.int32]
    own: NDArray[np.int32]
    cell_px: tuple[float, float]


def patches(count: int, camera: CameraModel, config: VisibilityConfig, workspace: Workspace) -> Patches:
    """As the last `hiding` of `count` points by that camera left them in its workspace."""
    shape, cell_px = patch_cells(camera, config)
    buffer, own = workspace.array("patches", shape, np.int32), workspace.array("own_patch", count, np.int32)
    return Patches(buffer, own, cell_px)


@lru_cache(maxsize=64)
def patch_cells(camera: CameraModel, config: VisibilityConfig) -> tuple[tuple[int, int], tuple[float, float]]:
    """(rows + 1, columns) of the patches of a picture, and width and height of a cell, pixels."""
    wide = max(1.0, _CELL_PX * camera.width / 1920.0)
    # Two to a patch at least: see `_paste`.
    tall = max(1.0, min(wide, config.beam_cover * spacing_px(camera, config)[1]))
    return (math.ceil(camera.height / tall) + 1, math.ceil(camera.width / wide)), (wide, tall)


@lru_cache(maxsize=64)
def spacing_px(camera: CameraModel, config: VisibilityConfig) -> tuple[float, float]:
    """Pixels between columns and between beams, seen from where the LiDAR stands."""
    across, along = (math.radians(angle) for angle in spacing_deg(config))
    return float(camera.K[0, 0]) * across, float(camera.K[1, 1]) * along


def spacing_deg(config: VisibilityConfig) -> tuple[float, float]:
    """Degrees between columns and between beams."""
    return config.spacing_deg or _USUAL_DEG[0], config.beam_spacing_deg or _USUAL_DEG[1]


@_compiled
def _hide(index, uv, distance, by_direction, class_id, free, sizes, shape, buffer, own, hider):  # type: ignore[no-untyped-def]
    room = np.empty((2, _BLOCK), np.float32), np.empty((6, _BLOCK), np.int32)
    _cover((index, uv, distance), by_direction, class_id, free, sizes, shape, buffer, own, room)
    _look_up(distance, own, shape[1], buffer, hider)


@_compiled
def _cover(in_view, by_direction, class_id, free, sizes, shape, buffer, own, room):  # type: ignore[no-untyped-def]
    """Each point's patch into the buffer: the least distance beyond which it hides, and of which class it is; and into
    own, the cell above that in which each point lies: there is a row of cells above the image. A block of points at a
    time, in columns, so that the compiler takes several points at once."""
    (index, uv, distance), by_direction, (values, places) = borrowed((in_view, by_direction, room))
    class_id, buffer, own = borrowed((class_id, buffer, own))
    per_px, half, larger, tolerance_m = sizes[0], sizes[1], np.float32(sizes[2]), np.float32(sizes[3])
    stride, growth = np.int32(shape[1]), np.ones(256, np.float32)
    growth[free] = larger
    buffer[:] = _FREE
    for first in range(0, index.shape[0], _BLOCK):
        last = min(first + _BLOCK, index.shape[0])
        count, said = last - first, class_id[first:last]
        away, scale, beyond = distance[first:last], values[0, :count], values[1, :count]
        left, wide, column = places[0, :count], places[1, :count], own[first:last]
        top, tall, row, key = places[2, :count], places[3, :count], places[4, :count], places[5, :count]
        _gather(index[first:last], by_direction, scale, beyond)
        _enlarge(away, said, growth, scale)
        _extend(uv[0, first:last], per_px[0], scale, half[0], shape[1], left, wide, column)
        _extend(uv[1, first:last], per_px[1], scale, half[1], shape[0], top, tall, row)
        _add(left, top, stride)
        _add(column, row, stride)
        for m in range(count):
            beyond[m] += away[m] + tolerance_m
        for m in range(count):
            key[m] = beyond.view(np.int32)[m] & DISTANCE | np.int32(said[m])
        _paste(left, wide, tall, key, stride, buffer[stride:])


@_compiled
def _gather(index, by_direction, ranges_of, receding):  # type: ignore[no-untyped-def]
    """How far from the LiDAR points are, and how their surface recedes."""
    cell, ranges, across, along = by_direction[0], by_direction[1], by_direction[2].ravel(), by_direction[3].ravel()
    for m in range(index.shape[0]):
        i = np.uint32(index[m])  # unsigned: from the end of an array nobody counts
        at = np.uint32(cell[i])
        ranges_of[m], receding[m] = ranges[i], across[at] + along[at]


@_compiled
def _enlarge(away, class_id, growth, scale):  # type: ignore[no-untyped-def]
    """From the range to how much larger a patch is to the camera than to the LiDAR."""
    for m in range(scale.shape[0]):
        ratio = scale[m] / away[m]
        scale[m] = ratio if ratio < _LARGEST else _LARGEST
    for m in range(scale.shape[0]):
        scale[m] *= growth[class_id[m]]


@_compiled
def _extend(pixels, per_px, scale, half, cells, first, many, own):  # type: ignore[no-untyped-def]
    """Along one side of the buffer: the first of the cells whose centre a patch covers, how many, and a point's own."""
    to_cells, reach, end = np.float32(per_px), np.float32(half), np.float32(cells)
    for m in range(pixels.shape[0]):
        centre = (pixels[m] + _HALF) * to_cells
        low, high = centre - reach * scale[m] + _HALF, centre + reach * scale[m] + _HALF
        first[m] = np.int32(low if low > _ZERO else _ZERO)
        many[m] = np.int32(high if high < end else end) - first[m]
        own[m] = np.int32(centre if centre < end - _ONE else end - _ONE)


@_compiled
def _add(columns, rows, stride):  # type: ignore[no-untyped-def]
    for m in range(columns.shape[0]):
        columns[m] += rows[m] * stride


@_compiled
def _paste(corner, wide, tall, keys, stride, buffer):  # type: ignore[no-untyped-def]
    """Patches into the buffer, where each cell stands for the one below it too: so the last row of a patch is left out,
    and of four rows the second. Most patches take two columns and four rows at most; these write four cells each, some
    of them twice: how large the next one is cannot be guessed. wide and tall are scratch afterwards."""
    large = 0
    for m in range(corner.shape[0]):
        large += not _is_small(wide[m], tall[m])
    if large > 0:
        _paste_any(corner, wide, tall, keys, stride, buffer)
        return
    for m in range(corner.shape[0]):  # many at a time; from here on the ways to the last column and the last row
        wide[m] -= np.int32(1)
        tall[m] = max(tall[m] - np.int32(2), np.int32(0)) * stride
    for m in range(corner.shape[0]):
        _paste_small(np.uint32(corner[m]), np.uint32(wide[m]), np.uint32(tall[m]), keys[m], buffer)


@_compiled
def _paste_any(corner, wide, tall, keys, stride, buffer):  # type: ignore[no-untyped-def]
    for m in range(corner.shape[0]):
        at, columns, rows, key = np.uint32(corner[m]), wide[m], tall[m], keys[m]
        if _is_small(columns, rows):
            _paste_small(at, np.uint32(columns - 1), np.uint32(max(rows - 2, 0) * stride), key, buffer)
            continue
        for y in range(max(rows - 1, min(rows, 1))):
            for x in range(columns):
                beside = at + np.uint32(y * stride + x)
                buffer[beside] = min(buffer[beside], key)


@_compiled
def _is_small(columns, rows):  # type: ignore[no-untyped-def]
    return (columns > 0) & (columns <= 2) & (rows > 0) & (rows <= 4)


@_compiled
def _paste_small(at, to_right, down, key, buffer):  # type: ignore[no-untyped-def]
    right, below, last = at + to_right, at + down, at + to_right + down
    one, two, three, four = buffer[at], buffer[right], buffer[below], buffer[last]
    buffer[at], buffer[right] = min(one, key), min(two, key)
    buffer[below], buffer[last] = min(three, key), min(four, key)


@_compiled
def _look_up(distance, own, stride, buffer, hider):  # type: ignore[no-untyped-def]
    """own: of each point, the cell above its own, which stands for that one too."""
    up = np.uint32(stride)
    for m in range(distance.shape[0]):
        here = np.uint32(own[m])
        nearest = min(buffer[here], buffer[here + up])
        behind = np.float32(distance[m]).view(np.int32) & DISTANCE > nearest
        hider[m] = np.int16(nearest & CLASS) if behind else _NOTHING
