"""A picture, a PCD and a calibration become a bag that projects as OpenCV does."""

from __future__ import annotations

import json
import logging

import cv2
import numpy as np
import pytest

from seg_perception.errors import CalibrationError, ConfigError, MessageError
from seg_perception.importers.calibration import nearest_rigid
from seg_perception.importers.pcd_pair import DEFAULT_STAMP_NS, import_pcd_pair, parse_stamp, read_calibration

K = np.array([[30.0, 0, 20], [0, 31, 15], [0, 0, 1]])
D = [-0.1, 0.05, 0.001, -0.002]
T_CAM_LIDAR = np.array([[0.0, -1, 0, 0.1], [0, 0, -1, -0.2], [1, 0, 0, -0.3], [0, 0, 0, 1]])


def words(values) -> str:
    return " ".join(str(value) for value in np.ravel(values).tolist())


@pytest.fixture
def pair(tmp_path):
    """Paths of a picture, an ascii PCD and a calibration text."""
    points = np.random.default_rng(3).uniform([2, -2, -1], [9, 2, 1], (40, 3)).astype(np.float32)
    rows = "".join(f"{x} {y} {z} 7\n" for x, y, z in points.tolist())
    (tmp_path / "cloud.pcd").write_text(
        "VERSION 0.7\nFIELDS x y z intensity\nSIZE 4 4 4 4\nTYPE F F F F\nCOUNT 1 1 1 1\n"
        f"WIDTH 40\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS 40\nDATA ascii\n{rows}"
    )
    cv2.imwrite(str(tmp_path / "picture.png"), np.full((30, 40, 3), 90, np.uint8))
    (tmp_path / "calib.txt").write_text(f"K: {words(K)}\nD: {words(D)}\nT: {words(T_CAM_LIDAR[:3])}\n")
    return {"image": tmp_path / "picture.png", "cloud": tmp_path / "cloud.pcd", "calib": tmp_path / "calib.txt"}


def as_json(folder, size=(40, 30)):
    """The same calibration as a JSON pair."""
    intrinsic, extrinsic = folder / "in.json", folder / "ex.json"
    param = {
        "img_dist_w": size[0],
        "img_dist_h": size[1],
        "cam_K": {"data": K.tolist()},
        "cam_dist": {"data": [D]},
    }
    intrinsic.write_text(json.dumps({"camera": {"param": param}}))
    extrinsic.write_text(json.dumps({"lidar-to-camera": {"param": {"sensor_calib": {"data": T_CAM_LIDAR.tolist()}}}}))
    return {"calib": intrinsic, "extrinsic": extrinsic}


def opencv_uv(points, T_cam_lidar, K, D):
    rvec, _ = cv2.Rodrigues(T_cam_lidar[:3, :3])
    uv, _ = cv2.projectPoints(points.astype(np.float64), rvec, T_cam_lidar[:3, 3], K, np.asarray(D))
    return uv[:, 0]


def test_points_are_projected_through_the_lens_as_opencv_does(pair, tmp_path, replay):
    content = replay(import_pcd_pair(**pair, out=tmp_path / "out.mcap"))
    uv, seen = content.project("camera")
    expected = opencv_uv(content.sweeps[0].points, T_CAM_LIDAR, K, D)
    assert seen.any()
    np.testing.assert_allclose(uv[seen], expected[seen], atol=1e-9)


