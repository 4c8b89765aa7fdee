"""KITTI drives become bags that project as KITTI's own formula does."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from seg_perception.errors import BagError, CalibrationError, ConfigError, ExtrapolationError, MessageError
from seg_perception.geometry.transforms import compose, from_rotation_translation, inverse
from seg_perception.importers import kitti
from seg_perception.importers.calibration import nearest_rigid, read_table
from seg_perception.importers.kitti import import_kitti, read_timestamps
from seg_perception.importers.oxts import poses_from_oxts, read_oxts

FIRST_SWEEP_NS = 1317042145_050000007
PERIOD_NS = 1_000_000_000


@pytest.fixture(scope="module")
def real_drive(shared_data, tmp_path_factory, replay):
    drive = shared_data / "kitti_drive"
    out = tmp_path_factory.mktemp("kitti") / "drive.mcap"
    stamps = drive / "timestamps_drive_0001"
    return replay(import_kitti(drive, drive / "calib", out, timestamps=stamps, transport="png"))


def example(shared_data):
    table = read_table(shared_data / "kitti_drive" / "calib" / "rectified_projection_example.txt")
    P = np.array(table["P2"].split(), float).reshape(3, 4)
    R = np.eye(4)
    R[:3, :3] = np.array(table["R0_rect"].split(), float).reshape(3, 3)
    T = np.vstack([np.array(table["Tr_velo_to_cam"].split(), float).reshape(3, 4), [0, 0, 0, 1]])
    return P, R, T


def test_real_points_are_projected_as_kittis_formula_says(shared_data, real_drive, pinhole):
    """To the bit, but for a quaternion's holding proper rotations only; the file's seven digits are 1e-7 from one."""
    P, R, T = example(shared_data)
    uv, seen = real_drive.project("camera_02")
    assert seen.sum() > 15_000
    points = real_drive.sweeps[0].points[seen]
    proper, _ = pinhole(P, nearest_rigid(R, "R") @ nearest_rigid(T, "T"), points)
    printed, _ = pinhole(P, R @ T, points)
    assert np.abs(uv[seen] - proper).max() < 1e-6
    assert np.abs(uv[seen] - printed).max() < 1e-3


def test_every_point_that_the_formula_sees_is_in_view(shared_data, real_drive, pinhole):
    P, R, T = example(shared_data)
    _, seen = real_drive.project("camera_02")
    uv, depth = pinhole(P, R @ T, real_drive.sweeps[0].points)
    width, height = real_drive.images["camera_02"][0].size
    inside = (depth > 0) & (uv > -0.5).all(1) & (uv[:, 0] < width - 0.5) & (uv[:, 1] < height - 0.5)
    assert (inside != seen).sum() == 0


def test_real_stamps_are_kittis_to_the_nanosecond(real_drive):
    assert real_drive.images["camera_02"][0].stamp_ns == 1317042145_961661696
    assert real_drive.sweeps[0].stamp_ns == 1317042145_951199337
    assert real_drive.log_ns["/velodyne/points"][0] == 1317042146_002763147
    assert len(real_drive.sweeps) == len(real_drive.images["camera_02"]) == 10


def test_points_and_pixels_arrive_unchanged(tiny_drive, tmp_path, replay):
    content = replay(import_kitti(tiny_drive, tiny_drive / "calib", tmp_path / "out.mcap"))
    picture = cv2.imread(str(tiny_drive / "image_02/data/0000000001.png"))[:, :, ::-1]
    sweep = np.fromfile(tiny_drive / "velodyne_points/data/0000000001.bin", "<f4").reshape(-1, 4)
    np.testing.assert_array_equal(content.images["camera_02"][1].pixels, picture)
    np.testing.assert_array_equal(content.sweeps[1].points, sweep[:, :3])
    np.testing.assert_array_equal(content.sweeps[1].cloud.field("intensity"), sweep[:, 3])
    assert content.sweeps[1].stamps_ns is None
    assert content.sweeps[1].frame_id == "velodyne"
    assert content.images["camera_02"][1].frame_id == "camera_02_optical"


def test_png_files_keep_their_bytes(tiny_drive, tmp_path, replay):
    content = replay(import_kitti(tiny_drive, tiny_drive / "calib", tmp_path / "out.mcap", transport="png"))
    assert content.data["camera_02"][2] == (tiny_drive / "image_02/data/0000000002.png").read_bytes()


def test_baseline_goes_into_the_transform_and_depth_is_the_cameras_own(tiny_drive, tmp_path, replay, pinhole):
    content = replay(import_kitti(tiny_drive, tiny_drive / "calib", tmp_path / "out.mcap", transport="jpeg"))
    record = content.infos["camera_02"][0]
    assert record.p[3] == record.p[7] == record.p[11] == 0.0
    P = np.array([[20, 0, 12, 4.5], [0, 20, 8, 0.2], [0, 0, 1, 0.003]])
    T_cam0_velo = np.array([[0, -1, 0, 0], [0, 0, -1, -0.08], [1, 0, 0, -0.27], [0, 0, 0, 1.0]])
    R = np.array([[1, 0, 0, 0], [0, 0.8, -0.6, 0], [0, 0.6, 0.8, 0], [0, 0, 0, 1.0]])
    uv, depth = pinhole(P, R @ T_cam0_velo, content.sweeps[0].points)
    seen, _ = content.project("camera_02")
    np.testing.assert_allclose(seen[depth > 0], uv[depth > 0], atol=1e-9)
    T_cam_velo = content.tree.T("camera_02_optical", "velodyne", 0)
    np.testing.assert_allclose(content.sweeps[0].points @ T_cam_velo[2, :3] + T_cam_velo[2, 3], depth, atol=1e-9)


def test_body_is_the_imu(tiny_drive, tmp_path, replay):
    content = replay(import_kitti(tiny_drive, tiny_drive / "calib", tmp_path / "out.mcap"))
    np.testing.assert_allclose(content.tree.T("velodyne", "base_link", 0)[:3, 3], [-0.8, 0.3, -0.8])


def test_loop_goes_on_with_the_drives_period(tiny_drive, tmp_path, replay):
    content = replay(import_kitti(tiny_drive, tiny_drive / "calib", tmp_path / "out.mcap", loop=3))
    stamps = [sweep.stamp_ns for sweep in content.sweeps]
    assert stamps == [FIRST_SWEEP_NS + k * PERIOD_NS for k in range(9)]
    assert [image.stamp_ns - FIRST_SWEEP_NS for image in content.images["camera_02"]] == [
        10_000_000 + k * PERIOD_NS for k in range(9)
    ]
    np.testing.assert_array_equal(content.sweeps[0].points, content.sweeps[6].points)


def test_stamps_may_lie_elsewhere(tiny_drive, tmp_path, replay):
    elsewhere = tmp_path / "stamps"
    elsewhere.mkdir()
    shutil.move(tiny_drive / "image_02/timestamps.txt", elsewhere / "image_02_timestamps.txt")
    shutil.move(tiny_drive / "velodyne_points/timestamps.txt", elsewhere / "velodyne_timestamps.txt")
    content = replay(import_kitti(tiny_drive, tiny_drive / "calib", tmp_path / "out.mcap", timestamps=elsewhere))
    assert content.sweeps[0].stamp_ns == FIRST_SWEEP_NS
    assert content.log_ns["/velodyne/points"][0] == FIRST_SWEEP_NS  # nobody says when the turn ended


def test_a_missing_sweep_leaves_the_others_their_stamps(tiny_drive, tmp_path, replay):
    (tiny_drive / "velodyne_points/data/0000000001.bin").unlink()
    content = replay(import_kitti(tiny_drive, tiny_drive / "calib", tmp_path / "out.mcap"))
    assert [sweep.stamp_ns - FIRST_SWEEP_NS for sweep in content.sweeps] == [0, 2 * PERIOD_NS]


def test_no_odometry_is_invented(tiny_drive, tmp_path, replay):
    content = replay(import_kitti(tiny_drive, tiny_drive / "calib", tmp_path / "out.mcap"))
    assert "/tf" not in content.log_ns


def test_same_drive_gives_the_same_bytes(tiny_drive, tmp_path):
    bags = [import_kitti(tiny_drive, tiny_drive / "calib", tmp_path / name / "out.mcap").bag for name in ("a", "b")]
    assert bags[0].read_bytes() == bags[1].read_bytes()


def add_oxts(drive: Path, frames=(0, 1, 2)) -> None:
    """A straight way east, 10 m each second, level."""
    (drive / "oxts/data").mkdir(parents=True)
    rows = [f"2011-09-26 13:02:{25 + frame}.040000000\n" for frame in range(3)]
    (drive / "oxts/timestamps.txt").write_text("".join(rows))
    metres_per_degree = 6378137.0 * np.cos(np.radians(49.0)) * np.pi / 180
    for frame in frames:
        longitude = 8.4 + 10 * frame / metres_per_degree
        (drive / f"oxts/data/{frame:010d}.txt").write_text(f"49.0 {longitude} 116.4 0 0 0 " + "0 " * 24)


def test_oxts_becomes_odometry(tiny_drive, tmp_path, replay):
    add_oxts(tiny_drive)
    content = replay(import_kitti(tiny_drive, tiny_drive / "calib", tmp_path / "out.mcap"))
    T_odom_base = content.tree.T("odom", "base_link", FIRST_SWEEP_NS - 10_000_007 + PERIOD_NS * 3 // 2)
    np.testing.assert_allclose(T_odom_base[:3, 3], [15, 0, 0], atol=1e-6)


def test_looped_odometry_drives_on_instead_of_jumping(tiny_drive, tmp_path, replay):
    add_oxts(tiny_drive)
    content = replay(import_kitti(tiny_drive, tiny_drive / "calib", tmp_path / "out.mcap", loop=3))
    first_ns = FIRST_SWEEP_NS - 10_000_007
    steps = [content.tree.T("odom", "base_link", first_ns + k * PERIOD_NS)[0, 3] for k in range(9)]
    np.testing.assert_allclose(np.diff(steps), 10.0, atol=1e-6)
    with pytest.raises(ExtrapolationError):
        content.tree.T("odom", "base_link", first_ns + 9 * PERIOD_NS)


def test_looped_odometry_of_sweeps_drives_on_across_the_seam(tiny_drive, tmp_path, replay, monkeypatch):
    """10 m each second, as estimated; a turn ends half a second after its stamp, when the next one begins."""
    steps = [from_rotation_translation(np.eye(3), (10.0 * k, 0.0, 0.0)) for k in range(3)]
    monkeypatch.setattr(kitti, "poses_from_sweeps", lambda sweeps: np.array(steps)[: len(list(sweeps))])
    ends = "".join(f"2011-09-26 13:02:{25 + k}.550000007\n" for k in range(4))
    (tiny_drive / "velodyne_points/timestamps_end.txt").write_text(ends)
    content = replay(import_kitti(tiny_drive, tiny_drive / "calib", tmp_path / "out.mcap", loop=3, odometry="sweeps"))
    at_ns = FIRST_SWEEP_NS + np.arange(-2, 35) * PERIOD_NS // 4
    ahead = [content.tree.T("odom", "velodyne", at)[0, 3] for at in at_ns.tolist()]
    np.testing.assert_allclose(np.diff(ahead), 2.5, atol=1e-5)


def test_incomplete_oxts_gives_no_odometry_and_says_so(tiny_drive, tmp_path, replay, caplog):
    add_oxts(tiny_drive, frames=(0, 2))
    with caplog.at_level(logging.WARNING):
        content = replay(import_kitti(tiny_drive, tiny_drive / "calib", tmp_path / "out.mcap"))
    assert "/tf" not in content.log_ns
    assert "1 sweeps have no OXTS packet (first: 1)" in caplog.text


def test_real_oxts_packet_has_the_attitude_of_a_car(shared_data):
    packet = read_oxts(shared_data / "kitti_drive/timestamps_drive_0001/oxts_0000000000.txt")
    later = np.add(packet, [1e-5, 0, 0.5, 0, 0, 0])
    T = poses_from_oxts([packet, later])
    np.testing.assert_allclose(T[0], np.eye(4), atol=1e-9)
    step = T[1][:3, 3]
    assert np.linalg.norm(step) == pytest.approx(np.hypot(6378137.0 * np.radians(1e-5), 0.5), rel=1e-6)
    # It looks west-southwest (yaw -2.609 from east), so that a step north is one back and to the right.
    assert step[0] == pytest.approx(1.113 * np.sin(packet[5]), abs=0.02)
    assert step[1] == pytest.approx(1.113 * np.cos(packet[5]), abs=0.03)


def test_turns_are_applied_roll_first(tmp_path):
    T = poses_from_oxts([[0, 0, 0, 0, 0, 0], [0, 0, 0, 0.1, 0.2, 0.3]])
    cx, sx, cy, sy, cz, sz = (f(a) for a in (0.1, 0.2, 0.3) for f in (np.cos, np.sin))
    roll = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    pitch = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    yaw = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    np.testing.assert_allclose(compose(inverse(T[0]), T[1])[:3, :3], yaw @ pitch @ roll, atol=1e-12)


def test_timestamps_keep_nanoseconds(tmp_path):
    path = tmp_path / "timestamps.txt"
    path.write_text("1970-01-01 00:00:01.000000001\n1970-01-01 00:00:02\n1970-01-01 00:00:03.5\n\n")
    assert read_timestamps(path) == [1_000_000_001, 2_000_000_000, 3_500_000_000]


@pytest.mark.parametrize(
    ("spoil", "error", "sentence"),
    [
        (lambda d: shutil.rmtree(d / "image_02"), ConfigError, "KITTI image_02: a folder wanted"),
        (lambda d: [p.unlink() for p in (d / "image_02/data").glob("*")], ConfigError, "files \\*.png wanted"),
        (lambda d: (d / "image_02/timestamps.txt").unlink(), ConfigError, "timestamps of image_02: a file wanted"),
        (
            lambda d: (d / "image_02/timestamps.txt").write_text("2011-09-26 13:02:25.5\n"),
            ConfigError,
            "a row for frame 2 wanted, 1 rows seen",
        ),
        (lambda d: (d / "image_02/timestamps.txt").write_text("yesterday\n"), ConfigError, "yesterday"),
        (
            lambda d: (d / "velodyne_points/timestamps_end.txt").write_text("2011-09-26 13:02:25.5\n"),
            ConfigError,
            "4 rows wanted, 1 seen",
        ),
        (
            lambda d: (d / "velodyne_points/data/0000000001.bin").write_bytes(b"x" * 33),
            MessageError,
            "16 bytes a point wanted, 33 bytes seen",
        ),
        (lambda d: (d / "image_02/data/0000000001.png").write_bytes(b"x"), MessageError, "none could be read"),
        (
            lambda d: cv2.imwrite(str(d / "image_02/data/0000000001.png"), np.zeros((16, 25, 3), np.uint8)),
            CalibrationError,
            "is 25 x 16; the calibration of camera_02 is for 24 x 16",
        ),
        (lambda d: (d / "calib/calib_cam_to_cam.txt").unlink(), CalibrationError, "cannot be read"),
        (lambda d: (d / "calib/calib_cam_to_cam.txt").write_text("a: 1\n"), CalibrationError, "no row 'P_rect_02'"),
        (
            lambda d: (d / "calib/calib_velo_to_cam.txt").write_text("R: 1 2 3\nT: 0 0 0\n"),
            CalibrationError,
            "row 'R': 9 finite numbers wanted, '1 2 3' seen",
        ),
        (
            lambda d: (d / "calib/calib_velo_to_cam.txt").write_text("R: 2 0 0 0 2 0 0 0 2\nT: 0 0 0\n"),
            CalibrationError,
            "a rotation wanted",
        ),
    ],
)
def test_broken_drives_are_refused_with_a_sentence_and_leave_nothing(tiny_drive, tmp_path, spoil, error, sentence):
    spoil(tiny_drive)
    with pytest.raises(error, match=sentence):
        import_kitti(tiny_drive, tiny_drive / "calib", tmp_path / "out" / "out.mcap")
    assert not list((tmp_path / "out").glob("*"))


def test_an_existing_bag_is_not_overwritten(tiny_drive, tmp_path):
    import_kitti(tiny_drive, tiny_drive / "calib", tmp_path / "out.mcap")
    with pytest.raises(BagError, match="exists already"):
        import_kitti(tiny_drive, tiny_drive / "calib", tmp_path / "out.mcap")
