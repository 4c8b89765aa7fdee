"""Recorded drives: as they are nothing is suspicious; one city drive also tells when its calibration is made wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from seg_perception.calibration.fitting import corrected
from seg_perception.cli.main import main
from seg_perception.geometry.transforms import inverse, quat_xyzw_from_matrix
from seg_perception.importers.kitti import KittiCalibration, import_kitti
from seg_perception.importers.nuscenes import import_nuscenes


@pytest.fixture(scope="module")
def kitti(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    drive = shared_data / "kitti_drive"
    bag = tmp_path_factory.mktemp("kitti") / "drive.mcap"
    import_kitti(drive, drive / "calib", bag, timestamps=drive / "timestamps_drive_0001")
    return bag


def verdicts(bag: Path, out: Path, *options: str) -> tuple[int, set[str]]:
    code = main(["check-calibration", str(bag), "--sweeps", "4", "--out", str(out), *options])
    cameras = json.loads((out / "calibration.json").read_text())["cameras"]
    return code, {figures["verdict"] for figures in cameras.values()}


def test_city_drive_is_fine_as_it_is_and_by_its_own_files(kitti: Path, shared_data: Path, tmp_path: Path) -> None:
    assert verdicts(kitti, tmp_path / "given") == (0, {"fine"})
    calib = shared_data / "kitti_drive" / "calib"
    assert verdicts(kitti, tmp_path / "files", "--calibration", str(calib)) == (0, {"fine"})


@pytest.mark.parametrize("mistake", ["turned", "inverted"])
def test_city_drive_is_suspicious_with_a_wrong_calibration(
    kitti: Path, shared_data: Path, tmp_path: Path, mistake: str
) -> None:
    T_cam_velo = KittiCalibration.load(shared_data / "kitti_drive" / "calib").camera("02", "raw")[1]
    turned = corrected(T_cam_velo, np.array([0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
    T_velo_cam = inverse(turned) if mistake == "turned" else T_cam_velo
    calib = tmp_path / "calib.json"
    values = [*T_velo_cam[:3, 3].tolist(), *quat_xyzw_from_matrix(T_velo_cam).tolist()]
    calib.write_text(json.dumps({"results": {"T_lidar_camera": values}}))
    assert verdicts(kitti, tmp_path / "wrong", "--calibration", str(calib)) == (1, {"suspicious"})


def test_single_key_frame_is_not_called_suspicious(shared_data: Path, tmp_path: Path) -> None:
    bag = tmp_path / "keyframe.mcap"
    import_nuscenes(shared_data / "nuscenes", bag)
    code, seen = verdicts(bag, tmp_path / "out")
    assert code == 0 and "suspicious" not in seen
