"""Objects keep their identity from sweep to sweep: predict, assign, update; birth, coasting, death.

A track whose thing is not seen goes on along its course for a while and is known again when it comes out. A box that is
only partly seen is first completed to the size that its track remembers, at the corner that faces the LiDAR; otherwise
a parked car would seem to move as more of it comes into view. Small things are followed by the middle of what is seen
of them, which is surer than that of their box: parked bicycles stand closer than its errors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from seg_perception.config import TrackingConfig
from seg_perception.geometry.movers import Measured, Movers
from seg_perception.labels import Taxonomy
from seg_perception.scene import motion_models as models
from seg_perception.scene.clustering import thing_groups
from seg_perception.scene.expectation import NO_TRACK, Expected
from seg_perception.scene.objects import Objects

_NEVER = 1e6  # cost of a pair that may not be
_EXPECTED = 0.1  # what the cost of a pair is worth where the thing lies in the box of the track
_OTHER_KIND = 4.0  # cost, in squared standard deviations, of a person that was a rider
_FADING = 0.9  # what a sweep leaves of the votes for a class
_MISSES_AT_BIRTH = 1  # sweeps that a track which is not confirmed yet may miss
_UNSEEN_AT_BIRTH_S = 0.15  # or as many as come in this time: each sweep of a LiDAR may be but a part of a turn
_WALKING = 0.5  # m/s; from here on a velocity tells the yaw
_MOVING = 2.0  # m/s; what is slower gets nowhere while a sweep is paired with images
_SURE = 2.0  # standard deviations of its speed by which a thing seems to move
_HITS, _SEEN_S = 2, 0.15  # how often it was seen, and since when it has not been
_KNOWN_S = 1.0  # so long ago points may have told that it moves
_VELOCITY_SIGMA = 0.7  # m/s, of what points tell
_AROUND, _AROUND_AT_MOST = 0.3, 0.8  # m around the box of what moves, and what its place is off by likely; together
_ABOVE_GROUND = 0.2  # m; lower points in the box of what moves may be the ground
_GROWS, _SHRINKS = 0.1, 0.03  # share by which a track's size follows a box that is larger, or smaller


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """T things and where they are now, in columns; and which of them each object of the sweep is.

    track_id: (T,) int32 from 1, never given again. class_id, probability: (T,) smoothed over time. centre: (T, 3),
    size: (T, 3), yaw: (T,) of its length, along its velocity once it moves, in the fixed frame. velocity: (T, 2) m/s
    in the fixed frame, less what may be chance (`_surely`). turn_rate: (T,) rad/s. age_s: (T,) since first seen.
    coasting_s: (T,) since last seen, 0 if seen now. of_object: (K,) int32 index into the tracks, NO_TRACK for none.
    confirmed: (T,) seen often enough to be told of.
    """

    track_id: NDArray[np.int32]
    class_id: NDArray[np.uint8]
    probability: NDArray[np.float32]
    centre: NDArray[np.float64]
    size: NDArray[np.float64]
    yaw: NDArray[np.float64]
    velocity: NDArray[np.float64]
    turn_rate: NDArray[np.float64]
    age_s: NDArray[np.float64]
    coasting_s: NDArray[np.float64]
    confirmed: NDArray[np.bool_]
    of_object: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.track_id)


@dataclass(slots=True)
class _Store:
    """Every track's row in every column."""

    classes: int
    track_id: NDArray = field(default_factory=lambda: np.zeros(0, np.int32))
    vehicle: NDArray = field(default_factory=lambda: np.zeros(0, bool))
    state: NDArray = field(default_factory=lambda: np.zeros((0, models.STATES)))
    P: NDArray = field(default_factory=lambda: np.zeros((0, models.STATES, models.STATES)))
    size: NDArray = field(default_factory=lambda: np.zeros((0, 3)))
    z: NDArray = field(default_factory=lambda: np.zeros(0))
    yaw: NDArray = field(default_factory=lambda: np.zeros(0))
    offset: NDArray = field(default_factory=lambda: np.zeros((0, 2)))  # from what is followed to the middle of the box
    sensor: NDArray = field(default_factory=lambda: np.zeros(0, np.int64))  # the LiDAR that saw it last
    votes: NDArray = field(init=False)
    hits: NDArray = field(default_factory=lambda: np.zeros(0, np.int64))
    misses: NDArray = field(default_factory=lambda: np.zeros(0, np.int64))
    born: NDArray = field(default_factory=lambda: np.zeros(0))
    seen: NDArray = field(default_factory=lambda: np.zeros(0))
    reach: NDArray = field(default_factory=lambda: np.zeros((0, 2, 3)))  # corners of the last box, along its own axes
    moved: NDArray = field(default_factory=lambda: np.zeros(0))  # when its points told last that it does

    def __post_init__(self) -> None:
        self.votes = np.zeros((0, self.classes))

    def columns(self) -> list[str]:
        return [name for name in self.__slots__ if name != "classes"]

    def keep(self, rows: NDArray) -> None:
        for name in self.columns():
            setattr(self, name, getattr(self, name)[rows])

    def append(self, count: int) -> NDArray[np.int64]:
        """Rows of zeros at the end; returns their indices."""
        for name in self.columns():
            column = getattr(self, name)
            setattr(self, name, np.concatenate([column, np.zeros((count, *column.shape[1:]), column.dtype)]))
        return np.arange(len(self.track_id) - count, len(self.track_id))


