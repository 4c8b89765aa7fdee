"""The ground of a street, from the road to the far terrain, and the paint on it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from seg_perception.simulation.classes import C
from seg_perception.simulation.materials import Kind, Palette
from seg_perception.simulation.mesh import Mesh, box, grid, merge
from seg_perception.simulation.plan import BIKE_LANE, KERB, SIDE_HALF, SIDE_REACH, Plan
from seg_perception.simulation.textures import (
    MARK_ALONG,
    MARK_COLUMNS,
    MARK_DUTY,
    MARK_PERIOD,
    MARK_U0,
    MARK_U1,
    MARK_V0,
    MARK_V1,
)

_STEP = 1.5  # m along the street between the rows of its surface
_SIDE_WALK = 2.6  # width of the sidewalks of side streets
_YARD = 38.0  # how far the terrain behind the facades reaches


def ground(plan: Plan, palette: Palette, rng: np.random.Generator) -> Mesh:
    """Everything one can stand on."""
    grey = float(rng.uniform(0.27, 0.42))
    seed = int(rng.integers(1000))
    add = palette.materials.add
    asphalt = add(Kind.ASPHALT, (grey, grey, grey * 1.02), p0=float(rng.uniform(0.0, 1.0)), seed=seed, reflectance=0.14)
    stone = float(rng.uniform(0.46, 0.62))
    size, bond = float(rng.choice([0.30, 0.40, 0.50])), float(rng.integers(2))
    paving = add(
        Kind.PAVING,
        (stone, stone * 0.985, stone * 0.95),
        scale=size,
        p0=bond,
        p1=float(rng.choice([0.0, 1.0])),
        seed=seed,
    )
    green = np.array([0.33, 0.40, 0.17]) * rng.uniform(0.85, 1.15)
    grass = add(
        Kind.GRASS, tuple(green.round(2)), tuple((green * [1.25, 1.0, 0.9]).round(2)), seed=seed, reflectance=0.35
    )
    under = plan.kerb + 0.05  # below the kerb
    parts = [_strip(plan, plan.start, plan.end, -under, under, 0.0, 0.0, asphalt, C.ROAD, 8)]
    if plan.track > 0.0:
        parts.append(_rails(plan, palette))
    for side in (-1.0, 1.0):
        for first, last in plan.stretches():
            parts += _edge(plan, side, first, last, palette.kerb, grass, paving)
        for crossing in plan.crossings:
            parts += _side_street(plan, side, crossing, asphalt, paving, palette.kerb)
    parts.append(_far(plan, grass))
    return merge(parts)


def _strip(
    plan: Plan,
    s0: float,
    s1: float,
    d0: float,
    d1: float,
    z0: float,
    z1: float,
    material: int,
    label: C,
    columns: int = 1,
) -> Mesh:
    """A band of ground from (s0, d0) to (s1, d1), at height z0 at d0 and z1 at d1; u is s, v is d."""
    inner = (
        np.arange(math.floor(s0 / _STEP) + 1, math.ceil(s1 / _STEP)) * _STEP
    )  # the same rows in every band: no cracks
    s = np.unique(np.concatenate([[s0], inner, [s1]]))[:, None]
    share = np.linspace(0.0, 1.0, columns + 1)[None]
    d = d0 + (d1 - d0) * share + 0.0 * s
    points = plan.line.points(s + 0.0 * share, d, z0 + (z1 - z0) * share)
    uv = np.stack(np.broadcast_arrays(s, d), axis=2)
    return grid(points, material, uv).labelled(label)


def _edge(plan: Plan, side: float, first: float, last: float, kerb: int, grass: int, paving: int) -> list[Mesh]:
    """Kerb, verge, sidewalk, garden and yard of one side between two side streets."""
    k, inner = plan.kerb, 0.14
    parts = [
        _strip(plan, first, last, side * k, side * (k + 0.01), 0.0, KERB - 0.01, kerb, C.SIDEWALK),
        _strip(plan, first, last, side * (k + 0.01), side * (k + inner), KERB - 0.01, KERB, kerb, C.SIDEWALK),
    ]
    walk, high = k + inner, KERB
    if plan.verge > 0.0:
        walk, high = k + plan.verge, KERB + 0.01
        parts.append(_strip(plan, first, last, side * (k + inner), side * walk, KERB, high, grass, C.TERRAIN, 2))
    parts.append(_strip(plan, first, last, side * walk, side * plan.edge, high, KERB, paving, C.SIDEWALK, 3))
    yard = side * (plan.front + _YARD)  # falls, so that the sidewalks of side streets lie on top of it
    parts.append(_strip(plan, first, last, side * plan.edge, yard, KERB, KERB - 0.1, grass, C.TERRAIN, 8))
    for s in (first, last):  # the end faces of the raised strip
        d = np.array([side * k, side * plan.edge])[None]
        z = np.array([0.0, KERB])[:, None]
        face = plan.line.points(s + 0.0 * (d + z), d + 0.0 * z, z + 0.0 * d)
        parts.append(grid(face, kerb).labelled(C.SIDEWALK))
    return parts


def _side_street(plan: Plan, side: float, crossing: float, asphalt: int, paving: int, kerb: int) -> list[Mesh]:
    """The road that joins, and its sidewalks on top of the yards."""
    d0, d1 = side * plan.kerb, side * (plan.front + SIDE_REACH)
    low, high = crossing - SIDE_HALF, crossing + SIDE_HALF
    parts = [_strip(plan, low, high, d0, d1, 0.0, 0.0, asphalt, C.ROAD, 8)]
    for near, far in ((low - _SIDE_WALK, low), (high, high + _SIDE_WALK)):
        parts.append(_strip(plan, near, far, side * plan.edge, d1, KERB, KERB, paving, C.SIDEWALK, 8))
    for s in (low, high):
        d = np.array([side * plan.edge, d1])[None]
        z = np.array([0.0, KERB])[:, None]
        face = plan.line.points(s + 0.0 * (d + z), d + 0.0 * z, z + 0.0 * d)
        parts.append(grid(face, kerb).labelled(C.SIDEWALK))
    return parts


def _rails(plan: Plan, palette: Palette) -> Mesh:
    """Two rails flush with the road, a hand's breadth of steel each."""
    rails = [
        _strip(plan, plan.start, plan.end, d - 0.03, d + 0.03, 0.006, 0.006, palette.steel, C.ROAD)
        for d in (-0.72, 0.72)
    ]
    return merge(rails)


