"""What a camera could not see gets no label from it.

The LiDAR and the camera stand apart, so the LiDAR measures points that something hides from the camera. LiDAR points
are sparser than pixels: between two neighbouring returns of a near car the wall behind it shines through, unless each
return stands for the patch around it. So each point covers the patch that the LiDAR's spacing leaves to it, as large as
the camera sees it, and hides what lies behind by more than its own surface recedes over such a patch. A road does not
hide itself, however sparse and slanted; a pole and a leaf, which are no slanted surfaces, hide what is a little behind.

Where labels are known, more is known: `occlusion` says how likely each point is hidden.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.config import VisibilityConfig
from seg_perception.geometry.camera import CameraModel
from seg_perception.geometry.occlusion import chance_hidden, doubts
from seg_perception.geometry.projection import Projection
from seg_perception.geometry.range_image import RangeImage
from seg_perception.geometry.workspace import Workspace

_USUAL_DEG = 0.2, 0.49  # between columns and between beams, of 64 beams: where neither set nor measured
_CELL_PX = 4.0  # of the depth buffer at 1920 columns or more; proportionally less below, at least a pixel
_LARGEST = 3.0  # a patch looks at most this much larger to the camera than to the LiDAR
_FURTHEST = 2e5  # metres
_FREE, _OWNER = np.int64(2**63 - 1), np.int64(2**32 - 1)  # in the buffer: no patch; the bits of whose patch it is


def visible(projection: Projection, camera: CameraModel, config: VisibilityConfig) -> NDArray[np.bool_]:
    """Which of the M points in view the camera sees: (M,) bool."""
    return hiding(projection, range_image(projection.points, config), camera, config) < 0


def range_image(
    points: NDArray[np.float32], config: VisibilityConfig, workspace: Workspace | None = None
) -> RangeImage:
    """All points (N, 3) of a sweep by their direction from the LiDAR, in whose frame they are."""
    return RangeImage(points, *_spacing(config), workspace)


def hiding(
    projection: Projection,
    sweep: RangeImage,
    camera: CameraModel,
    config: VisibilityConfig,
    workspace: Workspace | None = None,
    classes: tuple[NDArray[np.uint8], NDArray[np.bool_]] | None = None,
) -> NDArray[np.int32]:
    """(M,) int32: which of the M points in view hides each of them from the camera, -1 where none does.

    sweep: the points projected, by direction. workspace: whose arrays to use; the answer is one of them. classes: what
    the picture has for the points, (M,), and which classes stand free, (256,). Method `learned` needs them; it says
    how likely a point is hidden, see `occlusion`, and names the nearer point closest to it in the picture. Without
    them, and by method `patches`, a point is hidden where the patch of a nearer one covers it and it lies behind that
    one by more than depth_tolerance_m plus what the nearer one's surface recedes from one LiDAR point to the next.
    """
    workspace = workspace or Workspace()
    hider = workspace.array("hider", len(projection.index), np.int32)
    hider.fill(-1)
    if config.method == "learned" and classes is not None:
        doubted = doubts(projection, sweep, camera, _spacing(config), *classes, workspace)
        hidden = chance_hidden(doubted.features) > config.most_doubt
        hider[doubted.which[hidden]] = doubted.nearest[hidden]
    elif config.method != "none":
        _patched(projection, sweep, camera, config, workspace, classes, hider)
    return hider


def _patched(
    projection: Projection,
    sweep: RangeImage,
    camera: CameraModel,
    config: VisibilityConfig,
    workspace: Workspace,
    classes: tuple[NDArray[np.uint8], NDArray[np.bool_]] | None,
    hider: NDArray[np.int32],
) -> None:
    """Fill hider by patches; those of what stands free are freestanding_cover as large."""
    cell_px = max(1.0, _CELL_PX * camera.width / 1920.0)
    shape = math.ceil(camera.height / cell_px), math.ceil(camera.width / cell_px)
    buffer = workspace.array("patches", shape, np.int64)
    column, beam = (math.radians(angle) / cell_px for angle in _spacing(config))
    half = config.cover * column * float(camera.K[0, 0]), config.beam_cover * beam * float(camera.K[1, 1])
    growth = np.broadcast_to(np.float32(1.0), len(hider))
    if classes is not None:
        class_id, free = classes
        growth = np.where(free, config.freestanding_cover, 1.0).astype(np.float32)[class_id]
    by_direction = (sweep.cell, sweep.range, sweep.across.ravel(), sweep.along.ravel())
    _cover(*projection.arrays, *by_direction, growth, cell_px, half, config.depth_tolerance_m, buffer)
    _look_up(projection.uv, projection.distance, cell_px, buffer, hider)


def _spacing(config: VisibilityConfig) -> tuple[float, float]:
    """Degrees between columns and between beams."""
    return config.spacing_deg or _USUAL_DEG[0], config.beam_spacing_deg or _USUAL_DEG[1]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _cover(index, uv, distance, cell, ranges, across, along, growth, cell_px, half, tolerance_m, buffer):  # type: ignore[no-untyped-def]
    """Each point's patch into the buffer: the least distance beyond which it hides, and whose patch that is."""
    height, width = buffer.shape
    buffer[:] = _FREE
    per_px = 1.0 / cell_px
    for m in range(index.shape[0]):
        i = index[m]
        scale = min(ranges[i] / distance[m], _LARGEST) * growth[m]
        u, v = (uv[m, 0] + 0.5) * per_px + 0.5, (uv[m, 1] + 0.5) * per_px + 0.5
        left, right = int(max(u - half[0] * scale, 0.0)), min(int(u + half[0] * scale), width)
        top, bottom = int(max(v - half[1] * scale, 0.0)), min(int(v + half[1] * scale), height)
        beyond = _packed(distance[m] + tolerance_m + across[cell[i]] + along[cell[i]], m)
        for y in range(top, bottom):
            for x in range(left, right):
                buffer[y, x] = min(buffer[y, x], beyond)


@numba.njit(cache=True, nogil=True)
def _look_up(uv, distance, cell_px, buffer, hider):  # type: ignore[no-untyped-def]
    height, width = buffer.shape
    per_px = 1.0 / cell_px
    for m in range(uv.shape[0]):
        y = min(int((uv[m, 1] + 0.5) * per_px), height - 1)
        x = min(int((uv[m, 0] + 0.5) * per_px), width - 1)
        nearest = buffer[y, x]
        hider[m] = nearest & _OWNER if _packed(distance[m], 0) > nearest else -1


@numba.njit(cache=True, nogil=True, inline="always")
def _packed(distance_m, m):  # type: ignore[no-untyped-def]
    """A distance in tenths of a millimetre above the number of a point: nearer is less, and of equals the first. What
    seems further away than 200 km, as no surface is, counts as that far: beyond, the bits do not suffice."""
    return np.int64(min(distance_m, _FURTHEST) * 1e4) << 32 | m
