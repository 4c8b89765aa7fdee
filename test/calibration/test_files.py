"""Extrinsics of other tools' files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from seg_perception.calibration.files import read_extrinsics
from seg_perception.errors import CalibrationError
from seg_perception.geometry.transforms import from_quat_translation, inverse


def test_koide3_is_the_camera_in_the_lidar_frame(tmp_path: Path) -> None:
    path = tmp_path / "calib.json"
    path.write_text(json.dumps({"results": {"T_lidar_camera": [0.1, 0.2, 0.3, -0.5, 0.5, -0.5, 0.5]}}))
    edges = read_extrinsics(path, "front", "front_optical", "lidar")
    T = edges["lidar", "front_optical"]
    np.testing.assert_allclose(T @ [0.0, 0.0, 2.0, 1.0], [2.1, 0.2, 0.3, 1.0], atol=1e-12)


def test_autoware_pose_turns_about_fixed_axes_roll_first_and_gets_its_optical_frame(tmp_path: Path) -> None:
    path = tmp_path / "sensor_kit_calibration.yaml"
    path.write_text(
        "sensor_kit_base_link:\n"
        "  camera0/camera_link: {x: 1.0, y: 0.0, z: 0.5, roll: 0.0, pitch: 0.0, yaw: 1.5707963267948966}\n"
        "  velodyne_top_base_link: {x: 0.0, y: 0.0, z: 0.0, roll: 0.1, pitch: 0.2, yaw: 0.3}\n"
    )
    edges = read_extrinsics(path, "camera0", "camera0/camera_optical_link", "velodyne_top")
    T = (
        edges["sensor_kit_base_link", "camera0/camera_link"]
        @ edges["camera0/camera_link", "camera0/camera_optical_link"]
    )
    np.testing.assert_allclose(T @ [0.0, 0.0, 2.0, 1.0], [1.0, 2.0, 0.5, 1.0], atol=1e-12)
    quat = [0.0342708, 0.1060205, 0.1435722, 0.9833474]  # of roll 0.1, pitch 0.2, yaw 0.3, by tf_transformations
    np.testing.assert_allclose(
        edges["sensor_kit_base_link", "velodyne_top_base_link"], from_quat_translation(quat, np.zeros(3)), atol=1e-6
    )


def test_both_kinds_of_kitti_files_give_the_same_transform(shared_data: Path) -> None:
    calib = shared_data / "kitti_drive" / "calib"
    raw = read_extrinsics(calib, "camera_02", "camera_02_optical", "velodyne")
    one = read_extrinsics(calib / "rectified_projection_example.txt", "camera_02", "camera_02_optical", "velodyne")
    edge = ("velodyne", "camera_02_optical")
    assert np.degrees(np.linalg.norm((inverse(raw[edge]) @ one[edge])[:3, :3] - np.eye(3))) < 1.0
    assert np.linalg.norm(raw[edge][:3, 3] - one[edge][:3, 3]) < 0.1


def test_kittis_files_for_tracking_and_odometry_say_the_same(shared_data: Path, tmp_path: Path) -> None:
    """Rows of the one have no colons; those of the other go to the rectified camera 0 at once."""
    objects = shared_data / "kitti_drive" / "calib" / "rectified_projection_example.txt"
    rows = dict(line.split(": ", 1) for line in objects.read_text().splitlines() if ": " in line)
    projections = "".join(f"P{k}: {rows[f'P{k}']}\n" for k in range(4))
    tracking, odometry = tmp_path / "0000.txt", tmp_path / "calib.txt"
    tracking.write_text(f"{projections}R_rect {rows['R0_rect']}\nTr_velo_cam {rows['Tr_velo_to_cam']}\n")
    R0_rect = np.array(rows["R0_rect"].split(), float).reshape(3, 3)
    Tr = R0_rect @ np.array(rows["Tr_velo_to_cam"].split(), float).reshape(3, 4)
    odometry.write_text(f"{projections}Tr: {' '.join(map(str, Tr.ravel()))}\n")
    edge = ("velodyne", "camera_02_optical")
    wanted, *others = (
        read_extrinsics(path, "camera_02", edge[1], edge[0])[edge] for path in (objects, tracking, odometry)
    )
    for T in others:
        np.testing.assert_allclose(T, wanted, atol=1e-6)


EYE = "1 0 0 0 1 0 0 0 1"


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("calib.json", "{}", "T_lidar_camera"),
        ("calib.json", '{"results": {"init_T_lidar_camera": [0, 0, 0, 0, 0, 0, 1]}}', "run `calibrate` first"),
        ("calib.json", '{"results": {"T_lidar_camera": [0, 0, 0, 0, 0, 0, 0]}}', "unit quaternion"),
        ("kit.yaml", "a: {b: {x: 1}}", "none in it"),
        ("kit.yaml", "a: {b: {x: 1, y: 2, z: 3, roll: 0, pitch: no, yaw: up}}", "six numbers"),
        ("calib.txt", "P2: 1 2 3", "12 finite numbers"),
        (
            "calib.txt",
            f"P2: {'0 ' * 12}\nR0_rect: {EYE}\nTr_velo_to_cam: 1 0 0 0 0 1 0 0 0 0 1 0",
            "a projection wanted",
        ),
        ("calib.xml", "", "wanted"),
    ],
)
def test_file_that_does_not_hold_a_calibration_is_refused_by_name(
    tmp_path: Path, name: str, content: str, wanted: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(CalibrationError, match=wanted) as refused:
        read_extrinsics(path, "camera_2", "front_optical", "lidar")
    assert name in str(refused.value)
