"""Points of countable things become objects."""

from __future__ import annotations

import math

import numpy as np
import pytest

from seg_perception.config import ObjectsConfig
from seg_perception.datatypes import UNKNOWN
from seg_perception.labels import Taxonomy
from seg_perception.scene.boxes import fit_boxes, sort_by_cluster
from seg_perception.scene.clustering import NO_GROUP, Groups
from seg_perception.scene.expectation import NO_TRACK, Expected
from seg_perception.scene.objects import NO_OBJECT, ObjectFinder

CITYSCAPES = Taxonomy.load("cityscapes")
ROAD, BUILDING, PERSON, RIDER, CAR, TRUCK, MOTORCYCLE, BICYCLE = 0, 2, 11, 12, 13, 14, 17, 18
HERE = np.zeros(3)


def blob(x: float, y: float, spread: float = 0.1, count: int = 30, seed: int = 0) -> np.ndarray:
    """Points around a place, as those on a person are."""
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.uniform(-spread, spread, (count, 2)) + np.array([x, y]), rng.uniform(-1.5, 0.2, count)])


def corner(
    x: float, y: float, yaw: float, length: float = 4.5, width: float = 1.9, spacing: float = 0.08
) -> np.ndarray:
    """Points on those two sides of a vehicle around (x, y) that the LiDAR at the origin sees."""
    a, b = np.arange(0.0, length, spacing) - 0.5 * length, np.arange(0.0, width, spacing) - 0.5 * width
    cos, sin = math.cos(yaw), math.sin(yaw)
    side = math.copysign(0.5 * width, sin * x - cos * y)
    end = math.copysign(0.5 * length, -(cos * x + sin * y))
    local = np.vstack([np.column_stack([a, np.full_like(a, side)]), np.column_stack([np.full_like(b, end), b])])
    flat = local @ np.array([[cos, sin], [-sin, cos]]) + np.array([x, y])
    return np.vstack([np.column_stack([flat, np.full(len(flat), z)]) for z in (-1.5, -1.0, -0.2)])


def find(*parts: tuple[np.ndarray, int], origin: np.ndarray = HERE, probability: float = 0.9, **settings: object):
    """The objects among parts of points, each with its class."""
    points = np.vstack([part for part, _ in parts]).astype(np.float32)
    class_id = np.concatenate([np.full(len(part), label, np.uint8) for part, label in parts])
    finder = ObjectFinder(CITYSCAPES, ObjectsConfig(**settings))
    return finder.find(points, class_id, np.full(len(points), probability, np.float32), origin)


def test_two_people_a_step_apart_are_two_objects():
    objects = find((blob(8.0, 0.0), PERSON), (blob(8.0, 0.7, seed=1), PERSON))
    assert list(objects.class_id) == [PERSON, PERSON]
    assert list(objects.points) == [30, 30]
    assert list(objects.of_point) == [0] * 30 + [1] * 30


def find_told(parts: list[tuple[np.ndarray, int, int]], **settings: object):
    """The objects among parts of points, each with its class and the instance that an image tells."""
    points = np.vstack([part for part, _, _ in parts]).astype(np.float32)
    class_id = np.concatenate([np.full(len(part), label, np.uint8) for part, label, _ in parts])
    instance_id = np.concatenate([np.full(len(part), number, np.uint16) for part, _, number in parts])
    finder = ObjectFinder(CITYSCAPES, ObjectsConfig(**settings))
    return finder.find(points, class_id, np.ones(len(points), np.float32), HERE, instance_id)


def test_cars_that_touch_are_two_where_an_image_tells_them_apart():
    cars = [(corner(10.0, 4.0, 0.0), CAR, 1), (corner(14.6, 4.0, 0.0), CAR, 2)]
    assert len(find_told(cars)) == 2
    assert len(find_told([(points, label, 0) for points, label, _ in cars])) == 1


def test_one_instance_with_points_far_behind_it_is_two_objects():
    assert len(find_told([(blob(8.0, 0.0), PERSON, 3), (blob(15.0, 0.0, seed=1), PERSON, 3)])) == 2


def test_one_instance_with_a_gap_in_it_is_one_object():
    parted = [(blob(8.0, 0.0), PERSON, 3), (blob(8.0, 0.9, seed=1), PERSON, 3)]
    assert len(find_told(parted)) == 1
    assert len(find_told(parted, instance_reach_m=0.0)) == 2


