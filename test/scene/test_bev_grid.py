"""The grid seen from above."""

from __future__ import annotations

import math

import numpy as np
import pytest

from seg_perception.config import BevConfig
from seg_perception.datatypes import UNKNOWN
from seg_perception.labels import Taxonomy
from seg_perception.scene.bev_grid import FREE, NOT_SEEN, OCCUPIED, BevGrid
from seg_perception.scene.free_space import depths_of
from seg_perception.scene.objects import Objects

CITYSCAPES = Taxonomy.load("cityscapes")
ROAD, SIDEWALK, BUILDING, FENCE, POLE, VEGETATION, PERSON, CAR = 0, 1, 2, 4, 5, 8, 11, 13
LIDAR = np.array([0.0, 0.0, 1.8])
S = 1_000_000_000
T0 = 1_700_000_000 * S


def a_grid(**settings) -> BevGrid:
    return BevGrid(CITYSCAPES, BevConfig(**{"side_m": 32.0, "bridge_m": 0.0, **settings}))


def ground(x0: float, x1: float, y0: float = -3.0, y1: float = 3.0, z: float = 0.0) -> np.ndarray:
    """Points in the fixed frame, four to a cell."""
    x, y = np.meshgrid(np.arange(x0 + 0.05, x1, 0.1), np.arange(y0 + 0.05, y1, 0.1))
    return np.column_stack([x.ravel(), y.ravel(), np.full(x.size, z)])


def put(grid: BevGrid, points: np.ndarray, label: int, at: int = T0, lidar: np.ndarray = LIDAR) -> None:
    points = np.atleast_2d(points)
    count = len(points)
    level = (points - lidar).astype(np.float32)
    grid.insert(level, lidar, np.full(count, label, np.uint8), np.full(count, 0.9, np.float32), at)


def at(layers, x: float, y: float, what: str):
    """The value of one layer at a place of the fixed frame."""
    row, column = int((y - layers.corner[1]) / layers.cell_m), int((x - layers.corner[0]) / layers.cell_m)
    array = layers.occupancy() if what == "occupancy" else getattr(layers, what)
    return array[row, column]


def test_road_is_drivable_sidewalk_is_not_and_elsewhere_is_not_seen():
    grid = a_grid()
    put(grid, ground(0, 8), ROAD)
    put(grid, ground(0, 8, 3.0, 5.0, 0.14), SIDEWALK)
    layers = grid.layers(T0)
    assert [at(layers, 4, y, "occupancy") for y in (0.0, 4.0, 8.0)] == [FREE, OCCUPIED, NOT_SEEN]
    assert [at(layers, 4, y, "class_id") for y in (0.0, 4.0, 8.0)] == [ROAD, SIDEWALK, UNKNOWN]
    assert at(layers, 4, 4, "ground") == pytest.approx(0.14, abs=1e-4)
    assert at(layers, 4, 0, "drivable") > 0.8
    assert math.isnan(at(layers, 4, 8, "drivable")) and math.isnan(at(layers, 4, 8, "ground"))


@pytest.mark.parametrize("label", [ROAD, CAR, BUILDING, UNKNOWN])
def test_points_that_are_not_finite_or_have_no_class_tell_no_cell(label):
    """No cell at all: what the one behind the last were told of class 255 would be written beyond the grid's memory."""
    grid = a_grid()
    put(
        grid,
        np.array([[x, y, z] for x in (1.0, np.nan, 99.0) for y in (1.0, np.inf) for z in (np.nan, -np.inf)]),
        label,
    )
    put(grid, np.array([[1.0, 1.0, 1.0]]), UNKNOWN)
    assert not grid._cells.any()
    assert np.isnan(grid.layers(T0).drivable).all()


def test_what_stands_on_the_road_blocks_its_cell_and_what_hangs_above_does_not():
    grid = a_grid(clearance_m=2.5)
    put(grid, ground(0, 8), ROAD)
    column = np.linspace(0.3, 2.0, 30)
    put(grid, np.column_stack([np.full(30, 4.05), np.full(30, 0.05), column]), POLE)
    put(grid, np.column_stack([np.full(30, 6.05), np.full(30, 0.05), column + 3.0]), VEGETATION)
    layers = grid.layers(T0)
    assert (at(layers, 4.05, 0.05, "occupancy"), at(layers, 4.05, 0.05, "class_id")) == (OCCUPIED, POLE)
    assert at(layers, 4.05, 0.05, "top") == pytest.approx(2.0, abs=0.01)
    assert (at(layers, 6.05, 0.05, "occupancy"), at(layers, 6.05, 0.05, "class_id")) == (FREE, ROAD)


