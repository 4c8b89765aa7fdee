"""A sweep as its LiDAR saw it: which points are neighbours, and how a surface recedes from one to the next.

Neighbours are found by direction, so neither a ring field nor any order of the points is needed.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")


class RangeImage:
    """The nearest point in each cell of direction around the LiDAR.

    cells: (rows, columns) int32 indices into the points, -1 where none; columns go once around, rows upwards.
    row, column: (N,) int16 cell of each point, -1 for points that are no returns. range: (N,) float32 metres.
    """

    def __init__(self, points: NDArray[np.float32], column_deg: float, row_deg: float) -> None:
        count = len(points)
        self.cells = np.full((math.ceil(180.0 / row_deg) + 1, max(8, round(360.0 / column_deg))), -1, np.int32)
        self.row, self.column = np.empty(count, np.int16), np.empty(count, np.int16)
        self.range = np.empty(count, np.float32)
        _fill(points, math.radians(row_deg), self.cells, self.row, self.column, self.range)


@_compiled
def _fill(points, row_angle, cells, row, column, distance):  # type: ignore[no-untyped-def]
    rows, columns = cells.shape
    per_radian = columns / (2.0 * math.pi)
    for i in range(points.shape[0]):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        flat = math.sqrt(x * x + y * y)
        distance[i] = math.sqrt(x * x + y * y + z * z)
        if not 0.0 < distance[i] < math.inf:
            row[i] = column[i] = -1
            continue
        at_row = int((_angle(z, flat) + 0.5 * math.pi) / row_angle + 0.5)
        at_column = int((_angle(y, x) + math.pi) * per_radian)
        row[i] = min(max(at_row, 0), rows - 1)
        column[i] = min(max(at_column, 0), columns - 1)
        there = cells[row[i], column[i]]
        if there < 0 or distance[i] < distance[there]:
            cells[row[i], column[i]] = i


@_compiled
def _angle(y, x):  # type: ignore[no-untyped-def]
    """atan2 to 0.00001 radians: a polynomial of Abramowitz and Stegun, 4.4.49, turned into its octant."""
    a, b = abs(y), abs(x)
    steep = a > b
    t = b / a if steep else (a / b if b > 0.0 else 0.0)
    s = t * t
    angle = t * (0.9998660 + s * (-0.3302995 + s * (0.1801410 + s * (-0.0851330 + s * 0.0208351))))
    if steep:
        angle = 0.5 * math.pi - angle
    if x < 0.0:
        angle = math.pi - angle
    return -angle if y < 0.0 else angle


@_compiled
def neighbour(cells, row, column, up, right):  # type: ignore[no-untyped-def]
    """The point in the cell `up` and `right` of another one, -1 where none. Columns go around."""
    row += up
    if not 0 <= row < cells.shape[0]:
        return -1
    columns = cells.shape[1]
    column += right
    if column < 0:
        column += columns
    elif column >= columns:
        column -= columns
    return cells[row, column]


@_compiled
def recession(cells, row, column, distance, i):  # type: ignore[no-untyped-def]
    """Metres by which the surface at point i recedes over one column, and over one row.

    0 where it is no slanted surface: both neighbours nearer, or both further, as at a pole or in leaves. On a plane,
    where 1/range is linear in the angle, the further neighbour counts, elsewhere the one nearer in range.
    """
    r, c = np.int64(row[i]), np.int64(column[i])
    across = _slant(distance, i, _first(cells, r, c, 0, -1), _first(cells, r, c, 0, 1))
    along = _slant(distance, i, _first(cells, r, c, -1, 0), _first(cells, r, c, 1, 0))
    return across, along


@_compiled
def _first(cells, row, column, up, right):  # type: ignore[no-untyped-def]
    """The nearest point in one direction, at most two cells away; beams are seldom as even as cells."""
    j = neighbour(cells, row, column, up, right)
    if j < 0 and up != 0:
        j = neighbour(cells, row, column, up, 1)
        if j < 0:
            j = neighbour(cells, row, column, up, -1)
    if j < 0:
        j = neighbour(cells, row, column, 2 * up, 2 * right)
    return j


@_compiled
def _slant(distance, i, one, other):  # type: ignore[no-untyped-def]
    if one < 0 or other < 0:
        return 0.0
    here = distance[i]
    a, b = distance[one] - here, distance[other] - here
    if a * b >= 0.0:
        return 0.0
    inverse_a, inverse_b = 1.0 / distance[one] - 1.0 / here, 1.0 / distance[other] - 1.0 / here
    if abs(inverse_a + inverse_b) < 0.5 * max(abs(inverse_a), abs(inverse_b)):
        return max(abs(a), abs(b))
    return min(abs(a), abs(b))
