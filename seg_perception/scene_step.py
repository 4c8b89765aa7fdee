"""The last step of the story, made safe: a fault in the scene costs a sweep its scene, never its labelled cloud."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from seg_perception.config import Config
from seg_perception.errors import ConfigError, TransformError
from seg_perception.geometry.movers import Movers
from seg_perception.labels import Taxonomy
from seg_perception.pipeline import SweepResult
from seg_perception.scene.course import Course
from seg_perception.scene.map_files import check_suffix, load_map, save_map
from seg_perception.scene.memory import LATE_NS, SceneMemory, SceneUpdate
from seg_perception.scene.voxel_hash import FULL_SHARE
from seg_perception.scene.voxel_map import MapCloud, VoxelMap
from seg_perception.statistics import RunStatistics

_log = logging.getLogger(__name__)
T = TypeVar("T")

WITHOUT_ODOMETRY, FAULT = "scene_without_odometry", "scene_error"
LATE, MAP_FULL, JUMP = "scene_sweep_late", "map_full", "fixed_frame_jump"


class SceneStep:
    """Takes results of the pipeline into one `SceneMemory`, in two halves; one thread calls both.

    problem: told the cause and the sentence of every sweep that the scene goes without. memory: None where objects, map
    and grid are all switched off; of that thread alone. Maps are saved and loaded from any thread.
    """

    def __init__(
        self, config: Config, taxonomy: Taxonomy, statistics: RunStatistics, problem: Callable[[str, str], None]
    ) -> None:
        self._config, self._taxonomy = config, taxonomy
        self._statistics, self._problem = statistics, problem
        self._lock = threading.Lock()
        self._loaded: MapCloud | None = None  # waits for the next sweep, whose thread owns the memory
        self._tracked: dict[str, int] = {}
        self._courses: dict[str, Course] = defaultdict(Course)  # by LiDAR
        self.memory: SceneMemory | None = None
        self.forget()

    def forget(self) -> None:
        """Begin anew, as after a jump of the clock."""
        config = self._config
        if config.objects.enabled or config.voxel_map.enabled or config.bev.enabled:
            memory = SceneMemory(config, self._taxonomy)
            with self._lock:
                self.memory = memory

    def movers(self, stamp_ns: int) -> Movers | None:
        """What seems to move, where it should be in a sweep of that stamp; None where nothing is known to."""
        memory = self.memory
        return None if memory is None else self._spared(stamp_ns, lambda: memory.movers(stamp_ns))

    def recognise(self, result: SweepResult) -> SweepResult:
        """With its objects and tracks, and their numbers in its cloud. As it was where that could not be."""
        if self.memory is None:
            return result
        memory, cloud, sweep = self.memory, result.cloud, result.sweep
        scan = cloud.scan
        late_ns = memory.stamp_ns - scan.stamp_ns
        if late_ns > LATE_NS:  # of the only LiDAR this cannot be
            self._problem(
                LATE,
                f"the scene goes without the sweep of LiDAR '{scan.lidar}' at {scan.stamp_ns} ns: it is "
                f"{late_ns * 1e-6:.0f} ms older than the newest sweep, at most {LATE_NS * 1e-6:.0f} ms wanted",
            )
            return result
        scene = self._spared(
            scan.stamp_ns, lambda: memory.recognise(cloud, sweep.points, sweep.T_fixed_lidar(), result.measured)
        )
        if scene is None:
            return result
        jump_m = self._courses[scan.lidar].jump_m(scan.stamp_ns, scene.origin)
        if jump_m > 0.0:
            self._problem(
                JUMP,
                f"frame '{self._config.motion.fixed_frame}' jumped by {jump_m:.1f} m before {scan.stamp_ns} ns: "
                "tracks, map and grid stay where they were, points around the jump are bent; motion.fixed_frame "
                "wants a frame in which the vehicle moves without jumps, as odom (REP 105)",
            )
        return replace(result, cloud=scene.cloud, scene=scene)

    def remember(self, result: SweepResult) -> None:
        """Let a recognised sweep vote in map and grid; one that is not leaves no trace."""
        if self.memory is None or result.scene is None:
            return
        memory, scene = self.memory, result.scene
        with self._lock:
            self._spared(result.cloud.scan.stamp_ns, lambda: self._remember(memory, scene))
        for stage, seconds in scene.stage_seconds.items():
            self._statistics.add_seconds(stage, seconds)
        self._statistics.add_seconds("scene", sum(scene.stage_seconds.values()))

    def save_map(self, path: Path) -> str:
        """Write every voxel of the map, as `map_files.save_map` does; returns a sentence. Raises SegPerceptionError,
        OSError."""
        check_suffix(path)
        with self._lock:
            voxels = self._map().cloud()
        save_map(voxels, path, self._taxonomy.colors)
        return f"{len(voxels)} voxels written to {path}"

    def load_map(self, path: Path) -> str:
        """Read a map, whose voxels vote in this one before the next sweep does; returns a sentence. It lies right only
        where the fixed frame is that of the drive it was saved on. Raises SegPerceptionError, also where it names other
        classes; OSError.
        """
        self._map()
        voxels = load_map(path, self._taxonomy)
        with self._lock:
            self._loaded = voxels
        return f"{len(voxels)} voxels read from {path}; they are in the map with the next sweep"

    @property
    def state(self) -> dict[str, Any]:
        """How much is remembered, and how much can be: flat, for diagnostics. Empty where everything is off."""
        memory = self.memory
        state: dict[str, Any] = {}
        if memory is not None and memory.voxel_map:
            held = memory.voxel_map.state
            state |= {"voxels": held.voxels, "voxels_at_most": int(FULL_SHARE * held.capacity)}
            state |= {"points_without_room": held.refused, "map_mib": round(held.nbytes / 2**20, 1)}
        if memory is not None and memory.grid:
            state["grid_mib"] = round(memory.grid.nbytes / 2**20, 1)
        return {**state, **self._tracked}

    def _map(self) -> VoxelMap:
        if self.memory is None or self.memory.voxel_map is None:
            raise ConfigError("voxel_map.enabled: true wanted, false seen: there is no map")
        return self.memory.voxel_map

    def _remember(self, memory: SceneMemory, scene: SceneUpdate) -> None:
        if scene.objects is not None and scene.tracks is not None:
            flat = self._tracked.get("flat_things", 0) + scene.objects.flat
            self._tracked = {"tracks": int(scene.tracks.confirmed.sum()), "flat_things": flat}
        loaded, self._loaded = self._loaded, None
        if memory.voxel_map is None:
            memory.remember(scene)
            return
        before = memory.voxel_map.state.refused
        if loaded is not None:
            memory.voxel_map.add(loaded, scene.stamp_ns)
        memory.remember(scene)
        state = memory.voxel_map.state
        if state.refused > before:
            radius_m, points = memory.voxel_map.config.radius_m, state.refused - before
            self._problem(
                MAP_FULL,
                f"{points} points found no room in the map, which holds {state.voxels} voxels; raise "
                f"voxel_map.capacity ({state.capacity}) or lower voxel_map.radius_m ({radius_m})",
            )

    def _spared(self, stamp_ns: int, action: Callable[[], T]) -> T | None:
        """What the action gives; None where anything happens in it, which is counted and told, and goes no further."""
        what = f"the scene goes without the sweep at {stamp_ns} ns"
        try:
            return action()
        except TransformError as error:
            self._problem(WITHOUT_ODOMETRY, f"{what}: {error}")
        except Exception as error:  # even a mistake of ours must not cost the cloud
            _log.debug("%s", what, exc_info=True)
            self._problem(FAULT, f"{what}: {error!r}")
        return None
