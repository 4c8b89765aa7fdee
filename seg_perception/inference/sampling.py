"""Reading a small map of class scores at sub-pixel places, and as a whole picture of labels.

Both kernels blend with the same arithmetic in the same order, so that a label image and a sample at a pixel's centre
agree. Each runs on one core and releases the GIL.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from seg_perception.datatypes import UNKNOWN

# Below this distance to the best logit a class adds less than 1e-9 to the softmax's denominator.
_NEGLIGIBLE = np.float32(-21.0)
_LOWEST = np.float32(-np.inf)
_BLOCK = 256  # places taken at a time, so that the compiler takes several of them at once, class by class
_HALVES = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)


def samples_of(planes: NDArray[np.floating]) -> NDArray[np.float32]:
    """(C, h, w) -> (h, w, C) float32: all classes of a sample side by side, so that a place reads four short runs of
    memory, not four times C cache lines. NumPy takes three to five times as long from float16, and up to three times
    from float32."""
    classes, height, width = planes.shape
    samples = np.empty((height, width, classes), np.float32)
    if planes.dtype == np.float16:
        _turn_halves(np.ascontiguousarray(planes).view(np.uint16), _HALVES, samples)
    else:
        _turn(np.ascontiguousarray(planes, dtype=np.float32), samples)
    return samples


@njit(nogil=True, cache=True)
def _turn(planes, samples):  # type: ignore[no-untyped-def]
    for v in range(planes.shape[1]):
        for c in range(planes.shape[0]):
            row = planes[c, v]
            for u in range(planes.shape[2]):
                samples[v, u, c] = row[u]


@njit(nogil=True, cache=True)
def _turn_halves(planes, value_of, samples):  # type: ignore[no-untyped-def]
    """planes: the bits of each float16, which Numba does not know."""
    for v in range(planes.shape[1]):
        for c in range(planes.shape[0]):
            row = planes[c, v]
            for u in range(planes.shape[2]):
                samples[v, u, c] = value_of[row[u]]


@njit(nogil=True, cache=True, inline="always")
def _tap(pixel: float, scale: float, offset: float, length: int) -> tuple[int, int, np.float32]:
    """First sample, second sample and weight of the second, for a pixel along one axis of `length` samples."""
    place = min(max(scale * pixel + offset, 0.0), length - 1.0)
    first = min(int(place), max(length - 2, 0))
    return first, min(first + 1, length - 1), np.float32(place - first)


@njit(nogil=True, cache=True)
def sample_scores(
    scores: NDArray[np.float32],
    alignment: tuple[float, float, float, float],
    size: tuple[int, int],
    uv: NDArray[np.float64],
    are_logits: bool,
    class_id: NDArray[np.uint8],
    probability: NDArray[np.float32],
    margin: NDArray[np.float32],
) -> None:
    """Label N places. scores: (h, w, C) float32; alignment: (scale_u, offset_u, scale_v, offset_v); size: (W, H) image.

    Fills class_id, probability and margin, each (N,); places that are NaN, or outside the image, or where the network
    gave NaN, stay as they are.
    """
    classes, count = scores.shape[2], uv.shape[0]
    blended, by_class = np.empty((_BLOCK, classes), np.float32), np.empty((classes, _BLOCK), np.float32)
    places, best = np.empty(_BLOCK, np.int64), np.empty(_BLOCK, np.int32)
    room = np.empty((5, _BLOCK), np.float32)
    first = 0
    while first < count:
        first, waiting = _blend(scores, alignment, size, uv, first, blended, places)
        for c in range(classes):
            for k in range(waiting):
                by_class[c, k] = blended[k, c]
        score, second = room[0, :waiting], room[1, :waiting]
        _rank(by_class, best, score, second)
        sure, gap = room[2, :waiting], room[3, :waiting]
        if are_logits:
            _soften(by_class, score, second, room[4], sure, gap)
        else:
            sure[:], gap[:] = score, score - second
        for k in range(waiting):
            if score[k] != -np.inf:  # else the network gave NaN
                i = places[k]
                class_id[i], probability[i], margin[i] = best[k], sure[k], gap[k]


@njit(nogil=True, cache=True)
def _blend(scores, alignment, size, uv, first, blended, places):  # type: ignore[no-untyped-def]
    """The scores at the next places from `first` on that lie in the image, as many as `blended` (block, C) takes, and
    which these are. Returns where to go on, and how many."""
    height, width, classes = scores.shape
    scale_u, offset_u, scale_v, offset_v = alignment
    i, waiting = first, 0
    while i < uv.shape[0] and waiting < blended.shape[0]:
        u, v = uv[i, 0], uv[i, 1]
        if -0.5 <= u < size[0] - 0.5 and -0.5 <= v < size[1] - 0.5:
            left, right, weight_u = _tap(u, scale_u, offset_u, width)
            top, bottom, weight_v = _tap(v, scale_v, offset_v, height)
            for c in range(classes):
                at_left = scores[top, left, c] + (scores[bottom, left, c] - scores[top, left, c]) * weight_v
                at_right = scores[top, right, c] + (scores[bottom, right, c] - scores[top, right, c]) * weight_v
                score = at_left + (at_right - at_left) * weight_u
                blended[waiting, c] = score if score == score else _LOWEST
            places[waiting] = i
            waiting += 1
        i += 1
    return i, waiting


@njit(nogil=True, cache=True)
def _rank(by_class, best, score, second):  # type: ignore[no-untyped-def]
    """The first of the best classes of each place, its score and that of the second. by_class: (C, block)."""
    best[:], score[:], second[:] = 0, _LOWEST, _LOWEST
    for c in range(by_class.shape[0]):
        _challenge(by_class[c], np.int32(c), best, score, second)


@njit(nogil=True, cache=True, fastmath={"nnan", "nsz"})
def _challenge(given, c, best, score, second):  # type: ignore[no-untyped-def]
    for k in range(score.shape[0]):
        wins = given[k] > score[k]
        second[k] = max(second[k], score[k] if wins else given[k])
        best[k] = c if wins else best[k]
        score[k] = given[k] if wins else score[k]


@njit(nogil=True, cache=True, error_model="numpy")
def _soften(by_class, score, second, total, sure, gap):  # type: ignore[no-untyped-def]
    """Probability and margin by the softmax of each place's scores. total: scratch."""
    total[:] = 0.0
    for c in range(by_class.shape[0]):
        _add_powers(by_class[c], score, total)
    for k in range(score.shape[0]):
        sure[k] = np.float32(1.0) / total[k]
        gap[k] = (np.float32(1.0) - _exp(second[k] - score[k])) / total[k]


