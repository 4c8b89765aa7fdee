"""The one thread that does the work, so that the executor's thread only ever takes messages in."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable

from seg_perception.datatypes import SweepReport
from seg_perception.intake import Intake, Picture
from seg_perception.pipeline import SweepResult
from seg_perception.ros.problems import INTERNAL, ProblemLog

log = logging.getLogger(__name__)

ARRIVALS_KEPT = 100
TICK_S = 0.02  # how late a sweep's deadline may be noticed while no message comes
Deliver = Callable[[SweepResult], dict[str, float]]
Show = Callable[[Picture], dict[str, float]]


class Worker:
    """Takes results from the intake and delivers them, while in the `with` block.

    deliver: publishes one result, and says how long each part of that took; show: the same for an image that waits
    for no sweep. problems: told of what nobody foresaw, which does not end the thread.
    """

    def __init__(self, intake: Intake, deliver: Deliver, show: Show, problems: ProblemLog) -> None:
        self.intake = intake
        self.last_report: SweepReport | None = None
        self._arrivals_s: dict[int, float] = {}
        self._deliver, self._show = deliver, show
        self.problems = problems
        self._news = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="perception worker")

    def __enter__(self) -> Worker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop after the sweep at hand."""
        self._stopping = True
        self._news.set()
        self._thread.join()

    def wake(self) -> None:
        """Something has come."""
        self._news.set()

    def sweep_arrived(self, stamp_ns: int, now_s: float) -> None:
        """Remember when a sweep came, for the time it takes until it is out."""
        self._arrivals_s[stamp_ns] = now_s
        while len(self._arrivals_s) > ARRIVALS_KEPT:
            self._arrivals_s.pop(next(iter(self._arrivals_s)), None)  # the worker may have taken it

    def _run(self) -> None:
        while not self._stopping:
            self._news.clear()
            try:
                went = self._step()
            except Exception as error:
                self.bug("worker", error)
                went = True
            if not went:
                self._news.wait(TICK_S)

    def _step(self) -> bool:
        """Deliver one result, or one picture where no sweep is ready; False where there is nothing to do yet."""
        result = self.intake.next_result(time.monotonic())
        if result is None:
            return self._step_picture()
        self.last_report = result.report
        for stage, seconds in self._deliver(result).items():
            self.intake.statistics.add_seconds(stage, seconds)
        arrived_s = self._arrivals_s.pop(result.cloud.scan.stamp_ns, None)
        if arrived_s is not None:
            self.intake.statistics.add_seconds("total", time.monotonic() - arrived_s)
        self.intake.remember(result)
        return True

    def _step_picture(self) -> bool:
        picture = self.intake.next_picture()
        if picture is None:
            return False
        for stage, seconds in self._show(picture).items():
            self.intake.statistics.add_seconds(stage, seconds)
        return True

    def bug(self, where: str, error: Exception) -> None:
        """An error that nobody foresaw is counted, and logged with its traceback."""
        self.intake.statistics.count(INTERNAL)
        if self.problems.say(INTERNAL, f"{where}: {error!r}", logging.ERROR):
            log.error("%s", "".join(traceback.format_exception(error)))
