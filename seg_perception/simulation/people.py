"""People on foot and on two wheels, and what they ride. x ahead, z up, on the ground at z = 0."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from seg_perception.simulation.actors import Hinge, Part
from seg_perception.simulation.materials import CAR_COLORS, CLOTH_COLORS, SKIN_COLORS, TROUSER_COLORS, Kind, Palette
from seg_perception.simulation.mesh import Mesh, box, capsule, disc, ellipsoid, merge, quads, tube

HIP, SHOULDER = 0.90, 1.42


def _draw(palette: Palette, rng: np.random.Generator, colors: tuple[tuple[float, float, float], ...]) -> int:
    color = np.clip(np.array(colors[int(rng.integers(len(colors)))]) + rng.uniform(-0.05, 0.05, 3), 0.02, 0.95)
    return palette.materials.add(Kind.CLOTH, tuple(color.round(2)), seed=int(rng.integers(50)))


def _skin(palette: Palette, rng: np.random.Generator) -> int:
    return palette.materials.add(Kind.PLAIN, SKIN_COLORS[int(rng.integers(len(SKIN_COLORS)))])


def _hair(palette: Palette, rng: np.random.Generator) -> int:
    hair = ((0.10, 0.08, 0.07), (0.25, 0.17, 0.10), (0.55, 0.42, 0.25), (0.5, 0.5, 0.5))
    return palette.materials.add(Kind.CLOTH, hair[int(rng.integers(len(hair)))])


def _head(x: float, z: float, skin: int, hair: int) -> list[Mesh]:
    return [
        capsule((x, 0.0, z - 0.16), (x, 0.0, z - 0.06), 0.055, 0.055, skin),
        ellipsoid((0.095, 0.078, 0.12), (x + 0.01, 0.0, z), skin),
        ellipsoid((0.102, 0.088, 0.11), (x - 0.015, 0.0, z + 0.03), hair),
    ]


def walker(palette: Palette, rng: np.random.Generator) -> tuple[Part, ...]:
    """A person whose legs and arms hang on hinges; `striding` makes them swing."""
    size = float(rng.uniform(0.88, 1.08)) * (0.68 if rng.random() < 0.08 else 1.0)
    wide = float(rng.uniform(0.9, 1.2))
    coat, trousers, skin = _draw(palette, rng, CLOTH_COLORS), _draw(palette, rng, TROUSER_COLORS), _skin(palette, rng)
    torso = [
        tube([(0.0, 0.0, HIP - 0.08), (0.0, 0.0, HIP + 0.06), (0.0, 0.0, 1.15), (0.01, 0.0, 1.38), (0.0, 0.0, 1.50)],
             [0.13, 0.155, 0.15, 0.185, 0.07], coat, segments=12),
        *_head(0.02, 1.68, skin, _hair(palette, rng)),
    ]  # fmt: skip
    torso = [part.moved(np.diag([0.78, 1.15 * wide, 1.0, 1.0])) for part in torso]
    if rng.random() < 0.30:  # a rucksack or a bag
        bag = _draw(palette, rng, CLOTH_COLORS)
        torso.append(ellipsoid((0.10, 0.15, 0.22), (-0.19, 0.0, 1.24), bag))
    if rng.random() < 0.20:  # a long coat
        torso.append(tube([(0.0, 0.0, HIP + 0.1), (0.0, 0.0, 0.55)], [0.17, 0.22], coat, segments=12))
    parts = [Part(merge(torso).at(scale=size))]
    for side in (-1.0, 1.0):
        y = 0.095 * side * wide
        leg = merge(
            [
                capsule((0.0, y, HIP), (0.02, y, 0.48), 0.085, 0.06, trousers),
                capsule((0.02, y, 0.48), (-0.02, y, 0.10), 0.058, 0.042, trousers),
                ellipsoid((0.13, 0.05, 0.05), (0.05, y, 0.052), palette.tyre, 8),
            ]
        )
        arm_y = 0.235 * side * wide
        arm = merge(
            [
                capsule((0.0, 0.86 * arm_y, SHOULDER), (-0.02, arm_y, 1.14), 0.062, 0.048, coat),
                capsule((-0.02, arm_y, 1.14), (0.06, arm_y, 0.88), 0.045, 0.036, coat),
                ellipsoid((0.05, 0.03, 0.06), (0.08, arm_y, 0.82), skin, 8),
            ]
        )
        for mesh, joint, amplitude in ((leg, HIP, 0.42 * side), (arm, SHOULDER, -0.32 * side)):
            parts.append(Part(mesh.at(scale=size), Hinge((0.0, 0.0, joint * size), amplitude, 0.0, 0.0)))
    return tuple(parts)


def striding(parts: tuple[Part, ...], pace: float, phase: float) -> tuple[Part, ...]:
    """The same person, limbs swinging at `pace` steps a second from `phase`; at pace 0 they hang almost still."""
    share = 1.0 if pace > 0.0 else 0.12
    return tuple(
        part
        if part.hinge is None
        else replace(
            part,
            hinge=replace(part.hinge, amplitude=share * part.hinge.amplitude, frequency=0.5 * pace, phase=phase),
        )
        for part in parts
    )


def bicycle(palette: Palette, rng: np.random.Generator) -> Mesh:
    """A bicycle, upright."""
    paint = palette.materials.add(Kind.PLAIN, CAR_COLORS[int(rng.integers(len(CAR_COLORS)))], gloss=0.5)
    radius, rear, front = 0.335, (-0.52, 0.0, 0.335), (0.53, 0.0, 0.335)
    bracket, seat, head = (-0.08, 0.0, 0.28), (-0.24, 0.0, 0.84), (0.36, 0.0, 0.86)
    pipes = [(rear, bracket), (rear, seat), (bracket, seat), (seat, head), (bracket, head), (head, front)]
    parts = [tube([a, b], 0.022, paint, segments=6) for a, b in pipes]
    parts += [_hoop(centre, radius, 0.024, palette.tyre) for centre in (rear, front)]
    parts += [_spokes(centre, radius, palette.steel) for centre in (rear, front)]
    parts.append(tube([(-0.24, 0.0, 0.84), (-0.25, 0.0, 0.94)], 0.016, palette.steel, segments=6))
    parts.append(ellipsoid((0.14, 0.07, 0.03), (-0.25, 0.0, 0.96), palette.dark_plastic, 8))
    parts.append(tube([head, (0.33, 0.0, 1.02)], 0.016, palette.steel, segments=6))
    parts.append(tube([(0.28, -0.29, 1.02), (0.36, 0.0, 1.03), (0.28, 0.29, 1.02)], 0.017, palette.dark_plastic, 6))
    parts.append(tube([(-0.08, -0.14, 0.20), (-0.08, 0.14, 0.36)], 0.018, palette.steel, segments=6))
    if rng.random() < 0.4:
        parts.append(box((0.34, 0.26, 0.20), (0.50, 0.0, 0.92), palette.dark_steel))
    if rng.random() < 0.5:
        parts.append(box((0.40, 0.12, 0.03), (-0.50, 0.0, 0.74), palette.dark_steel))
    return merge(parts)


def _hoop(centre: tuple[float, float, float], radius: float, thick: float, material: int) -> Mesh:
    phi = np.linspace(0.0, 2.0 * math.pi, 25)
    hoop = np.stack([centre[0] + radius * np.cos(phi), 0.0 * phi, centre[2] + radius * np.sin(phi)], axis=1)
    return tube(hoop, thick, material, segments=6, caps=False)


def _spokes(centre: tuple[float, float, float], radius: float, material: int) -> Mesh:
    """Six flat strips, 8 mm wide, across a wheel."""
    phi = np.linspace(0.0, math.pi, 7)[:-1]
    along = radius * np.stack([np.cos(phi), 0.0 * phi, np.sin(phi)], axis=1)
    across = 0.004 * np.stack([-np.sin(phi), 0.0 * phi, np.cos(phi)], axis=1)
    corners = [along + across, along - across, -along - across, -along + across]
    return quads(np.stack(corners, axis=1) + np.asarray(centre), material)


def motorcycle(palette: Palette, rng: np.random.Generator) -> Mesh:
    """A motorcycle or a scooter."""
    paint = palette.materials.add(Kind.PLAIN, CAR_COLORS[int(rng.integers(len(CAR_COLORS)))], gloss=0.7)
    radius, rear, front = 0.31, (-0.68, 0.0, 0.31), (0.72, 0.0, 0.31)
    parts = [_hoop(centre, radius - 0.06, 0.07, palette.tyre) for centre in (rear, front)]
    parts += [disc(radius - 0.08, (x, 0.0, 0.31), 1, palette.rim, 12) for x in (rear[0], front[0])]
    parts += [tube([front, (0.42, 0.0, 0.98)], 0.04, palette.chrome, segments=8)]
    parts.append(ellipsoid((0.33, 0.15, 0.15), (0.14, 0.0, 0.82), paint))
    parts.append(ellipsoid((0.42, 0.14, 0.07), (-0.42, 0.0, 0.80), palette.dark_plastic))
    parts.append(ellipsoid((0.28, 0.16, 0.22), (0.02, 0.0, 0.46), palette.dark_steel))
    parts.append(ellipsoid((0.30, 0.12, 0.10), (-0.72, 0.0, 0.76), paint))
    parts.append(ellipsoid((0.24, 0.09, 0.06), (0.72, 0.0, 0.64), paint))
    parts.append(tube([(0.36, -0.36, 1.02), (0.44, 0.0, 1.00), (0.36, 0.36, 1.02)], 0.022, palette.dark_plastic, 6))
    parts.append(ellipsoid((0.07, 0.10, 0.10), (0.56, 0.0, 0.90), palette.headlight, 8))
    parts.append(box((0.05, 0.16, 0.07), (-0.98, 0.0, 0.78), palette.taillight))
    parts.append(box((0.02, 0.20, 0.14), (-0.98, 0.0, 0.60), palette.plate))
    parts.append(tube([(0.0, -0.18, 0.30), (-0.75, -0.20, 0.36)], 0.05, palette.chrome, segments=8))
    if rng.random() < 0.5:
        parts.append(box((0.03, 0.40, 0.34), (0.46, 0.0, 1.16), palette.car_glass))
    return merge(parts)


def rider(palette: Palette, rng: np.random.Generator, seat: float, lean: float, reach: float) -> Mesh:
    """Somebody who sits at height `seat`, leaning forward (radians), hands `reach` metres ahead of the seat."""
    coat, trousers, skin = _draw(palette, rng, CLOTH_COLORS), _draw(palette, rng, TROUSER_COLORS), _skin(palette, rng)
    hip = np.array([-0.25, 0.0, seat + 0.08])
    axis = np.array([math.sin(lean), 0.0, math.cos(lean)])
    shoulder, neck = hip + 0.50 * axis, hip + 0.60 * axis
    torso = tube([hip - 0.08 * axis, hip + 0.05 * axis, hip + 0.3 * axis, shoulder, neck],
                 [0.13, 0.16, 0.15, 0.18, 0.07], coat, segments=12).moved(np.diag([1.0, 1.15, 1.0, 1.0]))  # fmt: skip
    head = neck + 0.16 * axis
    helmet = rng.random() < 0.7
    cover = palette.materials.add(Kind.PLAIN, CAR_COLORS[int(rng.integers(len(CAR_COLORS)))], gloss=0.5)
    parts = [torso, *_head(float(head[0]), float(head[2]), skin, cover if helmet else _hair(palette, rng))]
    if helmet:
        parts.append(ellipsoid((0.14, 0.105, 0.11), (head[0] - 0.01, 0.0, head[2] + 0.06), cover))
    for side in (-1.0, 1.0):
        hand = np.array([hip[0] + reach, side * 0.27, seat + 0.14])
        start = shoulder + np.array([0.0, side * 0.20, 0.0])
        elbow = 0.5 * (start + hand) + [-0.03, side * 0.05, -0.05]
        parts.append(capsule(tuple(start), tuple(elbow), 0.062, 0.048, coat))
        parts.append(capsule(tuple(elbow), tuple(hand), 0.045, 0.038, coat))
        parts.append(ellipsoid((0.05, 0.04, 0.04), tuple(hand), skin, 8))
        y = side * 0.12
        knee = (0.14, y + side * 0.03, seat - 0.22 + 0.12 * side)
        foot = (-0.04 + 0.08 * side, y, max(seat - 0.68 + 0.14 * side, 0.16))
        parts.append(capsule((hip[0], y, hip[2] - 0.02), knee, 0.09, 0.065, trousers))
        parts.append(capsule(knee, foot, 0.062, 0.045, trousers))
        parts.append(ellipsoid((0.13, 0.045, 0.045), (foot[0] + 0.06, y, foot[2] - 0.05), palette.tyre, 8))
    return merge(parts)
