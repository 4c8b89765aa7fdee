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
    height, width, classes = scores.shape
    scale_u, offset_u, scale_v, offset_v = alignment
    blended, powers = np.empty(classes, np.float32), np.empty(classes, np.float32)
    for i in range(uv.shape[0]):
        u, v = uv[i, 0], uv[i, 1]
        if not (-0.5 <= u < size[0] - 0.5 and -0.5 <= v < size[1] - 0.5):
            continue
        left, right, weight_u = _tap(u, scale_u, offset_u, width)
        top, bottom, weight_v = _tap(v, scale_v, offset_v, height)
        top_left, top_right = scores[top, left], scores[top, right]
        bottom_left, bottom_right = scores[bottom, left], scores[bottom, right]
        for c in range(classes):
            at_left = top_left[c] + (bottom_left[c] - top_left[c]) * weight_v
            at_right = top_right[c] + (bottom_right[c] - top_right[c]) * weight_v
            score = at_left + (at_right - at_left) * weight_u
            blended[c] = score if score == score else np.float32(-np.inf)
        best, best_score, second_score = _two_best(blended)
        if best_score == -np.inf:  # the network gave NaN
            continue
        class_id[i] = best
        if are_logits:
            for c in range(classes):
                powers[c] = _exp(blended[c] - best_score)
            total = _sum(powers)
            probability[i] = np.float32(1.0) / total
            margin[i] = (np.float32(1.0) - _exp(second_score - best_score)) / total
        else:
            probability[i] = best_score
            margin[i] = best_score - second_score


@njit(nogil=True, cache=True, fastmath={"nnan", "nsz"})
def _two_best(scores):  # type: ignore[no-untyped-def]
    """The first of the best classes, its score and that of the second; no NaN among them. Without a branch a class,
    so that several are compared at once."""
    low = np.float32(-np.inf)
    best_score = second_score = low
    for c in range(scores.shape[0]):
        best_score = max(best_score, scores[c])
    best = np.int32(scores.shape[0])
    for c in range(scores.shape[0]):
        best = min(best, np.int32(c) if scores[c] == best_score else best)
    for c in range(scores.shape[0]):
        second_score = max(second_score, scores[c] if np.int32(c) != best else low)
    return best, best_score, second_score


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
def _sum(values):  # type: ignore[no-untyped-def]
    """In four parts, so that none waits for the one before it."""
    a = b = c = d = np.float32(0.0)
    whole = values.shape[0] // 4 * 4
    for k in range(0, whole, 4):
        a, b, c, d = a + values[k], b + values[k + 1], c + values[k + 2], d + values[k + 3]
    for k in range(whole, values.shape[0]):
        a += values[k]
    return (a + b) + (c + d)


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
    height, width = labels.shape
    scale_u, offset_u, scale_v, offset_v = alignment
    for i in range(uv.shape[0]):
        u, v = uv[i, 0], uv[i, 1]
        if not (-0.5 <= u < size[0] - 0.5 and -0.5 <= v < size[1] - 0.5):
            continue
        row = min(max(math.floor(scale_v * v + offset_v + 0.5), 0), height - 1)
        column = min(max(math.floor(scale_u * u + offset_u + 0.5), 0), width - 1)
        if labels[row, column] == UNKNOWN:
            continue
        class_id[i] = labels[row, column]
        sure = confidence[row, column] if confidence.size > 1 else confidence[0, 0]
        probability[i], margin[i] = sure, max(np.float32(0.0), np.float32(2.0) * sure - np.float32(1.0))


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
