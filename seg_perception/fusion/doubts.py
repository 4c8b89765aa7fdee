"""Where patches and surfaces are not to be trusted, a small network decides what a camera does not see.

A patch of fixed size says yes or no, and near the outline of something nearer it is often wrong. There more tells:
which of the places around the point in the picture something hides, how far before the point that stands, whether the
picture calls both the same, and how sure it is of that; and around the point as the LiDAR saw it, where its surface
goes on and what became of its neighbours. A network weighs that for the few points near outlines; of all others patches
and surfaces have the last word. What it weighs is bounded, and has no unit of length in it but metres of depth: places
are spacings of the LiDAR, and so is parallax: by how much the camera sees the point elsewhere than the LiDAR, against
what is infinitely far. A camera less than a spacing aside sees past most outlines that the LiDAR saw past. Places are
told from the side that parallax moves nearer things to, so that it does not matter on which side a camera stands. The
weights are in `doubts.yaml`, fitted by `benchmarks/fit_doubts.py`.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
import yaml
from numpy.typing import NDArray

from seg_perception.borrowing import borrowed
from seg_perception.config import VisibilityConfig
from seg_perception.fusion.edges import HIDDEN
from seg_perception.fusion.layers import layer
from seg_perception.fusion.outlines import near_outlines
from seg_perception.geometry.camera import CameraModel
from seg_perception.geometry.projection import Projection
from seg_perception.geometry.range_image import RangeImage
from seg_perception.geometry.visibility import CLASS, DISTANCE, patch_cells, patches, spacing_px
from seg_perception.geometry.workspace import Workspace

PLACES = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
"""Looked at in the picture, and as neighbours in the image of ranges: that many steps aside or up and down, positive
where parallax moves nearer things to. In the image of ranges a step is a cell, in the picture as many spacings as:"""
STEP = 1.0, 0.8
_OF_POINT = (
    "a patch hides it",
    "how much larger a spacing is to the camera",
    "range",
    "stands free by its own label",
    "how sure the picture is of its label",
    "metres by which its surface recedes from beam to beam",
    "steps aside by which parallax moves it",
    "steps up or down by which parallax moves it",
    "how much of its surface lies around it",
    "share of that which something hides",
    "share of the rest that wears its label",
)
FEATURES = (
    *_OF_POINT,
    *(f"place {place}: {what}" for place in PLACES for what in ("metres before it", "same label")),
    *(f"neighbour {place}: {what}" for place in PLACES[1:] for what in ("metres behind it", "same label", "hidden")),
)
"""What the network is given of a point, in this order. Each lies within -1 and 1."""

_LARGEST = np.float32(3.0)  # a spacing looks at most this much larger to the camera than to the LiDAR, or smaller
_RANGE_M, _STEP_M = np.float32(20.0), np.float32(0.3)  # that are half of what can be said
_ZERO, _HALF, _ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
_MUCH = np.float32(1e6)  # metres, or more
_AROUND = np.float32(8.0)  # neighbours that tell what becomes of a surface
_SLACK = np.float32(0.01)  # of the range: so much rougher is a surface further away
_BLOCK = 256  # points that the network weighs together: so many of `layers.POINTS`
_PLACES = np.array(PLACES, np.int64)
_FIRST_PLACE, _FIRST_NEIGHBOUR, _TOLD = len(_OF_POINT), len(_OF_POINT) + 2 * len(PLACES), len(FEATURES)

_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")
_reordered = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "nsz", "contract"})


class View(NamedTuple):
    """The points that a camera has in view, and the way to it from where their sweep is seen: (4, 4)."""

    points: Projection
    sweep: RangeImage
    camera: CameraModel
    T_cam_lidar: NDArray[np.float64]


class Said(NamedTuple):
    """What has been said of the M points in view. class_id: (M,) by the picture; margin: (M,) as `PointLabels` has it;
    free: (256,) whether a class stands free; hider: (M,) by `visibility.hiding`; kept: (M,) by `Surfaces.settle`;
    labels: by `Surfaces.labels`."""

    class_id: NDArray[np.uint8]
    margin: NDArray[np.float32]
    free: NDArray[np.bool_]
    hider: NDArray[np.int16]
    kept: NDArray[np.bool_]
    labels: NDArray[np.uint8]


class Doubts:
    """Points near the outline of something nearer, and what there is to say of each. which: (C,) int32, which of the M
    in view. workspace: the one that served all who had a say."""

    def __init__(self, view: View, said: Said, config: VisibilityConfig, workspace: Workspace) -> None:
        projection, sweep, camera, T_cam_lidar = view
        (index, uv, distance), covered = projection.arrays, patches(len(projection.index), camera, config, workspace)
        cell, steps = _cells(camera, config)
        self.which = near_outlines(covered, distance, steps, workspace)
        places = index, uv, distance, cell, steps, camera.K, T_cam_lidar
        planes = sweep.nearest.ravel(), sweep.across.ravel(), sweep.along.ravel()
        self._told = places, (sweep.cell, sweep.range, *planes, sweep.rows), said, covered.buffer

    def features(self) -> NDArray[np.float32]:
        """(C, len(FEATURES))."""
        features = np.empty((len(self.which), len(FEATURES)), np.float32)
        _tell(self.which, self._told, features)
        return features

    def settle(self, most_doubt: float, weights: tuple[NDArray[np.float32], ...] = ()) -> int:
        """Let the network decide which of these points are kept, and say so in `kept`: those not likelier hidden than
        most_doubt, 0..1. Returns how many it does not keep.

        weights: of three layers, each (inputs, outputs) and then (outputs,), hidden ones of a whole number of fours;
        those fitted if not given.
        """
        return int(_settle(self.which, self._told, weights or fitted_weights(), _score(most_doubt)))


@lru_cache(maxsize=8)
def _score(doubt: float) -> np.float32:
    """What the network says of a point that is hidden with this likelihood, 0..1."""
    with np.errstate(divide="ignore"):
        return np.float32(np.log(doubt) - np.log1p(-doubt))


@lru_cache(maxsize=64)
def _cells(camera: CameraModel, config: VisibilityConfig) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Width and height of a patch's cell, pixels, and a step aside and down, cells; each (2,)."""
    shape, cell_px = patch_cells(camera, config)
    steps = np.array(spacing_px(camera, config)) * STEP / cell_px
    return np.array(cell_px, np.float32), np.minimum(steps, max(shape)).astype(np.float32)  # a spoilt K may ask for all


