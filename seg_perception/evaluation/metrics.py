"""How right labels are: confusion, IoU, accuracy, panoptic quality. NumPy alone.

Void is the ground truth's word for "annotated as nothing" (255); such pixels are left out altogether. Unknown is our
word for "no label given" (255 too): where the truth has a class, an unknown is a miss of that class and nobody's false
alarm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VOID = 255
Labels = NDArray[np.uint8]


class ConfusionMatrix:
    """Counts of pixels or points. Rows are the truth, columns the prediction; the last column counts unknowns.

    counts: (C, C + 1) int64.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.counts = np.zeros((num_classes, num_classes + 1), np.int64)

    def update(self, truth: Labels, prediction: Labels) -> None:
        """Add one picture or cloud. truth, prediction: of the same shape, train ids; 255: void, unknown.

        Raises ValueError for other shapes and for ids that are no class.
        """
        if truth.shape != prediction.shape:
            raise ValueError(f"labels: truth of shape {truth.shape} and prediction of {prediction.shape} seen")
        self._check("truth", truth)
        self._check("prediction", prediction)
        counted = truth != VOID
        rows = truth[counted].astype(np.int64)
        columns = np.minimum(prediction[counted].astype(np.int64), self.num_classes)
        size = self.counts.size
        self.counts += np.bincount(rows * (self.num_classes + 1) + columns, minlength=size).reshape(self.counts.shape)

    def add(self, counts: NDArray[np.integer]) -> None:
        """Add counts made elsewhere, of the same shape."""
        if counts.shape != self.counts.shape:
            raise ValueError(f"counts: shape {self.counts.shape} wanted, {counts.shape} seen")
        self.counts += counts

    @property
    def iou(self) -> NDArray[np.float64]:
        """(C,) TP / (TP + FP + FN) of each class; NaN for a class in neither truth nor prediction."""
        hits = np.diag(self.counts).astype(float)
        union = self.counts.sum(axis=1) + self.counts[:, :-1].sum(axis=0) - hits
        return _ratio(hits, union)

    @property
    def mean_iou(self) -> float:
        """Mean over the classes that have an IoU; NaN where none has. A class predicted but never there counts as 0."""
        return _mean(self.iou)

    @property
    def recall(self) -> NDArray[np.float64]:
        """(C,) TP / (TP + FN): share of a class's pixels that are found; NaN where there are none."""
        return _ratio(np.diag(self.counts).astype(float), self.counts.sum(axis=1))

    @property
    def precision(self) -> NDArray[np.float64]:
        """(C,) TP / (TP + FP): share of a class's labels that are right; NaN where there are none."""
        return _ratio(np.diag(self.counts).astype(float), self.counts[:, :-1].sum(axis=0))

    @property
    def pixel_accuracy(self) -> float:
        """Share of all pixels with a class that are labelled right; unknowns are not. NaN where there are no pixels."""
        return float(_ratio(np.array([np.trace(self.counts)], float), np.array([self.counts.sum()]))[0])

    @property
    def coverage(self) -> float:
        """Share of all pixels with a class that got any label. NaN where there are no pixels."""
        return float(_ratio(np.array([self.counts[:, :-1].sum()], float), np.array([self.counts.sum()]))[0])

    def _check(self, name: str, labels: Labels) -> None:
        wrong = labels[(labels >= self.num_classes) & (labels != VOID)]
        if wrong.size:
            raise ValueError(f"{name}: train ids 0..{self.num_classes - 1} or {VOID} wanted, {wrong[0]} seen")


@dataclass(frozen=True, slots=True, eq=False)
class PanopticScores:
    """PQ = SQ x RQ of each class (Kirillov et al. 2019, arXiv 1801.00868); NaN for a class without any segment."""

    pq: NDArray[np.float64]
    sq: NDArray[np.float64]
    rq: NDArray[np.float64]

    def mean(self, classes: Sequence[int] | NDArray[np.bool_] | None = None) -> tuple[float, float, float]:
        """PQ, SQ, RQ averaged over `classes` (all by default) that have any segment."""
        chosen = slice(None) if classes is None else np.asarray(classes)
        return _mean(self.pq[chosen]), _mean(self.sq[chosen]), _mean(self.rq[chosen])


