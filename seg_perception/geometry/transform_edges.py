"""One edge of the transform tree over time: the samples of one child frame, and its pose at many stamps at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import FarStampError, StampError
from seg_perception.geometry.transforms import Float64Array, from_quat_translation, lerp, slerp

StampsNs = NDArray[np.int64]

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
        self.first_ns, self.last_ns = int(stamps.min()), int(stamps.max())

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

    def covers(self, _query: Query) -> bool:
        return True

    def link(self, _query: Query) -> StaticEdge:
        return self

    def at(self, _query: Query) -> Float64Array:
        return self._T_parent_child

    def span(self, child: str) -> EdgeSpan:
        return EdgeSpan(self.parent, child, True, 1, None, None)


_SAMPLE = np.dtype([("translation", "f8", 3), ("quat_xyzw", "f8", 4), ("parent", "O")])
_FIRST_CAPACITY = 16
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
        parents = self.samples[window]["parent"]
        changed = np.zeros(parents.size, bool)
        if self._reparented:
            changed[1:] = parents[1:] != parents[:-1]
            for change_ns in stamps[window][changed]:
                if query.first_ns < change_ns <= query.last_ns:
                    raise ParentChange(int(change_ns))
        samples = self.samples[window]
        return MovingLink(
            parent=self.parent_at(query.first_ns) or "",
            stamps=stamps[window].copy(),
            translation=samples["translation"].copy(),
            quat_xyzw=samples["quat_xyzw"].copy(),
            changed=changed,
        )

    def span(self, child: str) -> EdgeSpan:
        count = self._end - self._begin
        oldest_ns, newest_ns = (int(self.stamps[0]), self.newest_ns) if count else (None, None)
        return EdgeSpan(self.newest_parent or self._last_parent, child, False, count, oldest_ns, newest_ns)


@dataclass(frozen=True, slots=True)
class MovingLink:
    """(M,) samples of one edge, M > 0; `changed` marks one that hangs below another parent than the one before it."""

    parent: str
    stamps: StampsNs
    translation: Float64Array
    quat_xyzw: Float64Array
    changed: NDArray[np.bool_]

    def at(self, query: Query) -> Float64Array:
        """`T_parent_child`, (N, 4, 4) at the stamps of the query, or (4, 4) where only one pose is known.

        A stamp outside goes on at the speed seen over a baseline at least as long as the tolerance, so that two
        samples close together cannot fling it away; with a shorter history the nearest sample stands. Two samples
        below different parents have nothing between them: the older stands, as in tf2.
        """
        if self.stamps.size == 1:
            return from_quat_translation(self.quat_xyzw[0], self.translation[0])
        older, newer = self._neighbours(query)
        baseline_ns = self.stamps[newer] - self.stamps[older]
        ratio = np.where(baseline_ns == 0, 1.0, (query.stamps - self.stamps[older]) / np.maximum(baseline_ns, 1))
        if query.tolerance_ns:
            ratio = np.where(baseline_ns < query.tolerance_ns, np.clip(ratio, 0.0, 1.0), ratio)
        if self.changed.any():
            changes = np.cumsum(self.changed)
            ratio = np.where(changes[older] != changes[newer], np.floor(np.clip(ratio, 0.0, 1.0)), ratio)
        return from_quat_translation(
            slerp(self.quat_xyzw[older], self.quat_xyzw[newer], ratio),
            lerp(self.translation[older], self.translation[newer], ratio),
        )

    def _neighbours(self, query: Query) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Indices of the samples that speak for each stamp; equal stamps only at the newest, where the last counts."""
        stamps, last = self.stamps, self.stamps.size - 1
        newer = np.clip(np.searchsorted(stamps, query.stamps, "right"), 1, last)
        older = np.where(query.stamps == stamps[0], 0, newer - 1)
        if query.tolerance_ns:
            before_newest = int(np.searchsorted(stamps, stamps[last] - query.tolerance_ns, "right")) - 1
            after_oldest = int(np.searchsorted(stamps, stamps[0] + query.tolerance_ns, "left"))
            older = np.where(query.stamps > stamps[last], max(before_newest, 0), older)
            newer = np.where(query.stamps < stamps[0], min(after_oldest, last), newer)
        return older, newer
