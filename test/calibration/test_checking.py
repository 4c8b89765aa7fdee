"""The verdict, through a bag, of calibrations that are right and wrong in known ways."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from calibration import street

from seg_perception.bags import BagReader
from seg_perception.calibration.checking import Check, check
from seg_perception.calibration.fitting import corrected
from seg_perception.calibration.gathering import CameraShots, gather
from seg_perception.calibration.pictures import camera_picture
from seg_perception.cli.main import main
from seg_perception.config import Config, parameters_beside
from seg_perception.geometry.transforms import inverse, quat_xyzw_from_matrix


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return street.write_bag(tmp_path_factory.mktemp("street") / "right.mcap")


@pytest.fixture(scope="module")
def front(bag: Path) -> CameraShots:
    return shots_of(bag)


def shots_of(bag: Path) -> CameraShots:
    with BagReader(bag) as reader:
        found, missing = gather(reader, Config.load(parameters_beside(bag)), 5)
    assert not missing
    return found["front"]


def test_a_calibration_file_counts_in_place_of_what_the_bag_tells(bag: Path, tmp_path: Path) -> None:
    lens = {"camera_matrix": [400.0, 0, 300, 0, 400, 200, 0, 0, 1], "distortion_coefficients": [0.0] * 5}
    lens |= {"rectification_matrix": np.eye(3).ravel().tolist(), "projection_matrix": [0.0] * 12}
    content = {key: {"data": data} for key, data in lens.items()}
    content |= {"image_width": street.WIDTH, "image_height": street.HEIGHT, "distortion_model": "plumb_bob"}
    (tmp_path / "front.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    config = Config.load(parameters_beside(bag))
    camera = dataclasses.replace(config.cameras[0], calibration=str(tmp_path / "front.yaml"), info_topic="/nothing")
    with BagReader(bag) as reader:
        found, _ = gather(reader, dataclasses.replace(config, cameras=(camera,)), 1)
    assert found["front"].model.K[0, 0] == 400.0


def told(front: CameraShots, T_cam_lidar: np.ndarray) -> Check:
    """As if the bag had told another calibration."""
    mounting = {("lidar", "front_optical"): inverse(T_cam_lidar)}
    return check(dataclasses.replace(front, T_cam_lidar=T_cam_lidar, mounting=mounting), {})


def test_right_calibration_is_fine(front: CameraShots) -> None:
    done = told(front, street.T_CAM_LIDAR)
    assert done.verdict == "fine", done.sentences
    assert done.fit is not None
    assert np.all(np.abs(done.fit.theta[:3]) < 0.15) and abs(done.fit.theta[6]) < 0.01


@pytest.mark.parametrize(
    ("turn", "word"),
    [
        ((1.0, 0.0, 0.0), "turned up"),  # told to look lower than it does: points are drawn too high
        ((0.0, -1.0, 0.0), "turned left"),
        ((0.0, 0.0, 2.0), "rolled clockwise"),
    ],
)
def test_turned_camera_is_suspicious_and_the_turn_is_named(
    front: CameraShots, turn: tuple[float, ...], word: str
) -> None:
    done = told(front, corrected(street.T_CAM_LIDAR, np.array([*turn, 0.0, 0.0, 0.0, 0.0])))
    assert done.verdict == "suspicious"
    assert done.fit is not None
    np.testing.assert_allclose(done.fit.theta[:3], [-value for value in turn], atol=0.25)
    assert word in " ".join(done.sentences)


def test_inverted_transform_is_named(front: CameraShots) -> None:
    done = told(front, inverse(street.T_CAM_LIDAR))
    assert done.verdict == "suspicious"
    assert "inverted" in done.sentences[1]
    np.testing.assert_allclose(done.T_cam_lidar, street.T_CAM_LIDAR, atol=1e-9)


def test_body_axes_in_place_of_optical_ones_are_named(front: CameraShots) -> None:
    T_body_optical = np.eye(4)
    T_body_optical[:3, :3] = street.OPTICAL.T
    done = told(front, T_body_optical @ street.T_CAM_LIDAR)
    assert done.verdict == "suspicious"
    assert "axes of a body" in done.sentences[1]


def test_calibration_of_another_camera_is_named(front: CameraShots) -> None:
    away = np.eye(4)
    away[:3, :3] = [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]
    wrong = dataclasses.replace(front, T_cam_lidar=away @ street.T_CAM_LIDAR, mounting={})
    done = check(wrong, {"front": street.T_CAM_LIDAR})
    assert "that of camera 'front'" in done.sentences[1]


def test_late_pictures_are_told_in_milliseconds(tmp_path: Path) -> None:
    late = shots_of(street.write_bag(tmp_path / "late.mcap", late_s=0.05))
    done = check(late, {})
    assert done.verdict == "suspicious"
    assert done.fit is not None
    assert done.fit.theta[6] == pytest.approx(0.05, abs=0.015)
    assert "offset_ms" in " ".join(done.sentences)


def test_the_picture_shows_a_time_offset_taken_out(tmp_path: Path) -> None:
    """In the second frame, where the first is shown again as it fits best."""
    done = check(shots_of(street.write_bag(tmp_path / "late.mcap", late_s=0.08)), {})
    assert done.fit is not None and done.verdict == "suspicious"
    without = dataclasses.replace(done.fit, theta=np.append(done.fit.theta[:6], 0.0))
    fits, still_late = (camera_picture(dataclasses.replace(done, fit=fit)) for fit in (done.fit, without))
    height = fits.shape[1] * street.HEIGHT // street.WIDTH  # of a frame
    differ = (fits != still_late).any(axis=(1, 2))
    assert differ[height : 2 * height].mean() > 0.1
    assert not differ[:height].any() and not differ[2 * height :].any()


def test_a_bag_whose_poses_begin_with_its_sensors_still_tells_the_time_offset(tmp_path: Path) -> None:
    shots = shots_of(street.write_bag(tmp_path / "late.mcap", late_s=0.05, tf_from_s=-0.03))
    assert len(shots.shots) == street.SWEEPS - 1 and shots.timed
    assert "offset_ms" in " ".join(check(shots, {}).sentences)


def test_where_poses_are_known_around_few_pictures_all_are_looked_at(tmp_path: Path) -> None:
    shots = shots_of(street.write_bag(tmp_path / "few.mcap", tf_from_s=0.7))
    assert len(shots.shots) == street.SWEEPS and not shots.timed


def test_sweeps_without_points_are_no_fault_of_the_calibration(front: CameraShots) -> None:
    none = np.zeros((0, 3))
    shots = [dataclasses.replace(s, sweep=dataclasses.replace(s.sweep, middle=none, beyond=none)) for s in front.shots]
    done = check(dataclasses.replace(front, shots=shots, pairs=[shot.pair(front.model) for shot in shots]), {})
    assert done.verdict == "unclear"
    assert "0 silhouettes in the sweeps" in done.sentences[0]


def test_a_file_that_says_nothing_of_the_camera_is_refused_and_not_passed_over(
    bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = tmp_path / "sensor_kit_calibration.yaml"
    pose = "{x: 0.1, y: 0.5, z: -0.3, roll: 0.0, pitch: 0.3, yaw: 1.0}"
    kit.write_text(f"sensor_kit_base_link:\n  camera0/camera_link: {pose}\n  velodyne_top_base_link: {pose}\n")
    assert main(["check-calibration", str(bag), "--calibration", str(kit), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "camera 'front': a transform between 'front_optical' and 'lidar' wanted" in said
    assert "sensor_kit_base_link -> camera0/camera_link" in said


def test_picture_without_content_is_unclear_or_suspicious_but_never_fine(front: CameraShots) -> None:
    blank = [
        dataclasses.replace(shot, image=dataclasses.replace(shot.image, pixels=np.full_like(shot.image.pixels, 128)))
        for shot in front.shots
    ]
    pairs = [shot.pair(front.model) for shot in blank]
    assert check(dataclasses.replace(front, shots=blank, pairs=pairs), {}).verdict != "fine"


def test_command_writes_picture_figures_and_exit_code(bag: Path, tmp_path: Path) -> None:
    assert main(["check-calibration", str(bag), "--out", str(tmp_path / "right")]) == 0
    assert (tmp_path / "right" / "front.jpg").stat().st_size > 10_000
    figures = json.loads((tmp_path / "right" / "calibration.json").read_text())["cameras"]["front"]
    assert figures["verdict"] == "fine" and figures["pairs"] == 5


def test_a_camera_that_sees_none_of_the_points_is_drawn_and_told(bag: Path, tmp_path: Path) -> None:
    """As where an optical frame has the axes of a body: the camera looks into the sky."""
    up = corrected(street.T_CAM_LIDAR, np.array([90.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
    values = [*inverse(up)[:3, 3].tolist(), *quat_xyzw_from_matrix(inverse(up)).tolist()]
    calib = tmp_path / "calib.json"
    calib.write_text(json.dumps({"results": {"T_lidar_camera": values}}))
    assert main(["check-calibration", str(bag), "--calibration", str(calib), "--out", str(tmp_path / "up")]) == 1
    assert (tmp_path / "up" / "front.jpg").stat().st_size > 10_000


def test_file_takes_the_place_of_tf_static(bag: Path, tmp_path: Path) -> None:
    wrong = inverse(corrected(street.T_CAM_LIDAR, np.array([0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0])))
    values = [*wrong[:3, 3].tolist(), *quat_xyzw_from_matrix(wrong).tolist()]
    calib = tmp_path / "calib.json"
    calib.write_text(json.dumps({"results": {"T_lidar_camera": values}}))
    assert main(["check-calibration", str(bag), "--calibration", str(calib), "--out", str(tmp_path / "wrong")]) == 1
