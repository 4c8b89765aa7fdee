"""The plan of a street: how it runs, how wide what is, where side streets join. Nothing is built yet."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from seg_perception.simulation.config import DriveConfig
from seg_perception.simulation.paths import Bend, Centreline, EgoPath, Progress

BEHIND = 0.4  # street behind the start, as a share of the view ahead
BIKE_LANE = 1.5
SIDE_HALF = 4.2  # half width of a side street
SIDE_REACH = 75.0  # how far side streets go on
KERB = 0.14
_SHARPEST = 1.0 / 60.0  # 1/m


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Distances from the middle, metres: lanes start at `track`, end at `lanes_end`; then bicycles, parked cars, the
    kerb, a verge (perhaps of no width), the sidewalk, front gardens, facades at `front`. crossings: s of side streets.
    """

    line: Centreline
    progress: Progress
    start: float
    end: float
    lanes: int
    lane_width: float
    track: float
    parking: float
    verge: float
    sidewalk: float
    setback: float
    crossings: tuple[float, ...]
    ego_lane: int
    phases: tuple[float, float, float]

    @property
    def lanes_end(self) -> float:
        """Outer edge of the outermost lane."""
        return self.track + self.lanes * self.lane_width

    @property
    def kerb(self) -> float:
        """Edge of the road."""
        return self.lanes_end + BIKE_LANE + self.parking

    @property
    def edge(self) -> float:
        """Outer edge of the sidewalk."""
        return self.kerb + self.verge + self.sidewalk

    @property
    def front(self) -> float:
        """Where the facades stand."""
        return self.edge + self.setback

    def lane(self, index: int, side: int = -1) -> float:
        """d of the middle of a lane, counted from the middle; side -1: ours, on the right."""
        return side * (self.track + (index + 0.5) * self.lane_width)

    def ego(self) -> EgoPath:
        """How the vehicle moves."""
        return EgoPath(self.line, self.progress, self.lane(self.ego_lane), self.phases)

    def free(self, s: float, margin: float) -> bool:
        """Whether no side street is within `margin` of its edge at s."""
        return all(abs(s - crossing) > SIDE_HALF + margin for crossing in self.crossings)

    def stretches(self, margin: float = 0.0) -> list[tuple[float, float]]:
        """What lies between side streets, from edge to edge."""
        cuts = [self.start]
        for crossing in self.crossings:
            cuts += [crossing - SIDE_HALF - margin, crossing + SIDE_HALF + margin]
        cuts.append(self.end)
        return list(zip(cuts[::2], cuts[1::2], strict=True))


def draw_plan(config: DriveConfig, rng: np.random.Generator) -> Plan:
    """A street for this drive: long enough for it, its bends gentle enough for its speed."""
    ranges = config.ranges
    progress = _progress(config, rng)
    start = -BEHIND * config.view_distance
    end = float(progress.position(config.seconds)) + config.view_distance
    crossings, bends = _route(config, rng, end)
    amplitude = float(rng.uniform(*ranges.grade_amplitude))
    grade = (amplitude, float(rng.uniform(180.0, 320.0)), float(rng.uniform(0.0, 2.0 * math.pi)))
    lanes = 2 if rng.random() < ranges.two_lanes else 1
    return Plan(
        line=Centreline(start - 40.0, end + 40.0, bends, grade),
        progress=progress,
        start=start,
        end=end,
        lanes=lanes,
        lane_width=float(rng.uniform(*ranges.lane_width)),
        track=1.65 if rng.random() < ranges.tram_track else 0.0,
        parking=float(rng.uniform(*ranges.parking_width)),
        verge=float(rng.uniform(1.2, 2.2)) if rng.random() < ranges.verge else 0.0,
        sidewalk=float(rng.uniform(*ranges.sidewalk_width)),
        setback=float(rng.uniform(*ranges.setback)),
        crossings=crossings,
        ego_lane=int(rng.integers(lanes)),
        phases=tuple(rng.uniform(0.0, 2.0 * math.pi, 3).tolist()),
    )


def _progress(config: DriveConfig, rng: np.random.Generator) -> Progress:
    if config.trajectory != "braking":
        return Progress(0.0, config.speed)
    brake_for = max(config.speed * 1.5 / float(rng.uniform(3.0, 6.0)), 0.5)  # the peak is 1.5 times the mean
    return Progress(0.0, config.speed, 0.3 * config.seconds, brake_for, 0.0)


def _route(config: DriveConfig, rng: np.random.Generator, end: float) -> tuple[tuple[float, ...], tuple[Bend, ...]]:
    """Side streets, and bends between them: a bend never reaches a crossing."""
    crossings, bends = [], []
    sharpest = min(_SHARPEST, config.lateral_acceleration / max(config.speed, 1.0) ** 2)
    s, heading = -40.0, 0.0
    while s < end - 60.0:
        s += float(rng.uniform(28.0, 45.0))
        crossings.append(s)
        s += 22.0
        if config.trajectory == "turning":
            angle = math.radians(float(rng.uniform(25.0, 50.0)))
            angle = -math.copysign(angle, heading) if abs(heading) > 0.2 else angle * float(rng.choice([-1.0, 1.0]))
            length = 2.0 * abs(angle) / sharpest
            bends.append(Bend(s, length, angle))
            heading += angle
            s += length
        else:
            s += float(rng.uniform(40.0, 90.0))
    return tuple(crossings), tuple(bends)
