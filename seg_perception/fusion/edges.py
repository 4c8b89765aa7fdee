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
from seg_perception.geometry.range_image import RangeImage, recession

_ROWS, _COLUMNS = 1, 2  # neighbours asked: that many rows and columns to each side
_NEEDED = 2  # fewer neighbours on the same surface decide nothing


def settle(
    class_id: NDArray[np.uint8], hider: NDArray[np.int32], sweep: RangeImage, config: EdgesConfig
) -> NDArray[np.bool_]:
    """(M,) bool: which points in view take the label that the picture has for them.

    class_id: (M,) what it has; hider: (M,) which of the M points hides each, as `visibility.hiding` says; sweep: the
    M points by direction.
    """
    kept = hider < 0
    if config.method == "surface":
        by_direction = (sweep.cells.ravel(), sweep.nearest.ravel(), sweep.rows, sweep.cell, sweep.range)
        _settle(class_id, hider, *by_direction, config.step_m, config.agreement, kept)
    return kept


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _settle(class_id, hider, cells, nearest, rows, cell, ranges, step_m, agreement, kept):  # type: ignore[no-untyped-def]
    for m in range(class_id.shape[0]):
        label, at = class_id[m], cell[m]
        if label == UNKNOWN:
            continue
        if hider[m] >= 0:
            if class_id[hider[m]] != label:
                surface, _, _ = _ask(m, class_id, hider, cells, nearest, rows, cell, ranges, step_m)
                kept[m] = surface == label
            continue
        if (
            _differs(cells[at - rows], class_id, label)
            or _differs(cells[at + rows], class_id, label)
            or (_differs(cells[at - 1], class_id, label) or _differs(cells[at + 1], class_id, label))
        ):  # elsewhere nobody contradicts
            surface, votes, asked = _ask(m, class_id, hider, cells, nearest, rows, cell, ranges, step_m)
            kept[m] = surface == label or asked < _NEEDED or votes < agreement * asked


@numba.njit(cache=True, nogil=True)
def _differs(neighbour, class_id, label):  # type: ignore[no-untyped-def]
    return neighbour >= 0 and class_id[neighbour] != label


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _ask(m, class_id, hider, cells, nearest, rows, cell, ranges, step_m):  # type: ignore[no-untyped-def]
    """The commonest label among the neighbours on the point's surface that nothing hides (its own, if that has half of
    them), its votes, and how many were asked. A running majority finds it wherever one label has more than half."""
    at, here = cell[m], ranges[m]
    across, along = recession(nearest, rows, at, here)
    reach = step_m + 0.01 * here
    votes = np.empty((2 * _ROWS + 1) * (2 * _COLUMNS + 1), np.uint8)
    asked, same, leading, lead = 0, 0, UNKNOWN, 0
    for right in range(-_COLUMNS, _COLUMNS + 1):
        for up in range(-_ROWS, _ROWS + 1):
            place = at + right * rows + up
            j = cells[place]
            if j < 0 or j == m or hider[j] >= 0 or class_id[j] == UNKNOWN:
                continue
            if abs(nearest[place] - here) > reach + across * abs(right) + along * abs(up):
                continue
            votes[asked] = class_id[j]
            asked += 1
            same += class_id[j] == class_id[m]
            if lead == 0:
                leading = class_id[j]
            lead += 1 if class_id[j] == leading else -1
    if 2 * same >= asked and same > 0:
        return class_id[m], same, asked
    count = 0
    for k in range(asked):
        count += votes[k] == leading
    return leading, count, asked
