"""Labels at the edges of things: a point's own surface has a say in what the picture calls it.

At a border, calibration, time and the network's blur let a label bleed onto what stands behind. Points beside each
other on one surface mostly carry one label, so where a point's label is another than that of its surface, one of the
two is wrong and the point stays unknown. And where geometry alone would hide a point at the border of something nearer,
the picture tells: its label is that of its own surface and not that of the nearer thing, so the camera looks past it.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.config import EdgesConfig
from seg_perception.datatypes import UNKNOWN
from seg_perception.geometry.projection import Projection
from seg_perception.geometry.range_image import RangeImage, neighbour, recession

_ROWS, _COLUMNS = 1, 2  # neighbours asked: that many rows and columns to each side
_NEEDED = 2  # fewer neighbours on the same surface decide nothing


def settle(
    projection: Projection,
    class_id: NDArray[np.uint8],
    hider: NDArray[np.int32],
    sweep: RangeImage,
    config: EdgesConfig,
) -> NDArray[np.bool_]:
    """(M,) bool: which points in view take the label that the picture has for them.

    class_id: (M,) what it has; hider: (M,) which of the M points hides each, as `visibility.hiding` says.
    """
    clear = hider < 0
    if config.method == "none":
        return clear
    in_view = np.full(len(sweep.range), -1, np.int32)
    in_view[projection.index] = np.arange(len(projection.index), dtype=np.int32)
    kept = np.empty(len(clear), np.bool_)
    lines = (sweep.cells, sweep.row, sweep.column, sweep.range)
    _settle(projection.index, class_id, hider, clear, in_view, *lines, config.step_m, config.agreement, kept)
    return kept


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _settle(index, class_id, hider, clear, in_view, cells, row, column, ranges, step_m, agreement, kept):  # type: ignore[no-untyped-def]
    for m in range(index.shape[0]):
        label = class_id[m]
        if label == UNKNOWN or (hider[m] >= 0 and class_id[hider[m]] == label):
            kept[m] = clear[m]
            continue
        surface, votes, asked = _ask(m, index, class_id, clear, in_view, cells, row, column, ranges, step_m)
        if clear[m]:
            kept[m] = surface == label or asked < _NEEDED or votes < agreement * asked
        else:
            kept[m] = surface == label


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _ask(m, index, class_id, clear, in_view, cells, row, column, ranges, step_m):  # type: ignore[no-untyped-def]
    """The commonest label among the clear neighbours on the point's surface (its own, if it is as common), its votes,
    and how many were asked. The vote is a running majority, which is exact wherever one label has more than half."""
    i = index[m]
    across, along = recession(cells, row, column, ranges, i)
    reach = step_m + 0.01 * ranges[i]
    leading, lead, asked, same = UNKNOWN, 0, 0, 0
    for up in range(-_ROWS, _ROWS + 1):
        for right in range(-_COLUMNS, _COLUMNS + 1):
            j = neighbour(cells, np.int64(row[i]), np.int64(column[i]), up, right)
            if j < 0 or j == i or in_view[j] < 0 or not clear[in_view[j]]:
                continue
            if abs(ranges[j] - ranges[i]) > reach + across * abs(right) + along * abs(up):
                continue
            label = class_id[in_view[j]]
            if label == UNKNOWN:
                continue
            asked += 1
            same += label == class_id[m]
            if lead == 0:
                leading = label
            lead += 1 if label == leading else -1
    if 2 * same >= asked and same > 0:
        return class_id[m], same, asked
    votes = 0
    for up in range(-_ROWS, _ROWS + 1):
        for right in range(-_COLUMNS, _COLUMNS + 1):
            j = neighbour(cells, np.int64(row[i]), np.int64(column[i]), up, right)
            if j < 0 or j == i or in_view[j] < 0 or not clear[in_view[j]]:
                continue
            near = abs(ranges[j] - ranges[i]) <= reach + across * abs(right) + along * abs(up)
            votes += near and class_id[in_view[j]] == leading
    return leading, votes, asked
