"""The processes of `node_latency` beside the node: sensors, relay and listener.

The relay stands where the node would: the same subscriptions, executor and memory. Once a sweep and its images are
there it publishes a cloud made beforehand, as long as the node's: what is left of the way of the messages when nothing
is computed. It is a lifecycle node too, so that the two can take turns.
"""

from __future__ import annotations

import os
import select
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from latency_messages import Messages
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from tf2_msgs.msg import TFMessage

from seg_perception.config import Config
from seg_perception.messages.cdr import cloud_bytes
from seg_perception.messages.header import time_fields
from seg_perception.ros import dds, diagnostics, qos, serialized
from seg_perception.ros.taking import TakingExecutor
from seg_perception.ros.wake_latency import WakeLatency

NODE, RELAY = "perception_node", "relay"
START_S, STOP_S = 600.0, 120.0  # on a busy machine
_STAMP = "<iI"
_SETTLE_S = 1.0


def send(cameras: int, rate_hz: float) -> None:
    """The sensors. For each number on stdin: once one node listens to everything, as many sweeps, each with all its
    images, one at each tick; then a line on stdout."""
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("sensors")
    messages = Messages(cameras)
    parts = messages.serialized()
    publishers = [
        node.create_publisher(kind, topic, qos.transforms() if kind is TFMessage else qos.published(5))
        for topic, kind, _, _ in parts
    ]
    node.create_publisher(TFMessage, "/tf_static", qos.static_transforms()).publish(messages.static)
    for line in sys.stdin:
        while any(publisher.get_subscription_count() != 1 for publisher in publishers):
            time.sleep(0.05)
        time.sleep(_SETTLE_S)
        odometry_from_ns = time.time_ns() - 200_000_000
        for number in range(-1, int(line)):
            start_s = time.monotonic()
            stamp = time_fields(odometry_from_ns if number < 0 else time.time_ns())
            for publisher, (_, kind, content, at) in zip(publishers, parts, strict=True):
                if number < 0 and kind is not TFMessage:
                    continue
                struct.pack_into(_STAMP, content, at, *stamp)
                serialized.publish(publisher, content)
            time.sleep(max(0.0, start_s + 1.0 / rate_hz - time.monotonic()))
        time.sleep(_SETTLE_S)
        print("sent", flush=True)
    rclpy.shutdown()


class Relay(LifecycleNode):
    """While active: takes what the node takes, and answers each sweep of which everything has come."""

    def __init__(self, cameras: int, wake_latency_us: int) -> None:
        super().__init__(RELAY)
        self._cameras, self._wake_latency_us = cameras, wake_latency_us
        self._answer = np.frombuffer(bytearray(cloud_bytes(Messages(1).answer)), np.uint8)
        self._came: Counter[bytes] = Counter()  # by stamp
        self._active = ExitStack()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._points = self.create_lifecycle_publisher(PointCloud2, "~/points", qos.output())
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._active.enter_context(WakeLatency(self._wake_latency_us))
        queues = Config().pairing
        self._subscribe(TFMessage, "/tf_static", qos.static_transforms())
        self._subscribe(TFMessage, "/tf", qos.transforms())
        for k in range(self._cameras):
            self._subscribe(CameraInfo, f"/camera_{k}/camera_info", qos.sensor_input(queues.image_queue))
            self._subscribe(Image, f"/camera_{k}/image_raw", qos.sensor_input(queues.image_queue), self._take)
        self._subscribe(PointCloud2, "/points", qos.sensor_input(queues.sweep_queue), self._take)
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._active.close()
        return super().on_deactivate(state)

    def _subscribe(self, kind: type, topic: str, profile: Any, take: Callable[[Any], None] | None = None) -> None:
        receive = take or (lambda msg: None)
        subscription = self.create_subscription(kind, topic, receive, profile, raw=True)
        self._active.callback(self.destroy_subscription, subscription)

    def _take(self, content: Any) -> None:
        stamp = bytes(content[4:12])
        self._came[stamp] += 1
        if self._came[stamp] == self._cameras + 1:
            self._came.clear()
            self._answer[4:12] = np.frombuffer(stamp, np.uint8)
            serialized.publish(self._points, self._answer)


def relay(cameras: int, wake_latency_us: int) -> None:
    """Until SIGINT, which is raised."""
    dds.prepare()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    executor = TakingExecutor()
    executor.add_node(Relay(cameras, wake_latency_us))
    while True:
        executor.spin_once(timeout_sec=0.1)


class Listener:
    """Receives clouds as bytes, and the node's own timings; tells node and relay when it is their turn."""

    def __init__(self) -> None:
        rclpy.init()
        self.node = rclpy.create_node("listener")
        self._executor = TakingExecutor()
        self._executor.add_node(self.node)
        self.latency_ms: list[float] = []
        self.summary: dict[str, Any] = {}  # the node's last one
        for name in (NODE, RELAY):
            self.node.create_subscription(PointCloud2, f"/{name}/points", self._cloud, qos.published(5), raw=True)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnostics, qos.published(5))
        self._clients = {name: self.node.create_client(ChangeState, f"/{name}/change_state") for name in (NODE, RELAY)}

    def change(self, name: str, transition: int, process: subprocess.Popen[Any]) -> None:
        """Put a node through a transition. process: in which it lives, or should. Raises SystemExit where it does not
        get there."""
        client, give_up_s = self._clients[name], time.monotonic() + START_S
        while not client.service_is_ready():
            self._spin_while(process, give_up_s)
        answer = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
        while not answer.done():
            self._spin_while(process, give_up_s)
        if not answer.result().success:
            raise SystemExit(f"/{name} refuses transition {transition}")

    def hear(self, sensors: subprocess.Popen[str], sweeps: int) -> list[float]:
        """The latencies, milliseconds, of the clouds that come of so many sweeps."""
        self.latency_ms.clear()
        assert sensors.stdin and sensors.stdout
        sensors.stdin.write(f"{sweeps}\n")
        sensors.stdin.flush()
        give_up_s = time.monotonic() + START_S
        while not select.select([sensors.stdout], [], [], 0.0)[0]:
            self._spin_while(sensors, give_up_s)
        sensors.stdout.readline()
        return list(self.latency_ms)

    def _spin_while(self, process: subprocess.Popen[Any], give_up_s: float) -> None:
        """Take in one message, or wait a little."""
        if process.poll() is not None or time.monotonic() > give_up_s:
            raise SystemExit(f"{process.args}: ended, or did nothing for {START_S:g} s")
        self._executor.spin_once(timeout_sec=0.05)

    def _cloud(self, data: Any) -> None:
        sec, nanosec = struct.unpack_from(_STAMP, data, 4)
        self.latency_ms.append((time.time_ns() - sec * 10**9 - nanosec) * 1e-6)

    def _diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith(f": {diagnostics.SUMMARY}"):
                self.summary = diagnostics.unflatten(status.values)

    def close(self) -> None:
        """Let go of the node and of ROS."""
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown()


def cpu_s(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
