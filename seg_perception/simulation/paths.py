"""Where the street runs and how things move along it: smooth, known at every instant, no integration at run time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seg_perception.geometry.transforms import from_rotation_translation

Float64 = NDArray[np.float64]
_STEP = 0.25  # m between the knots of the centre line; cubic in between, errors below a micrometre


class Path(Protocol):
    """A rigid thing's way through the world."""

    def poses(self, times: ArrayLike) -> Float64:
        """T_world_thing (N, 4, 4) at times (N,), seconds from the start of the drive."""


@dataclass(frozen=True, slots=True)
class Bend:
    """The heading turns by `angle` (radians, left positive) over `length` metres from `start`, softly in and out."""

    start: float
    length: float
    angle: float


class Centreline:
    """The middle of the street: (s, d) to the world, s along it, d to the left, metres.

    The curvature of a bend is a raised cosine. grade: amplitude and length of the hills. Knots from `start` to `end`;
    beyond them it goes on straight.
    """

    def __init__(
        self,
        start: float,
        end: float,
        bends: tuple[Bend, ...] = (),
        grade: tuple[float, float, float] = (0.0, 200.0, 0.0),
    ) -> None:
        self.start, self.end, self.bends, self.grade = start, end, bends, grade
        self._s = np.arange(start, end + _STEP, _STEP)
        fine = np.arange(start, end + _STEP, _STEP / 4.0)[: 4 * (len(self._s) - 1) + 1]
        heading = self.heading(fine)
        steps = np.stack([np.cos(heading), np.sin(heading)], axis=1)
        h = _STEP / 4.0  # Boole's rule over each knot interval
        weights = np.array([7.0, 32.0, 12.0, 32.0, 7.0]) * 2.0 * h / 45.0
        pieces = sum(weights[k] * steps[k : len(fine) - 4 + k : 4] for k in range(5))
        self._xy = np.concatenate([[[start, 0.0]], np.cumsum(pieces, axis=0) + np.array([start, 0.0])])
        self._tangent = steps[::4]

    def heading(self, s: ArrayLike) -> Float64:
        """Radians from the x axis."""
        s = np.asarray(s, np.float64)
        total = np.zeros_like(s)
        for bend in self.bends:
            x = np.clip((s - bend.start) / bend.length, 0.0, 1.0)
            total += bend.angle * (x - np.sin(2.0 * math.pi * x) / (2.0 * math.pi))
        return total

    def height(self, s: ArrayLike) -> Float64:
        """Metres."""
        amplitude, length, phase = self.grade
        return np.asarray(amplitude * np.sin(2.0 * math.pi * np.asarray(s, np.float64) / length + phase))

    def slope(self, s: ArrayLike) -> Float64:
        """dz/ds."""
        amplitude, length, phase = self.grade
        rate = 2.0 * math.pi / length
        return np.asarray(amplitude * rate * np.cos(rate * np.asarray(s, np.float64) + phase))

    def points(self, s: ArrayLike, d: ArrayLike, z: ArrayLike = 0.0) -> Float64:
        """(..., 3) in the world, z above the street's own height."""
        s, d, z = np.broadcast_arrays(np.asarray(s, np.float64), np.asarray(d, np.float64), np.asarray(z, np.float64))
        knot = np.clip(((s - self.start) / _STEP).astype(np.int64), 0, len(self._s) - 2)
        x = np.clip((s - self._s[knot]) / _STEP, 0.0, 1.0)[..., None]
        p0, p1 = self._xy[knot], self._xy[knot + 1]
        m0, m1 = self._tangent[knot] * _STEP, self._tangent[knot + 1] * _STEP
        xy = p0 * (1 + 2 * x) * (1 - x) ** 2 + m0 * x * (1 - x) ** 2 + p1 * x * x * (3 - 2 * x) + m1 * x * x * (x - 1)
        heading = self.heading(s)
        beyond = s - np.clip(s, self._s[0], self._s[-1])
        x_world = xy[..., 0] - d * np.sin(heading) + beyond * np.cos(heading)
        y_world = xy[..., 1] + d * np.cos(heading) + beyond * np.sin(heading)
        return np.stack([x_world, y_world, self.height(s) + z], axis=-1)

    def poses(
        self,
        s: ArrayLike,
        d: ArrayLike,
        yaw: ArrayLike = 0.0,
        z: ArrayLike = 0.0,
        pitch: ArrayLike = 0.0,
        roll: ArrayLike = 0.0,
    ) -> Float64:
        """(..., 4, 4): x along the street (turned by yaw), z up; the slope of the street is part of the pitch.

        pitch is positive downwards, as about the y axis to the left.
        """
        s, yaw, pitch, roll = (np.asarray(values, np.float64) for values in (s, yaw, pitch, roll))
        a = self.heading(s) + yaw
        b = pitch - np.arctan(self.slope(s)) * np.cos(yaw)
        c = roll + np.arctan(self.slope(s)) * np.sin(yaw)
        a, b, c = np.broadcast_arrays(a, b, c)
        ca, sa, cb, sb, cc, sc = np.cos(a), np.sin(a), np.cos(b), np.sin(b), np.cos(c), np.sin(c)
        R = np.stack(
            [
                np.stack([ca * cb, ca * sb * sc - sa * cc, ca * sb * cc + sa * sc], -1),
                np.stack([sa * cb, sa * sb * sc + ca * cc, sa * sb * cc - ca * sc], -1),
                np.stack([-sb, cb * sc, cb * cc], -1),
            ],
            -2,
        )
        return from_rotation_translation(R, self.points(s, d, z))


