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
_BLOCK = 2048  # cells whose counts stay in the nearest cache
_HALF = 7  # neighbours to a byte

_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")
_uint8, _int8 = np.uint8, np.int8


class Surfaces:
    """Which neighbours in a sweep lie on one surface: found once, whatever the number of cameras.

    workspace: whose arrays to use; they are good until it serves another sweep.
    """

    def __init__(self, sweep: RangeImage, config: EdgesConfig, workspace: Workspace | None = None) -> None:
        self._sweep, self._config, self._workspace = sweep, config, workspace or Workspace()
        if config.method == "none":
            return
        self._beside = self._workspace.array("beside", (2, sweep.cells.size), np.uint8)
        self._by_direction = (sweep.nearest.ravel(), sweep.across.ravel(), sweep.along.ravel(), sweep.rows)
        self._own = sweep.cells.ravel(), sweep.cell, sweep.range
        _find_beside(*self._by_direction, np.float32(config.step_m), self._beside)

    def settle(
        self, class_id: NDArray[np.uint8], hider: NDArray[np.int32], index: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """(M,) bool: which points in view take the label that the picture has for them.

        class_id: (M,) what it has; hider: (M,) which of the M points hides each, as `visibility.hiding` says; index:
        (M,) which of the N points of the sweep they are. The answer is an array of the workspace.
        """
        sweep, config = self._sweep, self._config
        kept = self._workspace.array("kept", len(index), np.bool_)
        if config.method == "none":
            return np.less(hider, 0, out=kept)
        labels = self._workspace.array("labels", sweep.cells.shape, np.uint8)
        agreed = self._workspace.array("agreed", labels.size, np.bool_)
        flat, limits = labels.ravel(), (config.step_m, config.agreement)
        asking = _spread(class_id, hider, index, self._own, flat)
        close(labels)
        _agree(flat, self._beside, sweep.rows, config.agreement, asking, agreed)
        _settle(class_id, hider, index, flat, agreed, self._by_direction, self._own, *limits, kept)
        return kept


@_compiled
def _spread(class_id, hider, index, own, labels):  # type: ignore[no-untyped-def]
    """The label of each cell's nearest point where that one is in view; _HIDDEN where something hides it. Returns in
    which blocks of cells the points lie."""
    cells, cell, _ = own
    asking, before = np.zeros(labels.size // _BLOCK + 1, np.bool_), -1
    labels[:] = UNKNOWN
    for m in range(index.shape[0]):
        at = cell[index[m]]
        if at // _BLOCK != before:
            before = at // _BLOCK
            asking[before] = True
        if cells[at] == index[m]:
            labels[at] = class_id[m] if hider[m] < 0 else _HIDDEN
    return asking


@_compiled
def _find_beside(nearest, across, along, rows, step_m, beside):  # type: ignore[no-untyped-def]
    """A bit for each neighbour of each cell that lies on the surface of the cell's nearest point."""
    begin, limit = _COLUMNS * rows + _COLUMNS, np.empty(_BLOCK, np.float32)
    for first in range(begin, nearest.size - begin, _BLOCK):
        last = min(first + _BLOCK, nearest.size - begin)
        here, reach, own = nearest[first:last], limit[: last - first], beside[:, first:last]
        own[:] = 0
        for aside in range(_COLUMNS + 1):
            for above in range(_ROWS + 1):
                _reach(here, across[first:last], along[first:last], step_m, aside, above, reach)
                for n in range(2 * _HALF):
                    right, up = _neighbour(n)
                    if abs(right) == aside and abs(up) == above:
                        there = nearest[first + right * rows + up :]
                        _mark(here, there, reach, _uint8(1 << n % _HALF), own[n // _HALF])


@_compiled
def _neighbour(n):  # type: ignore[no-untyped-def]
    """Columns and rows from a cell to its nth neighbour."""
    place = n if n < _HALF else n + 1  # itself is none
    return place // (2 * _ROWS + 1) - _COLUMNS, place % (2 * _ROWS + 1) - _ROWS


@_compiled
def _reach(here, across, along, step_m, aside, above, reach):  # type: ignore[no-untyped-def]
    """By how many metres of range a neighbour so many columns and rows away may differ."""
    columns, rows = np.float32(aside), np.float32(above)
    for k in range(here.shape[0]):
        reach[k] = step_m + np.float32(0.01) * here[k] + across[k] * columns + along[k] * rows


@_compiled
def _mark(here, there, limit, bit, marked):  # type: ignore[no-untyped-def]
    for k in range(here.shape[0]):
        marked[k] |= bit if abs(there[k] - here[k]) <= limit[k] else _uint8(0)


@_compiled
def _agree(labels, beside, rows, agreement, asking, agreed):  # type: ignore[no-untyped-def]
    """For the cells of the blocks `asking`: whether the label of a nearest point that nothing hides may stay. What
    `_settle` says of one point, for many at a time: bytes beside each other, without a branch."""
    inside = _COLUMNS * rows + _COLUMNS
    counts, leads = np.empty((5, _BLOCK), np.uint8), np.empty(_BLOCK, np.int8)
    for block in np.flatnonzero(asking):
        begin, last = max(block * _BLOCK, inside), min((block + 1) * _BLOCK, labels.size - inside)
        count = last - begin
        own, answer = labels[begin:last], agreed[begin:last]
        asked, same, shadowed, votes = counts[0, :count], counts[1, :count], counts[2, :count], counts[3, :count]
        leading, lead = counts[4, :count], leads[:count]
        asked[:] = same[:] = shadowed[:] = votes[:] = 0
        leading[:], lead[:] = UNKNOWN, 0
        for n in range(2 * _HALF):
            right, up = _neighbour(n)
            there, on = labels[begin + right * rows + up :], beside[n // _HALF, begin : begin + count]
            _count(there, on, _uint8(1 << n % _HALF), own, asked, same, shadowed, leading, lead)
        for n in range(2 * _HALF):
            right, up = _neighbour(n)
            there, on = labels[begin + right * rows + up :], beside[n // _HALF, begin : begin + count]
            _count_votes(there, on, _uint8(1 << n % _HALF), leading, votes)
        beyond = labels[begin - 1 :], labels[begin + 1 :], labels[begin - rows :], labels[begin + rows :]
        _uncontested(*beyond, own, answer)
        _decide(asked, same, shadowed, leading, votes, own, agreement, answer)


@_compiled
def _count(there, on, bit, own, asked, same, shadowed, leading, lead):  # type: ignore[no-untyped-def]
    """One neighbour of many cells, as in `_ask`."""
    for k in range(own.shape[0]):
        vote = there[k]
        near = _uint8(on[k] & bit) != 0
        ask = near & (vote < _HIDDEN)
        shadowed[k] += near & (vote == _HIDDEN)
        asked[k] += ask
        same[k] += ask & (vote == own[k])
        leading[k] = vote if ask & (lead[k] == 0) else leading[k]
        step = _int8(1) if vote == leading[k] else _int8(-1)
        lead[k] += step if ask else _int8(0)


@_compiled
def _count_votes(there, on, bit, leading, votes):  # type: ignore[no-untyped-def]
    for k in range(votes.shape[0]):
        votes[k] += (_uint8(on[k] & bit) != 0) & (there[k] == leading[k])


@_compiled
def _uncontested(below, above, left, right, own, answer):  # type: ignore[no-untyped-def]
    for k in range(own.shape[0]):
        beside = ((left[k] == UNKNOWN) | (left[k] == own[k])) & ((right[k] == UNKNOWN) | (right[k] == own[k]))
        over = ((below[k] == UNKNOWN) | (below[k] == own[k])) & ((above[k] == UNKNOWN) | (above[k] == own[k]))
        answer[k] = beside & over | (own[k] == UNKNOWN)


@_compiled
def _decide(asked, same, shadowed, leading, votes, own, agreement, answer):  # type: ignore[no-untyped-def]
    for k in range(own.shape[0]):
        total = _uint8(asked[k] + shadowed[k])
        dark = (total >= _SHADOWED) & (shadowed[k] > _SHADOW * total)
        mine = ((_uint8(2 * same[k]) >= asked[k]) & (same[k] > 0)) | (leading[k] == own[k])
        answer[k] |= ~dark & (mine | (asked[k] < _NEEDED) | (votes[k] < agreement * asked[k]))


@_compiled
def _settle(class_id, hider, index, labels, agreed, sweep, own, step_m, agreement, kept):  # type: ignore[no-untyped-def]
    """What `agreed` says of nearest points that nothing hides; the others ask one by one."""
    nearest, across, along, rows = sweep
    cells, cell, ranges = own
    for m in range(class_id.shape[0]):
        label, i = class_id[m], index[m]
        at, is_nearest = cell[i], cells[cell[i]] == i
        if hider[m] < 0 and is_nearest:
            kept[m] = agreed[at]
            continue
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
        surface, votes, asked, shadowed = _ask(label, at, is_nearest, ranges[i], reach, *around)
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
