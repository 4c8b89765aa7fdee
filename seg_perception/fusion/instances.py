"""Things of several images as things of one sweep: two images show one thing where they agree on its points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from seg_perception.datatypes import NO_INSTANCE

_FEWEST = 3  # points that both see; fewer prove nothing

Told = tuple[NDArray[np.int32], NDArray[np.uint16]]
"""index: (M,) into the sweep; instance: (M,) that the image tells of those points, NO_INSTANCE for none."""


def numbered(images: Sequence[Told], count: int) -> list[NDArray[np.uint16]]:
    """The instances of each image, numbered anew through the whole sweep of `count` points.

    An instance of one image and one of an image before it are the same where, of the points that both images see and
    count as things, more than half of either's are the other's.
    """
    if not images:
        return []
    sweep = np.full(count, NO_INSTANCE, np.int64)  # by the first image that sees the point
    taken = 0
    result = []
    for index, instance in images:
        number = np.arange(int(instance.max(initial=0)) + 1) + taken
        number[NO_INSTANCE] = NO_INSTANCE
        both = (sweep[index] != NO_INSTANCE) & (instance != NO_INSTANCE)
        theirs, ours = _agreed(sweep[index[both]], instance[both].astype(np.int64))
        number[ours] = theirs
        taken = max(taken, int(number.max()))
        own = number[instance]
        new = index[sweep[index] == NO_INSTANCE]
        sweep[new] = own[sweep[index] == NO_INSTANCE]
        result.append(own.astype(np.uint16))
    return result


def _agreed(theirs: NDArray[np.int64], ours: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of instances that are the same, from the two instances of each point that both tell."""
    pairs, shared = np.unique(np.stack([theirs, ours]), axis=1, return_counts=True)
    larger = np.maximum(np.bincount(theirs, minlength=1)[pairs[0]], np.bincount(ours, minlength=1)[pairs[1]])
    same = (2 * shared > larger) & (shared >= _FEWEST)
    return pairs[0, same], pairs[1, same]
