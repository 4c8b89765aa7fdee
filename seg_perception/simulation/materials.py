"""What surfaces are made of: one row of numbers for each, which the compiled textures read."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Color = Sequence[float]


class Kind(IntEnum):
    """Which texture a material has."""

    PLAIN = 0
    ASPHALT = 1
    PAVING = 2
    GRASS = 3
    BRICK = 4
    PLASTER = 5
    TILES = 6
    PANE = 7
    LEAF = 8
    BARK = 9
    SIGN = 10
    LAMP = 11
    PLANKS = 12
    CLOTH = 13


# columns of a row
KIND, RED, GREEN, BLUE, RED2, GREEN2, BLUE2, SCALE, P0, P1, GLOSS, REFLECTANCE, EMISSION, SEED, CLEAR = range(15)
COLUMNS = 15


def linear(color: Color) -> NDArray[np.float64]:
    """sRGB values 0..1 to linear light (IEC 61966-2-1)."""
    c = np.clip(np.asarray(color, np.float64), 0.0, 1.0)
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


class Materials:
    """The materials of one drive; each is known by its number."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, ...]] = []
        self._numbers: dict[tuple[float, ...], int] = {}

    def add(
        self,
        kind: Kind,
        color: Color,
        color2: Color | None = None,
        *,
        scale: float = 1.0,
        p0: float = 0.0,
        p1: float = 0.0,
        gloss: float = 0.0,
        reflectance: float | None = None,
        emission: float = 0.0,
        seed: int = 0,
        clear: bool = False,
    ) -> int:
        """A number for this material, the same for the same values.

        color, color2: sRGB 0..1. scale, p0, p1: mean what the texture makes of them. gloss: 0 dull to 1 lacquer.
        reflectance: of the LiDAR's light, 0..1, by default the brightness of the colour.
        emission: light of its own. clear: the LiDAR's light may pass.
        """
        first, second = linear(color), linear(color if color2 is None else color2)
        bright = 0.08 + 0.8 * float(first.mean()) if reflectance is None else reflectance
        row = (float(kind), *first, *second, scale, p0, p1, gloss, bright, emission, float(seed), float(clear))
        if row not in self._numbers:
            self._numbers[row] = len(self._rows)
            self._rows.append(row)
        return self._numbers[row]

    def table(self) -> NDArray[np.float64]:
        """(M, COLUMNS) float64."""
        return np.array(self._rows, np.float64).reshape(-1, COLUMNS)


class Palette:
    """The materials that many things share, and colours to draw from."""

    def __init__(self, materials: Materials) -> None:
        add = materials.add
        self.materials = materials
        self.tyre = add(Kind.PLAIN, (0.09, 0.09, 0.09), reflectance=0.06)
        self.rim = add(Kind.PLAIN, (0.55, 0.56, 0.58), gloss=0.5)
        self.dark_plastic = add(Kind.PLAIN, (0.13, 0.13, 0.14), gloss=0.15, reflectance=0.08)
        self.shadow_gap = add(Kind.PLAIN, (0.04, 0.04, 0.04), reflectance=0.04)
        self.car_glass = add(Kind.PLAIN, (0.08, 0.10, 0.11), gloss=1.0, reflectance=0.03, clear=True)
        self.chrome = add(Kind.PLAIN, (0.6, 0.6, 0.62), gloss=0.8)
        self.headlight = add(Kind.LAMP, (0.9, 0.92, 0.95), gloss=0.8, emission=0.25, reflectance=0.7)
        self.taillight = add(Kind.LAMP, (0.62, 0.04, 0.04), gloss=0.8, emission=0.12, reflectance=0.7)
        self.indicator = add(Kind.LAMP, (0.8, 0.42, 0.05), gloss=0.6, emission=0.05, reflectance=0.6)
        self.plate = add(Kind.PLAIN, (0.88, 0.88, 0.84), reflectance=0.95)
        self.steel = add(Kind.PLAIN, (0.42, 0.44, 0.45), gloss=0.25, reflectance=0.35)
        self.dark_steel = add(Kind.PLAIN, (0.18, 0.20, 0.20), gloss=0.2, reflectance=0.2)
        self.concrete = add(Kind.PLASTER, (0.56, 0.55, 0.53), (0.40, 0.39, 0.37), scale=1.2)
        self.kerb = add(Kind.PLASTER, (0.62, 0.61, 0.58), (0.45, 0.44, 0.42), scale=0.8)
        self.bark = add(Kind.BARK, (0.46, 0.39, 0.31), (0.28, 0.23, 0.18), scale=9.0, reflectance=0.3)
        self.sign_back = add(Kind.PLAIN, (0.52, 0.53, 0.54), gloss=0.1, reflectance=0.4)
        self.lamp_off = add(Kind.LAMP, (0.10, 0.09, 0.08), gloss=0.4)


CAR_COLORS = (
    (0.82, 0.83, 0.84), (0.90, 0.90, 0.89), (0.08, 0.08, 0.09), (0.16, 0.17, 0.19), (0.35, 0.37, 0.39),
    (0.55, 0.57, 0.59), (0.50, 0.05, 0.06), (0.08, 0.15, 0.34), (0.10, 0.27, 0.45), (0.12, 0.25, 0.17),
    (0.62, 0.52, 0.38), (0.72, 0.42, 0.08), (0.30, 0.20, 0.14),
)  # fmt: skip
FACADE_COLORS = (
    (0.83, 0.78, 0.68), (0.88, 0.86, 0.80), (0.76, 0.66, 0.52), (0.70, 0.72, 0.72), (0.80, 0.62, 0.50),
    (0.66, 0.60, 0.54), (0.86, 0.76, 0.58), (0.60, 0.66, 0.68), (0.78, 0.72, 0.70), (0.55, 0.52, 0.50),
)  # fmt: skip
BRICK_COLORS = ((0.50, 0.25, 0.18), (0.58, 0.34, 0.24), (0.42, 0.26, 0.21), (0.62, 0.50, 0.38), (0.46, 0.36, 0.32))
ROOF_COLORS = ((0.45, 0.22, 0.16), (0.30, 0.28, 0.28), (0.36, 0.20, 0.16), (0.24, 0.25, 0.27), (0.48, 0.36, 0.28))
CLOTH_COLORS = (
    (0.10, 0.11, 0.15), (0.16, 0.20, 0.32), (0.45, 0.10, 0.10), (0.62, 0.60, 0.55), (0.20, 0.30, 0.22),
    (0.75, 0.74, 0.72), (0.30, 0.22, 0.16), (0.70, 0.45, 0.12), (0.12, 0.35, 0.45), (0.40, 0.20, 0.35),
    (0.82, 0.78, 0.30), (0.05, 0.05, 0.06),
)  # fmt: skip
TROUSER_COLORS = ((0.12, 0.15, 0.24), (0.08, 0.08, 0.09), (0.30, 0.28, 0.25), (0.20, 0.24, 0.34), (0.48, 0.42, 0.34))
SKIN_COLORS = ((0.85, 0.66, 0.54), (0.70, 0.50, 0.38), (0.45, 0.30, 0.22), (0.90, 0.74, 0.64), (0.30, 0.20, 0.15))
LEAF_COLORS = ((0.30, 0.44, 0.16), (0.36, 0.50, 0.18), (0.26, 0.38, 0.16), (0.44, 0.52, 0.20), (0.50, 0.46, 0.16))