@njit(nogil=True, cache=True)
def _add_powers(given, score, total):  # type: ignore[no-untyped-def]
    for k in range(score.shape[0]):
        total[k] += _exp(given[k] - score[k])


@njit(nogil=True, cache=True, inline="always")
def _exp(x):  # type: ignore[no-untyped-def]
    """e^x for x <= 0, float32, to 3e-6 of it: the series for x / 32, five times squared. 0 below `_NEGLIGIBLE`."""
    s = max(x, _NEGLIGIBLE) * np.float32(1.0 / 32.0)
    e = np.float32(1.0 / 5040.0)
    for divisor in (720.0, 120.0, 24.0, 6.0, 2.0, 1.0, 1.0):
        e = e * s + np.float32(1.0 / divisor)
    for _ in range(5):
        e = e * e
    return e if x > _NEGLIGIBLE else np.float32(0.0)


@njit(nogil=True, cache=True)
def sample_labels(
    labels: NDArray[np.uint8],
    confidence: NDArray[np.float32],
    alignment: tuple[float, float, float, float],
    size: tuple[int, int],
    uv: NDArray[np.float64],
    class_id: NDArray[np.uint8],
    probability: NDArray[np.float32],
    margin: NDArray[np.float32],
) -> None:
    """Label N places from a picture of labels (h, w). confidence: the same shape, or (1, 1) for all of it.

    Fills class_id, probability and margin, each (N,); places that are NaN, outside the image or UNKNOWN stay as they
    are. See `sample_scores` for the rest.
    """
    flat, sure_of = labels.reshape(-1), confidence.reshape(-1)
    each = confidence.size > 1
    where = np.empty(_BLOCK, np.int64)
    for first in range(0, uv.shape[0], _BLOCK):
        last = min(first + _BLOCK, uv.shape[0])
        _nearest(labels.shape, alignment, size, uv[first:last], where)
        for i in range(first, last):
            at = where[i - first]
            if at < 0 or flat[at] == UNKNOWN:
                continue
            sure = sure_of[at if each else 0]
            class_id[i], probability[i] = flat[at], sure
            margin[i] = max(np.float32(0.0), np.float32(2.0) * sure - np.float32(1.0))


