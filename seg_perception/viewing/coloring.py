"""The colour of each point: by class, instance, confidence, age or height."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.datatypes import NO_INSTANCE, UNKNOWN
from seg_perception.drawing import UNSEEN
from seg_perception.labels import Taxonomy
from seg_perception.viewing.shown import Points

_GOLDEN = 0.6180339887  # hues that follow each other by this share of the circle stay apart, however many there are
_LOW, _HIGH = 2.0, 98.0  # percent of all heights between which the colours change


def class_colors(taxonomy: Taxonomy) -> NDArray[np.uint8]:
    """(256, 3) by train id; unlike those of the taxonomy, unknown is pale, to lie behind all else."""
    table = taxonomy.colors.copy()
    table[len(taxonomy.trained) :] = UNSEEN
    return table


def colored(points: Points, by: str, taxonomy: Taxonomy) -> NDArray[np.uint8]:
    """(N, 3) RGB of the points, by one of COLORINGS; what is not known of a point leaves it pale."""
    return COLORINGS[by](points, taxonomy)


def instance_colors(number: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(N, 3): always the same colour for the same instance; pale for none."""
    hue = np.floor(number * _GOLDEN % 1.0 * 180.0).astype(np.uint8)
    hsv = np.stack([hue, np.full_like(hue, 205), np.full_like(hue, 215)], axis=1)
    rgb = cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0] if len(hsv) else hsv
    return np.where((number == NO_INSTANCE)[:, None], UNSEEN, rgb)


def _by_class(points: Points, taxonomy: Taxonomy) -> NDArray[np.uint8]:
    return class_colors(taxonomy)[points.class_id]


def _by_instance(points: Points, _: Taxonomy) -> NDArray[np.uint8]:
    return instance_colors(points.instance_id)


def _by_confidence(points: Points, _: Taxonomy) -> NDArray[np.uint8]:
    """From violet, improbable, to yellow, certain."""
    return _ramp(np.where(points.class_id == UNKNOWN, np.nan, points.probability), cv2.COLORMAP_VIRIDIS)


def _by_age(points: Points, _: Taxonomy) -> NDArray[np.uint8]:
    """From red, just measured, to blue, the oldest."""
    known = points.age_s[np.isfinite(points.age_s)]
    oldest = max(float(known.max(initial=0.0)), 1e-9)
    return _ramp(0.9 - 0.8 * points.age_s / oldest, cv2.COLORMAP_TURBO)


def _by_height(points: Points, _: Taxonomy) -> NDArray[np.uint8]:
    """From blue, low, to red, high."""
    z = points.xyz[:, 2]
    low, high = np.percentile(z, [_LOW, _HIGH]) if len(z) else (0.0, 0.0)
    return _ramp(0.1 + 0.8 * (z - low) / max(high - low, 1e-9), cv2.COLORMAP_TURBO)


def _ramp(share: NDArray, colormap: int) -> NDArray[np.uint8]:
    """(N, 3) for shares (N,) of 0 to 1, clipped; pale where NaN."""
    known = np.isfinite(share)
    level = np.rint(np.clip(np.where(known, share, 0.0), 0.0, 1.0) * 255.0).astype(np.uint8)
    table = cv2.applyColorMap(np.arange(256, dtype=np.uint8), colormap).reshape(256, 3)[:, ::-1]
    return np.where(known[:, None], table[level], UNSEEN)


COLORINGS: dict[str, Callable[[Points, Taxonomy], NDArray[np.uint8]]] = {
    "class": _by_class,
    "instance": _by_instance,
    "confidence": _by_confidence,
    "age": _by_age,
    "height": _by_height,
}
