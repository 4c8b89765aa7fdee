"""Clusters set right by what is known already: things that run together are parted, parts of one thing are joined.

Of one sweep alone nobody can tell whether two parked bicycles that touch are two, or whether the halves of a bus to
both sides of a lamp post are one. The boxes in which things should be now, as they were seen before, tell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

NO_TRACK = -1

_MARGIN = 0.3  # m around a box; what lies in it may be a part of its thing
_PART = 0.2  # share of a cluster's points that lie in a box from which on its thing is a part of the cluster
_JOIN = 0.5  # the same, from which on the cluster is a part of the thing
_APART = 1.6  # half sides that the middles of two boxes lie from each other at least, where a cluster is parted by them


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """T things that should be in a sweep, in columns. track_id: (T,) int32. class_id: (T,) uint8. centre: (T, 2), size:
    (T, 2) length and width, yaw: (T,) of their boxes in the fixed frame.
    """

    track_id: NDArray[np.int32]
    class_id: NDArray[np.uint8]
    centre: NDArray[np.float64]
    size: NDArray[np.float64]
    yaw: NDArray[np.float64]


def regroup(
    xy: NDArray[np.float32],
    group: NDArray[np.uint8],
    told: NDArray[np.bool_],
    cluster: NDArray[np.int32],
    clusters: int,
    expected: Expected,
    expected_group: NDArray[np.uint8],
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(M,) new cluster of each point, -1 where it had none; and (K,) the track that each is expected to be, NO_TRACK.

    A cluster in which things of its group stand apart from each other is parted among them, each point to the nearest.
    One that lies mostly in a single box becomes that thing, together with all others that do. What images tell apart
    stays as it is and is only recognised.

    xy: (M, 2) metres; `expected.centre` counts from the same place. group: (M,) of each point, expected_group: (T,).
    told: (M,) whether an image tells its instance. cluster: (M,) below `clusters`, or -1.
    """
    points, kind, fixed, low, high = _describe(xy, group, told, cluster, clusters)
    half = 0.5 * expected.size + _MARGIN
    axis = np.column_stack([np.cos(expected.yaw), np.sin(expected.yaw)])
    near = (kind[:, None] == expected_group[None]) & (
        abs(expected.centre[None] - 0.5 * (low + high)[:, None])
        < 0.5 * (high - low)[:, None] + np.hypot(half[:, 0], half[:, 1])[None, :, None]
    ).all(axis=2)
    boxes = expected.centre, half, axis
    inside, nearest = _count(xy, cluster, near, *boxes)
    parts = nearest >= _PART * points[:, None]
    parts &= (nearest > 0) & ~fixed[:, None] & (parts.sum(axis=1, keepdims=True) > 1)
    _leave_apart(parts, nearest, *boxes)
    parts &= parts.sum(axis=1, keepdims=True) > 1
    most = inside * (points[:, None] + 1) + nearest  # of boxes that hold as many, the one that they are nearer to
    whole = most.argmax(axis=1) if inside.shape[1] else np.zeros(clusters, np.int64)
    whole[inside.max(axis=1, initial=0) < np.maximum(_JOIN * points, 1)] = NO_TRACK
    number, of_cluster = _number(parts, whole, fixed)
    renumbered = _renumber(xy, cluster, parts, number, *boxes)
    return renumbered, np.append(expected.track_id, NO_TRACK)[of_cluster].astype(np.int32)


@numba.njit(cache=True, nogil=True)
def _describe(xy, group, told, cluster, clusters):  # type: ignore[no-untyped-def]
    """Of each cluster: how many points, which group, whether images tell of it, and the corners around it."""
    points, kind = np.zeros(clusters, np.int64), np.zeros(clusters, np.uint8)
    fixed = np.zeros(clusters, np.bool_)
    low, high = np.full((clusters, 2), np.inf), np.full((clusters, 2), -np.inf)
    for i in range(len(xy)):
        k = cluster[i]
        if k >= 0:
            points[k] += 1
            kind[k] = group[i]
            fixed[k] |= told[i]
            for a in range(2):
                low[k, a], high[k, a] = min(low[k, a], xy[i, a]), max(high[k, a], xy[i, a])
    return points, kind, fixed, low, high


