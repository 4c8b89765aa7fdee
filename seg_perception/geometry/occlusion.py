"""How likely it is that something hides a point from a camera, from what lies nearer around it in the picture.

Where a patch of fixed size says yes or no, many small things tell more: how close in the picture the nearer points lie
and whether on all sides, how far they stand before the point, how far apart the LiDAR saw what the camera sees
together, whether the picture calls both the same, and whether what is nearer stands free. A small network weighs them.
What it weighs has no unit of length in it but metres of depth, and is bounded: places in the picture count in spacings
of the LiDAR. Its weights are in `occlusion.yaml`, fitted by `benchmarks/fit_occlusion.py`.

After a change of the compiled functions here, delete the `__pycache__` of this folder: see `lens`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
import yaml
from numpy.typing import NDArray

from seg_perception.geometry.camera import CameraModel
from seg_perception.geometry.projection import Projection
from seg_perception.geometry.range_image import RangeImage
from seg_perception.geometry.workspace import Workspace

FEATURES = (
    "nearest: how far away in the picture the closest of the nearer points lies",
    "nearest: metres it stands before the point, beyond its slant",
    "nearest: same label as the point",
    "nearest: how far apart the LiDAR sees the two, less how far apart the camera does",
    "nearest: stands free",
    "nearest: metres by which its surface recedes",
    "nearer points within 2 spacings, close ones for more",
    "nearer points within 1 spacing",
    "same label, of those within 2",
    "same label, of those within 1",
    "free standing, of those within 2",
    "free standing, of those within 1",
    "metres that they stand before the point, on average",
    "how far to one side they lie on average",
    "how far to the side that parallax moved them to",
    "range of the point from the LiDAR",
    "metres by which its surface recedes from column to column",
    "metres by which its surface recedes from beam to beam",
    "the point stands free by its own label",
    "nothing nearer in the point's own cell of the range image",
)
"""What the network is given of a point, in this order. Each lies within -1 and 1."""

_REACH = np.float32(2.0)  # spacings; what lies further away in the picture says nothing
_CELL = 1.2  # reaches; neighbours are looked for in a point's own cell and the eight around it
_BEFORE_M = np.float32(0.08)  # less before a point is the LiDAR's own noise
_SMALLEST = np.float32(1.0 / 3.0)  # a spacing looks at most thrice as large to the camera as to the LiDAR
_FURTHEST = np.float32(2e5)  # metres
_ZERO, _HALF, _ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
_NONE, _MUCH, _LITTLE = np.float32(1e9), np.float32(4.0), np.float32(1e-3)
_BLOCK = 128  # points that the network weighs together
_FIELDS = 6  # of a neighbour, see `_gather`
_FREE = np.float32(256.0)  # added to a class that stands free
_ENOUGH = np.float32(0.3)  # with less before it, see `_weight`, a point is seen
_MOST = 256  # neighbours listed before a point, and after it, that are looked at: a sweep has some thirty in all
_TURN = np.float32(2.0 * math.pi)

_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")
_reordered = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "nsz", "contract", "nnan"})


class Doubts(NamedTuple):
    """Points that nearer ones lie around. which: (C,) int32, which of the M in view; nearest: (C,) int32, which of
    them lies closest in the picture of those nearer than it; features: (C, len(FEATURES)) float32."""

    which: NDArray[np.int32]
    nearest: NDArray[np.int32]
    features: NDArray[np.float32]


def doubts(
    projection: Projection,
    sweep: RangeImage,
    camera: CameraModel,
    spacing_deg: tuple[float, float],
    class_id: NDArray[np.uint8],
    free: NDArray[np.bool_],
    workspace: Workspace | None = None,
) -> Doubts:
    """Which of the M points in view may be hidden, and what there is to say of each.

    spacing_deg: between the LiDAR's columns and beams. class_id: (M,) what the picture has for the points; free: (256,)
    whether a class stands free. workspace: whose arrays to use for the answer.
    """
    workspace, count = workspace or Workspace(), len(projection.index)
    angle = np.radians(spacing_deg)
    spacing_px = angle * (float(camera.K[0, 0]), float(camera.K[1, 1]))
    cell_px = np.maximum(_CELL * float(_REACH) * spacing_px, 1.0)
    columns, rows = (math.ceil(size / px) for size, px in zip((camera.width, camera.height), cell_px, strict=True))
    start = workspace.array("cell_start", (rows + 2) * (columns + 2) + 1, np.int32)
    cells, places = (workspace.array(name, count, np.int32) for name in ("cell_of", "place_of"))
    numbers = workspace.array("in_cells", 3 * count, np.int32)
    own, fields = (workspace.array(f"in_cells_{n}", (_FIELDS, n * count), np.float32) for n in (1, 3))
    points = (*projection.arrays, sweep.cell, sweep.range, sweep.across.ravel(), sweep.along.ravel())
    _sort(projection.uv.T, cell_px[0], cell_px[1], columns, rows, start, cells)
    _gather(*points, cells, columns, class_id, free, spacing_px, start, numbers, places, own, fields)
    which, nearest = (workspace.array(name, count, np.int32) for name in ("doubted", "doubted_for"))
    features = workspace.array("doubts", (count, len(FEATURES)), np.float32)
    directions = sweep.azimuth, sweep.rise, (1.0 / angle).astype(np.float32), sweep.cells.ravel()
    squares = np.empty(3 * count, np.float32)
    found = _describe(*points, cells, start, numbers, places, fields, squares, *directions, which, nearest, features)
    return Doubts(which[:found], nearest[:found], features[:found])


def chance_hidden(features: NDArray[np.float32], weights: tuple[NDArray[np.float32], ...] = ()) -> NDArray[np.float32]:
    """(C,) float32 in 0..1: how likely it is that what lies nearer hides each point of `Doubts`.

    weights: of three layers, each (inputs, outputs) and then (outputs,), inputs a whole number of fours; those fitted
    if not given.
    """
    chance = np.empty(len(features), np.float32)
    _weigh(features, weights or fitted_weights(), chance)
    return chance


@lru_cache(maxsize=1)
def fitted_weights() -> tuple[NDArray[np.float32], ...]:
    """Those of `occlusion.yaml`."""
    text = Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")
    return tuple(np.array(layer, np.float32) for layer in yaml.load(text, Loader=_Loader)["layers"])


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@_compiled
def _sort(uv, width_px, height_px, columns, rows, start, cells):  # type: ignore[no-untyped-def]
    """The cell of each point, counting an empty one around the picture, and where the neighbours of each cell's points
    are to go: row by row of the picture. Each row lists the points of the rows above and below it too, so that what
    lies around a point is one run."""
    start[:] = 0
    stride = columns + 2
    for m in range(uv.shape[1]):
        column = min(max(int((uv[0, m] + 0.5) / width_px), 0), columns - 1)
        row = min(max(int((uv[1, m] + 0.5) / height_px), 0), rows - 1)
        cells[m] = (row + 1) * stride + column + 1
        for beside in range(-1, 2):
            start[cells[m] + beside * stride] += 1
    before = 0
    for c in range(start.shape[0]):
        before += start[c]
        start[c] = before  # where the next one starts; each point steps back by one


@_compiled
def _gather(  # type: ignore[no-untyped-def]
    index, uv, distance, cell, ranges, across, along, cells, columns, class_id, free, spacing_px, start, numbers,
    places, own, fields,
):  # fmt: skip
    """What is asked of neighbours: where they lie and how large a spacing is there, in spacings of the LiDAR; how far
    away they are, how slanted, and of which class. Of each point in own; in fields where neighbours are looked for."""
    us, vs, sizes, far, slants, marks = own[0], own[1], own[2], own[3], own[4], own[5]
    stride = columns + 2
    for m in range(index.shape[0]):
        us[m], vs[m] = uv[0, m] / spacing_px[0], uv[1, m] / spacing_px[1]
    for m in range(index.shape[0]):
        i = np.uint32(index[m])
        far[m] = min(np.float32(distance[m]), _FURTHEST)
        sizes[m] = max(far[m] / max(ranges[i], _LITTLE), _SMALLEST)
        slants[m] = across[np.uint32(cell[i])] + along[np.uint32(cell[i])]
        marks[m] = class_id[m] + _FREE * free[class_id[m]]
    for m in range(index.shape[0] - 1, -1, -1):
        for beside in range(-1, 2):
            c = np.uint32(cells[m] + beside * stride)
            start[c] -= 1
            numbers[np.uint32(start[c])] = m
        places[m] = start[np.uint32(cells[m])]
    for n in range(_FIELDS):
        of, there = own[n], fields[n]
        for o in range(numbers.shape[0]):
            there[o] = of[np.uint32(numbers[o])]


@_compiled
def _describe(  # type: ignore[no-untyped-def]
    index, uv, distance, cell, ranges, across, along, cells, start, numbers, places, fields, squares, azimuth,
    rise, per_spacing, nearest_in, which, nearest, features,
):  # fmt: skip
    """Fill the answer from its start; return how many. squares: scratch."""
    us, vs, sizes, far, slants, marks = fields[0], fields[1], fields[2], fields[3], fields[4], fields[5]
    found = 0
    for m in range(index.shape[0]):
        o = places[m]
        first, last = max(start[cells[m] - 1], o - _MOST), min(start[cells[m] + 2], o + _MOST)
        _look(us, vs, sizes, far, slants, o, first, last, squares)
        wide = _weight(squares, first, last)
        if wide < _ENOUGH:
            continue
        k = _least(squares, first, last)
        i, j, at = index[m], index[numbers[k]], cell[index[m]]
        right, down = (us[k] - us[o]) * sizes[k], (vs[k] - vs[o]) * sizes[k]
        turn = azimuth[i] - azimuth[j]
        turn -= _TURN * np.float32(round(turn / _TURN))
        aside, above = turn * per_spacing[0] - right, (rise[i] - rise[j]) * per_spacing[1] - down
        apart = math.sqrt(aside * aside + above * above) + _LITTLE
        features[found, 0] = math.sqrt(squares[k]) / _REACH
        features[found, 1] = _bounded(far[o] - far[k] - slants[k] * max(math.sqrt(squares[k]), _HALF))
        features[found, 2] = marks[k] == marks[o]
        features[found, 3] = _bounded(apart / np.float32(4.0))
        features[found, 4] = marks[k] >= _FREE
        features[found, 5] = _bounded(slants[k])
        sums = _sums(us, vs, sizes, far, marks, o, first, last, squares)
        close, wide_same, close_same, wide_free, close_free, metres, rightwards, downwards = sums
        close, rightwards, downwards = max(close, _LITTLE), rightwards / wide, downwards / wide
        features[found, 6], features[found, 7] = _bounded(wide), _bounded(close)
        features[found, 8], features[found, 9] = wide_same / wide, close_same / close
        features[found, 10], features[found, 11] = wide_free / wide, close_free / close
        features[found, 12] = _bounded(metres / wide)
        features[found, 13] = math.sqrt(rightwards * rightwards + downwards * downwards) / _REACH
        features[found, 14] = (rightwards * aside + downwards * above) / (apart * _REACH)
        features[found, 15] = _bounded(min(ranges[i], _FURTHEST) / np.float32(20.0))
        features[found, 16], features[found, 17] = _bounded(across[at]), _bounded(along[at])
        features[found, 18], features[found, 19] = marks[o] >= _FREE, nearest_in[at] == i
        which[found], nearest[found] = m, numbers[k]
        found += 1
    return found


@_reordered
def _look(us, vs, sizes, far, slants, o, first, last, squares):  # type: ignore[no-untyped-def]
    """Squared spacings from point o to what stands before it, _NONE for what does not, from first to last."""
    u, v, limit = us[o], vs[o], far[o] - _BEFORE_M
    us, vs, sizes = us[first:last], vs[first:last], sizes[first:last]
    far, slants, squares = far[first:last], slants[first:last], squares[first:last]
    for k in range(squares.shape[0]):
        x, y = (us[k] - u) * sizes[k], (vs[k] - v) * sizes[k]
        square = x * x + y * y
        squares[k] = square if far[k] + slants[k] * max(math.sqrt(square), _HALF) < limit else _NONE


@_reordered
def _weight(squares, first, last):  # type: ignore[no-untyped-def]
    """How much stands before a point: close by, each counts for one, and none beyond the reach."""
    weight, squares = _ZERO, squares[first:last]
    for k in range(squares.shape[0]):
        outer = max(_ONE - squares[k] / (_REACH * _REACH), _ZERO)
        weight += outer * outer
    return weight


@_compiled
def _least(squares, first, last):  # type: ignore[no-untyped-def]
    """Where the least of these is. As integers, which order as floats from 0 do, the compiler takes eight at a time."""
    squares = squares[first:last].view(np.int32)
    least = squares[0]
    for k in range(squares.shape[0]):
        least = min(least, squares[k])
    where = 0
    while squares[where] != least:
        where += 1
    return first + where


@_reordered
def _sums(us, vs, sizes, far, marks, o, first, last, squares):  # type: ignore[no-untyped-def]
    """Over what stands before point o, the closer the more: how much of it within one spacing; how much has its label,
    within the reach and within one spacing; how much stands free; metres before it, spacings to its right and below."""
    close = wide_same = close_same = wide_free = close_free = metres = right = down = _ZERO
    u, v, away, mark = us[o], vs[o], far[o], marks[o]
    us, vs, sizes = us[first:last], vs[first:last], sizes[first:last]
    far, marks, squares = far[first:last], marks[first:last], squares[first:last]
    for k in range(squares.shape[0]):
        outer, inner = max(_ONE - squares[k] / (_REACH * _REACH), _ZERO), max(_ONE - squares[k], _ZERO)
        outer, inner = outer * outer, inner * inner
        same, free = _ONE if marks[k] == mark else _ZERO, _ONE if marks[k] >= _FREE else _ZERO
        close += inner
        wide_same, close_same = wide_same + outer * same, close_same + inner * same
        wide_free, close_free = wide_free + outer * free, close_free + inner * free
        metres += outer * min(away - far[k], _MUCH)
        right, down = right + outer * (us[k] - u) * sizes[k], down + outer * (vs[k] - v) * sizes[k]
    return close, wide_same, close_same, wide_free, close_free, metres, right, down


@_compiled
def _bounded(x):  # type: ignore[no-untyped-def]
    return x / (_ONE + x)


@_compiled
def _weigh(features, layers, chance):  # type: ignore[no-untyped-def]
    """Two hidden layers, rectified; the logistic of what comes out. A block of points at a time."""
    first, first_bias, second, second_bias, last, last_bias = layers
    count = features.shape[0]
    given = np.empty((features.shape[1], _BLOCK), np.float32)
    one, two = np.empty((first.shape[1], _BLOCK), np.float32), np.empty((second.shape[1], _BLOCK), np.float32)
    score = np.empty((1, _BLOCK), np.float32)
    for begin in range(0, count, _BLOCK):
        block = min(_BLOCK, count - begin)
        for c in range(block):
            for k in range(given.shape[0]):
                given[k, c] = features[begin + c, k]
        _layer(given, first, first_bias, one)
        _rectify(one)
        _layer(one, second, second_bias, two)
        _rectify(two)
        _layer(two, last, last_bias, score)
        for c in range(block):
            chance[begin + c] = _ONE / (_ONE + math.exp(-score[0, c]))


@_compiled
def _layer(given, weights, bias, answer):  # type: ignore[no-untyped-def]
    for j in range(answer.shape[0]):
        sums = answer[j]
        for c in range(_BLOCK):
            sums[c] = bias[j]
        for k in range(0, given.shape[0] - 3, 4):
            a, b, d, e = weights[k, j], weights[k + 1, j], weights[k + 2, j], weights[k + 3, j]
            x, y, z, w = given[k], given[k + 1], given[k + 2], given[k + 3]
            for c in range(_BLOCK):
                sums[c] += a * x[c] + b * y[c] + d * z[c] + e * w[c]


@_compiled
def _rectify(values):  # type: ignore[no-untyped-def]
    for j in range(values.shape[0]):
        row = values[j]
        for c in range(_BLOCK):
            row[c] = max(row[c], _ZERO)
