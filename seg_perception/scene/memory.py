"""Remember: what a labelled sweep adds to the scene. Objects, tracks, voxel map and grid in one step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.config import Config
from seg_perception.datatypes import NO_INSTANCE, SemanticCloud
from seg_perception.labels import Taxonomy
from seg_perception.scene.bev_grid import BevGrid
from seg_perception.scene.free_space import depths_of
from seg_perception.scene.objects import ObjectFinder, Objects
from seg_perception.scene.tracking import Tracker, Tracks
from seg_perception.scene.voxel_map import VoxelMap
from seg_perception.statistics import StageTimer

_INSTANCES = 65535  # instance_id is a uint16, and 0 is none


@dataclass(frozen=True, slots=True, eq=False)
class SceneUpdate:
    """What one sweep became. cloud: with the track of each point as its instance_id. objects, tracks: None where they
    are switched off. stage_seconds: by a steady clock.
    """

    cloud: SemanticCloud
    objects: Objects | None
    tracks: Tracks | None
    stage_seconds: Mapping[str, float]


class SceneMemory:
    """The scene of one drive. voxel_map, grid: to be asked whenever somebody wants them; None where switched off."""

    def __init__(self, config: Config, taxonomy: Taxonomy) -> None:
        self.config = config
        self.voxel_map = VoxelMap(taxonomy, config.voxel_map) if config.voxel_map.enabled else None
        self.grid = BevGrid(taxonomy, config.bev) if config.bev.enabled else None
        self._finder = ObjectFinder(taxonomy, config.objects) if config.objects.enabled else None
        self._tracker = Tracker(taxonomy, config.tracking)
        self._depths: NDArray[np.float32] | None = None

    def update(
        self, cloud: SemanticCloud, points: NDArray[np.float32], T_fixed_lidar: NDArray[np.float64]
    ) -> SceneUpdate:
        """Take in one labelled sweep.

        points: (N, 3) float32 of the sweep at one instant, its stamp, in the LiDAR's frame (`MovedSweep.points`).
        T_fixed_lidar: (4, 4) at that instant; the fixed frame's z points up.
        """
        timer = StageTimer()
        stamp_ns, origin = cloud.scan.stamp_ns, T_fixed_lidar[:3, 3]
        with timer.stage("level"):
            level = _turned(points, np.ascontiguousarray(T_fixed_lidar[:3, :3]))
            if self.voxel_map or self.grid:
                self._depths = depths_of(level, self._depths)
        objects = tracks = None
        if self._finder:
            with timer.stage("objects"):
                objects = self._finder.find(level, cloud.class_id, cloud.probability, origin)
            with timer.stage("tracking"):
                tracks = self._tracker.update(objects, origin, stamp_ns)
                cloud = replace(cloud, instance_id=_instances(objects, tracks))
        if self.voxel_map:
            with timer.stage("map_clear"):
                if self.voxel_map.config.clearing and self._depths is not None:
                    self.voxel_map.clear(self._depths, origin)
            with timer.stage("map_insert"):
                self.voxel_map.insert(level, origin, cloud.class_id, cloud.probability, stamp_ns)
            with timer.stage("map_forget"):
                self.voxel_map.forget(origin, stamp_ns)
        if self.grid:
            with timer.stage("grid"):
                self.grid.insert(level, origin, cloud.class_id, cloud.probability, stamp_ns)
            with timer.stage("grid_clear"):
                if self._depths is not None:
                    self.grid.clear(self._depths, origin)
        return SceneUpdate(cloud, objects, tracks, timer.seconds)


def _instances(objects: Objects, tracks: Tracks) -> NDArray[np.uint16]:
    """(N,) the track of each point, counted round from 1 where there were more than a uint16 can tell."""
    of_object = (tracks.track_id[tracks.of_object] - 1) % _INSTANCES + 1
    return np.append(of_object, NO_INSTANCE).astype(np.uint16)[objects.of_point]


@numba.njit(cache=True, nogil=True)
def _turned(points, R):  # type: ignore[no-untyped-def]
    """Points (N, 3) float32 turned by a rotation (3, 3)."""
    turned = np.empty_like(points)
    for n in range(len(points)):
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        for row in range(3):
            turned[n, row] = R[row, 0] * x + R[row, 1] * y + R[row, 2] * z
    return turned
