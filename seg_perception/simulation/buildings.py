"""Houses: facades with recessed windows, shops, doors, balconies and roofs.

The front stands at y = 0 facing -y, from x = 0 to the width; the house is behind it, at positive y, on z = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seg_perception.simulation.classes import C
from seg_perception.simulation.materials import BRICK_COLORS, FACADE_COLORS, ROOF_COLORS, Kind, Palette
from seg_perception.simulation.mesh import Mesh, box, boxes, merge, quads

_RECESS = 0.16
_BELOW = 1.5  # m that walls go on under the ground, where a street slopes


@dataclass(frozen=True, slots=True)
class _Style:
    """What a house is built of. floor: metres a storey; share: of a bay that its window takes, across and up."""

    wall: int
    trim: int
    roof: int
    frame: tuple[float, float, float]
    floor: float
    ground_floor: float
    bay: float
    share: tuple[float, float]


def house(width: float, floors: int, palette: Palette, rng: np.random.Generator) -> Mesh:
    """A house of that width with a drawn style."""
    style = _style(palette, rng)
    depth = float(rng.uniform(9.0, 14.0))
    eaves = style.ground_floor + (floors - 1) * style.floor + 0.3
    shop = rng.random() < 0.45
    front, openings = _facade(width, floors, style, shop, palette, rng)
    parts = [front, _shell(width, depth, eaves, style, palette, rng)]
    parts.append(_trim(width, eaves, floors, style))
    parts.append(_balconies(openings, style, palette, rng) if floors > 2 and rng.random() < 0.4 else merge([]))
    parts.append(_roof(width, depth, eaves, style, palette, rng))
    if shop:
        parts.append(_awning(width, style, palette, rng))
    return merge(parts).labelled(C.BUILDING)


def _style(palette: Palette, rng: np.random.Generator) -> _Style:
    add, seed = palette.materials.add, int(rng.integers(60))
    if rng.random() < 0.40:
        wall = add(Kind.BRICK, BRICK_COLORS[int(rng.integers(len(BRICK_COLORS)))], (0.62, 0.60, 0.56), seed=seed)
    else:
        color = np.clip(np.array(FACADE_COLORS[int(rng.integers(len(FACADE_COLORS)))]) + rng.uniform(-0.08, 0.05), 0, 1)
        wall = add(Kind.PLASTER, tuple(color.round(2)), tuple((0.78 * color).round(2)), seed=seed)
    trims = ((0.82, 0.80, 0.75), (0.60, 0.58, 0.55), (0.45, 0.43, 0.42), (0.72, 0.66, 0.58))
    trim = add(Kind.PLASTER, trims[int(rng.integers(len(trims)))], (0.5, 0.48, 0.45), seed=seed + 1)
    roof = add(Kind.TILES, ROOF_COLORS[int(rng.integers(len(ROOF_COLORS)))], seed=seed + 2)
    frames = ((0.90, 0.90, 0.88), (0.25, 0.24, 0.24), (0.42, 0.30, 0.20), (0.86, 0.84, 0.78))
    return _Style(
        wall,
        trim,
        roof,
        frames[int(rng.integers(len(frames)))],
        float(rng.uniform(2.9, 3.5)),
        float(rng.uniform(3.3, 4.2)),
        float(rng.uniform(2.3, 3.6)),
        (float(rng.uniform(0.38, 0.62)), float(rng.uniform(0.50, 0.66))),
    )


def _facade(
    width: float, floors: int, style: _Style, shop: bool, palette: Palette, rng: np.random.Generator
) -> tuple[Mesh, NDArray]:
    """The front wall with its openings; and the openings above the ground floor, (K, 4): x0, x1, z0, z1."""
    bays = max(int(width / style.bay), 1)
    edges = np.linspace(0.0, width, bays + 1)
    levels = np.concatenate([[0.0], style.ground_floor + style.floor * np.arange(floors)])
    cells, holes, doors = [], [], []
    door_bay = int(rng.integers(bays))
    for floor in range(floors):
        for bay in range(bays):
            x0, x1, z0, z1 = edges[bay], edges[bay + 1], levels[floor], levels[floor + 1]
            middle, half = 0.5 * (x0 + x1), 0.5 * style.share[0] * (x1 - x0)
            sill = z0 + 0.27 * (z1 - z0)
            hole = (middle - half, middle + half, sill, sill + style.share[1] * (z1 - z0))
            if floor == 0 and bay == door_bay:
                hole = (middle - 0.55, middle + 0.55, 0.02, 2.25)
                doors.append(hole)
            elif floor == 0 and shop:
                hole = (x0 + 0.22, x1 - 0.22, 0.45, z1 - 0.75)
            cells.append((x0, x1, z0 if floor else -_BELOW, z1))
            holes.append(hole)
    cell, opening = np.array(cells), np.array(holes)
    kinds = np.array([tuple(h) in doors for h in holes])
    wall = quads(_frames(cell, opening), style.wall)
    reveals = quads(_reveals(opening), style.trim)
    wood = palette.materials.add(Kind.PLANKS, (0.30, 0.18, 0.12), scale=0.18, seed=door_bay)
    parts = [
        wall,
        reveals,
        quads(_upright(opening[kinds], _RECESS), wood),
        _panes(opening[~kinds], style, palette, rng),
    ]
    upper = opening[bays:]
    if len(upper):
        low = np.stack([upper[:, 0] - 0.06, np.full(len(upper), -0.07), upper[:, 2] - 0.09], axis=1)
        high = np.stack([upper[:, 1] + 0.06, np.full(len(upper), 0.02), upper[:, 2]], axis=1)
        parts.append(boxes(low, high, style.trim))
    return merge(parts), upper


def _frames(cell: NDArray, hole: NDArray) -> NDArray:
    """(4K, 4, 3): the wall of each cell around its hole, both (K, 4) as x0, x1, z0, z1."""
    x0, x1, z0, z1 = cell.T
    a0, a1, b0, b1 = hole.T
    stretches = [(x0, x1, z0, b0), (x0, x1, b1, z1), (x0, a0, b0, b1), (a1, x1, b0, b1)]
    return np.concatenate([_upright(np.stack(stretch, axis=1), 0.0) for stretch in stretches])


def _upright(areas: NDArray, y: float) -> NDArray:
    """(K, 4, 3) upright rectangles from (K, 4): x0, x1, z0, z1."""
    x0, x1, z0, z1 = areas.T
    depth = np.full(len(areas), y)
    corners = [(x0, z0), (x1, z0), (x1, z1), (x0, z1)]
    return np.stack([np.stack([x, depth, z], axis=1) for x, z in corners], axis=1)


def _reveals(hole: NDArray) -> NDArray:
    """(4K, 4, 3): the four inner sides of each hole."""
    x0, x1, z0, z1 = hole.T
    near, far = np.zeros(len(hole)), np.full(len(hole), _RECESS)
    corners = [(x0, z0), (x1, z0), (x1, z1), (x0, z1)]
    sides = []
    for (xa, za), (xb, zb) in zip(corners, corners[1:] + corners[:1], strict=True):
        ring = [(xa, near, za), (xb, near, zb), (xb, far, zb), (xa, far, za)]
        sides.append(np.stack([np.stack(point, axis=1) for point in ring], axis=1))
    return np.concatenate(sides)


def _panes(hole: NDArray, style: _Style, palette: Palette, rng: np.random.Generator) -> Mesh:
    """Glass behind each hole, each with a room of its own; one material for each size of window."""
    parts = []
    sizes = np.round(np.stack([hole[:, 1] - hole[:, 0], hole[:, 3] - hole[:, 2]], axis=1), 2)
    for size in np.unique(sizes, axis=0):
        chosen = hole[(sizes == size).all(axis=1)]
        pane = palette.materials.add(
            Kind.PANE, (0.10, 0.11, 0.12), style.frame, p0=size[0], p1=size[1], gloss=0.9, reflectance=0.10
        )
        corners = _upright(chosen, _RECESS)
        room = rng.integers(0, 4096, len(chosen))[:, None] * 16.0
        uv = corners[..., [0, 2]] - chosen[:, None, [0, 2]]
        uv[..., 0] += room
        parts.append(quads(corners, pane, uv))
    return merge(parts)


def _shell(width: float, depth: float, eaves: float, style: _Style, palette: Palette, rng: np.random.Generator) -> Mesh:
    """Sides and back, with a column of windows on each side."""
    walls = [
        [(0, 0, -_BELOW), (0, depth, -_BELOW), (0, depth, eaves), (0, 0, eaves)],
        [(width, 0, -_BELOW), (width, depth, -_BELOW), (width, depth, eaves), (width, 0, eaves)],
        [(0, depth, -_BELOW), (width, depth, -_BELOW), (width, depth, eaves), (0, depth, eaves)],
        [(0, 0, eaves - 0.3), (width, 0, eaves - 0.3), (width, 0, eaves), (0, 0, eaves)],
    ]
    parts = [quads(np.array(walls, float), style.wall)]
    pane = palette.materials.add(Kind.PANE, (0.10, 0.11, 0.12), style.frame, p0=1.1, p1=1.5, gloss=0.9, reflectance=0.1)
    windows, uv = [], []
    for x, out in ((0.0, -0.02), (width, 0.02)):
        for z in np.arange(1.1, eaves - 2.0, style.floor):
            for y in np.arange(1.6, depth - 1.6, 3.2):
                windows.append(
                    [(x + out, y, z), (x + out, y + 1.1, z), (x + out, y + 1.1, z + 1.5), (x + out, y, z + 1.5)]
                )
                room = 16.0 * float(rng.integers(4096))
                uv.append([(room, 0.0), (room + 1.1, 0.0), (room + 1.1, 1.5), (room, 1.5)])
    if windows:
        parts.append(quads(np.array(windows), pane, np.array(uv)))
    return merge(parts)


def _trim(width: float, eaves: float, floors: int, style: _Style) -> Mesh:
    """Plinth, bands between storeys, cornice."""
    parts = [box((width - 0.02, 0.10, 0.22), (0.5 * width, -0.11, eaves - 0.10), style.trim)]
    parts.append(box((width - 0.02, 0.06, 0.16), (0.5 * width, -0.03, style.ground_floor), style.trim))
    return merge(parts)


def _balconies(openings: NDArray, style: _Style, palette: Palette, rng: np.random.Generator) -> Mesh:
    """Slabs with railings under some of the windows."""
    chosen = openings[rng.random(len(openings)) < 0.35]
    if not len(chosen):
        return merge([])
    x0, x1, floor = chosen[:, 0] - 0.35, chosen[:, 1] + 0.35, chosen[:, 2] - 0.12
    out = np.full(len(chosen), -1.0)
    parts = [boxes(np.stack([x0, out, floor - 0.14], 1), np.stack([x1, 0.0 * out, floor], 1), style.trim)]
    rail = palette.dark_steel
    parts.append(boxes(np.stack([x0, out, floor + 0.95], 1), np.stack([x1, out + 0.04, floor + 1.0], 1), rail))
    for share in np.linspace(0.0, 1.0, 12):
        x = x0 + share * (x1 - x0 - 0.02)
        parts.append(boxes(np.stack([x, out, floor], 1), np.stack([x + 0.02, out + 0.02, floor + 0.95], 1), rail))
    for x in (x0, x1 - 0.03):
        parts.append(boxes(np.stack([x, out, floor], 1), np.stack([x + 0.03, 0.0 * out, floor + 0.98], 1), rail))
    return merge(parts)


def _roof(width: float, depth: float, eaves: float, style: _Style, palette: Palette, rng: np.random.Generator) -> Mesh:
    if rng.random() < 0.35:  # flat, behind a parapet
        flat = box((width, depth, 0.1), (0.5 * width, 0.5 * depth, eaves + 0.05), palette.concrete)
        sides = [box((width, 0.2, 0.7), (0.5 * width, y, eaves + 0.45), style.trim) for y in (0.1, depth - 0.1)] + [
            box((0.2, depth - 0.4, 0.7), (x, 0.5 * depth, eaves + 0.45), style.trim) for x in (0.1, width - 0.1)
        ]
        lift = box((3.0, 3.0, 2.2), (0.5 * width, 0.55 * depth, eaves + 1.2), style.wall)
        return merge([flat, *sides, lift])
    ridge, over = eaves + float(rng.uniform(2.2, 4.2)), 0.4
    slope = (ridge - eaves) / (0.5 * depth)
    front, back, low = -over, depth + over, eaves - over * slope
    length = np.hypot(0.5 * depth + over, ridge - low)
    planes = [
        [(0, front, low), (width, front, low), (width, 0.5 * depth, ridge), (0, 0.5 * depth, ridge)],
        [(0, back, low), (width, back, low), (width, 0.5 * depth, ridge), (0, 0.5 * depth, ridge)],
    ]
    uv = np.tile([(0.0, 0.0), (width, 0.0), (width, length), (0.0, length)], (2, 1, 1))
    gables = [
        [(x, 0, eaves), (x, depth, eaves), (x, 0.5 * depth, ridge), (x, 0.5 * depth, ridge)] for x in (0.0, width)
    ]
    parts = [quads(np.array(planes, float), style.roof, uv), quads(np.array(gables, float), style.wall)]
    chimney = float(rng.uniform(0.2, 0.8)) * width
    parts.append(box((0.7, 0.9, 2.2), (chimney, 0.62 * depth, ridge - 0.2), style.wall))
    for x in np.arange(1.8, width - 2.2, 3.4):
        if rng.random() < 0.5:
            parts.append(_dormer(x, eaves, slope, style, palette, rng))
    return merge(parts)


def _dormer(x: float, eaves: float, slope: float, style: _Style, palette: Palette, rng: np.random.Generator) -> Mesh:
    y = 0.9
    base = eaves + y * slope
    pane = palette.materials.add(Kind.PANE, (0.10, 0.11, 0.12), style.frame, p0=1.1, p1=1.1, gloss=0.9, reflectance=0.1)
    room = 16.0 * float(rng.integers(4096))
    uv = np.array([[(room, 0.0), (room + 1.1, 0.0), (room + 1.1, 1.1), (room, 1.1)]])
    glass = quads(_upright(np.array([[x + 0.1, x + 1.2, base + 0.1, base + 1.2]]), y - 0.01), pane, uv)
    return merge([box((1.3, 2.6, 1.35), (x + 0.65, y + 1.3, base + 0.62), style.trim), glass])


def _awning(width: float, style: _Style, palette: Palette, rng: np.random.Generator) -> Mesh:
    """Cloth over the shop windows, and the shop's name above."""
    colors = ((0.55, 0.10, 0.10), (0.12, 0.32, 0.22), (0.14, 0.20, 0.42), (0.80, 0.76, 0.66), (0.75, 0.55, 0.15))
    color = colors[int(rng.integers(len(colors)))]
    z = style.ground_floor - 0.62
    parts = []
    if rng.random() < 0.6:
        cloth = palette.materials.add(Kind.PLANKS, color, scale=0.35, seed=int(rng.integers(20)))
        plane = [(0.4, 0.0, z), (width - 0.4, 0.0, z), (width - 0.4, -1.2, z - 0.5), (0.4, -1.2, z - 0.5)]
        edge = [(0.4, -1.2, z - 0.5), (width - 0.4, -1.2, z - 0.5), (width - 0.4, -1.2, z - 0.7), (0.4, -1.2, z - 0.7)]
        parts.append(quads(np.array([plane, edge], float), cloth))
    name = palette.materials.add(Kind.SIGN, color, (0.92, 0.90, 0.85), p0=3.0, seed=int(rng.integers(99)))
    board = np.array(
        [[(0.5, -0.09, z + 0.06), (width - 0.5, -0.09, z + 0.06), (width - 0.5, -0.09, z + 0.5), (0.5, -0.09, z + 0.5)]]
    )
    parts.append(quads(board, name, np.array([[(-1.0, -0.3), (1.0, -0.3), (1.0, 0.3), (-1.0, 0.3)]])))
    return merge(parts)
