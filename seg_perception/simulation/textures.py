"""What a surface looks like at (u, v): compiled, procedural, and blurred to what a pixel covers.

Every texture takes a material's row, u and v in metres, and the `footprint`, metres that a pixel covers there. It gives
linear red, green, blue. Patterns finer than the footprint fade into their mean, so that nothing flickers.
"""

from __future__ import annotations

import math

from seg_perception.simulation import materials as m
from seg_perception.simulation.noise import compiled, fractal, keep, lattice, noise

ASPHALT, PAVING, GRASS = int(m.Kind.ASPHALT), int(m.Kind.PAVING), int(m.Kind.GRASS)
BRICK, PLASTER, TILES, PANE = int(m.Kind.BRICK), int(m.Kind.PLASTER), int(m.Kind.TILES), int(m.Kind.PANE)
LEAF, BARK, SIGN = int(m.Kind.LEAF), int(m.Kind.BARK), int(m.Kind.SIGN)
PLANKS, CLOTH = int(m.Kind.PLANKS), int(m.Kind.CLOTH)
R1, G1, B1, R2, G2, B2 = m.RED, m.GREEN, m.BLUE, m.RED2, m.GREEN2, m.BLUE2
SCALE, P0, P1, SEED = m.SCALE, m.P0, m.P1, m.SEED

MARK_U0, MARK_U1, MARK_V0, MARK_V1, MARK_PERIOD, MARK_DUTY, MARK_ALONG = range(7)
MARK_COLUMNS = 7


@compiled
def albedo(row, u, v, footprint, marks):  # type: ignore[no-untyped-def]
    """Linear red, green, blue of any material. marks: (K, MARK_COLUMNS) painted onto asphalt."""
    kind = int(row[m.KIND])
    if kind == ASPHALT:
        return _asphalt(row, u, v, footprint, marks)
    if kind == PAVING:
        return _paving(row, u, v, footprint)
    if kind == GRASS:
        return _grass(row, u, v, footprint)
    if kind == BRICK:
        return _brick(row, u, v, footprint)
    if kind == PLASTER:
        return _plaster(row, u, v, footprint)
    if kind == TILES:
        return _tiles(row, u, v, footprint)
    if kind == PANE:
        return _pane(row, u, v, footprint)
    if kind == LEAF:
        return _leaf(row, u, v)
    if kind == BARK:
        return _bark(row, u, v, footprint)
    if kind == SIGN:
        return _sign(row, u, v)
    if kind == PLANKS:
        return _planks(row, u, v, footprint)
    if kind == CLOTH:
        tone = 1.0 + 0.8 * fractal(u * 9.0, v * 5.0, int(row[SEED]), 3, footprint * 9.0)
        return row[R1] * tone, row[G1] * tone, row[B1] * tone
    return row[R1], row[G1], row[B1]


@compiled
def _mixed(row, share, tone):  # type: ignore[no-untyped-def]
    """Between the two colours (share 0: the second, 1: the first), times a tone."""
    a = min(max(share, 0.0), 1.0)
    b = 1.0 - a
    return (
        (a * row[R1] + b * row[R2]) * tone,
        (a * row[G1] + b * row[G2]) * tone,
        (a * row[B1] + b * row[B2]) * tone,
    )


@compiled
def _bark(row, u, v, footprint):  # type: ignore[no-untyped-def]
    scale = row[SCALE]
    return _mixed(row, 0.5 + 1.4 * fractal(u * scale, v * scale * 0.3, int(row[SEED]), 3, footprint * scale), 1.0)


@compiled
def _asphalt(row, u, v, footprint, marks):  # type: ignore[no-untyped-def]
    seed = int(row[SEED])
    wide = fractal(u * 0.12, v * 0.55, seed, 3, footprint * 0.4)
    tracks = fractal(u * 0.02, v * 1.1, seed + 5, 2, footprint)
    grain = fractal(u * 22.0, v * 22.0, seed + 9, 3, footprint * 22.0)
    tone = 1.0 + 0.55 * wide + 0.35 * tracks + 0.45 * grain
    # repairs: rectangles of another mixture, and the tar along cracks
    cell_u, cell_v = math.floor(u / 9.0), math.floor(v / 2.6)
    chance = lattice(int(cell_u), int(cell_v), seed + 31)
    if chance < 0.10:
        du, dv = u / 9.0 - cell_u, v / 2.6 - cell_v
        size = 0.25 + 3.5 * chance
        if abs(du - 0.5) < 0.5 * size and abs(dv - 0.5) < 0.45 * (1.2 - size):
            tone *= 0.72 + 4.0 * chance
    bend = u * 0.35 + 2.2 * fractal(u * 0.2, v * 0.2, seed + 41, 3, footprint)
    crack = abs(noise(bend, v * 0.45, seed + 51) - 0.5)
    broken = min(max(4.0 * noise(u * 0.07, v * 0.15, seed + 71) - 2.2, 0.0), 1.0)
    tone *= 1.0 - 0.5 * row[P0] * broken * math.exp(-crack * 150.0) * keep(2.0, footprint)
    red, green, blue = row[R1] * tone, row[G1] * tone, row[B1] * tone
    worn = 0.80 + 1.1 * fractal(u * 1.3, v * 2.1, seed + 61, 4, footprint * 2.0)
    paint = min(max(worn, 0.15), 0.95) * _marked(marks, u, v, footprint)
    return red + (0.62 - red) * paint, green + (0.62 - green) * paint, blue + (0.60 - blue) * paint


