"""Points as the LiDAR saw them: which are neighbours, and how a surface recedes from one to the next.

Neighbours are found by direction, so neither a ring field nor any order of the points is needed. After a change of the
compiled functions here, delete the `__pycache__` of this folder and of `fusion`: see `lens`.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")
_EDGE = 2  # cells around the image: neighbours are looked up without asking where it ends


class RangeImage:
    """The nearest point in each cell of direction around the LiDAR.

    cells: (columns, rows) int32, which of the M points, -1 where none; nearest: the same, float32, its range in metres,
    0 where none. Both go once around and beyond, by two cells. cell: (M,) int32, where in the flat image a point lies.
    range: (M,) float32 metres. rows: of the image, its edge included.
    """

    def __init__(
        self, points: NDArray[np.float32], index: NDArray[np.int64], column_deg: float, row_deg: float
    ) -> None:
        """points: (N, 3) in the LiDAR's frame, of which index (M,) are looked at, none at the origin itself."""
        self.range, rise = np.empty(len(index), np.float32), np.empty(len(index), np.float32)
        lowest, highest = _angles(points, index, self.range, rise)
        row_angle = math.radians(row_deg)
        self.rows = int(max(highest - lowest, 0.0) / row_angle + 0.5) + 2 + 2 * _EDGE
        columns = max(8, round(360.0 / column_deg)) + 2 * _EDGE
        self.cells = np.full((columns, self.rows), -1, np.int32)
        self.nearest = np.zeros((columns, self.rows), np.float32)
        self.cell = np.empty(len(index), np.int32)
        _fill(points, index, rise, lowest, row_angle, self.range, self.cells, self.nearest, self.cell)


@_compiled
def _angles(points, index, ranges, rise):  # type: ignore[no-untyped-def]
    """Fill ranges and elevations; return the lowest and the highest elevation, radians."""
    lowest, highest = np.float32(2.0), np.float32(-2.0)
    for m in range(index.shape[0]):
        x, y, z = points[index[m], 0], points[index[m], 1], points[index[m], 2]
        flat = x * x + y * y
        ranges[m] = math.sqrt(flat + z * z)
        rise[m] = _angle(z, math.sqrt(flat))
        lowest, highest = min(lowest, rise[m]), max(highest, rise[m])
    return lowest, highest


@_compiled
def _fill(points, index, rise, lowest, row_angle, ranges, cells, nearest, cell):  # type: ignore[no-untyped-def]
    columns, rows = cells.shape
    around = columns - 2 * _EDGE
    per_radian, per_rise = np.float32(around / (2.0 * math.pi)), np.float32(1.0 / row_angle)
    for m in range(index.shape[0]):
        azimuth = _angle(points[index[m], 1], points[index[m], 0]) + np.float32(math.pi)
        column = min(max(int(azimuth * per_radian), 0), around - 1) + _EDGE
        row = int((rise[m] - lowest) * per_rise + np.float32(0.5)) + _EDGE
        cell[m] = column * rows + row
        if nearest[column, row] == 0.0 or ranges[m] < nearest[column, row]:
            nearest[column, row] = ranges[m]
            cells[column, row] = m
    for k in range(_EDGE):
        cells[k], nearest[k] = cells[around + k], nearest[around + k]
        cells[around + _EDGE + k], nearest[around + _EDGE + k] = cells[_EDGE + k], nearest[_EDGE + k]


@_compiled
def _angle(y, x):  # type: ignore[no-untyped-def]
    """atan2 to 0.00002 radians: a polynomial of Abramowitz and Stegun, 4.4.49, turned into its octant."""
    a, b = abs(y), abs(x)
    t = min(a, b) / max(max(a, b), np.float32(1e-30))
    s = t * t
    angle = np.float32(0.0208351)
    angle = np.float32(-0.0851330) + s * angle
    angle = np.float32(0.1801410) + s * angle
    angle = np.float32(-0.3302995) + s * angle
    angle = t * (np.float32(0.9998660) + s * angle)
    angle = np.float32(0.5 * math.pi) - angle if a > b else angle
    angle = np.float32(math.pi) - angle if x < 0.0 else angle
    return -angle if y < 0.0 else angle


@_compiled
def recession(nearest, rows, cell, here):  # type: ignore[no-untyped-def]
    """Metres by which the surface in a cell (flat), `here` metres away, recedes over one column, and over one row.

    0 where it is no slanted surface: both neighbours nearer, or both further, as at a pole or in leaves. On a plane,
    where 1/range is linear in the angle, the further neighbour counts, elsewhere the one nearer in range.
    nearest: the flat image of ranges.
    """
    left, right = nearest[cell - rows], nearest[cell + rows]
    if left == 0.0:
        left = nearest[cell - 2 * rows]
    if right == 0.0:
        right = nearest[cell + 2 * rows]
    below, above = _beside(nearest, rows, cell, -1), _beside(nearest, rows, cell, 1)
    return _slant(left, here, right), _slant(below, here, above)


@_compiled
def _beside(nearest, rows, cell, step):  # type: ignore[no-untyped-def]
    """The range one row up or down, or beside that, or two rows away: beams are seldom as even as cells."""
    at = cell + step
    if nearest[at] != 0.0:
        return nearest[at]
    if nearest[at + rows] != 0.0:
        return nearest[at + rows]
    if nearest[at - rows] != 0.0:
        return nearest[at - rows]
    return nearest[at + step]


@_compiled
def _slant(one, here, other):  # type: ignore[no-untyped-def]
    a, b = one - here, other - here
    if one == 0.0 or other == 0.0 or a * b >= 0.0:
        return np.float32(0.0)
    # 1/one - 1/here = -a / (one * here): compared after multiplying by here * one * other
    towards, away = a * other, b * one
    a, b = abs(a), abs(b)
    if abs(towards + away) < np.float32(0.5) * max(abs(towards), abs(away)):
        return max(a, b)
    return min(a, b)
