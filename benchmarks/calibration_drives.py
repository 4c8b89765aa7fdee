"""Simulated drives to check calibrations on, as bags: a pair of sweep and pictures now and then, kept on disk.

Each drive is a street of its own with traffic, driven through at 10 m/s in turns. A camera looks ahead and another to
the left, exposed at the instant at which the LiDAR looks ahead.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from seg_perception.bags import BagWriter
from seg_perception.config import parameter_file, parameters_beside
from seg_perception.messages.camera_info import record_of
from seg_perception.messages.image import compressed_fields
from seg_perception.messages.pointcloud import cloud_from_columns
from seg_perception.messages.transforms import StampedTransform
from seg_perception.simulation.config import CameraMount, DriveConfig, LidarMount, looking, standard_rig
from seg_perception.simulation.drive import Drive
from seg_perception.simulation.writing import (
    BASE_FRAME,
    FIXED_FRAME,
    LIDAR_FRAME,
    POINTS_TOPIC,
    image_topic,
    stamp_of,
)

KEPT = Path("bench_out/calibration_drives")
SIZE = 1280, 640
FIELD_OF_VIEW_DEG = 80.0
DISTANCE = 0.9  # metres from the LiDAR to each camera
SPEED = 10.0
PAIRS, EVERY = 12, 6  # how many sweeps, one of so many
_POSE_RATE = 100.0


def drive_bag(seed: int) -> Path:
    """The bag of one drive, simulated where it is not on disk yet; its settings lie beside it."""
    bag = KEPT / f"drive_{seed}.mcap"
    if not bag.is_file():
        KEPT.mkdir(parents=True, exist_ok=True)
        _write(bag, Drive(_config(seed)))
    return bag


def _config(seed: int) -> DriveConfig:
    lidar = LidarMount()
    ahead = standard_rig(1, SIZE, field_of_view_deg=FIELD_OF_VIEW_DEG, distance=DISTANCE, lidar=lidar)[0]
    x, y, z = lidar.T_base_lidar[:3, 3]
    out, down = DISTANCE * (1.0 - 0.35**2) ** 0.5, DISTANCE * 0.35
    left = replace(ahead, name="left", T_base_cam=looking(90.0, 2.0, (x, y + out, z - down)))
    seconds = (PAIRS * EVERY + 1) / lidar.rate_hz
    return DriveConfig(seed=seed, seconds=seconds, speed=SPEED, cameras=(ahead, left), lidar=lidar)


def _write(bag: Path, drive: Drive) -> None:
    mounts = drive.config.cameras
    edges = [StampedTransform(BASE_FRAME, LIDAR_FRAME, stamp_of(0.0), drive.config.lidar.T_base_lidar)]
    edges += [StampedTransform(BASE_FRAME, mount.frame_id, stamp_of(0.0), mount.T_base_cam) for mount in mounts]
    with BagWriter(bag, compression="chunk") as writer:
        writer.write_tf("/tf_static", edges)
        for instant in np.arange(0.0, drive.config.seconds + 0.5, 1.0 / _POSE_RATE):
            pose = StampedTransform(FIXED_FRAME, BASE_FRAME, stamp_of(instant), drive.T_world_base(instant))
            writer.write_tf("/tf", [pose])
        for index in tqdm(range(EVERY // 2, PAIRS * EVERY, EVERY), desc=bag.stem, unit="pair"):
            for camera, mount in enumerate(mounts):
                _write_frame(writer, drive, camera, mount, index)
            sweep = drive.sweep(index)
            x, y, z = sweep.points.T
            columns = {"x": x, "y": y, "z": z, "intensity": sweep.intensity, "ring": sweep.ring}
            columns["time"] = (sweep.times - sweep.time).astype(np.float32)
            writer.write_cloud(POINTS_TOPIC, cloud_from_columns(LIDAR_FRAME, stamp_of(sweep.time), columns))
    cameras = {
        mount.name: {"image_topic": image_topic(mount, "jpeg"), "info_topic": _info_topic(mount),
                     "transport": "compressed"}
        for mount in mounts
    }  # fmt: skip
    parameters_beside(bag).write_text(parameter_file(cameras, POINTS_TOPIC, FIXED_FRAME), encoding="utf-8")


def _write_frame(writer: BagWriter, drive: Drive, camera: int, mount: CameraMount, index: int) -> None:
    frame = drive.frame(camera, index)
    stamp_ns = stamp_of(frame.time)
    jpeg = compressed_fields(frame.pixels, "jpeg", 92)
    writer.write_camera_info(_info_topic(mount), record_of(mount.model, mount.frame_id, stamp_ns))
    writer.write_compressed(image_topic(mount, "jpeg"), stamp_ns, mount.frame_id, jpeg["data"], jpeg["format"])


def _info_topic(mount: CameraMount) -> str:
    return f"/{mount.name}/camera_info"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seeds", type=int, nargs="+")
    for seed in parser.parse_args().seeds:
        drive_bag(seed)
