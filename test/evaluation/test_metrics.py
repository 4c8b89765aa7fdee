"""The metrics are their formulae, on cases worked out by hand and against torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
from any_torchvision import without_operators

from seg_perception.evaluation.metrics import VOID, ConfusionMatrix, PanopticQuality


def confusion(truth: list, prediction: list, classes: int = 3) -> ConfusionMatrix:
    matrix = ConfusionMatrix(classes)
    matrix.update(np.array(truth, np.uint8), np.array(prediction, np.uint8))
    return matrix


def quality(truth: list, prediction: list, things: list[bool]) -> PanopticQuality:
    """From pictures of (class, instance) pairs."""
    a, b = np.array(truth), np.array(prediction)
    result = PanopticQuality(things)
    result.update(a[..., 0].astype(np.uint8), a[..., 1], b[..., 0].astype(np.uint8), b[..., 1])
    return result


def test_rows_are_truth_and_columns_prediction() -> None:
    assert confusion([0, 0, 0, 1], [0, 1, 1, 1]).counts.tolist() == [[1, 2, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]


def test_void_truth_is_left_out_whatever_is_predicted_there() -> None:
    assert confusion([VOID, VOID, 0], [0, VOID, 0]).counts.sum() == 1


def test_unknown_is_a_miss_of_its_class_and_nobodys_false_alarm() -> None:
    matrix = confusion([0, 0, 1, 1], [0, VOID, 1, 1])
    assert matrix.iou[:2].tolist() == [0.5, 1.0]
    assert matrix.precision[:2].tolist() == [1.0, 1.0]
    assert matrix.recall[:2].tolist() == [0.5, 1.0]
    assert (matrix.pixel_accuracy, matrix.coverage) == (0.75, 0.75)


def test_iou_is_hits_over_union() -> None:
    matrix = confusion([0, 0, 0, 0, 1, 1, 2], [0, 0, 1, 2, 1, 0, 2])
    assert matrix.iou == pytest.approx([2 / 5, 1 / 3, 1 / 2])
    assert matrix.mean_iou == pytest.approx((2 / 5 + 1 / 3 + 1 / 2) / 3)
    assert matrix.pixel_accuracy == pytest.approx(4 / 7)


def test_a_class_in_neither_truth_nor_prediction_has_no_iou_and_no_part_in_the_mean() -> None:
    matrix = confusion([0, 0, 1], [0, 0, 1])
    assert np.isnan(matrix.iou[2]) and matrix.mean_iou == 1.0


def test_a_class_predicted_but_never_there_counts_as_zero() -> None:
    matrix = confusion([0, 0], [0, 2])
    assert matrix.iou[2] == 0.0 and matrix.mean_iou == pytest.approx(0.25)


def test_nothing_seen_gives_no_number() -> None:
    matrix = ConfusionMatrix(3)
    assert np.isnan([matrix.mean_iou, matrix.pixel_accuracy, matrix.coverage]).all()


def test_pictures_add_up() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 3, (2, 4, 50)).astype(np.uint8)
    whole, parts = ConfusionMatrix(3), ConfusionMatrix(3)
    whole.update(a, b)
    for row in range(4):
        parts.update(a[row], b[row])
    doubled = ConfusionMatrix(3)
    doubled.add(parts.counts)
    assert (whole.counts == parts.counts).all() and (doubled.counts == parts.counts).all()


@pytest.mark.parametrize("arrays", [([0, 3], [0, 0]), ([0, 0], [0, 3]), ([0], [0, 0])])
def test_labels_that_cannot_be_are_refused(arrays: tuple[list, list]) -> None:
    with pytest.raises(ValueError, match="seen"):
        confusion(*arrays)


@pytest.mark.torch
def test_iou_and_accuracy_equal_those_of_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    with without_operators():
        functional = pytest.importorskip("torchmetrics.functional.classification")
    rng = np.random.default_rng(1)
    truth = rng.choice([0, 1, 2, 3, VOID], (4, 30, 40), p=[0.5, 0.2, 0.1, 0.1, 0.1]).astype(np.uint8)
    prediction = np.where(rng.random(truth.shape) < 0.6, np.minimum(truth, 3), rng.integers(0, 4, truth.shape))
    ours = confusion(truth, prediction.astype(np.uint8), 4)
    target, given = torch.from_numpy(truth.astype(np.int64)), torch.from_numpy(prediction.astype(np.int64))
    theirs = functional.multiclass_jaccard_index(given, target, 4, average="none", ignore_index=VOID)
    assert ours.iou == pytest.approx(theirs.numpy(), abs=1e-6)
    theirs = functional.multiclass_accuracy(given, target, 4, average="micro", ignore_index=VOID)
    assert ours.pixel_accuracy == pytest.approx(float(theirs), abs=1e-6)
    theirs = functional.multiclass_confusion_matrix(given, target, 4, ignore_index=VOID)
    assert (ours.counts[:, :-1] == theirs.numpy()).all()


ROAD, CAR = 0, 1
THINGS = [False, True]


def test_two_cars_of_which_one_is_found_make_the_published_formula() -> None:
    truth = [[(CAR, 1)] * 4 + [(CAR, 2)] * 4 + [(ROAD, 0)] * 2]
    prediction = [[(CAR, 7)] * 3 + [(ROAD, 0)] * 7]
    result = quality(truth, prediction, THINGS)
    scores = result.scores
    assert (result.matched[CAR], result.missed[CAR], result.false_alarms[CAR]) == (1, 1, 0)
    assert scores.sq[CAR] == pytest.approx(3 / 4)
    assert scores.rq[CAR] == pytest.approx(1 / 1.5)
    assert scores.pq[CAR] == pytest.approx(0.75 / 1.5)
    # The road: 2 of 7 pixels overlap, so that it is missed and a false alarm at once.
    assert (result.matched[ROAD], result.missed[ROAD], result.false_alarms[ROAD]) == (0, 1, 1)
    assert (scores.pq[ROAD], scores.sq[ROAD], scores.rq[ROAD]) == (0.0, 0.0, 0.0)


def test_exactly_half_is_no_match() -> None:
    result = quality([[(CAR, 1), (CAR, 1)]], [[(CAR, 1), (ROAD, 0)]], THINGS)
    assert result.matched[CAR] == 0


def test_instance_numbers_of_stuff_do_not_matter() -> None:
    result = quality([[(ROAD, 1), (ROAD, 2)]], [[(ROAD, 5), (ROAD, 5)]], THINGS)
    assert result.scores.pq[ROAD] == 1.0


def test_void_pixels_leave_the_union() -> None:
    truth = [[(CAR, 1)] * 3 + [(VOID, 0)] * 3]
    result = quality(truth, [[(CAR, 1)] * 6], THINGS)
    assert result.scores.pq[CAR] == 1.0


def test_a_segment_mostly_on_void_is_no_false_alarm() -> None:
    truth = [[(ROAD, 0)] * 2 + [(VOID, 0)] * 3]
    result = quality(truth, [[(ROAD, 0)] + [(CAR, 1)] * 4], THINGS)
    assert result.false_alarms[CAR] == 0


def test_things_that_the_truth_does_not_tell_apart_are_neither_missed_nor_false_alarms() -> None:
    """As panopticapi counts groups of Cityscapes: in one, a prediction of its class is right, of another it is not."""
    assert quality([[(CAR, 0)] * 4], [[(ROAD, 0)] * 4], THINGS).missed[CAR] == 0
    found = quality([[(CAR, 0)] * 4], [[(CAR, 3)] * 4], THINGS)
    assert (found.matched.sum(), found.false_alarms.sum()) == (0, 0)
    assert quality([[(CAR, 0)] * 4], [[(ROAD, 0)] * 4], THINGS).false_alarms[ROAD] == 1


def test_unknown_prediction_is_a_miss_only() -> None:
    result = quality([[(CAR, 1)] * 2], [[(VOID, 0)] * 2], THINGS)
    assert (result.missed[CAR], result.false_alarms.sum()) == (1, 0)


def test_means_are_over_the_classes_that_were_there() -> None:
    result = quality([[(ROAD, 0), (CAR, 1)]], [[(ROAD, 0), (CAR, 1)]], [False, True, True])
    assert result.scores.mean() == (1.0, 1.0, 1.0)
    assert result.scores.mean(np.array([False, True, True])) == (1.0, 1.0, 1.0)
    assert np.isnan(result.scores.mean([2])).all()


@pytest.mark.torch
def test_panoptic_quality_equals_that_of_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    with without_operators():
        detection = pytest.importorskip("torchmetrics.detection")
    rng = np.random.default_rng(2)
    things, stuffs = {1, 2}, {0, 3}
    ours = PanopticQuality([False, True, True, False])
    theirs = detection.PanopticQuality(things, stuffs, return_sq_and_rq=True, return_per_class=True)
    for _ in range(3):
        blocks = rng.integers(0, 4, (6, 6)), rng.integers(1, 4, (6, 6))
        truth = np.stack([np.kron(block, np.ones((8, 8), int)) for block in blocks], axis=-1)
        moved = np.roll(truth, 2, axis=1)
        given = np.where(rng.random(moved.shape[:2])[..., None] < 0.9, moved, np.roll(truth, 9, axis=0))
        ours.update(truth[..., 0].astype(np.uint8), truth[..., 1], given[..., 0].astype(np.uint8), given[..., 1])
        theirs.update(torch.from_numpy(given)[None], torch.from_numpy(truth)[None])
    wanted = theirs.compute().numpy().reshape(-1, 3)  # things sorted, then stuff: 1, 2, 0, 3
    scores = ours.scores
    assert 0 < scores.mean()[0] < 1
    for row, train_id in zip(wanted, [1, 2, 0, 3], strict=True):
        assert (scores.pq[train_id], scores.sq[train_id], scores.rq[train_id]) == pytest.approx(row, abs=1e-6)
