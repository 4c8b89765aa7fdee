"""Cameras as CameraInfo describes them, against OpenCV, against KITTI's own formula, and by brute force."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from seg_perception.errors import CalibrationError
from seg_perception.geometry.camera import CameraModel

NO_TURN = np.zeros(3)
K_SMALL = np.array([[400.0, 0.0, 319.5], [0.0, 410.0, 239.5], [0.0, 0.0, 1.0]])


def camera_info(**changes: Any) -> dict[str, Any]:
    """A good CameraInfo of a 640 x 480 camera, with some fields changed."""
    fields = {
        "width": 640,
        "height": 480,
        "distortion_model": "plumb_bob",
        "d": [-0.2, 0.05, 0.001, -0.001, 0.0],
        "k": K_SMALL.ravel(),
        "r": np.eye(3).ravel(),
        "p": np.column_stack([K_SMALL, np.zeros(3)]).ravel(),
    }
    return {**fields, **changes}


def roi(x_offset: int, y_offset: int, width: int, height: int) -> SimpleNamespace:
    return SimpleNamespace(x_offset=x_offset, y_offset=y_offset, width=width, height=height, do_rectify=False)


def pixel_grid(camera: CameraModel, step: float = 7.3) -> np.ndarray:
    """Positions all over the image, its outermost edges included."""
    u = np.append(np.arange(-0.5, camera.width - 0.5, step), camera.width - 0.5)
    v = np.append(np.arange(-0.5, camera.height - 0.5, step), camera.height - 0.5)
    return np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 2)


def directions_all_around(count: int, seed: int = 0) -> np.ndarray:
    rays = np.random.default_rng(seed).normal(size=(count, 3))
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def angles_off_axis(points: np.ndarray) -> np.ndarray:
    return np.arctan2(np.hypot(points[:, 0], points[:, 1]), points[:, 2])


def read_kitti(path: Path) -> dict[str, np.ndarray]:
    lines = (line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
    return {key: np.array(text.split(), float) for key, text in lines if key != "calib_time"}


def kitti_raw_camera_2(shared_data: Path) -> CameraModel:
    calib = read_kitti(shared_data / "kitti_drive/calib/calib_cam_to_cam.txt")
    width, height = calib["S_00"].astype(int)
    info = camera_info(width=width, height=height, k=calib["K_02"], d=calib["D_02"])
    return CameraModel.from_camera_info(**info)


# Agreement with OpenCV


@pytest.mark.parametrize("count", [0, 4, 5, 8, 12, 14])
def test_random_cameras_project_within_a_thousandth_of_a_pixel_of_opencv(count: int) -> None:
    rng = np.random.default_rng(count)
    spread = [0.4, 0.2, 5e-3, 5e-3, 0.08, 0.3, 0.1, 0.03, 5e-3, 2e-3, 5e-3, 2e-3, 0.05, 0.05]
    for _ in range(40):
        width, height = rng.integers(300, 4000, 2)
        K = np.diag([*rng.uniform(0.4, 2.0, 2) * width, 1.0])
        K[:2, 2] = rng.uniform(0.3, 0.7, 2) * (width, height)
        D = rng.uniform(-1.0, 1.0, count) * spread[:count]
        model = "" if count == 0 else "plumb_bob" if count <= 5 else "rational_polynomial"
        info = camera_info(width=int(width), height=int(height), distortion_model=model, d=D, k=K.ravel())
        camera = CameraModel.from_camera_info(**info)
        points = directions_all_around(3000, seed=count) * rng.uniform(0.5, 90.0, (3000, 1))
        uv, depth = camera.project(points)
        np.testing.assert_array_equal(depth, points[:, 2])
        seen = camera.in_view(uv)
        theirs, _ = cv2.projectPoints(points[seen], NO_TURN, NO_TURN, K, D if count else None)
        np.testing.assert_allclose(uv[seen], theirs.reshape(-1, 2), atol=1e-3, rtol=0)
        np.testing.assert_array_equal(seen, should_be_seen(camera, points, K, D))


def should_be_seen(camera: CameraModel, points: np.ndarray, K: np.ndarray, D: np.ndarray) -> np.ndarray:
    """In front, within the valid angle, and on the image as OpenCV projects it."""
    front = (points[:, 2] > 0.0) & (angles_off_axis(points) <= camera.valid_angle)
    uv = np.full((len(points), 2), -1e9)
    uv[front] = cv2.projectPoints(points[front], NO_TURN, NO_TURN, K, D if len(D) else None)[0].reshape(-1, 2)
    return ((uv >= -0.5) & (uv < (camera.width - 0.5, camera.height - 0.5))).all(axis=1)


def test_random_fisheyes_project_within_a_thousandth_of_a_pixel_of_opencv() -> None:
    rng = np.random.default_rng(3)
    for _ in range(40):
        D = rng.uniform(-1.0, 1.0, 4) * [0.1, 0.03, 0.01, 0.003]
        K = np.array([[rng.uniform(200, 900), 0.0, 640.0], [0.0, rng.uniform(200, 900), 400.0], [0.0, 0.0, 1.0]])
        info = camera_info(width=1280, height=800, distortion_model="equidistant", d=D, k=K.ravel())
        camera = CameraModel.from_camera_info(**info)
        points = directions_all_around(2000) * rng.uniform(0.5, 90.0, (2000, 1))
        points = points[angles_off_axis(points) < min(camera.valid_angle, math.radians(89.0))]
        uv, _ = camera.project(points)
        theirs, _ = cv2.fisheye.projectPoints(points.reshape(-1, 1, 3), NO_TURN, NO_TURN, K, D)
        np.testing.assert_allclose(uv, theirs.reshape(-1, 2), atol=1e-3, rtol=0)


def test_fisheye_sees_behind_itself_where_opencv_would_mirror_the_point() -> None:
    K = np.array([[300.0, 0.0, 639.5], [0.0, 300.0, 639.5], [0.0, 0.0, 1.0]])
    info = camera_info(width=1280, height=1280, distortion_model="fisheye", d=[0.0] * 4, k=K.ravel())
    camera = CameraModel.from_camera_info(**info)
    angle = math.radians(110.0)
    uv, depth = camera.project(np.array([[math.sin(angle), 0.0, math.cos(angle)]]) * 5.0)
    assert uv[0] == pytest.approx((639.5 + 300.0 * angle, 639.5))
    assert camera.in_view(uv).all()
    assert depth[0] < 0.0


# There and back


@pytest.mark.parametrize(
    "lens",
    [
        {"distortion_model": "", "d": []},
        {"distortion_model": "plumb_bob", "d": [-0.2, 0.05, 0.001, -0.001, 0.0]},
        {"distortion_model": "rational_polynomial", "d": [0.51, -2.64, 8e-4, -3e-4, 1.51, 0.39, -2.46, 1.44]},
        {
            "distortion_model": "rational_polynomial",
            "d": [-0.1, 0.02, 1e-3, -1e-3, 0.0, 0.05, 0.01, 0.0, 1e-3, -1e-3, 2e-3, 1e-4, 0.03, -0.02],
        },
        {"distortion_model": "equidistant", "d": [0.02, -0.01, 0.003, -0.0005]},
        {"rectified": True, "r": cv2.Rodrigues(np.array([0.02, -0.03, 0.01]))[0]},
    ],
)
def test_every_pixel_is_where_its_ray_projects(lens: dict[str, Any]) -> None:
    camera = CameraModel.from_camera_info(**camera_info(**lens))
    uv = pixel_grid(camera)
    rays = camera.unproject(uv)
    np.testing.assert_allclose(np.linalg.norm(rays, axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(camera.project(rays)[0], uv, atol=1e-6)


def test_skewed_pixels_project_and_come_back() -> None:
    K = K_SMALL.copy()
    K[0, 1] = 3.0
    camera = CameraModel(640, 480, K)
    uv, _ = camera.project(np.array([[0.2, 0.1, 1.0]]))
    assert uv[0] == pytest.approx((400.0 * 0.2 + 3.0 * 0.1 + 319.5, 410.0 * 0.1 + 239.5))
    assert camera.unproject(uv)[0] == pytest.approx(np.array([0.2, 0.1, 1.0]) / math.sqrt(1.05))


# No ghosts


def test_cloud_all_around_leaves_no_ghost_in_the_raw_kitti_image(shared_data: Path) -> None:
    camera = kitti_raw_camera_2(shared_data)
    points = directions_all_around(60_000)
    ahead = points[points[:, 2] > 0.05]
    naive, _ = cv2.projectPoints(ahead, NO_TURN, NO_TURN, camera.K, camera.D)
    naive_seen = camera.in_view(naive.reshape(-1, 2))
    uv, _ = camera.project(ahead)
    seen = camera.in_view(uv)
    # Brute force: on the way from the axis to a point that is truly seen, the pixel must only move outwards.
    growing = np.array([moves_outwards(camera, point) for point in ahead[naive_seen]])
    np.testing.assert_array_equal(seen[naive_seen], growing)
    assert not seen[~naive_seen].any()
    assert 0.15 < np.mean(~growing) < 0.5, "the naive projection has many ghosts, or this test shows nothing"
    assert not camera.in_view(camera.project(points[points[:, 2] <= 0.05])[0]).any()


def moves_outwards(camera: CameraModel, point: np.ndarray) -> bool:
    radius = math.hypot(point[0], point[1]) / point[2]
    steps = np.linspace(0.0, radius, 400)[:, None] * (point[:2] / math.hypot(point[0], point[1]))
    path, _ = cv2.projectPoints(np.column_stack([steps, np.ones(400)]), NO_TURN, NO_TURN, camera.K, camera.D)
    outwards = np.diff(path.reshape(-1, 2), axis=0) @ (point[:2] / np.linalg.norm(point[:2]))
    return bool((outwards > 0.0).all())


def test_raw_kitti_lens_is_valid_to_its_fold_and_covers_its_image(
    shared_data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        camera = kitti_raw_camera_2(shared_data)
    assert math.degrees(camera.valid_angle) == pytest.approx(50.4, abs=0.1)
    assert not np.isnan(camera.unproject(pixel_grid(camera))).any()
    assert not caplog.records


def test_two_points_in_view_never_share_a_pixel_unless_they_share_the_ray() -> None:
    rng = np.random.default_rng(11)
    spread = [0.5, 0.3, 0.01, 0.01, 0.1, 0.3, 0.1, 0.03, 0.01, 5e-3, 0.01, 5e-3, 0.08, 0.08]
    for _ in range(60):
        D = rng.uniform(-1.0, 1.0, 14) * spread
        camera = CameraModel(640, 480, K_SMALL, "rational_polynomial", D)
        points = directions_all_around(2000, seed=int(rng.integers(1 << 30)))
        uv, _ = camera.project(points)
        seen = camera.in_view(uv)
        np.testing.assert_allclose(camera.unproject(uv[seen]), points[seen], atol=1e-5)


def test_image_corners_beyond_the_fold_are_said_and_see_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        camera = CameraModel.from_camera_info(**camera_info(d=[-0.6, 0.0, 0.0, 0.0]), name="front_left")
    assert "front_left" in caplog.text
    assert "see nothing" in caplog.text
    assert np.isnan(camera.unproject(np.array([[0.0, 0.0]]))).all()
    assert not np.isnan(camera.unproject(np.array([[319.5, 239.5]]))).any()


# Bounds


def test_image_begins_half_a_pixel_before_the_first_centre() -> None:
    camera = CameraModel(640, 480, K_SMALL)
    uv = np.array([[-0.5, -0.5], [-0.51, 0], [0, -0.51], [639.49, 479.49], [639.5, 0], [0, 479.5], [np.nan, np.nan]])
    assert camera.in_view(uv).tolist() == [True, False, False, True, False, False, False]


def test_point_that_is_nan_or_behind_the_camera_has_no_pixel() -> None:
    camera = CameraModel.from_camera_info(**camera_info())
    points = np.array([[np.nan, 0, 1], [0, 0, -1], [0, 0, 0], [np.inf, 0, 1], [0, 0, 1]], np.float32)
    uv, depth = camera.project(points)
    assert np.isnan(uv).all(axis=1).tolist() == [True, True, True, True, False]
    assert depth[[1, 2, 4]].tolist() == [-1.0, 0.0, 1.0]


def test_empty_cloud_gives_empty_answers() -> None:
    uv, depth = CameraModel(640, 480, K_SMALL).project(np.zeros((0, 3), np.float32))
    assert uv.shape == (0, 2)
    assert depth.shape == (0,)


def test_strided_and_read_only_points_are_taken_as_they_are() -> None:
    camera = CameraModel.from_camera_info(**camera_info())
    cloud = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    cloud[:, 2] += 5.0
    cloud.flags.writeable = False
    np.testing.assert_array_equal(camera.project(cloud[:, :3])[0], camera.project(cloud[:, :3].copy())[0])


def test_transposed_cloud_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(N, 3\) wanted, \(3, 7\) seen"):
        CameraModel(640, 480, K_SMALL).project(np.zeros((3, 7)))


# Rectified images


def test_kitti_pixels_follow_its_documented_formula(shared_data: Path) -> None:
    calib = read_kitti(shared_data / "kitti_drive/calib/calib_cam_to_cam.txt")
    velo = read_kitti(shared_data / "kitti_drive/calib/calib_velo_to_cam.txt")
    scan = next((shared_data / "kitti_drive/velodyne_points/data").glob("*.bin"))
    points = np.fromfile(scan, np.float32).reshape(-1, 4)[:, :3].astype(float)
    P, R = calib["P_rect_02"].reshape(3, 4), calib["R_rect_00"].reshape(3, 3)
    points_cam0 = points @ velo["R"].reshape(3, 3).T + velo["T"]
    points_rect = points_cam0 @ R.T
    image = points_rect @ P[:, :3].T + P[:, 3]
    ahead = image[:, 2] > 0.0
    wanted = image[ahead, :2] / image[ahead, 2:]

    width, height = calib["S_rect_02"].astype(int)
    info = camera_info(width=width, height=height, p=P.ravel(), rectified=True)
    from_rectified_frame = CameraModel.from_camera_info(**info)
    from_raw_frame = CameraModel.from_camera_info(**{**info, "r": R.ravel()})
    for camera, given in ((from_rectified_frame, points_rect), (from_raw_frame, points_cam0)):
        uv, depth = camera.project(given)
        np.testing.assert_array_equal(np.isfinite(uv[:, 0]), ahead)
        np.testing.assert_allclose(uv[ahead], wanted, rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(depth, image[:, 2], atol=1e-9)
    near = ahead & (np.abs(image[:, 2] - 10.0) < 1.0)
    without_offset = points_rect[near] @ P[:, :3].T
    shift = np.abs(
        without_offset[:, 0] / without_offset[:, 2] - from_rectified_frame.project(points_rect[near])[0][:, 0]
    )
    assert np.median(shift) == pytest.approx(4.5, abs=1.0)


def test_rectified_pixel_is_the_raw_pixel_as_opencv_rectifies_it() -> None:
    R = cv2.Rodrigues(np.array([0.03, -0.05, 0.02]))[0]
    P = np.array([[380.0, 0.0, 310.0, 0.0], [0.0, 380.0, 250.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
    info = camera_info(r=R.ravel(), p=P.ravel())
    raw, rectified = CameraModel.from_camera_info(**info), CameraModel.from_camera_info(**info, rectified=True)
    map_u, map_v = cv2.initUndistortRectifyMap(raw.K, raw.D, R, P[:, :3], (640, 480), cv2.CV_32FC1)
    uv = np.stack(np.meshgrid(np.arange(640.0), np.arange(480.0)), axis=-1).reshape(-1, 2)
    wanted = np.column_stack([map_u.ravel(), map_v.ravel()])
    np.testing.assert_allclose(raw.project(rectified.unproject(uv))[0], wanted, atol=1e-3)


def test_rectified_image_needs_neither_k_nor_a_known_lens() -> None:
    CameraModel.from_camera_info(
        **camera_info(k=np.zeros(9), distortion_model="double_sphere", d=[1.0]), rectified=True
    )


# ROI, binning, scaling


@pytest.mark.parametrize("rectified", [False, True])
def test_region_of_interest_shifts_pixels_by_its_offset(rectified: bool) -> None:
    full = CameraModel.from_camera_info(**camera_info(), rectified=rectified)
    part = CameraModel.from_camera_info(**camera_info(), roi=roi(100, 50, 320, 200), rectified=rectified)
    points = np.array([[0.1, 0.2, 2.0], [-0.3, 0.1, 4.0]])
    np.testing.assert_allclose(part.project(points)[0], full.project(points)[0] - (100, 50), atol=1e-9)
    assert (part.width, part.height) == (320, 200)


@pytest.mark.parametrize("rectified", [False, True])
def test_super_pixel_of_binning_lies_at_the_mean_of_its_pixels(rectified: bool) -> None:
    full = CameraModel.from_camera_info(**camera_info(), rectified=rectified)
    binned = CameraModel.from_camera_info(**camera_info(), binning_x=2, binning_y=3, rectified=rectified)
    assert (binned.width, binned.height) == (320, 160)
    # Column 10 holds full columns 20 and 21, row 7 holds full rows 21, 22 and 23.
    ray = full.unproject(np.array([[20.5, 22.0]]))
    np.testing.assert_allclose(binned.project(ray)[0], [[10.0, 7.0]], atol=1e-9)


def test_binning_applies_after_the_region_and_drops_what_does_not_fill_a_pixel() -> None:
    camera = CameraModel.from_camera_info(**camera_info(), binning_x=2, binning_y=2, roi=roi(101, 50, 321, 201))
    assert (camera.width, camera.height) == (160, 100)
    full = CameraModel.from_camera_info(**camera_info())
    ray = full.unproject(np.array([[101.5, 50.5]]))
    np.testing.assert_allclose(camera.project(ray)[0], [[0.0, 0.0]], atol=1e-9)


def test_all_zero_region_and_binning_mean_the_whole_image() -> None:
    camera = CameraModel.from_camera_info(**camera_info(), binning_x=0, binning_y=1, roi=roi(0, 0, 0, 0))
    assert (camera.width, camera.height) == (640, 480)
    np.testing.assert_array_equal(camera.K, K_SMALL)


@pytest.mark.parametrize("size", [(320, 240), (512, 160), (1281, 961), (960, 720)])
def test_scaled_camera_sees_a_spot_where_cv2_resize_puts_it(size: tuple[int, int]) -> None:
    camera = CameraModel.from_camera_info(**camera_info())
    point = np.array([[0.31, -0.22, 2.0]])
    (u, v), _ = camera.project(point)[0][0], None
    columns, rows = np.meshgrid(np.arange(640), np.arange(480))
    spot = np.exp(-((columns - u) ** 2 + (rows - v) ** 2) / (2 * 12.0**2))
    resized = cv2.resize(spot, size, interpolation=cv2.INTER_LINEAR)
    columns, rows = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    centre = (resized * columns).sum() / resized.sum(), (resized * rows).sum() / resized.sum()
    assert camera.scaled(*size).project(point)[0][0] == pytest.approx(centre, abs=0.02)


def test_scaling_there_and_back_is_the_same_camera() -> None:
    camera = CameraModel.from_camera_info(**camera_info())
    np.testing.assert_allclose(camera.scaled(1000, 333).scaled(640, 480).K, camera.K, atol=1e-9)


def test_image_of_another_size_is_refused() -> None:
    camera = CameraModel.from_camera_info(**camera_info(), binning_x=2, binning_y=2)
    camera.require_image_size(320, 240)
    with pytest.raises(CalibrationError, match="image is 640 x 480, 320 x 240 wanted"):
        camera.require_image_size(640, 480)


# CameraInfo fields


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"distortion_model": "", "d": []},
        {"distortion_model": "equidistant", "d": [0.0] * 4},
        {"distortion_model": "rational_polynomial", "d": [0.1, 0.0, 0.0, 0.0, 0.0, 0.1, 0.0, 0.0]},
        {
            "rectified": True,
            "r": cv2.Rodrigues(np.array([0.1, 0.2, 0.3]))[0],
            "p": [5, 0, 2, 3, 0, 5, 2, 1, 0, 0, 1, 0.1],
        },
    ],
)
def test_camera_info_fields_read_back_as_the_same_camera(changes: dict[str, Any]) -> None:
    camera = CameraModel.from_camera_info(**camera_info(**changes))
    again = CameraModel.from_camera_info(**camera.to_camera_info_fields(), rectified=changes.get("rectified", False))
    assert (again.width, again.height, again.model) == (camera.width, camera.height, camera.model)
    np.testing.assert_array_equal(again.K, camera.K)
    np.testing.assert_array_equal(again.D, camera.D)
    np.testing.assert_allclose(again.T_lens_cam, camera.T_lens_cam, atol=1e-12)


@pytest.mark.parametrize("d", [[0.0] * 5, []])
@pytest.mark.parametrize("name", ["plumb_bob", "rational_polynomial", "", "none"])
def test_zero_or_no_coefficients_of_a_polynomial_are_no_distortion(name: str, d: list[float]) -> None:
    camera = CameraModel.from_camera_info(**camera_info(distortion_model=name, d=d))
    assert camera.model == "none"


def test_zero_coefficients_of_a_fisheye_are_still_a_fisheye() -> None:
    camera = CameraModel.from_camera_info(**camera_info(distortion_model="equidistant", d=[0.0] * 4))
    uv, _ = camera.project(np.array([[1.0, 0.0, 1.0]]))
    assert uv[0, 0] == pytest.approx(319.5 + 400.0 * math.pi / 4)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"distortion_model": "double_sphere"}, "distortion_model is 'double_sphere', one of plumb_bob, rational_poly"),
        ({"distortion_model": ""}, r"distortion_model is '' but D is \[-0.2"),
        ({"d": [0.1, 0.2, 0.3]}, "D has 3 coefficients, 4 or 5 wanted by model 'plumb_bob'"),
        ({"distortion_model": "equidistant", "d": []}, "D has 0 coefficients, 4 wanted"),
        ({"distortion_model": "rational_polynomial", "d": [0.1] * 6}, "6 coefficients, 4 or 5 or 8 or 12 or 14 wanted"),
        ({"distortion_model": "equidistant", "d": [0.0] * 5}, "D has 5 coefficients, 4 wanted by model 'equidistant'"),
        ({"d": [0.1, np.nan, 0.0, 0.0]}, r"D is \[0.1, nan, 0.0, 0.0\], finite values wanted"),
        ({"k": np.zeros(9)}, "K is all zero, which means 'not calibrated'"),
        ({"k": [400, 0, 320, 0, 0, 240, 0, 0, 1]}, "K has focal lengths 400 and 0, values above 0 wanted"),
        ({"k": [-400, 0, 320, 0, 400, 240, 0, 0, 1]}, "K has focal lengths -400 and 400"),
        ({"k": [400, 0, np.inf, 0, 400, 240, 0, 0, 1]}, "K is .*inf.*, finite values wanted"),
        ({"k": [400, 0, 320, 0, 400, 240, 0, 0, 2]}, "K has rows 2 and 3 .*wanted"),
        ({"k": [400, 0, 320]}, "K has 3 values, 9 wanted"),
        ({"width": 0}, "image size is 0 x 480, a width and height above 0 wanted"),
        ({"roi": roi(600, 0, 100, 100)}, r"ROI is 100 x 100 at \(600, 0\).*within 640 x 480 wanted"),
        ({"roi": roi(10, 10, 0, 0)}, r"ROI is 0 x 0 at \(10, 10\)"),
        ({"binning_x": 1000}, "with binning 1000 x 1"),
        ({"rectified": True, "p": np.zeros(12)}, "P is all zero, so its rectified image is unknown"),
        ({"rectified": True, "p": [0.0] * 11 + [1.0]}, r"P\[:, :3\] is all zero"),
        ({"rectified": True, "r": np.zeros(9)}, "R is .* a rotation wanted"),
        ({"rectified": True, "r": np.diag([1.0, 1.0, -1.0])}, "R is .* a rotation wanted"),
    ],
)
def test_unusable_calibration_is_refused_with_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CalibrationError, match="CameraInfo of rear: .*" + sentence):
        CameraModel.from_camera_info(**camera_info(**changes), name="rear")


def test_calibration_cannot_be_changed_after_its_limit_was_found() -> None:
    camera = CameraModel.from_camera_info(**camera_info())
    with pytest.raises(ValueError, match="read-only"):
        camera.K[0, 0] = 1.0
    given = K_SMALL.copy()
    camera = CameraModel(640, 480, given)
    given[0, 0] = 1.0
    assert camera.K[0, 0] == 400.0


@pytest.mark.ros
def test_camera_info_fields_fill_a_real_message_that_reads_back() -> None:
    from sensor_msgs.msg import CameraInfo

    camera = CameraModel.from_camera_info(**camera_info(width=np.int64(640)), binning_x=2, binning_y=2)
    message = CameraInfo(**camera.to_camera_info_fields())
    fields = {name: getattr(message, name) for name in camera_info()}
    again = CameraModel.from_camera_info(**fields, binning_x=message.binning_x, roi=message.roi)
    np.testing.assert_array_equal(again.K, camera.K)
    np.testing.assert_array_equal(again.D, camera.D)
