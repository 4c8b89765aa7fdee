"""What was seen around the vehicle, voxel by voxel, in memory of fixed size.

Each voxel holds a sum of votes for each class, the counts of a Dirichlet distribution: a point votes for its class
with its confidence. Votes for classes that can move away fade with time, and go at once where a later sweep looks
through the voxel. A world that has changed wins in the end: a voxel holds 40 votes for a class, beyond which all of its
votes count for half, and what stood still goes too where sweeps look through it again and again. The map rolls: voxels
that the vehicle has left behind are taken out, a share of the table with each sweep, so that time and memory stay the
same however long the drive.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seg_perception.config import VoxelMapConfig
from seg_perception.datatypes import UNKNOWN
from seg_perception.labels import Taxonomy
from seg_perception.scene import free_space, voxel_hash

MOVABLE = "movable"  # the taxonomy's group of classes that may move away; where there is none: what is countable
_PARTS = 4  # of the table; one is tended with each sweep
_PRIOR_VOTES = 1.0  # of the Dirichlet distribution, shared among the classes: what a voxel's probability starts from


@dataclass(frozen=True, slots=True, eq=False)
class MapCloud:
    """The voxels of a map, in columns. points: (V, 3) float64 their middles in the fixed frame, metres. class_id: (V,)
    uint8. probability: (V,) float32 of that class. weight: (V,) float32 sum of all votes. classes: names by train id,
    empty where nobody says them.
    """

    points: NDArray[np.float64]
    class_id: NDArray[np.uint8]
    probability: NDArray[np.float32]
    weight: NDArray[np.float32]
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True, slots=True)
class MapState:
    """How full the map is. voxels of capacity held; refused: points that found no room, so far; nbytes: its memory."""

    voxels: int
    capacity: int
    refused: int
    nbytes: int


class VoxelMap:
    """Votes for the classes of a taxonomy. Points come as (N, 3) float32 along the fixed axes from `origin` (3,)
    float64 in the fixed frame, so that nothing is lost far from its origin; one that is not finite, or unknown, does
    not count.
    """

    def __init__(self, taxonomy: Taxonomy, config: VoxelMapConfig) -> None:
        self.config = config
        self._classes = taxonomy.names
        self._fades = movable_classes(taxonomy)[: len(taxonomy.trained)].copy()
        self._bits = config.capacity.bit_length() - 1
        self._keys = np.full(config.capacity, voxel_hash.EMPTY, np.int64)
        self._votes = np.full((config.capacity, len(taxonomy.trained)), 0.0, np.float32)  # full: memory from the start
        self._seen = np.full(config.capacity, 0.0)
        self._movable = np.full(config.capacity, False)
        self._prior = _PRIOR_VOTES / len(taxonomy.trained)
        self._voxels = self._refused = 0
        self._tended = self._cleared = 0  # slots at which the next share begins
        self._turn = 0  # how often voxels were looked through
        self._middle = np.zeros(3, np.int64)
        self._start_ns: int | None = None

    def insert(
        self,
        points: NDArray[np.float32],
        origin: NDArray[np.float64],
        class_id: NDArray[np.uint8],
        weight: NDArray[np.float32],
        stamp_ns: int,
    ) -> int:
        """Let each point vote for its class with its weight, (N,); returns how many points found no room."""
        self._voxels, refused = voxel_hash.insert(
            *self._table, points, origin, self.config.voxel_m, class_id, weight,
            np.float32(self.config.min_probability), self._seconds(stamp_ns), self._fades,
            self.config.movable_decay_s, self._voxels
        )  # fmt: skip
        self._refused += refused
        return refused

    def clear(self, depths: NDArray[np.float32], origin: NDArray[np.float64]) -> int:
        """Take the movable votes from those voxels that a sweep looks through, in a share of the table; returns how
        many voxels lost theirs. After four sweeps each was asked. What stands still is asked in one of 64 sweeps, and
        loses half its votes. depths: of `free_space.depths_of` the sweep's points.
        """
        share = self.config.capacity // _PARTS
        cleared = free_space.clear(
            self._keys, self._votes, self._movable, self._cleared, share, origin, self.config.voxel_m, depths,
            self.config.clearing_range_m, 2.0 * self.config.voxel_m, self._fades, self._turn // _PARTS
        )  # fmt: skip
        self._turn += 1
        self._cleared = (self._cleared + share) % self.config.capacity
        return cleared

    def forget(self, centre: NDArray[np.float64], stamp_ns: int) -> int:
        """Roll on to `centre` (3,): take out what lies beyond the radius and what has faded, in a share of the table;
        returns how many voxels went.
        """
        self._middle = np.floor(centre / self.config.voxel_m).astype(np.int64)
        share = self.config.capacity // _PARTS
        reach = int(self.config.radius_m / self.config.voxel_m)
        gone = voxel_hash.forget(
            *self._table, self._tended, share, self._middle, reach, self._seconds(stamp_ns), self._fades,
            self.config.movable_decay_s
        )  # fmt: skip
        self._tended = (self._tended + share) % self.config.capacity
        self._voxels -= gone
        return gone

    def label(
        self, points: NDArray[np.float32], origin: NDArray[np.float64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Class and probability, (N,) each, that the map has for these points; UNKNOWN and 0 where it has none."""
        class_id, probability = np.full(len(points), UNKNOWN, np.uint8), np.zeros(len(points), np.float32)
        voxel_hash.label(
            self._keys, self._votes, self._bits, points, origin, self.config.voxel_m, self._prior, class_id, probability
        )
        return class_id, probability

    def cloud(self, min_weight: float = 0.0) -> MapCloud:
        """Every voxel whose votes sum to at least `min_weight`."""
        points, class_id, probability, weight = voxel_hash.collect(
            self._keys, self._votes, self._middle, self.config.voxel_m, self._prior, np.float32(min_weight)
        )
        return MapCloud(points, class_id, probability, weight, self._classes)

    def add(self, cloud: MapCloud, stamp_ns: int) -> int:
        """Take in a saved map: each of its voxels votes with all its weight for its class. Returns what had no room."""
        points = cloud.points.astype(np.float64)
        origin = points.mean(axis=0) if len(points) else np.zeros(3)
        self._middle = np.floor(origin / self.config.voxel_m).astype(np.int64)
        return self.insert(
            (points - origin).astype(np.float32), origin, cloud.class_id, cloud.weight * cloud.probability, stamp_ns
        )

    @property
    def state(self) -> MapState:
        """How full it is."""
        arrays = (self._keys, self._votes, self._seen, self._movable)
        return MapState(self._voxels, self.config.capacity, self._refused, sum(array.nbytes for array in arrays))

    @property
    def _table(self) -> tuple[NDArray, NDArray, NDArray, NDArray, int]:
        return self._keys, self._votes, self._seen, self._movable, self._bits

    def _seconds(self, stamp_ns: int) -> float:
        """Since the first stamp: small enough to be exact as a float."""
        if self._start_ns is None:
            self._start_ns = stamp_ns
        return (stamp_ns - self._start_ns) * 1e-9


def movable_classes(taxonomy: Taxonomy) -> NDArray[np.bool_]:
    """(256,) train ids of what may move away."""
    return taxonomy.members([MOVABLE]) if MOVABLE in taxonomy.groups else taxonomy.is_thing
