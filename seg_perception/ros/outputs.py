"""The node's publishers; everything costly is made only while somebody subscribes to it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

import numpy as np
from rclpy.lifecycle import LifecycleNode
from rclpy.lifecycle.publisher import LifecyclePublisher
from rclpy.qos import QoSProfile
from sensor_msgs.msg import PointCloud2
from vision_msgs.msg import LabelInfo

from seg_perception.config import Config
from seg_perception.datatypes import SemanticCloud
from seg_perception.errors import ConfigError
from seg_perception.intake import Picture
from seg_perception.labels import Taxonomy, class_groups
from seg_perception.messages.cdr import CloudBuffer, cloud_bytes
from seg_perception.messages.pointcloud import encode_semantic_cloud
from seg_perception.offline import points_topic
from seg_perception.pipeline import SweepResult
from seg_perception.ros import conversions, qos, serialized
from seg_perception.ros.pictures import Pictures
from seg_perception.ros.scene_outputs import SceneOutputs
from seg_perception.scene.memory import SceneMemory, SceneUpdate
from seg_perception.statistics import StageTimer


class Outputs:
    """Publishers, there while in the `with` block. `publish` runs in the worker's thread.

    taxonomy: of the clouds. of_cameras: of each camera's pictures.
    """

    def __init__(
        self, node: LifecycleNode, config: Config, taxonomy: Taxonomy, of_cameras: Mapping[str, Taxonomy]
    ) -> None:
        self._node, self._config, self._taxonomy, self._of_cameras = node, config, taxonomy, of_cameras
        self._groups = class_groups(config.output.point_groups, taxonomy)
        self._buffer = CloudBuffer()  # each is sent before the next one is written
        self._stack = ExitStack()

    def __enter__(self) -> Outputs:
        topics = {lidar: points_topic(lidar, "~") for lidar in self._config.lidar_topics()}
        self._points = {lidar: self._publisher(PointCloud2, topic, qos.output()) for lidar, topic in topics.items()}
        self._group_points = {
            (lidar, name): self._publisher(PointCloud2, f"{topic}/{name}", qos.output())
            for lidar, topic in topics.items()
            for name in self._groups
        }
        self._pictures = {
            camera.name: Pictures(camera.name, camera.offset_ms, self._of_cameras[camera.name], self._publisher)
            for camera in self._config.cameras
        }
        self._info = self._publisher(LabelInfo, "~/label_info", qos.latched())
        self._scene = SceneOutputs(self._config, self._taxonomy, self._publisher)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def reconfigure(self, config: Config) -> None:
        """Go on with these settings. Raises ConfigError for groups of other names: those are topics, which stay."""
        groups = class_groups(config.output.point_groups, self._taxonomy)
        if set(groups) != set(self._groups):
            raise ConfigError(
                f"output.point_groups: the names {sorted(self._groups)} are topics and stay until the node is cleaned "
                f"up, {sorted(groups)} seen; what a group holds may change, as name=one+another"
            )
        self._groups, self._config = groups, config
        self._scene.reconfigure(config)

    def publish_label_info(self, stamp_ns: int) -> None:
        """Say what the class ids mean, for whoever listens now or later."""
        self._info.publish(conversions.label_info(self._taxonomy, stamp_ns))
        for pictures in self._pictures.values():
            pictures.publish_label_info(stamp_ns)

    def publish(self, result: SweepResult) -> dict[str, float]:
        """The clouds that somebody has subscribed to, under the LiDAR's own header. Returns what "publish" took."""
        timer = StageTimer()
        with timer.stage("publish"):
            self._publish_points(result.cloud)
        return timer.seconds

    def show(self, picture: Picture) -> dict[str, float]:
        """The pictures that somebody has subscribed to, under the camera's own header. Returns what "draw" took,
        where there was something to draw. Raises what the segmentation raises: BackendLostError where a GPU that holds
        the class scores is lost.
        """
        timer = StageTimer()
        pictures = self._pictures[picture.image.camera]
        if pictures.watched:
            with timer.stage("draw"):
                pictures.publish(picture.image, picture.segmentation, self._config.output)
        return timer.seconds

    def _publish_points(self, semantic: SemanticCloud) -> None:
        lidar = semantic.scan.lidar
        groups = {name: table for name, table in self._groups.items() if _watched(self._group_points[lidar, name])}
        wants_all = _watched(self._points[lidar])
        if not wants_all and not groups:
            return
        cloud = encode_semantic_cloud(semantic, self._taxonomy.colors, self._buffer.points)
        if wants_all:
            serialized.publish(self._points[lidar], self._buffer.message(cloud))
        for name, table in groups.items():
            selected = cloud_bytes(cloud.select(table[semantic.class_id]))
            serialized.publish(self._group_points[lidar, name], np.frombuffer(selected, np.uint8))

    def publish_scene(self, memory: SceneMemory, update: SceneUpdate) -> dict[str, float]:
        """What of the scene is due after a sweep, and asked for."""
        return self._scene.publish(memory, update)

    def catch_up(self, memory: SceneMemory, update: SceneUpdate) -> None:
        """What of the scene is latched, for whoever has come since."""
        self._scene.catch_up(memory, update)

    def _publisher(self, message_type: type, topic: str, profile: QoSProfile) -> LifecyclePublisher:
        publisher = self._node.create_lifecycle_publisher(
            message_type, topic, profile, qos_overriding_options=qos.overridable()
        )
        self._stack.callback(self._node.destroy_lifecycle_publisher, publisher)
        return publisher


def _watched(publisher: LifecyclePublisher) -> bool:
    return publisher.get_subscription_count() > 0
