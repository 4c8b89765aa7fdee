"""The scene from above, around the vehicle: class, height and drivable probability of each cell.

The grid lies along the axes of the fixed frame and rolls with the vehicle: a cell keeps its place in memory, indices
wrap, and rows and columns that come in are wiped. Ground is what points of ground classes say it is; points of any
other class block a cell where they stand between a step's height and the vehicle's clearance above it. What blocks a
cell and may move fades with time, and goes at once where a later sweep looks through.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.config import BevConfig
from seg_perception.datatypes import UNKNOWN
from seg_perception.errors import ConfigError
from seg_perception.labels import Taxonomy
from seg_perception.scene.free_space import seen_through
from seg_perception.scene.objects import Objects
from seg_perception.scene.voxel_map import movable_classes

FREE, OCCUPIED, NOT_SEEN = 0, 100, -1  # of nav_msgs/OccupancyGrid

_GROUND, _MEASURED, _TOP, _BLOCKED, _MOVING, _SEEN, _VOTES = range(7)  # of a cell, before its votes
_LINE = 16  # float32 in a cache line: cells are as wide as whole lines
_HEIGHT, _WEIGHT, _TOUCHED, _RESTLESS, _OF_PATCH = range(5)  # of a patch
_STUFF, _MOVES, _FLOOR, _DRIVE = 0, 1, 2, 3  # kinds of classes
_SHIFT = 3
_COARSE = 1 << _SHIFT  # cells along a patch of ground, whose height tells what stands on it
_DEEP = 10.0  # m; what seems to lie further below the ground is nothing
_ON_GROUND = 0.5  # m; a point labelled as ground that lies further from the patch's height is not
_BLOCK_WEIGHT = 2.0  # a vote that something stands here against a vote that here is ground
_LOOK = 0.6  # m above ground, where a sweep looks through a cell
_ENOUGH = 0.5  # votes that make a cell known
_HELD_WEIGHT = 20.0  # votes; as much as what is known of a patch's height counts against a new sweep
_MOST_VOTES = np.float32(20.0)  # of a cell for anything: however long a road lay empty, what steps onto it shows
_FOLLOW = np.float32(0.1)  # share by which a cell's height follows each new point


@dataclass(frozen=True, slots=True, eq=False)
class BevLayers:
    """The grid as it was at one instant; row r, column c is the cell around x0 + (c + 0.5) cell, y0 + (r + 0.5) cell.

    corner: (x0, y0) in the fixed frame, metres. class_id: (S, S) uint8, UNKNOWN where nothing was seen. ground: (S, S)
    float32 height of the ground in the fixed frame; top: of what stands on it, above the ground, 0 for nothing;
    drivable: probability. These are NaN where nothing is known.
    """

    corner: tuple[float, float]
    cell_m: float
    class_id: NDArray[np.uint8]
    ground: NDArray[np.float32]
    top: NDArray[np.float32]
    drivable: NDArray[np.float32]

    def occupancy(self, drivable_probability: float = 0.5) -> NDArray[np.int8]:
        """(S, S) the data of a nav_msgs/OccupancyGrid: FREE where drivable, OCCUPIED where not, NOT_SEEN."""
        told = np.where(self.drivable >= drivable_probability, np.int8(FREE), np.int8(OCCUPIED))
        np.copyto(told, np.int8(NOT_SEEN), where=np.isnan(self.drivable))
        return told


class BevGrid:
    """Points come as (N, 3) float32 along the fixed axes from `origin` (3,) float64, the LiDAR in the fixed frame."""

    def __init__(self, taxonomy: Taxonomy, config: BevConfig) -> None:
        self.config = config
        self.side = math.ceil(config.side_m / config.cell_m / _COARSE) * _COARSE
        classes = len(taxonomy.trained)
        if self.side > 4096:
            raise ConfigError(f"bev: side_m / cell_m of at most 4096 cells wanted, {self.side} seen")
        self._kind = class_kinds(taxonomy)
        width = -(-(_VOTES + classes) // _LINE) * _LINE
        self._cells = np.full((self.side, self.side, width), 0.0, np.float32)  # unlike zeros, memory from the start
        self._patches = np.zeros((self.side // _COARSE, self.side // _COARSE, _OF_PATCH), np.float32)
        self._fresh = np.zeros((*self._patches.shape[:2], 2))
        self._first: NDArray[np.int64] | None = None  # row and column of the lowest patch, counted from the origin
        self._start_ns: int | None = None

    @property
    def nbytes(self) -> int:
        """Its memory."""
        return self._cells.nbytes + self._patches.nbytes + self._fresh.nbytes

    def insert(
        self,
        points: NDArray[np.float32],
        origin: NDArray[np.float64],
        class_id: NDArray[np.uint8],
        weight: NDArray[np.float32],
        stamp_ns: int,
    ) -> None:
        """Roll to `origin`, and let each point that has a class and is finite tell its cell, with its weight, (N,)."""
        self._roll(origin)
        config, cell = self.config, self.config.cell_m
        _raise_ground(
            self._patches, self._fresh, points, origin, cell * _COARSE, self._first, class_id, weight, self._kind
        )
        _insert(
            self._cells, self._patches, points, origin, cell, self._first, class_id, weight, self._kind,
            config.step_m, config.clearance_m, self._seconds(stamp_ns), config.movable_decay_s
        )  # fmt: skip

    def clear(self, depths: NDArray[np.float32], origin: NDArray[np.float64], reach: float = 60.0) -> int:
        """Unblock the cells, no further than `reach`, that a sweep looks through; depths: of `free_space.depths_of`.
        Returns how many.
        """
        if self._first is None:
            return 0
        cell = self.config.cell_m
        return _clear(self._cells, self._patches, origin, cell, self._first, self._kind, depths, reach)

    def layers(self, stamp_ns: int, objects: Objects | None = None) -> BevLayers:
        """The grid now; the boxes of `objects`, where given, are not drivable and take the class of their thing."""
        first = np.zeros(2, np.int64) if self._first is None else self._first
        shape = (self.side, self.side)
        class_id = np.empty(shape, np.uint8)
        ground, top, drive, total, drivable = (np.empty(shape, np.float32) for _ in range(5))
        now, decay_s = self._seconds(stamp_ns), self.config.movable_decay_s
        _read(self._cells, self._patches, first, self._kind, now, decay_s, class_id, ground, top, drive, total)
        window = (2 * (round(self.config.bridge_m / self.config.cell_m) // 2) + 1,) * 2
        around = [cv2.boxFilter(v, -1, window, normalize=False, borderType=cv2.BORDER_CONSTANT) for v in (drive, total)]
        _rate(drive, total, around[0], around[1], drivable)
        y0, x0 = first * _COARSE * self.config.cell_m
        layers = BevLayers((float(x0), float(y0)), self.config.cell_m, class_id, ground, top, drivable)
        if objects is not None:
            _stamp_boxes(layers, objects)
        return layers

    def _roll(self, origin: NDArray[np.float64]) -> None:
        """Wipe the patches that come in as the middle moves on to `origin`."""
        patch = self.config.cell_m * _COARSE
        count = len(self._patches)
        first = np.floor(origin[1::-1] / patch).astype(np.int64) - count // 2
        old = first - count if self._first is None else self._first
        for axis in (0, 1):
            moved = int(first[axis] - old[axis])
            new = range(old[axis] + count, first[axis] + count) if moved > 0 else range(first[axis], old[axis])
            for index in {k % count for k in (new if abs(moved) < count else range(count))}:
                at: list[slice] = [slice(None), slice(None)]
                at[axis] = slice(index, index + 1)
                self._patches[tuple(at)] = 0.0
                at[axis] = slice(index * _COARSE, (index + 1) * _COARSE)
                self._cells[tuple(at)] = 0.0
        self._first = first

    def _seconds(self, stamp_ns: int) -> float:
        if self._start_ns is None:
            self._start_ns = stamp_ns
        return (stamp_ns - self._start_ns) * 1e-9


def class_kinds(taxonomy: Taxonomy) -> NDArray[np.uint8]:
    """(C,) of each class: drivable ground, other ground, movable, or else something that stands still, by the
    taxonomy's groups `drivable`, `ground` and `movable`.
    """
    kinds = np.full(256, _STUFF, np.uint8)
    kinds[movable_classes(taxonomy)] = _MOVES
    for group, kind in (("ground", _FLOOR), ("drivable", _DRIVE)):
        if group in taxonomy.groups:
            kinds[taxonomy.members([group])] = kind
    return kinds[: len(taxonomy.trained)].copy()


def _stamp_boxes(layers: BevLayers, objects: Objects) -> None:
    """Draw the boxes of things into class and drivable probability."""
    corner, cell = np.array(layers.corner), layers.cell_m
    for k in range(len(objects)):
        cos, sin = math.cos(objects.yaw[k]), math.sin(objects.yaw[k])
        half = 0.5 * objects.size[k, :2]
        ends = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) * half
        outline = ends @ np.array([[cos, sin], [-sin, cos]]) + objects.centre[k, :2]
        pixels = np.round(((outline - corner) / cell - 0.5) * 16.0).astype(np.int32)
        cv2.fillConvexPoly(layers.class_id, pixels, int(objects.class_id[k]), shift=4)
        cv2.fillConvexPoly(layers.drivable, pixels, 0.0, shift=4)


@numba.njit(cache=True, nogil=True)
def _raise_ground(patches, fresh, points, origin, size, first, class_id, weight, kind):  # type: ignore[no-untyped-def]
    """Mean height of each patch of ground; it follows new points at once, and keeps what it knew where there are none.

    fresh: (P, P, 2) float64, zeros, and zeros again afterwards.
    """
    count, scale = len(patches), 1.0 / size
    for n in range(len(points)):
        if class_id[n] >= len(kind) or kind[class_id[n]] < _FLOOR:
            continue
        x, y, z = origin[0] + points[n, 0], origin[1] + points[n, 1], origin[2] + points[n, 2]
        if not math.isfinite(x + y + z):
            continue
        row, column = math.floor(y * scale) - first[0], math.floor(x * scale) - first[1]
        if 0 <= row < count and 0 <= column < count:
            fresh[row, column, 0] += weight[n] * z
            fresh[row, column, 1] += weight[n]
    for r in range(count):
        for c in range(count):
            if fresh[r, c, 1] > 0.0:
                row, column = (r + first[0]) % count, (c + first[1]) % count
                held = min(patches[row, column, _WEIGHT], _HELD_WEIGHT)
                total = held + fresh[r, c, 1]
                patches[row, column, _HEIGHT] = (held * patches[row, column, _HEIGHT] + fresh[r, c, 0]) / total
                patches[row, column, _WEIGHT] = total
                fresh[r, c, 0] = fresh[r, c, 1] = 0.0


@numba.njit(cache=True, nogil=True)
def _fade(cells, row, column, kind, now, decay_s):  # type: ignore[no-untyped-def]
    """Let what may move in a cell decay up to now."""
    classes = len(kind)
    if cells[row, column, _MOVING] > 0.0 and now > cells[row, column, _SEEN]:
        factor = np.float32(math.exp((cells[row, column, _SEEN] - now) / decay_s))
        cells[row, column, _MOVING] *= factor
        for label in range(classes):
            if kind[label] == _MOVES:
                cells[row, column, _VOTES + label] *= factor
    cells[row, column, _SEEN] = now


@numba.njit(cache=True, nogil=True)
def _vote(cells, row, column, entry, weight):  # type: ignore[no-untyped-def]
    """One vote more; where that makes more than a cell holds, all of its votes count for half from now on."""
    cells[row, column, entry] += weight
    if cells[row, column, entry] > _MOST_VOTES:
        cells[row, column, _BLOCKED] *= np.float32(0.5)
        cells[row, column, _MOVING] *= np.float32(0.5)
        for vote in range(_VOTES, cells.shape[2]):  # an expression over a slice would make an array of it
            cells[row, column, vote] *= np.float32(0.5)


@numba.njit(cache=True, nogil=True)
def _insert(cells, patches, points, origin, size, first, class_id, weight, kind, step, clearance, now, decay_s):  # type: ignore[no-untyped-def]
    """Each point into its cell. Cells are indexed in full: a view of one would cost more than what is done with it."""
    side, classes, scale = len(cells), len(kind), np.float32(1.0 / size)
    low_row, low_column = first[0] * _COARSE, first[1] * _COARSE
    start_row, start_column = low_row % side, low_column % side
    from_row, from_column = np.float32(origin[1] - low_row * size), np.float32(origin[0] - low_column * size)
    height, end = np.float32(origin[2]), np.float32(side)
    for n in range(len(points)):
        label = class_id[n]
        y, x = (points[n, 1] + from_row) * scale, (points[n, 0] + from_column) * scale
        if label >= classes or not (y >= 0.0 and y < end and x >= 0.0 and x < end):  # which NaN is not either
            continue
        row, column, z = int(y), int(x), points[n, 2] + height
        row += start_row if row + start_row < side else start_row - side
        column += start_column if column + start_column < side else start_column - side
        r, c = row >> _SHIFT, column >> _SHIFT
        above = z - patches[r, c, _HEIGHT] if patches[r, c, _WEIGHT] > 0.0 else np.float32(0.0)
        patches[r, c, _TOUCHED] = 1.0
        if kind[label] >= _FLOOR:
            if abs(above) < _ON_GROUND:
                _vote(cells, row, column, _VOTES + label, weight[n])
                if cells[row, column, _MEASURED] > 0.0:
                    cells[row, column, _GROUND] += _FOLLOW * (z - cells[row, column, _GROUND])
                else:
                    cells[row, column, _GROUND] = z
                    cells[row, column, _MEASURED] = 1.0
        elif -_DEEP < above < clearance:
            moves = kind[label] == _MOVES
            if moves:
                _fade(cells, row, column, kind, now, decay_s)
                patches[r, c, _RESTLESS] = 1.0
            _vote(cells, row, column, _VOTES + label, weight[n])
            if above >= step:
                _vote(cells, row, column, _MOVING if moves else _BLOCKED, weight[n])
                cells[row, column, _TOP] = max(cells[row, column, _TOP], above)


@numba.njit(cache=True, nogil=True)
def _clear(cells, patches, origin, size, first, kind, depths, reach):  # type: ignore[no-untyped-def]
    """Unblock what is seen through; only patches in which something movable was are looked at."""
    side, classes, cleared = len(cells), len(kind), 0
    low_row, low_column = first[0] * _COARSE, first[1] * _COARSE
    for patch_row in range(len(patches)):
        for patch_column in range(len(patches)):
            if patches[patch_row, patch_column, _RESTLESS] == 0.0:
                continue
            left = np.float32(0.0)
            z = patches[patch_row, patch_column, _HEIGHT] + _LOOK - origin[2]
            for row in range(patch_row * _COARSE, (patch_row + 1) * _COARSE):
                for column in range(patch_column * _COARSE, (patch_column + 1) * _COARSE):
                    if cells[row, column, _MOVING] <= 0.0:
                        continue
                    x = (low_column + (column - low_column) % side + 0.5) * size - origin[0]
                    y = (low_row + (row - low_row) % side + 0.5) * size - origin[1]
                    if patches[patch_row, patch_column, _WEIGHT] > 0.0 and seen_through(x, y, z, depths, reach, size):
                        for label in range(classes):
                            if kind[label] == _MOVES:
                                cells[row, column, _VOTES + label] = 0.0
                        cells[row, column, _MOVING] = 0.0
                        if cells[row, column, _BLOCKED] <= 0.0:
                            cells[row, column, _TOP] = 0.0
                        cleared += 1
                    left = max(left, cells[row, column, _MOVING])
            patches[patch_row, patch_column, _RESTLESS] = left
    return cleared


@numba.njit(cache=True, nogil=True)
def _read(cells, patches, first, kind, now, decay_s, class_id, ground, top, drive, total):  # type: ignore[no-untyped-def]
    """Unwrap the grid: class, height of the ground, top above it, votes for drivable and all votes about it."""
    side, classes = len(cells), len(kind)
    for r in range(side):
        row = (r + first[0] * _COARSE) % side
        for c in range(side):
            column = (c + first[1] * _COARSE) % side
            class_id[r, c], ground[r, c], top[r, c], drive[r, c], total[r, c] = UNKNOWN, np.nan, np.nan, 0.0, 0.0
            if patches[row >> _SHIFT, column >> _SHIFT, _TOUCHED] == 0.0:
                continue
            moving, fading = cells[row, column, _MOVING], np.float32(1.0)
            if moving > 0.0:
                fading = np.float32(math.exp(min(cells[row, column, _SEEN] - now, 0.0) / decay_s))
            blocked = _BLOCK_WEIGHT * (cells[row, column, _BLOCKED] + fading * moving)
            for label in range(classes):
                if kind[label] >= _FLOOR:
                    drive[r, c] += cells[row, column, _VOTES + label] if kind[label] == _DRIVE else np.float32(0.0)
                    total[r, c] += cells[row, column, _VOTES + label]
            total[r, c] += blocked
            winner, most = UNKNOWN, np.float32(0.0)
            stands = blocked > drive[r, c]
            for label in range(classes):  # of what blocks the cell, or else of everything
                value = cells[row, column, _VOTES + label]
                if value > most and not (stands and kind[label] >= _FLOOR):
                    value *= fading if kind[label] == _MOVES else np.float32(1.0)
                    if value > most:
                        winner, most = label, value
            class_id[r, c] = winner
            if cells[row, column, _MEASURED] > 0.0:
                ground[r, c] = cells[row, column, _GROUND]
            if winner != UNKNOWN:
                top[r, c] = cells[row, column, _TOP]


@numba.njit(cache=True, nogil=True)
def _rate(drive, total, drive_around, total_around, drivable):  # type: ignore[no-untyped-def]
    """Drivable probability from votes; a cell that has none takes what is around it."""
    for r in range(len(drive)):
        for c in range(len(drive)):
            yes, of = drive[r, c], total[r, c]
            if of < _ENOUGH:
                yes, of = drive_around[r, c], total_around[r, c]
            drivable[r, c] = (yes + 0.25) / (of + 0.5) if of >= _ENOUGH else np.nan
