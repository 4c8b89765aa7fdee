"""Carries the points of a sweep from the instants they were measured to the instants of the images.

Points are moved once (deskewed) into the LiDAR's frame at the sweep's stamp; from there one rigid transform leads
through the fixed frame to each camera at its exposure. The composition is the same as carrying each point straight to
each camera, at the cost of one pass. Moved points lie in memory all x, all y, all z (`columns`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.borrowing import borrowed
from seg_perception.config import MotionConfig
from seg_perception.datatypes import LidarScan
from seg_perception.errors import TransformError
from seg_perception.geometry.columns import BLOCK, by_axis, split
from seg_perception.geometry.transform_tree import TransformTree
from seg_perception.geometry.transforms import compose, inverse

INSTANTS = 4096
"""So many poses are asked for at most in a sweep; a point takes the one nearest to its own instant. In 100 ms that is
12 us off at most: 0.4 mm at 30 m/s, and 2.4 mm at 100 m when turning by 2 rad/s, a tenth of a LiDAR's own noise."""


def deskew(scan: LidarScan, tree: TransformTree, fixed_frame: str) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """(N, 3): where each point was, seen from the LiDAR as it stood at `scan.stamp_ns`, metres; and how it stood then:
    `T_fixed_lidar`, (4, 4).

    A scan without per-point stamps stays as it is: one stamp stands for all its points.
    Raises TransformError where the tree cannot say how the LiDAR stood in `fixed_frame` at any of those instants.
    """
    if scan.stamps_ns is None or len(scan) == 0:
        return by_axis(scan.points).T, tree.T(fixed_frame, scan.frame_id, scan.stamp_ns)
    points, moved = np.ascontiguousarray(scan.points), np.empty((3, len(scan)), np.float32)
    stamps_ns, first, which = _instants(scan.stamps_ns)
    T_fixed_each = tree.T(fixed_frame, scan.frame_id, np.append(stamps_ns, scan.stamp_ns))
    T_fixed_lidar = T_fixed_each[-1]
    T_sweep_point = compose(inverse(T_fixed_lidar), T_fixed_each[:-1])
    if which is None:
        _move_runs(T_sweep_point, first, points, moved)
    else:
        _move_each(T_sweep_point, which, points, moved)
    return moved.T, T_fixed_lidar


