"""How far what lies in a box has come since the sweep before, by the points of both alone.

Seen from above, in cells along the way that a thing seems to go: what has come lies where there was something so many
cells further back, what stands lies where there was something already. Labels, and boxes drawn around them, do not
enter: where a thing is seen in ever other parts, as at the edge of a picture that goes with the vehicle, they tell of
speeds that are none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.borrowing import borrowed
from seg_perception.geometry.columns import BLOCK, by_axis

_CELL_M = 0.1
_FARTHER, _FARTHER_M = 1.8, 0.6  # times the way that a thing should have come, and more: so far back it is looked for
_ENOUGH = 500  # points of a box that are asked; of more, every second or third
_FEWEST = 5  # points that have to agree
_SHARE = 0.5  # of those in a box, at least
_STOOD = 0.96  # share of those that may as well have been there before
_BESIDE, _HOLDS = np.uint8(1), np.uint8(2)  # what a cell of the grid says; 0 where nothing is near
_LIKELY = 0.99  # share from which on a way is as likely as the likeliest


class Boxes(NamedTuple):
    """T boxes, as a LiDAR has them. centre: (T, 3); axes: (T, 3, 3) ahead, left and up, as rows; half: (T, 3) sides."""

    centre: NDArray[np.float64]
    axes: NDArray[np.float64]
    half: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """A sweep and where its LiDAR stood. points: (N, 3) float32 in its frame at the stamp, their axes one after the
    other in memory; bounds: their `columns.bounds_of`; T_fixed_lidar: (4, 4) at the stamp."""

    stamp_ns: int
    points: NDArray[np.float32]
    bounds: NDArray[np.float32]
    T_fixed_lidar: NDArray[np.float64]

    @property
    def by_axis(self) -> NDArray[np.float32]:
        """(3, N)."""
        return by_axis(self.points)

    def boxes(self, centre: NDArray[np.float64], yaw: NDArray[np.float64], half: NDArray[np.float64]) -> Boxes:
        """Upright boxes in the fixed frame, as the LiDAR has them."""
        R_fixed_lidar = self.T_fixed_lidar[:3, :3]
        cos, sin, none, one = np.cos(yaw), np.sin(yaw), np.zeros(len(yaw)), np.ones(len(yaw))
        axes = np.stack([cos, sin, none, -sin, cos, none, none, none, one], 1).reshape(-1, 3, 3)
        return Boxes((centre - self.T_fixed_lidar[:3, 3]) @ R_fixed_lidar, axes @ R_fixed_lidar, half)


class Ways(NamedTuple):
    """What T boxes hold: metres: (T,) that it has come, the expected ones where these are as likely as any. come: (T,)
    bool, it surely has; may_come: it may as well stand; told: points tell how far it has come."""

    metres: NDArray[np.float64]
    come: NDArray[np.bool_]
    may_come: NDArray[np.bool_]
    told: NDArray[np.bool_]


def ways_come(
    centre: NDArray[np.float64],
    ahead: NDArray[np.float64],
    half: NDArray[np.float64],
    expected_m: NDArray[np.float64],
    held: tuple[NDArray[np.int32], NDArray[np.int32]],
    now: Standing,
    before: Standing,
) -> Ways:
    """Boxes in the fixed frame: middles (T, 3), yaws (T,) of the ways that things go, half sides (T, 3), metres (T,)
    that they should have come since the sweep before. held: which points of now lie in boxes, and in which."""
    steps = np.ceil((_FARTHER * expected_m + _FARTHER_M) / _CELL_M).astype(np.int64)
    cells = np.ceil(2.0 * half[:, :2] / _CELL_M).astype(np.int64) + 3  # one more around, and one for what is left over
    cells[:, 0] += steps
    first = np.concatenate([[0], np.cumsum(cells.prod(axis=1))])
    layout, grid = (first, cells, steps), np.zeros(first[-1], np.uint8)
    back_m = 0.5 * _CELL_M * steps
    longer = np.column_stack([back_m, np.zeros((len(steps), 2))])
    middle = centre - back_m[:, None] * np.stack([np.cos(ahead), np.sin(ahead), np.zeros(len(ahead))], 1)
    _mark(before.by_axis, before.bounds, before.boxes(middle, ahead, half + longer), layout, grid)
    agree = np.zeros((len(steps), int(steps.max(initial=0)) + 1), np.int64)
    asked = np.zeros(len(steps), np.int64)
    _agree(now.by_axis, *held, now.boxes(centre, ahead, half), layout, grid, agree, asked)
    return _judge(agree, asked, expected_m, steps)


def _judge(
    agree: NDArray[np.int64], asked: NDArray[np.int64], expected_m: NDArray[np.float64], steps: NDArray[np.int64]
) -> Ways:
    """agree: (T, S) points, of (T,) asked, for which there was something so many cells further back; steps: (T,) how
    far back was looked."""
    step, most, expected = np.arange(agree.shape[1]), agree.max(axis=1), expected_m / _CELL_M
    likely, best = agree >= _LIKELY * most[:, None], agree.argmax(axis=1)
    low = np.where(likely | (step > best[:, None]), -1, step).max(axis=1) + 1  # of the likely ones around the best
    high = np.where(likely | (step < best[:, None]), len(step), step).min(axis=1) - 1
    middle = 0.5 * (low + high)
    cells = np.clip(expected, np.minimum(low + 1.0, middle), np.maximum(high - 1.0, middle))
    enough = (most >= _FEWEST) & (most >= _SHARE * asked)
    told = enough & (high < steps)
    stood = agree[:, :2].max(axis=1) > _STOOD * most
    there = agree[np.arange(len(agree)), np.minimum(np.rint(expected).astype(np.int64), len(step) - 1)]
    return Ways(_CELL_M * cells, told & ~stood, enough & (there >= _STOOD * most), told)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def near_boxes(bounds, boxes, near):  # type: ignore[no-untyped-def]
    """Which boxes may hold some of what lies within bounds (2, 3), into near; how many."""
    centre, axes, half = boxes
    count = 0
    for t in range(centre.shape[0]):
        apart = False
        for k in range(3):
            reach = abs(axes[t, 0, k]) * half[t, 0] + abs(axes[t, 1, k]) * half[t, 1] + abs(axes[t, 2, k]) * half[t, 2]
            low, high = bounds[0, k] - reach, bounds[1, k] + reach
            apart |= not (low <= centre[t, k] <= high)
        near[count] = t
        count += not apart
    return count


@numba.njit(cache=True, nogil=True, inline="always")
def along(boxes, t, side, x, y, z):  # type: ignore[no-untyped-def]
    """How far from the middle of box t a place is, along one of its axes."""
    centre, axes, _ = boxes
    x, y, z = x - centre[t, 0], y - centre[t, 1], z - centre[t, 2]
    return axes[t, side, 0] * x + axes[t, side, 1] * y + axes[t, side, 2] * z


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _mark(by_axis, bounds, boxes, layout, grid):  # type: ignore[no-untyped-def]
    """Cells of each box that hold points, and those beside them."""
    by_axis, bounds, grid = borrowed((by_axis, bounds, grid))
    near, half, per_m = np.empty(boxes.centre.shape[0], np.int32), boxes.half, 1.0 / _CELL_M
    first, cells, _ = layout
    for block in range(bounds.shape[0]):
        count = near_boxes(bounds[block], boxes, near)
        if count == 0:
            continue
        for i in range(block * BLOCK, min((block + 1) * BLOCK, by_axis.shape[1])):
            x, y, z = by_axis[0, i], by_axis[1, i], by_axis[2, i]
            for n in range(count):
                t = near[n]
                ahead, aside = along(boxes, t, 0, x, y, z) + half[t, 0], along(boxes, t, 1, x, y, z) + half[t, 1]
                inside = 0.0 <= ahead < 2.0 * half[t, 0] and 0.0 <= aside < 2.0 * half[t, 1]
                if inside and abs(along(boxes, t, 2, x, y, z)) < half[t, 2]:
                    width = cells[t, 1]
                    at = first[t] + (int(ahead * per_m) + 1) * width + int(aside * per_m) + 1
                    if grid[at] != _HOLDS:  # as most do of what is near
                        for around in (at - width, at, at + width):
                            for beside in range(around - 1, around + 2):
                                grid[beside] = max(grid[beside], _BESIDE)
                        grid[at] = _HOLDS


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _agree(by_axis, index, which, boxes, layout, grid, agree, asked):  # type: ignore[no-untyped-def]
    """Count into agree and asked, which `_judge` explains."""
    by_axis, index, which, grid = borrowed((by_axis, index, which, grid))
    half, per_m = boxes.half, 1.0 / _CELL_M
    first, cells, steps = layout
    every = np.zeros(asked.shape[0], np.int64)  # of each box one point of so many is asked
    for m in range(which.shape[0]):
        every[which[m]] += 1
    every[:] = every // _ENOUGH + 1
    turn = np.zeros(asked.shape[0], np.int64)
    for m in range(index.shape[0]):
        i, t = index[m], which[m]
        turn[t] += 1
        if turn[t] % every[t] != 0:
            continue
        x, y, z = by_axis[0, i], by_axis[1, i], by_axis[2, i]
        ahead, aside = along(boxes, t, 0, x, y, z) + half[t, 0], along(boxes, t, 1, x, y, z) + half[t, 1]
        if 0.0 <= ahead < 2.0 * half[t, 0] and 0.0 <= aside < 2.0 * half[t, 1]:
            at = first[t] + (int(ahead * per_m) + 1 + steps[t]) * cells[t, 1] + int(aside * per_m) + 1
            asked[t] += 1
            for step in range(steps[t] + 1):
                agree[t, step] += grid[at] > 0
                at -= cells[t, 1]
