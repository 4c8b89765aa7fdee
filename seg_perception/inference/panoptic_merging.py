"""Class scores, centres and offsets -> one instance, and one class, for every sample or pixel. No torch.

Cheng et al. 2020 (arXiv 1911.10194), section 3.3: peaks of the heat map are centres; each pixel of a thing belongs to
the centre nearest to where its offset points; an instance takes the class that most of its pixels have.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from seg_perception.config import Section, setting
from seg_perception.datatypes import NO_INSTANCE, UNKNOWN
from seg_perception.inference.contract import ModelContract

MAX_INSTANCES = 65535  # of a uint16
THINGS = "things"  # beside a network's outputs, where a GPU has made it of the scores: as `thing_samples`


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


@dataclass(frozen=True, slots=True, eq=False)
class ImageThings:
    """The things of one image, at the network's own stride.

    instance: (h, w) uint16, from 1, for each sample of a thing and those next to it: between samples a thing may reach
    further than its own do. is_thing: (256,) the train ids whose places are to be looked up in it.
    """

    instance: NDArray[np.uint16]
    is_thing: NDArray[np.bool_]


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
    instance = np.zeros(class_id.shape, np.uint16)
    _group(is_thing[class_id] & (class_id != UNKNOWN), offset, centres, instance)
    instance, used = _numbered(instance, len(centres))
    return PanopticLabels(settled(class_id, instance, is_thing, config), instance, heights[used])


def image_things(
    outputs: Mapping[str, NDArray], contract: ModelContract, config: MergingConfig = MERGING
) -> ImageThings | None:
    """What the `logits`, `centre` and `offset` of a deployed network say; None where it does not tell things apart.

    THINGS stands for the logits where it is there.
    """
    if not contract.things:
        return None
    centre, offset = (np.asarray(outputs[name], np.float32) for name in ("centre", "offset"))
    things = outputs[THINGS] if THINGS in outputs else thing_samples(outputs["logits"], contract.things)
    scales = contract.network_alignment.scale_v, contract.network_alignment.scale_u
    window = max(3, 2 * int(0.5 * config.window * max(scales)) + 1)  # of samples, where the setting is in pixels
    centres, _ = find_centres(centre, dataclasses.replace(config, window=window))
    instance = np.zeros(centre.shape, np.uint16)
    around = cv2.dilate(things, np.ones((3, 3), np.uint8)).astype(bool)
    _group(around, offset * np.array(scales, np.float32)[:, None, None], centres, instance)
    is_thing = np.zeros(256, bool)
    is_thing[list(contract.things)] = True
    return ImageThings(_numbered(instance, len(centres))[0], is_thing)


def thing_samples(logits: NDArray[np.floating], things: Sequence[int]) -> NDArray[np.uint8]:
    """(h, w): 1 where the best score of a thing's class is at least that of every other class. logits: (C, h, w)."""
    scores = np.asarray(logits, np.float32)
    of_class = np.zeros(len(scores), bool)
    of_class[list(things)] = True
    return (scores[of_class].max(axis=0) >= scores[~of_class].max(axis=0)).astype(np.uint8)


def settled(
    class_id: NDArray[np.uint8],
    instance: NDArray[np.uint16],
    is_thing: NDArray[np.bool_],
    config: MergingConfig = MERGING,
) -> NDArray[np.uint8]:
    """The classes of a picture, one for each instance: the most frequent of its pixels. A thing's pixel in no instance,
    and stuff of too small an area, becomes UNKNOWN. Shapes as for `merge`."""
    things = is_thing[class_id] & (class_id != UNKNOWN)
    merged = class_id.copy()
    _vote(merged, instance, int(instance.max(initial=0)), len(is_thing))
    merged[things & (instance == NO_INSTANCE)] = UNKNOWN
    areas = np.bincount(class_id[~things], minlength=256)
    small = (areas < config.min_stuff_area) & ~np.append(is_thing, np.zeros(256 - len(is_thing), bool))
    merged[small[class_id] & ~things] = UNKNOWN
    return merged


def find_centres(centre: NDArray[np.float32], config: MergingConfig) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(K, 2) places (v, u) of the peaks of a heat map and their heights, the highest first.

    Of equals within one window (float16 makes many) the first in reading order is the peak.
    """
    highest = cv2.dilate(centre, np.ones((config.window, config.window), np.uint8))
    places = np.argwhere((centre == highest) & (centre > config.min_centre))
    heights = centre[places[:, 0], places[:, 1]]
    order = np.argsort(-heights, kind="stable")[: 2 * config.max_centres]
    order = order[_first_in_window(places[order], config.window // 2)][: config.max_centres]
    return places[order], heights[order]


@njit(cache=True, nogil=True)
def _first_in_window(places, reach):  # type: ignore[no-untyped-def]
    """(K,) bool: whether no place before it that is kept lies within `reach` rows and columns."""
    kept = np.ones(len(places), np.bool_)
    for k in range(len(places)):
        for before in range(k):
            apart = max(abs(places[k, 0] - places[before, 0]), abs(places[k, 1] - places[before, 1]))
            kept[k] &= not (kept[before] and apart <= reach)
    return kept


@njit(cache=True, nogil=True)
def _group(things, offset, centres, instance):  # type: ignore[no-untyped-def]
    """Number each pixel of a thing by the nearest centre, from 1; 0 where there is no centre at all."""
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


def _numbered(instance: NDArray[np.uint16], centres: int) -> tuple[NDArray[np.uint16], NDArray[np.intp]]:
    """Instances numbered without gaps (a centre that no pixel chose is none), and which centre each of them has."""
    used = np.flatnonzero(np.bincount(instance.ravel(), minlength=centres + 1)[1:])
    table = np.zeros(centres + 1, np.uint16)
    table[used + 1] = np.arange(1, len(used) + 1)
    return table[instance], used