def test_labels_that_bleed_onto_the_road_do_not_block_it():
    grid = a_grid()
    put(grid, ground(0, 8), ROAD)
    put(grid, ground(3, 4, z=0.05), CAR)
    assert at(grid.layers(T0), 3.5, 0.0, "occupancy") == FREE


def test_wall_point_called_road_makes_no_ground():
    grid = a_grid()
    put(grid, ground(0, 8), ROAD)
    put(grid, ground(4, 5, 3.0, 3.2, z=1.5), ROAD)
    assert at(grid.layers(T0), 4.5, 3.1, "occupancy") == NOT_SEEN


def test_height_is_measured_from_the_slope_that_a_thing_stands_on():
    grid = a_grid()
    slope = ground(0, 12)
    slope[:, 2] = 0.15 * slope[:, 0]
    put(grid, slope, ROAD)
    put(grid, np.array([10.05, 0.05, 1.5 + 0.02]), BUILDING)  # on the ground, though high above that at the LiDAR
    assert at(grid.layers(T0), 10.05, 0.05, "occupancy") == FREE


def test_car_blocks_while_it_is_there_and_no_more_when_the_lidar_looks_through():
    grid = a_grid(movable_decay_s=1000.0)
    put(grid, ground(0, 12), ROAD)
    block = np.array([[x, y, z] for x in (6.05, 6.25) for y in (-0.15, 0.05) for z in (0.4, 0.8, 1.2)])
    for _ in range(5):
        put(grid, block, CAR)
    assert at(grid.layers(T0), 6.05, 0.05, "occupancy") == OCCUPIED
    y, z = np.meshgrid(np.arange(-3, 3, 0.05), np.arange(-1.5, 2.0, 0.05))
    far_wall = np.column_stack([np.full(y.size, 14.0), y.ravel(), z.ravel()]) - LIDAR
    assert grid.clear(depths_of(far_wall.astype(np.float32)), LIDAR) == 4
    layers = grid.layers(T0)
    assert (at(layers, 6.05, 0.05, "occupancy"), at(layers, 6.05, 0.05, "class_id")) == (FREE, ROAD)
    assert at(layers, 6.05, 0.05, "top") == 0.0


def test_car_that_is_not_seen_again_fades():
    grid = a_grid(movable_decay_s=0.5)
    put(grid, ground(0, 12), ROAD)
    for _ in range(5):
        put(grid, np.array([6.05, 0.05, 0.8]), CAR)
    assert at(grid.layers(T0), 6.05, 0.05, "occupancy") == OCCUPIED
    assert at(grid.layers(T0 + 3 * S), 6.05, 0.05, "occupancy") == FREE


def test_grid_rolls_keeps_what_stays_and_wipes_what_comes_in():
    grid = a_grid()
    put(grid, ground(0, 8), ROAD)
    there = np.array([40.0, 0.0, 1.8])
    put(grid, ground(30, 31), SIDEWALK, lidar=np.array([14.0, 0.0, 1.8]))
    assert at(grid.layers(T0), 4.0, 0.0, "class_id") == ROAD
    put(grid, np.vstack([ground(45, 46), ground(36.4, 36.8)]), SIDEWALK, lidar=there)
    layers = grid.layers(T0)
    assert at(layers, 45.5, 0.0, "class_id") == SIDEWALK
    assert at(layers, 35.9, 0.0, "class_id") == UNKNOWN  # the same memory as (3.9, 0) had
    put(grid, np.zeros((0, 3)), ROAD)
    assert (grid.layers(T0).class_id == UNKNOWN).all()


def test_gap_between_beams_is_bridged_and_a_wide_one_is_not():
    grid = a_grid(bridge_m=1.0)
    put(grid, ground(0, 4), ROAD)
    put(grid, ground(4.6, 8), ROAD)
    put(grid, ground(11, 12), ROAD)
    layers = grid.layers(T0)
    assert at(layers, 4.3, 0.0, "occupancy") == FREE
    assert at(layers, 9.5, 0.0, "occupancy") == NOT_SEEN


