import numpy as np
import pytest

from seg_perception.config import MotionConfig
from seg_perception.datatypes import LidarScan, PointCloud
from seg_perception.errors import TransformError, UnknownFrameError
from seg_perception.geometry.motion import INSTANTS, MovedSweep, awaits_transforms, deskew
from seg_perception.geometry.transform_tree import TransformTree
from seg_perception.geometry.transforms import inverse, transform_points

MS = 1_000_000
T0 = 1_000_000_000_000


def pose(x: float, yaw: float) -> np.ndarray:
    T = np.eye(4)
    T[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    T[0, 3] = x
    return T


def moving_tree(speed: float = 20.0, yaw_rate: float = 0.4, until_ms: int = 200) -> TransformTree:
    """odom -> base_link at 100 Hz; a LiDAR on the roof; a camera at the windscreen looking ahead (optical axes)."""
    tree = TransformTree()
    for ms in range(-100, until_ms + 1, 10):
        tree.insert("odom", "base_link", T0 + ms * MS, pose(speed * ms * 1e-3, yaw_rate * ms * 1e-3))
    T_base_lidar, T_base_camera = np.eye(4), np.eye(4)
    T_base_lidar[:3, 3] = 0.0, 0.0, 1.8
    T_base_camera[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    T_base_camera[:3, 3] = 1.5, 0.0, 1.3
    tree.insert("base_link", "lidar", 0, T_base_lidar, static=True)
    tree.insert("base_link", "camera_optical", 0, T_base_camera, static=True)
    return tree


def scan_of(points: np.ndarray, stamps_ns: np.ndarray | None) -> LidarScan:
    cloud = PointCloud("lidar", T0, len(points), 1, (), np.zeros((len(points), 0), np.uint8))
    return LidarScan("lidar", T0, points.astype(np.float32), stamps_ns, cloud)


def seen_while_moving(world: np.ndarray, tree: TransformTree, stamps_ns: np.ndarray) -> LidarScan:
    """What the moving LiDAR measures of points that stand still in odom, each at its own instant."""
    T_lidar_odom = inverse(tree.T("odom", "lidar", stamps_ns))
    return scan_of(np.einsum("nij,nj->ni", T_lidar_odom[:, :3, :3], world) + T_lidar_odom[:, :3, 3], stamps_ns)


def test_points_of_a_static_world_come_to_rest_at_the_sweeps_stamp():
    tree = moving_tree()
    world = np.random.default_rng(0).uniform([5, -10, 0], [40, 10, 3], (500, 3))
    scan = seen_while_moving(world, tree, T0 + np.linspace(-50 * MS, 50 * MS, 500).astype(np.int64))
    expected = transform_points(inverse(tree.T("odom", "lidar", T0)), world)
    assert np.abs(scan.points - expected).max() > 0.5  # 50 ms at 20 m/s
    assert np.abs(deskew(scan, tree, "odom")[0] - expected).max() < 1e-4


def test_points_in_any_order_move_by_their_own_instants():
    tree = moving_tree()
    world = np.random.default_rng(2).uniform([5, -10, 0], [40, 10, 3], (400, 3))
    stamps_ns = np.repeat(T0 + np.linspace(-50 * MS, 50 * MS, 20).astype(np.int64), 20)
    order = np.random.default_rng(3).permutation(400)
    fired = deskew(seen_while_moving(world, tree, stamps_ns), tree, "odom")[0]
    shuffled = deskew(seen_while_moving(world[order], tree, stamps_ns[order]), tree, "odom")[0]
    assert np.abs(shuffled - fired[order]).max() == 0.0


def test_more_instants_than_are_asked_for_move_each_point_by_the_nearest():
    tree = moving_tree(speed=30.0, yaw_rate=1.0, until_ms=50)  # nothing is known of later than the last point
    world = np.random.default_rng(4).uniform([5, -10, 0], [40, 10, 3], (20_000, 3))
    stamps_ns = np.random.default_rng(5).permutation(T0 + np.linspace(-50 * MS, 50 * MS, 20_000).astype(np.int64))
    scan = seen_while_moving(world, tree, stamps_ns)
    expected = transform_points(inverse(tree.T("odom", "lidar", T0)), world)
    wrong = np.linalg.norm(deskew(scan, tree, "odom")[0] - expected, axis=1)
    half_a_step_s = 0.5 * 0.1 / INSTANTS
    assert wrong.max() < half_a_step_s * (30.0 + 1.0 * 42.0) + 2e-5  # metres; 42 m is the farthest point
    assert wrong.max() > 2e-4  # the points do have more instants


@pytest.mark.parametrize("gap_ms", [0, 40])
def test_many_points_in_the_order_of_time_move_as_they_do_in_any_order(gap_ms):
    """Each has a time of its own. gap_ms: in which no point was measured."""
    tree, count = moving_tree(), 2 * INSTANTS
    stamps_ns = T0 + np.linspace(-50 * MS, 10 * MS, count).astype(np.int64)
    stamps_ns[count // 3 :] += gap_ms * MS
    points = np.random.default_rng(5).uniform(-40, 40, (count, 3)).astype(np.float32)
    order = np.random.default_rng(6).permutation(count)
    in_order = deskew(scan_of(points, stamps_ns), tree, "odom")[0]
    assert np.array_equal(in_order[order], deskew(scan_of(points[order], stamps_ns[order]), tree, "odom")[0])


def test_a_rolling_shutter_is_asked_at_its_first_and_last_row():
    tree = moving_tree(yaw_rate=0.0)
    sweep = MovedSweep(scan_of(np.array([[10.0, 0.0, 0.0]]), None), tree, MotionConfig())
    middle = sweep.T_cam_lidar("camera_optical", T0)
    first, last = sweep.T_cam_lidar_rows("camera_optical", T0, 20 * MS)
    assert first[2, 3] - middle[2, 3] == pytest.approx(0.2)  # 10 ms earlier at 20 m/s: still further away
    assert last[2, 3] - middle[2, 3] == pytest.approx(-0.2)
    assert sweep.T_cam_lidar_rows("camera_optical", T0, 0) is None


def test_a_rolling_shutter_whose_rows_leave_odometry_is_taken_as_one_instant_and_said():
    tree = moving_tree(until_ms=20)
    sweep = MovedSweep(scan_of(np.ones((1, 3)), None), tree, MotionConfig())
    assert sweep.T_cam_lidar_rows("camera_optical", T0 + 15 * MS, 30 * MS) is None
    assert "camera_optical" in sweep.fallback


def test_points_reach_the_camera_at_its_own_instant():
    tree = moving_tree()
    world = np.random.default_rng(1).uniform([5, -10, 0], [40, 10, 3], (200, 3))
    scan = seen_while_moving(world, tree, T0 + np.linspace(-50 * MS, 50 * MS, 200).astype(np.int64))
    image_ns = T0 + 33 * MS
    sweep = MovedSweep(scan, tree, MotionConfig())
    points_cam = transform_points(sweep.T_cam_lidar("camera_optical", image_ns), sweep.points)
    expected = transform_points(inverse(tree.T("odom", "camera_optical", image_ns)), world)
    assert sweep.kind == "per_point"
    assert np.abs(points_cam - expected).max() < 1e-4


def test_one_stamp_for_all_moves_the_sweep_as_a_whole():
    tree = moving_tree(yaw_rate=0.0)
    sweep = MovedSweep(scan_of(np.array([[10.0, 0.0, 0.0]]), None), tree, MotionConfig())
    at_sweep, at_image = (sweep.T_cam_lidar("camera_optical", T0 + ms * MS) for ms in (0, 50))
    assert sweep.kind == "per_sweep"
    assert at_sweep[2, 3] - at_image[2, 3] == pytest.approx(1.0)  # the camera drove a metre nearer


def test_without_odometry_auto_assumes_that_nothing_moved_and_says_so():
    tree = TransformTree()
    tree.insert("lidar", "camera_optical", 0, np.eye(4), static=True)
    sweep = MovedSweep(scan_of(np.ones((1, 3)), None), tree, MotionConfig(mode="auto"))
    assert sweep.kind == "static"
    assert "odom" in sweep.fallback
    assert sweep.T_cam_lidar("camera_optical", T0).tolist() == np.eye(4).tolist()


def test_without_odometry_required_refuses_the_sweep():
    tree = TransformTree()
    tree.insert("lidar", "camera_optical", 0, np.eye(4), static=True)
    with pytest.raises(UnknownFrameError, match="odom"):
        MovedSweep(scan_of(np.ones((1, 3)), None), tree, MotionConfig(mode="required"))


def test_a_camera_without_extrinsics_is_never_given_an_identity():
    sweep = MovedSweep(scan_of(np.ones((1, 3)), None), moving_tree(), MotionConfig())
    with pytest.raises(UnknownFrameError, match="rear"):
        sweep.T_cam_lidar("rear", T0)


def test_an_image_beyond_odometry_falls_back_only_for_its_own_camera():
    sweep = MovedSweep(scan_of(np.ones((1, 3)), None), moving_tree(until_ms=20), MotionConfig())
    assert sweep.T_cam_lidar("camera_optical", T0 + 20 * MS) is not None
    assert sweep.fallback == ""
    sweep.T_cam_lidar("camera_optical", T0 + 90 * MS)
    assert "camera_optical" in sweep.fallback
    assert sweep.kind == "per_sweep"
    required = MovedSweep(scan_of(np.ones((1, 3)), None), moving_tree(until_ms=20), MotionConfig(mode="required"))
    with pytest.raises(TransformError):
        required.T_cam_lidar("camera_optical", T0 + 90 * MS)


def test_waiting_pays_only_while_odometry_is_on_its_way():
    scan, camera = scan_of(np.ones((2, 3)), np.array([T0, T0 + 50 * MS])), "camera_optical"
    late, complete = moving_tree(until_ms=20), moving_tree(until_ms=60)
    assert awaits_transforms(scan, {}, late, MotionConfig())
    assert not awaits_transforms(scan, {camera: T0}, complete, MotionConfig())
    assert awaits_transforms(scan, {camera: T0 + 61 * MS}, complete, MotionConfig())
    assert not awaits_transforms(scan, {camera: T0 + 61 * MS}, complete, MotionConfig(tolerance_ms=1.0))
    assert not awaits_transforms(scan, {}, late, MotionConfig(mode="static"))
    assert not awaits_transforms(scan, {camera: T0}, TransformTree(), MotionConfig())


def test_a_camera_that_moves_on_the_vehicle_is_waited_for_too():
    scan, tree = scan_of(np.ones((2, 3)), None), moving_tree(until_ms=60)
    tree.insert("base_link", "turning_optical", T0 - 10 * MS, np.eye(4))
    assert awaits_transforms(scan, {"turning_optical": T0}, tree, MotionConfig())
    tree.insert("base_link", "turning_optical", T0, np.eye(4))
    assert not awaits_transforms(scan, {"turning_optical": T0}, tree, MotionConfig())


def test_frames_that_nobody_has_named_are_waited_for_only_at_first():
    scan, tree = scan_of(np.ones((2, 3)), None), moving_tree()
    for mode in ("auto", "static", "required"):
        config = MotionConfig(mode=mode)
        assert not awaits_transforms(scan, {"unknown": T0}, tree, config)
        assert awaits_transforms(scan, {"unknown": T0}, tree, config, hopeful=True)
        assert not awaits_transforms(scan, {"camera_optical": T0}, tree, config, hopeful=True)
    elsewhere = MotionConfig(fixed_frame="map", mode="required")
    assert awaits_transforms(scan, {}, tree, elsewhere, hopeful=True)
    assert not awaits_transforms(scan, {}, tree, elsewhere)
