"""Light: sun, sky, haze, and what a hit point sends to the camera. Compiled; all colours are linear."""

from __future__ import annotations

import itertools
import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.simulation import materials as m
from seg_perception.simulation.config import DriveConfig
from seg_perception.simulation.noise import compiled, fractal
from seg_perception.simulation.textures import LEAF, PANE, albedo


class Light(NamedTuple):
    """The light of a drive. sun: where it stands, unit vector. Colours: linear RGB. extinction: 1/m of the haze."""

    sun: tuple[float, float, float]
    sun_color: tuple[float, float, float]
    sky_color: tuple[float, float, float]
    horizon_color: tuple[float, float, float]
    extinction: float
    cloud_cover: float
    cloud_seed: int
    overcast: float
    exposure: float


def draw_light(config: DriveConfig, rng: np.random.Generator) -> Light:
    """A time of day and a weather."""
    ranges = config.ranges
    elevation = math.radians(rng.uniform(*ranges.sun_elevation))
    azimuth = math.radians(rng.uniform(*ranges.sun_azimuth))
    overcast = float(rng.uniform(0.6, 1.0)) if rng.random() < ranges.overcast else 0.0
    strength = float(rng.uniform(*ranges.sun)) * (1.0 - 0.93 * overcast)
    low = math.exp(-4.0 * math.sin(elevation))  # a low sun is redder
    sun_color = (strength, strength * (0.95 - 0.35 * low), strength * (0.88 - 0.65 * low))
    blue = np.array([0.34, 0.55, 1.0])
    grey = np.array([0.85, 0.89, 0.95])
    sky = (1.0 - overcast) * blue + overcast * grey
    horizon = (1.0 - overcast) * np.array([0.80, 0.90, 1.0]) + overcast * np.array([0.88, 0.90, 0.92])
    cover = float(rng.uniform(*ranges.cloud_cover))
    lit = strength * math.sin(elevation) + 0.95
    exposure = 1.05 / lit * 2.0 ** float(rng.uniform(*ranges.exposure_stops))
    return Light(
        (math.cos(elevation) * math.cos(azimuth), math.cos(elevation) * math.sin(azimuth), math.sin(elevation)),
        sun_color,
        tuple(sky.tolist()),
        tuple(horizon.tolist()),
        3.0 / float(rng.uniform(*ranges.haze_visibility)),
        cover,
        int(rng.integers(1 << 20)),
        overcast,
        exposure,
    )


@compiled
def sky(x, y, z, light):  # type: ignore[no-untyped-def]
    """Radiance from above: a gradient, the glow around the sun, clouds."""
    up = max(z, 0.0)
    blend = math.exp(-5.0 * up)
    h, s = light.horizon_color, light.sky_color
    red = s[0] + (h[0] - s[0]) * blend
    green = s[1] + (h[1] - s[1]) * blend
    blue = s[2] + (h[2] - s[2]) * blend
    toward = max(x * light.sun[0] + y * light.sun[1] + z * light.sun[2], 0.0)
    glow = 0.25 * toward**8 + 0.6 * toward**60 + 12.0 * toward**3000
    c = light.sun_color
    red, green, blue = red + 0.3 * glow * c[0], green + 0.3 * glow * c[1], blue + 0.3 * glow * c[2]
    if up > 0.02:
        reach = 1.0 / (up + 0.10)
        density = 0.5 + 1.7 * fractal(x * reach * 1.1, y * reach * 1.1, light.cloud_seed, 5, 0.01)
        cloud = min(max((density - (1.0 - light.cloud_cover)) * 2.6, 0.0), 1.0) * min(up * 7.0, 1.0)
        bright = 0.95 + 0.12 * c[0] * (0.4 + 0.6 * toward) - 0.35 * max(density - 0.75, 0.0) - 0.12 * light.overcast
        red, green, blue = (
            red + (bright - red) * cloud,
            green + (bright - green) * cloud,
            blue + (bright - blue) * cloud,
        )
    return red, green, blue


@compiled
def around(x, y, z, light):  # type: ignore[no-untyped-def]
    """What a mirror sees in a street: sky above the roofs, facades below, the road at the bottom."""
    red, green, blue = sky(x, y, z, light)
    facade = 0.16 + 0.05 * light.sun_color[0] * light.sun[2]
    share = min(max((z - 0.22) * 6.0, 0.0), 1.0)
    ground = 0.6 * facade
    below = facade if z > 0.0 else ground
    return below + (red - below) * share, below + (green - below) * share, below + (blue - below) * share


@numba.njit(cache=True, nogil=True)
def shade(  # type: ignore[no-untyped-def]
    start, stop, directions, distance, triangle, bary, normals, uv, table, material, lit, occlusion, pixel_angle, marks,
    light, out,
):  # fmt: skip
    """Fill out (N, 3) with linear radiance for the rays from `start` to `stop`.

    directions (N, 3) unit; distance (N,) metres, inf for sky; triangle (N,); bary (N, 2); normals (N, 3, 3): the
    corners' normals in the world; uv (T, 3, 2) and material (T,) of all triangles; lit (N,) 1 in the sun; occlusion
    (N,) 1 in the open; pixel_angle: radians a pixel.
    """
    for i in range(start, stop):
        dx, dy, dz = directions[i, 0], directions[i, 1], directions[i, 2]
        if triangle[i] < 0:
            red, green, blue = sky(dx, dy, dz, light)
        else:
            red, green, blue = _surface(
                i, dx, dy, dz, distance, triangle, bary, normals, uv, table, material, lit, occlusion, pixel_angle,
                marks, light,
            )  # fmt: skip
            clear = math.exp(-distance[i] * light.extinction)
            h = light.horizon_color
            red = red * clear + h[0] * 0.85 * (1.0 - clear)
            green = green * clear + h[1] * 0.85 * (1.0 - clear)
            blue = blue * clear + h[2] * 0.85 * (1.0 - clear)
        out[i, 0], out[i, 1], out[i, 2] = red, green, blue


