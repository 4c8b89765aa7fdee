"""What a camera could not see gets no label from it.

The LiDAR and the camera stand apart, so the LiDAR measures points that something hides from the camera. LiDAR points
are sparser than pixels: between two neighbouring returns of a near car the wall behind it shines through, unless each
return stands for the patch around it. So distances are compared on a grid whose cells are as wide as the LiDAR's
spacing, and each cell answers for its neighbours beside and below it too.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.config import VisibilityConfig
from seg_perception.geometry.camera import CameraModel
from seg_perception.geometry.projection import Projection


def visible(projection: Projection, camera: CameraModel, config: VisibilityConfig) -> NDArray[np.bool_]:
    """Which of the M points in view the camera sees: (M,) bool.

    A point counts as visible unless the nearest surface around it is nearer by more than
    depth_tolerance_m + depth_tolerance_ratio * the distance of that surface.
    """
    if config.method == "none":
        return np.ones(len(projection.index), bool)
    cell_px = max(1.0, float(camera.K[0, 0]) * math.radians(config.spacing_deg))
    shape = (math.ceil(camera.height / cell_px), math.ceil(camera.width / cell_px))
    return _zbuffer(
        projection.uv,
        projection.distance,
        shape,
        cell_px,
        config.depth_tolerance_m,
        1.0 + config.depth_tolerance_ratio,
    )


@numba.njit(cache=True, nogil=True)
def _zbuffer(uv, distance, shape, cell_px, tolerance_m, ratio):  # type: ignore[no-untyped-def]
    """Nearest distance in each cell and its neighbours, then one comparison a point."""
    count = uv.shape[0]
    # A border of one cell spares the neighbours every bounds check.
    nearest = np.full((shape[0] + 2, shape[1] + 2), np.inf)
    cells = np.empty((count, 2), np.int32)
    for i in range(count):
        row, col = int((uv[i, 1] + 0.5) / cell_px) + 1, int((uv[i, 0] + 0.5) / cell_px) + 1
        cells[i, 0], cells[i, 1] = row, col
        nearest[row, col] = min(nearest[row, col], distance[i])
    # The minimum over the cell, those beside it and those above: the row below holds the road nearer to the camera,
    # which would hide the road behind it.
    around = np.empty_like(nearest)
    for row in range(1, shape[0] + 1):
        for col in range(1, shape[1] + 1):
            here = min(nearest[row, col - 1], nearest[row, col], nearest[row, col + 1])
            above = min(nearest[row - 1, col - 1], nearest[row - 1, col], nearest[row - 1, col + 1])
            around[row, col] = min(here, above)
    seen = np.empty(count, np.bool_)
    for i in range(count):
        seen[i] = distance[i] <= around[cells[i, 0], cells[i, 1]] * ratio + tolerance_m
    return seen