def _instants(
    stamps_ns: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32] | None]:
    """(K,) stamps, and which of them is a point's own: exactly, where points that were fired together follow one
    another or are few; the nearest of `INSTANTS` where each point has a time of its own.

    Where points come in the order of time, (K + 1,) says with which point each stamp begins, and where the last one
    ends; else (N,) says of each point which stamp it has.
    """
    count, most = len(stamps_ns), min(len(stamps_ns) // 8, INSTANTS)
    first = np.empty(most + 1, np.int32)
    runs = _runs(stamps_ns, first)
    if runs:
        return stamps_ns[first[:runs]], first[: runs + 1], None
    if count <= INSTANTS:
        stamps, order = np.unique(stamps_ns, return_inverse=True)
        return stamps, first[:0], order.astype(np.int32)
    first_ns, last_ns = int(stamps_ns.min()), int(stamps_ns.max())
    step_ns = (last_ns - first_ns) // INSTANTS + 1
    middles = first_ns + step_ns // 2 + step_ns * np.arange(INSTANTS, dtype=np.int64)
    middles = np.minimum(middles, last_ns)  # nothing later than the last point is asked for: /tf may not know it yet
    first = np.empty(INSTANTS + 1, np.int32)
    if _steps(stamps_ns, first_ns, step_ns, first):
        return middles, first, None
    return middles, first[:0], ((stamps_ns - first_ns) // step_ns).astype(np.int32)


@numba.njit(cache=True, nogil=True)
def _runs(stamps_ns, first):  # type: ignore[no-untyped-def]
    """Where runs of equal stamps begin, and where the last one ends, into first (K,); how many there are, 0 where they
    are K or more."""
    count, i, end, length = 0, 0, stamps_ns.shape[0], 1
    while i < end:
        if count == first.shape[0] - 1:
            return 0
        first[count] = i
        count += 1
        stamp_ns, others = stamps_ns[i], np.int64(0)
        if i + length <= end:  # most runs are as long as the one before, and that is asked of many at a time
            for k in range(i, i + length):
                others |= stamps_ns[np.uint32(k)] ^ stamp_ns
            i += length if others == 0 else 1
        else:
            i += 1
        while i < end and stamps_ns[np.uint32(i)] == stamp_ns:
            i += 1
        length = i - first[count - 1]
    first[count] = end
    return count


def warm_up() -> None:
    """Compile what sweeps need whose points are more than instants that are asked for."""
    _instants(np.arange(INSTANTS + 1, dtype=np.int64))


@numba.njit(cache=True, nogil=True)
def _steps(stamps_ns, first_ns, step_ns, first):  # type: ignore[no-untyped-def]
    """With which point each step of time begins, and where the last one ends, into first (K + 1,); False where points
    do not follow one another in time."""
    step, until_ns, before_ns = 0, first_ns, first_ns
    for i in range(stamps_ns.shape[0]):
        stamp_ns = stamps_ns[i]
        if stamp_ns < before_ns:
            return False
        while stamp_ns >= until_ns:
            first[step] = i
            step, until_ns = step + 1, until_ns + step_ns
        before_ns = stamp_ns
    first[step:] = stamps_ns.shape[0]
    return True


class MovedSweep:
    """A sweep's points at one instant, and the way from there to each camera, by the configured mode.

    points: (N, 3) float32 in the LiDAR's frame at the sweep's stamp, all x first in memory. Where the fixed frame
    cannot be reached, mode `auto` assumes that nothing moved and leaves the reason in `fallback`; mode `required`
    raises TransformError.
    """

    def __init__(self, scan: LidarScan, tree: TransformTree, config: MotionConfig) -> None:
        self.kind = "static"  # or "per_sweep", "per_point"
        self.fallback = ""
        self._scan, self._tree, self._config = scan, tree, config
        self.stamp_ns, self.lidar = scan.stamp_ns, scan.lidar
        self._T_fixed_lidar = np.eye(4)  # where it is known, which `kind` says
        self.points = self._moved()

    def _moved(self) -> NDArray[np.float32]:
        scan = self._scan
        if self._config.mode != "static":
            try:
                moved, self._T_fixed_lidar = deskew(scan, self._tree, self._config.fixed_frame)
                self.kind = "per_sweep" if scan.stamps_ns is None else "per_point"
                return moved
            except TransformError as error:
                self._fall_back(error)
        return by_axis(scan.points).T

    def stamps_ns(self, index: NDArray[np.int32]) -> NDArray[np.int64]:
        """(K,) when those points were measured, as far as the LiDAR says."""
        stamps_ns = self._scan.stamps_ns
        return np.full(len(index), self._scan.stamp_ns) if stamps_ns is None else stamps_ns[index]

    def T_fixed_lidar(self) -> NDArray[np.float64]:
        """(4, 4): from `points` to the fixed frame, whatever the mode. Raises TransformError."""
        return self.T_frame_lidar(self._config.fixed_frame) if self.kind == "static" else self._T_fixed_lidar

    def T_frame_lidar(self, frame_id: str) -> NDArray[np.float64]:
        """(4, 4): from `points` to any frame at the same instant. Raises TransformError."""
        return self._tree.T(frame_id, self._scan.frame_id, self._scan.stamp_ns)

    def T_cam_lidar(self, frame_id: str, stamp_ns: int) -> NDArray[np.float64]:
        """(4, 4): from `points` to the optical frame `frame_id` at the image's stamp. Raises TransformError."""
        scan, tree = self._scan, self._tree
        if self.kind != "static":
            try:
                return self._T_through_fixed(frame_id, stamp_ns)
            except TransformError as error:
                self._fall_back(error)
        return tree.T(frame_id, scan.frame_id, scan.stamp_ns)

    def T_cam_lidar_rows(
        self, frame_id: str, stamp_ns: int, readout_ns: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """`T_cam_lidar` at the first and at the last row of a rolling shutter; the stamp is that of the middle one.

        None where all rows are exposed at once, or where it is not known how the camera moved meanwhile; mode
        `required` raises TransformError then.
        """
        if readout_ns == 0 or self.kind == "static":
            return None
        first_ns = stamp_ns - readout_ns // 2
        try:
            first, last = (self._T_through_fixed(frame_id, row_ns) for row_ns in (first_ns, first_ns + readout_ns))
        except TransformError as error:
            self._fall_back(error)
            return None
        return first, last

    def _T_through_fixed(self, frame_id: str, stamp_ns: int) -> NDArray[np.float64]:
        """As `TransformTree.T_fixed`; how the LiDAR stood is asked once for all cameras."""
        T_cam_fixed = self._tree.T(frame_id, self._config.fixed_frame, stamp_ns)
        return compose(T_cam_fixed, self._T_fixed_lidar)

    def _fall_back(self, error: TransformError) -> None:
        if self._config.mode == "required":
            raise error
        self.fallback = str(error)


def awaits_transforms(
    scan: LidarScan, images: Mapping[str, int], tree: TransformTree, config: MotionConfig, hopeful: bool = False
) -> bool:
    """Whether the tree holds the ways that this sweep needs, but not yet up to the newest instants of it.

    images: the newest instant of each optical frame that is needed. True means: wait a little and /tf will have come.
    False: everything is there, or waiting would not help. hopeful: /tf has only begun to come, so that a camera which
    nothing connects with the LiDAR may be connected yet, and in mode `required` the fixed frame as well.
    """
    last_point_ns = scan.stamp_ns if scan.stamps_ns is None or len(scan) == 0 else int(scan.stamps_ns.max())
    needed_ns = {**images, scan.frame_id: max(scan.stamp_ns, last_point_ns, images.get(scan.frame_id, 0))}
    for frame, newest_ns in needed_ns.items() if config.mode != "static" else ():
        latest_ns = _latest_ns(tree, config.fixed_frame, frame)
        if latest_ns is None:
            if hopeful and config.mode == "required":
                return True
        elif 0 < latest_ns < newest_ns - round(config.tolerance_ms * 1e6):
            return True
    return hopeful and any(_latest_ns(tree, scan.frame_id, frame) is None for frame in images)


def _latest_ns(tree: TransformTree, target: str, source: str) -> int | None:
    """As `latest_common_ns`; None where nothing connects the two."""
    try:
        return tree.latest_common_ns(target, source)
    except TransformError:
        return None


@numba.njit(cache=True, nogil=True)
def _move_runs(poses, first, points, moved):  # type: ignore[no-untyped-def]
    """Points (N, 3) from first[k] to first[k + 1] by pose k of (K, 4, 4) float64, into moved (3, N)."""
    poses, first, points, moved = borrowed((poses, first, points, moved))
    columns, run, one = np.empty((3, BLOCK), np.float32), np.uint32(0), np.uint32(1)
    x, y, z = columns[0], columns[1], columns[2]
    for begin in range(0, points.shape[0], BLOCK):
        end = min(begin + BLOCK, points.shape[0])
        split(points[begin:end], x, y, z)
        X, Y, Z = moved[0, begin:end], moved[1, begin:end], moved[2, begin:end]
        at = begin
        while at < end:
            while first[run + one] <= at:
                run += one
            to = min(end, first[run + one])
            _move_run(poses, run, np.uint32(at - begin), np.uint32(to - begin), x, y, z, X, Y, Z)
            at = to


@numba.njit(cache=True, nogil=True, inline="always")
def _move_run(poses, run, begin, end, x, y, z, X, Y, Z):  # type: ignore[no-untyped-def]
    """A few points by one pose. No slice is made and no number of the pose looked up again: either takes longer than to
    move them."""
    xx, xy, xz, xt = poses[run, 0, 0], poses[run, 0, 1], poses[run, 0, 2], poses[run, 0, 3]
    yx, yy, yz, yt = poses[run, 1, 0], poses[run, 1, 1], poses[run, 1, 2], poses[run, 1, 3]
    zx, zy, zz, zt = poses[run, 2, 0], poses[run, 2, 1], poses[run, 2, 2], poses[run, 2, 3]
    for k in range(begin, end):
        X[k] = xx * x[k] + xy * y[k] + xz * z[k] + xt
        Y[k] = yx * x[k] + yy * y[k] + yz * z[k] + yt
        Z[k] = zx * x[k] + zy * y[k] + zz * z[k] + zt


@numba.njit(cache=True, nogil=True)
def _move_each(poses, which, points, moved):  # type: ignore[no-untyped-def]
    """The same, each point by pose which (N,) says."""
    for i in range(points.shape[0]):
        w, x, y, z = np.uint32(which[i]), points[i, 0], points[i, 1], points[i, 2]
        for row in range(3):
            moved[row, i] = poses[w, row, 0] * x + poses[w, row, 1] * y + poses[w, row, 2] * z + poses[w, row, 3]
