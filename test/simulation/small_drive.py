"""A small drive, built once for all tests of a process."""

from __future__ import annotations

from functools import cache

import numpy as np

from seg_perception.simulation.camera import Frame
from seg_perception.simulation.config import DriveConfig, LidarMount, Ranges, standard_rig
from seg_perception.simulation.drive import Drive
from seg_perception.simulation.lidar import Sweep

SIZE = (320, 160)
LIDAR = LidarMount(beams=32, columns=600)


def config(**changes: object) -> DriveConfig:
    rig = standard_rig(2, SIZE, offset_ms=50.0, lidar=LIDAR)
    values = {
        "seed": 3,
        "seconds": 1.0,
        "speed": 15.0,
        "cameras": rig,
        "lidar": LIDAR,
        "antialiasing": 0,
        "view_distance": 70.0,
    }
    return DriveConfig(**{**values, "ranges": Ranges(tram_track=1.0), **changes})  # type: ignore[arg-type]


@cache
def small_drive() -> Drive:
    return Drive(config())


@cache
def sweep_of(index: int) -> Sweep:
    return small_drive().sweep(index)


@cache
def frame_of(camera: int, index: int) -> Frame:
    return small_drive().frame(camera, index)


def pixel_of(uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of uv (N, 2)."""
    u, v = np.floor(uv + 0.5).astype(int).T
    return v, u