def test_boxes_of_objects_are_not_drivable_inside_either():
    grid = a_grid()
    put(grid, ground(0, 12), ROAD)
    car = Objects(
        np.array([CAR], np.uint8), np.ones(1, np.float32), np.array([9], np.int32),
        np.array([[6.0, 0.5, 0.7]]), np.array([[6.0, 0.5]]),
        np.array([[4.0, 1.8, 1.5]]), np.array([math.pi / 2]), np.zeros(0, np.int32),
        np.array([-1], np.int32),
    )  # fmt: skip
    layers = grid.layers(T0, car)
    assert [at(layers, 6.0, y, "occupancy") for y in (0.5, 2.3)] == [OCCUPIED, OCCUPIED]
    assert [at(layers, x, 0.5, "occupancy") for x in (4.9, 7.1)] == [FREE, FREE]
    assert at(layers, 6.0, 0.5, "class_id") == CAR


def test_empty_grid_has_seen_nothing():
    assert (a_grid().layers(T0).occupancy() == NOT_SEEN).all()


@pytest.mark.parametrize("label", [PERSON, FENCE])
def test_what_comes_to_stand_on_a_road_that_lay_empty_for_minutes_blocks_it_within_a_second(label):
    grid = a_grid()
    road = ground(4, 8, -0.5, 0.5)
    sweeps = [T0 + k * S // 10 for k in range(600)]
    for stamp_ns in sweeps:
        put(grid, road, ROAD, stamp_ns)
    assert at(grid.layers(sweeps[-1]), 6.05, 0.05, "occupancy") == FREE
    column = np.column_stack([np.full(6, 6.05), np.full(6, 0.05), np.linspace(0.4, 1.6, 6)])
    for k in range(1, 11):
        put(grid, column, label, sweeps[-1] + k * S // 10)
    layers = grid.layers(sweeps[-1] + S)
    assert (at(layers, 6.05, 0.05, "occupancy"), at(layers, 6.05, 0.05, "class_id")) == (OCCUPIED, label)
    assert at(layers, 7.05, 0.05, "occupancy") == FREE


def test_road_behind_a_gate_that_was_closed_for_minutes_is_free_soon_after_it_opens():
    grid = a_grid()
    gate = np.column_stack([np.full(6, 6.05), np.full(6, 0.05), np.linspace(0.4, 1.6, 6)])
    put(grid, ground(4, 8, -0.5, 0.5), ROAD)
    for _ in range(600):
        put(grid, gate, FENCE)
    assert at(grid.layers(T0), 6.05, 0.05, "occupancy") == OCCUPIED
    for _ in range(30):
        put(grid, ground(4, 8, -0.5, 0.5), ROAD)
    assert at(grid.layers(T0), 6.05, 0.05, "occupancy") == FREE


def test_point_without_height_weight_or_class_changes_nothing():
    grid = a_grid()
    road = (ground(0, 8) - LIDAR).astype(np.float32)
    put(grid, ground(0, 8), ROAD)
    before = grid.layers(T0)
    spoilt = road.copy()
    spoilt[:, 2] = np.nan
    every = np.full(len(road), 0.9, np.float32)
    for points, label, weight in (
        (spoilt, ROAD, every),
        (road, SIDEWALK, np.full_like(every, np.nan)),
        (road, SIDEWALK, np.zeros_like(every)),
        (road, UNKNOWN, every),
        (road + np.float32(1e6), SIDEWALK, every),
    ):
        grid.insert(points, LIDAR, np.full(len(road), label, np.uint8), weight, T0)
    after = grid.layers(T0)
    for layer in ("class_id", "ground", "top", "drivable"):
        np.testing.assert_array_equal(getattr(before, layer), getattr(after, layer))


def test_each_of_two_hundred_classes_keeps_its_own_votes_in_cells_of_several_cache_lines():
    classes = [{"name": f"class {k}", "id": k, "train_id": k, "color": [k, k, k]} for k in range(200)]
    grid = BevGrid(Taxonomy.from_mapping({"name": "many", "classes": classes}, "test"), BevConfig(side_m=32.0))
    for label in (0, 25, 121, 199):
        put(grid, np.array([2.1 + 0.04 * label, 0.1, 0.0]), label)
    layers = grid.layers(T0)
    assert [at(layers, 2.1 + 0.04 * label, 0.1, "class_id") for label in (0, 25, 121, 199)] == [0, 25, 121, 199]
    assert (layers.class_id != UNKNOWN).sum() == 4