@lru_cache(maxsize=1)
def fitted_weights() -> tuple[NDArray[np.float32], ...]:
    """Those of `doubts.yaml`."""
    text = Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")
    return tuple(np.array(layer, np.float32) for layer in yaml.load(text, Loader=_Loader)["layers"])


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@_compiled
def _tell(which, told, features):  # type: ignore[no-untyped-def]
    given, scratch = np.zeros((_TOLD, _BLOCK), np.float32), _scratch()
    for first in range(0, which.shape[0], _BLOCK):
        block = which[first : first + _BLOCK]
        _describe(block, told, scratch, given)
        features[first : first + _BLOCK] = given[:, : block.shape[0]].T


@_compiled
def _settle(which, told, layers, limit):  # type: ignore[no-untyped-def]
    """Two hidden layers, rectified; a block of points at a time. How many points are not kept."""
    first, first_bias, second, second_bias, last, last_bias = layers
    kept, left = told[2].kept, 0
    given, scratch = np.zeros((_TOLD, _BLOCK), np.float32), _scratch()
    one, two = np.empty((first.shape[1], _BLOCK), np.float32), np.empty((second.shape[1], _BLOCK), np.float32)
    score = np.empty(_BLOCK, np.float32)
    for begin in range(0, which.shape[0], _BLOCK):
        block = which[begin : begin + _BLOCK]
        _describe(block, told, scratch, given)
        layer(given, first, first_bias, one)
        layer(one, second, second_bias, two)
        _sum(two, last, last_bias, score)
        for c in range(block.shape[0]):
            kept[block[c]] = score[c] <= limit
            left += not (score[c] <= limit)
    return left


@_compiled
def _scratch():  # type: ignore[no-untyped-def]
    return np.zeros((10, _BLOCK), np.float32), np.zeros((5, _BLOCK), np.int32), np.zeros((4, 3, _BLOCK), np.int32)


