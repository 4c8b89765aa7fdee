"""Points (N, 3) whose axes lie in memory one after the other: all x, all y, all z.

Of such columns the compiler takes eight or sixteen points at a time, of rows of three numbers none.
"""

from __future__ import annotations

from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.borrowing import borrowed
from seg_perception.geometry.workspace import Workspace

BLOCK: Final = 512
"""So many points are taken at a time: their columns stay in the nearest cache."""
_MAGNITUDE, _INF = np.int32(0x7FFFFFFF), np.int32(0x7F800000)  # the bits of a float32 but its sign; inf


def by_axis(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """(3, N): the columns of points (N, 3), themselves where they lie so already."""
    if points.T.flags.c_contiguous:
        return points.T
    columns = np.empty((3, len(points)), np.float32)
    split(np.ascontiguousarray(points), columns[0], columns[1], columns[2])
    return columns


def bounds_of(points: NDArray[np.float32], workspace: Workspace | None = None) -> NDArray[np.float32]:
    """(B, 2, 3): the least and the largest x, y and z in each `BLOCK` of points (N, 3), NaN left out; where a block has
    nothing else, the least is inf and the largest -inf. workspace: whose array to use for the answer."""
    bounds = (workspace or Workspace()).array("bounds", (-(-len(points) // BLOCK), 2, 3), np.float32)
    _bound(by_axis(points), bounds)
    return bounds


@numba.njit(cache=True, nogil=True)
def _bound(by_axis, bounds):  # type: ignore[no-untyped-def]
    by_axis, bounds = borrowed((by_axis, bounds))
    for axis in range(3):
        bits = by_axis[axis].view(np.int32)
        for block in range(bounds.shape[0]):
            low, high = _extremes(bits[block * BLOCK : (block + 1) * BLOCK])
            bounds[block, 0, axis], bounds[block, 1, axis] = _of_key(low), _of_key(high)


@numba.njit(cache=True, nogil=True)
def _extremes(bits):  # type: ignore[no-untyped-def]
    """Of float32 by their bits: as integers that order like them, many are compared at once, which NaN forbids."""
    low, high = _INF, ~_INF
    for k in range(bits.shape[0]):
        key = bits[k] ^ ((bits[k] >> np.int32(31)) & _MAGNITUDE)
        is_nan = (bits[k] & _MAGNITUDE) > _INF
        lower, higher = _INF if is_nan else key, ~_INF if is_nan else key
        low = lower if lower < low else low
        high = higher if higher > high else high
    return low, high


@numba.njit(cache=True, nogil=True)
def _of_key(key):  # type: ignore[no-untyped-def]
    return np.int32(key ^ ((key >> np.int32(31)) & _MAGNITUDE)).view(np.float32)


@numba.njit(cache=True, nogil=True)
def split(points, xs, ys, zs):  # type: ignore[no-untyped-def]
    """Fill xs, ys and zs (N,) from points (N, 3)."""
    for i in range(points.shape[0]):
        xs[i], ys[i], zs[i] = points[i, 0], points[i, 1], points[i, 2]