@compiled
def _marked(marks, u, v, footprint):  # type: ignore[no-untyped-def]
    """How much paint lies at a place of the road, 0..1."""
    soft = 0.5 * footprint + 0.004
    most = 0.0
    for k in range(marks.shape[0]):
        inside_u = min(u - marks[k, MARK_U0], marks[k, MARK_U1] - u)
        inside_v = min(v - marks[k, MARK_V0], marks[k, MARK_V1] - v)
        if inside_u > -soft and inside_v > -soft:
            edge = min(inside_u, inside_v)
            period = marks[k, MARK_PERIOD]
            if period > 0.0:
                along = v - marks[k, MARK_V0] if marks[k, MARK_ALONG] > 0.5 else u - marks[k, MARK_U0]
                phase = along - period * math.floor(along / period)
                edge = min(edge, min(phase, marks[k, MARK_DUTY] - phase))
                edge = max(edge, phase - period)
            most = max(most, min(max(0.5 + 0.5 * edge / soft, 0.0), 1.0))
    return most


@compiled
def _paving(row, u, v, footprint):  # type: ignore[no-untyped-def]
    seed, size = int(row[SEED]), row[SCALE]
    line = math.floor(v / size)
    shift = 0.5 * (int(line) & 1) if row[P0] > 0.5 else 0.0
    column = math.floor(u / (size * (1.0 + row[P1])) + shift)
    du = u / (size * (1.0 + row[P1])) + shift - column
    dv = v / size - line
    kept = keep(1.0 / size, footprint)
    tone = 1.0 + 0.24 * kept * (lattice(int(column), int(line), seed) - 0.5)
    joint = 0.012 / size + 0.5 * footprint / size
    if min(min(du, 1.0 - du) * (1.0 + row[P1]), min(dv, 1.0 - dv)) < joint:
        tone *= 1.0 - 0.32 * keep(1.0 / size, 0.6 * footprint)
    tone *= 1.0 + 0.5 * fractal(u * 0.4, v * 0.4, seed + 3, 3, footprint * 0.4)
    tone *= 1.0 + 0.3 * fractal(u * 25.0, v * 25.0, seed + 7, 2, footprint * 25.0)
    return row[R1] * tone, row[G1] * tone, row[B1] * tone


@compiled
def _grass(row, u, v, footprint):  # type: ignore[no-untyped-def]
    seed = int(row[SEED])
    share = 0.55 + 1.7 * fractal(u * 0.35, v * 0.35, seed, 3, footprint * 0.35)
    blades = fractal(u * 16.0, v * 16.0, seed + 11, 3, footprint * 16.0)
    return _mixed(row, share + 0.5 * blades, 1.0 + 1.1 * blades)


@compiled
def _brick(row, u, v, footprint):  # type: ignore[no-untyped-def]
    seed = int(row[SEED])
    long, high = 0.26 * row[SCALE], 0.085 * row[SCALE]
    line = math.floor(v / high)
    across = u / long + 0.5 * (int(line) & 1)
    column = math.floor(across)
    kept = keep(1.0 / high, footprint)
    tone = 1.0 + 0.55 * kept * (lattice(int(column), int(line), seed) - 0.5)
    tone *= 1.0 + 0.45 * fractal(u * 0.3, v * 0.3, seed + 3, 3, footprint * 0.3)
    edge = min(min(across - column, column + 1.0 - across) * long, min(v / high - line, line + 1.0 - v / high) * high)
    mortar = kept if edge < 0.007 else 0.18 * (1.0 - kept)
    return _mixed(row, 1.0 - mortar, tone)


@compiled
def _plaster(row, u, v, footprint):  # type: ignore[no-untyped-def]
    seed = int(row[SEED])
    share = 0.85 + 1.2 * fractal(u * 0.22 * row[SCALE], v * 0.16 * row[SCALE], seed, 4, footprint * 0.3)
    streaks = fractal(u * 2.2, v * 0.12, seed + 5, 3, footprint * 2.2)
    fine = fractal(u * 14.0, v * 14.0, seed + 8, 2, footprint * 14.0)
    return _mixed(row, share + 0.5 * streaks, 1.0 + 0.22 * fine)


@compiled
def _tiles(row, u, v, footprint):  # type: ignore[no-untyped-def]
    seed = int(row[SEED])
    line, column = math.floor(v / 0.30), math.floor(u / 0.22)
    kept = keep(3.5, footprint)
    tone = 1.0 + 0.4 * kept * (lattice(int(column), int(line), seed) - 0.5)
    tone *= 1.0 - 0.35 * kept * (1.0 - (v / 0.30 - line)) + 0.25 * fractal(u * 0.3, v * 0.3, seed + 2, 3, footprint)
    return row[R1] * tone, row[G1] * tone, row[B1] * tone


