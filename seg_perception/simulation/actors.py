"""Things with an identity: what they are, how large, and how they move."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seg_perception.geometry.transforms import Float64Array, from_rotation_translation
from seg_perception.simulation.mesh import Mesh
from seg_perception.simulation.paths import Path


@dataclass(frozen=True, slots=True)
class Hinge:
    """A part swings about the y axis of its actor through `point` (x, y, z): amplitude (radians), cycles a second."""

    point: tuple[float, float, float]
    amplitude: float
    frequency: float
    phase: float


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A rigid piece of an actor, in the actor's frame: on the ground, x ahead, z up."""

    mesh: Mesh
    hinge: Hinge | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Actor:
    """A countable thing. low, high: its box in its own frame. instance: also its track's id, 1 to 65535.

    swings: its hinges move, as those of somebody who walks; else they stay as they are at time 0.
    """

    instance: int
    class_id: int
    path: Path
    parts: tuple[Part, ...]
    swings: bool = True

    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lowest and highest corner of the box around its parts, hinges at rest."""
        ends = [part.mesh.bounds() for part in self.parts]
        return np.min([low for low, _ in ends], axis=0), np.max([high for _, high in ends], axis=0)

    def part_poses(self, index: int, times: ArrayLike, T_world_actor: Float64Array | None = None) -> Float64Array:
        """T_world_part (N, 4, 4) of one part. T_world_actor: what the path says of these times, where known already."""
        times = np.asarray(times, np.float64)
        T = self.path.poses(times) if T_world_actor is None else T_world_actor
        hinge = self.parts[index].hinge
        return T if hinge is None else T @ _swing(hinge, times if self.swings else times * 0.0)


def _swing(hinge: Hinge, times: NDArray) -> Float64Array:
    """T_actor_part (N, 4, 4)."""
    angle = hinge.amplitude * np.sin(2.0 * math.pi * hinge.frequency * times + hinge.phase)
    cos, sin, zero, one = np.cos(angle), np.sin(angle), np.zeros_like(angle), np.ones_like(angle)
    R = np.stack([np.stack([cos, zero, sin], -1), np.stack([zero, one, zero], -1), np.stack([-sin, zero, cos], -1)], -2)
    point = np.asarray(hinge.point)
    return from_rotation_translation(R, point - R @ point)
