"""Upright boxes around clusters: turned as the visible sides run, completed behind them to the size such things have.

The direction is found as in Zhang et al., "Efficient L-shape fitting for vehicle detection using laser scanners"
(2017), by their closeness criterion: of all directions, the one in which points lie nearest to the edges of their box.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.scene.footing import below

TYPICAL_SIZES = {
    "person": (0.6, 0.6, 1.7),
    "rider": (0.6, 0.6, 1.2),
    "car": (4.3, 1.8, 1.5),
    "truck": (7.0, 2.5, 3.0),
    "bus": (11.5, 2.5, 3.0),
    "motorcycle": (2.0, 0.7, 1.1),
    "bicycle": (1.7, 0.5, 1.0),
}
"""Length, width, height in metres of a common thing of the class; what is seen of one is completed to this at most."""

_SAMPLE = 128  # points that decide the direction
_COARSE, _FINE = 24, 4  # directions in a right angle, and between two of them
_NEAREST = 0.05  # m; points nearer to an edge than the noise are on it
_TALLEST = 2.0  # typical heights; what rises further above the ground does not stand on it
_INSIDE_M = 0.2  # inside the sides of a thing nothing else is
_END = 1.3  # a face up to this many widths across is taken for an end, not for a side


def typical_sizes(names: Sequence[str]) -> NDArray[np.float64]:
    """(256, 3) typical size by train id, for `names` in the order of train ids; 0 where none is known."""
    table = np.zeros((256, 3))
    for train_id, name in enumerate(names):
        table[train_id] = TYPICAL_SIZES.get(name, (0.0, 0.0, 0.0))
    return table


def sort_by_cluster(cluster: NDArray[np.int32], clusters: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Points in the order of their clusters, those of none left out, and (K + 1,) where each cluster begins."""
    return _sort(cluster, clusters)


def fit_boxes(
    points: NDArray[np.float32],
    order: NDArray[np.int32],
    first: NDArray[np.int32],
    size: NDArray[np.float64],
    ground: NDArray[np.float32],
) -> NDArray[np.float64]:
    """(K, 10): middle x y z, length, width, height in metres, yaw in radians, -pi/2..pi/2, of each cluster; x y of the
    middle of that part of it which is seen; and how much it rises, itself or above the ground: inf where that is not
    known.

    points: (M, 3) in a level frame whose origin is the LiDAR. order, first: of `sort_by_cluster`. size: (K, 3) typical.
    ground: of `Footing.take`. A box reaches down to the ground and up to its typical height at least; where the ground
    is not known, or far below, down from the highest point by that height.
    """
    return _fit_all(points, order, first, size, ground)


@numba.njit(cache=True, nogil=True)
def within(points, order, first, boxes, large, small):  # type: ignore[no-untyped-def]
    """(K,) int32 which of the `large` (K,) clusters each of the `small` ones is a part of, -1 for none. A part has a
    quarter of the points at most, and from above its middle and nine of ten of them lie _INSIDE_M or more inside what
    is seen of the other.
    """
    part_of = np.full(len(large), -1, np.int32)
    sides = np.empty((2, 2))
    for k in np.flatnonzero(large):
        mine = order[first[k] : first[k + 1]]
        cos, sin = math.cos(boxes[k, 6]), math.sin(boxes[k, 6])
        sides[0], sides[1] = np.inf, -np.inf
        for i in mine:
            a, b = cos * points[i, 0] + sin * points[i, 1], cos * points[i, 1] - sin * points[i, 0]
            sides[0, 0], sides[1, 0] = min(sides[0, 0], a), max(sides[1, 0], a)
            sides[0, 1], sides[1, 1] = min(sides[0, 1], b), max(sides[1, 1], b)
        sides[0] += _INSIDE_M
        sides[1] -= _INSIDE_M
        for other in np.flatnonzero(small):
            theirs = order[first[other] : first[other + 1]]
            if 4 * len(theirs) > len(mine) or not _lies(boxes[other, 7], boxes[other, 8], cos, sin, sides):
                continue
            inside = 0
            for i in theirs:
                inside += _lies(points[i, 0], points[i, 1], cos, sin, sides)
            if 10 * inside >= 9 * len(theirs):
                part_of[other] = k
    return part_of


@numba.njit(cache=True, nogil=True)
def _lies(x, y, cos, sin, sides):  # type: ignore[no-untyped-def]
    """Whether a place lies between the sides (2, 2), low and high, along a direction and across it."""
    a, b = cos * x + sin * y, cos * y - sin * x
    return sides[0, 0] < a < sides[1, 0] and sides[0, 1] < b < sides[1, 1]


@numba.njit(cache=True, nogil=True)
def _sort(cluster, clusters):  # type: ignore[no-untyped-def]
    first = np.zeros(clusters + 1, np.int32)
    for k in cluster:
        if k >= 0:
            first[k + 1] += 1
    for k in range(clusters):
        first[k + 1] += first[k]
    place = first[:-1].copy()
    order = np.empty(first[-1], np.int32)
    for i in range(len(cluster)):
        if cluster[i] >= 0:
            order[place[cluster[i]]] = i
            place[cluster[i]] += 1
    return order, first


