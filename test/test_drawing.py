import cv2
import numpy as np
import pytest
import small_world as world

from seg_perception.datatypes import NO_CAMERA, UNKNOWN, SemanticCloud
from seg_perception.drawing import (
    UNSEEN,
    birds_eye_view,
    confidence_image,
    legend,
    overlay,
    painted_points,
    points_by_range,
    save,
    sweep_picture,
)
from seg_perception.errors import SegPerceptionError
from seg_perception.geometry.projection import Projection
from seg_perception.inference.contract import Alignment
from seg_perception.inference.segmenter import LabelSegmentation
from seg_perception.labels import Taxonomy

CITYSCAPES = Taxonomy.load("cityscapes")


def cloud(xyz: np.ndarray, class_id: list[int]) -> SemanticCloud:
    count = len(xyz)
    return SemanticCloud(
        world.scan(xyz=np.asarray(xyz, np.float32)),
        np.array(class_id, np.uint8),
        np.ones(count, np.float32),
        np.zeros(count, np.uint16),
        np.full(count, NO_CAMERA, np.uint8),
        (),
    )


def projection(uv: list[tuple[float, float]], distance: list[float]) -> Projection:
    return Projection(np.arange(len(uv)), np.array(uv, float).reshape(-1, 2), np.array(distance, float))


def test_overlay_blends_the_picture_with_the_colours_of_its_labels():
    pixels, labels = np.full((2, 2, 3), 100, np.uint8), np.array([[0, 13], [UNKNOWN, 0]], np.uint8)
    assert overlay(pixels, labels, CITYSCAPES.colors, 0.0).tolist() == pixels.tolist()
    assert overlay(pixels, labels, CITYSCAPES.colors, 1.0)[0, 1].tolist() == list(CITYSCAPES.colors[13])
    assert overlay(pixels, labels, CITYSCAPES.colors, 0.5)[0, 0].tolist() == [114, 82, 114]


def test_the_near_point_is_drawn_over_the_far_one():
    pixels = np.zeros((20, 20, 3), np.uint8)
    points = projection([(10, 10), (10, 10)], [5.0, 50.0])
    drawn = painted_points(pixels, points, np.array([13, 8], np.uint8), CITYSCAPES.colors)
    assert drawn[10, 10].tolist() == CITYSCAPES.colors[13].tolist()


def test_points_go_from_red_to_blue_with_their_range_and_edges_are_white():
    pixels = np.zeros((20, 60, 3), np.uint8)
    drawn = points_by_range(pixels, projection([(10, 10), (30, 10)], [2.0, 58.0]), projection([(50, 10)], [9.0]))
    near, far = drawn[10, 10].astype(int), drawn[10, 30].astype(int)
    assert near[0] > near[2] and far[2] > far[0]
    assert drawn[10, 50].tolist() == [255, 255, 255]


def test_a_picture_without_points_is_drawn_as_it_is():
    """A calibration may be so wrong that no point lies in the picture: that is when it is looked at."""
    pixels = np.full((20, 20, 3), 100, np.uint8)
    nothing = projection([], [])
    assert (points_by_range(pixels, nothing, nothing) == 80).all()


def test_from_above_x_is_up_and_y_is_left():
    view = birds_eye_view(cloud([[10, 5, 0]], [13]), CITYSCAPES.colors, (200, 200), (-20, 20, -20, 20))
    rows, columns = np.nonzero((view == CITYSCAPES.colors[13]).all(axis=2))
    assert np.median(rows) == pytest.approx(50, abs=1)  # 10 m ahead of the middle, 5 pixels a metre
    assert np.median(columns) == pytest.approx(75, abs=1)  # 5 m to the left


def test_from_above_the_vehicle_looks_up_however_its_lidar_is_mounted():
    """x right and y ahead, as nuScenes has it."""
    T_vehicle_lidar = np.array(
        [[0.0, 1.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    )
    seen = cloud([[-5, 10, 0]], [13])
    view = birds_eye_view(seen, CITYSCAPES.colors, (200, 200), (-20, 20, -20, 20), T_vehicle_lidar)
    rows, columns = np.nonzero((view == CITYSCAPES.colors[13]).all(axis=2))
    assert (np.median(rows), np.median(columns)) == pytest.approx((50, 75), abs=1)


def test_from_above_a_label_lies_over_what_no_camera_saw():
    view = birds_eye_view(cloud([[5, 5, 9], [5, 5, 0]], [UNKNOWN, 13]), CITYSCAPES.colors, (200, 200), (-9, 9, -9, 9))
    assert (view == CITYSCAPES.colors[13]).all(axis=2).any()
    assert not (view == UNSEEN).all(axis=2).any()


@pytest.mark.parametrize("sizes", [[], [(200, 100)], [(200, 100)] * 3, [(200, 100), (100, 160), (300, 60)]])
def test_any_number_of_cameras_of_any_shape_makes_a_picture(sizes):
    labelled = cloud([[10, 3, 0], [np.nan, 0, 0]], [13, UNKNOWN])
    views = {
        f"camera_{i}": (np.zeros((height, width, 3), np.uint8), projection([(5, 5)], [10.0]))
        for i, (width, height) in enumerate(sizes)
    }
    picture = sweep_picture(labelled, views, CITYSCAPES, width=800)
    assert picture.shape[1] == 800
    assert (picture == CITYSCAPES.colors[13]).all(axis=2).any()


def test_a_picture_comes_back_as_it_was_saved(tmp_path):
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:, :, 0] = 200  # red
    save(tmp_path / "red.png", pixels)
    assert cv2.imread(str(tmp_path / "red.png"))[0, 0].tolist() == [0, 0, 200]
    with pytest.raises(SegPerceptionError, match="nowhere"):
        save(tmp_path / "nowhere" / "red.png", pixels)


def test_confidence_is_the_probability_of_each_pixels_label_in_255ths():
    labels = np.full((70, 3), 4, np.uint8)  # more rows than one band
    labels[0, 0] = UNKNOWN
    confidence = np.full((70, 3), 0.5, np.float32)
    confidence[69, 2] = 1.0
    picture = confidence_image(LabelSegmentation(labels, confidence, Alignment(), (3, 70)))
    assert (picture[0, 0], picture[1, 1], picture[69, 2]) == (0, 128, 255)


def test_the_legend_says_what_points_without_a_label_look_like():
    with_unknown = legend(CITYSCAPES, np.array([0, UNKNOWN], np.uint8), 400)
    assert (with_unknown == UNSEEN).all(axis=2).any()
    assert not (legend(CITYSCAPES, np.array([0], np.uint8), 400) == UNSEEN).all(axis=2).any()