class PanopticQuality:
    """Matches segments of truth and prediction picture by picture.

    A segment is what shares class and instance number; of a stuff class all pixels of the picture are one segment,
    whatever their numbers. Segments of one class match where their IoU is above 0.5. Pixels that the truth calls void
    count for nobody. Things that the truth does not tell apart (number 0, as Cityscapes' groups) are never missed. A
    predicted segment that lies by more than half on void and such things of its class is not a false alarm.
    """

    def __init__(self, is_thing: Sequence[bool] | NDArray[np.bool_], smallest: int = 0) -> None:
        """is_thing: for each class. smallest: an unmatched segment of less area is neither missed nor a false alarm."""
        self._is_thing = np.asarray(is_thing, bool)
        self._smallest = smallest
        classes = len(self._is_thing)
        self._of_things = np.append(self._is_thing, np.zeros(256 - classes, bool))
        self.matched_iou = np.zeros(classes)
        self.matched = np.zeros(classes, np.int64)
        self.missed = np.zeros(classes, np.int64)
        self.false_alarms = np.zeros(classes, np.int64)

    def update(
        self,
        truth: Labels,
        truth_instance: NDArray[np.integer],
        prediction: Labels,
        prediction_instance: NDArray[np.integer],
    ) -> None:
        """Add one picture. Classes are train ids, 255: void, unknown; instance numbers tell things of a class apart."""
        shapes = {array.shape for array in (truth, truth_instance, prediction, prediction_instance)}
        if len(shapes) != 1:
            raise ValueError(f"labels and instances: one shape wanted, {sorted(shapes)} seen")
        truth_keys, truth_numbers, truth_index, truth_area = self._segments(truth, truth_instance)
        keys, _, index, area = self._segments(prediction, prediction_instance)
        pairs = np.bincount(
            truth_index.ravel() * len(keys) + index.ravel(), minlength=len(truth_keys) * len(keys)
        ).reshape(len(truth_keys), len(keys))
        is_void = truth_keys == VOID
        crowd = self._of_things[truth_keys] & (truth_numbers == 0)
        same = truth_keys[:, None] == keys[None, :]
        on_void = pairs[is_void].sum(axis=0)
        on_crowd = np.where(crowd[:, None] & same, pairs, 0).sum(axis=0)
        union = truth_area[:, None] + (area - on_void)[None, :] - pairs
        real = ~is_void & ~crowd
        iou = np.where(real[:, None] & same, pairs / np.maximum(union, 1), 0.0)
        match = iou > 0.5  # at most one for each segment, which follows from non-overlap
        truth_matched, found = match.any(axis=1), match.any(axis=0)
        ignored = on_void + on_crowd > 0.5 * area
        classes = len(self._is_thing)
        np.add.at(self.matched_iou, truth_keys[match.nonzero()[0]], iou[match])
        self.matched += np.bincount(truth_keys[truth_matched], minlength=classes)
        missed = ~truth_matched & real & (truth_area >= self._smallest)
        alarms = ~found & ~ignored & (keys != VOID) & (area >= self._smallest)
        self.missed += np.bincount(truth_keys[missed], minlength=classes)
        self.false_alarms += np.bincount(keys[alarms], minlength=classes)

    @property
    def scores(self) -> PanopticScores:
        """Of everything added so far."""
        segments = self.matched + 0.5 * self.false_alarms + 0.5 * self.missed
        sq = np.where(segments > 0, self.matched_iou / np.maximum(self.matched, 1), np.nan)
        rq = _ratio(self.matched.astype(float), segments)
        return PanopticScores(sq * rq, sq, rq)

    def _segments(
        self, classes: Labels, instances: NDArray[np.integer]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.intp], NDArray[np.int64]]:
        """Class and number of each segment, index of its segment for each pixel, area of each segment."""
        wrong = classes[(classes >= len(self._is_thing)) & (classes != VOID)]
        if wrong.size:
            raise ValueError(f"class: train ids 0..{len(self._is_thing) - 1} or {VOID} wanted, {wrong[0]} seen")
        keys = classes.astype(np.int64) << 32 | np.where(self._of_things[classes], instances.astype(np.int64), 0)
        found, index, area = np.unique(keys, return_inverse=True, return_counts=True)
        return found >> 32, found & 0xFFFFFFFF, index.reshape(keys.shape), area


def _ratio(part: NDArray[np.float64], whole: NDArray) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=np.asarray(whole) > 0)


def _mean(values: NDArray[np.float64]) -> float:
    """Mean of what is not NaN, NaN where nothing is left."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
