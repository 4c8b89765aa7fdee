"""Trees, hedges and shrubs: wood, and leaves as single blades, so that light and lasers pass between them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from seg_perception.simulation.materials import LEAF_COLORS, Kind, Palette
from seg_perception.simulation.mesh import Mesh, box, merge, quads, tube


def leaf_material(palette: Palette, rng: np.random.Generator) -> int:
    """A green, or what autumn makes of it."""
    color = np.array(LEAF_COLORS[int(rng.integers(len(LEAF_COLORS)))]) * rng.uniform(0.8, 1.15, 3)
    return palette.materials.add(
        Kind.LEAF, tuple(np.clip(color * 1.15, 0, 1).round(2)), tuple((color * 0.7).round(2)), reflectance=0.35
    )


def leaves(centres: NDArray, sizes: NDArray, material: int, rng: np.random.Generator) -> Mesh:
    """A rhombic blade at each of the centres (N, 3), turned at random, `sizes` (N,) metres long."""
    count = len(centres)
    along = rng.normal(size=(count, 3))
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    other = rng.normal(size=(count, 3))
    across = np.cross(along, other)
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-9)
    half = 0.5 * sizes[:, None]
    corners = np.stack(
        [
            centres - half * along,
            centres + 0.45 * half * across,
            centres + half * along,
            centres - 0.45 * half * across,
        ],
        axis=1,
    )
    cell = np.arange(count)[:, None] + 0.5
    uv = np.stack([np.repeat(cell, 4, axis=1), np.tile([0.0, 0.5, 1.0, 0.5], (count, 1))], axis=2)
    middle = centres.mean(axis=0)
    outward = centres - middle + 1e-6  # crowns are lit as the round things they are
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    flat = np.cross(along, across)
    flat *= np.sign(np.einsum("ij,ij->i", flat, outward))[:, None] + 1e-9
    normals = outward * 0.65 + flat * 0.35
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return quads(corners, material, uv, np.repeat(normals[:, None], 4, axis=1))


def tree(palette: Palette, rng: np.random.Generator) -> Mesh:
    """A deciduous tree of 5 to 11 metres, or a slender conifer."""
    material = leaf_material(palette, rng)
    if rng.random() < 0.2:
        return _conifer(palette, rng, material)
    height = float(rng.uniform(5.5, 10.5))
    bare = float(rng.uniform(1.9, 2.8))
    trunk_radius = 0.017 * height
    bend = rng.normal(0.0, 0.12, 2)
    z = np.linspace(0.0, 0.72 * height, 7)
    stem = np.stack([bend[0] * (z / height) ** 2 * 3.0, bend[1] * np.sin(z * 0.6), z], axis=1)
    parts = [tube(stem, np.linspace(trunk_radius, 0.35 * trunk_radius, 7), palette.bark, segments=8)]
    crown = np.array([0.0, 0.0, 0.5 * (bare + height)])
    radii = np.array([0.30, 0.30, 0.0]) * height * rng.uniform(0.8, 1.1) + [0.0, 0.0, 0.5 * (height - bare)]
    clumps = int(rng.integers(16, 26))
    spread = _in_ball(clumps, rng) * radii * 0.82 + crown
    for clump in spread[:7]:
        start = stem[int(np.clip(np.searchsorted(z, 0.65 * clump[2]), 2, 5))]
        parts.append(
            tube([start, 0.5 * (start + clump) + [0, 0, 0.15], clump], [0.05, 0.035, 0.015], palette.bark, 5, False)
        )
    per_clump = int(rng.integers(95, 125))
    clump_radius = 0.115 * height
    offsets = _in_ball(clumps * per_clump, rng) * clump_radius * [1.0, 1.0, 0.75]
    centres = np.repeat(spread, per_clump, axis=0) + offsets
    parts.append(leaves(centres, rng.uniform(0.26, 0.48, len(centres)), material, rng))
    return merge(parts)


def _conifer(palette: Palette, rng: np.random.Generator, material: int) -> Mesh:
    height = float(rng.uniform(6.0, 12.0))
    parts = [tube([(0, 0, 0), (0, 0, height)], [0.018 * height, 0.01], palette.bark, segments=7)]
    count = 2200
    z = 0.8 + (height - 0.8) * rng.random(count) ** 1.4
    reach = 0.20 * height * (1.0 - z / height) * (0.75 + 0.25 * np.sin(z * 7.0)) + 0.08
    angle, share = rng.uniform(0.0, 2.0 * math.pi, count), np.sqrt(rng.random(count))
    centres = np.stack([reach * share * np.cos(angle), reach * share * np.sin(angle), z - 0.25 * reach * share], axis=1)
    parts.append(leaves(centres, rng.uniform(0.28, 0.5, count), material, rng))
    return merge(parts)


def _in_ball(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(count, 3) in the unit ball, denser towards its skin."""
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return direction * rng.random((count, 1)) ** 0.28


def shrub(palette: Palette, rng: np.random.Generator) -> Mesh:
    """A round bush of about a metre."""
    radius = float(rng.uniform(0.35, 0.8))
    centres = _in_ball(260, rng) * [radius, radius, 0.8 * radius] + [0.0, 0.0, 0.75 * radius]
    centres[:, 2] = np.maximum(centres[:, 2], 0.05)
    return leaves(centres, rng.uniform(0.10, 0.22, 260), leaf_material(palette, rng), rng)


def hedge(length: float, height: float, material: int, rng: np.random.Generator) -> Mesh:
    """A clipped hedge along x, 0.6 m thick: a dense core under a coat of leaves."""
    thick, count = 0.6, int(190 * length)
    face = rng.random(count)
    x = rng.uniform(0.0, length, count)
    side = np.sign(rng.random(count) - 0.5)
    top = face < 0.3
    y = np.where(top, rng.uniform(-0.5 * thick, 0.5 * thick, count), side * 0.5 * thick) + rng.normal(0.0, 0.03, count)
    z = np.where(top, height, rng.uniform(0.03, height, count)) + rng.normal(0.0, 0.03, count)
    coat = leaves(np.stack([x, y, np.maximum(z, 0.04)], axis=1), rng.uniform(0.10, 0.20, count), material, rng)
    outward = np.where(top[:, None], [0.0, 0.0, 1.0], np.stack([0.0 * side, side, 0.0 * side], axis=1))
    coat.normals[:] = np.repeat(0.75 * outward, 2, axis=0)[:, None] + 0.25 * coat.normals
    core = box((length, thick - 0.08, height - 0.04), (0.5 * length, 0.0, 0.5 * (height - 0.04)), material)
    return merge([core, coat])
