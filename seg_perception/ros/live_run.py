"""A bag through the live node: the node in one process, a player in a second, and this one listening.

What a user would do by hand in three terminals, done once by the demo and by the tests.
"""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import Log
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import LoggingSeverity
from rclpy.qos import QoSProfile
from sensor_msgs.msg import PointCloud2

from seg_perception.config import NODE_NAME, Config
from seg_perception.errors import SegPerceptionError
from seg_perception.offline import points_topic
from seg_perception.ros import dds, diagnostics, qos

OnCloud = Callable[[str, int, bytes], None]
START_S = 600.0  # the first start on a machine compiles the kernels
QUIET_S = 2.0  # after the player's end, this long without a cloud means that the node is done, if no sweep waits in it
REPORTS_S = 1.0  # between the node's reports, whatever its parameters say: they tell when it is there, and done
HANGING_S = 30.0  # and this long means so in any case
STOP_S = 60.0


@dataclass(frozen=True, slots=True)
class LiveRun:
    """What came of it. summary: of the node's own statistics; received: how many clouds of each LiDAR reached this
    process, `seconds` from the first to the last."""

    summary: dict[str, Any] = field(default_factory=dict)
    received: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    node_exit_code: int | None = None


def live_run(
    bag: Path,
    parameters: Path,
    model: Path,
    logs: Path,
    on_cloud: OnCloud,
    rate: float = 1.0,
    on_word: Callable[[str], None] = lambda _: None,
) -> LiveRun:
    """Play `bag` at `rate` through a `perception_node` with these parameters and this network.

    on_cloud: given the LiDAR's name ("" of the only one), the stamp and the bytes (CDR) of each PointCloud2 that the
    node publishes. on_word: given what the node logs, but no warning. What both print goes to `logs`/node.log and
    player.log. Raises ConfigError for parameters that cannot be used, SegPerceptionError where the node does not come
    up or the player fails.
    """
    lidars = list(Config.load(parameters).lidar_topics())
    environment = {**os.environ, **dds.environment(), **_private_domain()}
    os.environ.update(environment)
    with ExitStack() as stack:
        listener = stack.enter_context(_Listener(lidars, on_cloud, on_word))
        node = stack.enter_context(
            _process(
                [
                    *(sys.executable, "-m", "seg_perception.ros.start", "--ros-args"),
                    *("--params-file", str(parameters), "-p", f"inference.model:={model}"),
                    *("-p", f"output.diagnostics_period_s:={REPORTS_S}"),
                ],
                environment,
                logs / "node.log",
            )
        )
        listener.spin_until(lambda: bool(listener.summary) or node.poll() is not None, START_S)
        if not listener.summary:
            raise SegPerceptionError(f"the node did not come up within {START_S:.0f} s; see {logs / 'node.log'}")
        player = stack.enter_context(
            _process(
                [
                    sys.executable,
                    "-m",
                    "seg_perception.cli.main",
                    "play",
                    str(bag),
                    "--rate",
                    str(rate),
                    "--no-progress",
                ],
                environment,
                logs / "player.log",
            )
        )
        listener.spin_until(lambda: player.poll() is not None or node.poll() is not None)
        if player.poll():
            raise SegPerceptionError(f"the player failed; see {logs / 'player.log'}")
        listener.spin_until(lambda: listener.has_all() or node.poll() is not None, START_S)
        node.send_signal(signal.SIGINT)
        listener.spin_until(lambda: node.poll() is not None, STOP_S)
        listener.spin_until(lambda: False, 0.2)  # its last words may still be on the way
        return LiveRun(listener.summary, listener.received, listener.last_s - listener.first_s, node.poll())


class _Listener:
    """Receives semantic clouds and diagnostics, in a context of its own."""

    def __init__(self, lidars: Sequence[str], on_cloud: OnCloud, on_word: Callable[[str], None]) -> None:
        self.received = Counter(dict.fromkeys(lidars, 0))
        self.first_s = self.last_s = self._reported_s = time.monotonic()
        self.summary: dict[str, Any] = {}
        self._on_cloud, self._on_word = on_cloud, on_word
        self._context = Context()

    def __enter__(self) -> _Listener:
        rclpy.init(context=self._context)
        self._node = rclpy.create_node("live_run_listener", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        for lidar in self.received:
            take = partial(self._cloud, lidar)
            self._node.create_subscription(PointCloud2, points_topic(lidar), take, QoSProfile(depth=20), raw=True)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnostics, QoSProfile(depth=10))
        self._node.create_subscription(Log, "/rosout", self._log, qos.latched(depth=100))
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def spin_until(self, done: Callable[[], bool], timeout_s: float = float("inf")) -> None:
        """Take in messages until `done` or the time is over."""
        end_s = time.monotonic() + timeout_s
        while not done() and time.monotonic() < end_s:
            self._executor.spin_once(timeout_sec=0.05)

    def has_all(self) -> bool:
        """Whether the node went on for a while after its last cloud, as its reports tell, and keeps no sweep."""
        causes = self.summary["causes"].items()
        dropped = sum(count for cause, count in causes if cause.startswith("sweep_"))
        waiting = self.summary["sweeps_in"] - self.summary["sweeps_out"] - dropped
        return self._reported_s - self.last_s > (HANGING_S if waiting > 0 else QUIET_S)

    def _cloud(self, lidar: str, data: bytes) -> None:
        self.last_s = time.monotonic()
        if not any(self.received.values()):
            self.first_s = self.last_s
        self.received[lidar] += 1
        byte_order = "<" if data[1] else ">"  # CDR: four bytes that say how, then the header, its stamp first
        sec, nanosec = struct.unpack_from(f"{byte_order}iI", data, 4)
        self._on_cloud(lidar, sec * 10**9 + nanosec, data)

    def _log(self, msg: Log) -> None:
        if msg.name.endswith(NODE_NAME) and msg.level <= LoggingSeverity.INFO:
            self._on_word(msg.msg)

    def _diagnostics(self, msg: DiagnosticArray) -> None:
        for status in msg.status:
            if status.name.endswith(f": {diagnostics.SUMMARY}"):
                self._reported_s = time.monotonic()
                self.summary = diagnostics.unflatten(status.values)


@contextmanager
def _process(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen]:
    """A child process whose output goes to a file, and which never outlives the block."""
    with log.open("w", encoding="utf-8") as output:
        child = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()


def _private_domain() -> dict[str, str]:
    """A domain of this run's own, on this machine only, unless the user chose one."""
    mine = {"ROS_DOMAIN_ID": str(os.getpid() % 101 + 1), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    return {name: value for name, value in mine.items() if name not in os.environ}
