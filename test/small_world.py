"""A small world for tests: one camera looking ahead, a LiDAR above it, and a network that knows left from right."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from seg_perception.config import Config
from seg_perception.datatypes import CameraImage, LidarScan
from seg_perception.geometry.camera import CameraModel
from seg_perception.geometry.transform_tree import TransformTree
from seg_perception.inference.contract import Alignment, ModelContract
from seg_perception.inference.segmenter import LabelSegmentation
from seg_perception.messages.pointcloud import cloud_from_columns, scan_from_cloud

WIDTH, HEIGHT = 200, 100
ROAD, CAR = 0, 13
T0 = 1_000_000_000_000
MS = 1_000_000
K = np.array([[100.0, 0.0, 99.5], [0.0, 100.0, 49.5], [0.0, 0.0, 1.0]])
SCENE_OFF = {part: {"enabled": False} for part in ("objects", "voxel_map", "bev")}
T_LIDAR_CAMERA = np.array([[0, 0, 1, 0.3], [-1, 0, 0, 0], [0, -1, 0, -0.2], [0, 0, 0, 1]], float)


class LeftRightSegmenter:
    """The left half of every image is road, the right half car; counts how often it was asked."""

    def __init__(self, num_classes: int = 19) -> None:
        self.calls = 0
        self.contract = ModelContract(
            taxonomy="cityscapes",
            num_classes=num_classes,
            output="labels",
            network_size=(WIDTH, HEIGHT),
            output_size=(WIDTH, HEIGHT),
            network_alignment=Alignment(),
            alignment_assumed=False,
            image_size=None,
            channel_order="rgb",
            layout="NHWC",
            mean=(0.0, 0.0, 0.0),
            scale=(1.0, 1.0, 1.0),
            source_name="left-right",
            source_sha256="",
            created_by="test",
        )

    def segment(self, pixels: np.ndarray) -> LabelSegmentation:
        self.calls += 1
        height, width = pixels.shape[:2]
        labels = np.full((height, width), ROAD, np.uint8)
        labels[:, width // 2 :] = CAR
        return LabelSegmentation(labels, None, Alignment(), (width, height))

    @property
    def backend(self) -> str:
        return "left-right"

    heeds = frozenset({"threads"})

    def close(self) -> None:
        pass


def config(**settings: object) -> Config:
    """Without the scene, which needs odometry, unless the settings switch a part of it on."""
    return Config.from_mapping({"cameras": ["front"], **SCENE_OFF, **settings})


def tree() -> TransformTree:
    """LiDAR and camera mounted on a vehicle; no odometry."""
    result = TransformTree()
    result.insert("base_link", "lidar", 0, np.eye(4), static=True)
    result.insert("lidar", "front_optical", 0, T_LIDAR_CAMERA, static=True)
    return result


def camera() -> CameraModel:
    return CameraModel(WIDTH, HEIGHT, K)


def image(stamp_ns: int = T0, name: str = "front", frame_id: str = "front_optical", width: int = WIDTH) -> CameraImage:
    return CameraImage(name, frame_id, stamp_ns, np.zeros((HEIGHT, width, 3), np.uint8))


def points() -> np.ndarray:
    """(4, 3) in the LiDAR's frame: ahead to the left, ahead to the right, behind, and one without a return."""
    return np.array([[10.0, 3.0, 0.0], [10.0, -3.0, 0.0], [-10.0, 0.0, 0.0], [np.nan, np.nan, np.nan]], np.float32)


def scan(stamp_ns: int = T0, xyz: np.ndarray | None = None) -> LidarScan:
    xyz = points() if xyz is None else xyz
    columns = {"x": xyz[:, 0], "y": xyz[:, 1], "z": xyz[:, 2], "intensity": np.arange(len(xyz), dtype=np.float32)}
    return scan_from_cloud(cloud_from_columns("lidar", stamp_ns, columns))[0]


def message(**fields: object) -> SimpleNamespace:
    """An object with the fields of a message, as every decoder reads them."""
    return SimpleNamespace(**fields)


def header(stamp_ns: int, frame_id: str) -> SimpleNamespace:
    sec, nanosec = divmod(stamp_ns, 10**9)
    return message(stamp=message(sec=sec, nanosec=nanosec), frame_id=frame_id)
