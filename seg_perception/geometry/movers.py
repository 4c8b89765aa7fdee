"""Things that move by themselves: an image shows them where they have got to, not where the LiDAR met them.

Whoever follows them says where they should be and how fast they seem to be. How far they have come since the sweep
before, points tell (`displacement`): what stands is left where it is, and what has come goes on to the instant of each
image. The sweep itself keeps its points where they were measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.borrowing import borrowed
from seg_perception.geometry.columns import BLOCK
from seg_perception.geometry.displacement import Standing, along, near_boxes, ways_come
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
class Measured:
    """How fast M of the movers are, by their points. number: (M,) whose they are; velocity: (M, 2) m/s in the fixed
    frame; moves: (M,) bool, surely."""

    number: NDArray[np.int32]
    velocity: NDArray[np.float64]
    moves: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Moving:
    """The K points of a sweep that move. index: (K,) int32, rising, which they are; points: (3, K) float32, they
    themselves; velocity: (3, K) float32 m/s, both in the LiDAR's frame at the sweep's stamp. measured: of the things
    that they lie on."""

    index: NDArray[np.int32]
    points: NDArray[np.float32]
    velocity: NDArray[np.float32]
    measured: Measured

    def carried(self, seconds: NDArray[np.floating]) -> Carried:
        """So many seconds (K,) after each was measured."""
        return Carried(self.index, (self.points + self.velocity * seconds.astype(np.float32)).T)


@dataclass(frozen=True, slots=True, eq=False)
class Movers:
    """T things that seem to move, at the stamp of a sweep, in the fixed frame.

    number: (T,) int32, whose they are. centre: (T, 3) middle of the box in which their points lie, metres; size:
    (T, 3), yaw: (T,) of that box, upright. velocity: (T, 2) m/s, none of them 0. known: (T,) bool, whether points told
    not long ago that they do move.
    """

    number: NDArray[np.int32]
    centre: NDArray[np.float64]
    size: NDArray[np.float64]
    yaw: NDArray[np.float64]
    velocity: NDArray[np.float64]
    known: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.number)

    def moving(self, now: Standing, before: Standing, workspace: Workspace) -> Moving:
        """Which points of a sweep lie in these boxes and have come there since the sweep before, of the same LiDAR."""
        count = len(now.points)
        index, which = workspace.array("moving", count, np.int32), workspace.array("mover", count, np.int32)
        found = _find(now.by_axis, now.bounds, now.boxes(self.centre, self.yaw, 0.5 * self.size), index, which)
        index, which = index[:found], which[:found]
        speed, ahead = np.hypot(*self.velocity.T), np.arctan2(self.velocity[:, 1], self.velocity[:, 0])
        cos, sin = np.abs(np.cos(self.yaw - ahead)), np.abs(np.sin(self.yaw - ahead))
        length, width = cos * self.size[:, 0] + sin * self.size[:, 1], sin * self.size[:, 0] + cos * self.size[:, 1]
        half = 0.5 * np.stack([length, width, self.size[:, 2]], 1)  # of the box along its velocity around it
        seconds = 1e-9 * (now.stamp_ns - before.stamp_ns)
        ways = ways_come(self.centre, ahead, half, speed * seconds, (index, which), now, before)
        velocity = np.stack([np.cos(ahead), np.sin(ahead)], 1) * (ways.metres / seconds)[:, None]
        measured = Measured(self.number[ways.told], velocity[ways.told], ways.come[ways.told])
        carried = (ways.come | (self.known & ways.may_come))[which]
        index, which = index[carried], which[carried]
        in_lidar = now.T_fixed_lidar[:2, :3].T @ velocity.T  # (3, T)
        return Moving(index, now.by_axis[:, index], in_lidar.astype(np.float32)[:, which], measured)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _find(by_axis, bounds, boxes, index, which):  # type: ignore[no-untyped-def]
    """Which points lie in boxes, rising, and in which box, of several in that whose middle is nearest by its sides; how
    many. Most blocks of points are turned away by their bounds."""
    by_axis, bounds, index, which = borrowed((by_axis, bounds, index, which))
    near, half, found = np.empty(boxes.centre.shape[0], np.int32), boxes.half, 0
    for block in range(bounds.shape[0]):
        count = near_boxes(bounds[block], boxes, near)
        if count == 0:
            continue
        for i in range(block * BLOCK, min((block + 1) * BLOCK, by_axis.shape[1])):
            least, x, y, z = 1.0, by_axis[0, i], by_axis[1, i], by_axis[2, i]
            for n in range(count):
                t = near[n]
                ahead = abs(along(boxes, t, 0, x, y, z)) / half[t, 0]
                aside = abs(along(boxes, t, 1, x, y, z)) / half[t, 1]
                up = abs(along(boxes, t, 2, x, y, z)) / half[t, 2]
                if ahead < least and aside < least and up < least:  # not so of NaN
                    least, which[found] = max(ahead, aside, up), t
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
