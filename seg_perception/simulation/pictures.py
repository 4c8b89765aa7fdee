"""Pictures to train on: many streets, and in each a few pictures by cameras that are mounted ever differently."""

from __future__ import annotations

import math
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
from tqdm import tqdm

from seg_perception.errors import ConfigError
from seg_perception.geometry.camera import CameraModel
from seg_perception.simulation.config import CameraMount, DriveConfig, Ranges, Trajectory, looking
from seg_perception.simulation.drive import Drive

_TRAJECTORIES = get_args(Trajectory)
_SECONDS = 20.0
# Wider than a drive's own: a network shall not lean on one kind of light, traffic or sensor.
_RANGES = Ranges(
    parked=(0.05, 0.9),
    traffic_gap=(12.0, 35.0),
    haze_visibility=(150.0, 2500.0),
    exposure_stops=(-0.6, 0.6),
    white_balance=(0.88, 1.12),
    camera_noise=(0.001, 0.016),
    tram_track=0.7,
)


@dataclass(frozen=True, slots=True)
class PictureSet:
    """What is drawn. size: width and height in pixels; field_of_view_deg: across, drawn evenly in its logarithm.

    The same values give the same pictures. Streets of different seeds have nothing in common.
    """

    seed: int
    streets: int
    pictures_per_street: int = 8
    size: tuple[int, int] = (512, 256)
    field_of_view_deg: tuple[float, float] = (32.0, 100.0)

    def __post_init__(self) -> None:
        if self.streets < 1 or self.pictures_per_street < 1:
            raise ConfigError(
                f"pictures: 1 or more streets and pictures wanted, {self.streets}, {self.pictures_per_street} seen"
            )
        low, high = self.field_of_view_deg
        if not 5.0 <= low <= high <= 150.0:
            raise ConfigError(f"pictures: fields of view from 5 to 150 degrees wanted, {low} to {high} seen")


def write_pictures(pictures: PictureSet, folder: Path, *, workers: int = 1) -> int:
    """Write `images/*.jpg`, `labels/*.png` (train ids) and `instances/*.png` (uint16); return how many of each.

    Goes on where an earlier run was stopped: a street whose pictures are there is not drawn again. Raises ConfigError
    where the folder holds other streets than those asked for.
    """
    known = {f"{pictures.seed}_{street:05d}" for street in range(pictures.streets)}
    found = {path.stem.rpartition("_")[0] for path in (folder / "instances").glob("*.png")}
    if found - known:
        raise ConfigError(f"pictures {folder}: holds pictures of another set, such as {sorted(found - known)[0]}_*")
    for part in ("images", "labels", "instances"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    make = partial(_write_street, pictures, folder)
    done = 0
    with tqdm(total=pictures.streets, unit="street") as bar:
        if workers <= 1:
            for street in range(pictures.streets):
                done += make(street)
                bar.update()
            return done
        # Threads of the ray caster do not survive a fork.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for count in pool.map(make, range(pictures.streets)):
                done += count
                bar.update()
    return done


def _write_street(pictures: PictureSet, folder: Path, street: int) -> int:
    names = [f"{pictures.seed}_{street:05d}_{index:02d}" for index in range(pictures.pictures_per_street)]
    # The last file of a street is written last.
    if (folder / "instances" / f"{names[-1]}.png").exists():
        return len(names)
    rng = np.random.default_rng([pictures.seed, street])
    config = DriveConfig(
        seed=int(rng.integers(2**31)),
        seconds=_SECONDS,
        speed=float(rng.uniform(0.0, 16.0)),
        trajectory=_TRAJECTORIES[int(rng.integers(len(_TRAJECTORIES)))],
        ranges=_RANGES,
        view_distance=180.0,
    )
    drive = Drive(config)
    for name in names:
        camera = drive.with_cameras((_mount(pictures, rng),)).cameras[0]
        frame = camera.expose(float(rng.uniform(0.0, _SECONDS)), rng)
        jpeg = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(80, 98))]
        cv2.imwrite(str(folder / "images" / f"{name}.jpg"), frame.pixels[..., ::-1], jpeg)
        cv2.imwrite(str(folder / "labels" / f"{name}.png"), frame.labels)
        cv2.imwrite(str(folder / "instances" / f"{name}.png"), frame.instances)
    return len(names)


def _mount(pictures: PictureSet, rng: np.random.Generator) -> CameraMount:
    """A lens, and a place on the vehicle: mostly looking ahead, sometimes to a side."""
    width, height = pictures.size
    low, high = pictures.field_of_view_deg
    field_of_view = math.exp(rng.uniform(math.log(low), math.log(high)))
    focal = 0.5 * width / math.tan(math.radians(field_of_view) / 2.0)
    K = np.array([[focal, 0.0, 0.5 * width - 0.5], [0.0, focal, 0.5 * height - 0.5], [0.0, 0.0, 1.0]])
    D = np.array([rng.uniform(-0.12, 0.02), rng.uniform(-0.01, 0.05), 0.0, 0.0, 0.0])
    yaw = float(rng.normal(0.0, 7.0)) if rng.random() < 0.65 else float(rng.uniform(-75.0, 75.0))
    pitch, roll = float(rng.normal(2.0, 2.0)), math.radians(float(rng.normal(0.0, 1.0)))
    T_base_cam = looking(yaw, pitch, (1.6, 0.0, float(rng.uniform(1.2, 2.4))))
    tilt = np.array([[math.cos(roll), -math.sin(roll), 0.0], [math.sin(roll), math.cos(roll), 0.0], [0.0, 0.0, 1.0]])
    T_base_cam[:3, :3] = T_base_cam[:3, :3] @ tilt
    return CameraMount("camera", CameraModel(width, height, K, "plumb_bob", D), T_base_cam)
