"""What a spinning LiDAR measures while it and everything else moves, and what each point truly is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seg_perception.simulation.camera import Scenery
from seg_perception.simulation.classes import C
from seg_perception.simulation.config import LidarMount
from seg_perception.simulation.materials import CLEAR, REFLECTANCE
from seg_perception.simulation.paths import Path
from seg_perception.simulation.raycast import Hits

_REFERENCE = 0.10, 90.0  # a surface of this reflectance, met squarely, is still measured at this range
_PANES = 8  # that a beam passes at most
_PANE = 0.001  # m: how thick one is


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """The N returns of one turn, in the order in which they were fired.

    time: seconds from the start of the drive at which it looks ahead, its stamp. times: (N,) of each point. points:
    (N, 3) float32 as measured, exact: (N, 3) float32 without noise, both in the LiDAR's frame at each point's own
    instant. in_world: (N, 3) float64, exact, at that instant. body: (N,) the moving thing it lies on, -1 for none.
    """

    time: float
    times: NDArray[np.float64]
    points: NDArray[np.float32]
    exact: NDArray[np.float32]
    in_world: NDArray[np.float64]
    intensity: NDArray[np.float32]
    ring: NDArray[np.uint16]
    class_id: NDArray[np.uint8]
    instance: NDArray[np.uint16]
    body: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.times)


class Lidar:
    """The LiDAR of the rig. Ring 0 is the lowest beam."""

    def __init__(self, mount: LidarMount, scenery: Scenery, ego: Path) -> None:
        self.mount, self._scenery, self._ego = mount, scenery, ego
        column = (np.arange(mount.columns) + 0.5) / mount.columns
        azimuth = math.pi - 2.0 * math.pi * column
        elevation = np.radians(np.linspace(*mount.elevation_deg, mount.beams))
        self._offsets = (column - 0.5) / mount.rate_hz
        self._directions = np.stack(
            [
                np.cos(azimuth)[:, None] * np.cos(elevation),
                np.sin(azimuth)[:, None] * np.cos(elevation),
                np.broadcast_to(np.sin(elevation), (mount.columns, mount.beams)),
            ],
            axis=2,
        )

    def sweep(self, time: float, rng: np.random.Generator) -> Sweep:
        """One turn around the instant at which it looks ahead."""
        mount, world = self.mount, self._scenery.world
        T = self._ego.poses(time + self._offsets) @ mount.T_base_lidar
        beams = mount.beams
        local = self._directions.reshape(-1, 3)
        origins = np.repeat(T[:, :3, 3], beams, axis=0)
        directions = np.einsum("cij,cbj->cbi", T[:, :3, :3], self._directions).reshape(-1, 3)
        times = np.repeat(time + self._offsets, beams)
        hits = self._pass_glass(world.cast(origins, directions, times), origins, directions, times, rng)
        kept, signal = self._returns(hits, directions, times, rng)
        distance = hits.distance[kept]
        measured = distance + mount.range_noise * rng.standard_normal(len(kept))
        measured = np.round(measured / 0.002) * 0.002
        some = hits.select(kept)
        return Sweep(
            time,
            times[kept],
            (local[kept] * measured[:, None]).astype(np.float32),
            (local[kept] * distance[:, None]).astype(np.float32),
            origins[kept] + directions[kept] * distance[:, None],
            np.clip(255.0 * signal, 0.0, 255.0).astype(np.float32).round(),
            np.tile(np.arange(beams, dtype=np.uint16), mount.columns)[kept],
            world.class_of(some, C.SKY),
            world.instance_of(some),
            some.body,
        )

    def _pass_glass(
        self, hits: Hits, origins: NDArray, directions: NDArray, times: NDArray, rng: np.random.Generator
    ) -> Hits:
        """What is met once some rays have passed all clear panes on their way."""
        if self.mount.through_glass == 0.0:
            return hits
        world, passes = self._scenery.world, rng.random(len(times)) < self.mount.through_glass
        last = hits.select(np.arange(len(times)))  # a copy
        clear = self._scenery.table[world.mesh.material, CLEAR] > 0.0
        for _ in range(_PANES):
            rows = np.flatnonzero(passes & (last.triangle >= 0) & clear[np.maximum(last.triangle, 0)])
            start = last.distance[rows] + _PANE
            beyond = world.cast(origins[rows] + directions[rows] * start[:, None], directions[rows], times[rows])
            last.distance[rows], last.triangle[rows] = start + beyond.distance, beyond.triangle
            last.body[rows], last.bary[rows] = beyond.body, beyond.bary
        return last

    def _returns(
        self, hits: Hits, directions: NDArray, times: NDArray, rng: np.random.Generator
    ) -> tuple[NDArray, NDArray]:
        """Which rays come back, and their calibrated signals, 0..1: by reflectance, incidence and range."""
        mount, world = self.mount, self._scenery.world
        distance = hits.distance
        rows = np.flatnonzero((distance >= mount.min_range) & (distance <= mount.max_range))
        some = hits.select(rows)
        normals = world.corner_normals(some, times[rows]).mean(axis=1)
        normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        cosine = np.abs(np.einsum("ni,ni->n", normals, directions[rows]))
        signal = self._scenery.table[world.mesh.material[some.triangle], REFLECTANCE] * (0.1 + 0.9 * cosine)
        reflectance, reach = _REFERENCE
        strength = signal / reflectance * (reach / distance[rows]) ** 2
        chance = np.clip(1.5 * strength, 0.0, 1.0) * (1.0 - mount.drop_out)
        back = rng.random(len(rows)) < chance
        return rows[back], (signal * (1.0 + 0.06 * rng.standard_normal(len(rows))))[back]
