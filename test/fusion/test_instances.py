"""What two images show is one thing where they agree on its points."""

from __future__ import annotations

import numpy as np

from seg_perception.config import PaintingConfig
from seg_perception.datatypes import LidarScan, PointCloud, PointLabels
from seg_perception.fusion.instances import numbered
from seg_perception.fusion.painting import Painting
from seg_perception.geometry.projection import Projection


def told(first: int, instance: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """An image that sees the points from `first` on."""
    return np.arange(first, first + len(instance)), np.array(instance, np.uint16)


def of_points(images: list[tuple[np.ndarray, np.ndarray]], count: int) -> list[set[int]]:
    """For each point, what the images call it in the end."""
    called: list[set[int]] = [set() for _ in range(count)]
    for (index, _), own in zip(images, numbered(images, count), strict=True):
        for place, number in zip(index.tolist(), own.tolist(), strict=True):
            called[place].add(number)
    return called


def test_a_car_at_the_seam_of_two_cameras_is_one():
    called = of_points([told(0, [1] * 8), told(4, [5] * 10)], 14)
    assert len(set.union(*called)) == 1


def test_two_cars_side_by_side_at_the_seam_stay_two():
    called = of_points([told(0, [1] * 5 + [2] * 5), told(0, [2] * 5 + [1] * 5)], 10)
    assert called[:5] == [called[0]] * 5 and called[5:] == [called[5]] * 5
    assert len(called[0]) == len(called[5]) == 1 and called[0] != called[5]


def test_a_few_points_that_spill_over_do_not_make_one_of_two():
    called = of_points([told(0, [1] * 10), told(0, [7] * 8 + [8] * 2)], 10)
    assert called[0] == called[7] and len(called[8]) == 2


def test_things_that_share_no_point_are_not_the_same():
    first, second = numbered([told(0, [1, 1, 0, 2]), told(4, [1, 1, 0, 2])], 8)
    assert not {*first.tolist()} & {*second.tolist()} - {0}
    assert first[2] == second[2] == 0


def test_an_image_without_things_is_no_trouble():
    first, second = numbered([told(0, [0, 0]), told(0, [])], 2)
    assert first.tolist() == [0, 0] and second.tolist() == []


def test_a_point_takes_the_instance_of_the_camera_that_labels_it():
    cloud = PointCloud("lidar", 1, 4, 1, (), np.zeros((4, 0), np.uint8))
    scan = LidarScan("lidar", 1, np.zeros((4, 3), np.float32), None, cloud)

    def tells(camera: str, instance: list[int] | None, probability: list[float]) -> tuple[str, PointLabels]:
        sure = np.array(probability, np.float32)
        told = None if instance is None else np.array(instance, np.uint16)
        return camera, PointLabels(np.full(4, 13, np.uint8), sure, np.ones(4, np.float32), told)

    views = [
        tells("a", [1, 1, 1, 0], [0.9, 0.9, 0.2, 0.2]),
        tells("b", [2, 0, 3, 3], [0.5, 0.5, 0.8, 0.8]),
        tells("c", None, [0.1, 0.1, 0.1, 0.9]),
    ]
    in_view = Projection(np.arange(4), np.full((4, 2), 50.0), np.ones(4))
    for order in (views, views[::-1]):
        painting = Painting(scan, ["a", "b", "c"], PaintingConfig())
        for camera, labels in order:
            painting.add(camera, in_view, labels, np.ones(4, bool), (100, 100), 1)
        instance_id = painting.cloud().instance_id
        assert instance_id[0] == instance_id[1] != instance_id[2]
        assert instance_id[2] != 0 and instance_id[3] == 0  # a camera that tells no things apart has labelled it
