"""Points of countable things, seen from above, grouped into one cluster a thing.

Points are gathered into small cells, a layer of them for each group of classes, and cells link where their points lie
nearer than a reach that grows with the distance from the LiDAR, as the gaps between its beams do. What links is found
by union-find. Classes of different groups never link, so a rider stays apart from the bicycle; nor do
things that an image tells apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.config import ObjectsConfig
from seg_perception.labels import Taxonomy

NO_GROUP = 255


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Which classes may be parts of one thing, and how far apart such parts may lie.

    of_class: (256,) uint8 group of each train id, NO_GROUP for what is not countable. reach_m, reach_ratio: (G,), two
    cells link where they are at most reach_m + reach_ratio * range apart.
    """

    of_class: NDArray[np.uint8]
    reach_m: NDArray[np.float64]
    reach_ratio: NDArray[np.float64]

    @classmethod
    def of(cls, taxonomy: Taxonomy, config: ObjectsConfig) -> Groups:
        """Those of `thing_groups`; large vehicles have a wide reach."""
        of_class, large = thing_groups(taxonomy)
        return cls(
            of_class,
            np.where(large, config.vehicle_reach_m, config.reach_m),
            np.where(large, config.vehicle_reach_ratio, config.reach_ratio),
        )


def thing_groups(taxonomy: Taxonomy) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """(256,) group of each train id, whose classes may be parts of one thing, NO_GROUP for what is not countable; and
    (G,) which groups are large vehicles.

    By the taxonomy's groups `vehicles` and `vulnerable`: large vehicles (not vulnerable) are one group, two-wheelers
    (both) are one, people (not vehicles) are one, and every other countable class stands for itself.
    """
    member = [taxonomy.members([name] if name in taxonomy.groups else []) for name in ("vehicles", "vulnerable")]
    of_class = np.full(256, NO_GROUP, np.uint8)
    found: dict[object, int] = {}
    large: list[bool] = []
    for train_id in np.flatnonzero(taxonomy.is_thing):
        vehicle, vulnerable = bool(member[0][train_id]), bool(member[1][train_id])
        key = (vehicle, vulnerable) if vehicle or vulnerable else int(train_id)
        if key not in found:
            found[key] = len(found)
            large.append(vehicle and not vulnerable)
        of_class[train_id] = found[key]
    return of_class, np.array(large, bool)


class Clusterer:
    """Clusters sweep after sweep in memory that it keeps: (2 * max_range_m / cell_m)² int32."""

    def __init__(self, groups: Groups, config: ObjectsConfig) -> None:
        self._groups, self._config = groups, config
        side = 2 * math.ceil(config.max_range_m / config.cell_m)
        self._grid = np.full((side, side), -1, np.int32)

    def cluster(
        self, xy: NDArray[np.float32], group: NDArray[np.uint8], instance: NDArray[np.uint16] | None = None
    ) -> tuple[NDArray[np.int32], int]:
        """(M,) cluster of each point, 0..K-1 in the order of their first points, -1 beyond max_range_m; and K.

        xy: (M, 2) metres from the LiDAR in a level frame, finite. group: (M,) below the number of groups. instance:
        (M,) what images tell, NO_INSTANCE for nothing, as None for all: points of different instances never link, and
        those of one link at least as far as `instance_reach_m`.
        """
        groups, config = self._groups, self._config
        count = len(groups.reach_m)
        key = group.astype(np.int64)
        if instance is not None:
            key += count * instance.astype(np.int64)
        present = np.bincount(key, minlength=1) > 0
        kinds = np.flatnonzero(present)
        reach_m = groups.reach_m[kinds % count]
        told = kinds >= count
        reach_m[told] = np.maximum(reach_m[told], config.instance_reach_m)
        kind = (np.cumsum(present) - 1)[key].astype(np.int32)
        return _cluster(xy, kind, reach_m, groups.reach_ratio[kinds % count], config.cell_m, self._grid)


@numba.njit(cache=True, nogil=True)
def _root(parent, node):  # type: ignore[no-untyped-def]
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@numba.njit(cache=True, nogil=True)
def _gather(xy, kind_of, size, grid):  # type: ignore[no-untyped-def]
    """Cell of each point, -1 outside; of each cell its place, kind, mean point, and the next cell at that place."""
    count, side = len(xy), len(grid)
    cell_of = np.full(count, -1, np.int32)
    place = np.empty((count, 2), np.int32)
    kind = np.empty(count, np.int32)
    after = np.empty(count, np.int32)
    mean = np.zeros((count, 2))
    points = np.zeros(count, np.int32)
    found = 0
    for i in range(count):
        column = math.floor(xy[i, 0] / size) + side // 2
        row = math.floor(xy[i, 1] / size) + side // 2
        if column < 0 or row < 0 or column >= side or row >= side:
            continue
        cell = grid[row, column]
        while cell >= 0 and kind[cell] != kind_of[i]:
            cell = after[cell]
        if cell < 0:
            cell = found
            found += 1
            after[cell] = grid[row, column]
            grid[row, column] = cell
            kind[cell] = kind_of[i]
            place[cell, 0], place[cell, 1] = row, column
        mean[cell, 0] += xy[i, 0]
        mean[cell, 1] += xy[i, 1]
        points[cell] += 1
        cell_of[i] = cell
    for cell in range(found):
        mean[cell, 0] /= points[cell]
        mean[cell, 1] /= points[cell]
    return cell_of, place[:found], kind[:found], mean[:found], after[:found]


@numba.njit(cache=True, nogil=True)
def _link(place, kind, mean, after, reach_m, reach_ratio, size, grid):  # type: ignore[no-untyped-def]
    """Union-find forest over the cells; the root of a tree is its first cell."""
    side = len(grid)
    parent = np.arange(len(place)).astype(np.int32)
    for cell in range(len(place)):
        x, y = mean[cell, 0], mean[cell, 1]
        reach = reach_m[kind[cell]] + reach_ratio[kind[cell]] * math.sqrt(x * x + y * y)
        around = int(reach / size) + 1
        for row in range(max(place[cell, 0] - around, 0), min(place[cell, 0] + around + 1, side)):
            for column in range(max(place[cell, 1] - around, 0), min(place[cell, 1] + around + 1, side)):
                other = grid[row, column]
                while other >= 0:
                    if kind[other] == kind[cell] and other != cell:
                        dx, dy = mean[other, 0] - x, mean[other, 1] - y
                        if dx * dx + dy * dy <= reach * reach:
                            a, b = _root(parent, cell), _root(parent, other)
                            parent[max(a, b)] = min(a, b)
                    other = after[other]
    return parent


@numba.njit(cache=True, nogil=True)
def _cluster(xy, kind_of, reach_m, reach_ratio, size, grid):  # type: ignore[no-untyped-def]
    cell_of, place, kind, mean, after = _gather(xy, kind_of, size, grid)
    parent = _link(place, kind, mean, after, reach_m, reach_ratio, size, grid)
    number = np.empty(len(place), np.int32)
    clusters = 0
    for cell in range(len(place)):  # a root comes before all of its tree
        root = _root(parent, cell)
        if root == cell:
            number[cell] = clusters
            clusters += 1
        else:
            number[cell] = number[root]
        grid[place[cell, 0], place[cell, 1]] = -1
    cluster = np.full(len(xy), -1, np.int32)
    for i in range(len(xy)):
        if cell_of[i] >= 0:
            cluster[i] = number[cell_of[i]]
    return cluster, clusters