@dataclass(frozen=True, slots=True)
class Progress:
    """Metres along the street over time: `speed` up to `brake_at`, then within `brake_for` seconds to `end_speed`."""

    start: float
    speed: float
    brake_at: float = math.inf
    brake_for: float = 1.0
    end_speed: float = 0.0

    def position(self, times: ArrayLike) -> Float64:
        """s at times."""
        t = np.asarray(times, np.float64)
        if not math.isfinite(self.brake_at):
            return self.start + self.speed * t
        x = np.clip((t - self.brake_at) / self.brake_for, 0.0, 1.0)
        lost = self.brake_for * (x**3 - 0.5 * x**4) + np.maximum(t - self.brake_at - self.brake_for, 0.0)
        return np.asarray(self.start + self.speed * t + (self.end_speed - self.speed) * lost)

    def acceleration(self, times: ArrayLike) -> Float64:
        """m/s²."""
        t = np.asarray(times, np.float64)
        if not math.isfinite(self.brake_at):
            return np.zeros_like(t)
        x = np.clip((t - self.brake_at) / self.brake_for, 0.0, 1.0)
        return np.asarray((self.end_speed - self.speed) * 6.0 * x * (1.0 - x) / self.brake_for)


@dataclass(frozen=True, slots=True, eq=False)
class LanePath:
    """Along the street at a distance `d` from its middle; `yaw` pi for those who come towards us.

    sway: metres and radians a second of a slow wander across. frozen: stands where it was at time 0.
    """

    line: Centreline
    progress: Progress
    d: float
    yaw: float = 0.0
    z: float = 0.0
    sway: tuple[float, float] = (0.0, 1.0)
    frozen: bool = False

    def poses(self, times: ArrayLike) -> Float64:
        """See `Path`."""
        t = np.asarray(times, np.float64) * (0.0 if self.frozen else 1.0)
        amplitude, rate = self.sway
        return self.line.poses(self.progress.position(t), self.d + amplitude * np.sin(rate * t), self.yaw, self.z)


@dataclass(frozen=True, slots=True, eq=False)
class WalkPath:
    """Along the sidewalk, at its height, and down onto the road where side streets join.

    speed: m/s, negative for those who come towards us. crossings, half: s and half width of the side streets.
    """

    line: Centreline
    start: float
    speed: float
    d: float
    yaw: float
    height: float
    crossings: tuple[float, ...]
    half: float
    sway: tuple[float, float] = (0.0, 1.0)
    frozen: bool = False

    def poses(self, times: ArrayLike) -> Float64:
        """See `Path`."""
        t = np.asarray(times, np.float64) * (0.0 if self.frozen else 1.0)
        s = self.start + self.speed * t
        apart = np.abs(s[..., None] - np.asarray(self.crossings)).min(axis=-1, initial=math.inf) - self.half
        x = np.clip(apart / 0.5 + 0.5, 0.0, 1.0)
        amplitude, rate = self.sway
        d = self.d + amplitude * np.sin(rate * t)
        return upright(self.line.points(s, d, self.height * x * x * (3.0 - 2.0 * x)), self.line.heading(s) + self.yaw)


@dataclass(frozen=True, slots=True, eq=False)
class CrossPath:
    """Across the street at s, from one side to the other: d = start + speed * t, stopping at `end`."""

    line: Centreline
    s: float
    start: float
    end: float
    speed: float
    frozen: bool = False

    def poses(self, times: ArrayLike) -> Float64:
        """See `Path`."""
        t = np.asarray(times, np.float64) * (0.0 if self.frozen else 1.0)
        d = np.clip(self.start + self.speed * t, min(self.start, self.end), max(self.start, self.end))
        points = self.line.points(self.s, d)
        return upright(points, self.line.heading(self.s) + math.copysign(0.5 * math.pi, self.speed) + 0.0 * d)


def upright(points: Float64, yaw: Float64) -> Float64:
    """(..., 4, 4) of plumb things at points (..., 3), turned by yaw (...)."""
    T = np.zeros((*np.shape(yaw), 4, 4))
    T[..., 0, 0] = T[..., 1, 1] = np.cos(yaw)
    T[..., 1, 0] = np.sin(yaw)
    T[..., 0, 1] = -T[..., 1, 0]
    T[..., 2, 2] = T[..., 3, 3] = 1.0
    T[..., :3, 3] = points
    return T


@dataclass(frozen=True, slots=True, eq=False)
class EgoPath:
    """The vehicle itself: as `LanePath`, with a body that nods under braking, rolls and shakes on its springs."""

    line: Centreline
    progress: Progress
    d: float
    phases: tuple[float, float, float]

    def poses(self, times: ArrayLike) -> Float64:
        """See `Path`."""
        t = np.asarray(times, np.float64)
        s = self.progress.position(t)
        a, b, c = self.phases
        wander, rate = 0.12, 0.45
        d = self.d + wander * np.sin(rate * t + a)
        share = np.clip(self.progress.speed / 10.0, 0.0, 1.0)
        yaw = share * 0.004 * np.sin(0.9 * t + b)
        pitch = share * 0.0025 * np.sin(9.0 * t + b) - 0.003 * self.progress.acceleration(t)
        roll = share * 0.003 * np.sin(6.5 * t + c)
        z = share * 0.012 * np.sin(8.0 * t + a)
        return self.line.poses(s, d, yaw, z, pitch, roll)
