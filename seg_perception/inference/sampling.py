"""Reading a small map of class scores at sub-pixel places, and as a whole picture of labels.

Both kernels blend with the same arithmetic in the same order, so that a label image and a sample at a pixel's centre
agree. Each runs on one core and releases the GIL.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from seg_perception.borrowing import borrowed
from seg_perception.datatypes import UNKNOWN
from seg_perception.inference.tiles import blend_2, blend_4, blend_16
from seg_perception.prefetching import prefetch

# Below this distance to the best logit a class adds less than 1e-9 to the softmax's denominator.
_NEGLIGIBLE = np.float32(-21.0)
_LOWEST = np.float32(-np.inf)
_BLOCK = 256  # places taken at a time, so that the compiler takes several of them at once, class by class
_LABELS = 1024  # the same for labels, of which a place has only one
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
    places: NDArray[np.floating],
    are_logits: bool,
    class_id: NDArray[np.uint8],
    probability: NDArray[np.float32],
    margin: NDArray[np.float32],
) -> None:
    """Label N places. scores: (h, w, C) float32; alignment: (scale_u, offset_u, scale_v, offset_v); size: (W, H) image;
    places: (2, N), u and v.

    Fills class_id, probability and margin, each (N,): UNKNOWN, 0 and 0 where a place is NaN, or outside the image, or
    where the network gave NaN.
    """
    classes = scores.shape[2]
    room = np.empty((classes, _BLOCK), np.float32), np.zeros((7, _BLOCK), np.float32), np.zeros((2, _BLOCK), np.int32)
    answer = class_id, probability, margin
    _sample_scores(scores, alignment, size, places, are_logits, answer, room, np.empty(_BLOCK, np.bool_))


@njit(nogil=True, cache=True)
def _sample_scores(scores, alignment, size, places, are_logits, answer, room, inside):  # type: ignore[no-untyped-def]
    scores, places, inside = borrowed((scores, places, inside))
    (by_class, room, whole), (class_id, probability, margin) = borrowed((room, answer))
    height, width, classes = scores.shape
    flat, steps = scores.reshape(-1), (classes, classes * min(1, width - 1), classes * width * min(1, height - 1))
    weights, corner, best = (room[5], room[6]), whole[0], whole[1]
    for first in range(0, places.shape[1], _BLOCK):
        last = min(first + _BLOCK, places.shape[1])
        count = last - first
        _corners(scores.shape, alignment, size, places[0, first:last], places[1, first:last], corner, weights, inside)
        _blend(flat, steps, corner, weights, count, by_class)
        score, second, sure, gap = room[0, :count], room[1, :count], room[2, :count], room[3, :count]
        _rank(by_class, best, score, second)
        if are_logits:
            _soften(by_class, score, second, room[4], sure, gap)
        else:
            sure[:], gap[:] = score, score - second
        _tell(inside, best, score, sure, gap, class_id[first:last], probability[first:last], margin[first:last])


@njit(nogil=True, cache=True)
def _tell(inside, best, score, sure, gap, class_id, probability, margin):  # type: ignore[no-untyped-def]
    """What was found, for the places inside where the network did not give NaN alone."""
    for k in range(class_id.shape[0]):
        known = inside[k] & (score[k] != _LOWEST)
        class_id[k] = np.uint8(best[k]) if known else np.uint8(UNKNOWN)
        probability[k] = sure[k] if known else np.float32(0.0)
        margin[k] = gap[k] if known else np.float32(0.0)


@njit(nogil=True, cache=True)
def _corners(shape, alignment, size, us, vs, corner, weights, inside):  # type: ignore[no-untyped-def]
    """`_tap` of many places along both axes: which of the flat samples lies before each, its weights, and whether the
    place lies in the image."""
    height, width, _ = shape
    scale_u, offset_u, scale_v, offset_v = alignment
    weight_u, weight_v = weights
    right, bottom, stride = size[0] - 0.5, size[1] - 0.5, np.int32(width)
    end_u, end_v = width - 1.0, height - 1.0
    last_left, last_top = np.int32(max(width - 2, 0)), np.int32(max(height - 2, 0))
    for k in range(us.shape[0]):
        u, v = np.float64(us[k]), np.float64(vs[k])
        inside[k] = (u >= -0.5) & (u < right) & (v >= -0.5) & (v < bottom)
        x, y = scale_u * u + offset_u, scale_v * v + offset_v
        x, y = x if x > 0.0 else 0.0, y if y > 0.0 else 0.0
        x, y = x if x < end_u else end_u, y if y < end_v else end_v
        left, top = np.int32(x), np.int32(y)
        left, top = left if left < last_left else last_left, top if top < last_top else last_top
        corner[k] = top * stride + left
        weight_u[k], weight_v[k] = x - left, y - top


@njit(nogil=True, cache=True)
def _blend(flat, steps, corner, weights, count, by_class):  # type: ignore[no-untyped-def]
    """The scores at so many places, and at a few more that do not count, into by_class (C, block). flat: (h * w * C,);
    steps: in it, from a sample to the next one, to the one to its right and to the one below. The last tile of classes
    begins where it ends with the last of them, so some are written twice."""
    weight_u, weight_v = weights
    classes = by_class.shape[0]
    if classes >= 16:
        whole = classes - classes % 16 if classes % 16 <= 4 else classes  # of 19 a small tile takes what is left
        for k in range(0, count, 16):
            for c in range(0, whole, 16):
                blend_16(flat, corner, steps, weight_u, weight_v, min(c, classes - 16), k, by_class)
            if whole < classes:
                for some in range(k, k + 16, 4):
                    blend_4(flat, corner, steps, weight_u, weight_v, classes - 4, some, by_class)
    elif classes >= 4:
        for k in range(0, count, 4):
            for c in range(0, classes, 4):
                blend_4(flat, corner, steps, weight_u, weight_v, min(c, classes - 4), k, by_class)
    else:
        for k in range(0, count, 2):
            for c in range(0, classes, 2):
                blend_2(flat, corner, steps, weight_u, weight_v, min(c, classes - 2), k, by_class)


@njit(nogil=True, cache=True)
def _rank(by_class, best, score, second):  # type: ignore[no-untyped-def]
    """The first of the best classes of each place, its score and that of the second. by_class: (C, block)."""
    best[:], score[:], second[:] = 0, _LOWEST, _LOWEST
    alone = by_class.shape[0] % 2
    if alone:
        score[:] = by_class[0, : score.shape[0]]
    for c in range(alone, by_class.shape[0], 2):
        _challenge(by_class[c], by_class[c + 1], np.int32(c), best, score, second)


@njit(nogil=True, cache=True, fastmath={"nnan", "nsz"})
def _challenge(given, others, c, best, score, second):  # type: ignore[no-untyped-def]
    """Class c and the next one: two at a time, since to read and write what is best takes longer than to compare."""
    after = np.int32(c + 1)
    for k in range(score.shape[0]):
        one, other, before = given[k], others[k], score[k]
        higher, lower = max(one, other), min(one, other)
        second[k] = max(max(second[k], lower), min(before, higher))
        which = after if other > one else c
        best[k] = which if higher > before else best[k]
        score[k] = max(before, higher)


@njit(nogil=True, cache=True, error_model="numpy")
def _soften(by_class, score, second, total, sure, gap):  # type: ignore[no-untyped-def]
    """Probability and margin by the softmax of each place's scores. total: scratch."""
    total[:] = 0.0
    for c in range(by_class.shape[0]):
        _add_powers(by_class[c], score, total)
    for k in range(score.shape[0]):
        sure[k] = np.float32(1.0) / total[k]
        gap[k] = (np.float32(1.0) - _exp(second[k] - score[k])) / total[k]


