"""What there is to look at, in one frame: points with what is known of each, and boxes around things."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from seg_perception.datatypes import NO_INSTANCE, UNKNOWN
from seg_perception.geometry.transforms import transform_points
from seg_perception.labels import Taxonomy
from seg_perception.scene.voxel_map import MapCloud, movable_classes

_EDGES = np.array([(a, a | 1 << axis) for axis in range(3) for a in range(8) if not a >> axis & 1])
_CORNERS = (np.arange(8)[:, None] >> np.arange(3) & 1) - 0.5  # of a cube of side 1; bit k of a corner is its axis k


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """N points. xyz: (N, 3) float64, metres. class_id: (N,) uint8, UNKNOWN for none. probability: (N,) float32 of that
    class. instance_id: (N,) int64, NO_INSTANCE for none. age_s: (N,) float32 since measured, NaN where nobody knows.
    """

    xyz: NDArray[np.float64]
    class_id: NDArray[np.uint8]
    probability: NDArray[np.float32]
    instance_id: NDArray[np.int64]
    age_s: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.xyz)

    @classmethod
    def of_map(cls, cloud: MapCloud) -> Points:
        """The voxels of a map, which knows neither instances nor ages."""
        count = len(cloud)
        no_instance, no_age = np.full(count, NO_INSTANCE, np.int64), np.full(count, np.nan, np.float32)
        return cls(cloud.points.astype(np.float64, copy=False), cloud.class_id, cloud.probability, no_instance, no_age)

    @classmethod
    def joined(cls, parts: Sequence[Points]) -> Points:
        """All points of one or more clouds."""
        return cls(*(np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(cls)))

    def select(self, rows: NDArray) -> Points:
        """Some of the points, by mask or index."""
        return Points(*(getattr(self, column.name)[rows] for column in fields(self)))


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """B boxes. T_frame_box: (B, 4, 4). size: (B, 3) along each box's axes, metres. class_id: (B,) uint8, UNKNOWN for
    none. track_id: (B,) int64.
    """

    T_frame_box: NDArray[np.float64]
    size: NDArray[np.float64]
    class_id: NDArray[np.uint8]
    track_id: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.size)

    @classmethod
    def none(cls) -> Boxes:
        """No boxes."""
        return cls(np.zeros((0, 4, 4)), np.zeros((0, 3)), np.zeros(0, np.uint8), np.zeros(0, np.int64))

    @property
    def edges(self) -> NDArray[np.float64]:
        """(B, 12, 2, 3): both ends of each edge."""
        corners = np.einsum("bij,bkj->bki", self.T_frame_box[:, :3, :3], _CORNERS * self.size[:, None])
        return (corners + self.T_frame_box[:, None, :3, 3])[:, _EDGES]


@dataclass(frozen=True, slots=True, eq=False)
class ShownSweep:
    """A labelled sweep in the frame that is shown. T_frame_vehicle: (4, 4) where the vehicle was, x ahead."""

    stamp_ns: int
    points: Points
    boxes: Boxes
    T_frame_vehicle: NDArray[np.float64]


def standing(points: Points, taxonomy: Taxonomy) -> Points:
    """Those of them that cannot have moved away since they were measured."""
    stays = ~movable_classes(taxonomy)
    stays[UNKNOWN] = False
    return points.select(stays[points.class_id])


def gathered(sweeps: Sequence[ShownSweep], taxonomy: Taxonomy) -> Points:
    """The points of sweeps, the newest last; of the earlier ones only what cannot have moved away since."""
    newest = sweeps[-1]
    parts = []
    for sweep in sweeps:
        age_s = np.float32((newest.stamp_ns - sweep.stamp_ns) * 1e-9)
        points = sweep.points if sweep is newest else standing(sweep.points, taxonomy)
        parts.append(replace(points, age_s=np.full(len(points), age_s, np.float32)))
    return Points.joined(parts)


def level(T_frame_vehicle: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same place and heading, with z straight up."""
    yaw = np.arctan2(T_frame_vehicle[1, 0], T_frame_vehicle[0, 0])
    T = np.eye(4)
    T[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    T[:3, 3] = T_frame_vehicle[:3, 3]
    return T


def in_frame(T_frame_source: NDArray[np.float64], points: Points) -> Points:
    """Points carried into another frame."""
    return replace(points, xyz=transform_points(T_frame_source, points.xyz))