@numba.njit(cache=True, nogil=True)
def _closeness(points, chosen, angle):  # type: ignore[no-untyped-def]
    """How near the chosen points lie to the edges of their box in this direction: the sum of 1 / distance."""
    cos, sin = math.cos(angle), math.sin(angle)
    low_a = low_b = np.inf
    high_a = high_b = -np.inf
    for i in chosen:
        a = cos * points[i, 0] + sin * points[i, 1]
        b = cos * points[i, 1] - sin * points[i, 0]
        low_a, high_a = min(low_a, a), max(high_a, a)
        low_b, high_b = min(low_b, b), max(high_b, b)
    total = 0.0
    for i in chosen:
        a = cos * points[i, 0] + sin * points[i, 1]
        b = cos * points[i, 1] - sin * points[i, 0]
        edge = min(min(a - low_a, high_a - a), min(b - low_b, high_b - b))
        total += 1.0 / max(edge, _NEAREST)
    return total


@numba.njit(cache=True, nogil=True)
def _direction(points, chosen):  # type: ignore[no-untyped-def]
    """The best direction in a right angle: coarsely, then between its neighbours."""
    step = 0.5 * math.pi / _COARSE
    best, angle = -1.0, 0.0
    for k in range(_COARSE):
        score = _closeness(points, chosen, k * step)
        if score > best:
            best, angle = score, k * step
    middle = angle
    for k in range(1 - _FINE, _FINE):
        score = _closeness(points, chosen, middle + k * step / _FINE)
        if score > best:
            best, angle = score, middle + k * step / _FINE
    return angle


@numba.njit(cache=True, nogil=True)
def _complete(low, high, wanted):  # type: ignore[no-untyped-def]
    """Lengthen an interval away from the LiDAR, which is at 0; both ways where the LiDAR looks at its middle."""
    missing = wanted - (high - low)
    if missing <= 0.0:
        return low, high
    if low > 0.0:
        return low, high + missing
    if high < 0.0:
        return low - missing, high
    return low - 0.5 * missing, high + 0.5 * missing


@numba.njit(cache=True, nogil=True)
def _fit_all(points, order, first, size, ground):  # type: ignore[no-untyped-def]
    boxes = np.empty((len(first) - 1, 10))
    for k in range(len(first) - 1):
        mine = order[first[k] : first[k + 1]]
        angle = _direction(points, mine[:: max(1, (len(mine) + _SAMPLE - 1) // _SAMPLE)])
        cos, sin = math.cos(angle), math.sin(angle)
        low_a = low_b = low_z = np.inf
        high_a = high_b = high_z = -np.inf
        for i in mine:
            a = cos * points[i, 0] + sin * points[i, 1]
            b = cos * points[i, 1] - sin * points[i, 0]
            z = np.float64(points[i, 2])
            low_a, high_a = min(low_a, a), max(high_a, a)
            low_b, high_b = min(low_b, b), max(high_b, b)
            low_z, high_z = min(low_z, z), max(high_z, z)
        length, width, height = size[k]
        a, b = high_a - low_a, high_b - low_b
        along_a = a >= b
        middle_a, middle_b = 0.5 * (low_a + high_a), 0.5 * (low_b + high_b)
        if max(a, b) < _END * width:  # an end alone is seen: its side runs away from the LiDAR
            along_a = abs(middle_a) >= abs(middle_b)
        boxes[k, 7], boxes[k, 8] = cos * middle_a - sin * middle_b, sin * middle_a + cos * middle_b
        low_a, high_a = _complete(low_a, high_a, length if along_a else width)
        low_b, high_b = _complete(low_b, high_b, width if along_a else length)
        floor, lowest = below(ground, boxes[k, 7], boxes[k, 8])
        boxes[k, 9] = (
            np.inf if math.isnan(floor) else max(high_z - low_z, min(abs(high_z - floor), abs(high_z - lowest)))
        )
        if high_z - floor < _TALLEST * height:
            low_z = min(low_z, floor)
            high_z = max(high_z, low_z + height)
        else:
            low_z = min(low_z, high_z - height)
        middle_a, middle_b = 0.5 * (low_a + high_a), 0.5 * (low_b + high_b)
        boxes[k, 0] = cos * middle_a - sin * middle_b
        boxes[k, 1] = sin * middle_a + cos * middle_b
        boxes[k, 2] = 0.5 * (low_z + high_z)
        boxes[k, 3] = high_a - low_a if along_a else high_b - low_b
        boxes[k, 4] = high_b - low_b if along_a else high_a - low_a
        boxes[k, 5] = high_z - low_z
        yaw = angle if along_a else angle - 0.5 * math.pi
        boxes[k, 6] = yaw - math.pi if yaw > 0.5 * math.pi else yaw
    return boxes
