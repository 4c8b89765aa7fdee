"""Remember: what a labelled sweep adds to the scene. Objects, tracks, voxel map and grid in one step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.config import Config
from seg_perception.datatypes import NO_INSTANCE, LidarScan, PointCloud, SemanticCloud
from seg_perception.geometry.columns import by_axis
from seg_perception.geometry.movers import Measured, Movers
from seg_perception.labels import Taxonomy
from seg_perception.scene.bev_grid import BevGrid
from seg_perception.scene.free_space import depths_of
from seg_perception.scene.objects import ObjectFinder, Objects
from seg_perception.scene.tracking import Tracker, Tracks
from seg_perception.scene.voxel_map import VoxelMap
from seg_perception.statistics import StageTimer

LATE_NS = 500_000_000  # a sweep this much older than the newest is late; beyond it, the clock jumped back
_INSTANCES = 65535  # instance_id is a uint16, and 0 is none


@dataclass(frozen=True, slots=True, eq=False)
class SceneUpdate:
    """What one sweep became. cloud: with the track of each point as its instance_id. objects, tracks: None where they
    are switched off. level: (N, 3) float32 its points along the axes of the fixed frame, from the LiDAR. origin: (3,)
    where the LiDAR is in the fixed frame. stamp_ns: of the scene now, and of `tracks`; that of the sweep, unless one of
    another LiDAR was newer.
    """

    cloud: SemanticCloud
    objects: Objects | None
    tracks: Tracks | None
    level: NDArray[np.float32]
    origin: NDArray[np.float64]
    stamp_ns: int
    _timer: StageTimer = field(repr=False)

    @property
    def stage_seconds(self) -> Mapping[str, float]:
        """Seconds on a steady clock that each stage has taken so far."""
        return self._timer.seconds


class SceneMemory:
    """The scene of one drive. voxel_map, grid: to be asked whenever somebody wants them; None where switched off.

    stamp_ns: of the newest sweep, 0 before the first. Sweeps of several LiDARs may come a little out of order: the
    scene's time never runs back for them.
    """

    def __init__(self, config: Config, taxonomy: Taxonomy) -> None:
        self.config = config
        self.voxel_map = VoxelMap(taxonomy, config.voxel_map) if config.voxel_map.enabled else None
        self.grid = BevGrid(taxonomy, config.bev) if config.bev.enabled else None
        self._finder = ObjectFinder(taxonomy, config.objects) if config.objects.enabled else None
        self._tracker = Tracker(taxonomy, config.tracking)
        self._depths: NDArray[np.float32] | None = None
        self.stamp_ns = 0

    def update(
        self,
        cloud: SemanticCloud,
        points: NDArray[np.float32],
        T_fixed_lidar: NDArray[np.float64],
        measured: Measured | None = None,
    ) -> SceneUpdate:
        """Take in one labelled sweep: `recognise`, then `remember`."""
        update = self.recognise(cloud, points, T_fixed_lidar, measured)
        self.remember(update)
        return update

    def movers(self, stamp_ns: int) -> Movers | None:
        """What seems to move, where it should be in a sweep of that stamp; None before the first, and where it is not
        to be carried, or objects are switched off."""
        if self._finder is None or not self.config.tracking.carry:
            return None
        late_ns = self.stamp_ns - stamp_ns
        if not 0 < late_ns <= LATE_NS:
            late_ns = 0
        return self._tracker.movers(stamp_ns + late_ns, late_ns * 1e-9)

    def recognise(
        self,
        cloud: SemanticCloud,
        points: NDArray[np.float32],
        T_fixed_lidar: NDArray[np.float64],
        measured: Measured | None = None,
    ) -> SceneUpdate:
        """What is in this sweep, and who it is.

        points: (N, 3) float32 of the sweep at one instant, its stamp, in the LiDAR's frame (`MovedSweep.points`).
        T_fixed_lidar: (4, 4) at that instant; the fixed frame's z points up. measured: how fast those are by this
        sweep's points of which `movers` told.
        """
        timer = StageTimer()
        scan = cloud.scan
        late_ns = self.stamp_ns - scan.stamp_ns
        if not 0 < late_ns <= LATE_NS:
            late_ns, self.stamp_ns = 0, scan.stamp_ns
        origin = T_fixed_lidar[:3, 3]
        objects = tracks = None
        with timer.stage("level"):
            level = _turned(by_axis(points), np.ascontiguousarray(T_fixed_lidar[:3, :3]))
        if self._finder:
            with timer.stage("objects"):
                expected = self._tracker.expected(self.stamp_ns, late_ns * 1e-9)
                objects = self._finder.find(
                    level, cloud.class_id, cloud.probability, origin, cloud.instance_id, expected
                )
            with timer.stage("tracking"):
                tracks = self._tracker.update(objects, origin, self.stamp_ns, scan.lidar, late_ns * 1e-9, measured)
                cloud = replace(cloud, instance_id=_instances(objects, tracks))
        return SceneUpdate(cloud, objects, tracks, level, origin, self.stamp_ns, timer)

    def remember(self, update: SceneUpdate) -> None:
        """Let what `recognise` gave vote in the map and the grid."""
        if not self.voxel_map and not self.grid:
            return
        timer, cloud, level, origin = update._timer, update.cloud, update.level, update.origin
        stamp_ns = update.stamp_ns
        with timer.stage("depths"):
            self._depths = depths = depths_of(level, self._depths)
        if self.voxel_map:
            with timer.stage("map_clear"):
                if self.voxel_map.config.clearing:
                    self.voxel_map.clear(depths, origin)
            with timer.stage("map_insert"):
                self.voxel_map.insert(level, origin, cloud.class_id, cloud.probability, stamp_ns)
            with timer.stage("map_forget"):
                self.voxel_map.forget(origin, stamp_ns)
        if self.grid:
            with timer.stage("grid_insert"):
                self.grid.insert(level, origin, cloud.class_id, cloud.probability, stamp_ns)
            with timer.stage("grid_clear"):
                self.grid.clear(depths, origin)


def warm_up(config: Config, taxonomy: Taxonomy) -> None:
    """Compile every kernel that the configured parts need, on a small scene of each countable class and the ground."""
    small = replace(
        config, voxel_map=replace(config.voxel_map, capacity=1 << 10), bev=replace(config.bev, side_m=2.0, cell_m=0.2)
    )
    memory = SceneMemory(small, taxonomy)
    if not (config.objects.enabled or memory.voxel_map or memory.grid):
        return
    classes = [entry.train_id for entry in taxonomy.trained]
    things = np.stack(np.meshgrid(np.arange(len(classes)) * 8.0, np.arange(4) * 0.1 + 5.0, np.arange(9) * 0.1), -1)
    points = things.reshape(-1, 3).astype(np.float32, order="F")  # as those of a moved sweep lie
    class_id = np.tile(np.repeat(classes, 9), 4).astype(np.uint8)
    count = len(points)
    table = PointCloud("lidar", 1, count, 1, (), np.zeros((count, 0), np.uint8))
    none, certain = np.zeros(count, np.uint16), np.ones(count, np.float32)
    first = Measured(np.ones(1, np.int32), np.ones((1, 2)), np.ones(1, np.bool_))
    for stamp_ns in (1, 100_000_001, 200_000_001):
        scan = LidarScan("lidar", stamp_ns, points, None, table)
        cloud = SemanticCloud(scan, class_id, certain, none, none.astype(np.uint8), ("camera",))
        update = memory.update(cloud, points, np.eye(4), first)
    if memory.grid:
        memory.grid.layers(stamp_ns, update.objects)
    if memory.voxel_map:
        memory.voxel_map.cloud()


def _instances(objects: Objects, tracks: Tracks) -> NDArray[np.uint16]:
    """(N,) the track of each point, counted round from 1 where there were more than a uint16 can tell."""
    of_object = (tracks.track_id[tracks.of_object] - 1) % _INSTANCES + 1
    return np.append(of_object, NO_INSTANCE).astype(np.uint16)[objects.of_point]


@numba.njit(cache=True, nogil=True)
def _turned(by_axis, R):  # type: ignore[no-untyped-def]
    """(N, 3) float32: points, given as (3, N), turned by a rotation (3, 3)."""
    turned = np.empty((by_axis.shape[1], 3), np.float32)
    for n in range(len(turned)):
        x, y, z = by_axis[0, n], by_axis[1, n], by_axis[2, n]
        for row in range(3):
            turned[n, row] = R[row, 0] * x + R[row, 1] * y + R[row, 2] * z
    return turned
