"""Colours and the drawn picture."""

from __future__ import annotations

import numpy as np
import pytest

from seg_perception.drawing import BACKGROUND, UNSEEN
from seg_perception.labels import Taxonomy
from seg_perception.viewing.coloring import COLORINGS, colored, instance_colors
from seg_perception.viewing.shown import Points
from seg_perception.viewing.splatting import Drawn, Viewpoint, splat

CITYSCAPES = Taxonomy.load("cityscapes")
ROAD, CAR, UNKNOWN = 0, 13, 255
SIZE = (80, 60)
RED, BLUE = (255, 0, 0), (0, 0, 255)


def points(class_id, probability=None, instance_id=None, age_s=None, z=None):
    count = len(class_id)
    xyz = np.zeros((count, 3))
    xyz[:, 2] = np.zeros(count) if z is None else z
    return Points(
        xyz,
        np.array(class_id, np.uint8),
        np.array(probability or [1.0] * count, np.float32),
        np.array(instance_id or [0] * count, np.int64),
        np.array(age_s or [0.0] * count, np.float32),
    )


def drawn(xyz, rgb, lines=(), line_rgb=()):
    return Drawn(
        np.array(xyz, float).reshape(-1, 3),
        np.array(rgb, np.uint8).reshape(-1, 3),
        np.array(lines, float).reshape(-1, 2, 3),
        np.array(line_rgb, np.uint8).reshape(-1, 3),
    )


def ahead(*eye):
    """From `eye` along x."""
    return Viewpoint(np.array(eye, float), np.array(eye, float) + np.array([1.0, 0.0, 0.0]))


def middle(picture):
    return tuple(picture[SIZE[1] // 2, SIZE[0] // 2].tolist())


def test_classes_have_the_colours_of_the_taxonomy_and_unknown_is_pale():
    assert colored(points([CAR, UNKNOWN]), "class", CITYSCAPES).tolist() == [[0, 0, 142], UNSEEN.tolist()]


def test_an_instance_keeps_its_colour_and_neighbours_differ():
    colors = instance_colors(np.array([0, 1, 2, 3, 1]))
    assert colors[0].tolist() == UNSEEN.tolist()
    assert (colors[1] == colors[4]).all()
    assert len({tuple(color) for color in colors.tolist()}) == 4


def test_confidence_goes_from_violet_to_yellow_and_unknown_is_pale():
    low, high, unknown = colored(points([ROAD, ROAD, UNKNOWN], [0.0, 1.0, 0.0]), "confidence", CITYSCAPES).tolist()
    assert low[2] > low[1]
    assert high[0] > 200 > high[2]
    assert unknown == UNSEEN.tolist()


@pytest.mark.parametrize(
    ("by", "given"), [("age", {"age_s": [1.0, 0.0]}), ("height", {"z": [0.0, 5.0]})], ids=["age", "height"]
)
def test_the_first_is_blue_and_the_last_is_red(by, given):
    first, last = colored(points([ROAD, ROAD], **given), by, CITYSCAPES).tolist()
    assert first[2] > first[0]
    assert last[0] > last[2]


def test_what_nobody_knows_the_age_of_is_pale():
    assert colored(points([ROAD], age_s=[np.nan]), "age", CITYSCAPES).tolist() == [UNSEEN.tolist()]


@pytest.mark.parametrize("by", COLORINGS)
def test_nothing_has_no_colour(by):
    assert colored(points([]), by, CITYSCAPES).shape == (0, 3)


def test_a_point_straight_ahead_lies_in_the_middle_and_left_is_left():
    picture = splat(drawn([[10, 0, 0], [10, 2, 0], [10, 0, 2]], [RED, BLUE, BLUE]), ahead(0, 0, 0), SIZE)
    assert middle(picture) == RED
    rows, cols = np.nonzero((picture == BLUE).all(axis=2))
    assert {(row < 25, col < 35) for row, col in zip(rows, cols, strict=True)} == {(True, False), (False, True)}
    assert (picture[0, 0] == BACKGROUND).all()


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_the_nearer_point_covers_the_farther(order):
    xyz, rgb = np.array([[5, 0, 0], [9, 0, 0]])[order], np.array([RED, BLUE])[order]
    assert middle(splat(drawn(xyz, rgb), ahead(0, 0, 0), SIZE)) == RED


def test_what_lies_behind_the_eye_is_not_drawn():
    picture = splat(drawn([[-5, 0, 0]], [RED], [[[-5, -1, 0], [-5, 1, 0]]], [BLUE]), ahead(0, 0, 0), SIZE)
    assert (picture == BACKGROUND).all()


def test_a_line_that_passes_the_eye_is_cut_and_drawn_ahead():
    picture = splat(drawn([], [], [[[-5, 0, -0.5], [20, 0, -0.5]]], [BLUE]), ahead(0, 0, 0), SIZE)
    column = picture[:, SIZE[0] // 2]
    assert not (column[SIZE[1] // 2 + 5 :] == BACKGROUND).all(axis=1).any()
    assert (column[: SIZE[1] // 2 - 2] == BACKGROUND).all()


def test_a_near_point_is_larger_than_a_far_one():
    def area(distance):
        return (splat(drawn([[distance, 0, 0]], [RED]), ahead(0, 0, 0), SIZE) == RED).all(axis=2).sum()

    assert area(1.0) > area(20.0) >= 1


def test_far_points_beside_near_ones_are_darker_and_alone_are_not():
    wall = [[8, y, z] for y in np.linspace(-3, 3, 200) for z in np.linspace(-3, 3, 200)]
    post = [[4, 0, z] for z in np.linspace(-3, 3, 100)]
    picture = splat(drawn(wall + post, [(200, 200, 200)] * len(wall) + [RED] * len(post)), ahead(0, 0, 0), SIZE)
    row = picture[30]
    (post_cols,) = np.nonzero(row[:, 1] < 50)
    assert row[post_cols[0] - 1, 0] < 190
    assert (row[post_cols[0] - 10] == 200).all()


def test_far_from_the_origin_the_picture_is_the_same():
    near = splat(drawn([[10, 1, 0], [10, -1, 0]], [RED, BLUE]), ahead(0, 0, 0), SIZE)
    place = np.array([500_000.0, 5_000_000.0, 300.0])
    far = splat(drawn(place + np.array([[10, 1, 0], [10, -1, 0]]), [RED, BLUE]), ahead(*place), SIZE)
    assert (near == far).all()


def test_looking_straight_down_ahead_is_up():
    view = Viewpoint(np.array([0.0, 0.0, 10.0]), np.zeros(3))
    picture = splat(drawn([[2, 0, 0], [0, 2, 0]], [RED, BLUE]), view, SIZE)
    (red_row, red_col), (blue_row, blue_col) = (
        np.argwhere((picture == color).all(axis=2)).mean(axis=0) for color in (RED, BLUE)
    )
    assert red_row < 25
    assert blue_col < 35
    assert abs(red_col - 40) < 2
    assert abs(blue_row - 30) < 2
