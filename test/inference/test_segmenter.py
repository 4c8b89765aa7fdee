"""What logits and label segmentations answer, against OpenCV, NumPy and by hand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_perception.errors import ModelError
from seg_perception.inference.contract import Alignment
from seg_perception.inference.sampling import samples_of
from seg_perception.inference.segmenter import LabelSegmentation, LogitsSegmentation

CAMERA = (124, 38)


def scores_of(seed: int, classes: int = 5, height: int = 6, width: int = 11) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, 3.0, (classes, height, width)).astype(np.float32)


def pixel_centres(size: tuple[int, int]) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(size[0]), np.arange(size[1])), axis=-1).reshape(-1, 2).astype(float)


def softmax(scores: np.ndarray) -> np.ndarray:
    below = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return below / below.sum(axis=-1, keepdims=True)


def half_pixel(scores: np.ndarray) -> LogitsSegmentation:
    alignment = Alignment.of_resize(CAMERA, (scores.shape[2], scores.shape[1]))
    return LogitsSegmentation(scores, alignment, CAMERA)


@pytest.mark.parametrize("classes", [2, 3, 5, 16, 19, 40])
def test_sample_is_the_softmax_of_opencvs_bilinear_logits(classes: int) -> None:
    scores = scores_of(1, classes)
    full = np.stack([cv2.resize(of, CAMERA, interpolation=cv2.INTER_LINEAR).ravel() for of in scores], axis=1)
    wanted = np.sort(softmax(full), axis=1)

    labels = half_pixel(scores).sample(pixel_centres(CAMERA))

    assert (labels.class_id == full.argmax(axis=1)).mean() > 0.9999
    np.testing.assert_allclose(labels.probability, wanted[:, -1], atol=2e-5)
    np.testing.assert_allclose(labels.margin, wanted[:, -1] - wanted[:, -2], atol=4e-5)


def test_align_corners_puts_the_corners_on_the_outermost_samples() -> None:
    scores = scores_of(2)
    alignment = Alignment(10 / (CAMERA[0] - 1), 0.0, 5 / (CAMERA[1] - 1), 0.0)
    corners = np.array([[0, 0], [CAMERA[0] - 1, 0], [0, CAMERA[1] - 1], [CAMERA[0] - 1, CAMERA[1] - 1]], float)

    labels = LogitsSegmentation(scores, alignment, CAMERA).sample(corners)

    at_corners = np.moveaxis(scores, 0, 2)[[0, 0, -1, -1], [0, -1, 0, -1]]
    np.testing.assert_array_equal(labels.class_id, at_corners.argmax(axis=1))
    np.testing.assert_allclose(labels.probability, softmax(at_corners).max(axis=1), rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    classes=st.integers(2, 20),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    camera=st.tuples(st.integers(1, 60), st.integers(1, 40)),
)
def test_label_image_is_what_samples_at_pixel_centres_say(
    seed: int, classes: int, height: int, width: int, camera: tuple[int, int]
) -> None:
    scores = scores_of(seed, classes, height, width)
    segmentation = LogitsSegmentation(scores, Alignment.of_resize(camera, (width, height)), camera)
    sampled = segmentation.sample(pixel_centres(camera)).class_id.reshape(camera[1], camera[0])
    np.testing.assert_array_equal(segmentation.label_image(), sampled)


def test_label_image_at_another_size_shows_the_same_view() -> None:
    segmentation = half_pixel(scores_of(3))
    small = segmentation.label_image((62, 19))
    places = pixel_centres((62, 19)) * 2.0 + 0.5
    np.testing.assert_array_equal(small.ravel(), segmentation.sample(places).class_id)


def test_nan_place_gets_no_label() -> None:
    labels = half_pixel(scores_of(4)).sample(np.array([[np.nan, np.nan], [3.0, np.nan], [3.0, 3.0]]))
    assert labels.class_id.tolist()[:2] == [255, 255]
    assert labels.class_id[2] != 255
    assert labels.probability.tolist()[:2] == [0.0, 0.0]
    assert labels.margin.tolist()[:2] == [0.0, 0.0]


def test_many_places_at_once_answer_as_each_alone() -> None:
    """Some outside or NaN, so that blocks of places fill unevenly; scores of NaN, and two equal classes."""
    scores = scores_of(3)
    scores[:, 2, 3], scores[1, 4, :], scores[2] = np.nan, np.nan, scores[4]
    uv = np.random.default_rng(3).uniform((-30.0, -10.0), (150.0, 50.0), (1500, 2))
    uv[::97] = np.nan
    network = half_pixel(scores)
    labels = network.sample(uv)
    assert 200 < np.count_nonzero(labels.class_id == 255) < 1200
    for place in range(0, 1500, 7):
        alone = network.sample(uv[place : place + 1])
        assert (labels.class_id[place], labels.probability[place]) == (alone.class_id[0], alone.probability[0])
        assert labels.margin[place] == alone.margin[0]


@pytest.mark.parametrize(
    ("uv", "inside"),
    [((-0.5, 0.0), True), ((-0.51, 0.0), False), ((123.49, 37.49), True), ((123.5, 0.0), False), ((0.0, 37.5), False)],
)
def test_a_place_belongs_to_the_image_up_to_half_a_pixel_around(uv: tuple[float, float], inside: bool) -> None:
    labels_of_logits = half_pixel(scores_of(5)).sample(np.array([uv]))
    labels = LabelSegmentation(np.zeros((38, 124), np.uint8), None, Alignment(), CAMERA).sample(np.array([uv]))
    assert (labels_of_logits.class_id[0] != 255) == inside
    assert (labels.class_id[0] != 255) == inside


def test_nan_scores_give_no_label_rather_than_class_zero() -> None:
    scores = np.full((4, 3, 5), np.nan, np.float32)
    segmentation = LogitsSegmentation(scores, Alignment.of_resize((10, 6), (5, 3)), (10, 6))
    assert (segmentation.sample(pixel_centres((10, 6))).class_id == 255).all()
    assert (segmentation.label_image() == 255).all()


def test_probabilities_are_not_put_through_softmax_again() -> None:
    probabilities = np.moveaxis(softmax(np.moveaxis(scores_of(6), 0, 2)), 2, 0)
    alignment = Alignment.of_resize(CAMERA, (11, 6))
    labels = LogitsSegmentation(probabilities, alignment, CAMERA, are_logits=False).sample(pixel_centres(CAMERA))
    full = cv2.resize(np.moveaxis(probabilities, 0, 2), CAMERA, interpolation=cv2.INTER_LINEAR).reshape(-1, 5)
    np.testing.assert_allclose(labels.probability, full.max(axis=1), atol=1e-5)


def test_half_precision_scores_are_accepted() -> None:
    scores = scores_of(7)
    labels = half_pixel(scores.astype(np.float16)).sample(pixel_centres(CAMERA))
    assert (labels.class_id == half_pixel(scores).sample(pixel_centres(CAMERA)).class_id).mean() > 0.99


def test_integer_uv_and_empty_uv_are_accepted() -> None:
    segmentation = half_pixel(scores_of(8))
    assert segmentation.sample(np.zeros((0, 2))).class_id.shape == (0,)
    assert segmentation.sample(np.array([[3, 4]])).class_id.shape == (1,)


def test_labels_are_read_where_they_lie_in_a_picture_of_several_channels() -> None:
    picture = np.array([[[3, 9], [7, 9]]], np.uint8)
    said = LabelSegmentation(picture[:, :, 0], None, Alignment(), (2, 1)).sample(np.array([[0.0, 0.0], [1.0, 0.0]]))
    assert said.class_id.tolist() == [3, 7]


def test_labels_are_read_at_the_nearest_sample() -> None:
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    confidence = np.full((3, 4), 0.8, np.float32)
    segmentation = LabelSegmentation(labels, confidence, Alignment.of_resize((8, 6), (4, 3)), (8, 6))
    answer = segmentation.sample(np.array([[0.0, 0.0], [1.4, 0.0], [1.5, 0.0], [7.0, 5.0]]))
    assert answer.class_id.tolist() == [0, 0, 1, 11]
    np.testing.assert_allclose(answer.probability, 0.8)
    np.testing.assert_allclose(answer.margin, 0.6, atol=1e-6)
    np.testing.assert_array_equal(segmentation.label_image(), labels.repeat(2, axis=0).repeat(2, axis=1))


def test_unknown_label_stays_unknown_with_probability_zero() -> None:
    labels = np.array([[255, 3]], np.uint8)
    for confidence in (None, np.array([[0.9, 0.9]], np.float32)):
        answer = LabelSegmentation(labels, confidence, Alignment(), (2, 1)).sample(np.array([[0.0, 0.0], [1.0, 0.0]]))
        assert answer.class_id.tolist() == [255, 3]
        assert answer.probability[0] == 0.0
        assert answer.margin[0] == 0.0
        assert answer.probability[1] > 0.8


def test_alignments_compose() -> None:
    resize, cut = Alignment.of_resize((100, 50), (33, 17)), Alignment(0.25, 0.1, 0.5, -0.2)
    both = cut.after(resize)
    u = 12.3
    assert both.scale_u * u + both.offset_u == pytest.approx(0.25 * (resize.scale_u * u + resize.offset_u) + 0.1)


@pytest.mark.parametrize("bad", [np.zeros((1, 4, 4), np.float32), np.zeros((4, 4)), np.zeros((5, 4, 4), np.int32)])
def test_logits_of_another_shape_or_type_are_refused_by_name(bad: np.ndarray) -> None:
    with pytest.raises(ModelError, match=r"logits: floats of shape \(2\.\.255, h, w\) wanted"):
        LogitsSegmentation(bad, Alignment(), (4, 4))


def test_uv_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"uv: shape \(N, 2\) wanted"):
        half_pixel(scores_of(9)).sample(np.zeros((2, 5)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_scores_are_turned_without_changing_one(dtype: type) -> None:
    planes = np.random.default_rng(0).normal(0.0, 5.0, (19, 7, 11)).astype(dtype)
    wanted = np.moveaxis(planes, 0, 2).astype(np.float32)
    np.testing.assert_array_equal(samples_of(planes), wanted)
    np.testing.assert_array_equal(samples_of(planes[::2, :, 1:9:3]), wanted[:, 1:9:3, ::2])


def test_every_half_is_turned_into_the_number_that_it_is() -> None:
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(2, 256, 128)
    np.testing.assert_array_equal(samples_of(halves), np.moveaxis(halves, 0, 2).astype(np.float32))
