import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_perception.geometry.camera import CameraModel
from seg_perception.geometry.columns import BLOCK, by_axis
from seg_perception.geometry.projection import project
from seg_perception.geometry.workspace import Workspace

K = np.array([[500.0, 0, 319.5], [0, 500.0, 239.5], [0, 0, 1]])
CAMERAS = (
    CameraModel(640, 480, K),
    CameraModel(640, 480, K, "plumb_bob", np.array([-0.2, 0.05, 0.001, -0.0005, 0.0])),
    CameraModel(640, 480, K, "equidistant", np.array([-0.01, 0.004, 0.0, 0.0])),
)
any_camera = st.sampled_from(CAMERAS)
TILTED = np.array([-0.2, 0.05, 0.001, -0.0005, 0.0, 0.01, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.05, -0.03])
AROUND = CameraModel(640, 480, np.array([[180.0, 0, 319.5], [0, 180.0, 239.5], [0, 0, 1]]), "equidistant", np.zeros(4))
FOLDED = CameraModel(640, 480, np.array([[250.0, 0, 319.5], [0, 250.0, 239.5], [0, 0, 1]]), "plumb_bob",
                     np.array([-0.3, 0.0, 0.0, 0.0, 0.0]))  # fmt: skip
coordinate = st.floats(-1e4, 1e4, width=32) | st.sampled_from([0.0, float("nan"), float("inf"), -float("inf")])
clouds = st.lists(st.tuples(coordinate, coordinate, coordinate), max_size=40).map(
    lambda rows: np.array(rows, np.float32).reshape(-1, 3)
)


def pose(x: float = 0.0, yaw: float = 0.0) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = [[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]]
    T[0, 3] = x
    return T


@given(any_camera, clouds)
@settings(max_examples=60, deadline=None)
def test_only_finite_points_on_pixels_are_in_view(camera, points):
    projection = project(points, pose(), camera)
    assert np.isfinite(points[projection.index]).all()
    assert camera.in_view(projection.uv).all()
    pixels = np.floor(projection.uv + 0.5).astype(int)
    assert ((pixels >= 0) & (pixels < [camera.width, camera.height])).all()


