"""A tiny street that a network can learn by heart: three classes, told apart by colour and place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

SIZE = (96, 64)  # width, height
COLORS = ((90, 90, 100), (60, 140, 60), (200, 30, 40))  # road, plants, car


def street(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels RGB, train ids and instances: plants above a slanted horizon, cars on the road, a void corner."""
    rng = np.random.default_rng(number)
    v, u = np.indices(SIZE[::-1])
    labels = np.where(v < 24 + 0.2 * u + rng.integers(-6, 6), 1, 0).astype(np.uint8)
    instances = np.zeros(labels.shape, np.uint16)
    for car in range(1, 3):
        left, top = rng.integers(0, SIZE[0] - 20), rng.integers(30, SIZE[1] - 14)
        labels[top : top + 12, left : left + 18] = 2
        instances[top : top + 12, left : left + 18] = car
    pixels = np.array(COLORS, np.float32)[labels] + rng.normal(0, 12, (*labels.shape, 3))
    labels[:4, :4] = 255
    return np.clip(pixels, 0, 255).astype(np.uint8), labels, instances


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small are slower on several threads, far slower where the cores are busy."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def taxonomy_file(tmp_path: Path) -> Path:
    path = tmp_path / "three.yaml"
    names = ("road", "plants", "car")
    classes = [
        {"name": name, "id": 10 + k, "train_id": k, "color": list(COLORS[k]), "thing": name == "car"}
        for k, name in enumerate(names)
    ]
    path.write_text(yaml.safe_dump({"name": "three", "classes": classes}))
    return path


@pytest.fixture
def street_folder(tmp_path: Path) -> Path:
    """Eight pictures in the layout `folder`, the last two of them the validation."""
    root = tmp_path / "street"
    for number in range(8):
        base = root / ("val" if number >= 6 else "train")
        for part, picture in zip(("images", "labels", "instances"), street(number), strict=True):
            (base / part).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(base / part / f"{number:03}.png"), picture[..., ::-1] if part == "images" else picture)
    return root


@pytest.fixture
def settings(street_folder: Path, taxonomy_file: Path) -> Callable[..., dict[str, Any]]:
    """A training that takes seconds; sections given are laid over it."""

    def build(**sections: Any) -> dict[str, Any]:
        content: dict[str, Any] = {
            "train": [{"path": str(street_folder), "split": "train"}],
            "validation": [{"path": str(street_folder), "split": "val"}],
            "taxonomy": str(taxonomy_file),
            "seed": 1,
            "network": {"architecture": "unet", "base_channels": 4, "num_classes": 3},
            "augmentation": {"crop_width": 64, "crop_height": 48, "min_scale": 0.8, "max_scale": 1.25},
            "schedule": {"iterations": 6, "batch_size": 2, "learning_rate": 0.01},
            "run": {"workers": 0, "validate_every": 1000, "checkpoint_every": 1000, "tensorboard": False},
        }
        for name, section in sections.items():
            both_are_sections = isinstance(section, dict) and isinstance(content.get(name), dict)
            content[name] = {**content[name], **section} if both_are_sections else section
        return content

    return build
