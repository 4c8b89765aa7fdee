import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from seg_perception.config import PaintingConfig
from seg_perception.datatypes import NO_CAMERA, UNKNOWN, LidarScan, PointCloud, PointLabels, SemanticCloud
from seg_perception.fusion import painting
from seg_perception.fusion.painting import Painting
from seg_perception.geometry.projection import Projection

SIZE, STAMP_NS = (200, 100), 1


def scan(count: int) -> LidarScan:
    cloud = PointCloud("lidar", 1, count, 1, (), np.zeros((count, 0), np.uint8))
    return LidarScan("lidar", 1, np.zeros((count, 3), np.float32), None, cloud)


@dataclass(frozen=True)
class View:
    """What one camera says of points, all of which it sees, in the middle of its image as a rule."""

    camera: str
    index: list[int]
    class_id: list[int]
    probability: list[float]
    margin: float = 1.0
    at: tuple[float, float] = (100.0, 50.0)
    image_ns: int = STAMP_NS

    def add_to(self, painting: Painting, kept: list[bool] | None = None) -> int:
        count = len(self.index)
        probability, margin = np.array(self.probability, np.float32), np.full(count, self.margin, np.float32)
        labels = PointLabels(np.array(self.class_id, np.uint8), probability, margin)
        in_view = Projection(np.array(self.index, np.int64), np.tile(self.at, (count, 1)), np.ones(count))
        mask = np.array(kept or [True] * count)
        return painting.add(self.camera, in_view, labels, mask, SIZE, self.image_ns)


def paint(scan: LidarScan, views: Iterable[View], config: PaintingConfig, *untouchable: int) -> SemanticCloud:
    views = list(views)
    table = np.isin(np.arange(256), untouchable)
    painting = Painting(scan, [view.camera for view in views], config, table)
    for view in views:
        view.add_to(painting)
    return painting.cloud()


def test_points_that_no_camera_saw_stay_unknown():
    cloud = paint(scan(3), [View("a", [1], [7], [0.9])], PaintingConfig())
    assert cloud.class_id.tolist() == [UNKNOWN, 7, UNKNOWN]
    assert cloud.camera.tolist() == [NO_CAMERA, 0, NO_CAMERA]
    assert cloud.probability.tolist() == [0.0, np.float32(0.9), 0.0]


def test_the_surer_camera_wins_whatever_the_order():
    views = [
        View("left", [0, 1, 2], [1, 1, 1], [0.9, 0.5, 0.7]),
        View("front", [0, 1, 2], [2, 2, 2], [0.8, 0.6, 0.7]),
        View("right", [1, 2], [3, 3], [0.4, 0.7]),
    ]
    for order in itertools.permutations(views):
        cloud = paint(scan(3), order, PaintingConfig())
        assert cloud.class_id.tolist() == [1, 2, 2]  # of equally sure ones the first by name: front
        assert [cloud.cameras[i] for i in cloud.camera] == ["left", "front", "front"]


def test_doubtful_labels_stay_unknown():
    doubtful = View("a", [0, 1], [1, 1], [0.4, 0.8])
    assert paint(scan(2), [doubtful], PaintingConfig(min_probability=0.5)).class_id.tolist() == [UNKNOWN, 1]
    narrow = View("a", [0, 1], [1, 1], [0.4, 0.8], margin=0.1)
    assert paint(scan(2), [narrow], PaintingConfig(min_margin=0.2)).class_id.tolist() == [UNKNOWN, UNKNOWN]


def test_what_the_network_calls_unknown_does_not_win_over_a_label():
    cloud = paint(scan(1), [View("a", [0], [UNKNOWN], [0.99]), View("b", [0], [4], [0.2])], PaintingConfig())
    assert cloud.class_id.tolist() == [4]


def test_a_point_that_a_laser_met_is_not_on_the_sky():
    views = [View("a", [0, 1], [10, 10], [0.9, 0.9]), View("b", [1, 2], [5, 10], [0.4, 0.9])]
    cloud = paint(scan(3), views, PaintingConfig(), 10)
    assert cloud.class_id.tolist() == [UNKNOWN, 5, UNKNOWN]
    assert cloud.probability.tolist() == [0.0, np.float32(0.4), 0.0]
    assert paint(scan(3), views, PaintingConfig()).class_id.tolist() == [10, 10, 10]