@given(any_camera, clouds, st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_the_order_of_points_does_not_matter(camera, points, random):
    order = np.array(random.sample(range(len(points)), len(points)), np.int64)
    straight, shuffled = project(points, pose(), camera), project(points[order], pose(), camera)
    back = np.argsort(order[shuffled.index])
    assert order[shuffled.index][back].tolist() == straight.index.tolist()
    assert np.array_equal(shuffled.uv[back], straight.uv)


@given(any_camera, st.floats(0, 639), st.floats(0, 479), st.floats(1.0, 80.0))
@settings(max_examples=60, deadline=None)
def test_a_point_on_the_ray_of_a_pixel_falls_on_that_pixel(camera, u, v, distance):
    point = (camera.unproject(np.array([[u, v]])) * distance).astype(np.float32)
    projection = project(point, pose(), camera)
    if len(projection.index):  # the outermost half pixel may round outside
        assert np.abs(projection.uv[0] - [u, v]).max() < 2e-3
        assert abs(projection.distance[0] - distance) < 1e-3


@given(any_camera, clouds, st.floats(-1, 1), st.floats(-0.3, 0.3))
@settings(max_examples=30, deadline=None)
def test_a_shutter_whose_rows_agree_rolls_nowhere(camera, points, x, yaw):
    at_once = project(points, pose(x, yaw), camera)
    rolling = project(points, pose(x, yaw), camera, (pose(x, yaw), pose(x, yaw)))
    assert at_once.index.tolist() == rolling.index.tolist()
    assert np.allclose(at_once.uv, rolling.uv, atol=2e-4)


def test_each_row_of_a_rolling_shutter_sees_its_own_instant():
    """The camera slides half a metre to the right while it reads its rows: upper points move less than lower ones."""
    first, middle, last = pose(0.0), pose(-0.25), pose(-0.5)
    points = np.array([[0.5, v, 10.0] for v in (-4.0, 0.0, 4.0)], np.float32)
    projection = project(points, middle, CAMERAS[0], (first, last))
    share = projection.uv[:, 1] / 479.0
    assert np.allclose(projection.uv[:, 0], 319.5 + 500.0 * (0.5 - 0.5 * share) / 10.0, atol=1e-4)
    assert projection.uv[0, 0] - projection.uv[2, 0] > 15.0


@pytest.mark.parametrize(
    "camera",
    [*CAMERAS, AROUND, FOLDED, CameraModel(640, 480, K, "rational_polynomial", TILTED)],
    ids=["none", "plumb_bob", "equidistant", "sees behind", "folds within the image", "tilted sensor"],
)
def test_what_is_turned_away_early_is_what_the_lens_would_turn_away(camera):
    """2,000 points around, and many along the border of the image, where the window has to be wide enough."""
    rng = np.random.default_rng(3)
    border = np.stack([rng.uniform(-0.5, 639.5, 800), rng.choice([-0.499, 0.5, 479.49], 800)], axis=1)
    rays = camera.unproject(np.concatenate([border, border[:, ::-1] * [1.333, 0.75]]))
    points = np.concatenate([rng.normal(0, 10, (2000, 3)), rays[np.isfinite(rays[:, 0])] * 7.0]).astype(np.float32)
    uv, _ = camera.project(points)
    inside = np.flatnonzero(camera.in_view(uv))
    projection = project(points, np.eye(4), camera)
    assert projection.index.tolist() == inside.tolist()
    assert np.array_equal(projection.uv, uv[inside].astype(np.float32))
    assert np.allclose(projection.distance, np.linalg.norm(points[inside], axis=1), rtol=1e-6)


def test_what_float32_cannot_tell_is_not_turned_away():
    """Points a hair before a lens far from the LiDAR: there float32 errs by more than the window is too wide."""
    rng = np.random.default_rng(4)
    border = np.stack([rng.uniform(-0.5, 639.4, 3000), rng.choice([-0.4999, 479.4999], 3000)], axis=1)
    rays = CAMERAS[0].unproject(np.concatenate([border, border[:, ::-1] * [1.333, 0.75]]))
    T_cam_lidar = pose(3000.0, 0.7)
    T_cam_lidar[1:3, 3] = 1000.0, 1500.0
    points = np.full((4 * len(rays), 3), np.nan, np.float32)  # so that few of each block are left
    points[::4] = (rays * 1e-3 - T_cam_lidar[:3, 3]) @ T_cam_lidar[:3, :3]
    uv, _ = CAMERAS[0].project(points.astype(float) @ T_cam_lidar[:3, :3].T + T_cam_lidar[:3, 3])
    inside = np.flatnonzero(CAMERAS[0].in_view(uv))
    assert len(inside) > 500
    assert project(points, T_cam_lidar, CAMERAS[0]).index.tolist() == inside.tolist()


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.7, 1.0])
def test_blocks_of_which_few_or_many_or_no_points_are_in_view_give_the_same_points(share):
    rng = np.random.default_rng(5)
    ahead = rng.random(3001) < share
    near = rng.normal(0, 1, (3001, 3)) + np.array([0.0, 0.0, 6.0])
    points = np.where(ahead[:, None], near, [0.0, 0.0, -5.0]).astype(np.float32)
    points[7] = np.nan
    uv, _ = CAMERAS[0].project(points)
    projection = project(points, np.eye(4), CAMERAS[0])
    inside = np.flatnonzero(CAMERAS[0].in_view(uv))
    assert projection.index.tolist() == inside.tolist()
    assert np.array_equal(projection.uv, uv[inside].astype(np.float32))


