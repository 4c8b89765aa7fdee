"""One edge of the transform tree over time: the samples of one child frame, and its pose at many stamps at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import FarStampError, StampError
from seg_perception.geometry.transforms import Float64Array, compose, multiply

StampsNs = NDArray[np.int64]

HERE = np.eye(4)
"""Where a climb begins: what is carried onto it need not be multiplied."""

ANY_TIME = int(np.iinfo(np.int64).max)
"""The newest stamp of an edge that holds for ever."""


def seconds(stamp_ns: int) -> str:
    """Nanoseconds as seconds with all nine digits after the point, exactly."""
    whole, fraction = divmod(abs(stamp_ns), 1_000_000_000)
    return f"{'-' if stamp_ns < 0 else ''}{whole}.{fraction:09d}"


class Query:
    """What is asked of every edge between two frames: `T_target_source` at (N,) stamps, N > 0.

    rows: where these stamps stand in the answer; all of it, unless the query is part of one that was split.
    """

    __slots__ = ("first_ns", "last_ns", "rows", "source", "stamps", "target", "tolerance_ns")

    def __init__(
        self,
        target: str,
        source: str,
        stamps: StampsNs,
        tolerance_ns: int,
        rows: slice | NDArray[np.intp] = slice(None),
    ) -> None:
        self.target, self.source, self.stamps, self.tolerance_ns = target, source, stamps, tolerance_ns
        self.rows = rows
        alone = stamps.size == 1
        self.first_ns, self.last_ns = (int(stamps[0]),) * 2 if alone else (int(stamps.min()), int(stamps.max()))

    def split(self, stamp_ns: int) -> tuple[Query, Query]:
        """The stamps before this one, and those from it on."""
        rows = np.arange(self.stamps.size)[self.rows] if isinstance(self.rows, slice) else self.rows
        early = self.stamps < stamp_ns
        before, after = (
            Query(self.target, self.source, self.stamps[half], self.tolerance_ns, rows[half])
            for half in (early, ~early)
        )
        return before, after

    def __str__(self) -> str:
        last = f" .. {seconds(self.last_ns)}" if self.last_ns != self.first_ns else ""
        return f"{self.target!r} <- {self.source!r} at {seconds(self.first_ns)}{last} s"


class ParentChange(Exception):  # noqa: N818  not an error: whoever asks splits the query there and asks again
    """An edge hangs below another parent from `stamp_ns` on, in the midst of the stamps asked for."""

    def __init__(self, stamp_ns: int) -> None:
        super().__init__(stamp_ns)
        self.stamp_ns = stamp_ns


@dataclass(frozen=True, slots=True)
class EdgeSpan:
    """What the tree holds of one edge. Stamps are None for a static edge, and for one that was cleared."""

    parent: str
    child: str
    static: bool
    samples: int
    oldest_ns: int | None
    newest_ns: int | None

    def __str__(self) -> str:
        if self.static:
            held = "static"
        elif self.oldest_ns is None or self.newest_ns is None:
            held = "no sample since the last clear"
        else:
            held = f"{self.samples} samples, {seconds(self.oldest_ns)} .. {seconds(self.newest_ns)} s"
        return f"{self.parent} -> {self.child}: {held}"


class StaticEdge:
    """One pose for all time; its own link."""

    static = True
    newest_ns = ANY_TIME

    def __init__(self, parent: str, T_parent_child: Float64Array) -> None:
        self.parent = self.newest_parent = parent
        self._T_parent_child = T_parent_child

    def clear(self) -> None:
        """Nothing to forget."""

    def parent_at(self, _stamp_ns: int) -> str:
        return self.parent

    def parent_about(self, _stamp_ns: int) -> str:
        return self.parent

    def covers(self, _query: Query) -> bool:
        return True

    def link(self, _query: Query) -> StaticEdge:
        return self

    def onto(self, T_child_source: Float64Array, _query: Query) -> Float64Array:
        """`T_parent_source`, of the shape that T_child_source has."""
        return self._T_parent_child if T_child_source is HERE else compose(self._T_parent_child, T_child_source)

    def span(self, child: str) -> EdgeSpan:
        return EdgeSpan(self.parent, child, True, 1, None, None)


_SAMPLE = np.dtype([("translation", "f8", 3), ("quat_xyzw", "f8", 4), ("parent", "O")])
_FIRST_CAPACITY = 16
_SILENT_NS = 1_000_000_000  # further from its samples than this an edge closes no loop
CONVINCED = 10
"""After so many samples in a row from another time a wary edge believes that this is the time now."""


class MovingEdge:
    """The samples of one child in order of stamp, in a buffer that grows at its end and is trimmed at its front.

    Of samples with equal stamps the first and the last inserted are kept, because tf2's answers need both: up to the
    stamp it interpolates towards the first, at the stamp and from there on the last counts; only at the very oldest
    stamp of the cache it is the first again. With another parent, the last alone is kept.
    """

    static = False

    def __init__(self, cache_ns: int | None, wary: bool = False) -> None:
        self._cache_ns = cache_ns
        self._wary = wary
        self._last_parent = ""
        self.clear()

    def clear(self) -> None:
        """Forget every sample."""
        self._stamps = np.empty(_FIRST_CAPACITY, np.int64)
        self._samples = np.empty(_FIRST_CAPACITY, _SAMPLE)
        self._begin = self._end = 0
        self._strangers = 0  # samples in a row that a wary edge refused
        self._reparented = False

    def insert(self, stamp_ns: int, translation: Sequence[float], quat_xyzw: Sequence[float], parent: str) -> None:
        """Trim what is older than the cache keeps, and put this sample in its place; one that old itself: StampError.

        As in tf2, age is counted from the newest sample before this one. A wary edge, unlike tf2, does not let one
        sample stamped far ahead push all the others out: FarStampError, until `CONVINCED` in a row say so.
        """
        if self._wary and self._end > self._begin and self._cache_ns is not None:
            self._doubt(stamp_ns, self._cache_ns)
        if self._end > self._begin and self._cache_ns is not None:
            kept_from_ns = self.newest_ns - self._cache_ns
            if stamp_ns < kept_from_ns:
                newest = f"the newest is {seconds(self.newest_ns)} s"
                raise StampError(f"stamp {seconds(stamp_ns)} s: {newest} and {seconds(self._cache_ns)} s are kept")
            if self._stamps[self._begin] < kept_from_ns:
                self._begin += int(np.searchsorted(self.stamps, kept_from_ns, "left"))
        self._reparented |= self._end > self._begin and parent != self._last_parent
        self._last_parent = parent
        sample = (translation, quat_xyzw, parent)
        at = self._begin + int(np.searchsorted(self.stamps, stamp_ns, "right"))
        equal = at - self._begin - int(np.searchsorted(self.stamps, stamp_ns, "left"))
        if equal and self._samples[at - 1]["parent"] != parent:
            self._samples[at - equal : at] = np.array(sample, _SAMPLE)
        elif equal == 2:
            self._samples[at - 1] = sample
        else:
            at = self._open_gap(at)
            self._stamps[at], self._samples[at] = stamp_ns, sample

    def _doubt(self, stamp_ns: int, cache_ns: int) -> None:
        """Refuse a stamp further from the newest than the cache reaches; begin anew once `CONVINCED` came in a row."""
        ahead_ns = stamp_ns - self.newest_ns
        if abs(ahead_ns) <= cache_ns:
            self._strangers = 0
            return
        self._strangers += 1
        if self._strangers < CONVINCED:
            side = "ahead of" if ahead_ns > 0 else "behind"
            raise FarStampError(
                f"stamp {seconds(stamp_ns)} s: {seconds(abs(ahead_ns))} s {side} the newest, at most "
                f"{seconds(cache_ns)} s wanted; is the clock of its sender right?"
            )
        self.clear()

    def _open_gap(self, at: int) -> int:
        """Make room for one sample before index `at`; returns the index of the gap."""
        if self._end == self._stamps.size:
            stamps, samples = self.stamps, self.samples
            capacity = max(_FIRST_CAPACITY, 2 * stamps.size)
            self._stamps, self._samples = np.empty(capacity, np.int64), np.empty(capacity, _SAMPLE)
            self._stamps[: stamps.size], self._samples[: stamps.size] = stamps, samples
            at, self._begin, self._end = at - self._begin, 0, stamps.size
        if at < self._end:
            self._stamps[at + 1 : self._end + 1] = self._stamps[at : self._end]
            self._samples[at + 1 : self._end + 1] = self._samples[at : self._end]
        self._end += 1
        return at

    @property
    def stamps(self) -> StampsNs:
        return self._stamps[self._begin : self._end]

    @property
    def samples(self) -> NDArray[np.void]:
        return self._samples[self._begin : self._end]

    @property
    def newest_ns(self) -> int:
        return int(self._stamps[self._end - 1])

    @property
    def newest_parent(self) -> str | None:
        return self.parent_at(ANY_TIME)

    def parent_at(self, stamp_ns: int) -> str | None:
        """The parent in the last sample up to this stamp, or in the first of all; None where no sample is held."""
        if self._begin == self._end:
            return None
        before = int(np.searchsorted(self.stamps, stamp_ns, "right")) - 1
        return self._samples[self._begin + max(before, 0)]["parent"]

    def parent_about(self, stamp_ns: int) -> str | None:
        """As `parent_at`; None, too, more than a second before the oldest or after the newest sample: one wrong message
        must not stand against right ones for ever."""
        said = self._begin < self._end and (
            stamp_ns == ANY_TIME
            or int(self._stamps[self._begin]) - _SILENT_NS <= stamp_ns <= self.newest_ns + _SILENT_NS
        )
        return self.parent_at(stamp_ns) if said else None

    def covers(self, query: Query) -> bool:
        """Whether every stamp lies between oldest and newest sample, give or take the tolerance."""
        if self._begin == self._end:
            return False
        oldest_ns, slack_ns = int(self._stamps[self._begin]), query.tolerance_ns
        return oldest_ns - slack_ns <= query.first_ns and query.last_ns <= self.newest_ns + slack_ns

    def link(self, query: Query) -> MovingLink:
        """Copy the samples that the stamps of a covered query fall between, and those that speak for stamps outside.

        Raises ParentChange where one parent does not do for all the stamps.
        """
        stamps, slack_ns = self.stamps, query.tolerance_ns
        oldest_ns, newest_ns = int(stamps[0]), int(stamps[-1])
        first_ns = min(query.first_ns, newest_ns - slack_ns) if query.last_ns > newest_ns else query.first_ns
        last_ns = max(query.last_ns, oldest_ns + slack_ns) if query.first_ns < oldest_ns else query.last_ns
        begin = int(np.searchsorted(stamps, first_ns, "right")) - 1 if first_ns > oldest_ns else 0
        window = slice(begin, int(np.searchsorted(stamps, last_ns, "right")) + 1)
        samples, parent, changed = self.samples[window], self._last_parent, _UNCHANGED
        if self._reparented:
            parents = samples["parent"]
            changed = np.zeros(parents.size, np.bool_)
            changed[1:] = parents[1:] != parents[:-1]
            for change_ns in stamps[window][changed]:
                if query.first_ns < change_ns <= query.last_ns:
                    raise ParentChange(int(change_ns))
            parent = self.parent_at(query.first_ns) or ""
        return MovingLink(
            parent=parent,
            stamps=stamps[window].copy(),
            translation=samples["translation"].copy(),
            quat_xyzw=samples["quat_xyzw"].copy(),
            changed=changed,
        )

    def span(self, child: str) -> EdgeSpan:
        count = self._end - self._begin
        oldest_ns, newest_ns = (int(self.stamps[0]), self.newest_ns) if count else (None, None)
        return EdgeSpan(self.newest_parent or self._last_parent, child, False, count, oldest_ns, newest_ns)


_UNCHANGED = np.zeros(0, np.bool_)


@dataclass(frozen=True, slots=True)
class MovingLink:
    """(M,) samples of one edge, M > 0; `changed` marks one that hangs below another parent than the one before it, and
    is empty where none does."""

    parent: str
    stamps: StampsNs
    translation: Float64Array
    quat_xyzw: Float64Array
    changed: NDArray[np.bool_]

    def onto(self, T_child_source: Float64Array, query: Query) -> Float64Array:
        """`T_parent_source`, (N, 4, 4), at the stamps of the query, from one (4, 4) or one for each stamp.

        A stamp outside goes on at the speed seen over a baseline at least as long as the tolerance, so that two
        samples close together cannot fling it away; with a shorter history the nearest sample stands. Two samples
        below different parents have nothing between them: the older stands, as in tf2.
        """
        T = np.empty((query.stamps.size, 4, 4))
        samples = self.stamps, self.translation, self.quat_xyzw, self.changed
        onward = np.ascontiguousarray(T_child_source).reshape(-1, 4, 4)
        _interpolate(*samples, np.ascontiguousarray(query.stamps), query.tolerance_ns, onward, T)
        return T


_NEAR_ZERO_ANGLE = 1e-9
"""rad; below it sin(x) / x is 1 to the last bit, so the weights of a turn are those of a straight line."""

_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")


@_compiled
def _interpolate(stamps, translation, quat_xyzw, changed, asked, tolerance_ns, onward, T):  # type: ignore[no-untyped-def]
    """Fill T (N, 4, 4) with the poses at `asked` (N,), each times its own of `onward`, which may hold one for all. From
    samples as in `MovingLink`: translation linearly, rotation the shorter way at constant speed, both beyond a sample
    as before it. The numbers of tf2::Quaternion::slerp."""
    pose, only = np.zeros((1, 4, 4)), onward.shape[0] - 1
    pose[0, 3, 3] = 1.0
    before_newest = max(np.searchsorted(stamps, stamps[-1] - tolerance_ns, "right") - 1, 0)
    after_oldest = min(np.searchsorted(stamps, stamps[0] + tolerance_ns, "left"), stamps.size - 1)
    before = after = older = newer = 0
    side, angle, sine = 1.0, 0.0, 0.0
    for n in range(asked.size):
        if newer != older + 1 or not stamps[older] < asked[n] < stamps[newer]:  # else they are the last one's too
            older, newer = _neighbours(stamps, asked[n], tolerance_ns, before_newest, after_oldest)
        baseline_ns = stamps[newer] - stamps[older]
        ratio = (asked[n] - stamps[older]) / baseline_ns if baseline_ns else 1.0
        parted = changed.size > 0 and changed[older + 1 : newer + 1].any()
        if parted or (tolerance_ns and baseline_ns < tolerance_ns):
            ratio = min(max(ratio, 0.0), 1.0)
        if parted:
            ratio = math.floor(ratio)
        if n == 0 or (older, newer) != (before, after):
            side, angle = _turn(quat_xyzw[older], quat_xyzw[newer])
            before, after, sine = older, newer, math.sin(angle)
        weight0, weight1 = 1.0 - ratio, ratio
        if angle >= _NEAR_ZERO_ANGLE:
            weight0, weight1 = math.sin(weight0 * angle) / sine, math.sin(weight1 * angle) / sine
        _place_turned(weight0, older, side * weight1, newer, quat_xyzw, pose)
        for k in range(3):
            pose[0, k, 3] = (1.0 - ratio) * translation[older, k] + ratio * translation[newer, k]
        multiply(pose, 0, onward, min(n, only), T, n)


@_compiled
def _neighbours(stamps, stamp_ns, tolerance_ns, before_newest, after_oldest):  # type: ignore[no-untyped-def]
    """Indices of the samples that speak for a stamp; equal stamps only at the newest, where the last counts."""
    last = stamps.size - 1
    newer = min(max(np.searchsorted(stamps, stamp_ns, "right"), 1), last)
    older = 0 if stamp_ns == stamps[0] else max(newer - 1, 0)
    if tolerance_ns and stamp_ns > stamps[last]:
        older = before_newest
    if tolerance_ns and stamp_ns < stamps[0]:
        newer = after_oldest
    return older, newer


@_compiled
def _turn(q0, q1):  # type: ignore[no-untyped-def]
    """Between unit quaternions: 1, or -1 where the other sign of q1 is nearer; and half the angle from q0 to it, by
    atan2: acos loses half its digits near zero (Kahan, "How Futile are Mindless Assessments of Roundoff", 12)."""
    same = q0[0] * q1[0] + q0[1] * q1[1] + q0[2] * q1[2] + q0[3] * q1[3]
    side = -1.0 if same < 0.0 else 1.0
    apart = together = 0.0
    for k in range(4):
        apart += (side * q1[k] - q0[k]) ** 2
        together += (side * q1[k] + q0[k]) ** 2
    return side, 2.0 * math.atan2(math.sqrt(apart), math.sqrt(together))


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _place_turned(weight0, older, weight1, newer, quat_xyzw, T):  # type: ignore[no-untyped-def]
    """Into T (1, 4, 4) the rotation of the weighed sum of two of the quaternions x y z w, of any length."""
    x = weight0 * quat_xyzw[older, 0] + weight1 * quat_xyzw[newer, 0]
    y = weight0 * quat_xyzw[older, 1] + weight1 * quat_xyzw[newer, 1]
    z = weight0 * quat_xyzw[older, 2] + weight1 * quat_xyzw[newer, 2]
    w = weight0 * quat_xyzw[older, 3] + weight1 * quat_xyzw[newer, 3]
    s = 2.0 / (x * x + y * y + z * z + w * w)
    T[0, 0, 0], T[0, 0, 1], T[0, 0, 2] = 1.0 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)
    T[0, 1, 0], T[0, 1, 1], T[0, 1, 2] = s * (x * y + z * w), 1.0 - s * (x * x + z * z), s * (y * z - x * w)
    T[0, 2, 0], T[0, 2, 1], T[0, 2, 2] = s * (x * z - y * w), s * (y * z + x * w), 1.0 - s * (x * x + y * y)
