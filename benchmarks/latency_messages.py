"""What the sensors of `node_latency` send: images, a sweep, odometry, of which nothing changes but the stamps."""

from __future__ import annotations

from typing import Any

import numpy as np
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo
from tf2_msgs.msg import TFMessage

from seg_perception.geometry.transforms import quat_xyzw_from_matrix
from seg_perception.messages.header import time_fields
from seg_perception.messages.pointcloud import cloud_from_columns
from seg_perception.ros import conversions

WIDTH, HEIGHT = 1920, 1200
POINTS = 130_000
K = [1000.0, 0.0, 959.5, 0.0, 1000.0, 599.5, 0.0, 0.0, 1.0]
OPTICAL = np.array([[0, 0, 1, 0.5], [-1, 0, 0, 0], [0, -1, 0, -0.4], [0, 0, 0, 1.0]])


class Messages:
    """One sweep's worth of messages, made once and stamped anew each time."""

    def __init__(self, cameras: int) -> None:
        rng = np.random.default_rng(0)
        regions = rng.integers(0, 255, (HEIGHT // 240, WIDTH // 240, 3), np.uint8)
        pixels = regions.repeat(240, axis=0).repeat(240, axis=1)  # with labels of regions, not of noise
        self.images = [conversions.image(pixels, "rgb8", f"camera_{k}", 1) for k in range(cameras)]
        self.infos = [self._info(f"camera_{k}") for k in range(cameras)]
        points = self._sweep(rng)
        labels = {"rgb": np.float32, "probability": np.float32, "instance_id": np.uint16, "class_id": np.uint8}
        more = {name: np.zeros(POINTS, kind) for name, kind in {**labels, "padding": np.uint8}.items()}
        self.cloud = conversions.point_cloud(cloud_from_columns("lidar", 1, points))
        self.answer = cloud_from_columns("lidar", 1, points | more)  # as long as the node's
        self.odometry = TFMessage(transforms=[self._transform("odom", "base_link", np.eye(4))])
        placed = [("base_link", "lidar", np.eye(4))]
        placed += [("lidar", f"camera_{k}", _turned(2 * np.pi * k / cameras) @ OPTICAL) for k in range(cameras)]
        self.static = TFMessage(transforms=[self._transform(*edge) for edge in placed])

    def stamp(self, stamp_ns: int) -> None:
        """Put this stamp on all but the static transforms."""
        stamped = [*self.images, *self.infos, self.cloud, *self.odometry.transforms]
        for message in stamped:
            message.header.stamp.sec, message.header.stamp.nanosec = time_fields(stamp_ns)

    def serialized(self) -> list[tuple[str, type, NDArray[np.uint8], int]]:
        """In the order in which they are sent: topic, type, bytes, and where in them the stamp lies."""
        at = {TFMessage: 8}  # behind the number of transforms
        sent = [("/tf", self.odometry)]
        sent += [(f"/camera_{k}/camera_info", info) for k, info in enumerate(self.infos)]
        sent += [(f"/camera_{k}/image_raw", image) for k, image in enumerate(self.images)]
        return [
            (
                topic,
                type(message),
                np.frombuffer(bytearray(serialize_message(message)), np.uint8),
                at.get(type(message), 4),
            )
            for topic, message in (*sent, ("/points", self.cloud))
        ]

    @staticmethod
    def _sweep(rng: np.random.Generator) -> dict[str, NDArray]:
        """Of 64 beams; walls that come nearer and recede, and poles before them."""
        steps = -(-POINTS // 64)
        azimuth = np.repeat(np.linspace(-np.pi, np.pi, steps, endpoint=False), 64)[:POINTS]
        elevation = np.tile(np.radians(np.linspace(-24.0, 6.0, 64)), steps)[:POINTS]
        beside = np.where(np.degrees(azimuth) % 8.0 < 0.6, 7.0, 20.0 + 15.0 * np.sin(8.0 * azimuth))
        distance = np.minimum(1.8 / np.maximum(np.sin(-elevation), 0.02), beside)
        distance += rng.normal(0.0, 0.02, POINTS)
        flat = distance * np.cos(elevation)
        columns = {"x": flat * np.cos(azimuth), "y": flat * np.sin(azimuth), "z": distance * np.sin(elevation)}
        columns |= {"intensity": distance, "time": np.linspace(-0.1, 0.0, POINTS), "ambient": distance}
        fields = {name: values.astype(np.float32) for name, values in columns.items()}
        fields |= {"ring": np.zeros(POINTS, np.uint32), "noise": np.zeros(POINTS, np.uint32)}
        return fields

    @staticmethod
    def _info(frame_id: str) -> CameraInfo:
        info = CameraInfo(width=WIDTH, height=HEIGHT, distortion_model="plumb_bob", k=K, d=[-0.1, 0.02, 0.0, 0.0, 0.0])
        info.header.frame_id = frame_id
        return info

    @staticmethod
    def _transform(parent: str, child: str, T_parent_child: np.ndarray) -> Any:
        message = TransformStamped(child_frame_id=child)
        message.header.frame_id = parent
        translation, rotation = message.transform.translation, message.transform.rotation
        translation.x, translation.y, translation.z = T_parent_child[:3, 3].tolist()
        rotation.x, rotation.y, rotation.z, rotation.w = quat_xyzw_from_matrix(T_parent_child).tolist()
        return message


def _turned(yaw: float) -> np.ndarray:
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
