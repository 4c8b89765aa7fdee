"""Simulated sweeps with the pictures of four cameras around the vehicle and the truth of every point and pixel, kept on
disk: drawing a picture takes seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from seg_perception.datatypes import CameraImage, LidarScan
from seg_perception.evaluation.points import PointTruth
from seg_perception.geometry.transform_tree import TransformTree
from seg_perception.messages.pointcloud import cloud_from_columns, scan_from_cloud
from seg_perception.simulation.config import CameraMount, DriveConfig, LidarMount, standard_rig
from seg_perception.simulation.drive import Drive
from seg_perception.simulation.truth import sight
from seg_perception.simulation.writing import stamp_of

KEPT = Path("bench_out/pictured_drives")
SEEDS = (201, 202, 203)  # no training draws its streets from these
SIZE, CAMERAS, EXPOSED_S = (1024, 512), 4, 0.05
FIELD_OF_VIEW_DEG = 100.0  # the widest that trainings see; neighbours overlap by 10 degrees
EVERY = 5  # sweeps, ten a second, from one that is looked at to the next
_POSES_S, _REACH_S = 0.01, 0.2  # of the poses around a sweep


@dataclass(frozen=True, slots=True, eq=False)
class PicturedSweep:
    """One sweep. images: as the cameras draw them. labels, instances: (H, W) of each, by name. truth: of the points.
    T_world_lidar: (4, 4) at the stamp. T_world_box: (B, 4, 4), size: (B, 3) of all things.
    """

    config: DriveConfig
    scan: LidarScan
    images: dict[str, CameraImage]
    labels: dict[str, NDArray[np.uint8]]
    instances: dict[str, NDArray[np.uint16]]
    tree: TransformTree
    truth: PointTruth
    T_world_lidar: NDArray[np.float64]
    T_world_box: NDArray[np.float64]
    size: NDArray[np.float64]

    @property
    def cameras(self) -> tuple[CameraMount, ...]:
        return self.config.cameras


def drive_of(seed: int, count: int) -> DriveConfig:
    """A drive in turns long enough for `count` sweeps."""
    rig = standard_rig(CAMERAS, SIZE, field_of_view_deg=FIELD_OF_VIEW_DEG, offset_ms=1e3 * EXPOSED_S)
    seconds = 0.1 * EVERY * count + 1.0
    return DriveConfig(seed=seed, seconds=seconds, speed=8.0, cameras=rig, lidar=LidarMount())


def pictured_sweeps(seed: int, count: int) -> Iterator[PicturedSweep]:
    """Sweeps of one drive, half a second apart, drawn where they are not on disk yet."""
    config = drive_of(seed, count)
    drive: Drive | None = None
    for k in tqdm(range(count), desc=f"drive {seed}", unit="sweep", disable=None):
        path = KEPT / f"{seed}_{count}" / f"{k:03d}.npz"
        if not path.is_file():
            drive = drive or Drive(config)
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial.npz")
            np.savez_compressed(partial, **_draw(drive, EVERY * (k + 1)))
            partial.rename(path)
        with np.load(path) as kept:
            yield _loaded(config, {name: kept[name] for name in kept.files})


def _draw(drive: Drive, index: int) -> dict[str, NDArray]:
    sweep = drive.sweep(index)
    exposed = sweep.time + EXPOSED_S
    times = np.arange(sweep.time - _REACH_S, sweep.time + _REACH_S, _POSES_S)
    seen = [sight(drive.world, sweep, camera, exposed) for camera in drive.cameras]
    boxes = drive.boxes(sweep.time)
    kept = {
        "stamp_ns": np.array([stamp_of(sweep.time), stamp_of(exposed)]),
        "points": sweep.points,
        "stamps_ns": np.array([stamp_of(at) for at in sweep.times]),
        "class_id": sweep.class_id,
        "instance_id": sweep.instance.astype(np.int64),
        "in_view": np.any([s.in_view for s in seen], axis=0),
        "visible": np.any([s.visible for s in seen], axis=0),
        "pose_ns": np.array([stamp_of(at) for at in times]),
        "poses": drive.T_world_base(times),
        "T_world_lidar": drive.T_world_base(sweep.time) @ drive.config.lidar.T_base_lidar,
        "T_world_box": np.array([box.T_world_box for box in boxes]).reshape(-1, 4, 4),
        "size": np.array([box.size for box in boxes]).reshape(-1, 3),
    }
    for number, camera in enumerate(drive.cameras):
        frame = camera.expose(exposed, np.random.default_rng((index, number)))
        kept |= {
            f"pixels{number}": frame.pixels,
            f"labels{number}": frame.labels,
            f"instances{number}": frame.instances,
        }
    return kept


def _loaded(config: DriveConfig, kept: dict[str, NDArray]) -> PicturedSweep:
    stamp_ns, exposed_ns = kept["stamp_ns"].tolist()
    tree = TransformTree(cache_ns=None)
    for pose_ns, T in zip(kept["pose_ns"].tolist(), kept["poses"], strict=True):
        tree.insert("odom", "base_link", pose_ns, T)
    tree.insert("base_link", "lidar", 0, config.lidar.T_base_lidar, static=True)
    images, labels, instances = {}, {}, {}
    for number, mount in enumerate(config.cameras):
        tree.insert("base_link", mount.frame_id, 0, mount.T_base_cam, static=True)
        images[mount.name] = CameraImage(mount.name, mount.frame_id, exposed_ns, kept[f"pixels{number}"])
        labels[mount.name], instances[mount.name] = kept[f"labels{number}"], kept[f"instances{number}"]
    columns = {name: kept["points"][:, axis] for axis, name in enumerate("xyz")}
    scan = scan_from_cloud(cloud_from_columns("lidar", stamp_ns, columns))[0]
    truth = PointTruth(stamp_ns, *(kept[name] for name in ("class_id", "instance_id", "in_view", "visible")))
    scan = replace(scan, stamps_ns=kept["stamps_ns"])
    places = (kept[name] for name in ("T_world_lidar", "T_world_box", "size"))
    return PicturedSweep(config, scan, images, labels, instances, tree, truth, *places)
