"""Cars, vans, trucks, buses and trams: lofted bodies with windows, wheels and lamps.

Each stands on the ground at z = 0, x ahead, its middle at the origin. Windows belong to the vehicle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seg_perception.simulation.materials import CAR_COLORS, FACADE_COLORS, Kind, Palette
from seg_perception.simulation.mesh import Mesh, box, disc, grid, merge, tube


@dataclass(frozen=True, slots=True)
class Body:
    """The shape of a car: metres, and stations from front (0) to rear (1).

    belt, roof: heights at the stations `at`; roof_width: half width of the roof as a share of the body's. glass: which
    stretches between stations have side windows; screens: which stretches have glass across (wind screen, rear window).
    """

    length: float
    width: float
    at: tuple[float, ...]
    belt: tuple[float, ...]
    roof: tuple[float, ...]
    glass: tuple[bool, ...]
    screens: tuple[bool, ...]
    wheel: float = 0.32
    sill: float = 0.20
    axles: tuple[float, float] = (0.19, 0.80)
    roof_width: float = 0.76


_SEDAN = Body(
    4.6, 1.80,
    (0.0, 0.015, 0.06, 0.16, 0.27, 0.43, 0.545, 0.565, 0.70, 0.725, 0.86, 0.95, 0.985, 1.0),
    (0.56, 0.66, 0.74, 0.83, 0.92, 0.94, 0.95, 0.95, 0.96, 0.96, 0.99, 1.00, 0.96, 0.82),
    (0.58, 0.68, 0.76, 0.86, 0.96, 1.41, 1.44, 1.44, 1.40, 1.38, 1.05, 1.03, 0.98, 0.84),
    (False, False, False, False, True, True, False, True, False, True, False, False, False),
    (False, False, False, False, True, False, False, False, False, True, False, False, False),
)  # fmt: skip
_HATCH = Body(
    4.1, 1.76,
    (0.0, 0.015, 0.06, 0.15, 0.25, 0.42, 0.565, 0.59, 0.79, 0.82, 0.93, 0.975, 0.99, 1.0),
    (0.56, 0.68, 0.77, 0.87, 0.95, 0.97, 0.98, 0.98, 1.00, 1.00, 1.02, 1.00, 0.90, 0.72),
    (0.58, 0.70, 0.79, 0.90, 0.99, 1.45, 1.50, 1.50, 1.47, 1.45, 1.38, 1.05, 0.92, 0.74),
    (False, False, False, False, True, True, False, True, False, True, False, False, False),
    (False, False, False, False, True, False, False, False, False, False, True, False, False),
)  # fmt: skip
_SUV = Body(
    4.6, 1.88,
    (0.0, 0.015, 0.05, 0.14, 0.24, 0.38, 0.545, 0.565, 0.75, 0.775, 0.92, 0.97, 0.99, 1.0),
    (0.70, 0.84, 0.93, 1.02, 1.08, 1.09, 1.10, 1.10, 1.12, 1.12, 1.13, 1.08, 1.00, 0.80),
    (0.72, 0.86, 0.95, 1.05, 1.12, 1.62, 1.68, 1.68, 1.66, 1.65, 1.58, 1.12, 1.02, 0.82),
    (False, False, False, False, True, True, False, True, False, True, False, False, False),
    (False, False, False, False, True, False, False, False, False, False, True, False, False),
    wheel=0.36, sill=0.28, roof_width=0.78,
)  # fmt: skip
_VAN = Body(
    5.1, 1.95,
    (0.0, 0.015, 0.05, 0.10, 0.16, 0.30, 0.40, 0.425, 0.70, 0.72, 0.95, 0.985, 0.995, 1.0),
    (0.68, 0.84, 0.96, 1.06, 1.14, 1.16, 1.16, 1.16, 1.18, 1.18, 1.18, 1.18, 1.10, 0.90),
    (0.70, 0.86, 0.99, 1.10, 1.20, 1.84, 1.94, 1.95, 1.96, 1.96, 1.95, 1.90, 1.60, 0.95),
    (False, False, False, False, True, True, False, False, False, False, False, False, False),
    (False, False, False, False, True, False, False, False, False, False, False, False, False),
    wheel=0.34, sill=0.26, roof_width=0.88,
)  # fmt: skip
_BODIES = (_SEDAN, _HATCH, _HATCH, _SUV, _SUV, _VAN, _SEDAN)


_BUS_COLORS = ((0.75, 0.12, 0.10), (0.85, 0.70, 0.12), (0.86, 0.86, 0.84), (0.10, 0.35, 0.55), (0.15, 0.45, 0.28))
_LOAD_COLORS = ((0.85, 0.85, 0.83), (0.60, 0.62, 0.64), (0.20, 0.30, 0.48), (0.72, 0.60, 0.30), (0.30, 0.42, 0.30))
_TRAM_COLORS = ((0.80, 0.14, 0.12), (0.88, 0.86, 0.80), (0.85, 0.72, 0.15), (0.12, 0.40, 0.34), (0.20, 0.35, 0.60))


def car(palette: Palette, rng: np.random.Generator) -> Mesh:
    """A passenger car or a small van of a drawn shape, size and colour."""
    body = _BODIES[int(rng.integers(len(_BODIES)))]
    color = np.clip(np.array(CAR_COLORS[int(rng.integers(len(CAR_COLORS)))]) + rng.uniform(-0.04, 0.04), 0.02, 0.95)
    paint = palette.materials.add(Kind.PLAIN, tuple(color.round(2)), gloss=0.75)
    size = float(rng.uniform(0.95, 1.06))
    parts = [_shell(body, paint, palette), *_wheels(body, palette), *_details(body, paint, palette)]
    return merge(parts).at(scale=size)


def _shell(body: Body, paint: int, palette: Palette) -> Mesh:
    """The painted surface: a ring of points across the car at each station, glass where the windows are."""
    at = np.array(body.at)
    x = body.length * (0.5 - at)
    belt, roof = np.array(body.belt), np.array(body.roof)
    nose = np.minimum(np.minimum(at / 0.10, (1.0 - at) / 0.07), 1.0)
    half = 0.5 * body.width * (0.80 + 0.20 * np.sqrt(nose))
    sill = body.sill + 0.14 * (1.0 - np.sqrt(nose))
    cabin = np.clip((roof - belt - 0.06) / 0.35, 0.0, 1.0)
    top = half * (0.90 + (body.roof_width - 0.90) * cabin)
    ring = [
        (0.86 * half, sill - 0.02), (0.965 * half, sill + 0.05), (1.0 * half, 0.5 * (sill + belt)),
        (0.985 * half, belt - 0.10), (0.95 * half, belt), (top, roof - 0.07 * cabin - 0.01),
        (0.90 * top, roof - 0.01), (0.45 * top, roof + 0.015), (0.0 * top, roof + 0.02),
    ]  # fmt: skip
    right = np.stack([np.stack([x, y, z], axis=1) for y, z in ring], axis=1)
    left = right[:, ::-1][:, 1:] * [1.0, -1.0, 1.0]
    points = np.concatenate([right, left], axis=1)
    material = np.full((len(at) - 1, points.shape[1] - 1), paint)
    for edge in (0, -1):
        material[:, edge] = palette.dark_plastic
    side, across = np.array(body.glass), np.array(body.screens)
    for cell in (4, 11):
        material[side, cell] = palette.car_glass
    material[across, 5:11] = palette.car_glass
    ends = [_cap(points[index]) for index in (0, -1)]
    under = np.stack([points[:, 0], points[:, -1]], axis=1)
    return merge(
        [
            _creased(points, material, palette),
            *(grid(end, paint, smooth=False) for end in ends),
            grid(under, palette.shadow_gap, smooth=False),
        ]
    )


def _cap(ring: NDArray) -> NDArray:
    """(2, R + 1, 3): a fan that closes the end of a body, from the middle of its ring, floor included."""
    closed = np.concatenate([ring, ring[:1]])
    return np.stack([np.broadcast_to(ring.mean(axis=0), closed.shape), closed])


def _creased(points: NDArray, material: NDArray, palette: Palette) -> Mesh:
    """The shell, its glass in flat panes and its paint curved."""
    mesh = grid(points, material)
    flat = grid(points, material, smooth=False)
    glass = mesh.material == palette.car_glass
    mesh.normals[glass] = 0.5 * mesh.normals[glass] + 0.5 * flat.normals[glass]
    return mesh


def _wheels(body: Body, palette: Palette) -> list[Mesh]:
    parts = []
    for axle in body.axles:
        x = body.length * (0.5 - axle)
        for side in (-1.0, 1.0):
            outer = side * 0.5 * body.width
            parts.append(disc(body.wheel * 1.17, (x, outer * 1.004, body.wheel * 1.06), 1, palette.shadow_gap))
            parts += wheel((x, outer * 0.90, body.wheel), body.wheel, 0.2 * body.width / 1.8, side, palette)
    return parts


def wheel(centre: Sequence[float], radius: float, width: float, side: float, palette: Palette) -> list[Mesh]:
    """A tyre about the y axis and its rim on the outer side (1 left, -1 right)."""
    x, y, z = centre
    outer = y + side * 0.5 * width
    return [
        tube([(x, y - 0.5 * width, z), (x, y + 0.5 * width, z)], radius, palette.tyre, segments=16),
        disc(0.66 * radius, (x, outer + side * 0.004, z), 1, palette.rim, 12),
        disc(0.20 * radius, (x, outer + side * 0.010, z), 1, palette.dark_plastic, 8),
    ]


def _details(body: Body, paint: int, palette: Palette) -> list[Mesh]:
    """Lamps, plates, grille, bumpers, mirrors, door lines."""
    front, rear, half = 0.5 * body.length, -0.5 * body.length, 0.5 * body.width
    low, high = body.belt[1], body.belt[-2]
    parts = [
        box((0.03, 0.9 * half, 0.14), (front + 0.004, 0.0, low - 0.17), palette.shadow_gap),
        box((0.03, 0.50, 0.11), (front + 0.012, 0.0, body.sill + 0.16), palette.plate),
        box((0.03, 0.50, 0.11), (rear - 0.010, 0.0, high - 0.28), palette.plate),
        box((0.10, 1.55 * half, 0.10), (front - 0.02, 0.0, body.sill + 0.05), palette.dark_plastic),
        box((0.10, 1.55 * half, 0.12), (rear + 0.02, 0.0, body.sill + 0.10), palette.dark_plastic),
    ]
    for side in (-1.0, 1.0):
        parts.append(box((0.10, 0.34, 0.12), (front - 0.06, side * 0.68 * half, low - 0.08), palette.headlight))
        parts.append(box((0.08, 0.26, 0.17), (rear + 0.035, side * 0.74 * half, high - 0.14), palette.taillight))
        mirror_x = body.length * (0.5 - body.at[4]) - 0.42
        parts.append(box((0.11, 0.17, 0.11), (mirror_x, side * (half + 0.07), body.belt[4] + 0.06), paint))
    return parts


def _hull(
    length: float,
    width: float,
    low: float,
    high: float,
    paint: int,
    rows: Sequence[tuple[float, float, int]],
    pillars: float,
    palette: Palette,
) -> Mesh:
    """A long box with rounded roof edges; rows (from, to, material) of windows along it, with pillars between them."""
    half = 0.5 * width
    heights = sorted({low, *(z for row in rows for z in row[:2]), high - 0.18})
    ring = [(half, z) for z in heights] + [(0.97 * half, high - 0.07), (0.86 * half, high - 0.01), (0.0, high)]
    count = max(int(length / 1.7), 2)
    x = [0.5 * length]
    for index in range(count):
        end = 0.5 * length - (index + 1) * length / count
        x += [end + pillars, end]
    stations = np.array(x)
    right = np.array([[(s, y, z) for y, z in ring] for s in stations])
    points = np.concatenate([right, right[:, ::-1][:, 1:] * [1.0, -1.0, 1.0]], axis=1)
    material = np.full((len(stations) - 1, points.shape[1] - 1), paint)
    for start, end, glass in rows:
        for cell in range(heights.index(start), heights.index(end)):
            material[0::2, [cell, points.shape[1] - 2 - cell]] = glass
    caps = [_cap(points[index]) for index in (0, -1)]
    floor = np.stack([points[:, 0], points[:, -1]], axis=1)
    parts = [grid(points, material), *(grid(cap, paint, smooth=False) for cap in caps)]
    mesh = merge([*parts, grid(floor, palette.shadow_gap, smooth=False)])
    flat = np.cross(mesh.corners[:, 1] - mesh.corners[:, 0], mesh.corners[:, 2] - mesh.corners[:, 0])
    upright = np.abs(flat[:, 2]) < 0.3 * np.linalg.norm(flat, axis=1)
    mesh.normals[upright] = (flat[upright] / np.linalg.norm(flat[upright], axis=1)[:, None])[:, None]
    return mesh


def _paint(palette: Palette, rng: np.random.Generator, colors: Sequence[Sequence[float]]) -> int:
    color = colors[int(rng.integers(len(colors)))]
    return palette.materials.add(Kind.PLAIN, color, gloss=0.5)


def bus(palette: Palette, rng: np.random.Generator) -> Mesh:
    """A city bus of 10 to 12 metres."""
    length, width, high = float(rng.uniform(10.0, 12.0)), 2.5, 3.1
    paint = _paint(palette, rng, _BUS_COLORS)
    glass = palette.car_glass
    parts = [_hull(length, width, 0.32, high, paint, ((1.25, 2.45, glass),), 0.12, palette)]
    front, rear = 0.5 * length, -0.5 * length
    parts.append(box((0.02, 2.26, 1.35), (front + 0.011, 0.0, 1.72), glass))
    parts.append(box((0.02, 1.7, 0.28), (front + 0.012, 0.0, 2.66), palette.shadow_gap))
    parts.append(box((0.03, 1.2, 0.18), (front + 0.022, 0.0, 2.66), palette.indicator))
    parts.append(box((0.02, 1.9, 0.75), (rear - 0.011, 0.0, 2.05), glass))
    for door in (0.40, -0.02):
        parts.append(box((1.2, 0.02, 2.1), (door * length, -0.5 * width - 0.011, 1.45), glass))
        parts.append(box((0.05, 0.03, 2.1), (door * length, -0.5 * width - 0.02, 1.45), palette.dark_plastic))
    parts += _lamps(front, rear, 0.5 * width, 0.72, palette)
    for axle in (0.5 * length - 2.7, -0.5 * length + 3.2):
        parts += _heavy_wheels(axle, 0.5 * width, 0.48, palette)
    return merge(parts)


def truck(palette: Palette, rng: np.random.Generator) -> Mesh:
    """A rigid truck: cab, box or tank, chassis."""
    length, width = float(rng.uniform(6.8, 9.0)), 2.45
    paint = _paint(palette, rng, CAR_COLORS)
    load = _paint(palette, rng, _LOAD_COLORS)
    front, rear = 0.5 * length, -0.5 * length
    cab_length, cab_high = 1.9, float(rng.uniform(2.5, 2.9))
    cab = _hull(cab_length, 2.3, 0.55, cab_high, paint, ((1.45, 2.15, palette.car_glass),), 0.35, palette)
    parts = [cab.at(x=front - 0.5 * cab_length)]
    parts.append(box((0.03, 2.05, 0.85), (front + 0.016, 0.0, cab_high - 0.75), palette.car_glass))
    parts.append(box((0.03, 1.7, 0.45), (front + 0.016, 0.0, 1.02), palette.dark_plastic))
    parts.append(box((0.25, 2.35, 0.35), (front - 0.06, 0.0, 0.55), palette.dark_plastic))
    box_length, top = length - cab_length - 0.25, float(rng.uniform(2.9, 3.6))
    if rng.random() < 0.25:
        tank = tube([(rear, 0.0, 1.95), (rear + box_length, 0.0, 1.95)], 1.05, load, segments=20)
        parts.append(tank)
    else:
        parts.append(box((box_length, width, top - 1.0), (rear + 0.5 * box_length, 0.0, 0.5 * (top + 1.0)), load))
        parts.append(box((0.02, 0.04, top - 1.1), (rear - 0.011, 0.0, 0.5 * (top + 1.0)), palette.dark_steel))
        for rib in np.arange(rear + 0.6, rear + box_length - 0.3, 1.2):
            parts.append(box((0.05, width + 0.03, top - 1.02), (rib, 0.0, 0.5 * (top + 1.0)), load))
    parts.append(box((length - 0.6, 0.9, 0.26), (-0.2, 0.0, 0.82), palette.dark_steel))
    parts.append(box((0.08, 2.2, 0.14), (rear + 0.06, 0.0, 0.55), palette.dark_steel))
    parts += _lamps(front, rear, 0.48 * width, 0.85, palette)
    for axle in (front - 1.2, rear + 1.5, rear + 2.6):
        parts += _heavy_wheels(axle, 0.5 * width, 0.48, palette)
    return merge(parts)


def tram(palette: Palette, rng: np.random.Generator) -> Mesh:
    """A tram of two or three cars, bellows between them, a pantograph on top."""
    cars, each, width = int(rng.integers(2, 4)), float(rng.uniform(8.5, 10.0)), 2.4
    paint = _paint(palette, rng, _TRAM_COLORS)
    lower = _paint(palette, rng, FACADE_COLORS)
    glass, total = palette.car_glass, cars * each
    parts = []
    for index in range(cars):
        x = 0.5 * total - (index + 0.5) * each
        hull = _hull(each - 0.35, width, 0.28, 3.35, paint, ((0.28, 0.85, lower), (1.25, 2.55, glass)), 0.14, palette)
        parts.append(hull.at(x=x))
        if index < cars - 1:
            parts.append(box((0.36, width - 0.25, 2.7), (x - 0.5 * each, 0.0, 1.7), palette.dark_plastic))
        parts.append(box((1.6, 1.5, 0.35), (x, 0.0, 3.5), palette.steel))
        for side in (-1.0, 1.0):
            parts.append(box((1.3, 0.02, 2.15), (x, side * (0.5 * width + 0.011), 1.45), glass))
            parts.append(box((0.06, 0.03, 2.15), (x, side * (0.5 * width + 0.018), 1.45), palette.dark_plastic))
    for end in (1.0, -1.0):
        parts.append(box((0.02, 2.05, 1.15), (end * (0.5 * total - 0.165), 0.0, 1.95), glass))
        parts.append(box((0.05, 2.3, 0.30), (end * (0.5 * total - 0.15), 0.0, 0.55), lower))
        parts.append(box((0.02, 1.5, 0.25), (end * (0.5 * total - 0.16), 0.0, 2.85), palette.shadow_gap))
        parts.append(box((0.02, 1.1, 0.17), (end * (0.5 * total - 0.148), 0.0, 2.85), palette.indicator))
        for side in (-1.0, 1.0):
            lamp = (end * (0.5 * total - 0.15), side * 0.85, 0.98)
            parts.append(box((0.05, 0.26, 0.2), lamp, palette.headlight if end > 0.0 else palette.taillight))
    arm = [(-0.8, 0.0, 3.6), (0.5, 0.0, 4.2), (-0.3, 0.0, 4.8)]
    parts.append(tube(arm, 0.03, palette.dark_steel, segments=6))
    parts.append(box((0.12, 1.5, 0.05), (-0.3, 0.0, 4.82), palette.dark_steel))
    return merge(parts)


def _lamps(front: float, rear: float, half: float, z: float, palette: Palette) -> list[Mesh]:
    return [
        box((0.05, 0.30, 0.18), (x, side * (half - 0.28), z), material)
        for side in (-1.0, 1.0)
        for x, material in ((front + 0.02, palette.headlight), (rear - 0.02, palette.taillight))
    ]


def _heavy_wheels(x: float, half: float, radius: float, palette: Palette) -> list[Mesh]:
    parts = []
    for side in (-1.0, 1.0):
        parts.append(disc(1.15 * radius, (x, side * (half + 0.004), 1.05 * radius), 1, palette.shadow_gap))
        parts += wheel((x, side * (half - 0.13), radius), radius, 0.30, side, palette)
    return parts
