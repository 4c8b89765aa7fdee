"""Sweeps laid onto each other say how the LiDAR moved, or are refused."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from seg_perception.errors import MessageError
from seg_perception.geometry.transforms import inverse, transform_points
from seg_perception.importers import lidar_odometry
from seg_perception.importers.kitti import import_kitti
from seg_perception.importers.lidar_odometry import poses_from_sweeps
from seg_perception.importers.twist import exp_se3, log_se3

pytestmark = pytest.mark.open3d

STEP = exp_se3(np.array([0.8, 0.0, 0.0, 0.0, 0.0, np.radians(1.5)]))
GROUND = ([-40, -40, -1.7], [80, 0, 0], [0, 80, 0])
RIGHT_WALL = ([-40, -8, -1.7], [80, 0, 0], [0, 0, 6])
LEFT_WALL = ([-40, 9, -1.7], [80, 0, 0], [0, 0, 6])
FRONT_WALL = ([30, -8, -1.7], [0, 17, 0], [0, 0, 6])
BACK_WALL = ([-12, 2, -1.7], [0, 7, 0], [0, 0, 3])


def seen(surfaces: list, T_world_lidar: NDArray, rng: np.random.Generator, count: int = 4000) -> NDArray[np.float32]:
    """Points anew on each surface (corner and two sides), 1 cm of noise, in the LiDAR's frame."""
    points = np.concatenate([
        np.array(corner) + rng.random((count, 1)) * [first] + rng.random((count, 1)) * [second]
        for corner, first, second in surfaces
    ])  # fmt: skip
    points += rng.normal(0.0, 0.01, points.shape)
    return transform_points(inverse(T_world_lidar), points).astype(np.float32)


def test_a_street_tells_how_the_lidar_moved() -> None:
    rng = np.random.default_rng(1)
    truth = [np.linalg.matrix_power(STEP, k) for k in range(6)]
    street = [GROUND, RIGHT_WALL, LEFT_WALL, FRONT_WALL, BACK_WALL]
    lorry = ([6, 3, -1], [0, 2.5, 0], [0, 0, 3])  # drives ahead at our speed
    sweeps = [
        np.concatenate([seen(street, T, rng), seen([lorry], np.eye(4), rng, 500), np.full((3, 3), np.nan, np.float32)])
        for T in truth
    ]
    poses = poses_from_sweeps(sweeps)
    assert np.array_equal(poses[0], np.eye(4))
    for pose, T in zip(poses, truth, strict=True):
        error = log_se3(inverse(T) @ pose)
        assert np.linalg.norm(error[:3]) < 0.02 and np.degrees(np.linalg.norm(error[3:])) < 0.05


def test_planes_face_the_lidar_so_that_those_of_several_sweeps_can_be_averaged() -> None:
    import open3d

    cloud = lidar_odometry._with_planes(
        open3d, seen([GROUND, RIGHT_WALL, LEFT_WALL], STEP, np.random.default_rng(4)), 0
    )
    assert (np.sum(np.asarray(cloud.points) * np.asarray(cloud.normals), axis=1) <= 0).all()


def test_a_tunnel_does_not_tell_how_far_one_came() -> None:
    rng = np.random.default_rng(2)
    tunnel = [GROUND, RIGHT_WALL, LEFT_WALL]
    with pytest.raises(MessageError, match=r"sweep 1 tells how far it moved along \((-?1\.00), -?0\.0"):
        poses_from_sweeps(seen(tunnel, np.linalg.matrix_power(STEP, k), rng) for k in range(2))


def test_a_sweep_from_elsewhere_is_refused() -> None:
    rng = np.random.default_rng(3)
    street = [GROUND, RIGHT_WALL, LEFT_WALL, FRONT_WALL, BACK_WALL]
    elsewhere = [([-40, 20, -1.7], [60, 50, 0], [0, 0, 9]), ([10, 20, -9], [-50, 50, 0], [0, 0, 9])]
    with pytest.raises(MessageError, match=r"sweep 1 does not fit onto those before it: \d+%"):
        poses_from_sweeps([seen(street, np.eye(4), rng), seen(elsewhere, np.eye(4), rng)])
    with pytest.raises(MessageError, match=r"sweep 0 has points in 0 cells"):
        poses_from_sweeps([np.zeros((5, 3), np.float32)])


def test_the_real_drive_rolls_on_as_its_camera_sees_it(shared_data, tmp_path, replay) -> None:
    """From pictures and LiDAR depth, by optical flow and PnP, nine steps come to 2.17 m ahead."""
    drive = shared_data / "kitti_drive"
    stamps = drive / "timestamps_drive_0001"
    content = replay(
        import_kitti(drive, drive / "calib", tmp_path / "drive.mcap", timestamps=stamps, odometry="sweeps")
    )
    first, last = content.sweeps[0].stamp_ns, content.sweeps[-1].stamp_ns
    moved = inverse(content.tree.T("odom", "velodyne", first)) @ content.tree.T("odom", "velodyne", last)
    assert moved[:3, 3] == pytest.approx([2.17, 0.0, 0.03], abs=0.05)
    for image in content.images["camera_02"]:  # the last is taken after the last sweep's stamp
        assert content.tree.T("odom", "base_link", image.stamp_ns)[0, 3] < 2.3
