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

from seg_perception.borrowing import borrowed
from seg_perception.config import EdgesConfig
from seg_perception.datatypes import UNKNOWN
from seg_perception.geometry.range_image import RangeImage, close
from seg_perception.geometry.workspace import Workspace

HIDDEN = 254
"""Among the labels of neighbours: something hides it."""
_ROWS, _COLUMNS = 1, 2  # neighbours asked: that many rows and columns to each side
_NEEDED = 2  # fewer neighbours on the same surface decide nothing
_SHADOW, _SHADOWED = 0.6, 3  # with more than that share of at least so many neighbours hidden, a point is hidden too
_BLOCK = 2048  # cells whose counts stay in the nearest cache
_POINTS = 8192  # of which those that ask are settled together: a few of each hundred
_HALF = 7  # neighbours to a byte

_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")
_uint8, _int8, _uint32 = np.uint8, np.int8, np.uint32


class Surfaces:
    """Which neighbours in a sweep lie on one surface: found once, whatever the number of cameras, and only where one of
    them looks.

    workspace: whose arrays to use; they are good until it serves another sweep.
    """

    def __init__(self, sweep: RangeImage, config: EdgesConfig, workspace: Workspace | None = None) -> None:
        self._sweep, self._config, self._workspace = sweep, config, workspace or Workspace()
        self._own = sweep.cells.ravel(), sweep.cell, sweep.range
        if config.method == "none":
            return
        self._beside = self._workspace.array("beside", (2, sweep.cells.size), np.uint8)
        self._by_direction = (sweep.nearest.ravel(), sweep.across.ravel(), sweep.along.ravel(), sweep.rows)
        blocks = -(-sweep.cells.size // _BLOCK)
        self._found = self._workspace.array("beside_found", blocks, np.bool_)  # blocks of cells looked at so far
        self._found[:] = False

    def settle(
        self, class_id: NDArray[np.uint8], hider: NDArray[np.int16], index: NDArray[np.int32]
    ) -> NDArray[np.bool_]:
        """(M,) bool: which points in view take the label that the picture has for them.

        class_id: (M,) what it has; hider: (M,) the class of what hides each, as `visibility.hiding` says; index: (M,)
        which of the N points of the sweep they are. The answer is an array of the workspace.
        """
        config, said = self._config, (class_id, hider, index)
        kept = self._workspace.array("kept", len(index), np.bool_)
        if config.method == "none":
            return np.less(hider, 0, out=kept)
        labels, place = self._spread(*said)
        agreed = self._workspace.array("agreed", labels.size, np.bool_)
        found = self._by_direction, np.float32(config.step_m), self._beside, self._found
        _agree(labels, *found, config.agreement, agreed)
        _settle(*said, place, labels, agreed, self._by_direction, self._own, config.step_m, config.agreement, kept)
        return kept

    def labels(
        self, class_id: NDArray[np.uint8], hider: NDArray[np.int16], index: NDArray[np.int32]
    ) -> NDArray[np.uint8]:
        """Flat like the sweep's image: the label of each cell's nearest point, HIDDEN where something hides that one,
        UNKNOWN where it is not in view. `settle` has been asked of these points just before."""
        if self._config.method == "none":
            return self._spread(class_id, hider, index)[0]
        return self._workspace.array("labels", self._sweep.cells.size, np.uint8)

    def _spread(
        self, class_id: NDArray[np.uint8], hider: NDArray[np.int16], index: NDArray[np.int32]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """`labels`; and the cells of the points, as the function of this name says."""
        labels = self._workspace.array("labels", self._sweep.cells.shape, np.uint8)
        place = self._workspace.array("place", len(index), np.int32)
        _spread(class_id, hider, index, self._own, labels.ravel(), place)
        close(labels)
        return labels.ravel(), place


@_compiled
def _spread(class_id, hider, index, own, labels, place):  # type: ignore[no-untyped-def]
    """The label of each cell's nearest point where that one is in view; HIDDEN where something hides it. Fills place
    with the cell of each such point that nothing hides, and with ~cell of all others."""
    cells, cell, _ = own
    labels[:] = UNKNOWN
    for m in range(index.shape[0]):
        at = cell[_uint32(index[m])]
        is_nearest, is_seen = cells[_uint32(at)] == index[m], hider[m] < 0
        if is_nearest:
            labels[_uint32(at)] = class_id[m] if is_seen else _uint8(HIDDEN)
        place[m] = at if is_nearest & is_seen else ~at


@_compiled
def _find_beside(sweep, step_m, first, last, beside):  # type: ignore[no-untyped-def]
    """A bit for each neighbour of each cell from first to last that lies on the surface of the cell's nearest point."""
    nearest, across, along, rows = sweep
    here, aside, above, own = nearest[first:last], across[first:last], along[first:last], beside[:, first:last]
    own[:] = 0
    for right in range(-_COLUMNS, _COLUMNS + 1):
        below = nearest[first + right * rows - 1 :]
        n = (right + _COLUMNS) * (2 * _ROWS + 1)  # of the neighbour below; the next ones are beside it, and above
        if right == 0:
            _mark(here, below, aside, above, step_m, 0, (_bit(n), _uint8(0), _uint8(0)), own[n // _HALF])
            _mark(here, below, aside, above, step_m, 0, (_uint8(0), _uint8(0), _bit(n + 1)), own[(n + 1) // _HALF])
            continue
        n -= right > 0  # itself is none
        _mark(here, below, aside, above, step_m, abs(right), (_bit(n), _bit(n + 1), _bit(n + 2)), own[n // _HALF])


@_compiled
def _bit(n):  # type: ignore[no-untyped-def]
    """Of the nth neighbour, in its byte."""
    return _uint8(1 << n % _HALF)


@_compiled
def _neighbour(n):  # type: ignore[no-untyped-def]
    """Columns and rows from a cell to its nth neighbour."""
    place = n if n < _HALF else n + 1  # itself is none
    return place // (2 * _ROWS + 1) - _COLUMNS, place % (2 * _ROWS + 1) - _ROWS


@_compiled
def _mark(here, below, across, along, step_m, columns, bits, marked):  # type: ignore[no-untyped-def]
    """The three neighbours one above the other so many columns away: a bit for each whose range differs by no more than
    the surface may recede to there."""
    away, (low, level, high) = np.float32(columns), bits
    for k in range(here.shape[0]):
        aside = step_m + np.float32(0.01) * here[k] + across[k] * away
        corner = aside + along[k]
        found = low if abs(below[k] - here[k]) <= corner else _uint8(0)
        found |= level if abs(below[k + 1] - here[k]) <= aside else _uint8(0)
        found |= high if abs(below[k + 2] - here[k]) <= corner else _uint8(0)
        marked[k] |= found


@_compiled
def _agree(labels, sweep, step_m, beside, found, agreement, agreed):  # type: ignore[no-untyped-def]
    """Whether the label of each cell's nearest point may stay, where nothing hides that. What `_ask` says of one point,
    for many at a time: bytes beside each other, without a branch. Where nobody has a label, nobody is asked."""
    room = np.empty((5, _BLOCK), np.uint8), np.empty(_BLOCK, np.int8)
    _agree_blocks(labels, sweep, step_m, beside, found, agreement, agreed, room)


@_compiled
def _agree_blocks(labels, sweep, step_m, beside, found, agreement, agreed, room):  # type: ignore[no-untyped-def]
    """The same, in that room."""
    labels, sweep, beside, agreed, (counts, leads) = borrowed((labels, sweep, beside, agreed, room))
    rows = sweep[3]
    inside = _COLUMNS * rows + _COLUMNS
    for first in range(0, labels.size, _BLOCK):
        begin, last = max(first, inside), min(first + _BLOCK, labels.size - inside)
        count = last - begin
        if count <= 0 or not _any_known(labels[begin:last]):
            _allow(agreed[first : first + _BLOCK])
            continue
        if not found[first // _BLOCK]:
            found[first // _BLOCK] = True
            _find_beside(sweep, step_m, begin, last, beside)
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
def _allow(agreed):  # type: ignore[no-untyped-def]
    """What `agreed[:] = True` does, which Numba makes one by one."""
    for k in range(agreed.shape[0]):
        agreed[k] = True


@_compiled
def _any_known(labels):  # type: ignore[no-untyped-def]
    """Whether one of them is not UNKNOWN: many are looked at at once, which `min` does not."""
    known = _uint8(0)
    for k in range(labels.shape[0]):
        known |= labels[k] ^ _uint8(UNKNOWN)
    return known != 0


@_compiled
def _count(there, on, bit, own, asked, same, shadowed, leading, lead):  # type: ignore[no-untyped-def]
    """One neighbour of many cells, as in `_ask`."""
    for k in range(own.shape[0]):
        vote = there[k]
        near = _uint8(on[k] & bit) != 0
        ask = near & (vote < HIDDEN)
        shadowed[k] += near & (vote == HIDDEN)
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
def _settle(class_id, hider, index, place, labels, agreed, sweep, own, step_m, agreement, kept):  # type: ignore[no-untyped-def]
    """What `agreed` says of nearest points that nothing hides; the others ask, some at a time."""
    asks = np.empty(_POINTS, np.int64)
    for first in range(0, index.shape[0], _POINTS):
        others = count = 0
        last = min(first + _POINTS, index.shape[0])
        for m in range(first, last):  # without a branch: which they are is hard to guess
            kept[m] = agreed[max(place[m], 0)]
            asks[others] = m
            others += place[m] < 0
        for m in asks[:others]:
            kept[m] = hider[m] < 0
            asks[count] = m
            count += _may_change(m, class_id, hider, ~place[m], labels, sweep[3])
        _ask(asks[:count], class_id, hider, index, place, labels, sweep, own, step_m, agreement, kept)


@_compiled
def _may_change(m, class_id, hider, at, labels, rows):  # type: ignore[no-untyped-def]
    """Whether neighbours have a say: what has its hider's label stays hidden, what nobody contradicts stays seen."""
    label, hidden_by = class_id[m], hider[m]
    contradicted = (
        _differs(labels[at - rows], label)
        | _differs(labels[at + rows], label)
        | _differs(labels[at - 1], label)
        | _differs(labels[at + 1], label)
    )
    return (label != UNKNOWN) & (hidden_by != label if hidden_by >= 0 else contradicted)


@_compiled
def _differs(neighbour, label):  # type: ignore[no-untyped-def]
    return (neighbour != UNKNOWN) & (neighbour != label)


@_compiled
def _ask(asks, class_id, hider, index, place, labels, sweep, own, step_m, agreement, kept):  # type: ignore[no-untyped-def]
    """Settle these of the points by the neighbours on their own surface: as `_agree` does, each from where it is."""
    count = asks.shape[0]
    around, on = np.empty((2 * _HALF + 1, count), np.uint8), np.full(count, 1, np.uint8)
    counts, leads = np.zeros((6, count), np.uint8), np.zeros(count, np.int8)
    label, asked, same, shadowed, votes, leading = counts[0], counts[1], counts[2], counts[3], counts[4], counts[5]
    leading[:] = UNKNOWN
    answer = np.zeros(count, np.bool_)
    _look_around(asks, index, place, labels, sweep, own, step_m, around)
    for k in range(count):
        label[k] = class_id[asks[k]]
    for n in range(2 * _HALF + 1):
        _count(around[n], on, _uint8(1), label, asked, same, shadowed, leading, leads)
    for n in range(2 * _HALF + 1):
        _count_votes(around[n], on, _uint8(1), leading, votes)
    _decide(asked, same, shadowed, leading, votes, label, agreement, answer)
    for k in range(count):
        mine = ((2 * same[k] >= asked[k]) & (same[k] > 0)) | (leading[k] == label[k])
        kept[asks[k]] = answer[k] if hider[asks[k]] < 0 else mine


@_compiled
def _look_around(asks, index, place, labels, sweep, own, step_m, around):  # type: ignore[no-untyped-def]
    """The labels around points that lie on the surface of each, UNKNOWN for those that do not; a point's own place
    among them where another is nearest there."""
    nearest, across, along, rows = sweep
    cells, _, ranges = own
    for k in range(asks.shape[0]):
        i, at = _uint32(index[asks[k]]), ~place[asks[k]]
        here, aside, above = ranges[i], across[at], along[at]
        reach = step_m + 0.01 * here
        first = _uint32(at - _COLUMNS * rows - _ROWS)
        for right in range(2 * _COLUMNS + 1):
            for up in range(2 * _ROWS + 1):
                there = first + _uint32(right * rows + up)
                n = right * (2 * _ROWS + 1) + up
                limit, label = reach + aside * abs(right - _COLUMNS) + above * abs(up - _ROWS), labels[there]
                around[n, k] = label if abs(nearest[there] - here) <= limit else _uint8(UNKNOWN)
        if cells[_uint32(at)] == i:
            around[_HALF, k] = UNKNOWN
