"""How an image looks at the points of a sweep, once both are in one place and one instant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seg_perception.datatypes import CameraImage
from seg_perception.geometry.camera import CameraModel
from seg_perception.geometry.motion import MovedSweep
from seg_perception.geometry.movers import Carried, Moving
from seg_perception.geometry.projection import Projection, project
from seg_perception.geometry.workspace import Workspace


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """How an image sees the points of a sweep; see `projection.project`. carried: those that have gone on meanwhile."""

    camera: CameraModel
    T_cam_lidar: NDArray[np.float64]
    T_rows: tuple[NDArray[np.float64], NDArray[np.float64]] | None
    carried: Carried | None = None

    def project(
        self, points: NDArray[np.float32], workspace: Workspace, bounds: NDArray[np.float32] | None = None
    ) -> Projection:
        """Of the whole sweep, as `projection.project` takes it."""
        in_view = self._project(points, workspace, bounds)
        if self.carried is None:
            return in_view
        return self.carried.into(in_view, self._project(self.carried.points), workspace)

    def project_some(self, points: NDArray[np.float32], index: NDArray[np.int32]) -> Projection:
        """Of a sweep's points those of `index`; the answer has numbers into `points`."""
        some = points[index]
        seen = self._project(some if self.carried is None else self.carried.among(index, some))
        return Projection(index[seen.index], seen.uv, seen.distance, points)

    def _project(
        self,
        points: NDArray[np.float32],
        workspace: Workspace | None = None,
        bounds: NDArray[np.float32] | None = None,
    ) -> Projection:
        return project(points, self.T_cam_lidar, self.camera, self.T_rows, workspace, bounds)


def look_at(sweep: MovedSweep, image: CameraImage, camera: CameraModel, readout_ns: int, moving: Moving | None) -> Look:
    """The way from a sweep to an image, for which its moving points are carried on. readout_ns: of a rolling shutter,
    from its first row to its last. Raises TransformError."""
    T_cam_lidar = sweep.T_cam_lidar(image.frame_id, image.stamp_ns)
    T_rows = sweep.T_cam_lidar_rows(image.frame_id, image.stamp_ns, readout_ns)
    if moving is None or not len(moving.index):
        return Look(camera, T_cam_lidar, T_rows)
    seconds = 1e-9 * (image.stamp_ns - sweep.stamps_ns(moving.index))
    carried = moving.carried(seconds)
    if T_rows is not None:  # and on to the instant of the row on which each falls
        falls = project(carried.points, T_cam_lidar, camera, T_rows)
        seconds[falls.index] += 1e-9 * readout_ns * (falls.uv[:, 1] / (camera.height - 1.0) - 0.5)
        carried = moving.carried(seconds)
    return Look(camera, T_cam_lidar, T_rows, carried)


class Visible(Mapping[str, Projection]):
    """By camera, the points that it sees, projected again when they are asked for, which most sweeps are not."""

    def __init__(self, points: NDArray[np.float32]) -> None:
        self._points = points
        self._seen: dict[str, tuple[NDArray[np.int32], NDArray[np.bool_], Look]] = {}

    def add(self, name: str, in_view: NDArray[np.int32], kept: NDArray[np.bool_], look: Look) -> None:
        """What a camera has in view, numbers of points, and which of them it sees; from any thread."""
        self._seen[name] = in_view.copy(), kept.copy(), look  # sooner done than finding out which are kept

    def __getitem__(self, name: str) -> Projection:
        in_view, kept, look = self._seen[name]
        return look.project_some(self._points, in_view[kept])

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._seen))  # whichever thread came first

    def __len__(self) -> int:
        return len(self._seen)
