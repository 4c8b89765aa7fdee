"""The cells of the bird's-eye-view grid: how they lie in memory, and the kernels that fill, clear and read them.

A cell is a cache line, the first of it read as float32, the rest as uint16. The 8 by 8 cells of a patch lie together,
patches in rows; indices wrap around the grid. One cell more, behind the last, and its patch take the points that count
nowhere.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from seg_perception.datatypes import UNKNOWN
from seg_perception.scene.free_space import seen_through

GROUND, TOP, SEEN = range(3)  # of a cell, as float32
MEASURED, BLOCKED, MOVING, VOTES = range(6, 10)  # the same memory as uint16; from VOTES on, for each class
LINE = 32  # uint16 in a cache line: cells are as wide as whole lines
HEIGHT, WEIGHT, TOUCHED, RESTLESS = range(4)  # of a patch
STUFF, MOVES, FLOOR, DRIVE = range(4)  # kinds of classes
SHIFT = 3
COARSE = 1 << SHIFT  # cells along a patch of ground, whose height tells what stands on it
_VOTE = np.float32(2048.0)  # a vote of weight 1 as uint16

_BLOCK = 1024  # points whose cells are fetched at once
_HEAVIEST = np.float32(8.0)  # votes of one point
_MOST_VOTES = 20 * int(_VOTE)  # of a cell for anything: however long a road lay empty, what steps onto it shows
_DEEP = np.float32(-10.0)  # m; what seems to lie further below the ground is nothing
_ON_GROUND = np.float32(0.5)  # m; a point labelled as ground that lies further from the patch's height is not
_ENOUGH = np.float32(0.5)  # votes that make a cell known
_BLOCK_WEIGHT = np.float32(2.0)  # a vote that something stands here against a vote that here is ground
_LOOK = 0.6  # m above ground, where a sweep looks through a cell
_HELD_WEIGHT = 20.0  # votes; as much as what is known of a patch's height counts against a new sweep
_FOLLOW = np.float32(0.1)  # share by which a cell's height follows each new point
_I = np.int32
_0 = np.float32(0.0)


@numba.njit(cache=True, nogil=True)
def _cells_of(points, class_id, weight, origin, size, first, across, classes, cell_of):  # type: ignore[no-untyped-def]
    """The cell of each point, or the one behind the last for a point that has none, no class, no weight or no height.

    points: (3 N,), one after the other. first: row and column of the grid's lowest patch. Written so that it becomes
    vector instructions: slices, not offsets; int32 throughout; no branches.
    """
    side, scale = _I(across << SHIFT), np.float32(1.0 / size)
    low_row, low_column = first[0] << SHIFT, first[1] << SHIFT
    start_row, start_column = _I(low_row % side), _I(low_column % side)
    from_row, from_column = np.float32(origin[1] - low_row * size), np.float32(origin[0] - low_column * size)
    end, patches = np.float32(side), _I(across)
    nowhere = _I(across * across << 2 * SHIFT)
    for n in range(len(class_id)):
        y, x, z = (points[3 * n + 1] + from_row) * scale, (points[3 * n] + from_column) * scale, points[3 * n + 2]
        inside = (y >= _0) & (y < end) & (x >= _0) & (x < end) & (z - z == _0)
        inside &= (class_id[n] < classes) & (weight[n] > _0)
        row, column = _I(_I(y if inside else _0) + start_row), _I(_I(x if inside else _0) + start_column)
        row = _I(row - (side if row >= side else _I(0)))
        column = _I(column - (side if column >= side else _I(0)))
        patch = _I(_I(_I(row >> SHIFT) * patches) + _I(column >> SHIFT))
        cell = _I(_I(patch << 2 * SHIFT) | _I(_I(_I(row & 7) << SHIFT) | _I(column & 7)))
        cell_of[n] = cell if inside else nowhere


@numba.njit(cache=True, nogil=True)
def _fetch(cells, cell_of):  # type: ignore[no-untyped-def]
    """Look at each cell: loads that do not wait for each other bring them all near. The sum keeps them from being
    optimised away.
    """
    total = 0
    for n in range(len(cell_of)):
        total += cells[np.uint32(cell_of[n]), 0]
    return total


@numba.njit(cache=True, nogil=True)
def raise_ground(patches, fresh, points, origin, size, first, class_id, weight, kind, classes):  # type: ignore[no-untyped-def]
    """Mean height of each patch of ground; it follows new points at once, and keeps what it knew where there are none.

    points: (3 N,). fresh: (2, P + 1) float32, zeros, and zeros again afterwards.
    """
    held = fresh.shape[1] - 1
    across = round(math.sqrt(held))
    cell_of = np.empty(_BLOCK, np.int32)
    for start in range(0, len(class_id), _BLOCK):
        some = slice(start, min(start + _BLOCK, len(class_id)))
        _cells_of(points[3 * start :], class_id[some], weight[some], origin, size, first, across, classes, cell_of)
        for n in range(some.start, some.stop):
            if kind[class_id[n]] >= FLOOR:
                at = np.uint32(cell_of[n - start]) >> np.uint32(2 * SHIFT)
                fresh[0, at] += weight[n] * points[3 * n + 2]
                fresh[1, at] += weight[n]
    for patch in range(held):
        if fresh[1, patch] > 0.0:
            known = min(patches[WEIGHT, patch], _HELD_WEIGHT)
            total = known + fresh[1, patch]
            before = known * patches[HEIGHT, patch] if known > 0.0 else 0.0
            patches[HEIGHT, patch] = (before + fresh[0, patch] + fresh[1, patch] * origin[2]) / total
            patches[WEIGHT, patch] = total
    fresh[:] = 0.0


@numba.njit(cache=True, nogil=True)
def _fade(cells, values, cell, kind, classes, now, decay_s):  # type: ignore[no-untyped-def]
    """Let what may move in a cell decay up to now."""
    if cells[cell, MOVING] > 0 and now > values[cell, SEEN]:
        factor = np.float32(math.exp((values[cell, SEEN] - now) / decay_s))
        cells[cell, MOVING] = np.uint16(cells[cell, MOVING] * factor)
        for label in range(classes):
            if kind[label] == MOVES:
                cells[cell, VOTES + label] = np.uint16(cells[cell, VOTES + label] * factor)
    values[cell, SEEN] = now


@numba.njit(cache=True, nogil=True, inline="always")
def _vote(cells, cell, entry, weight):  # type: ignore[no-untyped-def]
    """One vote more; where that makes more than a cell holds, all of its votes count for half from now on."""
    votes = cells[cell, entry] + weight
    cells[cell, entry] = votes
    if votes > _MOST_VOTES:
        for vote in range(BLOCKED, cells.shape[1]):
            cells[cell, vote] >>= 1


@numba.njit(cache=True, nogil=True)
def insert(  # type: ignore[no-untyped-def]
    cells, values, patches, points, origin, size, first, class_id, weight, kind, classes, step, clearance, now, decay_s
):
    """Each point into its cell. values: the memory of `cells` as float32. Cells are indexed in full: a view of one
    would cost more than what is done with it.
    """
    across = round(math.sqrt(patches.shape[1] - 1))
    step, clearance, height = np.float32(step), np.float32(clearance), np.float32(origin[2])
    nowhere = np.uint32(patches.shape[1] - 1)
    cell_of = np.empty(_BLOCK, np.int32)
    fetched = 0
    for start in range(0, len(class_id), _BLOCK):
        some = slice(start, min(start + _BLOCK, len(class_id)))
        _cells_of(points[3 * start :], class_id[some], weight[some], origin, size, first, across, classes, cell_of)
        fetched += _fetch(cells, cell_of[: some.stop - start])
        for n in range(some.start, some.stop):
            cell = np.uint32(cell_of[n - start])
            patch, label, z = cell >> np.uint32(2 * SHIFT), class_id[n], points[3 * n + 2] + height
            above = z - patches[HEIGHT, patch]
            if patch == nowhere or above <= _DEEP or above >= clearance:
                continue  # but where the ground is not known (NaN), its class counts, wherever it is
            vote = np.uint16(min(weight[n], _HEAVIEST) * _VOTE)
            patches[TOUCHED, patch] = 1.0
            if kind[label] >= FLOOR:
                if abs(above) >= _ON_GROUND:
                    continue
                _vote(cells, cell, VOTES + label, vote)
                if cells[cell, MEASURED]:
                    values[cell, GROUND] += _FOLLOW * (z - values[cell, GROUND])
                else:
                    values[cell, GROUND], cells[cell, MEASURED] = z, 1
                continue
            moves = kind[label] == MOVES
            if moves:
                _fade(cells, values, cell, kind, classes, now, decay_s)
                patches[RESTLESS, patch] = 1.0
            _vote(cells, cell, VOTES + label, vote)
            if above >= step:
                _vote(cells, cell, MOVING if moves else BLOCKED, vote)
                if above > values[cell, TOP]:
                    values[cell, TOP] = above
    return fetched


@numba.njit(cache=True, nogil=True)
def clear(cells, values, patches, origin, size, first, kind, classes, depths, reach):  # type: ignore[no-untyped-def]
    """Unblock what is seen through; only patches in which something movable was are looked at."""
    across, cleared = round(math.sqrt(patches.shape[1] - 1)), 0
    side, low_row, low_column = across << SHIFT, first[0] << SHIFT, first[1] << SHIFT
    for patch in range(across * across):
        if patches[RESTLESS, patch] == 0.0:
            continue
        left = 0
        z = patches[HEIGHT, patch] + _LOOK - origin[2]
        for cell in range(patch << 2 * SHIFT, (patch + 1) << 2 * SHIFT):
            if cells[cell, MOVING] == 0:
                continue
            row = patch // across << SHIFT | (cell >> SHIFT & (COARSE - 1))
            column = patch % across << SHIFT | (cell & (COARSE - 1))
            x = (low_column + (column - low_column) % side + 0.5) * size - origin[0]
            y = (low_row + (row - low_row) % side + 0.5) * size - origin[1]
            if z == z and seen_through(x, y, z, depths, reach, size):
                for label in range(classes):
                    if kind[label] == MOVES:
                        cells[cell, VOTES + label] = 0
                cells[cell, MOVING] = 0
                if cells[cell, BLOCKED] == 0:
                    values[cell, TOP] = 0.0
                cleared += 1
            left = max(left, cells[cell, MOVING])
        patches[RESTLESS, patch] = left
    return cleared


@numba.njit(cache=True, nogil=True)
def read(cells, values, patches, first, kind, classes, now, decay_s, class_id, ground, top, drive, total):  # type: ignore[no-untyped-def]
    """Unwrap the grid: class, height of the ground, top above it, votes for drivable and all votes about it."""
    side, across, whole = len(class_id), len(class_id) >> SHIFT, np.float32(1.0) / _VOTE
    for r in range(side):
        row = (r + (first[0] << SHIFT)) % side
        for c in range(side):
            column = (c + (first[1] << SHIFT)) % side
            class_id[r, c], ground[r, c], top[r, c], drive[r, c], total[r, c] = UNKNOWN, np.nan, np.nan, 0.0, 0.0
            patch = (row >> SHIFT) * across + (column >> SHIFT)
            if patches[TOUCHED, patch] == 0.0:
                continue
            cell = patch << 2 * SHIFT | (row & (COARSE - 1)) << SHIFT | (column & (COARSE - 1))
            moving, fading = cells[cell, MOVING] * whole, np.float32(1.0)
            if moving > 0.0:
                fading = np.float32(math.exp(min(values[cell, SEEN] - now, 0.0) / decay_s))
            blocked = _BLOCK_WEIGHT * (cells[cell, BLOCKED] * whole + fading * moving)
            for label in range(classes):
                if kind[label] >= FLOOR:
                    votes = cells[cell, VOTES + label] * whole
                    drive[r, c] += votes if kind[label] == DRIVE else _0
                    total[r, c] += votes
            total[r, c] += blocked
            winner, most = UNKNOWN, _0
            stands = blocked > drive[r, c]
            for label in range(classes):  # of what blocks the cell, or else of everything
                votes = cells[cell, VOTES + label] * whole
                if votes > most and not (stands and kind[label] >= FLOOR):
                    votes *= fading if kind[label] == MOVES else np.float32(1.0)
                    if votes > most:
                        winner, most = label, votes
            class_id[r, c] = winner
            if cells[cell, MEASURED]:
                ground[r, c] = values[cell, GROUND]
            if winner != UNKNOWN:
                top[r, c] = values[cell, TOP]


@numba.njit(cache=True, nogil=True)
def rate(drive, total, drive_around, total_around, drivable):  # type: ignore[no-untyped-def]
    """Drivable probability from votes; a cell that has none takes what is around it."""
    for r in range(len(drive)):
        for c in range(len(drive)):
            yes, of = drive[r, c], total[r, c]
            if of < _ENOUGH:
                yes, of = drive_around[r, c], total_around[r, c]
            drivable[r, c] = (yes + 0.25) / (of + 0.5) if of >= _ENOUGH else np.nan
