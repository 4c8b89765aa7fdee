"""A whole drive from its seed: the street, whoever moves, the rig; asked instant by instant."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from seg_perception.geometry.transforms import Float64Array
from seg_perception.simulation.camera import Camera, Frame, Scenery
from seg_perception.simulation.config import CameraMount, DriveConfig
from seg_perception.simulation.fleet import Fleet
from seg_perception.simulation.lidar import Lidar, Sweep
from seg_perception.simulation.materials import Materials, Palette
from seg_perception.simulation.mesh import pose
from seg_perception.simulation.plan import draw_plan
from seg_perception.simulation.raycast import World
from seg_perception.simulation.shading import draw_light
from seg_perception.simulation.street import build
from seg_perception.simulation.traffic import Traffic
from seg_perception.simulation.truth import Sight, sight

# Each purpose has numbers of its own, so that more of one thing changes nothing else.
_PLAN, _STREET, _TRAFFIC, _LIGHT, _OPTICS, _SWEEP, _FRAME = range(7)


@dataclass(frozen=True, slots=True, eq=False)
class TrackedBox:
    """The box of one countable thing at one instant. T_world_box: its middle; size: metres along its own axes."""

    track: int
    class_id: int
    T_world_box: NDArray[np.float64]
    size: NDArray[np.float64]


class Drive:
    """Everything about a drive. Asked in any order, it answers the same."""

    def __init__(self, config: DriveConfig) -> None:
        self.config = config
        plan = draw_plan(config, self._rng(_PLAN))
        materials = Materials()
        palette = Palette(materials)
        fleet = Fleet(palette)
        street = self._rng(_STREET)
        parked_share = float(street.uniform(*config.ranges.parked))
        still, self._parked, marks = build(plan, palette, fleet, parked_share, config.ranges.tree_spacing, street)
        actors = Traffic(plan, config, fleet, len(self._parked) + 1, self._rng(_TRAFFIC)).draw()
        light = draw_light(config, self._rng(_LIGHT))
        self.world = World(still, actors)
        scenery = Scenery(self.world, light, materials.table(), marks)
        self.plan, self.ego = plan, plan.ego()
        self.lidar = Lidar(config.lidar, scenery, self.ego)
        self._scenery = scenery
        self.cameras = self._mount()

    def with_cameras(self, mounts: tuple[CameraMount, ...]) -> Drive:
        """The same drive, seen by other cameras; the world is shared."""
        other = copy.copy(self)
        other.config = replace(self.config, cameras=mounts)
        other.cameras = other._mount()
        return other

    def sweep_times(self) -> NDArray[np.float64]:
        """(K,) seconds from the start at which the LiDAR looks ahead, in the middle of each sweep."""
        rate = self.config.lidar.rate_hz
        return np.asarray((np.arange(int(self.config.seconds * rate + 1e-9)) + 0.5) / rate, np.float64)

    def frame_times(self, camera: int) -> NDArray[np.float64]:
        """(K,) seconds from the start of each exposure of one camera."""
        mount = self.config.cameras[camera]
        count = int(self.config.seconds * mount.rate_hz + 1e-9)
        return np.asarray((np.arange(count) + 0.5) / mount.rate_hz + 1e-3 * mount.offset_ms, np.float64)

    def sweep(self, index: int) -> Sweep:
        """One turn of the LiDAR."""
        return self.lidar.sweep(float(self.sweep_times()[index]), self._rng(_SWEEP, index))

    def frame(self, camera: int, index: int) -> Frame:
        """One exposure of one camera."""
        return self.cameras[camera].expose(float(self.frame_times(camera)[index]), self._rng(_FRAME, camera, index))

    def nearest_frame(self, camera: int, time: float) -> int:
        """The exposure nearest in time; of two, the earlier."""
        return int(np.abs(self.frame_times(camera) - time).round(9).argmin())

    def sight(self, sweep: Sweep, camera: int) -> Sight:
        """What a camera sees of a sweep in the exposure nearest to it."""
        time = float(self.frame_times(camera)[self.nearest_frame(camera, sweep.time)])
        return sight(self.world, sweep, self.cameras[camera], time)

    def velocities(self, sweep: Sweep) -> NDArray[np.float32]:
        """(N, 3) m/s in the world, of the things that the points lie on; 0 where they stand still."""
        step = 1e-3
        ahead = self.world.carried(sweep.in_world, sweep.body, sweep.times, sweep.times + step)
        behind = self.world.carried(sweep.in_world, sweep.body, sweep.times, sweep.times - step)
        return ((ahead - behind) / (2.0 * step)).astype(np.float32)

    def boxes(self, time: float) -> list[TrackedBox]:
        """Of everything countable, parked or moving, at one instant."""
        found = []
        for thing in self._parked:
            found.append(_box(thing.instance, thing.class_id, thing.T_world_thing, thing.low, thing.high))
        for actor in self.world.actors:
            found.append(_box(actor.instance, actor.class_id, actor.path.poses(time), *actor.bounds()))
        return found

    def T_world_base(self, times: NDArray | float) -> Float64Array:
        """The vehicle's own pose."""
        return self.ego.poses(times)

    def _mount(self) -> tuple[Camera, ...]:
        return tuple(
            Camera(mount, self._scenery, self.ego, self.config, self._rng(_OPTICS, index))
            for index, mount in enumerate(self.config.cameras)
        )

    def _rng(self, *purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, *purpose])


def _box(track: int, class_id: int, T: NDArray, low: NDArray, high: NDArray) -> TrackedBox:
    return TrackedBox(track, class_id, T @ pose(*(0.5 * (low + high))), high - low)
