"""Make the drive that comes with the package: simulate it, and leave out what nobody needs for a demonstration.

    .venv/bin/python tools/demo_drive.py    # needs Open3D; writes seg_perception/shipped/drive.mcap, settings beside it

Coordinates are rounded to 2^-8 m, so that they compress; of the truth only that of points stays, without positions.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np

from seg_perception.bags import BagReader, BagWriter
from seg_perception.config import parameters_beside
from seg_perception.datatypes import PointCloud
from seg_perception.messages.pointcloud import cloud_from_columns, decode_cloud
from seg_perception.shipped import DRIVE
from seg_perception.simulation.config import DriveConfig, LidarMount, standard_rig
from seg_perception.simulation.drive import Drive
from seg_perception.simulation.writing import POINTS_TOPIC, TRUTH_POINTS_TOPIC, write_drive

CONFIG = DriveConfig(
    seed=46,
    seconds=5.0,
    speed=8.0,
    trajectory="turning",
    cameras=standard_rig(1, (768, 384)),
    lidar=LidarMount(beams=32, columns=720),
)
GRID = 2.0**-8  # 4 mm, as fine as many sensors tell ranges apart
KEPT_TRUTH = ("class_id", "instance_id", "in_view", "visible")


def main() -> None:
    """Simulate, thin out, replace."""
    with tempfile.TemporaryDirectory() as folder:
        whole, small = Path(folder) / "drive.mcap", Path(folder) / "small.mcap"
        done = write_drive(Drive(CONFIG), whole, progress=True)
        _copy(whole, small)
        shutil.copyfile(small, DRIVE)
        shutil.copyfile(done.config, parameters_beside(DRIVE))
    print(f"{DRIVE}: {DRIVE.stat().st_size / 1e6:.1f} MB")


def _copy(source: Path, target: Path) -> None:
    with BagReader(source) as bag, BagWriter(target, compression="chunk") as writer:
        for message in bag.messages():
            if message.topic == POINTS_TOPIC:
                writer.write_cloud(message.topic, _rounded(decode_cloud(message.msg)), message.log_ns)
            elif message.topic == TRUTH_POINTS_TOPIC:
                cloud = decode_cloud(message.msg)
                columns = {name: cloud.field(name) for name in KEPT_TRUTH}
                kept = cloud_from_columns(cloud.frame_id, cloud.stamp_ns, columns)
                writer.write_cloud(message.topic, kept, message.log_ns)
            elif not message.topic.startswith("/truth/front/"):
                writer.write_raw(message.topic, message.type, message.log_ns, message.data, bag.qos(message.topic))


def _rounded(cloud: PointCloud) -> PointCloud:
    columns = {field.name: cloud.field(field.name) for field in cloud.fields}
    for axis in "xyz":
        columns[axis] = (np.round(columns[axis] / GRID) * GRID).astype(np.float32)
    columns["intensity"] = np.round(columns["intensity"] * 255.0).astype(np.float32) / np.float32(256.0)
    return cloud_from_columns(cloud.frame_id, cloud.stamp_ns, columns)


if __name__ == "__main__":
    main()