class Tracker:
    """Follows the objects of sweep after sweep, whose stamps must not fall; after a jump back it starts anew.

    Several LiDARs feed one tracker, so that a thing that two of them see is one track. It is missed only by the LiDAR
    that saw it last: the others may be looking elsewhere.
    """

    def __init__(self, taxonomy: Taxonomy, config: TrackingConfig) -> None:
        self._config = config
        self._group = thing_groups(taxonomy)[0]
        names = [name for name in ("vehicles", "vulnerable") if name in taxonomy.groups]
        members = {name: taxonomy.members([name]) for name in names}
        none = np.zeros(256, bool)
        self._is_vehicle = members.get("vehicles", none) & ~members.get("vulnerable", none)
        self._classes = len(taxonomy.trained)
        self._tracks = _Store(self._classes)
        self._next_id = 1
        self._stamp_ns: int | None = None
        self._origin = np.zeros(3)
        self._sensors: dict[str, int] = {}
        self._sensor = 0  # whose sweep it is

    def expected(self, stamp_ns: int, late_s: float = 0.0) -> Expected | None:
        """Where the things of confirmed tracks should be at `stamp_ns`, less what they move in late_s, as `update` has
        them; None before the first sweep and after a jump back.
        """
        if self._stamp_ns is None or stamp_ns < self._stamp_ns:
            return None
        tracks, config = self._tracks, self._config
        state, _ = self._ahead(stamp_ns)
        centre = state[:, :2] + tracks.offset - late_s * models.velocities(tracks.vehicle, state)
        yaw = np.where(tracks.vehicle, state[:, models.YAW], tracks.yaw)
        sure = np.flatnonzero(tracks.hits >= config.confirm_hits)
        class_id = tracks.votes[sure].argmax(axis=1).astype(np.uint8)
        centre = centre[sure] + self._origin[:2]
        return Expected(tracks.track_id[sure], class_id, centre, tracks.size[sure, :2], yaw[sure])

    def movers(self, stamp_ns: int, late_s: float = 0.0) -> Movers | None:
        """The same of what seems to move, in boxes as large as their points may lie in."""
        if self._stamp_ns is None or stamp_ns < self._stamp_ns:
            return None
        tracks = self._tracks
        state, P = self._ahead(stamp_ns)
        velocity = models.velocities(tracks.vehicle, state)
        speed, now = np.hypot(velocity[:, 0], velocity[:, 1]), (self._stamp_ns - self._start_ns) * 1e-9
        known = now - tracks.moved <= _KNOWN_S
        seems = known | (speed > _SURE * np.sqrt(models.speed_variances(tracks.vehicle, P)))
        seems &= (tracks.hits >= _HITS) & (now - tracks.seen <= _SEEN_S) & (speed > _MOVING)
        some = np.flatnonzero(seems)
        off = np.sqrt(np.maximum(P[some, 0, 0], P[some, 1, 1]))
        centre = np.column_stack([state[:, :2] + tracks.offset - late_s * velocity, tracks.z])[some]
        yaw = np.where(tracks.vehicle, state[:, models.YAW], tracks.yaw)[some]
        sides = 0.5 * tracks.size[some]
        low, high = np.minimum(-sides, tracks.reach[some, 0]), np.maximum(sides, tracks.reach[some, 1])
        around = np.minimum(_AROUND + off, _AROUND_AT_MOST)[:, None]
        low, high = low - around * (1.0, 1.0, 0.0) + (0.0, 0.0, _ABOVE_GROUND), high + around
        aside, size = 0.5 * (low + high), np.maximum(high - low, 0.1)
        centre[:, 0] += np.cos(yaw) * aside[:, 0] - np.sin(yaw) * aside[:, 1]
        centre[:, 1] += np.sin(yaw) * aside[:, 0] + np.cos(yaw) * aside[:, 1]
        centre[:, 2] += aside[:, 2]
        return Movers(tracks.track_id[some], centre + self._origin, size, yaw, velocity[some], known[some])

    def _ahead(self, stamp_ns: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """States and covariances of all tracks at an instant that is not over."""
        tracks, config = self._tracks, self._config
        state, P, dt = tracks.state.copy(), tracks.P.copy(), (stamp_ns - (self._stamp_ns or 0)) * 1e-9
        models.predict_all(tracks.vehicle, state, P, dt, config.vehicle_acceleration, config.acceleration)
        return state, P

    def update(
        self,
        objects: Objects,
        lidar: NDArray[np.float64],
        stamp_ns: int,
        sensor: str = "",
        late_s: float = 0.0,
        measured: Measured | None = None,
    ) -> Tracks:
        """One sweep's objects; lidar: (3,) where the LiDAR is in the fixed frame. Tells of every track that lives, and
        where it is at `stamp_ns`.

        sensor: name of the LiDAR. late_s: by how much the sweep is older than `stamp_ns`, because that of another LiDAR
        came first; each of its objects has since moved on as its track has. measured: of `movers`.
        """
        self._sensor = self._sensors.setdefault(sensor, len(self._sensors))
        if self._stamp_ns is None or stamp_ns < self._stamp_ns:
            self._tracks = _Store(self._classes)
            self._origin, self._stamp_ns = lidar.copy(), stamp_ns
            self._start_ns = stamp_ns
        dt, now = (stamp_ns - self._stamp_ns) * 1e-9, (stamp_ns - self._start_ns) * 1e-9
        self._stamp_ns = stamp_ns
        tracks, config = self._tracks, self._config
        models.predict_all(tracks.vehicle, tracks.state, tracks.P, dt, config.vehicle_acceleration, config.acceleration)
        if measured is not None:
            self._take(measured, now)
        boxes = _Boxes.of(objects, self._is_vehicle[objects.class_id], self._origin, lidar)
        moved = late_s * self._velocity()
        of_object = self._assign(boxes, objects, moved)
        for k in np.flatnonzero(of_object >= 0):
            self._see(int(of_object[k]), boxes, int(k), objects, now, moved[of_object[k]])
        of_object = self._end_and_begin(boxes, objects, of_object, now)
        return self._tell(of_object, now)

    def _take(self, measured: Measured, now: float) -> None:
        """What points tell of the velocities of tracks."""
        tracks = self._tracks
        for number, velocity, moves in zip(measured.number, measured.velocity, measured.moves, strict=True):
            for t in np.flatnonzero(tracks.track_id == number):  # it may be dead
                models.update_velocity(
                    tracks.vehicle[t], tracks.state[t], tracks.P[t], velocity[0], velocity[1], _VELOCITY_SIGMA
                )
                if moves:
                    tracks.moved[t] = now

    def _velocity(self) -> NDArray[np.float64]:
        """(T, 2) m/s."""
        return models.velocities(self._tracks.vehicle, self._tracks.state)

    def _surely(self) -> NDArray[np.float64]:
        """(T, 2) m/s to tell: a velocity v of standard deviation s times 1 - (s / v)^4, none where s is more. What
        stands, and is seen in ever other parts, is not told to drive.
        """
        tracks, velocity = self._tracks, self._velocity()
        variance = models.speed_variances(tracks.vehicle, tracks.P)
        chance = variance / np.maximum((velocity**2).sum(axis=1), 1e-12)
        return velocity * np.maximum(1.0 - chance**2, 0.0)[:, None]

    def _assign(self, boxes: _Boxes, objects: Objects, moved: NDArray[np.float64]) -> NDArray[np.int32]:
        """(K,) row of the track that each object continues, NO_TRACK for none. moved: (T, 2) since the sweep."""
        tracks = self._tracks
        of_object = np.full(len(objects), NO_TRACK, np.int32)
        if not len(tracks.track_id) or not len(objects):
            return of_object
        centre = boxes.completed(tracks.size[:, :2], tracks.yaw, tracks.vehicle)  # (T, K, 2)
        off = centre + moved[:, None] - tracks.state[:, None, :2]
        S = tracks.P[:, None, :2, :2] + (boxes.sigma**2)[None, :, None, None] * np.eye(2)
        det = S[..., 0, 0] * S[..., 1, 1] - S[..., 0, 1] * S[..., 1, 0]
        squared = (
            S[..., 1, 1] * off[..., 0] ** 2
            - 2.0 * S[..., 0, 1] * off[..., 0] * off[..., 1]
            + S[..., 0, 0] * off[..., 1] ** 2
        ) / det
        last = tracks.votes.argmax(axis=1)
        cost = squared + _OTHER_KIND * (last[:, None] != objects.class_id[None])
        beyond = squared > self._config.gate**2
        there = tracks.track_id[:, None] == objects.track_id[None]
        cost[there] = _EXPECTED * np.minimum(cost[there], self._config.gate**2)
        cost[(beyond & ~there) | (self._group[last][:, None] != self._group[objects.class_id][None])] = _NEVER
        rows, columns = linear_sum_assignment(cost)
        real = cost[rows, columns] < _NEVER
        of_object[columns[real]] = rows[real]
        return of_object

    def _see(self, t: int, boxes: _Boxes, k: int, objects: Objects, now: float, moved: NDArray[np.float64]) -> None:
        """Track t is seen as object k. moved: (2,) since then."""
        tracks = self._tracks
        vehicle = bool(tracks.vehicle[t])
        size, yaw = boxes.size[k].copy(), float(boxes.yaw[k])
        if vehicle:
            turned = abs(math.remainder(yaw - tracks.yaw[t], math.pi)) > 0.25 * math.pi
            if turned and tracks.hits[t] > 1:  # its end was taken for its side
                size[:2], yaw = size[1::-1].copy(), yaw + 0.5 * math.pi
        grows = size > tracks.size[t]
        tracks.size[t] += np.where(grows, _GROWS, _SHRINKS) * (size - tracks.size[t])
        centre = boxes.complete_one(k, size[:2], yaw, tracks.size[t, :2]) if vehicle else boxes.centre[k]
        x, y = centre[0] + moved[0], centre[1] + moved[1]
        off = math.hypot(x - tracks.state[t, 0], y - tracks.state[t, 1])
        likely = math.sqrt(tracks.P[t, 0, 0] + tracks.P[t, 1, 1] + boxes.sigma[k] ** 2)
        sigma = boxes.sigma[k] * max(1.0, off / likely)  # a surprise counts for less, as with Huber's weights
        models.update(vehicle, tracks.state[t], tracks.P[t], x, y, yaw, sigma)
        tracks.z[t] += 0.5 * (boxes.centre[k, 2] - tracks.z[t])
        if vehicle:
            tracks.yaw[t] = tracks.state[t, models.YAW]
        else:
            moves = np.hypot(*tracks.state[t, 2:4]) > _WALKING
            tracks.yaw[t] = math.atan2(*tracks.state[t, [models.VY, models.VX]]) if moves else yaw
            tracks.offset[t] += 0.3 * (boxes.offset[k] - tracks.offset[t])
        tracks.reach[t] = self._reach(t, objects, k, moved)
        self._vote(t, objects, k)
        tracks.hits[t] += 1
        tracks.misses[t] = -1  # counted up below
        tracks.seen[t], tracks.sensor[t] = now, self._sensor

    def _reach(self, t: int, objects: Objects, k: int, moved: NDArray[np.float64]) -> NDArray[np.float64]:
        """(2, 3) lowest and highest corner of an object's box, along the axes of a track's, from its middle."""
        tracks = self._tracks
        dx, dy = objects.centre[k, :2] + moved - self._origin[:2] - tracks.state[t, :2] - tracks.offset[t]
        cos, sin = math.cos(tracks.yaw[t]), math.sin(tracks.yaw[t])
        up = objects.centre[k, 2] - self._origin[2] - tracks.z[t]
        middle = np.array([cos * dx + sin * dy, cos * dy - sin * dx, up])
        along, across = abs(math.cos(objects.yaw[k] - tracks.yaw[t])), abs(math.sin(objects.yaw[k] - tracks.yaw[t]))
        sides = 0.5 * np.array([[along, across, 0.0], [across, along, 0.0], [0.0, 0.0, 1.0]]) @ objects.size[k]
        return np.stack([middle - sides, middle + sides])

    def _vote(self, t: int, objects: Objects, k: int) -> None:
        self._tracks.votes[t] *= _FADING
        self._tracks.votes[t, objects.class_id[k]] += objects.probability[k] * math.log1p(objects.points[k])

    def _end_and_begin(
        self, boxes: _Boxes, objects: Objects, of_object: NDArray[np.int32], now: float
    ) -> NDArray[np.int32]:
        """Let tracks die that were not seen for too long, and those begin that nothing else explains."""
        tracks, config = self._tracks, self._config
        looked = tracks.sensor == self._sensor
        tracks.misses += looked
        young = tracks.hits < config.confirm_hits
        unseen_s = now - tracks.seen - 1e-6
        given_up = (tracks.misses > _MISSES_AT_BIRTH) & (unseen_s > _UNSEEN_AT_BIRTH_S)
        alive = np.where(young & looked, ~given_up, unseen_s <= config.coast_s)
        moved = np.append(np.where(alive, np.cumsum(alive) - 1, NO_TRACK), NO_TRACK)  # the last for NO_TRACK itself
        tracks.keep(np.flatnonzero(alive))
        of_object = moved[of_object].astype(np.int32)
        new = np.flatnonzero(of_object < 0)
        for k, t in zip(new, tracks.append(len(new)), strict=True):
            vehicle = bool(self._is_vehicle[objects.class_id[k]])
            x, y, z = boxes.centre[k]
            models.initial(vehicle, x, y, boxes.yaw[k], boxes.sigma[k], tracks.state[t], tracks.P[t])
            tracks.track_id[t], self._next_id = self._next_id, self._next_id + 1
            tracks.vehicle[t], tracks.size[t], tracks.z[t], tracks.yaw[t] = vehicle, boxes.size[k], z, boxes.yaw[k]
            tracks.offset[t], tracks.sensor[t] = boxes.offset[k], self._sensor
            tracks.hits[t], tracks.born[t], tracks.seen[t], tracks.moved[t] = 1, now, now, -math.inf
            self._vote(int(t), objects, int(k))
            of_object[k] = t
        return of_object

    def _tell(self, of_object: NDArray[np.int32], now: float) -> Tracks:
        tracks = self._tracks
        total = np.maximum(tracks.votes.sum(axis=1), 1e-9)
        return Tracks(
            tracks.track_id.copy(),
            tracks.votes.argmax(axis=1).astype(np.uint8) if len(total) else np.zeros(0, np.uint8),
            (tracks.votes.max(axis=1, initial=0.0) / total).astype(np.float32),
            np.column_stack([tracks.state[:, :2] + tracks.offset, tracks.z]) + self._origin,
            tracks.size.copy(),
            tracks.yaw.copy(),
            self._surely(),
            np.where(tracks.vehicle, tracks.state[:, models.TURN], 0.0),
            now - tracks.born,
            now - tracks.seen,
            tracks.hits >= self._config.confirm_hits,
            of_object,
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Boxes:
    """The boxes of a sweep less the origin. centre: of what is followed; offset: (K, 2) from there to the middle of the
    box; to_lidar: (K, 2) from there to the LiDAR.
    """

    centre: NDArray[np.float64]
    size: NDArray[np.float64]
    yaw: NDArray[np.float64]
    sigma: NDArray[np.float64]
    offset: NDArray[np.float64]
    to_lidar: NDArray[np.float64]

    @classmethod
    def of(
        cls, objects: Objects, vehicle: NDArray[np.bool_], origin: NDArray[np.float64], lidar: NDArray[np.float64]
    ) -> _Boxes:
        sigma = 0.15 + 0.08 * np.maximum(objects.size[:, 0] - 2.0, 0.0)  # long things are seen in parts
        followed = objects.centre.copy()
        followed[~vehicle, :2] = objects.seen[~vehicle]
        offset = (objects.centre - followed)[:, :2]
        return cls(followed - origin, objects.size, objects.yaw, sigma, offset, lidar[None, :2] - followed[:, :2])

    def completed(self, size: NDArray, yaw: NDArray, vehicle: NDArray) -> NDArray[np.float64]:
        """(T, K, 2) middle of each box, were it as large as each track, whose (T, 2) sizes are given."""
        turned = abs((self.yaw[None] - yaw[:, None] + 0.5 * math.pi) % math.pi - 0.5 * math.pi) > 0.25 * math.pi
        swap = turned & vehicle[:, None]
        seen = np.where(swap[..., None], self.size[None, :, 1::-1], self.size[None, :, :2])
        direction = self.yaw[None] + np.where(swap, 0.5 * math.pi, 0.0)
        shift = _shift(self.to_lidar[None], direction, seen, size[:, None])
        return self.centre[None, :, :2] + np.where(vehicle[:, None, None], shift, 0.0)

    def complete_one(self, k: int, seen: NDArray, yaw: float, size: NDArray) -> NDArray[np.float64]:
        """(2,) the same for one box and one track."""
        return self.centre[k, :2] + _shift(self.to_lidar[k], np.asarray(yaw), seen, size)


def _shift(to_lidar: NDArray, yaw: NDArray, seen: NDArray, size: NDArray) -> NDArray[np.float64]:
    """(..., 2) from the middle of what is seen to that of the whole, which reaches farther away from the LiDAR.

    Along an axis on which the LiDAR looks at the middle of what is seen, either end may be hidden: no shift.
    """
    cos, sin = np.cos(yaw), np.sin(yaw)
    axes = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], -2)  # (..., 2, 2): along, across
    toward = np.einsum("...ij,...j->...i", axes, to_lidar)
    beside = abs(toward) > 0.5 * seen
    amount = np.where(beside, -np.sign(toward) * 0.5 * (size - seen), 0.0)
    return np.einsum("...ij,...i->...j", axes, amount)
