"""Things that move by themselves: an image shows them where they have got to, not where the LiDAR met them.

Whoever follows them says where they should be and how fast they are; the points that lie there go on with them to the
instant of each image. The sweep itself keeps its points where they were measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.borrowing import borrowed
from seg_perception.geometry.columns import BLOCK, by_axis
from seg_perception.geometry.projection import Projection
from seg_perception.geometry.workspace import Workspace


@dataclass(frozen=True, slots=True, eq=False)
class Carried:
    """Points where they are at the instant of an image. index: (K,) int32, rising, which of the sweep's; points: (K, 3)
    float32, metres in the LiDAR's frame at the sweep's stamp, their axes one after the other in memory."""

    index: NDArray[np.int32]
    points: NDArray[np.float32]

    def among(self, index: NDArray[np.int32], points: NDArray[np.float32]) -> NDArray[np.float32]:
        """A sweep's points (M, 3), those of `index` (M,), with these in their places."""
        _, mine, theirs = np.intersect1d(self.index, index, assume_unique=True, return_indices=True)
        points[theirs] = self.points[mine]
        return points

    def into(self, in_view: Projection, own: Projection, workspace: Workspace) -> Projection:
        """The points in view, these where they are `own` in view: `own.index` counts them from 0. Arrays of the
        workspace."""
        most = len(in_view.index) + len(own.index)
        index, uv = (
            workspace.array("index_carried", most, np.int32),
            workspace.array("uv_carried", 2 * most, np.float32),
        )
        distance = workspace.array("distance_carried", most, np.float32)
        found = _merge(*in_view.arrays, *own.arrays, self.index, index, uv, distance)
        return Projection(index[:found], uv[: 2 * found].reshape(2, found).T, distance[:found], in_view.points)


@dataclass(frozen=True, slots=True, eq=False)
class Moving:
    """The points of a sweep that move. index: (K,) int32, rising, which they are; velocity: (K, 3) float32 m/s along
    the axes of the LiDAR's frame at the sweep's stamp."""

    index: NDArray[np.int32]
    velocity: NDArray[np.float32]

    def carried(self, points: NDArray[np.float32], seconds: NDArray[np.floating]) -> Carried:
        """So many seconds (K,) after each was measured; points: (N, 3) of the whole sweep, none of which changes."""
        moved = points[self.index].T + self.velocity.T * seconds.astype(np.float32)
        return Carried(self.index, np.ascontiguousarray(moved).T)


@dataclass(frozen=True, slots=True, eq=False)
class Movers:
    """T things that surely move, at the stamp of a sweep, in the fixed frame.

    centre: (T, 3) middle of the box in which their points lie, metres; size: (T, 3), yaw: (T,) of that box, upright.
    velocity: (T, 2) m/s.
    """

    centre: NDArray[np.float64]
    size: NDArray[np.float64]
    yaw: NDArray[np.float64]
    velocity: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.yaw)

    def moving(
        self,
        points: NDArray[np.float32],
        bounds: NDArray[np.float32],
        T_fixed_lidar: NDArray[np.float64],
        workspace: Workspace,
    ) -> Moving:
        """Which of the points (N, 3) lie in these boxes. bounds: `columns.bounds_of(points)`; T_fixed_lidar: (4, 4)."""
        R_lidar_fixed = T_fixed_lidar[:3, :3].T
        cos, sin, none, one = np.cos(self.yaw), np.sin(self.yaw), np.zeros(len(self)), np.ones(len(self))
        axes = np.stack([cos, sin, none, -sin, cos, none, none, none, one], 1).reshape(-1, 3, 3)
        centre = (self.centre - T_fixed_lidar[:3, 3]) @ R_lidar_fixed.T
        index = workspace.array("moving", len(points), np.int32)
        which = workspace.array("mover", len(points), np.int32)
        found = _find(by_axis(points), bounds, centre, axes @ R_lidar_fixed.T, 0.5 * self.size, index, which)
        velocity = np.column_stack([self.velocity, none]) @ R_lidar_fixed.T
        return Moving(index[:found].copy(), velocity[which[:found]].astype(np.float32))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _find(by_axis, bounds, centre, axes, half, index, which):  # type: ignore[no-untyped-def]
    """Which points lie in boxes, rising, and in which box, of several in that whose middle is nearest by its sides; how
    many. Most blocks of points are turned away by their bounds."""
    by_axis, bounds, index, which = borrowed((by_axis, bounds, index, which))
    near, found = np.empty(centre.shape[0], np.int32), 0
    for block in range(bounds.shape[0]):
        count = 0
        for t in range(centre.shape[0]):
            apart = False
            for k in range(3):
                reach = 0.0
                for side in range(3):
                    reach += abs(axes[t, side, k]) * half[t, side]
                apart |= not (
                    bounds[block, 0, k] <= centre[t, k] + reach and bounds[block, 1, k] >= centre[t, k] - reach
                )
            near[count] = t
            count += not apart
        if count == 0:
            continue
        for i in range(block * BLOCK, min((block + 1) * BLOCK, by_axis.shape[1])):
            least = 1.0
            for n in range(count):
                t = near[n]
                x, y, z = by_axis[0, i] - centre[t, 0], by_axis[1, i] - centre[t, 1], by_axis[2, i] - centre[t, 2]
                along = abs(axes[t, 0, 0] * x + axes[t, 0, 1] * y + axes[t, 0, 2] * z) / half[t, 0]
                across = abs(axes[t, 1, 0] * x + axes[t, 1, 1] * y + axes[t, 1, 2] * z) / half[t, 1]
                up = abs(axes[t, 2, 0] * x + axes[t, 2, 1] * y + axes[t, 2, 2] * z) / half[t, 2]
                if along < least and across < least and up < least:  # not so of NaN
                    least, which[found] = max(along, across, up), t
            index[found] = i
            found += least < 1.0
    return found


@numba.njit(cache=True, nogil=True)
def _merge(index, uv, distance, row, uv_own, distance_own, carried, index_all, uv_all, distance_all):  # type: ignore[no-untyped-def]
    """What is in view, less what is carried, and what is carried and in view, both rising; how many. uv_all: all u and
    then, from there on, all v."""
    most = index_all.shape[0]
    us, vs = uv_all[:most], uv_all[most:]
    n, c, found = 0, 0, 0
    for m in range(index.shape[0] + 1):
        i = index[m] if m < index.shape[0] else np.int32(2**31 - 1)
        while n < row.shape[0] and carried[row[n]] <= i:
            index_all[found], us[found], vs[found] = carried[row[n]], uv_own[0, n], uv_own[1, n]
            distance_all[found] = distance_own[n]
            found, n = found + 1, n + 1
        while c < carried.shape[0] and carried[c] < i:
            c += 1
        if m == index.shape[0] or (c < carried.shape[0] and carried[c] == i):
            continue
        index_all[found], us[found], vs[found], distance_all[found] = i, uv[0, m], uv[1, m], distance[m]
        found += 1
    for m in range(found):
        uv_all[found + m] = vs[m]
    return found
