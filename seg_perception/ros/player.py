"""Publish a bag over real DDS: its serialized bytes as they are, at the pace at which they were recorded."""

from __future__ import annotations

import importlib
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import rclpy
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock
from tqdm import tqdm

from seg_perception.bags import BagReader, TopicQos
from seg_perception.errors import BagError
from seg_perception.messages.header import time_fields
from seg_perception.ros import dds, qos

CLOCK = "/clock"
SETTLE_S = 1.0  # once one subscriber is there, others may take this long to be found
ACKNOWLEDGED_S = 2.0


@dataclass(frozen=True, slots=True)
class PlayOptions:
    """rate: 2.0 is twice as fast as recorded. clock_hz: of /clock, 0 for none. loop: start over until interrupted.

    wait_s: how long to wait for a first subscriber before starting; 0 starts at once.
    """

    rate: float = 1.0
    clock_hz: float = 0.0
    loop: bool = False
    wait_s: float = 10.0


@dataclass(slots=True)
class PlayReport:
    """What was published. skipped: topic → why. unheard: topics that had no subscriber at the start."""

    published: Counter[str]
    skipped: dict[str, str]
    unheard: list[str]
    latest_s: float = 0.0


def play(bag: BagReader, options: PlayOptions, progress: bool = True) -> PlayReport:
    """Publish an open bag. An interrupt (KeyboardInterrupt) ends it in order, with the report of what went out."""
    dds.prepare()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = Node("seg_perception_player", enable_rosout=False, start_parameter_services=False)
        publishers, skipped = _publishers(node, bag, options)
        if not publishers:
            raise BagError(f"bag {bag.path}: none of its topics can be published: {skipped}")
        clock = node.create_publisher(Clock, CLOCK, qos.output()) if options.clock_hz else None
        report = PlayReport(Counter(), skipped, [])
        total = None if options.loop else sum(bag.counts[topic] for topic in publishers)
        with tqdm(total=total, unit="msg", disable=not progress) as bar, suppress(KeyboardInterrupt):
            report.unheard = _wait_for_subscribers(publishers, options.wait_s)
            _play(bag, options, publishers, clock, report, bar)
        with suppress(KeyboardInterrupt):
            give_up_s = time.monotonic() + ACKNOWLEDGED_S
            for publisher in publishers.values():
                publisher.wait_for_all_acked(Duration(seconds=max(0.0, give_up_s - time.monotonic())))
        return report
    finally:
        rclpy.try_shutdown()


def _play(
    bag: BagReader,
    options: PlayOptions,
    publishers: Mapping[str, Publisher],
    clock: Publisher | None,
    report: PlayReport,
    bar: tqdm,
) -> None:
    while True:
        pace = _Pace(bag.start_ns, options, clock)
        for message in bag.messages(publishers):
            report.latest_s = max(report.latest_s, pace.wait_until(message.log_ns))
            publishers[message.topic].publish(message.data)
            report.published[message.topic] += 1
            bar.update()
        if not options.loop:
            return


class _Pace:
    """When a message of the bag is due on this machine's steady clock; tells the time of the bag meanwhile."""

    def __init__(self, start_ns: int, options: PlayOptions, clock: Publisher | None) -> None:
        self._start_ns, self._rate, self._clock = start_ns, options.rate, clock
        self._tick_s = 1.0 / options.clock_hz if options.clock_hz else 0.0
        self._began_s = self._next_tick_s = time.monotonic()

    def wait_until(self, log_ns: int) -> float:
        """Sleep until it is due; returns by how many seconds it is late."""
        due_s = self._began_s + (log_ns - self._start_ns) * 1e-9 / self._rate
        while self._clock is not None and self._next_tick_s <= due_s:
            _sleep_until(self._next_tick_s)
            elapsed_s = (self._next_tick_s - self._began_s) * self._rate
            sec, nanosec = time_fields(self._start_ns + round(elapsed_s * 1e9))
            message = Clock()
            message.clock.sec, message.clock.nanosec = sec, nanosec
            self._clock.publish(message)
            self._next_tick_s += self._tick_s
        _sleep_until(due_s)
        return time.monotonic() - due_s


def _sleep_until(at_s: float) -> None:
    remaining_s = at_s - time.monotonic()
    if remaining_s > 0:
        time.sleep(remaining_s)


def _publishers(node: Node, bag: BagReader, options: PlayOptions) -> tuple[dict[str, Publisher], dict[str, str]]:
    """A publisher for each topic of the bag, and why some have none."""
    publishers: dict[str, Publisher] = {}
    skipped: dict[str, str] = {}
    for topic, type_name in bag.topics.items():
        message_type = _message_type(type_name)
        if topic == CLOCK and options.clock_hz:
            skipped[topic] = "the player tells the time itself"
        elif message_type is None:
            skipped[topic] = f"{type_name} is not installed"
        else:
            publishers[topic] = node.create_publisher(message_type, topic, _profile(topic, bag.qos(topic)))
    return publishers, skipped


def _message_type(name: str) -> type | None:
    """The class of "sensor_msgs/msg/Image"; None where its package is not installed."""
    package, _, message = name.replace("/msg/", "/").partition("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), message, None)
    except ImportError:
        return None


def _profile(topic: str, recorded: TopicQos | None) -> QoSProfile:
    """As the bag says it was offered, except that /tf_static is always latched; where it says nothing, reliable."""
    recorded = recorded or TopicQos()
    if recorded.latched or topic == "/tf_static":
        return qos.latched(depth=max(recorded.depth, 1))
    depth = max(recorded.depth, 10)
    return qos.published(depth) if recorded.reliable else qos.sensor_input(depth)


def _wait_for_subscribers(publishers: Mapping[str, Publisher], wait_s: float) -> list[str]:
    """Wait for the first subscriber, then until no more come; returns the topics that have none."""

    def unheard() -> list[str]:
        return [topic for topic, publisher in publishers.items() if not publisher.get_subscription_count()]

    give_up_s = time.monotonic() + wait_s
    settled_s = None
    silent = unheard()
    while silent and time.monotonic() < (settled_s or give_up_s):
        time.sleep(0.02)
        before, silent = silent, unheard()
        if len(silent) < len(before):
            settled_s = time.monotonic() + SETTLE_S
    return silent
