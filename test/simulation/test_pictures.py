"""Pictures to train on: the same from the same values, whole after an interruption, usable by a training."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from seg_perception.errors import ConfigError

pytest.importorskip("open3d", reason="the simulator casts its rays with Open3D", exc_type=ImportError)
from seg_perception.simulation.config import DriveConfig, Ranges
from seg_perception.simulation.drive import Drive
from seg_perception.simulation.pictures import PictureSet, write_pictures

pytestmark = pytest.mark.open3d
SMALL = PictureSet(seed=5, streets=1, pictures_per_street=3, size=(64, 32))


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.*"))
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    assert write_pictures(SMALL, folder) == 3
    return folder


def test_every_picture_has_labels_and_instances_of_its_size(written: Path) -> None:
    pictures = sorted((written / "images").iterdir())
    assert len(pictures) == 3
    for path in pictures:
        assert cv2.imread(str(path)).shape == (32, 64, 3)
        labels = cv2.imread(str(written / "labels" / f"{path.stem}.png"), cv2.IMREAD_UNCHANGED)
        instances = cv2.imread(str(written / "instances" / f"{path.stem}.png"), cv2.IMREAD_UNCHANGED)
        assert labels.shape == instances.shape == (32, 64)
        assert instances.dtype == np.uint16
        assert set(np.unique(labels)) <= {*range(19), 255}


def test_a_stopped_run_goes_on_and_ends_the_same(written: Path) -> None:
    before = _digests(written)
    for part in ("images", "instances"):
        sorted((written / part).iterdir())[-1].unlink()
    write_pictures(SMALL, written)
    assert _digests(written) == before


def test_pictures_of_another_seed_are_not_mixed_in(written: Path) -> None:
    with pytest.raises(ConfigError, match="pictures of another set, such as 5_00000"):
        write_pictures(replace(SMALL, seed=6), written)


def test_a_street_with_the_narrowest_gardens_can_be_built() -> None:
    Drive(DriveConfig(seconds=1.0, view_distance=60.0, ranges=Ranges(setback=(1.25, 1.25))))