@njit(nogil=True, cache=True, fastmath={"contract"})
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
    places: NDArray[np.floating],
    class_id: NDArray[np.uint8],
    probability: NDArray[np.float32],
    margin: NDArray[np.float32],
) -> None:
    """Label N places from a picture of labels (h, w). confidence: the same shape, or (1, 1) for all of it.

    Fills class_id, probability and margin, each (N,): UNKNOWN, 0 and 0 where a place is NaN, outside the image or
    UNKNOWN. See `sample_scores` for the rest.
    """
    room, answer = np.empty((2, _LABELS), np.int32), (class_id, probability, margin)
    _sample_labels((labels, confidence), alignment, size, places, answer, room)


@njit(nogil=True, cache=True)
def _sample_labels(picture, alignment, size, places, answer, room):  # type: ignore[no-untyped-def]
    (labels, confidence), places, room = borrowed((picture, places, room))
    class_id, probability, margin = borrowed(answer)
    flat, sure_of = labels.reshape(-1), confidence.reshape(-1)
    here, ahead = room[0], room[1]
    count, us, vs = places.shape[1], places[0], places[1]
    _look_ahead(labels, alignment, size, us[:_LABELS], vs[:_LABELS], ahead)
    for first in range(0, count, _LABELS):
        last = min(first + _LABELS, count)
        here, ahead = ahead, here
        _look_ahead(labels, alignment, size, us[last : last + _LABELS], vs[last : last + _LABELS], ahead)
        at, said, sure = here[: last - first], class_id[first:last], probability[first:last]
        for k in range(at.shape[0]):
            said[k] = flat[max(at[k], 0)]
        if confidence.size > 1:
            for k in range(at.shape[0]):
                sure[k] = sure_of[max(at[k], 0)]
        else:
            sure[:] = sure_of[0]
        _limit(at, said, sure, margin[first:last])


