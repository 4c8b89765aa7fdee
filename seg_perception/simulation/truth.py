"""Which camera truly sees which point, and a check that points and pictures tell the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seg_perception.geometry.transforms import inverse
from seg_perception.simulation.camera import Camera, Frame
from seg_perception.simulation.lidar import Sweep
from seg_perception.simulation.raycast import World

TOLERANCE = 0.05
"""m: a ray that is stopped nearer to the point than this has met the point's own surface."""


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """What one camera has of a sweep's N points at its own instant. uv: (N, 2), NaN where the lens has no ray to it.

    in_view, visible: (N,); visible is in view, and nothing stands between.
    """

    uv: NDArray[np.float64]
    in_view: NDArray[np.bool_]
    visible: NDArray[np.bool_]


def sight(world: World, sweep: Sweep, camera: Camera, time: float) -> Sight:
    """Cast a ray from the camera, at the exposure stamped `time`, to where each exact point is at that instant.

    A rolling shutter sees each point at the time of the row that it falls into.
    """
    times = np.full(len(sweep), time)
    for _ in range(1 if camera.mount.row_time_us == 0.0 else 3):
        points = world.carried(sweep.in_world, sweep.body, sweep.times, times)
        T_world_cam = camera.T_world_cam(times)
        T_cam_world = inverse(T_world_cam)
        in_camera = np.einsum("nij,nj->ni", T_cam_world[:, :3, :3], points) + T_cam_world[:, :3, 3]
        uv, _ = camera.mount.model.project(in_camera)
        times = np.where(np.isnan(uv[:, 1]), time, camera.row_times(time, np.nan_to_num(uv[:, 1])))
    in_view = camera.mount.model.in_view(uv)
    visible = np.zeros(len(sweep), bool)
    rows = np.flatnonzero(in_view)
    origins = T_world_cam[rows, :3, 3]
    way = points[rows] - origins
    distance = np.linalg.norm(way, axis=1)
    when = time if camera.mount.row_time_us == 0.0 else times[rows]
    first = world.cast(origins, way / distance[:, None], when).distance
    visible[rows] = first >= distance - TOLERANCE
    return Sight(uv, in_view, visible)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Points marked visible, compared with the pixels on which they fall.

    compared, agreed: points off silhouettes, and those of them whose class is the pixel's. silhouette: points on pixels
    with another class among their eight neighbours.
    """

    compared: int
    agreed: int
    silhouette: int

    @property
    def share(self) -> float:
        """Of the compared, how many agreed."""
        return self.agreed / max(self.compared, 1)

    @property
    def silhouette_share(self) -> float:
        """Of all visible points, how many were left out."""
        return self.silhouette / max(self.compared + self.silhouette, 1)

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(self.compared + other.compared, self.agreed + other.agreed, self.silhouette + other.silhouette)


def agreement(sweep: Sweep, seen: Sight, frame: Frame) -> Agreement:
    """Compare the classes of visible points with the label image of the same exposure."""
    labels = frame.labels
    u, v = np.floor(seen.uv[seen.visible] + 0.5).astype(np.int64).T
    padded = np.pad(labels, 1, mode="edge")
    uniform = np.ones(labels.shape, bool)
    for row in range(3):
        for column in range(3):
            uniform &= padded[row : row + labels.shape[0], column : column + labels.shape[1]] == labels
    off = uniform[v, u]
    same = labels[v, u] == sweep.class_id[seen.visible]
    return Agreement(int(off.sum()), int((same & off).sum()), int((~off).sum()))
