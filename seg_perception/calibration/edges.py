"""Where depth jumps in a sweep, and where brightness does in a picture: a right calibration lays one on the other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numba
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

CHANNELS = 4  # directions in which brightness is derived, 45 degrees apart
_NEIGHBOURS = 12
_REACH = 2.5  # neighbours further away than so many times the usual spacing are none
_JUMP = 0.06  # least step of inverse range, relative
_STEEPER = 3.0  # a step is this much larger than what the surface recedes on its near side
_SAME_M, _SAME = 0.1, 0.015  # neighbours whose ranges differ by less, and by less of the range, lie on one thing
_COMPANY = 2  # points of a thing have so many such neighbours; leaves and mixed echoes have not
_NEAREST_M, _FARTHEST_M = 2.5, 80.0  # nearer is the vehicle itself
_LOCAL_DEG = 1.5  # around a pixel, within which its contrast is compared
_CONTRAST = 2.0  # grey levels a pixel below which there is no edge
_BORDER = 5  # pixels of a picture in which edges are not believed
_STRONGEST = 4.0  # times the local contrast; beyond it an edge is no better


@dataclass(frozen=True, slots=True, eq=False)
class LidarEdges:
    """Silhouettes of near things in one sweep.

    index: (N,) int64 of the sweep's points, each the last one on its thing. middle, beyond: (N, 3) float64, metres in
    the LiDAR's frame at that point's range, halfway to its neighbour that lies further away, and all the way: the
    silhouette is somewhere around the middle, and runs across the line from one to the other.
    """

    index: NDArray[np.int64]
    middle: NDArray[np.float64]
    beyond: NDArray[np.float64]


def lidar_edges(points: NDArray[np.float32]) -> LidarEdges:
    """Find them among points (N, 3) as they were measured, not deskewed: neighbours are found by direction.

    A slanted surface is none: inverse range is linear in the angle on a plane, so a step only counts where it is much
    larger than the one on the other side of the point.
    """
    valid = np.flatnonzero(np.isfinite(points).all(axis=1) & (points != 0.0).any(axis=1))
    if len(valid) <= _NEIGHBOURS:
        return LidarEdges(valid[:0], np.empty((0, 3)), np.empty((0, 3)))
    seen = points[valid].astype(np.float64)
    ranges = np.linalg.norm(seen, axis=1)
    directions = seen / ranges[:, None]
    gaps, neighbours = cKDTree(directions).query(directions, _NEIGHBOURS + 1)
    reach = _REACH * float(np.median(gaps[:, 1]))
    company = (np.abs(ranges[neighbours] - ranges[:, None]) < (_SAME_M + _SAME * ranges)[:, None]).sum(axis=1) - 1
    solid = (company >= _COMPANY) & (ranges > _NEAREST_M) & (ranges < _FARTHEST_M)
    found = _steps(directions, 1.0 / ranges, solid, neighbours.astype(np.int64), reach)
    here = np.flatnonzero(found >= 0)
    one, other = directions[here], directions[found[here]]
    middle = one + other
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    return LidarEdges(valid[here], middle * ranges[here, None], other * ranges[here, None])


@numba.njit(cache=True, nogil=True)
def _steps(directions, nearness, solid, neighbours, reach):  # type: ignore[no-untyped-def]
    """(N,) the nearest neighbour across a step away from the sensor, -1 where there is none."""
    found = np.full(len(directions), -1, np.int64)
    for i in range(len(directions)):
        if not solid[i]:
            continue
        for k in range(1, neighbours.shape[1]):
            j = neighbours[i, k]
            a = directions[j] - directions[i]
            gap = math.sqrt(a @ a)
            if gap > reach:
                break
            step = nearness[i] - nearness[j]
            if gap == 0.0 or not solid[j] or step < _JUMP * nearness[i]:
                continue
            slope, least, last = -1.0, -0.7, True
            for m in range(1, neighbours.shape[1]):
                b = directions[neighbours[i, m]] - directions[i]
                size = math.sqrt(b @ b)
                if size == 0.0:
                    continue
                cosine = (a @ b) / (gap * size)
                recedes = nearness[i] - nearness[neighbours[i, m]]
                if cosine > 0.9 and size < gap and recedes < _JUMP * nearness[i]:
                    last = False  # its thing goes on that way
                    break
                if cosine < least:
                    slope, least = max(-recedes, 0.0) * gap / size, cosine
            if last and slope >= 0.0 and step > _STEEPER * slope:
                found[i] = j
                break
    return found


def image_edges(pixels: NDArray[np.uint8], px_per_deg: float) -> NDArray[np.float32]:
    """(CHANNELS, H, W): how strongly brightness changes across each direction, relative to its surroundings.

    Channel c derives along (cos, sin)(c * 180 / CHANNELS degrees) of (u, v).
    """
    grey = cv2.GaussianBlur(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 1.0)
    across, down = cv2.Scharr(grey, cv2.CV_32F, 1, 0, scale=1 / 32), cv2.Scharr(grey, cv2.CV_32F, 0, 1, scale=1 / 32)
    side = 2 * round(_LOCAL_DEG * px_per_deg / 2) + 1
    around = cv2.blur(np.hypot(across, down), (side, side)) + _CONTRAST
    angles = np.arange(CHANNELS) * math.pi / CHANNELS
    steps = [np.abs(math.cos(angle) * across + math.sin(angle) * down) / around for angle in angles]
    edges = np.minimum(np.array(steps, np.float32), _STRONGEST)
    for border in (edges[:, :_BORDER], edges[:, -_BORDER:], edges[:, :, :_BORDER], edges[:, :, -_BORDER:]):
        border[:] = 0.0
    return edges