@pytest.mark.parametrize("after", [1.0, 0.6, 0.02, 0.0])
def test_a_block_after_one_that_is_all_in_the_image_is_left_out_where_it_is_not(after):
    """Near and far points, so that bounds alone do not tell."""
    rng = np.random.default_rng(6)
    share = np.repeat([1.0, 1.0, after, 1.0, after, after], BLOCK)
    depth = rng.uniform(2.0, 40.0, share.size)
    aside = np.where(rng.random(share.size) < share, 0.0, rng.choice([-2.0, 2.0], share.size))
    x, y = rng.uniform(-0.4, 0.4, (2, share.size))
    points = np.column_stack([(x + aside) * depth, y * depth, depth]).astype(np.float32)
    points[[5, 3 * BLOCK + 7]] = np.nan
    uv, _ = CAMERAS[1].project(points)
    inside = np.flatnonzero(CAMERAS[1].in_view(uv))
    projection = project(points, np.eye(4), CAMERAS[1])
    assert projection.index.tolist() == inside.tolist()
    assert np.array_equal(projection.uv, uv[inside].astype(np.float32))


def test_blocks_of_points_beside_the_image_are_left_out_whole_and_no_point_in_it_is():
    """In the order of a turning LiDAR: some blocks lie in the image, some around it, one across its border."""
    azimuth = np.repeat(np.linspace(-np.pi, np.pi, 400), 16)
    rng = np.random.default_rng(8)
    far, rise = rng.uniform(2.0, 40.0, azimuth.size), np.tile(np.linspace(-0.6, 0.3, 16), 400)
    points = np.column_stack([far * np.sin(azimuth), -far * rise, far * np.cos(azimuth)]).astype(np.float32)
    points[rng.integers(0, len(points), 9)] = np.nan
    shuffled = rng.permutation(len(points))
    for camera in CAMERAS:
        fired, mixed = project(points, pose(), camera), project(points[shuffled], pose(), camera)
        order = np.argsort(shuffled[mixed.index])
        assert np.array_equal(fired.index, shuffled[mixed.index][order])
        assert np.array_equal(fired.uv, mixed.uv[order])
        assert np.array_equal(fired.distance, mixed.distance[order])


def test_points_lie_in_memory_point_by_point_or_axis_by_axis():
    points = np.random.default_rng(6).normal(0, 5, (2000, 3)).astype(np.float32)
    columns = by_axis(points)
    for camera in CAMERAS:
        turned, as_is = project(columns.T, pose(), camera), project(points, pose(), camera)
        assert np.array_equal(turned.index, as_is.index) and np.array_equal(turned.uv, as_is.uv)


def test_pixels_are_rounded_once_and_those_that_round_out_of_the_image_are_not_in_view():
    """At a float32 the right border of the image, 639.5, is nearest to what lies less than 3e-5 before it."""
    camera, exact = CAMERAS[0], np.array([[639.49999, 200.3], [639.4, 100.1], [-0.5, 479.49999], [0.3, 0.3]])
    points = np.column_stack([(exact - K[:2, 2]) / 500.0, np.ones(4)])
    T_cam_lidar = pose(7.0, 0.4)  # so that float32 points lie nowhere in particular
    points = ((points * 12.3 - T_cam_lidar[:3, 3]) @ T_cam_lidar[:3, :3]).astype(np.float32)
    uv, _ = camera.project(points.astype(float) @ T_cam_lidar[:3, :3].T + T_cam_lidar[:3, 3])
    projection = project(points, T_cam_lidar, camera)
    assert projection.uv.dtype == projection.distance.dtype == np.float32
    assert projection.uv.flags.f_contiguous
    assert projection.index.tolist() == np.flatnonzero(camera.in_view(uv.astype(np.float32))).tolist()
    assert np.abs(projection.uv - uv[projection.index]).max() < 1e-4


def test_a_workspace_lends_the_same_arrays_again_and_a_selection_is_its_own():
    workspace, points = Workspace(), np.array([[0, 0, 5.0], [1, 0, 5.0], [0, 0, -5.0]], np.float32)
    first = project(points, pose(), CAMERAS[0], workspace=workspace)
    kept = first.select(np.array([False, True]))
    second = project(points[:1], pose(), CAMERAS[0], workspace=workspace)
    assert np.shares_memory(first.uv, second.uv)
    assert kept.index.tolist() == [1]
    assert not np.shares_memory(kept.uv, second.uv)