def test_points_that_no_image_tells_are_clustered():
    told = [(blob(8.0, 0.0), PERSON, 3), (blob(8.0, 4.0, seed=1), PERSON, 0), (blob(8.0, 4.6, seed=2), PERSON, 0)]
    objects = find_told(told)
    assert list(objects.points) == [30, 30, 30]


def test_the_numbers_that_images_give_do_not_matter():
    parts = [(blob(8.0, 0.0), PERSON, 1), (blob(8.0, 0.25, seed=1), PERSON, 2), (corner(20.0, 4.0, 0.0), CAR, 1)]
    other = [(points, label, 65535 - number) for points, label, number in parts]
    assert find_told(parts).of_point.tolist() == find_told(other).of_point.tolist()
    assert len(find_told(parts)) == 3


def expect(*things: tuple[int, float, float, float, float, float]) -> Expected:
    """Tracks 1, 2, ...: class, x, y, length, width, yaw of each."""
    table = np.array(things, float).reshape(-1, 6)
    numbers = np.arange(1, len(things) + 1, dtype=np.int32)
    return Expected(numbers, table[:, 0].astype(np.uint8), table[:, 1:3], table[:, 3:5], table[:, 5])


def find_expected(parts: list[tuple[np.ndarray, int]], expected: Expected, told=None, origin=HERE):
    """The objects among parts of points, each with its class, where things are known already."""
    points = np.vstack([part for part, _ in parts]).astype(np.float32)
    class_id = np.concatenate([np.full(len(part), label, np.uint8) for part, label in parts])
    finder, certain = ObjectFinder(CITYSCAPES, ObjectsConfig()), np.ones(len(points), np.float32)
    return finder.find(points, class_id, certain, origin, told, expected)


def test_bicycles_that_touch_are_two_where_both_are_known():
    rack = [(blob(8.0, 0.0, 0.42), BICYCLE), (blob(8.0, 0.95, 0.42, seed=1), BICYCLE)]
    assert len(find(*rack)) == 1
    objects = find_expected(rack, expect((BICYCLE, 8.0, 0.0, 1.7, 0.5, 0.0), (BICYCLE, 8.0, 0.95, 1.7, 0.5, 0.0)))
    assert list(objects.of_point) == [0] * 30 + [1] * 30
    assert list(objects.track_id) == [1, 2]


@pytest.mark.parametrize("told", [None, np.repeat(np.array([1, 2], np.uint16), 30)])
def test_things_that_lie_apart_stay_themselves_though_each_is_in_the_boxes_of_both(told):
    rack = [(blob(8.0, 0.0, 0.15), BICYCLE), (blob(8.7, 0.0, 0.15, seed=1), BICYCLE)]
    known = expect((BICYCLE, 8.0, 0.0, 1.7, 0.5, 0.0), (BICYCLE, 8.7, 0.0, 1.7, 0.5, 0.0))
    objects = find_expected(rack, known, told)
    assert list(objects.track_id) == [1, 2]
    assert list(objects.points) == [30, 30]


def test_one_thing_stays_one_though_it_has_two_tracks():
    objects = find_expected(
        [(blob(8.0, 0.0, 0.3), BICYCLE)], expect(*[(BICYCLE, 8.0, y, 1.7, 0.5, 0.0) for y in (-0.2, 0.2)])
    )
    assert list(objects.points) == [30]


@pytest.mark.parametrize("origin", [HERE, np.array([5e5, 5e6, 200.0])])
def test_halves_of_a_bus_on_both_sides_of_a_post_are_one_where_it_is_known(origin):
    bus = corner(20.0, 6.0, 0.0, 12.0, 2.5)
    halves = bus[abs(bus[:, 0] - 19.0) > 2.0]
    assert len(find((halves, CAR))) == 2
    known = expect((CAR, 20.0 + origin[0], 6.0 + origin[1], 12.0, 2.5, 0.0))
    objects = find_expected([(halves, CAR)], known, origin=origin)
    assert list(objects.track_id) == [1]
    assert objects.size[0, 0] == pytest.approx(12.0, abs=0.2)


def test_person_in_the_box_of_a_car_is_no_part_of_it():
    parts = [(corner(10.0, 4.0, 0.0), CAR), (blob(10.0, 4.0), PERSON)]
    objects = find_expected(parts, expect((CAR, 10.0, 4.0, 4.5, 1.9, 0.0)))
    assert list(zip(objects.class_id, objects.track_id, strict=True)) == [(CAR, 1), (PERSON, NO_TRACK)]


