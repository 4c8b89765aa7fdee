"""Hashed value noise for compiled textures: the same numbers on every machine, no tables."""

from __future__ import annotations

import math

import numba

compiled = numba.njit(cache=True, nogil=True, fastmath=False, inline="never")


@compiled
def lattice(ix: int, iy: int, seed: int) -> float:
    """A number in [0, 1) for each cell of the plane: a 32-bit integer hash (xxHash's avalanche)."""
    h = (ix * 374761393 + iy * 668265263 + seed * 2147483647) & 0xFFFFFFFF
    h = ((h ^ (h >> 15)) * 2246822519) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 3266489917) & 0xFFFFFFFF
    return ((h ^ (h >> 16)) & 0xFFFFFF) / 16777216.0


@compiled
def noise(x: float, y: float, seed: int) -> float:
    """Smooth value noise in [0, 1) with features one unit wide."""
    fx, fy = math.floor(x), math.floor(y)
    ix, iy = int(fx), int(fy)
    tx, ty = x - fx, y - fy
    tx, ty = tx * tx * (3.0 - 2.0 * tx), ty * ty * (3.0 - 2.0 * ty)
    low = lattice(ix, iy, seed) * (1.0 - tx) + lattice(ix + 1, iy, seed) * tx
    high = lattice(ix, iy + 1, seed) * (1.0 - tx) + lattice(ix + 1, iy + 1, seed) * tx
    return low * (1.0 - ty) + high * ty


@compiled
def fractal(x: float, y: float, seed: int, octaves: int, footprint: float) -> float:
    """Sum of octaves of noise about 0, within -0.5..0.5. Octaves finer than `footprint` (units of x, y) fade out."""
    total, amplitude, frequency = 0.0, 0.5, 1.0
    for octave in range(octaves):
        kept = keep(frequency, footprint)
        if kept < 0.02:
            break
        total += kept * amplitude * (noise(x * frequency, y * frequency, seed + 17 * octave) - 0.5)
        amplitude *= 0.55
        frequency *= 2.1
    return total


@compiled
def keep(frequency: float, footprint: float) -> float:
    """How much of a pattern of this frequency (cycles a metre) is left in a pixel that covers `footprint` metres."""
    blur = frequency * footprint
    return 1.0 / (1.0 + 8.0 * blur * blur * blur * blur)
