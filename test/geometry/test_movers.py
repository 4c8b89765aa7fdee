"""Points go on with what moves, as far as an image asks for it."""

from __future__ import annotations

import numpy as np
import pytest
import small_world as world
from small_world import MS, T0

from seg_perception.config import MotionConfig
from seg_perception.geometry.columns import bounds_of, by_axis
from seg_perception.geometry.looking import Look, Visible, look_at
from seg_perception.geometry.motion import MovedSweep
from seg_perception.geometry.movers import Movers, Moving
from seg_perception.geometry.projection import project
from seg_perception.geometry.transforms import inverse, transform_points
from seg_perception.geometry.workspace import Workspace


def movers(*boxes: tuple[tuple[float, float, float], tuple[float, float, float], float, tuple[float, float]]) -> Movers:
    """Each: centre, size, yaw, velocity."""
    columns = [np.array(column, np.float64) for column in zip(*boxes, strict=True)]
    return Movers(*columns)


def some_points(count: int = 3000, seed: int = 0) -> np.ndarray:
    points = np.random.default_rng(seed).uniform([-20, -20, -2], [20, 20, 2], (count, 3)).astype(np.float32)
    points[::97] = np.nan
    return by_axis(points).T


def pose(yaw: float, x: float, y: float, z: float) -> np.ndarray:
    T = np.eye(4)
    T[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    T[:3, 3] = x, y, z
    return T


def look(index: list[int], velocity: tuple[float, float, float], points: np.ndarray, seconds: float) -> Look:
    moving = Moving(np.array(index, np.int32), np.tile(np.array(velocity, np.float32), (len(index), 1)))
    carried = moving.carried(points, np.full(len(index), seconds))
    return Look(world.camera(), inverse(world.T_LIDAR_CAMERA), None, carried)


def test_points_in_boxes_are_found_wherever_the_lidar_stands_and_however_it_is_turned():
    points, T_fixed_lidar = some_points(), pose(0.7, 5.0, -3.0, 1.0)
    boxes = movers(
        ((9.0, 2.0, 1.0), (8.0, 4.0, 2.0), 0.4, (10.0, 0.0)), ((-4.0, -9.0, 1.0), (6.0, 6.0, 3.0), -1.0, (0.0, 5.0))
    )
    moving = boxes.moving(points, bounds_of(points), T_fixed_lidar, Workspace())
    in_fixed = transform_points(T_fixed_lidar, points)
    inside = np.zeros((2, len(points)), bool)
    for t in range(2):
        local = transform_points(inverse(pose(boxes.yaw[t], *boxes.centre[t])), in_fixed)
        inside[t] = (abs(local) < 0.5 * boxes.size[t]).all(axis=1)
    assert moving.index.tolist() == np.flatnonzero(inside.any(axis=0)).tolist()
    assert inside.any(axis=1).all()
    velocity = moving.velocity @ T_fixed_lidar[:3, :3].T
    first = inside[0, moving.index]
    assert np.allclose(velocity[first], [10.0, 0.0, 0.0], atol=1e-5)
    assert np.allclose(velocity[~first], [0.0, 5.0, 0.0], atol=1e-5)


def test_of_two_boxes_that_overlap_a_point_goes_with_the_one_in_whose_middle_it_is():
    points = by_axis(np.array([[10.4, 0, 0], [11.6, 0, 0]], np.float32)).T
    boxes = movers(((10.0, 0, 0), (4.0, 2, 2), 0.0, (1.0, 0)), ((12.0, 0, 0), (4.0, 2, 2), 0.0, (2.0, 0)))
    moving = boxes.moving(points, bounds_of(points), np.eye(4), Workspace())
    assert moving.velocity[:, 0].tolist() == [1.0, 2.0]


def test_the_sweep_keeps_its_points_where_they_were_measured():
    points = by_axis(world.points()).T
    before = points.copy()
    view = look([0, 1], (0.0, 30.0, 0.0), points, 0.1)
    view.project(points, Workspace(), bounds_of(points))
    assert np.array_equal(points, before, equal_nan=True)


@pytest.mark.parametrize(
    "index", [[], [0], [2999], [0, 1, 2, 7, 8, 1500, 2998, 2999], list(range(0, 3000, 3)), list(range(3000))]
)
def test_what_is_in_view_is_as_if_the_points_had_been_measured_there(index):
    points = some_points()
    view = look(index, (-3.0, 40.0, 2.0), points, 0.05)  # two metres aside: some leave the image, some come into it
    moved = points.copy()
    moved[index] += np.float32(0.05) * np.array([-3.0, 40.0, 2.0], np.float32)
    workspace = Workspace()
    seen, wanted = view.project(points, workspace, bounds_of(points)), project(moved, view.T_cam_lidar, view.camera)
    assert seen.index.tolist() == wanted.index.tolist()
    assert np.allclose(seen.uv, wanted.uv, atol=1e-3)
    assert np.allclose(seen.distance, wanted.distance, atol=1e-5)
    visible = Visible(points)
    visible.add("front", seen.index, np.arange(len(seen.index)) % 2 == 0, view)
    assert visible["front"].index.tolist() == wanted.index[::2].tolist()
    assert np.allclose(visible["front"].uv, wanted.uv[::2], atol=1e-3)


def test_each_point_goes_on_from_its_own_instant_and_a_rolling_shutter_asks_for_that_of_its_row():
    tree = world.tree()
    for stamp_ns in (T0 - 200 * MS, T0 + 200 * MS):
        tree.insert("odom", "base_link", stamp_ns, np.eye(4))
    scan = world.scan(xyz=np.array([[10.0, 1.0, 0.0], [10.0, 1.0, -2.0]], np.float32))
    stamps_ns = T0 + np.array([0, 40 * MS])
    sweep = MovedSweep(
        type(scan)(scan.frame_id, scan.stamp_ns, scan.points, stamps_ns, scan.cloud), tree, MotionConfig()
    )
    moving = Moving(np.arange(2, dtype=np.int32), np.tile(np.array([0.0, 10.0, 0.0], np.float32), (2, 1)))
    at_once = look_at(sweep, world.image(T0 + 50 * MS), world.camera(), 0, moving)
    assert np.allclose(at_once.carried.points[:, 1], [1.5, 1.1])
    rolling = look_at(sweep, world.image(T0 + 50 * MS), world.camera(), 20 * MS, moving)
    rows = rolling.project(sweep.points, Workspace()).uv[:, 1]
    assert abs(rows[1] - rows[0]) > 10.0
    assert np.allclose(rolling.carried.points[:, 1], [1.5, 1.1] + 0.2 * (rows / 99.0 - 0.5), atol=1e-5)