def test_what_images_tell_apart_is_not_joined_whatever_was_known():
    halves = [(corner(10.0, 4.0, 0.0), CAR), (corner(14.6, 4.0, 0.0), CAR)]
    told = np.repeat(np.array([1, 2], np.uint16), [len(points) for points, _ in halves])
    objects = find_expected(halves, expect((CAR, 12.3, 4.0, 9.5, 1.9, 0.0)), told)
    assert list(objects.track_id) == [1, 1]
    assert list(objects.points) == [len(points) for points, _ in halves]


def test_nothing_known_changes_nothing():
    parts = [(corner(10.0, 4.0, 0.0), CAR), (blob(8.0, -3.0), PERSON)]
    assert find_expected(parts, expect()).of_point.tolist() == find(*parts).of_point.tolist()
    assert len(find_expected([(np.zeros((0, 3)), CAR)], expect((CAR, 10.0, 4.0, 4.5, 1.9, 0.0)))) == 0


def test_rider_and_bicycle_are_two_objects():
    objects = find((blob(8.0, 0.0), RIDER), (blob(8.0, 0.0, seed=1), BICYCLE))
    assert sorted(objects.class_id) == [RIDER, BICYCLE]


def test_person_part_of_whom_is_called_rider_is_one_object():
    points = blob(8.0, 0.0)
    objects = find((points[:10], RIDER), (points[10:], PERSON))
    assert list(objects.class_id) == [PERSON]
    assert objects.probability[0] == pytest.approx(2 / 3)


def test_vehicle_half_of_which_is_called_truck_is_one_object_with_a_shared_vote():
    points = corner(12.0, 4.0, 0.2)
    objects = find((points[::4], TRUCK), (np.delete(points, np.s_[::4], axis=0), CAR))
    assert list(objects.class_id) == [CAR]
    assert objects.probability[0] == pytest.approx(0.75, abs=0.01)


def test_gap_that_splits_near_points_does_not_split_far_ones():
    gap = 0.9
    near = find((blob(5.0, 0.0), CAR), (blob(5.0, gap, seed=1), CAR))
    far = find((blob(60.0, 0.0), CAR), (blob(60.0, gap, seed=1), CAR))
    assert (len(near), len(far)) == (2, 1)


def test_ground_and_points_without_return_belong_to_no_object():
    lost = np.full((3, 3), np.nan)
    objects = find((blob(8.0, 0.0), ROAD), (lost, CAR), (blob(9.0, 0.0), PERSON))
    assert list(objects.of_point) == [NO_OBJECT] * 33 + [0] * 30


def test_cluster_of_too_few_points_is_no_object():
    objects = find((blob(8.0, 0.0, count=4), PERSON), (blob(20.0, 0.0), PERSON), min_points=5)
    assert list(objects.of_point) == [NO_OBJECT] * 4 + [0] * 30


def test_points_beyond_the_range_belong_to_no_object():
    objects = find((blob(150.0, 0.0), PERSON), max_range_m=100.0)
    assert len(objects) == 0
    assert (objects.of_point == NO_OBJECT).all()


def test_sweep_without_points_has_no_objects():
    assert len(find((np.zeros((0, 3)), CAR))) == 0


def test_the_same_finder_finds_the_same_again():
    finder = ObjectFinder(CITYSCAPES, ObjectsConfig())
    points = np.vstack([corner(12.0, 4.0, 0.2), blob(8.0, -3.0)]).astype(np.float32)
    class_id = np.full(len(points), CAR, np.uint8)
    first, second = (finder.find(points, class_id, np.ones(len(points), np.float32), HERE) for _ in range(2))
    assert np.array_equal(first.of_point, second.of_point)
    assert np.array_equal(first.centre, second.centre)


@pytest.mark.parametrize("yaw_deg", [-80, -33, 0, 10, 45, 77])
def test_box_of_a_car_seen_from_its_corner_is_turned_and_sized_as_the_car(yaw_deg):
    yaw = math.radians(yaw_deg)
    objects = find((corner(14.0, 6.0, yaw), CAR))
    assert abs((objects.yaw[0] - yaw + math.pi / 2) % math.pi - math.pi / 2) < math.radians(1.5)
    assert objects.size[0, :2] == pytest.approx([4.5, 1.9], abs=0.15)
    assert objects.centre[0, :2] == pytest.approx([14.0, 6.0], abs=0.15)


