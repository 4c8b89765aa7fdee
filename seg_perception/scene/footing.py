"""What things stand on, in squares around the LiDAR: the mean height of what is labelled as ground; where no such label
is, the second lowest point of what is no thing, for the lowest may be a reflection from below. Labels err and roads
mirror, so a square that is far from those around it is not believed.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.labels import Taxonomy

_SQUARE_M = 1.6
_STEP_M = 0.18  # more than a kerb
_ACROSS = 100  # squares; beyond 80 m nobody sees the ground anyway
_NEITHER, _GROUND, _THING = range(3)
_SUM, _COUNT, _LOWEST, _SECOND = range(4)


class Footing:
    """Found anew in each sweep; keeps working memory only."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        self._kind = np.full(256, _NEITHER, np.uint8)
        if "ground" in taxonomy.groups:
            self._kind[taxonomy.members(["ground"])] = _GROUND
        self._kind[taxonomy.is_thing] = _THING
        self._squares = np.empty((_ACROSS, _ACROSS, 4), np.float32)

    def take(self, points: NDArray[np.float32], class_id: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(2, S, S) height of the ground in each square, NaN where nothing is known of it; and only where labels of
        ground say so. For `below`.

        points: (N, 3) level, z up, the LiDAR at the origin. class_id: (N,).
        """
        return _heights(points, class_id, self._kind, self._squares)


@numba.njit(cache=True, nogil=True)
def _heights(points, class_id, kind, squares):  # type: ignore[no-untyped-def]
    squares[:, :, :_LOWEST], squares[:, :, _LOWEST:] = 0.0, np.inf
    half, scale = np.float32(0.5 * _ACROSS), np.float32(1.0 / _SQUARE_M)
    for n in range(len(points)):
        x, y, z = points[n, 0] * scale + half, points[n, 1] * scale + half, points[n, 2]
        if kind[class_id[n]] == _THING or not (0.0 <= x < _ACROSS and 0.0 <= y < _ACROSS):
            continue
        row, column = int(y), int(x)
        if kind[class_id[n]] == _GROUND:
            squares[row, column, _SUM] += z
            squares[row, column, _COUNT] += np.float32(1.0)
        if z < squares[row, column, _LOWEST]:
            squares[row, column, _SECOND] = squares[row, column, _LOWEST]
            squares[row, column, _LOWEST] = z
        elif z < squares[row, column, _SECOND]:
            squares[row, column, _SECOND] = z
    heights = np.empty((2, _ACROSS, _ACROSS), np.float32)
    for row in range(_ACROSS):
        for column in range(_ACROSS):
            total, count, lowest, second = squares[row, column]
            heights[:, row, column] = np.nan
            if count > 0.0:
                heights[:, row, column] = total / count
            elif lowest < np.inf:
                heights[0, row, column] = second if second < np.inf else lowest
    return heights


@numba.njit(cache=True, nogil=True)
def below(heights, x, y):  # type: ignore[no-untyped-def]
    """The ground at a place, and the lowest that is known in its square and those around it. NaN where nothing is.

    The ground is what labels give to the square, unless that is far from the middle one of what they give to all these
    squares, which is the ground then; where they give none, what is known of the square itself, else the lowest.
    """
    row, column = math.floor(y / _SQUARE_M + 0.5 * _ACROSS), math.floor(x / _SQUARE_M + 0.5 * _ACROSS)
    if not (0 <= row < _ACROSS and 0 <= column < _ACROSS):
        return np.nan, np.nan
    lowest, count, told = np.nan, 0, np.empty(9, np.float32)
    for r in range(max(row - 1, 0), min(row + 2, _ACROSS)):
        for c in range(max(column - 1, 0), min(column + 2, _ACROSS)):
            if math.isnan(lowest) or heights[0, r, c] < lowest:
                lowest = heights[0, r, c]
            if not math.isnan(heights[1, r, c]):
                told[count] = heights[1, r, c]
                count += 1
    if count > 0:
        middle, own = np.sort(told[:count])[(count - 1) // 2], heights[1, row, column]
        return own if abs(own - middle) <= _STEP_M else middle, lowest
    return lowest if math.isnan(heights[0, row, column]) else heights[0, row, column], lowest
