"""Reading an imported bag back as the node would: by its parameter file, through decoders, transform tree and lens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from seg_perception.bags import BagReader
from seg_perception.config import Config
from seg_perception.datatypes import CameraImage, LidarScan
from seg_perception.geometry.camera import CameraModel
from seg_perception.geometry.transform_tree import TransformTree
from seg_perception.geometry.transforms import transform_points
from seg_perception.importers.recording import Imported
from seg_perception.messages.camera_info import CameraInfoRecord, camera_model, decode_camera_info
from seg_perception.messages.image import decode
from seg_perception.messages.pointcloud import decode_scan
from seg_perception.messages.transforms import insert_tf


@dataclass
class Replayed:
    """What a bag holds, decoded. Images and CameraInfos by camera; log_ns by topic."""

    config: Config
    tree: TransformTree = field(default_factory=lambda: TransformTree(cache_ns=None))
    images: dict[str, list[CameraImage]] = field(default_factory=dict)
    infos: dict[str, list[CameraInfoRecord]] = field(default_factory=dict)
    sweeps: list[LidarScan] = field(default_factory=list)
    data: dict[str, list[bytes]] = field(default_factory=dict)
    log_ns: dict[str, list[int]] = field(default_factory=dict)

    def model(self, camera: str) -> CameraModel:
        """The lens, chosen as the parameter file says."""
        (settings,) = [entry for entry in self.config.cameras if entry.name == camera]
        return camera_model(self.infos[camera][0], rectified=settings.rectified, image_size=self.images[camera][0].size)

    def project(self, camera: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """uv (N, 2) of the first sweep in the first picture, and which are in view."""
        image, sweep = self.images[camera][0], self.sweeps[0]
        fixed = self.config.motion.fixed_frame
        if fixed in self.tree.frames():
            T = self.tree.T_fixed(image.frame_id, image.stamp_ns, sweep.frame_id, sweep.stamp_ns, fixed)
        else:
            T = self.tree.T(image.frame_id, sweep.frame_id, sweep.stamp_ns)
        uv, _ = self.model(camera).project(transform_points(T, sweep.points))
        return uv, self.model(camera).in_view(uv)


@pytest.fixture(scope="session")
def replay() -> Callable[[Imported], Replayed]:
    """Reads an import back."""
    return _replay


def _replay(imported: Imported) -> Replayed:
    content = Replayed(Config.load(imported.config))
    images = {camera.resolved_image_topic(): camera.name for camera in content.config.cameras}
    infos = {camera.resolved_info_topic(): camera.name for camera in content.config.cameras}
    with BagReader(imported.bag) as bag:
        for message in bag.messages():
            content.log_ns.setdefault(message.topic, []).append(message.log_ns)
            if message.topic in images:
                camera = images[message.topic]
                content.data.setdefault(camera, []).append(bytes(message.msg.data))
                content.images.setdefault(camera, []).append(decode(message.msg, camera))
            elif message.topic in infos:
                content.infos.setdefault(infos[message.topic], []).append(decode_camera_info(message.msg))
            elif message.topic == content.config.lidar.topic:
                content.sweeps.append(decode_scan(message.msg)[0])
            else:
                assert message.topic in ("/tf", "/tf_static")
                _, errors = insert_tf(content.tree, message.msg, static=message.topic == "/tf_static")
                assert not errors
    return content


def formula(P: NDArray, T_cam_lidar: NDArray, points: NDArray) -> tuple[NDArray, NDArray]:
    """uv (N, 2) of points (N, 3) by u ~ P T X, spelled out; and w, which is the depth."""
    w = np.column_stack([points.astype(np.float64), np.ones(len(points))]) @ (P @ T_cam_lidar).T
    return w[:, :2] / w[:, 2:], w[:, 2]


@pytest.fixture(scope="session")
def pinhole() -> Callable[[NDArray, NDArray, NDArray], tuple[NDArray, NDArray]]:
    """The textbook's projection, for comparison."""
    return formula


@pytest.fixture
def tiny_drive(tmp_path: Path) -> Path:
    """A KITTI drive of three frames, 24 x 16 pixels, with its calibration in `calib`."""
    return _tiny_drive(tmp_path / "drive")


def _tiny_drive(drive: Path) -> Path:
    import cv2

    rng = np.random.default_rng(7)
    for sensor in ("image_02", "velodyne_points"):
        (drive / sensor / "data").mkdir(parents=True)
    for frame in range(3):
        picture = rng.integers(0, 256, (16, 24, 3), np.uint8)
        cv2.imwrite(str(drive / "image_02" / "data" / f"{frame:010d}.png"), picture)
        sweep = rng.uniform([5, -3, -1, 0], [20, 3, 1, 1], (50, 4)).astype("<f4")
        sweep.tofile(drive / "velodyne_points" / "data" / f"{frame:010d}.bin")
    for sensor, name, millisecond in [
        ("image_02", "timestamps", 60),
        ("velodyne_points", "timestamps", 50),
        ("velodyne_points", "timestamps_end", 100),
    ]:
        rows = [f"2011-09-26 13:02:{25 + frame}.{millisecond:03d}000007\n" for frame in range(4)]
        (drive / sensor / f"{name}.txt").write_text("".join(rows))
    calib = drive / "calib"
    calib.mkdir()
    (calib / "calib_imu_to_velo.txt").write_text("calib_time: x\nR: 1 0 0 0 1 0 0 0 1\nT: -0.8 0.3 -0.8\n")
    (calib / "calib_velo_to_cam.txt").write_text("R: 0 -1 0 0 0 -1 1 0 0\nT: 0 -0.08 -0.27\n")
    (calib / "calib_cam_to_cam.txt").write_text(
        "S_rect_02: 2.4e+01 1.6e+01\n"
        "R_rect_00: 1 0 0 0 0.8 -0.6 0 0.6 0.8\n"
        "P_rect_02: 20 0 12 4.5 0 20 8 0.2 0 0 1 0.003\n"
    )
    return drive
