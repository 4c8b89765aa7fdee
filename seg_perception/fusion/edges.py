"""Labels at the edges of things: a point's own surface has a say in what the picture calls it.

At a border, calibration, time and the network's blur let a label bleed onto what stands behind. Points beside each
other on one surface mostly carry one label, so where a point's label is another than that of its surface, one of the
two is wrong and the point stays unknown. And where geometry alone would hide a point at the border of something nearer,
the picture tells: its label is that of its own surface and not that of the nearer thing, so the camera looks past it.
Nor does a camera see one point in the middle of a surface that something else hides from it: it shone through a gap
that the LiDAR's spacing left.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.config import EdgesConfig
from seg_perception.datatypes import UNKNOWN
from seg_perception.geometry.range_image import RangeImage, close
from seg_perception.geometry.workspace import Workspace

_ROWS, _COLUMNS = 1, 2  # neighbours asked: that many rows and columns to each side
_NEEDED = 2  # fewer neighbours on the same surface decide nothing
_HIDDEN = 254  # among the labels of neighbours: something hides it
_SHADOW, _SHADOWED = 0.6, 3  # with more than that share of at least so many neighbours hidden, a point is hidden too

_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")


def settle(
    class_id: NDArray[np.uint8],
    hider: NDArray[np.int32],
    index: NDArray[np.int64],
    sweep: RangeImage,
    config: EdgesConfig,
    workspace: Workspace | None = None,
) -> NDArray[np.bool_]:
    """(M,) bool: which points in view take the label that the picture has for them.

    class_id: (M,) what it has; hider: (M,) which of the M points hides each, as `visibility.hiding` says; index: (M,)
    which of the N points of the sweep they are. workspace: whose arrays to use; the answer is one of them.
    """
    workspace = workspace or Workspace()
    kept = workspace.array("kept", len(index), np.bool_)
    if config.method == "none":
        return np.less(hider, 0, out=kept)
    labels = workspace.array("labels", sweep.cells.shape, np.uint8)
    _spread(class_id, hider, index, sweep.cells.ravel(), sweep.cell, labels.ravel())
    close(labels)
    by_direction = (sweep.nearest.ravel(), sweep.across.ravel(), sweep.along.ravel(), sweep.rows)
    own = (sweep.cells.ravel(), sweep.cell, sweep.range)
    _settle(class_id, hider, index, labels.ravel(), *by_direction, *own, config.step_m, config.agreement, kept)
    return kept


@_compiled
def _spread(class_id, hider, index, cells, cell, labels):  # type: ignore[no-untyped-def]
    """The label of each cell's nearest point where that one is in view; _HIDDEN where something hides it."""
    labels[:] = UNKNOWN
    for m in range(index.shape[0]):
        at = cell[index[m]]
        if cells[at] == index[m]:
            labels[at] = class_id[m] if hider[m] < 0 else _HIDDEN


@_compiled
def _settle(class_id, hider, index, labels, nearest, across, along, rows, cells, cell, ranges, step_m, agreement, kept):  # type: ignore[no-untyped-def]
    for m in range(class_id.shape[0]):
        label, i = class_id[m], index[m]
        at = cell[i]
        kept[m] = hider[m] < 0
        if label == UNKNOWN:
            continue
        if hider[m] >= 0:
            if class_id[hider[m]] == label:
                continue
        elif not (
            _differs(labels[at - rows], label)
            | _differs(labels[at + rows], label)
            | _differs(labels[at - 1], label)
            | _differs(labels[at + 1], label)
        ):  # nobody contradicts
            continue
        around = (labels, nearest, rows, across[at], along[at])
        reach = step_m + 0.01 * ranges[i]
        surface, votes, asked, shadowed = _ask(label, at, cells[at] == i, ranges[i], reach, *around)
        if hider[m] >= 0:
            kept[m] = surface == label
        elif asked + shadowed >= _SHADOWED and shadowed > _SHADOW * (asked + shadowed):
            kept[m] = False
        else:
            kept[m] = surface == label or asked < _NEEDED or votes < agreement * asked


@_compiled
def _differs(neighbour, label):  # type: ignore[no-untyped-def]
    return (neighbour != UNKNOWN) & (neighbour != label)


@_compiled
def _ask(label, at, is_nearest, here, reach, labels, nearest, rows, across, along):  # type: ignore[no-untyped-def]
    """The commonest label among the neighbours on the point's surface that nothing hides (its own, if that has half of
    them), its votes, how many were asked, and how many are hidden. A running majority finds it wherever one label has
    more than half."""
    asked, same, leading, lead, shadowed = 0, 0, np.uint8(UNKNOWN), 0, 0
    for right in range(-_COLUMNS, _COLUMNS + 1):
        for up in range(-_ROWS, _ROWS + 1):
            place = at + right * rows + up
            vote = labels[place]
            if vote == UNKNOWN or (is_nearest and place == at):
                continue
            if abs(nearest[place] - here) > reach + across * abs(right) + along * abs(up):
                continue
            if vote == _HIDDEN:
                shadowed += 1
                continue
            asked += 1
            same += vote == label
            if lead == 0:
                leading = vote
            lead += 1 if vote == leading else -1
    if 2 * same >= asked and same > 0:
        return label, same, asked, shadowed
    votes = 0
    for right in range(-_COLUMNS, _COLUMNS + 1):
        for up in range(-_ROWS, _ROWS + 1):
            place = at + right * rows + up
            if labels[place] == leading and not (is_nearest and place == at):
                votes += abs(nearest[place] - here) <= reach + across * abs(right) + along * abs(up)
    return leading, votes, asked, shadowed
