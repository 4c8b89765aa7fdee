"""What a LiDAR sees through the windows of vehicles is no part of them, whatever the picture has there.

A camera sees the pane, and what a network calls a car it calls a car with its windows. The LiDAR's light passes: the
road, house or hedge behind would become a car. Such points lie far behind a vehicle that frames them, as the LiDAR sees
it: it goes on below them, as its door does, and above or on both sides of them, as its roof and pillars do. A vehicle
further back, seen over the bonnet of a nearer one or between two of them, is not framed like that.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.borrowing import borrowed
from seg_perception.config import VisibilityConfig
from seg_perception.geometry.range_image import RangeImage
from seg_perception.geometry.visibility import spacing_deg
from seg_perception.geometry.workspace import Workspace

_TALL_M, _WIDE_M = 1.5, 1.0  # a window's frame lies within that of any point in it
_NOTHING, _NEVER = np.float32(0.0), np.float32(np.inf)
_POINTS = 256  # looked at together for one of a vehicle

_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")


def hide_behind_glass(
    class_id: NDArray[np.uint8],
    hider: NDArray[np.int16],
    index: NDArray[np.int32],
    sweep: RangeImage,
    glazed: NDArray[np.bool_],
    config: VisibilityConfig,
    workspace: Workspace,
) -> int:
    """Say in hider (M,), as `visibility.hiding` left it, that points seen through a window are hidden by their class;
    return how many.

    class_id: (M,) what the picture has for the points in view; index: (M,) which of the sweep they are; glazed: (256,)
    which classes have windows. A point is seen through one where it lies glass_m further away than its frame.
    """
    some = workspace.array("glazed", len(index), np.int32)
    frame, limit = (workspace.array(name, sweep.cells.size, np.float32) for name in ("glass_frame", "glass_limit"))
    column, row = (math.radians(angle) for angle in spacing_deg(config))
    image = sweep.cells.ravel(), sweep.cell, sweep.range, sweep.rows
    steps = np.float32(_WIDE_M / column), np.float32(_TALL_M / row), np.float32(config.glass_m)
    return int(_hide(class_id, hider, index, image, glazed, steps, some, frame, limit))


@_compiled
def _hide(class_id, hider, index, image, glazed, steps, some, frame, limit):  # type: ignore[no-untyped-def]
    """steps: as many columns, and rows, of a metre's distance make a window; and how far behind it a point lies."""
    (cells, cell, ranges, rows), frame, limit, some = borrowed((image, frame, limit, some))
    class_id, hider = borrowed((class_id, hider))
    classes, found, first, last = np.flatnonzero(glazed).astype(np.uint8), 0, frame.shape[0], 0
    for start in range(0, class_id.shape[0], _POINTS):
        said, hidden = class_id[start : start + _POINTS], hider[start : start + _POINTS]
        if not _any_of(said, classes):
            continue
        for k in range(said.shape[0]):
            some[np.uint32(found)] = start + k
            found += glazed[said[k]] & (hidden[k] < 0)
    some = some[:found]
    for m in some:
        at = cell[np.uint32(index[m])]
        first, last = min(first, at), max(last, at)
    begin = first // rows * rows
    frame, limit = frame[begin : last // rows * rows + rows], limit[begin : last // rows * rows + rows]
    frame[:], limit[:] = _NOTHING, _NOTHING
    for m in some:
        i = np.uint32(index[m])
        at = np.uint32(cell[i])
        limit[at - begin] = _NEVER
        if cells[at] == i:
            frame[at - begin] = ranges[i]
    asked = np.empty(rows, np.int64)
    for column in range(0, frame.shape[0], rows):
        if _any_asked(limit[column : column + rows]):
            _frame_column(frame[column : column + rows], steps[1], steps[2], limit[column : column + rows], asked)
    behind = 0
    for m in some:
        i = np.uint32(index[m])
        at = cell[i] - begin
        if limit[at] == _NEVER or ranges[i] <= abs(limit[at]):
            continue
        below_m = -limit[at] - steps[2]
        if limit[at] > _NOTHING or _between(frame, at, rows, below_m, ranges[i] - steps[2], steps[0]):
            hider[m] = class_id[m]
            behind += 1
    return behind


@_compiled
def _any_of(class_id, classes):  # type: ignore[no-untyped-def]
    """Whether one of some points is of one of these classes: many points are looked at at once."""
    there = False
    for c in classes:
        for m in range(class_id.shape[0]):
            there |= class_id[m] == c
    return there


@_compiled
def _any_asked(limit):  # type: ignore[no-untyped-def]
    there = False
    for row in range(limit.shape[0]):
        there |= limit[row] != _NOTHING
    return there


@_compiled
def _frame_column(frame, reach, depth, limit, asked):  # type: ignore[no-untyped-def]
    """Into limit, inf so far where it is asked for and else 0: beyond which range each place is framed from below and
    above, if at all; minus that where it is framed from below alone. asked: scratch, for the rows that are, which hold
    all of the frame."""
    count, nearest, furthest = 0, _NEVER, _NOTHING
    for row in range(frame.shape[0]):
        asked[count] = row
        count += limit[row] != _NOTHING
    asked = asked[:count]
    for row in asked:
        nearest = min(nearest, frame[row] if frame[row] > _NOTHING else _NEVER)
        furthest = max(furthest, frame[row])
    if furthest <= nearest + depth:
        return
    near, at = _NEVER, -1
    for row in asked:
        framed = (row - at) * near <= reach
        if framed:
            limit[row] = -(near + depth)
        if frame[row] > _NOTHING and not (framed and frame[row] > near + depth):
            near, at = frame[row], row
    near, at = _NEVER, frame.shape[0]
    for row in asked[::-1]:
        framed = (at - row) * near <= reach
        if framed and near < -limit[row]:  # else it lies behind the same window
            limit[row] = max(-limit[row], near + depth)
        if frame[row] > _NOTHING and not (framed and frame[row] > near + depth):
            near, at = frame[row], row


@_compiled
def _between(frame, at, rows, below_m, nearer_m, reach):  # type: ignore[no-untyped-def]
    """Whether a frame nearer than nearer_m lies on both sides, about as far away as what is below."""
    most = int(reach / max(below_m, np.float32(1.0)))
    for step in (-rows, rows):
        columns, there, framed = 1, at + step, False
        while columns <= most and 0 <= there < frame.shape[0] and not framed:
            framed = (frame[there] > _NOTHING) & (frame[there] < nearer_m)
            columns, there = columns + 1, there + step
        if not framed:
            return False
    return True