@numba.njit(cache=True, nogil=True, inline="always")
def _off(x, y, centre, half, axis, e):  # type: ignore[no-untyped-def]
    """How far a place is from the middle of a box, in its half sides; below 1 inside."""
    dx, dy = x - centre[e, 0], y - centre[e, 1]
    along, across = axis[e, 0] * dx + axis[e, 1] * dy, axis[e, 0] * dy - axis[e, 1] * dx
    return max(abs(along) / half[e, 0], abs(across) / half[e, 1])


@numba.njit(cache=True, nogil=True)
def _count(xy, cluster, near, centre, half, axis):  # type: ignore[no-untyped-def]
    """(K, T) points of each cluster that lie in each box; and those of them to which no other box is nearer."""
    inside, nearest = np.zeros(near.shape, np.int64), np.zeros(near.shape, np.int64)
    of_cluster, things = np.nonzero(near)
    first = np.searchsorted(of_cluster, np.arange(len(near) + 1))
    for i in range(len(xy)):
        k = cluster[i]
        if k < 0:
            continue
        best, least = 0, 1.0
        for e in things[first[k] : first[k + 1]]:
            off = _off(xy[i, 0], xy[i, 1], centre, half, axis, e)
            inside[k, e] += off < 1.0
            if off < least:
                best, least = e, off
        if least < 1.0:
            nearest[k, best] += 1
    return inside, nearest


@numba.njit(cache=True, nogil=True)
def _leave_apart(parts, nearest, centre, half, axis):  # type: ignore[no-untyped-def]
    """Of any two parts of a cluster whose boxes overlap leave the one that holds more points."""
    for k in range(len(parts)):
        for e in np.argsort(-nearest[k]):
            if not parts[k, e]:
                continue
            for f in range(parts.shape[1]):
                if f != e and parts[k, f] and nearest[k, f] <= nearest[k, e]:
                    there = _off(centre[f, 0], centre[f, 1], centre, half, axis, e)
                    back = _off(centre[e, 0], centre[e, 1], centre, half, axis, f)
                    if min(there, back) < _APART:
                        parts[k, f] = False


@numba.njit(cache=True, nogil=True)
def _number(parts, whole, fixed):  # type: ignore[no-untyped-def]
    """(K, T + 1) new number of each part of a cluster, the last that of a cluster which stays whole; and the thing that
    each number is, -1.
    """
    clusters, things = parts.shape
    number = np.full((clusters, things + 1), -1, np.int32)
    of_thing = np.full(things, -1, np.int32)
    is_thing = np.full(clusters + things, -1, np.int64)
    found = 0
    for k in range(clusters):
        for e in range(things + 1):
            split = parts[k].any()
            if (e < things and not parts[k, e]) or (e == things and split):
                continue
            thing = e if e < things else whole[k]
            if thing >= 0 and not fixed[k] and of_thing[thing] >= 0:
                number[k, e] = of_thing[thing]
                continue
            number[k, e] = found
            is_thing[found] = thing
            if thing >= 0 and not fixed[k]:
                of_thing[thing] = found
            found += 1
    return number, is_thing[:found]


@numba.njit(cache=True, nogil=True)
def _renumber(xy, cluster, parts, number, centre, half, axis):  # type: ignore[no-untyped-def]
    things = parts.shape[1]
    renumbered = np.empty_like(cluster)
    for i in range(len(xy)):
        k = cluster[i]
        if k < 0:
            renumbered[i] = -1
            continue
        best, least = things, np.inf
        if number[k, things] < 0:
            for e in range(things):
                if parts[k, e]:
                    off = _off(xy[i, 0], xy[i, 1], centre, half, axis, e)
                    if off < least:
                        best, least = e, off
        renumbered[i] = number[k, best]
    return renumbered
