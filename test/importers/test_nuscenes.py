"""nuScenes key frames become bags in which each camera looks at its own instant."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from seg_perception.errors import CalibrationError, ConfigError, MessageError
from seg_perception.geometry.transforms import inverse, transform_points
from seg_perception.importers.nuscenes import import_nuscenes, read_key_frames, read_sweep

CAMERAS = ["CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT"]


@pytest.fixture(scope="module")
def folder(shared_data):
    return shared_data / "nuscenes"


@pytest.fixture(scope="module")
def exact(folder, tmp_path_factory, replay):
    return replay(import_nuscenes(folder, tmp_path_factory.mktemp("nuscenes") / "exact.mcap"))


def stored_uv(folder, camera, points, pinhole):
    """Where the data set itself puts the points, and which are in view."""
    info = json.loads((folder / "info.json").read_text())["data_list"][0]["images"][camera]
    P = np.column_stack([np.array(info["cam2img"]), np.zeros(3)])
    uv, depth = pinhole(P, np.array(info["lidar2cam"]), points)
    return uv, (depth > 0) & (uv >= -0.5).all(1) & (uv[:, 0] < 1599.5) & (uv[:, 1] < 899.5)


@pytest.mark.parametrize("camera", CAMERAS)
def test_points_are_projected_as_the_data_set_does(folder, exact, pinhole, camera):
    """Through bag, transform tree and lens; the stored matrices are float32, so 1e-3 px is what they agree to."""
    uv, seen = exact.project(camera.lower())
    expected, inside = stored_uv(folder, camera, exact.sweeps[0].points, pinhole)
    assert inside.sum() > 2_000
    assert np.abs(uv[inside & seen] - expected[inside & seen]).max() < 1e-3
    assert (inside != seen).sum() == 0


@pytest.mark.parametrize("camera", CAMERAS)
def test_twist_of_five_cameras_predicts_the_sixth(folder, tmp_path, replay, pinhole, camera):
    done = import_nuscenes(folder, tmp_path / "twist.mcap", poses="twist", hold_out=[camera])
    content = replay(done)
    uv, _ = content.project(camera.lower())
    expected, inside = stored_uv(folder, camera, content.sweeps[0].points, pinhole)
    error = np.linalg.norm(uv - expected, axis=1)[inside]
    assert np.nanmedian(error) < 0.5
    assert np.isnan(error).mean() < 0.01


def test_held_out_camera_has_no_say(folder, tmp_path, replay):
    """Spoiling its lidar2cam changes nothing."""
    spoilt = tmp_path / "spoilt"
    shutil.copytree(folder, spoilt)
    info = json.loads((spoilt / "info.json").read_text())
    info["data_list"][0]["images"]["CAM_FRONT"]["lidar2cam"][0][3] += 5.0
    (spoilt / "info.json").write_text(json.dumps(info))
    bags = [
        import_nuscenes(source, tmp_path / name, poses="twist", hold_out=["CAM_FRONT"]).bag
        for source, name in [(folder, "a.mcap"), (spoilt, "b.mcap")]
    ]
    assert bags[0].read_bytes() == bags[1].read_bytes()


def test_ignoring_the_motion_would_be_seen(folder, exact, pinhole):
    """The front left camera looks 43 ms before the sweep's stamp, at 9 m/s."""
    image, sweep = exact.images["cam_front_left"][0], exact.sweeps[0]
    T_still = exact.tree.T(image.frame_id, sweep.frame_id, 0)
    uv, _ = exact.model("cam_front_left").project(transform_points(T_still, sweep.points))
    expected, inside = stored_uv(folder, "CAM_FRONT_LEFT", sweep.points, pinhole)
    assert np.nanmedian(np.linalg.norm(uv - expected, axis=1)[inside]) > 30


def test_extrinsics_are_the_fixed_ones(folder, exact):
    (frame,) = read_key_frames(folder)
    for view in frame.views:
        T = exact.tree.T("base_link", f"{view.camera.lower()}_optical", 0)
        np.testing.assert_allclose(T, view.T_ego_cam, atol=1e-9)


def test_stamps_and_bytes_are_the_data_sets(folder, exact):
    assert exact.sweeps[0].stamp_ns == 1532402927_647951000
    assert exact.images["cam_front"][0].stamp_ns == 1532402927_612460000
    assert exact.data["cam_front"][0] == next(folder.glob("*CAM_FRONT__*.jpg")).read_bytes()
    assert [field.name for field in exact.sweeps[0].cloud.fields] == ["x", "y", "z", "intensity", "ring"]
    assert exact.sweeps[0].cloud.field("ring").max() == 31
    assert len(exact.sweeps[0]) == 34688


def test_odometry_starts_where_the_first_sweep_was(exact):
    T = exact.tree.T("odom", "base_link", exact.sweeps[0].stamp_ns)
    np.testing.assert_allclose(T, np.eye(4), atol=1e-12)
    before = exact.tree.T("odom", "base_link", exact.images["cam_front"][0].stamp_ns)
    assert before[0, 3] == pytest.approx(-0.328, abs=0.001)  # 35 ms earlier at 9.2 m/s