def test_text_and_json_say_the_same(pair, tmp_path):
    text = read_calibration(pair["calib"], None, (40, 30))
    pair_of_json = as_json(tmp_path)
    for a, b in zip(text, read_calibration(pair_of_json["calib"], pair_of_json["extrinsic"], (40, 30)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", ["v2_ours1", "manual"])
def test_real_frames_agree_with_opencv(shared_data, tmp_path, replay, kind):
    folder = shared_data / "pjlab" / kind
    if kind == "manual":
        files = {
            "image": folder / "0.png",
            "cloud": folder / "0.pcd",
            "calib": folder / "center_camera-intrinsic.json",
            "extrinsic": folder / "top_center_lidar-to-center_camera-extrinsic.json",
        }
    else:
        files = {"image": folder / "calib.jpg", "cloud": folder / "calib.pcd", "calib": folder / "calib.txt"}
    content = replay(import_pcd_pair(**files, out=tmp_path / "out.mcap", transport="jpeg"))
    uv, seen = content.project("camera")
    assert content.images["camera"][0].size == (1920, 1200)
    assert seen.sum() > 5_000
    K, D, T_cam_lidar = read_calibration(files["calib"], files.get("extrinsic"), (1920, 1200))
    expected = opencv_uv(content.sweeps[0].points[seen], nearest_rigid(T_cam_lidar, "T"), K, D)
    assert np.abs(uv[seen] - expected).max() < 1e-3
    straight = opencv_uv(content.sweeps[0].points[seen], T_cam_lidar, K, np.zeros(4))
    assert np.linalg.norm(straight - expected, axis=1).max() > 10  # the lens is worth its trouble


def test_real_sweep_keeps_ring_and_the_time_of_each_point(shared_data, tmp_path, replay):
    folder = shared_data / "pjlab" / "v2_ours1"
    done = import_pcd_pair(
        folder / "calib.jpg", folder / "calib.pcd", folder / "calib.txt", tmp_path / "out.mcap", transport="jpeg"
    )
    content = replay(done)
    sweep = content.sweeps[0]
    assert [field.name for field in sweep.cloud.fields] == ["x", "y", "z", "intensity", "ring", "timestamp"]
    assert sweep.cloud.field("ring").max() == 63
    assert sweep.stamps_ns is not None
    assert abs(int(sweep.stamps_ns.min()) - sweep.stamp_ns) < 1000
    assert 0.09e9 < sweep.stamps_ns.max() - sweep.stamps_ns.min() < 0.11e9
    assert content.log_ns["/lidar/points"][0] - sweep.stamp_ns == pytest.approx(0.0998e9, abs=1e5)
    assert content.images["camera"][0].stamp_ns == sweep.stamp_ns
    assert content.data["camera"][0] == (folder / "calib.jpg").read_bytes()


def test_picture_is_believed_where_the_calibration_names_another_size(pair, tmp_path, replay, caplog):
    with caplog.at_level(logging.WARNING):
        done = import_pcd_pair(pair["image"], pair["cloud"], out=tmp_path / "out.mcap", **as_json(tmp_path, (40, 27)))
    assert "is for 40 x 27 pixels, the picture has 40 x 30" in caplog.text
    assert replay(done).infos["camera"][0].height == 30


def test_without_any_time_the_stamp_is_a_fixed_one(pair, tmp_path, replay):
    content = replay(import_pcd_pair(**pair, out=tmp_path / "out.mcap"))
    assert content.sweeps[0].stamp_ns == content.images["camera"][0].stamp_ns == DEFAULT_STAMP_NS


def test_given_stamp_is_the_pictures_and_of_a_sweep_without_times(pair, tmp_path, replay):
    content = replay(import_pcd_pair(**pair, out=tmp_path / "out.mcap", stamp_ns=5_000_000_001))
    assert content.sweeps[0].stamp_ns == content.images["camera"][0].stamp_ns == 5_000_000_001


def test_stamp_is_parsed_without_loss():
    assert parse_stamp("1678066887.700945901") == 1678066887_700945901


@pytest.mark.parametrize("text", ["", "now", "0", "-3", "nan", "inf"])
def test_bad_stamps_are_refused(text):
    with pytest.raises(ConfigError, match="seconds above 0 wanted"):
        parse_stamp(text)


@pytest.mark.parametrize(
    ("name", "content", "error", "sentence"),
    [
        ("calib", "K: 1 2\nD: 0 0 0 0\nT: 0\n", CalibrationError, "row 'K': 9 finite numbers wanted"),
        ("calib", f"K: {words(K)}\nD: 0 0\nT: {words(T_CAM_LIDAR[:3])}\n", CalibrationError, "D has 2 coefficients"),
        ("calib", f"K: {words(K)}\nT: {words(T_CAM_LIDAR[:3])}\n", CalibrationError, "no row 'D'"),
        ("calib", f"K: {words(K)}\nD: {words(D)}\nT: {words(2 * T_CAM_LIDAR[:3])}\n", CalibrationError, "a rotation"),
        ("calib", f"K: {words(0 * K)}\nD: {words(D)}\nT: {words(T_CAM_LIDAR[:3])}\n", CalibrationError, "K"),
        ("cloud", "no PCD\n", MessageError, "PCD"),
        ("image", "no picture", MessageError, "none could be read"),
    ],
)
def test_broken_files_are_refused_with_a_sentence(pair, tmp_path, name, content, error, sentence):
    pair[name].write_text(content)
    with pytest.raises(error, match=sentence):
        import_pcd_pair(**pair, out=tmp_path / "out.mcap")
    assert not (tmp_path / "out.mcap").exists()


@pytest.mark.parametrize("name", ["image", "cloud", "calib"])
def test_missing_files_are_refused(pair, tmp_path, name):
    pair[name].unlink()
    with pytest.raises(ConfigError, match="a file wanted"):
        import_pcd_pair(**pair, out=tmp_path / "out.mcap")


def test_intrinsic_json_needs_its_extrinsic_and_a_text_does_not(pair, tmp_path):
    both = as_json(tmp_path)
    with pytest.raises(ConfigError, match="sensor_calib wanted"):
        read_calibration(both["calib"], None, (40, 30))
    with pytest.raises(ConfigError, match="none wanted"):
        read_calibration(pair["calib"], both["extrinsic"], (40, 30))
    both["extrinsic"].write_text("{}")
    with pytest.raises(CalibrationError, match="one sensor with 'param'"):
        read_calibration(**both, size=(40, 30))
