"""Points as the LiDAR saw them: which are neighbours, and how a surface recedes from one to the next.

Neighbours are found by direction, so neither a ring field nor any order of the points is needed. Everything here is
about the sweep alone and is made once, whatever the number of cameras. Loops over plain columns are written for the
compiler to take eight at a time: of rows of three it takes none, which makes the same arithmetic eight times slower.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.borrowing import borrowed
from seg_perception.geometry.columns import BLOCK, by_axis
from seg_perception.geometry.workspace import Workspace

_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")
_EDGE = 2  # cells around the image: neighbours are looked up without asking where it ends
_NOWHERE = np.float32(4.0)  # elevation of a point without a direction
_NONE, _HALF = np.float32(0.0), np.float32(0.5)


class RangeImage:
    """The nearest point in each cell of direction around the LiDAR.

    cells: (columns, rows) int32, which of the N points, -1 where none; nearest: the same, float32, its range in metres,
    0 where none. across, along: the same, float32, metres by which the surface there recedes over one column and over
    one row, see `_recede`. All go once around and beyond, by two cells. cell: (N,) int32, where in the flat image a
    point lies. range: (N,) float32 metres. rows: of the image, its edge included.
    """

    def __init__(
        self, points: NDArray[np.float32], column_deg: float, row_deg: float, workspace: Workspace | None = None
    ) -> None:
        """points: (N, 3) in the LiDAR's frame; those not finite and those at the origin itself are in no cell.

        workspace: whose arrays to use; they are good until it serves another sweep.
        """
        workspace = workspace or Workspace()
        count = len(points)
        azimuth, rise = (workspace.array(name, count, np.float32) for name in ("azimuth", "rise"))
        self.azimuth, self.rise = azimuth, rise
        self.range = workspace.array("range", count, np.float32)
        self.cell = workspace.array("cell", count, np.int32)
        lowest, highest = _look(by_axis(points), self.range, azimuth, rise)
        row_angle = math.radians(row_deg)
        self.rows = int(max(highest - lowest, 0.0) / row_angle + 0.5) + 2 + 2 * _EDGE
        shape = max(8, round(360.0 / column_deg)) + 2 * _EDGE, self.rows
        self.cells = workspace.array("cells", shape, np.int32)
        self.nearest, self.across, self.along = (
            workspace.array(name, shape, np.float32) for name in ("nearest", "across", "along")
        )
        _fill(azimuth, rise, lowest, row_angle, self.range, self.cells, self.nearest, self.cell)
        _recede(self.nearest.ravel(), self.rows, self.across.ravel(), self.along.ravel())


@_compiled
def _look(by_axis, ranges, azimuth, rise):  # type: ignore[no-untyped-def]
    """Fill range, azimuth and elevation of each point, a block at a time. Returns the lowest and the highest elevation,
    radians."""
    by_axis, ranges, azimuth, rise = borrowed((by_axis, ranges, azimuth, rise))
    extremes = np.empty((2, BLOCK), np.float32)
    extremes[0], extremes[1] = _NOWHERE, -_NOWHERE
    for first in range(0, by_axis.shape[1], BLOCK):
        last = min(first + BLOCK, by_axis.shape[1])
        xs, ys, zs = by_axis[0, first:last], by_axis[1, first:last], by_axis[2, first:last]
        _directions(xs, ys, zs, ranges[first:last], azimuth[first:last], rise[first:last])
        _widen(rise[first:last], extremes[0], extremes[1])
    return extremes[0].min(), extremes[1].max()


@_compiled
def _directions(xs, ys, zs, ranges, azimuth, rise):  # type: ignore[no-untyped-def]
    for i in range(ranges.shape[0]):
        x, y, z = xs[i], ys[i], zs[i]
        flat = x * x + y * y
        ranges[i] = math.sqrt(flat + z * z)
        azimuth[i] = _angle(y, x)
        up = _angle(z, math.sqrt(flat))
        rise[i] = up if (ranges[i] > _NONE) & (ranges[i] < np.float32(np.inf)) else _NOWHERE


@_compiled
def _widen(rise, lowest, highest):  # type: ignore[no-untyped-def]
    for i in range(rise.shape[0]):
        up = rise[i] if rise[i] != _NOWHERE else -_NOWHERE
        lowest[i] = rise[i] if rise[i] < lowest[i] else lowest[i]
        highest[i] = up if up > highest[i] else highest[i]


@_compiled
def _fill(azimuth, rise, lowest, row_angle, ranges, cells, nearest, cell):  # type: ignore[no-untyped-def]
    columns, rows = cells.shape
    around = columns - 2 * _EDGE
    _place(azimuth, rise, lowest, np.float32(around / (2.0 * math.pi)), np.float32(1.0 / row_angle), around, rows, cell)
    cells[:] = -1
    nearest[:] = _NONE
    flat, numbers = nearest.ravel(), cells.ravel()
    for i in range(rise.shape[0]):
        at = np.uint32(cell[i])
        if (rise[i] != _NOWHERE) & ((flat[at] == _NONE) | (ranges[i] < flat[at])):
            flat[at] = ranges[i]
            numbers[at] = i
    close(cells)
    close(nearest)


@_compiled
def _place(azimuth, rise, lowest, per_radian, per_rise, around, rows, cell):  # type: ignore[no-untyped-def]
    """The cell of each point; a point without a direction is put into the first, which it does not fill."""
    last, stride, edge = np.int32(around - 1), np.int32(rows), np.int32(_EDGE)
    for i in range(cell.shape[0]):
        column = np.int32((azimuth[i] + np.float32(math.pi)) * per_radian)
        row = np.int32((rise[i] - lowest) * per_rise + _HALF)
        at = (min(max(column, np.int32(0)), last) + edge) * stride + row + edge
        cell[i] = at if rise[i] != _NOWHERE else edge * stride + edge


@_compiled
def close(image):  # type: ignore[no-untyped-def]
    """Let (columns, rows) of any image like this one go on around its seam."""
    around = image.shape[0] - 2 * _EDGE
    image[:_EDGE] = image[around : around + _EDGE]
    image[around + _EDGE :] = image[_EDGE : 2 * _EDGE]


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
def _recede(nearest, rows, across, along):  # type: ignore[no-untyped-def]
    """Metres by which the surface in each cell of a flat image recedes over one column, and over one row.

    0 where it is no slanted surface: both neighbours nearer, or both further, as at a pole or in leaves. On a plane,
    where 1/range is linear in the angle, the further neighbour counts, elsewhere the one nearer in range. Where the
    neighbour is missing, the one behind it is taken; up and down also those beside it: beams are seldom as even as
    cells. What lies around the image, and cells without a point, get what follows from the zeros there.
    """
    begin = _EDGE * rows + _EDGE
    count = nearest.shape[0] - 2 * begin
    here = nearest[begin : begin + count]  # every neighbour is a run of the same length, so that runs are compared
    left, lefter = nearest[begin - rows :][:count], nearest[begin - 2 * rows :][:count]
    right, righter = nearest[begin + rows :][:count], nearest[begin + 2 * rows :][:count]
    below, lower = nearest[begin - 1 :][:count], nearest[begin - 2 :][:count]
    below_right, below_left = nearest[begin - 1 + rows :][:count], nearest[begin - 1 - rows :][:count]
    above, higher = nearest[begin + 1 :][:count], nearest[begin + 2 :][:count]
    above_right, above_left = nearest[begin + 1 + rows :][:count], nearest[begin + 1 - rows :][:count]
    across[:begin] = across[begin + count :] = along[:begin] = along[begin + count :] = _NONE
    across, along = across[begin : begin + count], along[begin : begin + count]
    for k in range(count):
        across[k] = _slant(_or(left[k], lefter[k]), here[k], _or(right[k], righter[k]))
        down = _or(_or(below[k], below_right[k]), _or(below_left[k], lower[k]))
        up = _or(_or(above[k], above_right[k]), _or(above_left[k], higher[k]))
        along[k] = _slant(down, here[k], up)


@_compiled
def _or(nearest, other):  # type: ignore[no-untyped-def]
    return nearest if nearest != _NONE else other


@_compiled
def _slant(one, here, other):  # type: ignore[no-untyped-def]
    a, b = one - here, other - here
    # 1/one - 1/here = -a / (one * here): compared after multiplying by here * one * other
    towards, away = a * other, b * one
    a_size, b_size = abs(a), abs(b)
    on_plane = abs(towards + away) < _HALF * max(abs(towards), abs(away))
    step = max(a_size, b_size) if on_plane else min(a_size, b_size)
    return _NONE if (one == _NONE) | (other == _NONE) | (a * b >= _NONE) else step