def test_without_views_the_cloud_is_whole_and_unknown():
    cloud = paint(scan(4), [], PaintingConfig())
    assert cloud.class_id.tolist() == [UNKNOWN] * 4
    assert not cloud.labelled.any()


def test_a_point_that_the_camera_does_not_see_takes_nothing_from_it():
    painting = Painting(scan(3), ["a"], PaintingConfig())
    assert View("a", [0, 2, 1], [1, 2, 3], [0.9] * 3).add_to(painting, [True, False, True]) == 2
    assert painting.cloud().class_id.tolist() == [1, 3, UNKNOWN]


def test_points_one_after_the_other_are_weighed_as_those_with_gaps_between_them_are():
    """1,200 points of two cameras: in a run, and of a cloud twice as large every other one."""
    rng = np.random.default_rng(3)
    views = [(camera, rng.integers(0, 19, 1200), np.round(rng.random(1200), 1)) for camera in "ab"]
    painted = []
    for step in (1, 2):
        index = list(range(0, step * 1200, step))
        of = [View(camera, index, said.tolist(), sure.tolist()) for camera, said, sure in views]
        count = step * 1200
        fired_ns = np.arange(count, dtype=np.int64) // step * 50_000
        cloud = paint(replace(scan(count), stamps_ns=fired_ns), of, PaintingConfig())
        painted.append([cloud.class_id[::step], cloud.camera[::step], cloud.probability[::step]])
        assert set(cloud.camera[::step].tolist()) >= {0, 1}
    assert all(np.array_equal(one, other) for one, other in zip(*painted, strict=True))


def winner(one: View, other: View, of: LidarScan, config: PaintingConfig) -> str:
    clouds = [paint(of, order, config) for order in ((one, other), (other, one))]
    assert clouds[0].camera.tolist() == clouds[1].camera.tolist()
    return clouds[0].cameras[clouds[0].camera[0]]


@pytest.mark.parametrize(("at", "worth"), [((0.0, 50.0), 1 / 2), ((100.0, 99.0), 1 / 2), ((19.0, 50.0), 0.976)])
def test_a_place_in_the_middle_is_worth_more_than_one_at_the_border(at, worth):
    """At the border half as much, and a little more: the score is the probability times the worth."""
    config = PaintingConfig(border=0.1)
    beside = View("a", [0], [1], [0.9], at=at)
    assert winner(beside, View("b", [0], [2], [0.9 * worth - 0.01]), scan(1), config) == "a"
    assert winner(beside, View("b", [0], [2], [0.9 * worth + 0.03]), scan(1), config) == "b"


def test_an_image_nearer_in_time_is_worth_more_and_the_label_keeps_its_own_probability():
    config = PaintingConfig(nearness_ms=100.0)
    late = View("a", [0], [1], [0.8], image_ns=STAMP_NS + 100_000_000)
    assert winner(late, View("b", [0], [2], [0.39]), scan(1), config) == "a"
    assert winner(late, View("b", [0], [2], [0.41]), scan(1), config) == "b"
    assert paint(scan(1), [late], config).probability.tolist() == [np.float32(0.8)]


def test_of_a_turning_lidar_each_point_counts_its_own_time():
    turned = replace(scan(2), stamps_ns=np.array([1, 50_000_001]))
    early, late = View("a", [0, 1], [1, 1], [0.5, 0.5]), View("b", [0, 1], [2, 2], [0.5, 0.5], image_ns=50_000_001)
    assert paint(turned, [early, late], PaintingConfig()).class_id.tolist() == [1, 2]


def test_a_sweep_without_points_has_no_time_to_look_at(monkeypatch):
    """Through Python, which checks the bounds that the compiled loop does not."""
    monkeypatch.setattr(painting, "borrowed", lambda value: value)
    for kernel in ("_take", "_take_blocks"):
        monkeypatch.setattr(painting, kernel, getattr(painting, kernel).py_func)
    empty = replace(scan(0), stamps_ns=np.empty(0, np.int64))
    assert len(paint(empty, [View("front", [], [], [])], PaintingConfig())) == 0
