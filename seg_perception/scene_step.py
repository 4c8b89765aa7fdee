"""The last step of the story, made safe: a fault in the scene costs a sweep its scene, never its labelled cloud."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from seg_perception.config import Config
from seg_perception.errors import TransformError
from seg_perception.labels import Taxonomy
from seg_perception.pipeline import SweepResult
from seg_perception.scene.memory import SceneMemory
from seg_perception.statistics import RunStatistics

_log = logging.getLogger(__name__)
T = TypeVar("T")

WITHOUT_ODOMETRY, FAULT = "scene_without_odometry", "scene_error"


class SceneStep:
    """Takes results of the pipeline into one `SceneMemory`, in two halves; one thread calls both.

    problem: told the cause and the sentence of every sweep that the scene goes without. memory: None where objects, map
    and grid are all switched off. lock: held while the memory changes; whoever reads it from another thread takes it.
    """

    def __init__(
        self, config: Config, taxonomy: Taxonomy, statistics: RunStatistics, problem: Callable[[str, str], None]
    ) -> None:
        self._config, self._taxonomy = config, taxonomy
        self._statistics, self._problem = statistics, problem
        self.lock = threading.Lock()
        self.memory: SceneMemory | None = None
        self.forget()

    def forget(self) -> None:
        """Begin anew, as after a jump of the clock."""
        config = self._config
        if config.objects.enabled or config.voxel_map.enabled or config.bev.enabled:
            memory = SceneMemory(config, self._taxonomy)
            with self.lock:
                self.memory = memory

    def recognise(self, result: SweepResult) -> SweepResult:
        """With its objects and tracks, and their numbers in its cloud. As it was where that could not be."""
        if self.memory is None:
            return result
        memory, sweep = self.memory, result.sweep
        scene = self._spared(result, lambda: memory.recognise(result.cloud, sweep.points, sweep.T_fixed_lidar()))
        return result if scene is None else replace(result, cloud=scene.cloud, scene=scene)

    def remember(self, result: SweepResult) -> None:
        """Let a recognised sweep vote in map and grid; one that is not leaves no trace."""
        if self.memory is None or result.scene is None:
            return
        memory, scene = self.memory, result.scene
        with self.lock:
            self._spared(result, lambda: memory.remember(scene))
        for stage, seconds in scene.stage_seconds.items():
            self._statistics.add_seconds(stage, seconds)
        self._statistics.add_seconds("scene", sum(scene.stage_seconds.values()))

    def _spared(self, result: SweepResult, action: Callable[[], T]) -> T | None:
        """What the action gives; None where anything happens in it, which is counted and told, and goes no further."""
        what = f"the scene goes without the sweep at {result.cloud.scan.stamp_ns} ns"
        try:
            return action()
        except TransformError as error:
            self._problem(WITHOUT_ODOMETRY, f"{what}: {error}")
        except Exception as error:  # even a mistake of ours must not cost the cloud
            _log.debug("%s", what, exc_info=True)
            self._problem(FAULT, f"{what}: {error!r}")
        return None