def test_car_seen_from_behind_alone_gets_its_length_away_from_the_lidar():
    y = np.arange(-0.9, 0.9, 0.05)
    rear = np.vstack([np.column_stack([np.full_like(y, 10.0), y, np.full_like(y, z)]) for z in (-1.5, -0.3)])
    objects = find((rear, CAR))
    assert objects.size[0, 0] == pytest.approx(4.3)
    assert objects.centre[0, 0] == pytest.approx(10.0 + 0.5 * 4.3, abs=0.02)
    assert abs(objects.yaw[0]) < 0.02


def test_half_of_the_front_of_a_car_gets_its_length_away_from_the_lidar_however_deep_its_bonnet_is_seen():
    depth, across = np.meshgrid(np.arange(0.0, 1.5, 0.1), np.arange(0.0, 1.0, 0.1))
    bonnet = np.column_stack([20.0 + depth.ravel(), 3.0 + across.ravel(), np.full(depth.size, -0.9)])
    objects = find((bonnet, CAR))
    assert abs(objects.yaw[0]) < 0.15
    assert objects.centre[0, 0] == pytest.approx(20.0 + 0.5 * 4.3, abs=0.15)


def patch(x: float, y: float, z: float, side: float = 4.0) -> np.ndarray:
    """Points all over a level square."""
    places = np.arange(-0.5 * side, 0.5 * side, 0.2)
    return np.array([[x + a, y + b, z] for a in places for b in places])


def test_a_vehicle_that_lies_flat_on_the_ground_is_none():
    """As seen through the windows of a car nearer by: a picture shows a car, the LiDAR the road behind it."""
    through_glass = (patch(12.0, 3.0, -1.68, side=1.0), CAR)
    seen = find((patch(12.0, 3.0, -1.7), ROAD), through_glass, (blob(8.0, -3.0), PERSON))
    assert list(seen.class_id) == [PERSON]
    assert seen.flat == 1
    assert set(seen.of_point[-55:-30]) == {NO_OBJECT} and set(seen.of_point[-30:]) == {0}
    assert list(find((patch(12.0, 3.0, -1.7), UNKNOWN), through_glass).class_id) == []


def test_who_lies_on_the_road_stays_an_object():
    objects = find((patch(12.0, 3.0, -1.7), ROAD), (patch(12.0, 3.0, -1.5, side=1.0), PERSON))
    assert list(objects.class_id) == [PERSON]


def test_a_label_of_somebody_on_the_bare_road_makes_nobody():
    """Nobody is 3 cm thick: a network took a part of the road for a person."""
    seen = find((patch(12.0, 3.0, -1.7), ROAD), (patch(12.0, 3.0, -1.68, side=1.0), PERSON))
    assert len(seen) == 0 and seen.flat == 1


def test_reflections_beside_the_road_do_not_make_a_thing_of_it():
    mirrored = patch(12.0, 5.2, -10.6, side=0.8)
    assert len(find((patch(12.0, 3.0, -1.7, 2.0), ROAD), (mirrored, UNKNOWN), (patch(12.0, 3.6, -1.68, 1.0), CAR))) == 0


def test_a_label_of_ground_high_up_lifts_no_box():
    wall = np.column_stack([np.full(20, 12.5), np.linspace(2.5, 3.1, 20), np.full(20, 1.2)])
    car = np.vstack([np.column_stack([np.full(30, 12.0), np.linspace(2.0, 3.8, 30), np.full(30, z)])
                     for z in (-1.4, -1.0)])  # fmt: skip
    road = patch(11.0, 5.0, -1.7), patch(11.0, 0.0, -1.7), patch(8.5, 3.0, -1.7)
    objects = find((wall, ROAD), (car, CAR), *((part, ROAD) for part in road))
    assert objects.centre[0, 2] - 0.5 * objects.size[0, 2] == pytest.approx(-1.7, abs=0.01)


def test_a_box_reaches_up_from_the_ground_where_a_thing_is_seen_at_its_foot():
    foot = np.vstack([np.column_stack([np.full(9, 10.0), np.linspace(-0.3, 0.3, 9), np.full(9, z)])
                      for z in (-1.72, -1.6, -1.4)])  # fmt: skip
    objects = find((foot, PERSON), (patch(9.0, 0.0, -1.7), ROAD))
    low, high = objects.centre[0, 2] - 0.5 * objects.size[0, 2], objects.centre[0, 2] + 0.5 * objects.size[0, 2]
    assert (low, high) == pytest.approx((-1.72, -0.02), abs=0.01)