@_compiled
def _describe(block, told, scratch, given):  # type: ignore[no-untyped-def]
    """What is told of a block of points into the first columns of given, (inputs, _BLOCK)."""
    told, scratch, given = borrowed((told, scratch, given))
    (index, uv, distance, cell, steps, K, T), sweep, (class_id, margin, free, hider, _, labels), buffer = told
    cells, ranges, nearest, across, along, rows = sweep
    numbers, whole, around = scratch  # row by row: Numba takes rows that are unpacked together number by number
    us, vs, away, far = numbers[0], numbers[1], numbers[2], numbers[3]
    scale, right, down = numbers[4], numbers[5], numbers[6]
    recedes, rises, found = numbers[7], numbers[8], numbers[9]
    at, label, places, keys, counts = whole[0], whole[1], whole[2], whole[3], whole[4]
    columns, lines = around[0], around[1]  # of the picture, then of the image of ranges; each a step before and on
    beside, above = around[2], around[3]
    for c in range(block.shape[0]):
        m = np.uint32(block[c])
        i = np.uint32(index[m])
        at[c], label[c] = cells[i], class_id[m]
        us[c], vs[c], away[c], far[c] = uv[0, m], uv[1, m], distance[m], ranges[i]
        given[0, c], given[3, c] = hider[m] >= 0, free[class_id[m]]
        given[4, c], recedes[c], rises[c] = margin[m], across[np.uint32(at[c])], along[np.uint32(at[c])]
    _measure(away, far, scale, given[1], given[2])
    _bound(rises, given[5])
    ahead = T[2, 3]
    towards = K[0, 0] * T[0, 3] + K[0, 2] * ahead, K[1, 1] * T[1, 3] + K[1, 2] * ahead
    _turn(us, np.float32(towards[0]), np.float32(ahead), away, steps[0] * cell[0], right, given[6])
    _turn(vs, np.float32(towards[1]), np.float32(ahead), away, steps[1] * cell[1], down, given[7])
    around_at = at, places[: block.shape[0]], rows
    _tell_surface(around_at, (far, recedes, rises), label, (nearest, labels), (found, keys, counts), given[8:11])
    for k in range(3):
        step = np.float32(k - 1)
        _move(us, scale, right, step * steps[0], cell[0], np.float32(buffer.shape[1] - 1), columns[k])
        _move(vs, scale, down, step * steps[1], cell[1], np.float32(buffer.shape[0] - 2), lines[k])
        _step(right, np.int32((1 - k) * rows), beside[k])  # columns of the sweep count to the left, its rows upwards
        _step(down, np.int32(1 - k), above[k])
    for k in range(_PLACES.shape[0]):
        aside, below = _PLACES[k, 0] + 1, _PLACES[k, 1] + 1
        _add(columns[aside], lines[below], np.int32(buffer.shape[1]), places)
        _look(places[: block.shape[0]], buffer.ravel(), np.uint32(buffer.shape[1]), keys)
        row = _FIRST_PLACE + 2 * k
        _tell_place(keys, away, label, given[row], given[row + 1])
        if k > 0:
            row = _FIRST_NEIGHBOUR + 3 * (k - 1)
            _add(at, beside[aside], np.int32(1), places)
            _add(places, above[below], np.int32(1), places)
            _find(places[: block.shape[0]], nearest, labels, given[row], keys)
            _tell_neighbour(keys, far, label, given[row], given[row + 1], given[row + 2])


@_compiled
def _measure(away, far, scale, size_told, range_told):  # type: ignore[no-untyped-def]
    """How much larger a spacing is to the camera."""
    for c in range(_BLOCK):
        size = far[c] / away[c]
        size = size if size < _LARGEST else _LARGEST
        scale[c] = size if size > _ONE / _LARGEST else _ONE / _LARGEST
        size_told[c] = scale[c] / _LARGEST
        metres = far[c] if far[c] < _MUCH else _MUCH
        range_told[c] = metres / (_RANGE_M + metres)


@_compiled
def _bound(metres, told):  # type: ignore[no-untyped-def]
    for c in range(_BLOCK):
        some = metres[c] if metres[c] < _MUCH else _MUCH
        told[c] = some / (_ONE + some)


@_compiled
def _tell_surface(where, surface, label, image, found, told):  # type: ignore[no-untyped-def]
    """Of the neighbours that lie on a point's own surface, as `edges` has it: how many, and what became of them."""
    (at, places, rows), (nearest, labels), (ranges, said, counts) = where, image, found
    counts[:] = 0
    for right in range(-1, 2):
        for up in range(-1, 2):
            if right == 0 and up == 0:
                continue
            for c in range(places.shape[0]):
                places[c] = at[c] + np.int32(right * rows + up)
            _find(places, nearest, labels, ranges, said)
            _count(ranges, said, surface, np.float32(abs(right)), np.float32(abs(up)), label, counts)
    on, hidden, same = told[0], told[1], told[2]
    for c in range(_BLOCK):
        lie, dark, alike = counts[c] & 255, counts[c] >> 8 & 255, counts[c] >> 16
        on[c] = np.float32(lie) / _AROUND
        hidden[c] = np.float32(dark) / np.float32(max(lie, np.int32(1)))
        same[c] = np.float32(alike) / np.float32(max(lie - dark, np.int32(1)))