@compiled
def _surface(  # type: ignore[no-untyped-def]
    i, dx, dy, dz, distance, triangle, bary, normals, uv, table, material, lit, occlusion, pixel_angle, marks, light,
):  # fmt: skip
    """Light that a surface sends back along a ray."""
    t = triangle[i]
    row = table[material[t]]
    b1, b2 = bary[i, 0], bary[i, 1]
    b0 = 1.0 - b1 - b2
    nx = b0 * normals[i, 0, 0] + b1 * normals[i, 1, 0] + b2 * normals[i, 2, 0]
    ny = b0 * normals[i, 0, 1] + b1 * normals[i, 1, 1] + b2 * normals[i, 2, 1]
    nz = b0 * normals[i, 0, 2] + b1 * normals[i, 1, 2] + b2 * normals[i, 2, 2]
    length = math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-12
    facing = -(nx * dx + ny * dy + nz * dz) / length
    flip = 1.0 / length if facing >= 0.0 else -1.0 / length
    nx, ny, nz, facing = nx * flip, ny * flip, nz * flip, abs(facing)
    u = b0 * uv[t, 0, 0] + b1 * uv[t, 1, 0] + b2 * uv[t, 2, 0]
    v = b0 * uv[t, 0, 1] + b1 * uv[t, 1, 1] + b2 * uv[t, 2, 1]
    footprint = distance[i] * pixel_angle / math.sqrt(max(facing, 0.02))
    red, green, blue = albedo(row, u, v, footprint, marks)
    kind = int(row[m.KIND])
    incidence = nx * light.sun[0] + ny * light.sun[1] + nz * light.sun[2]
    direct = max(incidence, 0.0)
    if kind == LEAF:  # thin: light comes through from behind
        direct = 0.35 + 0.45 * direct + 0.25 * max(-incidence, 0.0)
    direct *= lit[i]
    above = 0.5 + 0.5 * nz
    s, h, c = light.sky_color, light.horizon_color, light.sun_color
    open_sky = occlusion[i]
    bounce = 0.24 * (1.0 - above) * (0.35 + 0.65 * open_sky) * (0.6 + c[0] * light.sun[2])
    ambient_red = (0.32 * s[0] + 0.68 * h[0]) * above * open_sky + bounce
    ambient_green = (0.32 * s[1] + 0.68 * h[1]) * above * open_sky + bounce
    ambient_blue = (0.32 * s[2] + 0.68 * h[2]) * above * open_sky + bounce * 0.95
    glow = row[m.EMISSION]
    out_red = red * (direct * c[0] + ambient_red) + glow * red * 4.0
    out_green = green * (direct * c[1] + ambient_green) + glow * green * 4.0
    out_blue = blue * (direct * c[2] + ambient_blue) + glow * blue * 4.0
    gloss = row[m.GLOSS]
    if gloss > 0.0:
        rx, ry, rz = dx + 2.0 * facing * nx, dy + 2.0 * facing * ny, dz + 2.0 * facing * nz
        base = 0.06 if kind == PANE else 0.045
        share = gloss * (base + (1.0 - base) * (1.0 - facing) ** 5)
        er, eg, eb = around(rx, ry, rz, light)
        out_red += share * (er * (0.4 + 0.6 * open_sky) - out_red * 0.5)
        out_green += share * (eg * (0.4 + 0.6 * open_sky) - out_green * 0.5)
        out_blue += share * (eb * (0.4 + 0.6 * open_sky) - out_blue * 0.5)
        mirror = max(rx * light.sun[0] + ry * light.sun[1] + rz * light.sun[2], 0.0)
        spark = gloss * gloss * lit[i] * (0.35 * mirror**40 + 5.0 * mirror**600)
        out_red, out_green, out_blue = out_red + spark * c[0], out_green + spark * c[1], out_blue + spark * c[2]
    return out_red, out_green, out_blue


def shade_in_threads(*arguments: Any) -> None:
    """`shade` for all rays; arguments as there from `directions` on."""
    count = len(arguments[0])
    edges = np.linspace(0, count, (os.cpu_count() or 1) * 2 + 1).astype(np.int64)
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(shade, a, b, *arguments) for a, b in itertools.pairwise(edges)]:
            done.result()


def develop(
    radiance: NDArray, light: Light, balance: NDArray, noise: float, vignette: NDArray, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """(H, W, 3) linear radiance to the (H, W, 3) uint8 picture: exposure, falling off to the corners, sensor noise, the
    tone curve of S. Narkowicz ("ACES Filmic Tone Mapping Curve", 2015), sRGB.

    noise: standard deviation at full exposure, of photons; a third of it reads out everywhere.
    """
    x = (radiance * (light.exposure * balance) * vignette[..., None]).astype(np.float32)
    grain = rng.standard_normal(x.shape, dtype=np.float32)
    x += grain * noise * (np.sqrt(np.maximum(x, 0.0)) + 0.33)
    x = np.clip(x, 0.0, 20.0)
    x = np.clip(x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14), 0.0, 1.0)
    x = np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.power(x, 1.0 / 2.4) - 0.055)
    return np.rint(255.0 * x).astype(np.uint8)
