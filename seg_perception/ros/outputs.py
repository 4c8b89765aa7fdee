"""The node's publishers: the semantic cloud always, pictures only while somebody looks at them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from rclpy.lifecycle import LifecycleNode
from rclpy.lifecycle.publisher import LifecyclePublisher
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image, PointCloud2
from vision_msgs.msg import LabelInfo

from seg_perception.config import Config
from seg_perception.drawing import overlay
from seg_perception.labels import Taxonomy
from seg_perception.messages.pointcloud import encode_semantic_cloud
from seg_perception.pipeline import SweepResult
from seg_perception.ros import conversions, qos
from seg_perception.statistics import StageTimer


class Outputs:
    """Publishers, there while in the `with` block. `publish` runs in the worker's thread."""

    def __init__(self, node: LifecycleNode, config: Config, taxonomy: Taxonomy) -> None:
        self._node, self._config, self._taxonomy = node, config, taxonomy
        self._offsets_ns = {camera.name: round(camera.offset_ms * 1e6) for camera in config.cameras}
        self._stack = ExitStack()

    def __enter__(self) -> Outputs:
        cameras = [camera.name for camera in self._config.cameras]
        self._points = self._publisher(PointCloud2, "~/points", qos.output())
        self._pictures = {
            name: {key: self._publisher(Image, f"~/{name}/{key}", qos.output()) for key in ("label_image", "overlay")}
            for name in cameras
        }
        self._infos = {name: self._publisher(LabelInfo, f"~/{name}/label_info", qos.latched()) for name in cameras}
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def publish_label_info(self, stamp_ns: int) -> None:
        """Say what the class ids mean, for whoever listens now or later."""
        for publisher in self._infos.values():
            publisher.publish(conversions.label_info(self._taxonomy, stamp_ns))

    def publish(self, result: SweepResult) -> dict[str, float]:
        """The semantic cloud under the sweep's own header, and each picture that somebody has subscribed to.

        Returns the seconds that "publish" took, and "draw" where there was something to draw.
        """
        timer = StageTimer()
        with timer.stage("publish"):
            cloud = encode_semantic_cloud(result.cloud, self._taxonomy.colors)
            self._points.publish(conversions.point_cloud(cloud))
        for name in result.segmentations:
            watched = {key: pub for key, pub in self._pictures[name].items() if pub.get_subscription_count()}
            if watched:
                with timer.stage("draw"):
                    self._draw(result, name, watched)
        return timer.seconds

    def _draw(self, result: SweepResult, name: str, watched: Mapping[str, LifecyclePublisher]) -> None:
        picture = result.images[name]
        frame_id, stamp_ns = picture.frame_id, picture.stamp_ns - self._offsets_ns[name]  # as the camera stamped it
        label_image = result.segmentations[name].label_image()
        if "label_image" in watched:
            watched["label_image"].publish(conversions.image(label_image, "mono8", frame_id, stamp_ns))
        if "overlay" in watched:
            drawn = overlay(picture.pixels, label_image, self._taxonomy.colors, self._config.output.overlay_alpha)
            watched["overlay"].publish(conversions.image(drawn, "rgb8", frame_id, stamp_ns))

    def _publisher(self, message_type: type, topic: str, profile: QoSProfile) -> LifecyclePublisher:
        publisher = self._node.create_lifecycle_publisher(
            message_type, topic, profile, qos_overriding_options=qos.overridable()
        )
        self._stack.callback(self._node.destroy_lifecycle_publisher, publisher)
        return publisher