@_compiled
def _count(ranges, said, surface, columns, rows, label, counts):  # type: ignore[no-untyped-def]
    """One neighbour of each point: whether it lies on its surface, is hidden, wears its label, a byte for each."""
    far, recedes, rises = surface
    for c in range(_BLOCK):
        reach = _STEP_M + _SLACK * far[c] + columns * recedes[c] + rows * rises[c]
        lies = (abs(ranges[c] - far[c]) <= reach) & (said[c] <= HIDDEN)
        what = np.int32(1) | (np.int32(256) if said[c] == HIDDEN else np.int32(0))
        what |= np.int32(65536) if said[c] == label[c] else np.int32(0)
        counts[c] += what if lies else np.int32(0)


@_compiled
def _turn(pixels, towards, ahead, away, step_px, side, told):  # type: ignore[no-untyped-def]
    """1 or -1: to which side parallax moves what is nearer. And how many steps it moves the point itself."""
    for c in range(_BLOCK):
        moves = towards - pixels[c] * ahead
        side[c] = _ONE if moves >= _ZERO else -_ONE
        steps = abs(moves) / (step_px * away[c])
        steps = steps if steps < _MUCH else _MUCH
        told[c] = steps / (_ONE + steps)


@_compiled
def _move(pixels, scale, side, cells_aside, cell, last, cells):  # type: ignore[no-untyped-def]
    """Which cell of the picture lies so many cells to that side."""
    per_px = _ONE / cell
    for c in range(_BLOCK):
        place = (pixels[c] + _HALF) * per_px + cells_aside * scale[c] * side[c]
        place = place if place > _ZERO else _ZERO
        cells[c] = np.int32(place if place < last else last)


@_compiled
def _step(side, step, steps):  # type: ignore[no-untyped-def]
    for c in range(_BLOCK):
        steps[c] = step if side[c] > _ZERO else -step


@_compiled
def _add(ones, others, times, sums):  # type: ignore[no-untyped-def]
    for c in range(_BLOCK):
        sums[c] = ones[c] + others[c] * times


@_compiled
def _look(places, buffer, stride, keys):  # type: ignore[no-untyped-def]
    for c in range(places.shape[0]):
        here = np.uint32(places[c])
        keys[c] = min(buffer[here], buffer[here + stride])


@_compiled
def _tell_place(keys, away, label, before, same):  # type: ignore[no-untyped-def]
    for c in range(_BLOCK):
        gap = away[c] - np.int32(keys[c] & DISTANCE).view(np.float32)  # no number where there is no patch
        gap = gap if gap > _ZERO else _ZERO
        gap = gap if gap < _MUCH else _MUCH
        before[c] = gap / (_ONE + gap)
        same[c] = _ONE if (gap > _ZERO) & (keys[c] & CLASS == label[c]) else _ZERO


@_compiled
def _find(places, nearest, labels, ranges, said):  # type: ignore[no-untyped-def]
    for c in range(places.shape[0]):
        there = np.uint32(places[c])
        ranges[c], said[c] = nearest[there], labels[there]


@_compiled
def _tell_neighbour(said, far, label, behind, same, hidden):  # type: ignore[no-untyped-def]
    """behind: ranges to begin with."""
    for c in range(_BLOCK):
        step = behind[c] - far[c]
        behind[c] = step / (_STEP_M + abs(step)) if behind[c] > _ZERO else _ZERO
        hidden[c] = _ONE if said[c] == HIDDEN else _ZERO
        told = _ONE if said[c] == label[c] else -_ONE
        same[c] = told if said[c] < HIDDEN else _ZERO


@_reordered
def _sum(given, weights, bias, answer):  # type: ignore[no-untyped-def]
    answer[:] = bias[0]
    for k in range(given.shape[0]):
        weight, x = weights[k, 0], given[k]
        for c in range(_BLOCK):
            answer[c] += weight * x[c]
