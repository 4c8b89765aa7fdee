"""Points go on with what moves, as far as an image asks for it."""

from __future__ import annotations

import numpy as np
import pytest
import small_world as world
from small_world import MS, T0

from seg_perception.config import MotionConfig
from seg_perception.geometry.columns import bounds_of, by_axis
from seg_perception.geometry.displacement import Standing
from seg_perception.geometry.looking import Look, Visible, look_at
from seg_perception.geometry.motion import MovedSweep
from seg_perception.geometry.movers import Measured, Movers, Moving, _find
from seg_perception.geometry.projection import project
from seg_perception.geometry.transforms import inverse, transform_points
from seg_perception.geometry.workspace import Workspace

NOBODY = Measured(np.zeros(0, np.int32), np.zeros((0, 2)), np.zeros(0, bool))


def movers(
    *boxes: tuple[tuple[float, float, float], tuple[float, float, float], float, tuple[float, float]],
    known: bool = False,
) -> Movers:
    """Each: centre, size, yaw, velocity."""
    columns = [np.array(column, np.float64) for column in zip(*boxes, strict=True)]
    return Movers(np.arange(7, 7 + len(boxes), dtype=np.int32), *columns, np.full(len(boxes), known))


def standing(points: np.ndarray, T_fixed_lidar: np.ndarray | None = None, after_ms: int = 0) -> Standing:
    points = by_axis(points.astype(np.float32)).T
    return Standing(
        T0 + after_ms * MS, points, bounds_of(points), np.eye(4) if T_fixed_lidar is None else T_fixed_lidar
    )


def front_and_side(seed: int = 0) -> np.ndarray:
    """The front and the left side of a car, whose front is at x = 0: (N, 3), on the ground at z = 0."""
    rng = np.random.default_rng(seed)
    front = np.column_stack([np.zeros(300), rng.uniform(-0.9, 0.9, 300), rng.uniform(0.3, 1.5, 300)])
    side = np.column_stack([rng.uniform(-4.3, 0.0, 600), np.full(600, 0.9), rng.uniform(0.3, 1.5, 600)])
    return np.vstack([front, side]) + rng.normal(0.0, 0.02, (900, 3))


CAR_BOX = (-2.1, 0.0, 0.9), (5.0, 2.4, 1.6)


def a_car(came_m: float, expected_mps: float, yaw: float = 0.3, known: bool = False):
    """What is found of a car that came so far in 100 ms, expected at that speed; the LiDAR went 2 m and turned."""
    to_car, way = pose(yaw, 12.0, 3.0, 0.0), np.array([np.cos(yaw), np.sin(yaw), 0.0])
    post = np.column_stack([np.full(40, 14.0), np.full(40, 2.0), np.linspace(0.3, 2.0, 40)])  # in its box, but stands
    then, now = (transform_points(to_car, front_and_side(seed)) for seed in (1, 2))
    before, stood = pose(-0.1, -2.0, 0.0, 1.7), pose(0.1, 0.0, 0.0, 1.7)
    centre = transform_points(to_car, np.array([CAR_BOX[0]]))[0] + expected_mps * 0.1 * way
    box = tuple(centre), CAR_BOX[1], yaw, tuple(expected_mps * way[:2])
    moving = movers(box, known=known).moving(
        standing(transform_points(inverse(stood), np.vstack([now + came_m * way, post])), stood, 100),
        standing(transform_points(inverse(before), np.vstack([then, post])), before),
        Workspace(),
    )
    return moving, moving.velocity.T @ stood[:3, :3].T, way


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
    rows, each = np.array(index, np.int32), np.tile(np.array(velocity, np.float32)[:, None], len(index))
    carried = Moving(rows, points.T[:, rows], each, NOBODY).carried(np.full(len(index), seconds))
    return Look(world.camera(), inverse(world.T_LIDAR_CAMERA), None, carried)


