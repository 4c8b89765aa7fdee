"""Where every frame was at every instant: /tf and /tf_static, live and from a bag, with the answers of the real tf2.

An edge hangs one child frame below one parent. Each edge is interpolated by itself, translation linearly and rotation
by slerp; of equal stamps the last one inserted counts; nothing is extrapolated beyond the tolerance stated (0 as a
rule). What tf2 gives one instant at a time is given here for a whole array of stamps, because a sweep needs a pose
for each column.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from seg_perception.errors import (
    DisconnectedError,
    ExtrapolationError,
    MessageError,
    StampError,
    TransformError,
    TransformLoopError,
    UnknownFrameError,
)
from seg_perception.geometry.transform_edges import (
    ANY_TIME,
    HERE,
    EdgeSpan,
    MovingEdge,
    MovingLink,
    ParentChange,
    Query,
    StampsNs,
    StaticEdge,
    seconds,
)
from seg_perception.geometry.transforms import (
    Float64Array,
    compose,
    from_quat_translation,
    inverse,
    is_rigid,
    quat_xyzw_from_matrix,
)

LATEST = 0
"""The stamp that asks for the latest instant at which both frames are known."""

_QUATERNION_TOLERANCE = 0.01  # of the squared length; what tf2 accepts
MAX_EDGES = 10_000
"""Frames that may hang below another. A sender that makes up ever new names must not fill the memory."""

FARTHEST_M = 1e8
"""No vehicle is further from the origin of a frame, even one in the middle of the Earth; a voxel there has a number."""

_FRAMES_NAMED = 12  # in a message about an unknown frame

Edge = StaticEdge | MovingEdge
Link = StaticEdge | MovingLink
TranslationAndQuat = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True, slots=True)
class Path:
    """The links that a query crosses, from its source and from its target up to their lowest common ancestor."""

    query: Query
    links_source: list[Link]
    links_target: list[Link]

    def T(self) -> Float64Array:
        """`T_target_source`, (N, 4, 4), or (4, 4) where nothing moves."""
        if not self.links_source and self.links_target:  # as for a camera, of which only the way up is asked
            return inverse(self._climbed(self.links_target))
        T_top_source = self._climbed(self.links_source)
        return compose(inverse(self._climbed(self.links_target)), T_top_source) if self.links_target else T_top_source

    def _climbed(self, links: list[Link]) -> Float64Array:
        T = HERE
        for link in links:
            T = link.onto(T, self.query)
        return T


class TransformTree:
    """Time-indexed transforms. One thread may insert while others ask.

    cache_ns: how far behind its newest sample an edge remembers; None keeps everything, for a bag read in one go.
    tolerance_ns: how far outside an edge's samples a stamp may lie. Within it the edge goes on at its last speed.
    wary: refuse single stamps far from the others of their frame (FarStampError), which in tf2 push all those out.
    Frame names may carry a leading slash, which is dropped as tf2 drops it.
    """

    def __init__(self, cache_ns: int | None = 10_000_000_000, tolerance_ns: int = 0, wary: bool = False) -> None:
        self._cache_ns = cache_ns
        self._wary = wary
        self._tolerance_ns = tolerance_ns
        self._edges: dict[str, Edge] = {}  # by child
        self._known: set[str] = set()
        self._lock = threading.Lock()

    def insert(
        self,
        parent: str,
        child: str,
        stamp_ns: int,
        T_parent_child: ArrayLike | TranslationAndQuat,
        static: bool = False,
    ) -> None:
        """Take in one transform: a rigid (4, 4), or a tuple of translation in metres and quaternion x y z w.

        Inserting in order of stamps takes constant time on average; any order is right. A static edge holds at every
        stamp, and replaces what was known of the child, as a moving one replaces a static one.
        Refused, leaving the tree as it was: an empty name, NaN, a place beyond `FARTHEST_M`, a quaternion not of unit
        length, a matrix that is not rigid, a new child beyond `MAX_EDGES` (MessageError); a moving edge stamped 0, or
        older than the cache keeps (StampError); an edge that would make a frame its own ancestor (TransformLoopError),
        as far as edges say anything within a second of its stamp.
        """
        parent, child, stamp_ns = parent.removeprefix("/"), child.removeprefix("/"), int(stamp_ns)
        edge_name = f"transform {parent!r} -> {child!r}"
        if not parent or not child:
            raise MessageError(f"{edge_name}: empty frame name, wanted two names")
        if parent == child:
            raise TransformLoopError(f"{edge_name}: a frame below itself, wanted two different frames")
        if stamp_ns <= 0 and not static:
            raise StampError(f"{edge_name}: stamp {seconds(stamp_ns)} s, wanted the time of measurement")
        translation, quat_xyzw = _checked_pose(edge_name, T_parent_child)
        with self._lock:
            edge = self._edges.get(child)
            if edge is None and len(self._edges) >= MAX_EDGES:
                raise MessageError(f"{edge_name}: {len(self._edges)} transforms are known, at most {MAX_EDGES} wanted")
            if edge is None or edge.static != static or edge.parent_at(stamp_ns) != parent:
                self._refuse_loop(parent, child, ANY_TIME if static else stamp_ns)
            if static:
                edge = StaticEdge(parent, from_quat_translation(quat_xyzw, translation))
            else:
                edge = edge if isinstance(edge, MovingEdge) else MovingEdge(self._cache_ns, self._wary)
                try:
                    edge.insert(stamp_ns, translation, quat_xyzw, parent)
                except StampError as error:
                    raise type(error)(f"{edge_name}: {error}") from None
            self._edges[child] = edge
            self._known.update((parent, child))

    def T(self, target: str, source: str, stamp_ns: int | StampsNs) -> Float64Array:
        """`T_target_source` at one stamp, (4, 4), or at each of (N,) stamps, (N, 4, 4): p_target = T @ p_source.

        Stamp 0 (LATEST) asks for the latest common instant; in an array of stamps it is refused. A frame seen from
        itself is identity, known or not. Raises UnknownFrameError, DisconnectedError, ExtrapolationError, StampError.
        One stamp outside refuses them all. The time taken grows with N: where many points share a stamp, ask for the
        unique ones.
        """
        target, source = target.removeprefix("/"), source.removeprefix("/")
        stamps = _checked_stamps(stamp_ns)
        if target == source:
            return np.tile(np.eye(4), (*stamps.shape, 1, 1))
        with self._lock:
            self._refuse_unknown(target, source)
            if stamps.size == 0:
                return np.empty((0, 4, 4))
            if stamps.ndim == 0 and stamps == LATEST:
                stamps = np.asarray(self._latest_common_ns(target, source))
            paths = self._paths(Query(target, source, np.atleast_1d(stamps), self._tolerance_ns))
        if len(paths) == 1 and (T := paths[0].T()).shape == (stamps.size, 4, 4):
            return T if stamps.ndim else T[0]
        T = np.empty((stamps.size, 4, 4))
        for path in paths:
            T[path.query.rows] = path.T()
        return T if stamps.ndim else T[0]

    def T_fixed(
        self, target: str, t1_ns: int | StampsNs, source: str, t2_ns: int | StampsNs, fixed: str
    ) -> Float64Array:
        """Carry points measured in `source` at t2 into `target` at t1; `fixed` (odom, map) did not move in between.

        p_target(t1) = T @ p_source(t2). (4, 4) for two stamps, (N, 4, 4) where either is (N,). Stamp 0 as in `T`, for
        each half by itself. Raises what `T` raises, and UnknownFrameError for any of the three frames.
        """
        with self._lock:
            self._refuse_unknown(*(frame.removeprefix("/") for frame in (target, source, fixed)))
        T_fixed_source = self.T(fixed, source, t2_ns)
        return compose(self.T(target, fixed, t1_ns), T_fixed_source)

    def can_transform(self, target: str, source: str, stamp_ns: int | StampsNs) -> bool:
        """Whether `T` would answer."""
        try:
            self.T(target, source, stamp_ns)
        except TransformError:
            return False
        return True

    def latest_common_ns(self, target: str, source: str) -> int:
        """The latest stamp at which every moving edge between the two frames is known; 0 where none moves."""
        target, source = target.removeprefix("/"), source.removeprefix("/")
        if target == source:
            return 0
        with self._lock:
            self._refuse_unknown(target, source)
            return self._latest_common_ns(target, source)

    def frames(self) -> tuple[str, ...]:
        """Every frame named so far, sorted."""
        with self._lock:
            return tuple(sorted(self._known))

    def edges(self) -> tuple[EdgeSpan, ...]:
        """What is held of each edge, sorted by child."""
        with self._lock:
            return tuple(self._edges[child].span(child) for child in sorted(self._edges))

    def clear(self) -> None:
        """Forget every moving sample, as after a jump of the clock. Static edges and frame names stay, as in tf2."""
        with self._lock:
            for edge in self._edges.values():
                edge.clear()

    def _paths(self, query: Query) -> list[Path]:
        """One path, or several where a frame on the way changed its parent between the stamps."""
        try:
            return [self._path(query)]
        except ParentChange as change:
            before, after = query.split(change.stamp_ns)
        return self._paths(before) + self._paths(after)

    def _path(self, query: Query) -> Path:
        """The way from source and from target up to their lowest common ancestor.

        An edge that lacks the stamps ends a climb like a root does: it matters only if the other climb does not
        arrive below it, and then it is the reason, since nobody knows what the child hung below at that instant. So
        answers tf2.
        """
        links_source, broken_source = self._climb(query.source, {query.target}, query)
        ancestors = [query.source, *(link.parent for link in links_source)]
        links_target, broken_target = self._climb(query.target, set(ancestors), query)
        top = links_target[-1].parent if links_target else query.target
        if top in ancestors:
            return Path(query, links_source[: ancestors.index(top)], links_target)
        for broken in (broken_target, broken_source):
            if broken is not None:
                raise ExtrapolationError(self._outside_message(broken, query))
        raise DisconnectedError(
            f"{query}: no common ancestor; {query.source!r} is below {ancestors[-1]!r}, {query.target!r} below {top!r}"
        )

    def _climb(self, frame: str, goals: set[str], query: Query) -> tuple[list[Link], str | None]:
        """The links from `frame` up to a goal or the root; and the child, if any, whose edge lacks the stamps."""
        links: list[Link] = []
        while frame not in goals:
            edge = self._edges.get(frame)
            if edge is None:
                break
            if not edge.covers(query):
                return links, frame
            links.append(edge.link(query))
            frame = links[-1].parent
            if len(links) > len(self._edges):
                raise TransformLoopError(f"{query}: frame {frame!r} is its own ancestor at that instant")
        return links, None

    def _latest_common_ns(self, target: str, source: str) -> int:
        newest_from_source = self._newest_of_ancestors(source)
        for ancestor, newest_ns in self._newest_of_ancestors(target).items():
            if ancestor in newest_from_source:
                common_ns = min(newest_ns, newest_from_source[ancestor])
                return 0 if common_ns == ANY_TIME else common_ns
        raise DisconnectedError(
            f"{target!r} <- {source!r} at the latest common stamp: no common ancestor with samples held"
        )

    def _newest_of_ancestors(self, frame: str) -> dict[str, int]:
        """Each ancestor, nearest first, with the latest stamp at which every edge below it is known."""
        newest_ns = {frame: ANY_TIME}
        while (edge := self._edges.get(frame)) is not None and edge.newest_parent is not None:
            ancestor = edge.newest_parent
            if ancestor in newest_ns:
                raise TransformLoopError(f"frame {ancestor!r} is its own ancestor at the latest stamps")
            newest_ns[ancestor] = min(newest_ns[frame], edge.newest_ns)
            frame = ancestor
        return newest_ns

    def _refuse_unknown(self, *frames: str) -> None:
        for frame in frames:
            if frame not in self._known:
                names = sorted(self._known)
                rest = f" and {len(names) - _FRAMES_NAMED} more" if len(names) > _FRAMES_NAMED else ""
                known = ", ".join(names[:_FRAMES_NAMED]) + rest if names else "none"
                raise UnknownFrameError(f"frame {frame!r}: no transform names it; known: {known}")

    def _refuse_loop(self, parent: str, child: str, stamp_ns: int) -> None:
        path = [child, parent]
        while (edge := self._edges.get(path[-1])) is not None:
            above = edge.parent_about(stamp_ns)
            if above is None or above in path[1:]:
                return
            path.append(above)
            if above == child:
                raise TransformLoopError(f"transform {parent!r} -> {child!r} closes a loop: {' below '.join(path)}")

    def _outside_message(self, child: str, query: Query) -> str:
        """Which edge lacks the stamps asked for, what it holds, and how far outside the worst stamp lies."""
        span = self._edges[child].span(child)
        if span.oldest_ns is None or span.newest_ns is None:
            return f"{query}: {span}"
        before_ns, after_ns = span.oldest_ns - query.first_ns, query.last_ns - span.newest_ns
        side = "before the oldest" if before_ns > after_ns else "after the newest"
        distance = f"{seconds(max(before_ns, after_ns))} s {side} sample of {span}"
        return f"{query}: {distance}; tolerance {seconds(self._tolerance_ns)} s"


def _checked_pose(edge_name: str, T: ArrayLike | TranslationAndQuat) -> tuple[Sequence[float], Sequence[float]]:
    """Translation and unit quaternion of either form of pose; MessageError where it is none."""
    if not isinstance(T, tuple):
        if not is_rigid(T):
            raise MessageError(f"{edge_name}: matrix {np.asarray(T).tolist()}, wanted a rigid 4x4")
        T = np.asarray(T, np.float64)[:3, 3].tolist(), quat_xyzw_from_matrix(T).tolist()
    translation, quat_xyzw = ([float(number) for number in numbers] for numbers in T)
    if len(translation) != 3 or len(quat_xyzw) != 4:
        raise MessageError(f"{edge_name}: {len(translation)} and {len(quat_xyzw)} numbers, wanted x y z and x y z w")
    if not all(map(math.isfinite, (*translation, *quat_xyzw))):
        raise MessageError(f"{edge_name}: translation {translation}, quaternion {quat_xyzw}: wanted finite numbers")
    if max(map(abs, translation)) > FARTHEST_M:
        raise MessageError(f"{edge_name}: translation {translation}, at most {FARTHEST_M:g} m along an axis wanted")
    squared_length = math.fsum(number * number for number in quat_xyzw)
    if abs(squared_length - 1.0) >= _QUATERNION_TOLERANCE:
        raise MessageError(f"{edge_name}: quaternion {quat_xyzw} of length {math.sqrt(squared_length):.6g}, wanted 1")
    length = math.sqrt(squared_length)
    return translation, [number / length for number in quat_xyzw]


def _checked_stamps(stamp_ns: int | StampsNs) -> StampsNs:
    stamps = np.asarray(stamp_ns)
    if stamps.dtype.kind not in "iu" or stamps.ndim > 1:
        raise StampError(f"stamps: {stamps.dtype} of shape {stamps.shape}, wanted an int or (N,) int64, nanoseconds")
    if stamps.ndim and np.any(stamps == LATEST):
        raise StampError(
            f"stamps: {np.count_nonzero(stamps == LATEST)} of {stamps.size} are 0, wanted times of measurement"
        )
    return stamps.astype(np.int64, copy=False)
