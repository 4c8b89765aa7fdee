"""A street built from its plan: ground, markings, houses, plants, furniture, whatever is parked. None of it moves."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from seg_perception.simulation import furniture, plants
from seg_perception.simulation.buildings import house
from seg_perception.simulation.classes import C
from seg_perception.simulation.fleet import Fleet
from seg_perception.simulation.ground import ground, markings
from seg_perception.simulation.materials import Palette
from seg_perception.simulation.mesh import Mesh, merge, pose
from seg_perception.simulation.plan import KERB, SIDE_HALF, SIDE_REACH, Plan


@dataclass(frozen=True, slots=True, eq=False)
class Parked:
    """A countable thing that stands still. low, high: its box in its own frame, which T_world_thing carries."""

    instance: int
    class_id: int
    T_world_thing: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(slots=True)
class Street:
    """What is being built."""

    plan: Plan
    palette: Palette
    fleet: Fleet
    parts: list[Mesh] = field(default_factory=list)
    parked: list[Parked] = field(default_factory=list)

    def upright(self, s: float, d: float, yaw: float = 0.0, z: float = 0.0) -> NDArray[np.float64]:
        """T_world_thing that stands plumb at (s, d), turned by yaw from the direction of the street."""
        x, y, height = self.plan.line.points(s, d, z)
        return pose(x, y, height, float(self.plan.line.heading(s)) + yaw)

    def put(self, mesh: Mesh, s: float, d: float, yaw: float = 0.0, z: float = KERB) -> None:
        """Stand something plumb."""
        self.parts.append(mesh.moved(self.upright(s, d, yaw, z)))

    def park(self, mesh: Mesh, class_id: int, s: float, d: float, yaw: float, z: float = 0.0) -> None:
        """Stand something countable on the slope of the street."""
        T = self.plan.line.poses(s, d, yaw, z)
        low, high = mesh.bounds()
        self.parked.append(Parked(len(self.parked) + 1, class_id, T, low, high))
        self.parts.append(mesh.labelled(class_id, len(self.parked)).moved(T))


def build(
    plan: Plan,
    palette: Palette,
    fleet: Fleet,
    parked_share: float,
    tree_spacing: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[Mesh, list[Parked], NDArray[np.float64]]:
    """The triangles, what stands still among the countable things, and the paint on the road (see `textures`)."""
    street = Street(plan, palette, fleet)
    street.parts.append(ground(plan, palette, rng))
    for side in (-1, 1):
        _houses(street, side, rng)
        _gardens(street, side, rng)
        _trees(street, side, tree_spacing, rng)
        _furniture(street, side, rng)
        _park(street, side, parked_share, rng)
        _bystanders(street, side, rng)
    _junctions(street, rng)
    _ends(street, rng)
    return merge(street.parts), street.parked, markings(plan)


def _facing(side: int) -> float:
    """Yaw that turns a facade (which looks to -y) towards the street."""
    return math.pi if side < 0 else 0.0


def _place_house(street: Street, side: int, s: float, d: float, width: float, rng: np.random.Generator) -> None:
    floors = int(rng.choice([2, 3, 3, 4, 4, 5, 6]))
    T = street.upright(s + 0.5 * width, side * d, _facing(side))
    street.parts.append(house(width, floors, street.palette, rng).moved(T @ pose(-0.5 * width)))


def _houses(street: Street, side: int, rng: np.random.Generator) -> None:
    """Rows along the stretches, sometimes with a gap; and along the side streets."""
    plan = street.plan
    for first, last in plan.stretches(margin=3.2):
        s = first
        while s < last - 8.0:
            width = min(float(rng.uniform(9.0, 22.0)), last - s)
            if rng.random() < 0.12 and s > first:
                s += float(rng.uniform(5.0, 12.0))
                continue
            _place_house(street, side, s, plan.front + float(rng.choice([0.0, 0.0, 0.4])), width - 0.02, rng)
            s += width
    for crossing in plan.crossings:
        for toward in (-1, 1):
            d = plan.front + 15.5
            while d < plan.front + SIDE_REACH - 12.0:
                width = float(rng.uniform(10.0, 18.0))
                s = crossing + toward * (SIDE_HALF + 3.2)
                T = street.upright(s, side * (d + 0.5 * width), -0.5 * math.pi * toward)
                mesh = house(width - 0.05, int(rng.integers(2, 6)), street.palette, rng)
                street.parts.append(mesh.moved(T @ pose(-0.5 * width)))
                d += width
        T = street.upright(crossing, side * (plan.front + SIDE_REACH), _facing(side))
        street.parts.append(house(26.0, 4, street.palette, rng).moved(T @ pose(-13.0)))


def _gardens(street: Street, side: int, rng: np.random.Generator) -> None:
    """What closes the front gardens towards the sidewalk, in straight pieces; and shrubs behind it."""
    plan, palette = street.plan, street.palette
    if plan.setback < 1.2:
        return
    green = plants.leaf_material(palette, rng)
    for first, last in plan.stretches(margin=3.5):
        s = first
        while s < last - 6.0:
            length = min(float(rng.uniform(5.0, 11.0)), last - s - 1.5)
            kind = rng.random()
            d = side * (plan.edge + 0.35)
            if kind < 0.30:
                _in_pieces(street, lambda n: plants.hedge(n, 1.2, green, rng).labelled(C.VEGETATION), s, d, length)
            elif kind < 0.62:
                _in_pieces(street, lambda n: furniture.fence(n, palette, rng), s, d, length, whole=True)
            elif kind < 0.85:
                _in_pieces(street, lambda n: furniture.wall(n, palette, rng), s, d, length, whole=True)
            for _ in range(int(rng.integers(0, 4))):
                nearest, farthest = plan.edge + 1.0, max(plan.front - 0.3, plan.edge + 1.0)
                at = (s + float(rng.uniform(0.0, length)), side * float(rng.uniform(nearest, farthest)))
                street.put(plants.shrub(palette, rng).labelled(C.VEGETATION), *at)
            s += length + float(rng.choice([0.0, 0.0, 1.2, 3.0]))


def _in_pieces(street: Street, make: object, s: float, d: float, length: float, whole: bool = False) -> None:
    """Something long, in straight pieces that follow the street; `whole`: one piece."""
    count = 1 if whole else max(int(length / 4.0), 1)
    for index in range(count):
        a, b = s + index * length / count, s + (index + 1) * length / count
        start, end = street.plan.line.points(a, d, KERB), street.plan.line.points(b, d, KERB)
        way = end - start
        yaw = math.atan2(way[1], way[0])
        low = min(start[2], end[2]) - 0.02
        street.parts.append(make(float(np.hypot(way[0], way[1]))).moved(pose(start[0], start[1], low, yaw)))  # type: ignore[operator]


def _trees(street: Street, side: int, spacing: tuple[float, float], rng: np.random.Generator) -> None:
    """Along the kerb, and in the gardens; a few kinds, each turned and sized anew."""
    plan = street.plan
    kinds = [plants.tree(street.palette, rng).labelled(C.VEGETATION) for _ in range(4)]
    step = float(rng.uniform(*spacing))
    lined = plan.verge > 0.0 or rng.random() < 0.6
    s = plan.start
    while s < plan.end:
        s += step * float(rng.uniform(0.8, 1.3))
        mesh = kinds[int(rng.integers(len(kinds)))]
        scale, turn = float(rng.uniform(0.75, 1.1)), float(rng.uniform(0.0, 6.28))
        if lined and plan.free(s, 6.0):
            street.put(mesh.at(scale=scale), s, side * (plan.kerb + max(0.5 * plan.verge, 0.7)), turn, z=0.1)
        elif plan.setback > 3.0 and plan.free(s, 6.0) and rng.random() < 0.5:
            street.put(mesh.at(scale=0.7 * scale), s, side * (plan.edge + 0.5 * plan.setback), turn, z=0.1)


def _furniture(street: Street, side: int, rng: np.random.Generator) -> None:
    """Lamps, signs, bollards along the kerb; a gantry somewhere."""
    plan, palette = street.plan, street.palette
    lamp = furniture.street_lamp(palette, rng)
    d = side * (plan.kerb + 0.45)
    inward = 0.0 if side < 0 else math.pi
    for s in np.arange(plan.start + (0.0 if side < 0 else 14.0), plan.end, 29.0):
        if plan.free(float(s), 1.5):
            street.put(lamp, float(s), d, inward)
    s = plan.start
    while s < plan.end:
        s += float(rng.uniform(9.0, 24.0))
        if plan.free(s, 1.0):
            against = 0.0 if side < 0 else math.pi
            street.put(furniture.traffic_sign(palette, rng), s, d, against + float(rng.normal(0.0, 0.08)))
    for crossing in plan.crossings:
        for offset in np.arange(2.0, 9.0, 1.5):
            street.put(furniture.bollard(palette), crossing - SIDE_HALF - 1.0 - float(offset), side * (plan.kerb + 0.3))
    if side < 0:
        for s in np.arange(60.0, plan.end - 80.0, 170.0):
            at = float(s + rng.uniform(0.0, 40.0))
            if plan.free(at, 8.0):
                street.put(furniture.overhead_sign(palette, rng, plan.kerb - plan.track), at, -(plan.kerb + 0.6))


def _park(street: Street, side: int, share: float, rng: np.random.Generator) -> None:
    """Cars, and now and then a truck or motorcycles, between the bicycle lane and the kerb."""
    plan = street.plan
    d, along = side * (plan.kerb - 0.5 * plan.parking), 0.0 if side < 0 else math.pi
    s = plan.start
    while s < plan.end:
        s += 5.9
        if rng.random() > share or not plan.free(s, 9.5):
            continue
        yaw = along + float(rng.normal(0.0, 0.02)) + (math.pi if rng.random() < 0.1 else 0.0)
        at = d + float(rng.normal(0.0, 0.06))
        kind = rng.random()
        if kind < 0.88:
            street.park(street.fleet.vehicle(C.CAR, rng), C.CAR, s, at, yaw)
        elif kind < 0.93 and plan.free(s + 2.0, 12.0):
            street.park(street.fleet.vehicle(C.TRUCK, rng), C.TRUCK, s + 2.4, d + side * 0.1, yaw)
            s += 4.6
        else:
            for shift in (-1.6, 0.0, 1.6):
                slanted = along + side * 0.9 + float(rng.normal(0.0, 0.05))
                street.park(street.fleet.vehicle(C.MOTORCYCLE, rng), C.MOTORCYCLE, s + shift, at, slanted)


def _bystanders(street: Street, side: int, rng: np.random.Generator) -> None:
    """Bicycles left at the kerb, in rows."""
    plan = street.plan
    s = plan.start
    while s < plan.end:
        s += float(rng.uniform(20.0, 60.0))
        if not plan.free(s, 6.0):
            continue
        for index in range(int(rng.integers(1, 5))):
            yaw = 0.5 * math.pi + float(rng.normal(0.0, 0.12))
            d = side * (plan.kerb + plan.verge + 1.25)
            street.park(street.fleet.vehicle(C.BICYCLE, rng), C.BICYCLE, s + 0.7 * index, d, yaw, KERB)


def _junctions(street: Street, rng: np.random.Generator) -> None:
    """Signals at each side street, for both directions and for the side street."""
    plan, palette = street.plan, street.palette
    for crossing in plan.crossings:
        reach = plan.kerb - plan.track - 1.0 if plan.lanes > 1 or rng.random() < 0.4 else 0.0
        near, far = crossing - SIDE_HALF - 0.8, crossing + SIDE_HALF + 0.8
        d = plan.kerb + 0.55
        for s, at, yaw in ((near, -d, 0.0), (far, d, math.pi), (far, -d, 0.5 * math.pi), (near, d, -0.5 * math.pi)):
            arm = reach if yaw in (0.0, math.pi) else 0.0
            street.put(furniture.traffic_light(palette, rng, arm), s, at, yaw)


def _ends(street: Street, rng: np.random.Generator) -> None:
    """Houses across both ends, so that nobody looks into nothing."""
    plan = street.plan
    for s, yaw in ((plan.end + 25.0, -0.5 * math.pi), (plan.start - 25.0, 0.5 * math.pi)):
        for d in np.arange(-70.0, 71.0, 20.0):
            T = street.upright(s, float(d), yaw)
            floors = int(rng.integers(3, 7))
            street.parts.append(house(19.9, floors, street.palette, rng).moved(T @ pose(-10.0)))
