"""One camera's pictures: label, confidence and overlay images, raw and compressed, each only while somebody watches."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from rclpy.lifecycle.publisher import LifecyclePublisher
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import LabelInfo

from seg_perception.config import OutputConfig
from seg_perception.datatypes import CameraImage
from seg_perception.drawing import confidence_image, overlay
from seg_perception.inference.segmenter import Segmentation
from seg_perception.labels import Taxonomy
from seg_perception.ros import conversions, qos

KINDS = {"label_image": ("mono8", "png"), "confidence": ("mono8", "png"), "overlay": ("rgb8", "jpeg")}
"""Topic → encoding of the raw picture, and what it is compressed to. Labels have to come back exactly."""

MakePublisher = Callable[[type, str, QoSProfile], LifecyclePublisher]


class Pictures:
    """The topics below `~/<camera>/`. make: creates a publisher of a message type on a topic with a QoS."""

    def __init__(self, camera: str, offset_ms: float, taxonomy: Taxonomy, make: MakePublisher) -> None:
        self._offset_ns = round(offset_ms * 1e6)
        self._taxonomy = taxonomy
        self._raw = {kind: make(Image, f"~/{camera}/{kind}", qos.output()) for kind in KINDS}
        self._compressed = {
            kind: make(CompressedImage, f"~/{camera}/{kind}/compressed", qos.output()) for kind in KINDS
        }
        self._info = make(LabelInfo, f"~/{camera}/label_info", qos.latched())

    def publish_label_info(self, stamp_ns: int) -> None:
        """Say what the class ids mean, for whoever listens now or later."""
        self._info.publish(conversions.label_info(self._taxonomy, stamp_ns))

    @property
    def watched(self) -> bool:
        """Whether anybody subscribes to any of them."""
        return any(
            publisher.get_subscription_count() for publisher in (*self._raw.values(), *self._compressed.values())
        )

    def publish(self, image: CameraImage, segmentation: Segmentation, config: OutputConfig) -> None:
        """Draw and publish what somebody has subscribed to, under the camera's own stamp."""
        stamp_ns = image.stamp_ns - self._offset_ns
        label_image = cache(segmentation.label_image)  # made at most once, whoever needs it
        for kind, (encoding, compression) in KINDS.items():
            raw, compressed = self._raw[kind], self._compressed[kind]
            wants_raw, wants_compressed = raw.get_subscription_count(), compressed.get_subscription_count()
            if not wants_raw and not wants_compressed:
                continue
            if kind == "overlay":
                drawn = overlay(image.pixels, label_image(), self._taxonomy.colors, config.overlay_alpha)
            else:
                drawn = label_image() if kind == "label_image" else confidence_image(segmentation)
            if wants_raw:
                raw.publish(conversions.image(drawn, encoding, image.frame_id, stamp_ns))
            if wants_compressed:
                compressed.publish(
                    conversions.compressed_image(drawn, compression, config.jpeg_quality, image.frame_id, stamp_ns)
                )
