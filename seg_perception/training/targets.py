"""What Panoptic-DeepLab learns of things: a heat map of their centres, and the way to it from each of their pixels.

Cheng et al. 2020 (arXiv 1911.10194), section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seg_perception.training.datasets import VOID, Sample

SIGMA = 8.0  # of the Gaussian at each centre, pixels


@dataclass(frozen=True, slots=True, eq=False)
class InstanceTargets:
    """centre: (H, W) float32, 1 at the centre of mass of each thing. offset: (2, H, W) float32, (v, u) to it, pixels.

    known: (H, W) bool, where `centre` may be learnt from. things: (H, W) bool, where `offset` may be.
    """

    centre: NDArray[np.float32]
    offset: NDArray[np.float32]
    known: NDArray[np.bool_]
    things: NDArray[np.bool_]


def instance_targets(sample: Sample, is_thing: NDArray[np.bool_]) -> InstanceTargets:
    """is_thing: (256,) by train id. Raises ValueError where the sample does not tell things apart."""
    if sample.instances is None:
        raise ValueError(f"{sample.name}: instances wanted, none seen")
    shape = sample.labels.shape
    things = is_thing[sample.labels] & (sample.instances > 0) & (sample.labels != VOID)
    centre, offset = np.zeros(shape, np.float32), np.zeros((2, *shape), np.float32)
    v, u = np.nonzero(things)
    keys = sample.instances[v, u].astype(np.int64) << 8 | sample.labels[v, u]
    _, index, areas = np.unique(keys, return_inverse=True, return_counts=True)
    middle_v = np.bincount(index, v) / np.maximum(areas, 1)
    middle_u = np.bincount(index, u) / np.maximum(areas, 1)
    offset[0, v, u], offset[1, v, u] = middle_v[index] - v, middle_u[index] - u
    for place_v, place_u in zip(middle_v, middle_u, strict=True):
        _stamp(centre, place_v, place_u)
    return InstanceTargets(centre, offset, sample.labels != VOID, things)


def _stamp(centre: NDArray[np.float32], place_v: float, place_u: float) -> None:
    """Raise the heat map to a Gaussian around a place, cut at three sigma."""
    radius = int(3 * SIGMA)
    row, column = int(place_v + 0.5), int(place_u + 0.5)
    rows = np.arange(max(row - radius, 0), min(row + radius + 1, centre.shape[0]))
    columns = np.arange(max(column - radius, 0), min(column + radius + 1, centre.shape[1]))
    bump = np.exp(-((rows[:, None] - row) ** 2 + (columns[None, :] - column) ** 2) / (2 * SIGMA**2))
    window = centre[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    np.maximum(window, bump.astype(np.float32), out=window)
