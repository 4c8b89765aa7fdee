"""Voxels that a sweep looks through hold nothing any more.

Walking every ray costs tens of milliseconds. Here the sweep becomes a picture instead: a cube of four side faces around
the LiDAR, each pixel the nearest depth measured in it. A voxel is projected into it, and is free where everything
measured around its pixel lies beyond it. Only voxels of movable classes are asked, and now and then one of the others:
no trigonometry and few look-ups.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.scene.voxel_hash import BITS, EMPTY, unpack

SELDOM = 16  # one in so many voxels of what stands still is asked
_LITTLE = np.float32(0.1)  # votes
_BEAMS = 5  # pixels, 2.2 degrees: neighbouring beams of any LiDAR are nearer
FACE = 256  # pixels along each side of a face, which spans 90 degrees: 0.45 degrees in its middle


def depths_of(points: NDArray[np.float32], out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """(4, FACE, FACE) depths of a sweep, inf where nothing was measured. points: (N, 3) from the LiDAR along the fixed
    axes; those that are not finite measured nothing. out: memory to use again.
    """
    depths = np.empty((4, FACE, FACE), np.float32) if out is None else out
    _draw(points, depths)
    return depths


@numba.njit(cache=True, nogil=True, inline="always")
def _pixel(x, y, z):  # type: ignore[no-untyped-def]
    """Face, row, column and depth of a direction; row -1 where it is steeper than the faces reach."""
    if abs(x) >= abs(y):
        face, depth, across = (0 if x > 0.0 else 1), abs(x), y
    else:
        face, depth, across = (2 if y > 0.0 else 3), abs(y), x
    if not depth > abs(z):
        return face, -1, 0, depth
    row = min(int((z / depth + 1.0) * (FACE // 2)), FACE - 1)
    column = min(int((across / depth + 1.0) * (FACE // 2)), FACE - 1)
    return face, row, column, depth


@numba.njit(cache=True, nogil=True)
def _draw(points, depths):  # type: ignore[no-untyped-def]
    depths[:] = np.inf
    for n in range(len(points)):
        if math.isfinite(points[n, 0] + points[n, 1] + points[n, 2]):
            face, row, column, depth = _pixel(points[n, 0], points[n, 1], points[n, 2])
            if row >= 0 and depth < depths[face, row, column]:
                depths[face, row, column] = depth


@numba.njit(cache=True, nogil=True)
def seen_through(x, y, z, depths, reach, margin):  # type: ignore[no-untyped-def]
    """Whether the sweep looks through a place, from the LiDAR along the fixed axes, that is no further than `reach`:
    at least one of the nine pixels around it is measured, and all of those by `margin` farther than it.
    """
    face, row, column, depth = _pixel(x, y, z)
    if row < 0 or depth > reach:
        return False
    nearest = np.float32(np.inf)
    for r in range(max(row - 1, 0), min(row + 2, FACE)):
        for c in range(max(column - 1, 0), min(column + 2, FACE)):
            nearest = min(nearest, depths[face, r, c])
    return math.isfinite(nearest) and nearest > depth + margin


@numba.njit(cache=True, nogil=True)
def _looked_around(x, y, z, depths, reach, margin):  # type: ignore[no-untyped-def]
    """As `seen_through`, and beams both above and below it end beyond it. Ground between two beams of a parked vehicle
    is not looked through: the upper one ends far behind it, but the lower one before it.
    """
    face, row, column, depth = _pixel(x, y, z)
    if row < 0 or depth > reach:
        return False
    above = below = np.float32(np.inf)
    for c in range(max(column - 1, 0), min(column + 2, FACE)):
        for r in range(row, min(row + _BEAMS + 1, FACE)):
            above = min(above, depths[face, r, c])
        for r in range(max(row - _BEAMS, 0), row):
            below = min(below, depths[face, r, c])
    return math.isfinite(above) and math.isfinite(below) and min(above, below) > depth + margin


@numba.njit(cache=True, nogil=True)
def clear(keys, votes, movable, first, count, origin, size, depths, reach, margin, fades, turn):  # type: ignore[no-untyped-def]
    """Take the movable votes from voxels, in `count` slots, that the sweep looks through; returns how many.

    Of what stands still one voxel in SELDOM is asked, another with each turn; looked through, it loses half its votes,
    and counts as movable, which is taken out, when almost nothing is left.
    """
    cleared = 0
    middle = (math.floor(origin[0] / size), math.floor(origin[1] / size), math.floor(origin[2] / size))
    for step in range(count):
        slot = (first + step) & (len(keys) - 1)
        if keys[slot] == EMPTY or not (movable[slot] or (slot + turn) % SELDOM == 0):
            continue
        key = keys[slot]
        x = (unpack(key, 2 * BITS, middle[0]) + 0.5) * size - origin[0]
        y = (unpack(key, BITS, middle[1]) + 0.5) * size - origin[1]
        z = (unpack(key, 0, middle[2]) + 0.5) * size - origin[2]
        if not movable[slot]:
            if _looked_around(x, y, z, depths, reach, margin):
                votes[slot] *= np.float32(0.5)
                if votes[slot].max() < _LITTLE:
                    votes[slot], movable[slot] = 0.0, True
        elif seen_through(x, y, z, depths, reach, margin):
            for label in range(len(fades)):
                if fades[label]:
                    votes[slot, label] = 0.0
            movable[slot] = False
            cleared += 1
    return cleared