def test_a_reflection_from_below_the_road_does_not_make_a_thing_of_it():
    mirrored = np.array([[12.1, 3.1, -3.1], [11.9, 3.0, -3.0], [12.0, 2.9, -2.9]])
    assert len(find((patch(12.0, 3.0, -1.7), ROAD), (mirrored, UNKNOWN), (patch(12.0, 3.0, -1.68, 1.0), CAR))) == 0


def test_a_roof_stays_a_thing_where_only_higher_things_are_seen_around_it_or_nothing():
    roof = (patch(40.0, 3.0, -0.2, side=1.0), CAR)
    assert list(find(roof).class_id) == [CAR]
    assert list(find(roof, (patch(40.0, 3.0, 2.0), BUILDING)).class_id) == [CAR]
    assert list(find(roof, (patch(40.0, 3.0, -1.7), ROAD)).class_id) == [CAR]


def test_a_box_stands_on_the_ground_and_is_as_high_as_such_things_are():
    bumper = np.vstack([np.column_stack([np.full(30, 10.0), np.linspace(-0.9, 0.9, 30), np.full(30, z)])
                        for z in (-1.4, -1.2, -1.0)])  # fmt: skip
    on_road = find((bumper, CAR), (patch(9.0, 0.0, -1.7), ROAD))
    low, high = on_road.centre[0, 2] - 0.5 * on_road.size[0, 2], on_road.centre[0, 2] + 0.5 * on_road.size[0, 2]
    assert (low, high) == pytest.approx((-1.7, -0.2), abs=0.01)
    nothing_around = find((bumper, CAR))
    assert nothing_around.centre[0, 2] + 0.5 * nothing_around.size[0, 2] == pytest.approx(-1.0, abs=0.01)


def sides(x: float, y: float, length: float, width: float) -> np.ndarray:
    """Rear and right side of a vehicle ahead, dense."""
    along, across = np.arange(0.0, length, 0.15), np.arange(0.0, width, 0.15)
    rear = [[x, y + b, z] for b in across for z in (-1.2, -0.6, 0.2)]
    return np.array(rear + [[x + a, y, z] for a in along for z in (-1.2, -0.6, 0.2)])


def test_what_a_network_takes_for_a_rider_inside_a_lorry_is_a_part_of_it():
    lorry, tank = sides(8.0, 2.0, 7.0, 2.4), blob(12.0, 3.6)
    objects = find((lorry, TRUCK), (tank, RIDER))
    assert list(objects.class_id) == [TRUCK]
    assert list(objects.points) == [len(lorry) + len(tank)]
    assert (objects.of_point == 0).all()


def test_who_stands_before_beside_or_behind_a_lorry_is_none_of_its_parts():
    lorry = (sides(8.0, 2.0, 7.0, 2.4), TRUCK)
    for x, y in ((15.8, 3.0), (11.0, 1.2), (11.0, 5.2), (7.2, 3.0)):
        assert sorted(find(lorry, (blob(x, y), RIDER)).class_id) == [RIDER, TRUCK]


def test_boxes_are_told_in_the_fixed_frame():
    origin = np.array([1000.0, -2000.0, 30.0])
    at_origin, elsewhere = find((blob(8.0, 1.0), PERSON)), find((blob(8.0, 1.0), PERSON), origin=origin)
    assert elsewhere.centre == pytest.approx(at_origin.centre + origin)


def test_class_without_taxonomy_groups_stands_for_itself():
    content = {
        "name": "two",
        "classes": [{"name": n, "train_id": k, "color": [0, 0, k], "thing": k < 2} for k, n in enumerate("abc")],
    }
    groups = Groups.of(Taxonomy.from_mapping(content, "two"), ObjectsConfig())
    assert list(groups.of_class[:4]) == [0, 1, NO_GROUP, NO_GROUP]
    assert list(groups.reach_m) == [0.3, 0.3]


def test_points_are_sorted_by_cluster_in_their_order():
    order, first = sort_by_cluster(np.array([1, -1, 0, 1, 0], np.int32), 2)
    assert list(order) == [2, 4, 0, 3]
    assert list(first) == [0, 2, 4]


def test_a_single_point_has_a_box():
    order, first = sort_by_cluster(np.zeros(1, np.int32), 1)
    nothing_known = np.full((2, 100, 100), np.nan, np.float32)
    boxes = fit_boxes(np.array([[3.0, 4.0, 1.0]], np.float32), order, first, np.zeros((1, 3)), nothing_known)
    assert boxes[0, :6] == pytest.approx([3.0, 4.0, 1.0, 0.0, 0.0, 0.0])
