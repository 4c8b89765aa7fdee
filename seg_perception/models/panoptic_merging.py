"""Class scores, centres and offsets -> one class and one instance for every pixel. NumPy and numba, no torch.

Cheng et al. 2020 (arXiv 1911.10194), section 3.3: peaks of the heat map are centres; each pixel of a thing belongs to
the centre nearest to where its offset points; an instance takes the class that most of its pixels have.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from seg_perception.config import Section, setting
from seg_perception.datatypes import NO_INSTANCE, UNKNOWN

MAX_INSTANCES = 65535  # of a uint16


@dataclass(frozen=True, slots=True)
class MergingConfig(Section):
    """Constants of the merging. The defaults are the paper's."""

    min_centre: float = setting(0.1, "a peak of the heat map below this is no centre", minimum=0.0, maximum=1.0)
    window: int = setting(7, "a centre is the highest within a square of this side, pixels, odd", minimum=1)
    max_centres: int = setting(200, "at most so many centres, the highest", minimum=1, maximum=MAX_INSTANCES)
    min_stuff_area: int = setting(2048, "a stuff class with fewer pixels becomes unknown; 0: keep all", minimum=0)


@dataclass(frozen=True, slots=True, eq=False)
class PanopticLabels:
    """class_id: (H, W) uint8, UNKNOWN where nothing is said. instance: (H, W) uint16, from 1; NO_INSTANCE for stuff.

    confidence: (K,) float32, height of the centre of instance k + 1.
    """

    class_id: NDArray[np.uint8]
    instance: NDArray[np.uint16]
    confidence: NDArray[np.float32]


MERGING = MergingConfig()


def merge(
    class_id: NDArray[np.uint8],
    centre: NDArray[np.float32],
    offset: NDArray[np.float32],
    is_thing: NDArray[np.bool_],
    config: MergingConfig = MERGING,
) -> PanopticLabels:
    """One picture.

    class_id: (H, W) labels of the semantic branch. centre: (H, W) heat map. offset: (2, H, W), (v, u) in pixels, from
    the pixel to its centre. is_thing: for each class, as `Taxonomy.is_thing`. Raises ValueError for other shapes.
    """
    if centre.shape != class_id.shape or offset.shape != (2, *class_id.shape):
        raise ValueError(f"labels {class_id.shape}, centre {centre.shape}, offset {offset.shape}: one size wanted")
    centres, heights = find_centres(centre, config)
    things = is_thing[class_id] & (class_id != UNKNOWN)
    instance = np.zeros(class_id.shape, np.uint16)
    merged = class_id.copy()
    if len(centres):
        _group(things, offset, centres, instance)
        _vote(merged, instance, len(centres), len(is_thing))
    merged[things & (instance == NO_INSTANCE)] = UNKNOWN
    areas = np.bincount(class_id[~things], minlength=256)
    small = (areas < config.min_stuff_area) & ~np.append(is_thing, np.zeros(256 - len(is_thing), bool))
    merged[small[class_id] & ~things] = UNKNOWN
    return _numbered(merged, instance, heights)


def find_centres(centre: NDArray[np.float32], config: MergingConfig) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(K, 2) places (v, u) of the peaks of a heat map and their heights, the highest first."""
    highest = cv2.dilate(centre, np.ones((config.window, config.window), np.uint8))
    places = np.argwhere((centre == highest) & (centre > config.min_centre))
    heights = centre[places[:, 0], places[:, 1]]
    order = np.argsort(-heights, kind="stable")[: config.max_centres]
    return places[order], heights[order]


@njit(cache=True, nogil=True)
def _group(things, offset, centres, instance):  # type: ignore[no-untyped-def]
    """Number each pixel of a thing by the nearest centre, from 1."""
    for v in range(things.shape[0]):
        for u in range(things.shape[1]):
            if not things[v, u]:
                continue
            row, column = v + offset[0, v, u], u + offset[1, v, u]
            best, nearest = 0, np.inf
            for k in range(len(centres)):
                distance = (centres[k, 0] - row) ** 2 + (centres[k, 1] - column) ** 2
                if distance < nearest:
                    best, nearest = k + 1, distance
            instance[v, u] = best


def _vote(class_id: NDArray[np.uint8], instance: NDArray[np.uint16], count: int, classes: int) -> None:
    """Give all pixels of an instance the class that most of them have."""
    belongs = instance > 0
    votes = np.bincount(
        instance[belongs].astype(np.int64) * classes + class_id[belongs], minlength=(count + 1) * classes
    )
    winners = votes.reshape(count + 1, classes).argmax(axis=1).astype(np.uint8)
    class_id[belongs] = winners[instance[belongs]]


def _numbered(
    class_id: NDArray[np.uint8], instance: NDArray[np.uint16], heights: NDArray[np.float32]
) -> PanopticLabels:
    """Instances numbered without gaps: a centre that no pixel chose is none."""
    used = np.unique(instance[instance > 0])
    table = np.zeros(len(heights) + 1, np.uint16)
    table[used] = np.arange(1, len(used) + 1)
    return PanopticLabels(class_id, table[instance], heights[used.astype(np.intp) - 1].astype(np.float32))
