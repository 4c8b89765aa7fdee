"""Pixels join the centre that their offset points to; an instance has one class."""

from __future__ import annotations

import numpy as np
import pytest

from seg_perception.datatypes import UNKNOWN
from seg_perception.evaluation.metrics import PanopticQuality
from seg_perception.inference.panoptic_merging import MergingConfig, find_centres, merge

ROAD, CAR, BUS = 0, 1, 2
THINGS = np.array([False, True, True])
ALL = MergingConfig(min_stuff_area=0, window=3)


def scene(cars: list[tuple[slice, slice]], shape: tuple[int, int] = (12, 30)):
    """Labels, heat map and offsets of a perfect network for cars on a road."""
    class_id = np.full(shape, ROAD, np.uint8)
    centre = np.zeros(shape, np.float32)
    offset = np.zeros((2, *shape), np.float32)
    truth = np.zeros(shape, np.uint16)
    grid = np.indices(shape).astype(np.float32)
    for number, (rows, columns) in enumerate(cars, 1):
        class_id[rows, columns], truth[rows, columns] = CAR, number
        v, u = (rows.start + rows.stop) // 2, (columns.start + columns.stop) // 2
        centre[v, u] = 1 - 0.1 * number
        offset[:, rows, columns] = np.array([v, u])[:, None, None] - grid[:, rows, columns]
    return class_id, centre, offset, truth


def test_touching_cars_are_told_apart() -> None:
    class_id, centre, offset, truth = scene([(slice(2, 8), slice(3, 10)), (slice(2, 8), slice(10, 20))])
    merged = merge(class_id, centre, offset, THINGS, ALL)
    assert (merged.instance == truth).all() and (merged.class_id == class_id).all()
    assert merged.confidence == pytest.approx([0.9, 0.8])
    quality = PanopticQuality(THINGS)
    quality.update(class_id, truth, merged.class_id, merged.instance)
    assert quality.scores.mean()[0] == 1.0


def test_an_instance_takes_the_class_that_most_of_its_pixels_have() -> None:
    class_id, centre, offset, truth = scene([(slice(2, 8), slice(3, 10))])
    class_id[2:4, 3:6] = BUS
    assert (merge(class_id, centre, offset, THINGS, ALL).class_id[truth == 1] == CAR).all()


def test_a_thing_without_any_centre_stays_unknown() -> None:
    class_id, centre, offset, truth = scene([(slice(2, 8), slice(3, 10))])
    merged = merge(class_id, 0 * centre, offset, THINGS, ALL)
    assert (merged.class_id[truth == 1] == UNKNOWN).all() and not merged.instance.any()


def test_a_centre_that_no_pixel_chose_is_no_instance() -> None:
    class_id, centre, offset, truth = scene([(slice(2, 8), slice(3, 10))])
    centre[10, 25] = 0.95
    merged = merge(class_id, centre, offset, THINGS, ALL)
    assert (merged.instance == truth).all() and merged.confidence == pytest.approx([0.9])


def test_little_stuff_becomes_unknown_and_things_do_not() -> None:
    class_id, centre, offset, truth = scene([(slice(2, 4), slice(3, 5))])
    merged = merge(class_id, centre, offset, THINGS, MergingConfig(min_stuff_area=class_id.size))
    assert (merged.class_id[truth == 0] == UNKNOWN).all() and (merged.class_id[truth == 1] == CAR).all()


def test_only_the_highest_within_the_window_is_a_centre() -> None:
    heat = np.zeros((9, 20), np.float32)
    heat[4, 3], heat[4, 5], heat[4, 15], heat[8, 0] = 0.5, 0.6, 0.9, 0.05
    places, heights = find_centres(heat, MergingConfig())
    assert places.tolist() == [[4, 15], [4, 5]] and heights == pytest.approx([0.9, 0.6])
    assert len(find_centres(heat, MergingConfig(max_centres=1))[0]) == 1


def test_equal_peaks_side_by_side_are_one_centre() -> None:
    heat = np.zeros((9, 20), np.float32)
    heat[4, 3:5], heat[4, 12] = 0.5, 0.5
    assert find_centres(heat, MergingConfig())[0].tolist() == [[4, 3], [4, 12]]


def test_maps_of_different_sizes_are_refused() -> None:
    class_id, centre, offset, _ = scene([])
    with pytest.raises(ValueError, match="one size"):
        merge(class_id, centre[:-1], offset, THINGS)