def test_points_in_boxes_are_found_wherever_the_lidar_stands_and_however_it_is_turned():
    now = standing(some_points(), pose(0.7, 5.0, -3.0, 1.0))
    centre, yaw = np.array([[9.0, 2.0, 1.0], [-4.0, -9.0, 1.0]]), np.array([0.4, -1.0])
    half = np.array([[4.0, 2.0, 1.0], [3.0, 3.0, 1.5]])
    index, which = np.empty((2, len(now.points)), np.int32)
    found = _find(now.by_axis, now.bounds, now.boxes(centre, yaw, half), index, which)
    in_fixed = transform_points(now.T_fixed_lidar, now.points)
    inside = np.stack(
        [(abs(transform_points(inverse(pose(yaw[t], *centre[t])), in_fixed)) < half[t]).all(axis=1) for t in range(2)]
    )
    assert index[:found].tolist() == np.flatnonzero(inside.any(axis=0)).tolist()
    assert inside.any(axis=1).all()
    assert inside[which[:found], index[:found]].all()


def test_of_two_boxes_that_overlap_a_point_goes_with_the_one_in_whose_middle_it_is():
    now = standing(np.array([[10.4, 0, 0], [11.6, 0, 0]]))
    boxes = now.boxes(np.array([[10.0, 0, 0], [12.0, 0, 0]]), np.zeros(2), np.array([[2.0, 1, 1]] * 2))
    index, which = np.empty((2, 2), np.int32)
    assert _find(now.by_axis, now.bounds, boxes, index, which) == 2
    assert which.tolist() == [0, 1]


@pytest.mark.parametrize(("came_m", "expected_mps"), [(1.5, 15.0), (1.5, 12.0), (1.5, 18.0), (0.6, 6.0), (0.7, 5.0)])
def test_what_has_come_is_carried_as_fast_as_its_points_say(came_m, expected_mps):
    moving, velocity, way = a_car(came_m, expected_mps)
    assert len(moving.index) > 600
    assert np.allclose(velocity, velocity[0], atol=1e-4)
    assert velocity[0] == pytest.approx(10.0 * came_m * way, abs=1.3)
    assert moving.measured.number.tolist() == [7]
    assert moving.measured.moves.all()
    assert moving.measured.velocity[0] == pytest.approx(velocity[0, :2], abs=1e-4)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("expected_mps", [3.0, 8.0, 17.0])
def test_what_stands_is_not_carried_however_fast_its_track_is(expected_mps, known):
    moving, _, _ = a_car(0.0, expected_mps, known=known)
    assert not len(moving.index)
    assert not moving.measured.moves.any()
    assert (np.hypot(*moving.measured.velocity.T) < 1.5).all()


def test_a_side_without_ends_tells_nothing_and_is_carried_where_it_is_known_to_move():
    wall = np.column_stack([np.linspace(-20, 20, 4000), np.full(4000, 4.0), np.tile(np.linspace(0.5, 2.5, 20), 200)])
    for known in (False, True):
        side = movers(((0.0, 4.5, 1.5), (8.0, 3.0, 3.0), 0.0, (12.0, 0.0)), known=known)
        moving = side.moving(standing(wall, after_ms=100), standing(wall), Workspace())
        assert bool(len(moving.index)) is known
        assert not len(moving.measured.number)
        assert np.allclose(moving.velocity.T, [12.0, 0.0, 0.0])


def test_where_there_was_nothing_before_nothing_is_carried():
    nothing = np.empty((0, 3))
    box = movers((CAR_BOX[0], CAR_BOX[1], 0.0, (10.0, 0.0)), known=True)
    for now, before in ((front_and_side(), nothing), (nothing, front_and_side()), (nothing, nothing)):
        assert not len(box.moving(standing(now, after_ms=100), standing(before), Workspace()).index)


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
    to_the_left = np.tile(np.array([[0.0], [10.0], [0.0]], np.float32), 2)
    moving = Moving(np.arange(2, dtype=np.int32), sweep.points.T, to_the_left, NOBODY)
    at_once = look_at(sweep, world.image(T0 + 50 * MS), world.camera(), 0, moving)
    assert np.allclose(at_once.carried.points[:, 1], [1.5, 1.1])
    rolling = look_at(sweep, world.image(T0 + 50 * MS), world.camera(), 20 * MS, moving)
    rows = rolling.project(sweep.points, Workspace()).uv[:, 1]
    assert abs(rows[1] - rows[0]) > 10.0
    assert np.allclose(rolling.carried.points[:, 1], [1.5, 1.1] + 0.2 * (rows / 99.0 - 0.5), atol=1e-5)
