"""The drives of `drives.py` with the pictures that their cameras take, so that a real network labels them.

Drawing a picture takes seconds, so they are kept on disk, in half the width and height: what the network that ships
looks at is no larger.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from drives import DriveSpec, TrueSweep, path_of, true_sweeps
from numpy.typing import NDArray
from tqdm import tqdm

from seg_perception.datatypes import CameraImage
from seg_perception.simulation.drive import Drive

SIZE = 960, 540
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95]


def drawn_sweeps(specs: list[DriveSpec]) -> Iterator[TrueSweep]:
    """The sweeps of `true_sweeps`, their images drawn, by cameras of SIZE that see the same."""
    for spec in specs:
        small, folder = replace(spec, size=SIZE), path_of(spec).with_suffix("")
        if not (folder / "done").is_file():
            _draw(small, folder)
        mounts = small.config().cameras
        for k, sweep in enumerate(true_sweeps([spec])):
            images = {mount.name: _drawn(sweep.images[mount.name], folder, k) for mount in mounts}
            yield replace(sweep, spec=small, cameras=mounts, images=images)


def _drawn(image: CameraImage, folder: Path, k: int) -> CameraImage:
    return replace(image, pixels=cv2.imread(str(_file(folder, k, image.camera)))[:, :, ::-1].copy())


def _file(folder: Path, k: int, camera: str) -> Path:
    return folder / f"{k}_{camera}.jpg"


def _draw(spec: DriveSpec, folder: Path) -> None:
    drive = Drive(spec.config())
    folder.mkdir(parents=True, exist_ok=True)
    for k in tqdm(range(spec.sweeps), desc=f"pictures of drive {spec.seed}", unit="sweep"):
        exposed = float(drive.sweep_times()[10 * k + 5]) + 1e-3 * spec.offset_ms
        for number, camera in enumerate(drive.cameras):
            pixels: NDArray[np.uint8] = camera.expose(exposed, np.random.default_rng((k, number))).pixels
            cv2.imwrite(str(_file(folder, k, camera.mount.name)), pixels[:, :, ::-1], _JPEG)
    (folder / "done").touch()
