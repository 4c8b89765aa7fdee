"""A labelled drive of three sweeps: a pole that stands at (10, 2) of odom, a car that drives ahead of the vehicle."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from seg_perception.bags import BagWriter
from seg_perception.datatypes import UNKNOWN
from seg_perception.labels import Taxonomy
from seg_perception.messages.camera_info import CameraInfoRecord
from seg_perception.messages.header import header_fields
from seg_perception.messages.pointcloud import cloud_from_columns
from seg_perception.messages.transforms import StampedTransform

ROAD, POLE, CAR = 0, 5, 13
MS = 1_000_000
T0 = 1_700_000_000_000 * MS
STEP_M = 1.0  # of vehicle and car, from sweep to sweep
SWEEPS = 3
CITYSCAPES = Taxonomy.load("cityscapes")
WIDTH, HEIGHT = 64, 48
_IN_LIDAR = np.array([[10.0, 2.0, 0.5], [6.0, -1.0, 0.0], [-5.0, 0.0, 0.0]], np.float32)  # pole, car, unknown
_NO_BYTES = np.zeros(0, np.uint8)


def stamp(sweep: int) -> int:
    return T0 + sweep * 100 * MS


def write_bag(path: Path, odometry: bool = True, positions: bool = True) -> Path:
    """odometry: whether /tf leads to odom. positions: whether the labelled clouds have them, or only /points."""
    topic = "/perception_node/points" if positions else "/truth/points"
    with BagWriter(path) as writer:
        T_base_camera = np.array([[0, 0, 1, 1], [-1, 0, 0, 0], [0, -1, 0, 1], [0, 0, 0, 1]], float)
        writer.write_tf(
            "/tf_static",
            [
                StampedTransform("base_link", "lidar", T0, np.eye(4)),
                StampedTransform("base_link", "front_optical", T0, T_base_camera),
            ],
        )
        for k in range(SWEEPS):
            T = np.eye(4)
            T[0, 3] = k * STEP_M
            if odometry:
                writer.write_tf("/tf", [StampedTransform("odom", "base_link", stamp(k), T)])
            xyz = _IN_LIDAR - np.array([k * STEP_M, 0, 0], np.float32) * (np.arange(3)[:, None] == 0)
            columns = dict(zip("xyz", xyz.T, strict=True))
            labels = {
                "class_id": np.array([POLE, CAR, UNKNOWN], np.uint8),
                "probability": np.array([0.9, 0.6, 0.0], np.float32),
                "instance_id": np.array([0, 7, 0], np.uint16),
            }
            writer.write_cloud("/points", cloud_from_columns("lidar", stamp(k), columns))
            labelled = columns | labels if positions else labels
            writer.write_cloud(topic, cloud_from_columns("lidar", stamp(k), labelled), stamp(k) + 50 * MS)
            boxes = "/perception_node/objects/markers" if positions else "/truth/boxes"
            cube = marker("lidar", stamp(k), "car", 7, (6.0, -1.0, 0.5), (4.0, 2.0, 1.5))
            writer.write(boxes, "visualization_msgs/msg/MarkerArray", {"markers": [cube]}, stamp(k) + 60 * MS)
            record = CameraInfoRecord(
                "front_optical", stamp(k), WIDTH, HEIGHT, "plumb_bob", (0.0,) * 5,
                (50.0, 0.0, 32.0, 0.0, 50.0, 24.0, 0.0, 0.0, 1.0), tuple(np.eye(3).reshape(-1)), (0.0,) * 12,
            )  # fmt: skip
            writer.write_camera_info("/front/camera_info", record)
            writer.write_image(
                "/front/image_raw", stamp(k), "front_optical", np.full((HEIGHT, WIDTH, 3), 90 + k, np.uint8)
            )
            label_image = np.full((HEIGHT, WIDTH), ROAD, np.uint8)
            writer.write_image("/perception_node/front/label_image", stamp(k), "front_optical", label_image, "mono8")
        if odometry:  # long after the last sweep
            writer.write_tf("/tf", [StampedTransform("odom", "base_link", T0 + 3000 * MS, np.eye(4))])
        voxels = {
            "x": np.array([10.0, 11.0], np.float32), "y": np.zeros(2, np.float32), "z": np.zeros(2, np.float32),
            "probability": np.ones(2, np.float32), "weight": np.ones(2, np.float32),
            "class_id": np.array([ROAD, POLE], np.uint8),
        }  # fmt: skip
        frame = "odom" if odometry else "lidar"
        writer.write_cloud("/perception_node/map", cloud_from_columns(frame, stamp(1), voxels))
    return path


def marker(frame: str, stamp_ns: int, ns: str, number: int, place: tuple, size: tuple) -> dict:
    """A visualization_msgs/Marker: an upright cube."""
    return {
        "header": header_fields(stamp_ns, frame),
        "ns": ns,
        "id": number,
        "type": 1,
        "action": 0,
        "pose": {
            "position": dict(zip("xyz", place, strict=True)),
            "orientation": {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0},
        },
        "scale": dict(zip("xyz", size, strict=True)),
        "color": {"r": 0.0, "g": 0.0, "b": 0.5, "a": 0.5},
        "lifetime": {"sec": 0, "nanosec": 0},
        "frame_locked": False,
        "points": [],
        "colors": [],
        "texture_resource": "",
        "texture": {"header": header_fields(0, ""), "format": "", "data": _NO_BYTES},
        "uv_coordinates": [],
        "text": "",
        "mesh_resource": "",
        "mesh_file": {"filename": "", "data": _NO_BYTES},
        "mesh_use_embedded_materials": False,
    }
