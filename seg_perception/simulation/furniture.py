"""What stands along a street: lamps, lights, signs, fences, walls. Each at its own origin, facing -x, z up."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from seg_perception.simulation.classes import C
from seg_perception.simulation.materials import BRICK_COLORS, FACADE_COLORS, Kind, Palette
from seg_perception.simulation.mesh import Mesh, box, boxes, disc, merge, quads, tube


def street_lamp(palette: Palette, rng: np.random.Generator) -> Mesh:
    """A pole of 6 to 9 metres whose arm reaches to +y."""
    height, arm = float(rng.uniform(6.0, 9.0)), float(rng.uniform(1.0, 2.2))
    metal = palette.steel if rng.random() < 0.6 else palette.dark_steel
    mast = tube([(0, 0, 0), (0, 0, 1.0), (0, 0, height - 0.6)], [0.11, 0.085, 0.055], metal)
    bow = tube(
        [(0, 0, height - 0.6), (0, 0.15, height - 0.2), (0, 0.5 * arm, height), (0, arm, height)], 0.04, metal, 8
    )
    head = box((0.22, 0.62, 0.11), (0.0, arm + 0.2, height), metal)
    glow = box((0.16, 0.5, 0.03), (0.0, arm + 0.2, height - 0.07), palette.plate)
    foot = tube([(0, 0, 0), (0, 0, 0.5)], 0.14, metal)
    return merge([mast, bow, head, glow, foot]).labelled(C.POLE)


def bollard(palette: Palette) -> Mesh:
    """A post of 0.9 metres."""
    post = tube([(0, 0, 0), (0, 0, 0.9)], 0.055, palette.dark_steel, segments=10)
    return merge([post, tube([(0, 0, 0.72), (0, 0, 0.80)], 0.058, palette.plate, 10, False)]).labelled(C.POLE)


def traffic_light(palette: Palette, rng: np.random.Generator, arm: float = 0.0) -> Mesh:
    """A signal on a pole, on request a second one on an arm that reaches to +y over the lanes."""
    mast = [tube([(0, 0, 0), (0, 0, 3.4 if arm == 0.0 else 5.6)], 0.075, palette.dark_steel)]
    state = int(rng.integers(3))
    heads = [_signal(palette, state).at(x=-0.02, y=0.16, z=2.95)]
    if arm > 0.0:
        mast.append(tube([(0, 0, 5.4), (0, arm, 5.5)], [0.06, 0.045], palette.dark_steel, segments=8))
        heads.append(_signal(palette, state).at(x=-0.12, y=arm - 0.2, z=5.45))
    return merge([merge(mast).labelled(C.POLE), merge(heads).labelled(C.TRAFFIC_LIGHT)])


def _signal(palette: Palette, state: int) -> Mesh:
    """Three lamps, one of them on, in a housing with hoods, its middle at the origin."""
    on = ((0.95, 0.10, 0.06), (0.98, 0.65, 0.08), (0.10, 0.90, 0.45))
    parts = [
        box((0.20, 0.30, 0.92), (0.0, 0.0, 0.0), palette.dark_plastic),
        box((0.015, 0.46, 1.10), (0.06, 0.0, 0.0), palette.shadow_gap),
    ]
    for index, color in enumerate(on):
        z = 0.29 - 0.29 * index
        lit = palette.materials.add(Kind.LAMP, color, emission=1.4, reflectance=0.5)
        parts.append(disc(0.105, (-0.104, 0.0, z), 0, lit if index == state else palette.lamp_off))
        phi = np.linspace(0.1, math.pi - 0.1, 9)
        rim = np.stack([np.full(9, -0.104), 0.125 * np.cos(phi), z + 0.125 * np.sin(phi)], axis=1)
        hood = np.stack([rim[:-1], rim[1:], rim[1:] - [0.18, 0, 0], rim[:-1] - [0.18, 0, 0]], axis=1)
        parts.append(quads(hood, palette.dark_plastic))
    return merge(parts)


def traffic_sign(palette: Palette, rng: np.random.Generator) -> Mesh:
    """A sign, sometimes two, on a pole."""
    height = float(rng.uniform(2.2, 2.8))
    pole = tube([(0, 0, 0), (0, 0, height + 0.35)], 0.032, palette.steel, segments=8).labelled(C.POLE)
    faces = [_face(palette, rng, int(rng.integers(5))).at(x=-0.045, z=height)]
    if rng.random() < 0.25:
        faces.append(_face(palette, rng, 3).at(x=-0.045, z=height - 0.72, scale=0.8))
    return merge([pole, merge(faces).labelled(C.TRAFFIC_SIGN)])


def overhead_sign(palette: Palette, rng: np.random.Generator, span: float) -> Mesh:
    """Direction boards on a gantry arm that reaches `span` metres to +y."""
    pole = [
        tube([(0, 0, 0), (0, 0, 6.4)], 0.14, palette.steel),
        tube([(0, 0, 6.2), (0, span, 6.2)], 0.09, palette.steel),
    ]
    color = ((0.05, 0.22, 0.50), (0.03, 0.33, 0.22))[int(rng.integers(2))]
    face = palette.materials.add(
        Kind.SIGN, color, (0.92, 0.92, 0.92), p0=3.0, seed=int(rng.integers(99)), reflectance=0.95
    )
    boards = [_plate(face, palette, 2.6, 1.5, "square").at(x=-0.16, y=y, z=6.1) for y in (0.45 * span, span - 0.9)]
    return merge([merge(pole).labelled(C.POLE), merge(boards).labelled(C.TRAFFIC_SIGN)])


def _face(palette: Palette, rng: np.random.Generator, kind: int) -> Mesh:
    red, blue, white, yellow = (0.72, 0.05, 0.07), (0.05, 0.20, 0.55), (0.92, 0.92, 0.90), (0.90, 0.75, 0.10)
    seed = int(rng.integers(99))
    border, field, outline = (
        (red, white, "round"),
        (blue, white, "round"),
        (red, white, "triangle"),
        ((blue, white, "square"), (white, (0.05, 0.05, 0.05), "square"), (yellow, (0.1, 0.1, 0.1), "square"))[seed % 3],
        (red, white, "octagon"),
    )[kind]
    face = palette.materials.add(Kind.SIGN, border, field, p0=float(kind), seed=seed, reflectance=0.95)
    size = float(rng.uniform(0.62, 0.80))
    return _plate(face, palette, size, size, outline)


def _plate(face: int, palette: Palette, width: float, height: float, outline: str) -> Mesh:
    """A thin plate facing -x, its back of metal."""
    if outline == "square":
        rim = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)], float)
    elif outline == "triangle":
        rim = np.array([(-1.0, -0.8), (1.0, -0.8), (0.0, 0.95), (-1.0, -0.8)])
    else:
        corners = 8 if outline == "octagon" else 20
        phi = np.linspace(0.0, 2.0 * math.pi, corners + 1) + math.pi / corners
        rim = np.stack([np.cos(phi), np.sin(phi)], axis=1)
    parts = []
    for x, material in ((0.0, face), (0.012, palette.sign_back)):
        middle = np.array([x, 0.0, 0.0])
        edge = np.stack([np.full(len(rim), x), 0.5 * width * rim[:, 0], 0.5 * height * rim[:, 1]], axis=1)
        fan = np.stack([np.tile(middle, (len(rim) - 1, 1)), edge[:-1], edge[1:], np.tile(middle, (len(rim) - 1, 1))], 1)
        uv = np.stack([-fan[..., 1] / (0.5 * width), fan[..., 2] / (0.5 * height)], axis=2)
        parts.append(quads(fan, material, uv))
    return merge(parts)


def fence(length: float, palette: Palette, rng: np.random.Generator) -> Mesh:
    """Bars or boards along x with air between them, on posts."""
    if rng.random() < 0.5:
        material, bar, gap, height = palette.dark_steel, 0.022, 0.115, float(rng.uniform(1.0, 1.5))
    else:
        wood = ((0.45, 0.32, 0.20), (0.80, 0.79, 0.75), (0.36, 0.26, 0.18))[int(rng.integers(3))]
        material = palette.materials.add(Kind.PLANKS, wood, scale=0.16)
        bar, gap, height = 0.085, float(rng.uniform(0.05, 0.09)), float(rng.uniform(0.9, 1.3))
    x = np.arange(0.0, length - bar, bar + gap)
    low = np.stack([x, np.full_like(x, -0.012), np.full_like(x, 0.06)], axis=1)
    high = np.stack([x + bar, np.full_like(x, 0.012), np.full_like(x, height)], axis=1)
    rails = [box((length, 0.05, 0.05), (0.5 * length, 0.035, z), material) for z in (0.22, height - 0.16)]
    posts = [
        box((0.08, 0.08, height + 0.08), (p, 0.0, 0.5 * height), material) for p in np.arange(0.0, length + 0.1, 2.5)
    ]
    return merge([boxes(low, high, material), *rails, *posts]).labelled(C.FENCE)


def wall(length: float, palette: Palette, rng: np.random.Generator) -> Mesh:
    """A garden or retaining wall along x with coping and pillars."""
    height = float(rng.uniform(0.9, 2.2))
    if rng.random() < 0.6:
        color: Sequence[float] = BRICK_COLORS[int(rng.integers(len(BRICK_COLORS)))]
        material = palette.materials.add(Kind.BRICK, color, (0.60, 0.58, 0.54), scale=1.0, seed=int(rng.integers(50)))
    else:
        color = FACADE_COLORS[int(rng.integers(len(FACADE_COLORS)))]
        material = palette.materials.add(Kind.PLASTER, color, tuple(0.7 * np.array(color)), seed=int(rng.integers(50)))
    parts = [box((length, 0.24, height), (0.5 * length, 0.0, 0.5 * height), material)]
    parts.append(box((length, 0.32, 0.07), (0.5 * length, 0.0, height + 0.035), palette.concrete))
    for x in np.arange(0.0, length + 0.1, 4.0):
        parts.append(box((0.40, 0.36, height + 0.20), (x, 0.0, 0.5 * height + 0.10), material))
    return merge(parts).labelled(C.WALL)