@njit(nogil=True, cache=True)
def _nearest(shape, alignment, size, uv, where):  # type: ignore[no-untyped-def]
    """The flat index of the nearest sample of a picture (h, w) at each place; -1 outside the image. Known before any is
    read, so that none waits for the memory of another."""
    height, width = shape
    scale_u, offset_u, scale_v, offset_v = alignment
    for k in range(uv.shape[0]):
        u, v = uv[k, 0], uv[k, 1]
        inside = (u >= -0.5) & (u < size[0] - 0.5) & (v >= -0.5) & (v < size[1] - 0.5)
        row = min(max(math.floor(scale_v * v + offset_v + 0.5), 0), height - 1)
        column = min(max(math.floor(scale_u * u + offset_u + 0.5), 0), width - 1)
        where[k] = row * width + column if inside else -1


@njit(nogil=True, cache=True)
def sample_instances(instances, is_thing, alignment, uv, class_id, instance_id):  # type: ignore[no-untyped-def]
    """Fills instance_id (N,) uint16 from the nearest sample of `instances` (h, w), where class_id (N,) is a thing's.

    is_thing: (256,). uv: (N, 2) whose class is known, so finite and inside. See `sample_scores` for the rest.
    """
    height, width = instances.shape
    scale_u, offset_u, scale_v, offset_v = alignment
    for i in range(uv.shape[0]):
        if is_thing[class_id[i]]:
            row = min(max(math.floor(scale_v * uv[i, 1] + offset_v + 0.5), 0), height - 1)
            column = min(max(math.floor(scale_u * uv[i, 0] + offset_u + 0.5), 0), width - 1)
            instance_id[i] = instances[row, column]


@njit(nogil=True, cache=True)
def label_picture(
    scores: NDArray[np.float32], alignment: tuple[float, float, float, float], out: NDArray[np.uint8]
) -> None:
    """Up-sample and take the best class, at the pixels of `out` (H, W) uint8. scores: (h, w, C) float32.

    Between four samples that agree on the best class no other can win (a blend of four weights that sum to one keeps
    every inequality), so only the cells along label boundaries are computed.
    """
    height, width, classes = scores.shape
    scale_u, offset_u, scale_v, offset_v = alignment
    best_at = np.empty((height, width), np.uint8)
    for y in range(height):
        for x in range(width):
            best, best_score = UNKNOWN, np.float32(-np.inf)
            for c in range(classes):
                if scores[y, x, c] > best_score:
                    best, best_score = c, scores[y, x, c]
            best_at[y, x] = best
    row = np.empty((width, classes), np.float32)
    agreed = np.empty(width, np.bool_)
    for v in range(out.shape[0]):
        top, bottom, weight_v = _tap(np.float64(v), scale_v, offset_v, height)
        for x in range(width):
            following = min(x + 1, width - 1)
            label = best_at[top, x]
            agreed[x] = (
                label == best_at[bottom, x] and label == best_at[top, following] and label == best_at[bottom, following]
            )
            for c in range(classes):
                row[x, c] = scores[top, x, c] + (scores[bottom, x, c] - scores[top, x, c]) * weight_v
        for u in range(out.shape[1]):
            left, right, weight_u = _tap(np.float64(u), scale_u, offset_u, width)
            if agreed[left]:
                out[v, u] = best_at[top, left]
                continue
            best, best_score = UNKNOWN, np.float32(-np.inf)
            for c in range(classes):
                score = row[left, c] + (row[right, c] - row[left, c]) * weight_u
                if score > best_score:
                    best, best_score = c, score
            out[v, u] = best


def nearest_index(pixel: NDArray[np.floating], scale: float, offset: float, length: int) -> NDArray[np.intp]:
    """Index of the nearest sample along one axis: floor(place + 0.5), clamped to the axis."""
    return np.clip(np.floor(scale * pixel + offset + 0.5), 0, length - 1).astype(np.intp)
