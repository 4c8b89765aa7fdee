"""The node's subscriptions: each message goes to the intake as it is, and the worker is woken."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible, qos_policy_name_from_kind
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from tf2_msgs.msg import TFMessage

from seg_perception.config import CameraConfig, Config
from seg_perception.datatypes import SweepReport
from seg_perception.errors import MessageError
from seg_perception.intake import Intake
from seg_perception.messages.cdr import Unread, read_cloud, read_header, read_image, read_transforms
from seg_perception.messages.header import time_ns
from seg_perception.ros import qos
from seg_perception.ros.diagnostics import CameraState, InputState
from seg_perception.ros.gaps import Gaps
from seg_perception.ros.problems import SilenceLog
from seg_perception.ros.worker import Worker

TF_STATIC = "/tf_static"
SERIALIZED: dict[type, Callable[[Any], Any]] = {  # read by ourselves; rclpy takes several times as long
    Image: read_image,
    PointCloud2: read_cloud,
    TFMessage: read_transforms,
    CameraInfo: read_header,
}
NAME_TRIES = 5  # reports that may pass before the name of a node is known, which comes after its publishers


class Inputs:
    """Subscribed while in the `with` block. Everything here runs in the executor's thread."""

    def __init__(self, node: Node, config: Config, intake: Intake, worker: Worker) -> None:
        self._node, self._config, self._intake, self._worker = node, config, intake, worker
        self._images_in: Counter[str] = Counter()
        self._infos_in: Counter[str] = Counter()
        self._silences = SilenceLog()
        self._heard_s: dict[str, float] = {}  # by topic, on a steady clock
        self._stamps_ahead_s: dict[str, float] = {}
        self._gaps: dict[str, Gaps] = {}
        self._mismatched: dict[str, tuple[Subscription, str, int]] = {}  # to be told of, when the name is known
        self._stack = ExitStack()
        self.topics: list[str] = []

    def __enter__(self) -> Inputs:
        pairing = self._config.pairing
        self._subscribe(TFMessage, TF_STATIC, lambda msg: self._intake.transforms(msg, True), qos.static_transforms())
        self._subscribe(TFMessage, "/tf", lambda msg: self._intake.transforms(msg, False), qos.transforms())
        for camera in self._config.cameras:
            self._subscribe_camera(camera)
        for lidar, topic in self._config.lidar_topics().items():
            self._subscribe(PointCloud2, topic, partial(self._cloud, lidar), qos.sensor_input(pairing.sweep_queue))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def watch(self) -> None:
        """Say which camera or LiDAR topic has fallen silent, and whose publishers do not match."""
        self._silences.check(self._node.count_publishers)
        for topic, gaps in self._gaps.items():
            self._tell_overwritten(topic, gaps.overwritten(self._node.count_publishers(topic)))
        for topic, (subscription, policy, asked) in list(self._mismatched.items()):
            who = ", ".join(self._mismatching(subscription))
            if who or asked == NAME_TRIES:
                del self._mismatched[topic]
                what = f"{topic}: {who or 'a publisher'} offers less than is asked for ({policy})"
                self._worker.problems(f"incompatible_qos{topic}", what)
            else:
                self._mismatched[topic] = subscription, policy, asked + 1

    def states(self) -> dict[str, InputState]:
        """When each topic was last heard, and how its stamps lie to the node's clock. /tf_static speaks once."""
        now_s = time.monotonic()
        images = {camera.name: self._real(camera.resolved_image_topic()) for camera in self._config.cameras}
        kinds = dict.fromkeys(images.values(), "image")
        kinds |= dict.fromkeys(map(self._real, self._config.lidar_topics().values()), "lidar")
        offsets_s = {images[camera.name]: camera.offset_ms * 1e-3 for camera in self._config.cameras}
        return {
            topic: InputState(
                now_s - heard_s,
                self._stamps_ahead_s.get(topic),
                kinds.get(topic, ""),
                offsets_s.get(topic, 0.0),
                self._gaps[topic].state,
            )
            for topic, heard_s in self._heard_s.items()
        }

    def camera_states(self, report: SweepReport | None) -> dict[str, CameraState]:
        """What each camera has sent, and what it gave to the sweep of this report."""
        views = report.views if report else {}
        return {
            camera.name: CameraState(
                self._images_in[camera.name],
                self._infos_in[camera.name],
                views.get(camera.name),
                camera.calibration,
            )
            for camera in self._config.cameras
        }

    def _subscribe_camera(self, camera: CameraConfig) -> None:
        def image(msg: Any) -> None:
            self._images_in[camera.name] += 1
            self._intake.image(camera.name, msg)

        known: Unread | None = None

        def info(msg: Unread) -> None:
            nonlocal known
            self._infos_in[camera.name] += 1
            if known is not None and msg.rest == known.rest:
                return
            try:
                content = deserialize_message(msg.content, CameraInfo)
            except RuntimeError as error:
                raise MessageError(f"CameraInfo of camera '{camera.name}': {error}") from None
            known = msg if self._intake.camera_info(camera.name, content) else None

        depth = self._config.pairing.image_queue
        image_type = CompressedImage if camera.transport == "compressed" else Image
        if not camera.calibration:
            self._subscribe(CameraInfo, camera.resolved_info_topic(), info, qos.sensor_input(depth))
        self._subscribe(image_type, camera.resolved_image_topic(), image, qos.sensor_input(depth))

    def _cloud(self, lidar: str, msg: PointCloud2) -> None:
        now_s = time.monotonic()
        self._worker.sweep_arrived(lidar, time_ns(msg.header.stamp), now_s)
        self._intake.cloud(msg, now_s, lidar)

    def _real(self, topic: str) -> str:
        """Its name with those remappings that the node was started with: that by which the graph and people know it."""
        return self._node.resolve_topic_name(topic)

    def _subscribe(self, message_type: type, name: str, take: Callable[[Any], None], profile: QoSProfile) -> None:
        topic = self._real(name)
        gaps = self._gaps[topic] = Gaps()
        read = SERIALIZED.get(message_type)

        def with_info(msg: Any, info: Mapping[str, Any]) -> None:
            gaps.took(info.get("publication_sequence_number"))
            take_in(msg)

        def without_info(msg: Any) -> None:
            gaps.took(None)
            take_in(msg)

        def take_in(msg: Any) -> None:
            self._silences.heard(topic)
            try:
                with self._intake.telling.refusing():
                    content = read(msg) if read else msg
                    if name != TF_STATIC:
                        self._note(topic, content)
                    take(content)
            except Exception as error:  # the intake refuses what it foresees; the node outlives the rest too
                self._worker.bug(f"{message_type.__name__} on {topic}", error)
            self._worker.wake()

        def lost(event: Any) -> None:
            count, cause = event.total_count_change, f"lost_in_transport{topic}"
            gaps.lost(count)
            self._intake.statistics.count(cause, count)
            self._worker.problems(
                cause, f"{topic}: {count} messages did not arrive; see docs/interfaces.md on large messages"
            )

        def incompatible(event: Any) -> None:
            self._intake.statistics.count(f"incompatible_qos{topic}", event.total_count_change)
            self._mismatched[topic] = subscription, qos_policy_name_from_kind(event.last_policy_kind), 0

        # Humble tells of the message alone; elsewhere the kind of callback decides, which rclpy's own hints leave out.
        receive: Any = with_info if hasattr(Subscription, "CallbackType") else without_info
        subscription = self._node.create_subscription(
            message_type,
            name,
            receive,
            profile,
            event_callbacks=SubscriptionEventCallbacks(message_lost=lost, incompatible_qos=incompatible),
            qos_overriding_options=qos.overridable(),
            raw=read is not None,
        )
        self._stack.callback(self._node.destroy_subscription, subscription)
        self.topics.append(subscription.topic_name)
        if message_type is not TFMessage:
            self._silences.expect(topic)
        if name != TF_STATIC:
            self._heard_s[topic] = time.monotonic()

    def _tell_overwritten(self, topic: str, count: int) -> None:
        if count:
            cause = f"overwritten_unread{topic}"
            self._intake.statistics.count(cause, count)
            self._worker.problems(
                cause, f"{topic}: newer messages came before {count} were taken in; too little processor time is left"
            )

    def _mismatching(self, subscription: Subscription) -> list[str]:
        """The nodes whose publishers do not match, as far as their names are known by now."""
        asked = subscription.qos_profile
        return sorted(
            f"{info.node_namespace.rstrip('/')}/{info.node_name}"
            for info in self._node.get_publishers_info_by_topic(subscription.topic_name)
            if qos_check_compatible(info.qos_profile, asked)[0] == QoSCompatibility.ERROR
            and "UNKNOWN" not in info.node_name
        )

    def _note(self, topic: str, msg: Any) -> None:
        self._heard_s[topic] = time.monotonic()
        header = getattr(msg, "header", None)
        if header is not None:
            ahead_ns = time_ns(header.stamp) - self._node.get_clock().now().nanoseconds
            self._stamps_ahead_s[topic] = ahead_ns * 1e-9