@compiled
def _pane(row, u, v, footprint):  # type: ignore[no-untyped-def]
    """A window: frame and bars in the second colour, behind it a dark room with or without a curtain or a lamp.

    u: metres from the left edge, plus 16 for each window, so that each has a room of its own. P0, P1: width, height.
    """
    window = math.floor(u / 16.0)
    x = u - 16.0 * window
    seed = int(row[SEED])
    bars = 2.0 if row[P0] < 2.0 else math.floor(row[P0] / 1.1)
    nearest = abs(x / row[P0] * bars - math.floor(x / row[P0] * bars + 0.5)) * row[P0] / bars
    frame = min(min(nearest + 0.02, min(v, row[P1] - v)), abs(v - 0.68 * row[P1]) + 0.03)
    if frame < 0.055:
        return row[R2], row[G2], row[B2]
    kind = lattice(int(window), int(row[SEED]), 77)
    drawn = lattice(int(window), 3, seed + 79)
    tone = 1.0 + 1.5 * fractal(x * 1.4, v * 1.4, seed + int(window), 2, footprint)
    if kind < 0.35 and (v > row[P1] * (1.0 - drawn) or x < 0.3 * drawn * row[P0] or x > (1.0 - 0.3 * drawn) * row[P0]):
        folds = 0.75 + 0.25 * math.sin(x * 40.0) * keep(6.5, footprint)
        return 0.42 * folds, 0.40 * folds, 0.36 * folds
    if kind > 0.90:
        return 0.30 * tone, 0.24 * tone, 0.15 * tone
    return row[R1] * tone, row[G1] * tone, row[B1] * tone


@compiled
def _leaf(row, u, v):  # type: ignore[no-untyped-def]
    """Each leaf, a cell of u, has a tone of its own; v runs from the stem (0) to the tip (1)."""
    leaf = math.floor(u)
    return _mixed(
        row, 0.45 + 0.75 * (lattice(leaf, 1, 5) - 0.3), (0.72 + 0.5 * lattice(leaf, 2, 5)) * (0.85 + 0.25 * v)
    )


@compiled
def _planks(row, u, v, footprint):  # type: ignore[no-untyped-def]
    seed = int(row[SEED])
    plank = math.floor(u / row[SCALE])
    tone = 1.0 + 0.4 * keep(1.0 / row[SCALE], footprint) * (lattice(int(plank), 1, seed) - 0.5)
    tone *= 1.0 + 0.9 * fractal(u * 30.0, v * 1.5, seed + 4, 3, footprint * 30.0)
    return row[R1] * tone, row[G1] * tone, row[B1] * tone


@compiled
def _sign(row, u, v):  # type: ignore[no-untyped-def]
    """Faces of traffic signs, u and v from -1 to 1. P0 chooses the face, colour 1 the border, colour 2 the field."""
    face = int(row[P0])
    r = math.sqrt(u * u + v * v)
    if face == 0:  # round, ring and bar or figure
        if r > 0.74:
            return row[R1], row[G1], row[B1]
        if abs(u) < 0.34 and abs(v) < 0.36 and math.sin(9.0 * u + row[SEED]) * math.cos(7.0 * v) > -0.1:
            return 0.02, 0.02, 0.02
        return row[R2], row[G2], row[B2]
    if face == 1:  # round, an arrow
        shaft = abs(u) < 0.14 and -0.6 < v < 0.2
        head = v > 0.1 and abs(u) < 0.7 * (0.65 - v)
        if shaft or head or r > 0.92:
            return row[R2], row[G2], row[B2]
        return row[R1], row[G1], row[B1]
    if face == 2:  # triangle, its point up
        inner = min(v + 0.72, 0.5 * (0.95 - v) - 0.87 * abs(u))
        if inner < 0.10:
            return row[R1], row[G1], row[B1]
        if abs(u) < 0.10 and -0.45 < v < 0.25:
            return 0.02, 0.02, 0.02
        return row[R2], row[G2], row[B2]
    if face == 3:  # plate with lines of writing
        if max(abs(u), abs(v)) > 0.93:
            return row[R2], row[G2], row[B2]
        line = math.floor((v + 1.0) * 2.5)
        within = (v + 1.0) * 2.5 - line
        letter = lattice(math.floor(u * 14.0), int(line), int(row[SEED]))
        if 0.25 < within < 0.75 and letter > 0.35 and abs(u) < 0.8 * lattice(int(line), 9, int(row[SEED])) + 0.15:
            return row[R2], row[G2], row[B2]
        return row[R1], row[G1], row[B1]
    # stop: field with a bar of letters
    if r > 0.90:
        return row[R2], row[G2], row[B2]
    if abs(v) < 0.28 and abs(u) < 0.72 and abs(math.sin(11.0 * u)) > 0.35:
        return row[R2], row[G2], row[B2]
    return row[R1], row[G1], row[B1]
