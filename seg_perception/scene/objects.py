"""Things in one sweep: instances told by images, else clusters of points of countable classes; each with a box, a class
by vote and its points."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.config import ObjectsConfig
from seg_perception.datatypes import NO_INSTANCE
from seg_perception.labels import Taxonomy
from seg_perception.scene.boxes import fit_boxes, sort_by_cluster, typical_sizes, within
from seg_perception.scene.clustering import NO_GROUP, Clusterer, Groups
from seg_perception.scene.expectation import NO_TRACK, Expected, regroup
from seg_perception.scene.footing import Footing

NO_OBJECT = -1
_FLAT_M, _LYING_M = 0.3, 0.1  # what rises less above the ground is the ground; and of what may lie on it: who fell


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """K things of one sweep, in columns; and which points each is made of.

    class_id: (K,) uint8 train ids. probability: (K,) float32, share of the votes for that class. points: (K,) int32,
    how many. centre: (K, 3) float64 middle of the box in the fixed frame, metres. seen: (K, 2) middle of the part that
    the LiDAR sees, from above. size: (K, 3) length, width, height. yaw: (K,) of the length about the fixed frame's z,
    radians; which end is the front is not known. of_point: (N,) int32 index into the things for each point of the
    sweep, NO_OBJECT for none. track_id: (K,) int32 the track that was expected where it lies, NO_TRACK for none.
    flat: how many besides were left out, since they lie flat on the ground.
    """

    class_id: NDArray[np.uint8]
    probability: NDArray[np.float32]
    points: NDArray[np.int32]
    centre: NDArray[np.float64]
    seen: NDArray[np.float64]
    size: NDArray[np.float64]
    yaw: NDArray[np.float64]
    of_point: NDArray[np.int32]
    track_id: NDArray[np.int32]
    flat: int = 0

    def __len__(self) -> int:
        return len(self.class_id)


class ObjectFinder:
    """Finds the things of sweep after sweep; keeps nothing of them but working memory."""

    def __init__(self, taxonomy: Taxonomy, config: ObjectsConfig) -> None:
        self._config = config
        self._groups = Groups.of(taxonomy, config)
        self._clusterer = Clusterer(self._groups, config)
        self._footing = Footing(taxonomy)
        self._may_lie = np.zeros(256, bool)
        if "vulnerable" in taxonomy.groups:
            self._may_lie[taxonomy.members(["vulnerable"])] = True
        self._is_vehicle = ~self._may_lie & taxonomy.members(["vehicles"] if "vehicles" in taxonomy.groups else [])
        self._is_person = np.array([*taxonomy.names, *[""] * (256 - len(taxonomy.names))]) == "person"
        self._sizes = typical_sizes(taxonomy.names)

    def find(
        self,
        points: NDArray[np.float32],
        class_id: NDArray[np.uint8],
        probability: NDArray[np.float32],
        origin: NDArray[np.float64],
        instance_id: NDArray[np.uint16] | None = None,
        expected: Expected | None = None,
    ) -> Objects:
        """The things among N points. points: (N, 3) along the axes of the fixed frame, z up, from `origin`, where the
        LiDAR is in it; a point that is not finite belongs to none. class_id, probability: (N,) of each point.
        instance_id: (N,) which thing images say it is of, NO_INSTANCE or None where they do not: a thing is then what
        is one instance and lies together, otherwise what lies together. expected: things known from before, which
        settle what runs together and what is a part (`regroup`).
        """
        rows = _countable(points, class_id, self._groups.of_class)
        chosen, classes = points[rows], class_id[rows]
        xy = np.ascontiguousarray(chosen[:, :2])  # as a view of one point alone would be: else numba compiles for both
        told = None if instance_id is None else instance_id[rows]
        group = self._groups.of_class[classes]
        cluster, clusters = self._clusterer.cluster(xy, group, told)
        track_id = np.full(clusters, NO_TRACK, np.int32)
        if expected is not None:
            around = replace(expected, centre=expected.centre - origin[:2])
            by_image = np.zeros(len(group), bool) if told is None else told != NO_INSTANCE
            groups = self._groups.of_class[expected.class_id]
            cluster, track_id = regroup(xy, group, by_image, cluster, clusters, around, groups)
            clusters = len(track_id)
        counts = np.bincount(cluster[cluster >= 0], minlength=clusters)
        enough = counts >= self._config.min_points
        number = np.where(enough, np.cumsum(enough) - 1, NO_OBJECT)
        number = np.append(number, NO_OBJECT).astype(np.int32)  # for cluster -1
        cluster, kept = number[cluster], int(enough.sum())
        votes = _votes(cluster, classes, probability[rows], kept)
        winner = votes.argmax(axis=1).astype(np.uint8)
        order, first = sort_by_cluster(cluster, kept)
        boxes = fit_boxes(chosen, order, first, self._sizes[winner], self._footing.take(points, class_id))
        share = votes[np.arange(kept), winner] / np.maximum(votes.sum(axis=1), 1e-9)
        stands = boxes[:, 9] >= np.where(self._may_lie[winner], _LYING_M, _FLAT_M)  # else it is the ground itself
        part_of = within(
            chosen, order, first, boxes, stands & self._is_vehicle[winner], stands & ~self._is_person[winner]
        )
        whole = stands & (part_of < 0)
        number = np.append(np.where(whole, np.cumsum(whole) - 1, NO_OBJECT), NO_OBJECT).astype(np.int32)
        parts = np.flatnonzero(part_of >= 0)
        number[parts] = number[part_of[parts]]  # NO_OBJECT for a part of a part
        of_point = np.full(len(points), NO_OBJECT, np.int32)
        of_point[rows] = number[cluster]
        boxes = boxes[whole]
        return Objects(
            winner[whole],
            share[whole].astype(np.float32),
            np.bincount(number[cluster] + 1, minlength=len(boxes) + 1)[1:].astype(np.int32),
            boxes[:, :3] + origin,
            boxes[:, 7:9] + origin[:2],
            boxes[:, 3:6],
            boxes[:, 6],
            of_point,
            track_id[enough][whole],
            kept - int(stands.sum()),
        )


@numba.njit(cache=True, nogil=True)
def _countable(points, class_id, group_of_class):  # type: ignore[no-untyped-def]
    """Rows of the finite points whose class is countable."""
    rows = np.empty(len(points), np.int64)
    found = 0
    for i in range(len(points)):
        if group_of_class[class_id[i]] != NO_GROUP and np.isfinite(points[i, 0] + points[i, 1] + points[i, 2]):
            rows[found] = i
            found += 1
    return rows[:found].copy()


@numba.njit(cache=True, nogil=True)
def _votes(cluster, class_id, probability, clusters):  # type: ignore[no-untyped-def]
    """(K, 256) sum of the probabilities for each class; labels without a probability still count a little."""
    votes = np.zeros((clusters, 256))
    for i in range(len(cluster)):
        if cluster[i] >= 0:
            votes[cluster[i], class_id[i]] += max(probability[i], np.float32(1e-3))
    return votes
