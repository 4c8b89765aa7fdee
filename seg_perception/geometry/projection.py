"""From points to the pixels that see them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.geometry import lens
from seg_perception.geometry.camera import CameraModel

_ROLLING_STEPS = 3
_BEYOND = 0.25  # of the image's height: points may enter from that far above or below


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """The points that fall into an image.

    index: (M,) int64 into the points given. uv: (M, 2) float64 pixels. distance: (M,) float64 metres from the
    optical centre: along the ray, so that it means the same behind 90 degrees off axis, where z is negative.
    points: (N, 3) float32, the points given, none copied; empty where nobody will ask for them.
    """

    index: NDArray[np.int64]
    uv: NDArray[np.float64]
    distance: NDArray[np.float64]
    points: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 3), np.float32))

    @property
    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """index, uv and distance, as compiled code takes them."""
        return self.index, self.uv, self.distance

    def select(self, mask: NDArray[np.bool_]) -> Projection:
        """Only the points where `mask` (M,) is True."""
        return Projection(self.index[mask], self.uv[mask], self.distance[mask], self.points)


def project(
    points: NDArray[np.float32],
    T_cam_lidar: NDArray[np.float64],
    camera: CameraModel,
    T_rows: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> Projection:
    """Project points (N, 3), metres in the LiDAR's frame, through the camera's lens into the pixels of its image.

    T_rows: for a rolling shutter, T_cam_lidar at its first and its last row; each point is projected at the instant of
    the row on which it falls, the camera moving evenly in between. Points that are not finite, beyond the lens's valid
    angle or outside the image are left out. One pass, one core.
    """
    count = len(points)
    index, uv, distance = np.empty(count, np.int64), np.empty((count, 2)), np.empty(count)
    T = camera.T_lens_cam @ T_cam_lidar
    if T_rows is None:
        found = _project(camera.params, T, points, index, uv, distance)
    else:
        first, last = (camera.T_lens_cam @ T_row for T_row in T_rows)
        found = _project_rolling(camera.params, T, first, last, points, index, uv, distance)
    return Projection(index[:found], uv[:found], distance[:found], points)


@numba.njit(cache=True, nogil=True, inline="always")
def _carried(T, x, y, z):  # type: ignore[no-untyped-def]
    return (
        T[0, 0] * x + T[0, 1] * y + T[0, 2] * z + T[0, 3],
        T[1, 0] * x + T[1, 1] * y + T[1, 2] * z + T[1, 3],
        T[2, 0] * x + T[2, 1] * y + T[2, 2] * z + T[2, 3],
    )


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _project(params, T_lens_lidar, points, index, uv, distance):  # type: ignore[no-untyped-def]
    """Fill the outputs from their start; return how many points lie in the image."""
    found = 0
    for i in range(points.shape[0]):
        x, y, z = np.float64(points[i, 0]), np.float64(points[i, 1]), np.float64(points[i, 2])
        X, Y, Z = _carried(T_lens_lidar, x, y, z)
        u, v = lens.project_point(params, X, Y, Z)
        if lens.in_image(params, u, v):
            index[found] = i
            uv[found, 0], uv[found, 1] = u, v
            distance[found] = math.sqrt(X * X + Y * Y + Z * Z)
            found += 1
    return found


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _project_rolling(params, T_middle, T_first, T_last, points, index, uv, distance):  # type: ignore[no-untyped-def]
    """The same; from the row on which a point falls follows where the camera was, from that the row, three times."""
    found = 0
    for i in range(points.shape[0]):
        x, y, z = np.float64(points[i, 0]), np.float64(points[i, 1]), np.float64(points[i, 2])
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
        if lens.in_image(params, u, v):
            index[found] = i
            uv[found, 0], uv[found, 1] = u, v
            distance[found] = math.sqrt(X * X + Y * Y + Z * Z)
            found += 1
    return found
