"""Whoever moves: traffic in every lane, trams, riders, walkers. Nobody runs into anybody of their own lane."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from seg_perception.simulation.actors import Actor, Part
from seg_perception.simulation.classes import C
from seg_perception.simulation.config import DriveConfig
from seg_perception.simulation.fleet import Fleet
from seg_perception.simulation.paths import CrossPath, LanePath, Path, Progress, WalkPath
from seg_perception.simulation.plan import BIKE_LANE, KERB, SIDE_HALF, Plan

_LONGEST = 12.5  # m, of what drives in a lane


class Traffic:
    """Draws the actors of a drive; instances count on from `first_instance`."""

    def __init__(
        self, plan: Plan, config: DriveConfig, fleet: Fleet, first_instance: int, rng: np.random.Generator
    ) -> None:
        self._plan, self._config, self._fleet, self._rng = plan, config, fleet, rng
        self._instance = first_instance
        self._actors: list[Actor] = []

    def draw(self) -> list[Actor]:
        """All of them."""
        self._own_lane()
        for side in (-1, 1):
            for lane in range(self._plan.lanes):
                if side > 0 or lane != self._plan.ego_lane:
                    self._lane(side, lane)
            self._bicycles(side)
            self._walkers(side)
        self._crossers()
        if self._plan.track > 0.0:
            self._trams()
        return self._actors

    def _add(self, class_id: int, path: Path, parts: tuple[Part, ...]) -> None:
        self._actors.append(Actor(self._instance, class_id, path, parts, not self._config.static_world))
        self._instance += 1

    def _drive(self, progress: Progress, d: float, yaw: float) -> None:
        """One vehicle of a drawn kind."""
        chance = self._rng.random()
        path = self._path(progress, d, yaw)
        if chance < 0.10:
            self._ridden(C.MOTORCYCLE, path)
        else:
            kind = C.TRUCK if chance < 0.22 else C.BUS if chance < 0.32 else C.CAR
            self._add(kind, path, (Part(self._fleet.vehicle(kind, self._rng)),))

    def _path(self, progress: Progress, d: float, yaw: float, z: float = 0.0, sway: float = 0.12) -> LanePath:
        rate = float(self._rng.uniform(0.2, 0.5))
        return LanePath(self._plan.line, progress, d, yaw, z, (sway, rate), self._config.static_world)

    def _own_lane(self) -> None:
        """Those ahead and behind keep their distance whatever the vehicle does."""
        if self._config.static_world:
            return
        d = self._plan.lane(self._plan.ego_lane)
        ahead = 14.0 + 0.9 * self._config.speed
        for gap in (float(self._rng.uniform(ahead, 2.0 * ahead)), -float(self._rng.uniform(0.8, 1.4)) * ahead):
            if self._rng.random() < 0.75:
                self._drive(replace(self._plan.progress, start=gap), d, 0.0)

    def _lane(self, side: int, lane: int) -> None:
        rng, plan = self._rng, self._plan
        base = max(self._config.speed, 7.0)
        speed = base * float(rng.uniform(0.7, 1.15)) * -side
        yaw = 0.0 if side < 0 else math.pi
        for start in self._starts(speed, self._config.ranges.traffic_gap, _LONGEST):
            self._drive(Progress(start, speed), plan.lane(lane, side), yaw)

    def _starts(self, speed: float, gap: tuple[float, float], length: float) -> Iterator[float]:
        """Where those of one lane start, so that the street is as full at the end as at the start."""
        moved = speed * self._config.seconds
        s = self._plan.start + 20.0 - max(moved, 0.0)
        s = max(s, self._plan.start - 35.0)
        while s < min(self._plan.end - min(moved, 0.0), self._plan.end + 35.0):
            yield s
            s += length + float(self._rng.uniform(*gap))

    def _trams(self) -> None:
        side = int(self._rng.choice([-1, 1]))
        speed = float(self._rng.uniform(6.0, 12.0)) * side
        for start in self._starts(speed, (110.0, 260.0), 32.0):
            path = self._path(Progress(start, speed), 0.0, 0.0 if side > 0 else math.pi, sway=0.0)
            self._add(C.TRAIN, path, (Part(self._fleet.vehicle(C.TRAIN, self._rng)),))

    def _bicycles(self, side: int) -> None:
        d = side * (self._plan.lanes_end + 0.5 * BIKE_LANE)
        speed = float(self._rng.uniform(3.5, 6.5)) * -side
        for start in self._starts(speed, (12.0, 60.0), 2.0):
            self._ridden(C.BICYCLE, self._path(Progress(start, speed), d, 0.0 if side < 0 else math.pi, sway=0.15))

    def _ridden(self, kind: C, path: LanePath) -> None:
        """A two-wheeler and whoever rides it: two instances on one path."""
        machine, person = self._fleet.ridden(kind, self._rng)
        self._add(kind, path, (Part(machine),))
        self._add(C.RIDER, path, (Part(person),))

    def _walkers(self, side: int) -> None:
        rng, plan, config = self._rng, self._plan, self._config
        density = float(rng.uniform(*config.ranges.pedestrians_per_100m)) / 100.0
        near, far = plan.kerb + plan.verge + 0.5, plan.edge - 0.45
        for _ in range(int(0.5 * density * (plan.end - plan.start))):
            still = rng.random() < 0.15
            way = float(rng.choice([-1.0, 1.0]))
            speed = 0.0 if still else way * float(rng.uniform(0.8, 1.8))
            yaw = float(rng.uniform(0.0, 6.28)) if still else (0.0 if way > 0.0 else math.pi)
            start, d = float(rng.uniform(plan.start, plan.end)), side * float(rng.uniform(near, far))
            if still and not plan.free(start, 1.0):
                continue
            sway = (0.08, float(rng.uniform(0.2, 0.5)))
            path = WalkPath(plan.line, start, speed, d, yaw, KERB, plan.crossings, SIDE_HALF, sway, config.static_world)
            self._add(C.PERSON, path, self._fleet.walker(rng, abs(speed) / 0.72))

    def _crossers(self) -> None:
        """People on zebra crossings, who are across before the vehicle arrives, or while it stands in front of them."""
        rng, plan, config = self._rng, self._plan, self._config
        for crossing in plan.crossings:
            for _ in range(int(rng.integers(0, 4))):
                s = crossing - SIDE_HALF - float(rng.uniform(1.6, 4.0))
                side = float(rng.choice([-1.0, 1.0]))
                speed = float(rng.uniform(1.0, 1.6))
                start = side * (plan.kerb - 0.6) + float(rng.uniform(0.0, 0.5))
                across = (abs(start) + plan.kerb - 0.6) / speed
                times = np.linspace(0.0, config.seconds, 200)
                gap = np.abs(plan.progress.position(times) + 1.5 - s)
                soon = times[gap < 6.0 + 0.3 * config.speed]
                if config.static_world or (len(soon) and soon[0] < across + 0.5):
                    continue
                path = CrossPath(plan.line, s, start, -side * (plan.kerb - 0.6), -side * speed)
                self._add(C.PERSON, path, self._fleet.walker(rng, speed / 0.72))