@pytest.fixture
def small(folder, tmp_path):
    """A copy with two cameras, to be changed; and its info."""
    copy = tmp_path / "small"
    copy.mkdir()
    info = json.loads((folder / "info.json").read_text())
    sample = info["data_list"][0]
    sample["images"] = {name: sample["images"][name] for name in ("CAM_FRONT", "CAM_BACK")}
    for name in [sample["lidar_points"]["lidar_path"], *(view["img_path"] for view in sample["images"].values())]:
        shutil.copy(folder / name, copy / name)

    def save():
        (copy / "info.json").write_text(json.dumps(info))
        return copy

    return sample, info, save


def test_second_key_frame_is_placed_by_its_global_pose(small, tmp_path, replay):
    sample, info, save = small
    later = json.loads(json.dumps(sample))
    later["timestamp"] += 0.5
    for view in later["images"].values():
        view["timestamp"] += 0.5
    T_first_later = np.eye(4)
    T_first_later[0, 3] = 4.5
    later["ego2global"] = (np.array(sample["ego2global"]) @ T_first_later).tolist()
    info["data_list"].append(later)
    content = replay(import_nuscenes(save(), tmp_path / "out.mcap"))
    assert len(content.sweeps) == len(content.images["cam_back"]) == 2
    T = content.tree.T("odom", "base_link", content.sweeps[1].stamp_ns)
    np.testing.assert_allclose(T, T_first_later, atol=1e-6)
    first, second = (
        content.tree.T_fixed(image.frame_id, image.stamp_ns, sweep.frame_id, sweep.stamp_ns, "odom")
        for image, sweep in zip(content.images["cam_front"], content.sweeps, strict=True)
    )
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_data_sets_own_folders_are_searched(small, tmp_path, replay):
    sample, _, save = small
    folder = save()
    (folder / "samples" / "LIDAR_TOP").mkdir(parents=True)
    name = sample["lidar_points"]["lidar_path"]
    shutil.move(folder / name, folder / "samples" / "LIDAR_TOP" / name)
    assert len(replay(import_nuscenes(folder, tmp_path / "out.mcap")).sweeps[0]) == 34688


@pytest.mark.parametrize(
    ("spoil", "error", "sentence"),
    [
        (lambda s, i: i.pop("data_list"), ConfigError, "KeyError: 'data_list'"),
        (lambda s, i: i["data_list"].clear(), ConfigError, "at least one key frame wanted"),
        (lambda s, i: s.update(images=[1]), ConfigError, "AttributeError"),
        (lambda s, i: s["images"]["CAM_BACK"].update(timestamp=float("inf")), ConfigError, "OverflowError"),
        (lambda s, i: s["images"]["CAM_BACK"].pop("cam2ego"), ConfigError, "cam2ego"),
        (
            lambda s, i: s["images"]["CAM_BACK"].update(img_path="x.jpg"),
            ConfigError,
            "nuScenes CAM_BACK: a file wanted",
        ),
        (lambda s, i: s["images"]["CAM_BACK"].update(lidar2cam=[[1]]), CalibrationError, "CAM_BACK: lidar2cam"),
        (lambda s, i: s["images"]["CAM_BACK"].update(cam2img=[[1]]), CalibrationError, "K"),
        (lambda s, i: s["lidar_points"].update(lidar2ego=np.zeros((4, 4)).tolist()), CalibrationError, "lidar2ego"),
    ],
)
def test_broken_infos_are_refused_with_a_sentence(small, tmp_path, spoil, error, sentence):
    sample, info, save = small
    spoil(sample, info)
    with pytest.raises(error, match=sentence):
        import_nuscenes(save(), tmp_path / "out.mcap")


def test_key_frames_of_differently_mounted_cameras_are_refused(small, tmp_path):
    sample, info, save = small
    other = json.loads(json.dumps(sample))
    other["timestamp"] += 0.5
    other["images"]["CAM_BACK"]["cam2ego"][0][3] += 0.1
    info["data_list"].append(other)
    with pytest.raises(CalibrationError, match="cam_back_optical is mounted otherwise"):
        import_nuscenes(save(), tmp_path / "out.mcap")


def test_hold_out_needs_a_known_camera_and_a_fit(folder, tmp_path):
    with pytest.raises(ConfigError, match="CAM_TOP"):
        import_nuscenes(folder, tmp_path / "out.mcap", poses="twist", hold_out=["CAM_TOP"])
    with pytest.raises(ConfigError, match="nothing is fitted"):
        import_nuscenes(folder, tmp_path / "out.mcap", hold_out=["CAM_FRONT"])


def test_truncated_sweep_is_refused(tmp_path):
    (tmp_path / "a.pcd.bin").write_bytes(b"\0" * 30)
    with pytest.raises(MessageError, match="20 bytes a point wanted, 30 bytes seen"):
        read_sweep(tmp_path / "a.pcd.bin", 1)


def test_stored_matrices_close_the_loop(folder):
    """moved() takes both extrinsics away: putting them back gives lidar2cam."""
    (frame,) = read_key_frames(folder)
    for view in frame.views:
        T_cam_lidar = inverse(view.T_ego_cam) @ inverse(frame.moved(view)) @ frame.T_ego_lidar
        np.testing.assert_allclose(T_cam_lidar, view.T_cam_lidar, atol=1e-12)