def _far(plan: Plan, grass: int) -> Mesh:
    """A plain to the horizon, below everything else."""
    points = plan.line.points(np.linspace(plan.start, plan.end, 9), 0.0)
    x, y, z = points.mean(axis=0)
    floor = float(points[:, 2].min()) - 1.2
    return box((5000.0, 5000.0, 0.2), (x, y, min(floor, z)), grass).labelled(C.TERRAIN)


def markings(plan: Plan) -> NDArray[np.float64]:
    """(K, MARK_COLUMNS) rectangles of paint in (s, d), solid or dashed."""
    rows: list[NDArray] = []

    def paint(
        s0: float, s1: float, d: float, width: float, period: float = 0.0, duty: float = 0.0, along: int = 0
    ) -> None:
        row = np.zeros(MARK_COLUMNS)
        row[[MARK_U0, MARK_U1, MARK_V0, MARK_V1]] = s0, s1, d - 0.5 * width, d + 0.5 * width
        row[[MARK_PERIOD, MARK_DUTY, MARK_ALONG]] = period, duty, along
        rows.append(row)

    for first, last in plan.stretches(margin=5.6):
        for side in (-1.0, 1.0):
            for lane in range(1, plan.lanes):
                paint(first, last, side * (plan.track + lane * plan.lane_width), 0.13, 9.0, 3.0)
            paint(first, last, side * plan.lanes_end, 0.13)
            paint(first, last, side * (plan.lanes_end + BIKE_LANE), 0.11, 2.0, 1.0)
            if plan.track > 0.0:
                paint(first, last, side * plan.track, 0.13)
        if plan.track == 0.0:
            paint(first, last, 0.0, 0.13, 6.0, 3.0)
    for crossing in plan.crossings:
        for near, far, stop, side in (
            (crossing - SIDE_HALF - 4.4, crossing - SIDE_HALF - 1.2, crossing - SIDE_HALF - 5.4, -1.0),
            (crossing + SIDE_HALF + 1.2, crossing + SIDE_HALF + 4.4, crossing + SIDE_HALF + 5.4, 1.0),
        ):
            paint(near, far, 0.0, 2.0 * plan.kerb - 0.6, 1.0, 0.5, along=1)
            middle = side * 0.5 * (plan.track + plan.lanes_end)
            paint(stop - 0.2, stop + 0.2, middle, plan.lanes_end - plan.track)
    return np.array(rows)
