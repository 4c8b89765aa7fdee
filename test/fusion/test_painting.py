import itertools

import numpy as np

from seg_perception.config import PaintingConfig
from seg_perception.datatypes import NO_CAMERA, UNKNOWN, LidarScan, PointCloud, PointLabels
from seg_perception.fusion.painting import View, paint, worth


def scan(count: int) -> LidarScan:
    cloud = PointCloud("lidar", 1, count, 1, (), np.zeros((count, 0), np.uint8))
    return LidarScan("lidar", 1, np.zeros((count, 3), np.float32), None, cloud)


def view(
    camera: str,
    index: list[int],
    class_id: list[int],
    probability: list[float],
    margin: float = 1.0,
    placed: float = 1.0,
) -> View:
    labels = PointLabels(
        np.array(class_id, np.uint8), np.array(probability, np.float32), np.full(len(index), margin, np.float32)
    )
    return View(camera, np.array(index, np.int64), labels, np.full(len(index), placed, np.float32))


def test_points_that_no_camera_saw_stay_unknown():
    cloud = paint(scan(3), [view("a", [1], [7], [0.9])], PaintingConfig())
    assert cloud.class_id.tolist() == [UNKNOWN, 7, UNKNOWN]
    assert cloud.camera.tolist() == [NO_CAMERA, 0, NO_CAMERA]
    assert cloud.probability.tolist() == [0.0, np.float32(0.9), 0.0]


def test_the_surer_camera_wins_whatever_the_order():
    views = [
        view("left", [0, 1, 2], [1, 1, 1], [0.9, 0.5, 0.7]),
        view("front", [0, 1, 2], [2, 2, 2], [0.8, 0.6, 0.7]),
        view("right", [1, 2], [3, 3], [0.4, 0.7]),
    ]
    for order in itertools.permutations(views):
        cloud = paint(scan(3), order, PaintingConfig())
        assert cloud.class_id.tolist() == [1, 2, 2]  # of equally sure ones the first by name: front
        assert [cloud.cameras[i] for i in cloud.camera] == ["left", "front", "front"]


def test_doubtful_labels_stay_unknown():
    doubtful = view("a", [0, 1], [1, 1], [0.4, 0.8])
    assert paint(scan(2), [doubtful], PaintingConfig(min_probability=0.5)).class_id.tolist() == [UNKNOWN, 1]
    narrow = view("a", [0, 1], [1, 1], [0.4, 0.8], margin=0.1)
    assert paint(scan(2), [narrow], PaintingConfig(min_margin=0.2)).class_id.tolist() == [UNKNOWN, UNKNOWN]


def test_what_the_network_calls_unknown_does_not_win_over_a_label():
    cloud = paint(scan(1), [view("a", [0], [UNKNOWN], [0.99]), view("b", [0], [4], [0.2])], PaintingConfig())
    assert cloud.class_id.tolist() == [4]


def test_without_views_the_cloud_is_whole_and_unknown():
    cloud = paint(scan(4), [], PaintingConfig())
    assert cloud.class_id.tolist() == [UNKNOWN] * 4
    assert not cloud.labelled.any()


def test_the_better_placed_camera_wins_over_one_that_is_as_sure():
    views = [view("a", [0], [1], [0.9], placed=0.5), view("b", [0], [2], [0.8])]
    for order in (views, views[::-1]):
        cloud = paint(scan(1), order, PaintingConfig())
        assert cloud.class_id.tolist() == [2]
        assert cloud.probability.tolist() == [np.float32(0.8)]  # the network's own, not the score


def test_a_place_in_the_middle_and_near_in_time_is_worth_most():
    config, size = PaintingConfig(border=0.1, nearness_ms=100.0), (200, 100)
    uv = np.array([[100.0, 50.0], [0.0, 50.0], [100.0, 99.0], [20.0, 50.0]])
    placed = worth(scan(4), np.arange(4), uv, size, 1, config)
    assert placed[0] == placed[3] == 1.0
    assert (placed[1:3] < 0.6).all()
    late = worth(scan(4), np.arange(4), uv, size, 1 + 100_000_000, config)
    assert np.allclose(late, placed / 2)


def test_of_a_turning_lidar_each_point_counts_its_own_time():
    one = scan(2)
    turned = LidarScan("lidar", 1, one.points, np.array([1, 50_000_001]), one.cloud)
    placed = worth(turned, np.arange(2), np.full((2, 2), 50.0), (200, 100), 50_000_001, PaintingConfig())
    assert placed[0] < placed[1] == 1.0