@njit(nogil=True, cache=True)
def _look_ahead(labels, alignment, size, us, vs, where):  # type: ignore[no-untyped-def]
    """`_nearest` of the places of a block, which are asked for."""
    _nearest(labels.shape, alignment, size, us, vs, where)
    flat = labels.reshape(-1)
    for k in range(us.shape[0]):
        prefetch(flat, max(where[k], 0))  # type: ignore[call-arg]


@njit(nogil=True, cache=True)
def _limit(where, said, sure, margin):  # type: ignore[no-untyped-def]
    """UNKNOWN, 0 and 0 for places without a label; the smallest margin that the probability allows for the others."""
    for k in range(where.shape[0]):
        said[k] = said[k] if where[k] >= 0 else np.uint8(UNKNOWN)
    for k in range(where.shape[0]):
        sure[k] = sure[k] if said[k] != UNKNOWN else np.float32(0.0)
        margin[k] = max(np.float32(0.0), np.float32(2.0) * sure[k] - np.float32(1.0))


@njit(nogil=True, cache=True)
def _nearest(shape, alignment, size, us, vs, where):  # type: ignore[no-untyped-def]
    """The flat index of the nearest sample of a picture (h, w) at each place; -1 outside the image."""
    height, width = shape
    scale_u, offset_u, scale_v, offset_v = alignment
    right, bottom, end_u, end_v = size[0] - 0.5, size[1] - 0.5, width - 1.0, height - 1.0
    stride, none = np.int32(width), np.int32(-1)
    for k in range(us.shape[0]):
        u, v = np.float64(us[k]), np.float64(vs[k])
        inside = (u >= -0.5) & (u < right) & (v >= -0.5) & (v < bottom)
        x, y = scale_u * u + offset_u + 0.5, scale_v * v + offset_v + 0.5  # from 0 on, int() is floor()
        x, y = x if x > 0.0 else 0.0, y if y > 0.0 else 0.0
        x, y = x if x < end_u else end_u, y if y < end_v else end_v
        where[k] = np.int32(y) * stride + np.int32(x) if inside else none


@njit(nogil=True, cache=True)
def sample_instances(instances, is_thing, alignment, places, class_id, instance_id):  # type: ignore[no-untyped-def]
    """Fills instance_id (N,) uint16 from the nearest sample of `instances` (h, w), where class_id (N,) is a thing's.

    is_thing: (256,). places: (2, N) whose class is known, so finite and inside. See `sample_scores` for the rest.
    """
    height, width = instances.shape
    scale_u, offset_u, scale_v, offset_v = alignment
    for i in range(places.shape[1]):
        if is_thing[class_id[i]]:
            row = min(max(math.floor(scale_v * places[1, i] + offset_v + 0.5), 0), height - 1)
            column = min(max(math.floor(scale_u * places[0, i] + offset_u + 0.5), 0), width - 1)
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
