"""The threads of the worker, without a node."""

import threading
import time

import pytest
from small_world import MS, T0
from test_scene_step import Ride

from seg_perception.errors import BackendLostError
from seg_perception.ros.problems import ProblemLog
from seg_perception.ros.worker import Bell, Worker

pytestmark = pytest.mark.ros


class Threads:
    """Deliveries that note which thread calls what. on_show: raised by `show`, if anything."""

    def __init__(self, on_show=None):
        self.on_show = on_show
        self.of = {"publish": set(), "publish_scene": set(), "catch_up": set(), "show": set()}
        self.caught_up = threading.Event()

    def publish(self, result):
        return self._note("publish")

    def publish_scene(self, memory, update):
        return self._note("publish_scene")

    def catch_up(self, memory, update):
        self._note("catch_up")
        self.caught_up.set()

    def show(self, picture):
        times = self._note("show")
        if self.on_show is not None:
            raise self.on_show
        return times

    def _note(self, what):
        self.of[what].add(threading.current_thread().name)
        return {}


def test_the_scene_is_touched_by_one_thread_alone_whether_a_sweep_comes_or_none():
    ride, threads = Ride(), Threads()
    ride.sweep(T0)  # compiles what it needs
    with Worker(ride.intake, threads, ProblemLog()) as worker:
        ride.hand_in(T0 + 100 * MS)
        worker.wake()
        assert threads.caught_up.wait(60.0)
        time.sleep(0.2)
    assert threads.of == {what: {"sweeps"} for what in ("publish", "publish_scene", "catch_up", "show")}


@pytest.mark.parametrize(
    ("error", "cause"),
    [(BackendLostError("the GPU was let go of"), "picture_not_drawn/front"), (ValueError("ours"), "internal_error")],
)
def test_a_picture_that_cannot_be_drawn_is_counted_and_costs_neither_the_sweep_nor_the_scene(error, cause):
    ride, threads, problems = Ride(), Threads(error), ProblemLog()
    with Worker(ride.intake, threads, problems) as worker:
        ride.hand_in(T0)
        worker.wake()
        assert threads.caught_up.wait(60.0)
    assert threads.of["publish_scene"] == {"sweeps"}
    assert ride.intake.statistics.causes[cause] == 1
    assert str(error) in problems.last_words[cause]


def test_a_bell_that_rang_before_somebody_waited_is_heard_once():
    bell = Bell()
    for _ in range(2):
        bell.ring()
    bell.wait(60.0)
    start_s = time.monotonic()
    bell.wait(0.05)
    assert 0.04 < time.monotonic() - start_s < 10.0


def test_what_comes_while_no_sweep_waits_wakes_nobody(monkeypatch):
    monkeypatch.setattr("seg_perception.ros.worker.IDLE_S", 60.0)
    ride, threads, asked = Ride(), Threads(), threading.Event()
    with Worker(ride.intake, threads, ProblemLog()) as worker:
        ride.hand_in(T0)
        worker.wake()
        assert threads.caught_up.wait(60.0)
        next_result = ride.intake.next_result
        ride.intake.next_result = lambda now_s: asked.set() or next_result(now_s)
        worker.wake()
        assert not asked.wait(0.2)
        ride.hand_in(T0 + 100 * MS)
        worker.wake()
        assert asked.wait(10.0)
