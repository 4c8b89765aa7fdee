"""Which points lie near the outline of something nearer, as a camera sees them.

There patches are not to be trusted: what hides a point may reach a step less far than its patch, or a step further.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.geometry.visibility import DISTANCE, Patches
from seg_perception.geometry.workspace import Workspace

_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")


def near_outlines(
    covered: Patches, distance: NDArray[np.float32], steps: NDArray[np.float32], workspace: Workspace
) -> NDArray[np.int32]:
    """Which points something a step away in the picture hides, or would if they lay there: (C,) int32, an array of the
    workspace. covered: as `hiding` left them; distance: (M,) of the points in view; steps: (2,) aside and down, cells.
    """
    which, places = (workspace.array(name, len(distance), np.int32) for name in ("doubted", "doubted_place"))
    lines = (covered.buffer.shape[0] + 1) // 2, covered.buffer.shape[1]  # two rows to a line
    near, room = (workspace.array(name, lines, np.int32) for name in ("doubted_near", "doubted_room"))
    _widen(covered.buffer, max(1, round(float(steps[0]))), max(1, round(float(steps[1]) / 2.0)), near, room)
    return which[: _ask(distance, covered.own, near, which, places)]


@_compiled
def _widen(buffer, columns, lines, near, room):  # type: ignore[no-untyped-def]
    """Into near, a line of which stands for two rows of the buffer, the least of the patches so many columns and lines
    around each place. Columns go on from one line to the next: at the sides of the picture some are asked in vain."""
    for line in range(near.shape[0]):
        one, other, least = buffer[2 * line], buffer[min(2 * line + 1, buffer.shape[0] - 1)], near[line]
        for k in range(least.shape[0]):
            least[k] = one[k] if one[k] < other[k] else other[k]
    values, others = near.ravel(), room.ravel()
    for turn in range(lines + columns):
        _spread(values, others, near.shape[1] if turn < lines else 1)
        values, others = others, values
    if (lines + columns) % 2:
        others[:] = values


@_compiled
def _spread(values, answer, step):  # type: ignore[no-untyped-def]
    """The least of each value and those a step before and after it."""
    if values.shape[0] < 2 * step:
        answer[:] = values
        return
    _lower(values[:step], values[:step], values[step : 2 * step], answer[:step])
    _lower(values[: -2 * step], values[step:-step], values[2 * step :], answer[step:-step])
    _lower(values[-2 * step : -step], values[-step:], values[-step:], answer[-step:])


@_compiled
def _lower(before, here, after, answer):  # type: ignore[no-untyped-def]
    for k in range(here.shape[0]):
        least = before[k] if before[k] < after[k] else after[k]
        answer[k] = least if least < here[k] else here[k]


@_compiled
def _ask(distance, own, near, which, places):  # type: ignore[no-untyped-def]
    """Points that anything around hides into the start of which; how many. places: scratch."""
    found, width = 0, near.shape[1]
    for m in range(places.shape[0]):
        row = np.int32((own[m] + 0.5) * (1.0 / width))
        places[m] = own[m] - (row - (row >> 1)) * np.int32(width)
    near = near.ravel()
    for m in range(distance.shape[0]):
        which[found] = m
        found += np.float32(distance[m]).view(np.int32) & DISTANCE > near[np.uint32(places[m])]
    return found
