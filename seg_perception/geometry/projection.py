"""From points to the pixels that see them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seg_perception.geometry.camera import CameraModel
from seg_perception.geometry.transforms import transform_points


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """The points that fall into an image.

    index: (M,) int64 into the points given. uv: (M, 2) float64 pixels. distance: (M,) float64 metres from the camera's
    optical frame: along the ray, so that it means the same behind 90 degrees off axis, where z is negative.
    """

    index: NDArray[np.int64]
    uv: NDArray[np.float64]
    distance: NDArray[np.float64]

    def select(self, mask: NDArray[np.bool_]) -> Projection:
        """Only the points where `mask` (M,) is True."""
        return Projection(self.index[mask], self.uv[mask], self.distance[mask])


def project(points: NDArray[np.float32], T_cam_lidar: NDArray[np.float64], camera: CameraModel) -> Projection:
    """Project points (N, 3), metres in the LiDAR's frame, through the camera's lens into the pixels of its image.

    Points that are not finite, beyond the lens's valid angle or outside the image are left out.
    """
    points_cam = transform_points(T_cam_lidar, points)
    uv, _ = camera.project(points_cam)
    index = np.flatnonzero(camera.in_view(uv))
    return Projection(index, uv[index], np.linalg.norm(points_cam[index], axis=1))
