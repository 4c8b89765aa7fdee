"""The threads that do the work, so that the executor's thread only ever takes messages in.

One labels sweeps. The other lets images through the network as they come, so that a sweep finds it done.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from contextlib import suppress
from typing import Protocol

from seg_perception.datatypes import SweepReport
from seg_perception.errors import SegPerceptionError
from seg_perception.intake import Intake, Picture
from seg_perception.pipeline import SweepResult
from seg_perception.ros.problems import INTERNAL, ProblemLog
from seg_perception.scene.memory import SceneMemory, SceneUpdate

log = logging.getLogger(__name__)

ARRIVALS_KEPT = 100
TICK_S = 0.02  # how late a sweep's deadline may be noticed while no message comes
IDLE_S = 0.1  # how late somebody may be noticed who wants what of the scene is latched, while no sweep waits


class Deliveries(Protocol):
    """Who publishes; each method says how long each part of that took."""

    def publish(self, result: SweepResult) -> dict[str, float]:
        """A labelled sweep."""
        ...

    def publish_scene(self, memory: SceneMemory, update: SceneUpdate) -> dict[str, float]:
        """What the scene made of it, afterwards."""
        ...

    def catch_up(self, memory: SceneMemory, update: SceneUpdate) -> None:
        """No sweep is ready: what of the scene is latched, for whoever has come since that sweep. By the thread that
        calls `publish_scene`: map and grid are its alone."""
        ...

    def show(self, picture: Picture) -> dict[str, float]:
        """An image with its labels. Raises SegPerceptionError where it cannot be drawn."""
        ...


class Bell:
    """Wakes the one thread that waits for it, in half the time that an Event takes on a processor with cold caches."""

    def __init__(self) -> None:
        self._silence = threading.Lock()
        self._silence.acquire()

    def ring(self) -> None:
        """From any thread; also for who waits next, where nobody does."""
        with suppress(RuntimeError):  # it rings already
            self._silence.release()

    def wait(self, timeout_s: float) -> None:
        """Until it rings; then it is silent again."""
        self._silence.acquire(timeout=timeout_s)


class Worker:
    """Takes results from the intake and delivers them, while in the `with` block.

    problems: told of what nobody foresaw, which does not end the thread.
    """

    def __init__(self, intake: Intake, outputs: Deliveries, problems: ProblemLog) -> None:
        self.intake = intake
        self.last_report: SweepReport | None = None
        self._of_sweeps = {camera.name for camera in intake.config.cameras if camera.segment == "paired"}
        self._arrivals = threading.Lock()  # of the following, which the thread that receives fills
        self._arrivals_s: dict[tuple[str, int], float] = {}  # by LiDAR and stamp
        self._remembered: tuple[SceneMemory, SceneUpdate] | None = None  # the last sweep that is in the scene
        self._outputs = outputs
        self.problems = problems
        self._stopping = False
        self._steps = {"sweeps": self._step_sweep, "pictures": self._step_picture}
        self._bells = {name: Bell() for name in self._steps}
        intake.on_picture_due = self._bells["pictures"].ring
        self._threads = [threading.Thread(target=self._run, args=(name,), name=name) for name in self._steps]

    def __enter__(self) -> Worker:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop after the sweep and the image at hand."""
        self._stopping = True
        for bell in self._bells.values():
            bell.ring()
        for thread in self._threads:
            thread.join()

    def wake(self) -> None:
        """Something has come that a sweep may have waited for. Who waits for pictures is told by the intake."""
        if self.intake.sweeps_wait:
            self._bells["sweeps"].ring()

    def sweep_arrived(self, lidar: str, stamp_ns: int, now_s: float) -> None:
        """Remember when a sweep came, for the time it takes until it is out."""
        with self._arrivals:
            self._arrivals_s[lidar, stamp_ns] = now_s
            while len(self._arrivals_s) > ARRIVALS_KEPT:
                del self._arrivals_s[next(iter(self._arrivals_s))]

    def _run(self, name: str) -> None:
        bell, step = self._bells[name], self._steps[name]
        while not self._stopping:
            try:
                went = step()
            except Exception as error:
                self.bug(f"worker of {name}", error)
                went = True
            if not went:
                bell.wait(TICK_S if self.intake.sweeps_wait else IDLE_S)

    def _step_sweep(self) -> bool:
        """Deliver one result; False where none is ready yet."""
        result = self.intake.next_result(time.monotonic())
        if result is None:
            if self._remembered is not None:
                self._outputs.catch_up(*self._remembered)
            return False
        self.last_report = result.report
        self._count_seconds(self._outputs.publish(result))
        scan = result.cloud.scan
        with self._arrivals:
            arrived_s = self._arrivals_s.pop((scan.lidar, scan.stamp_ns), None)
        if arrived_s is not None:
            self.intake.statistics.add_seconds("total", time.monotonic() - arrived_s)
        for camera in sorted(self._of_sweeps.intersection(result.segmentations)):
            self._show(Picture(result.images[camera], result.segmentations[camera]))
        scene, memory = self.intake.remember(result).scene, self.intake.scene.memory
        if scene is not None and memory is not None:
            self._remembered = memory, scene
            self._count_seconds(self._outputs.publish_scene(memory, scene))
        elif self._remembered is not None and self._remembered[0] is not memory:
            self._remembered = None  # the clock jumped
        return True

    def _step_picture(self) -> bool:
        picture = self.intake.next_picture()
        if picture is None:
            return False
        self._show(picture)
        return True

    def _show(self, picture: Picture) -> None:
        """A picture that cannot be drawn costs itself, and is counted."""
        camera = picture.image.camera
        try:
            self._count_seconds(self._outputs.show(picture))
        except SegPerceptionError as error:
            cause = f"picture_not_drawn/{camera}"
            self.intake.statistics.count(cause)
            self.problems(cause, f"camera '{camera}': {error}")
        except Exception as error:
            self.bug(f"pictures of camera '{camera}'", error)

    def _count_seconds(self, stages: dict[str, float]) -> None:
        for stage, seconds in stages.items():
            self.intake.statistics.add_seconds(stage, seconds)

    def bug(self, where: str, error: Exception) -> None:
        """An error that nobody foresaw is counted, and logged with its traceback."""
        self.intake.statistics.count(INTERNAL)
        if self.problems.say(INTERNAL, f"{where}: {error!r}", logging.ERROR):
            log.error("%s", "".join(traceback.format_exception(error)))
