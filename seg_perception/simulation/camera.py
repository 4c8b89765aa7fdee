"""What a camera sees: a picture as a sensor would give it, and class, instance and depth of every pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.simulation.classes import C
from seg_perception.simulation.config import CameraMount, DriveConfig
from seg_perception.simulation.materials import KIND
from seg_perception.simulation.paths import Path
from seg_perception.simulation.raycast import Hits, World
from seg_perception.simulation.shading import Light, develop, shade_in_threads
from seg_perception.simulation.textures import LEAF

VOID = 255  # of pixels that the lens sends no ray to
_OFFSET = 0.004  # m that secondary rays start before the surface
_SHADOW_REACH = 250.0
_OCCLUSION_REACH = 2.2
_SUBPIXELS = ((0.30, 0.13), (-0.32, 0.30), (0.08, -0.36), (-0.14, -0.08), (0.36, -0.30), (-0.30, -0.30))


def _sphere(count: int) -> NDArray[np.float64]:
    """(count, 3) points spread evenly on the unit sphere, neighbours in the list far apart: a Fibonacci lattice."""
    index = (np.arange(count) * 27 + 5) % count  # 27 and 64 share no factor
    z, phi = 1.0 - (2.0 * index + 1.0) / count, index * math.pi * (3.0 - math.sqrt(5.0))
    return np.stack([np.sqrt(1.0 - z * z) * np.cos(phi), np.sqrt(1.0 - z * z) * np.sin(phi), z], axis=1)


_SPHERE = _sphere(64)


@dataclass(frozen=True, slots=True, eq=False)
class FrameTruth:
    """What the rays through the centres of an exposure's pixels meet.

    labels: (H, W) uint8 train ids, VOID where the lens sees nothing. instances: (H, W) uint16, 0 where none. depth:
    (H, W) float32 z in the optical frame, metres; inf in the sky, NaN where void.
    """

    labels: NDArray[np.uint8]
    instances: NDArray[np.uint16]
    depth: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Frame(FrameTruth):
    """One exposure. pixels: (H, W, 3) uint8 RGB. time: seconds from the start of the drive, of the middle row."""

    pixels: NDArray[np.uint8]
    time: float


@dataclass(frozen=True, slots=True, eq=False)
class Scenery:
    """All that light meets. table: of the materials; marks: paint on the road."""

    world: World
    light: Light
    table: NDArray[np.float64]
    marks: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class _Rays:
    """N rays of one exposure. time: one for all, or (N,)."""

    origins: NDArray[np.float64]
    directions: NDArray[np.float64]
    time: NDArray | float


class Camera:
    """One camera of the rig. Its rays and what its optics and sensor do to light are worked out once."""

    def __init__(
        self, mount: CameraMount, scenery: Scenery, ego: Path, config: DriveConfig, rng: np.random.Generator
    ) -> None:
        self.mount, self._scenery, self._ego, self._config = mount, scenery, ego, config
        model, ranges = mount.model, config.ranges
        self._shape = (model.height, model.width)
        v, u = np.mgrid[0 : model.height, 0 : model.width].astype(np.float64)
        uv = np.stack([u.ravel(), v.ravel()], axis=1)
        right, below = np.array([0.5, 0.0]), np.array([0.0, 0.5])
        self._rays = model.unproject(uv)
        self._seen = ~np.isnan(self._rays[:, 0])
        self._across = np.nan_to_num(model.unproject(uv + right) - model.unproject(uv - right))
        self._down = np.nan_to_num(model.unproject(uv + below) - model.unproject(uv - below))
        self._pixel_angle = float(np.median(np.linalg.norm(self._across[self._seen], axis=1)))
        self._row_time = (v.ravel() - 0.5 * (model.height - 1)) * mount.row_time_us * 1e-6
        stratum = ((v.ravel() // 2 % 8) * 8 + u.ravel() // 2 % 8).astype(np.int64)
        self._stratum = stratum[self._seen]
        axis = np.nan_to_num(self._rays[:, 2]).reshape(self._shape)
        self._vignette = 1.0 - float(rng.uniform(*ranges.vignetting)) * (1.0 - axis**2) / max(
            1.0 - axis.min() ** 2, 1e-6
        )
        self._balance = np.array([rng.uniform(*ranges.white_balance), 1.0, rng.uniform(*ranges.white_balance)])
        self._noise = float(rng.uniform(*ranges.camera_noise))

    def expose(self, time: float, rng: np.random.Generator) -> Frame:
        """The picture of one instant, and its truth."""
        rays, hits = self._look(time)
        truth = self._truth(hits)
        occlusion = self._occlusion(rays, hits)
        radiance = np.zeros((*self._shape, 3))
        radiance.reshape(-1, 3)[self._seen] = self._radiance(rays, hits, occlusion)
        self._smooth_edges(time, radiance, truth, occlusion)
        pixels = develop(radiance, self._scenery.light, self._balance, self._noise, self._vignette, rng)
        pixels[~self._seen.reshape(self._shape)] = 0
        return Frame(truth.labels, truth.instances, truth.depth, pixels, time)

    def truth(self, time: float) -> FrameTruth:
        """The truth of one instant without its picture, which takes most of the time."""
        return self._truth(self._look(time)[1])

    def T_world_cam(self, times: NDArray | float) -> NDArray[np.float64]:
        """Where it is at any times."""
        return self._ego.poses(times) @ self.mount.T_base_cam

    def row_times(self, time: float, v: NDArray) -> NDArray[np.float64]:
        """When rows v (N,) of the exposure stamped `time` see."""
        return time + (v - 0.5 * (self._shape[0] - 1)) * self.mount.row_time_us * 1e-6

    def _look(self, time: float) -> tuple[_Rays, Hits]:
        """The rays through the centres of all pixels that see, and what they meet."""
        rays = self._rays_at(time, np.flatnonzero(self._seen), np.zeros(2))
        return rays, self._scenery.world.cast(rays.origins, rays.directions, rays.time)

    def _truth(self, hits: Hits) -> FrameTruth:
        world = self._scenery.world
        return FrameTruth(
            self._image(world.class_of(hits, C.SKY), VOID, np.uint8),
            self._image(world.instance_of(hits), 0, np.uint16),
            self._image(hits.distance * self._rays[self._seen, 2], np.nan, np.float32),
        )

    def _rays_at(self, time: float, index: NDArray, shift: NDArray) -> _Rays:
        """Rays of pixels (flat index), moved by `shift` (u, v) pixels."""
        directions = self._rays[index] + shift[0] * self._across[index] + shift[1] * self._down[index]
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        if self.mount.row_time_us == 0.0:
            T = self.T_world_cam(time)
            return _Rays(
                np.broadcast_to(T[:3, 3], directions.shape), np.einsum("ij,nj->ni", T[:3, :3], directions), time
            )
        times = time + self._row_time[index]
        rows, inverse = np.unique(times, return_inverse=True)
        T = self.T_world_cam(rows)[inverse]
        return _Rays(T[:, :3, 3], np.einsum("nij,nj->ni", T[:, :3, :3], directions), times)

    def _image(self, values: NDArray, empty: float, dtype: type) -> NDArray:
        image: NDArray = np.full(self._shape, empty, dtype)
        image.reshape(-1)[self._seen] = values
        return image

    def _radiance(self, rays: _Rays, hits: Hits, occlusion: NDArray) -> NDArray[np.float64]:
        """(N, 3) light along each ray. occlusion: (N,)."""
        scenery, light = self._scenery, self._scenery.light
        normals = scenery.world.corner_normals(hits, rays.time)
        mesh = scenery.world.mesh
        lit = np.zeros(len(hits.distance))
        surface = hits.triangle >= 0
        mean = normals.sum(axis=1)
        facing = np.where(np.einsum("ni,ni->n", mean, rays.directions) > 0.0, -1.0, 1.0)
        sunward = facing * (mean @ np.asarray(light.sun))
        leaf = scenery.table[mesh.material[np.maximum(hits.triangle, 0)], KIND] == LEAF
        rows = np.flatnonzero(surface & ((sunward > -0.5) | leaf))
        if light.sun_color[0] > 0.02 and len(rows):
            points = rays.origins[rows] + (hits.distance[rows] - _OFFSET)[:, None] * rays.directions[rows]
            time = rays.time if np.ndim(rays.time) == 0 else np.asarray(rays.time)[rows]
            toward_sun = np.broadcast_to(np.asarray(light.sun), points.shape)
            lit[rows] = ~scenery.world.occluded(points, toward_sun, time, _SHADOW_REACH)
        out = np.empty((len(lit), 3))
        shade_in_threads(
            rays.directions, hits.distance, hits.triangle, hits.bary, normals, mesh.uv, scenery.table, mesh.material,
            lit, occlusion, self._pixel_angle, scenery.marks, light, out,
        )  # fmt: skip
        return out

    def _occlusion(self, rays: _Rays, hits: Hits) -> NDArray[np.float64]:
        """(N,) how open the sky is above each hit, 1 for all of it: one ray for every second pixel and row, averaged
        with its neighbours on the same surface, which look in all the other directions."""
        count = len(hits.distance)
        if not self._config.ambient_occlusion:
            return np.ones(count)
        height, width = self._shape
        row_of_pixel = np.full(height * width, -1, np.int64)
        row_of_pixel[self._seen] = np.arange(count)
        coarse = row_of_pixel.reshape(height, width)[::2, ::2]
        chosen = coarse.ravel()
        rows = chosen[(chosen >= 0) & (hits.triangle[np.maximum(chosen, 0)] >= 0)]
        time = rays.time if np.ndim(rays.time) == 0 else np.asarray(rays.time)[rows]
        some = hits.select(rows)
        normals = self._scenery.world.corner_normals(some, time).mean(axis=1).astype(np.float64)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        normals *= -np.sign(np.einsum("ni,ni->n", normals, rays.directions[rows]))[:, None]
        points = rays.origins[rows] + (hits.distance[rows] - _OFFSET)[:, None] * rays.directions[rows]
        upward = normals + 0.98 * _SPHERE[self._stratum[rows]]  # Lambert: the normal plus a point of the unit sphere
        upward /= np.linalg.norm(upward, axis=1, keepdims=True)
        open_sky = np.ones(count)
        open_sky[rows] = ~self._scenery.world.occluded(points, upward, time, _OCCLUSION_REACH)
        values, distance = np.ones(coarse.shape), np.full(coarse.shape, np.inf)
        inside = coarse >= 0
        values[inside], distance[inside] = open_sky[coarse[inside]], hits.distance[coarse[inside]]
        fine = _averaged(values, distance).repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
        return np.ascontiguousarray(fine).reshape(-1)[self._seen]

    def _smooth_edges(self, time: float, radiance: NDArray, truth: FrameTruth, occlusion: NDArray) -> None:
        """Where neighbours differ, average with rays through other places of the pixel, as its area would."""
        count = self._config.antialiasing
        if count <= 0:
            return
        tone = radiance.sum(axis=2) * self._scenery.light.exposure
        tone = tone / (1.0 + tone)
        edge = np.zeros(self._shape, bool)
        for image, step in (
            (truth.labels.astype(np.int16), 0.5),
            (truth.instances.astype(np.int32), 0.5),
            (tone, 0.045),
        ):
            across, down = np.abs(np.diff(image, axis=1)) > step, np.abs(np.diff(image, axis=0)) > step
            edge[:, 1:] |= across
            edge[:, :-1] |= across
            edge[1:] |= down
            edge[:-1] |= down
        index = np.flatnonzero(edge.ravel() & self._seen)
        if not len(index):
            return
        order = np.cumsum(self._seen) - 1
        flat = radiance.reshape(-1, 3)
        total = flat[index].copy()
        for shift in _SUBPIXELS[:count]:
            rays = self._rays_at(time, index, np.asarray(shift))
            hits = self._scenery.world.cast(rays.origins, rays.directions, rays.time)
            total += np.minimum(self._radiance(rays, hits, occlusion[order[index]]), 4.0 / self._scenery.light.exposure)
        flat[index] = total / (count + 1)


@numba.njit(cache=True, nogil=True)
def _averaged(values, distance):  # type: ignore[no-untyped-def]
    """(H, W) mean over 8x8 of what lies within a tenth of the distance."""
    height, width = values.shape
    out = np.ones_like(values)
    for i in range(height):
        for j in range(width):
            here = distance[i, j]
            if np.isinf(here):
                continue
            total, count = 0.0, 0.0
            for a in range(max(i - 4, 0), min(i + 4, height)):
                for b in range(max(j - 4, 0), min(j + 4, width)):
                    if abs(distance[a, b] - here) < 0.1 * here + 0.05:
                        total += values[a, b]
                        count += 1.0
            out[i, j] = total / count
    return out
