"""What a camera could not see gets no label from it.

The LiDAR and the camera stand apart, so the LiDAR measures points that something hides from the camera. LiDAR points
are sparser than pixels: between two neighbouring returns of a near car the wall behind it shines through, unless each
return stands for the patch around it. So each point covers the patch that the LiDAR's spacing leaves to it, as large as
the camera sees it, and hides what lies behind by more than its own surface recedes over such a patch. A road does not
hide itself, however sparse and slanted; a pole and a leaf, which are no slanted surfaces, hide what is a little behind.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.config import VisibilityConfig
from seg_perception.geometry.camera import CameraModel
from seg_perception.geometry.projection import Projection
from seg_perception.geometry.range_image import RangeImage, recession

_USUAL_DEG = 0.2, 0.49  # between columns and between beams, of 64 beams: where neither set nor measured
_CELL_PX = 4.0  # of the depth buffer at 1920 columns or more; proportionally less below, at least a pixel
_LARGEST = 3.0  # a patch looks at most this much larger to the camera than to the LiDAR


def visible(projection: Projection, camera: CameraModel, config: VisibilityConfig) -> NDArray[np.bool_]:
    """Which of the M points in view the camera sees: (M,) bool."""
    return hiding(projection, range_image(projection, config), camera, config) < 0


def range_image(projection: Projection, config: VisibilityConfig) -> RangeImage:
    """The points in view by their direction from the LiDAR, in whose frame they were given."""
    return RangeImage(projection.points, projection.index, *_spacing(config))


def hiding(
    projection: Projection, sweep: RangeImage, camera: CameraModel, config: VisibilityConfig
) -> NDArray[np.int32]:
    """(M,) int32: which of the M points in view hides each of them from the camera, -1 where none does.

    sweep: the same points by direction. A point is hidden where the patch of a nearer one covers it and it lies behind
    that one by more than depth_tolerance_m plus what the nearer one's surface recedes from one LiDAR point to the next.
    """
    count = len(projection.index)
    if config.method == "none" or count == 0:
        return np.full(count, -1, np.int32)
    cell_px = max(1.0, _CELL_PX * camera.width / 1920.0)
    nearest = np.full((math.ceil(camera.height / cell_px), math.ceil(camera.width / cell_px)), np.inf, np.float32)
    owner = np.empty(nearest.shape, np.int32)
    column, beam = (math.radians(angle) / cell_px for angle in _spacing(config))
    half = config.cover * column * float(camera.K[0, 0]), config.beam_cover * beam * float(camera.K[1, 1])
    hider = np.empty(count, np.int32)
    uv, distance, tolerance_m = projection.uv, projection.distance, config.depth_tolerance_m
    by_direction = (sweep.nearest.ravel(), sweep.rows, sweep.cell, sweep.range)
    _cover(uv, distance, *by_direction, cell_px, half, tolerance_m, nearest, owner)
    _look_up(uv, distance, cell_px, nearest, owner, hider)
    return hider


def _spacing(config: VisibilityConfig) -> tuple[float, float]:
    """Degrees between columns and between beams."""
    return config.spacing_deg or _USUAL_DEG[0], config.beam_spacing_deg or _USUAL_DEG[1]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _cover(uv, distance, ranges_at, rows, cell, ranges, cell_px, half, tolerance_m, nearest, owner):  # type: ignore[no-untyped-def]
    """Each point's patch into the buffer: the least distance beyond which it hides, and whose patch that is."""
    height, width = nearest.shape
    per_px = 1.0 / cell_px
    for m in range(uv.shape[0]):
        scale = min(ranges[m] / distance[m], _LARGEST)
        u, v = (uv[m, 0] + 0.5) * per_px + 0.5, (uv[m, 1] + 0.5) * per_px + 0.5
        left, right = int(max(u - half[0] * scale, 0.0)), min(int(u + half[0] * scale), width)
        top, bottom = int(max(v - half[1] * scale, 0.0)), min(int(v + half[1] * scale), height)
        across, along = recession(ranges_at, rows, cell[m], ranges[m])
        beyond = np.float32(distance[m] + tolerance_m + across + along)
        for y in range(top, bottom):
            for x in range(left, right):
                if beyond < nearest[y, x]:
                    nearest[y, x] = beyond
                    owner[y, x] = m


@numba.njit(cache=True, nogil=True)
def _look_up(uv, distance, cell_px, nearest, owner, hider):  # type: ignore[no-untyped-def]
    height, width = nearest.shape
    for m in range(uv.shape[0]):
        y = min(int((uv[m, 1] + 0.5) / cell_px), height - 1)
        x = min(int((uv[m, 0] + 0.5) / cell_px), width - 1)
        hider[m] = owner[y, x] if distance[m] > nearest[y, x] else -1
