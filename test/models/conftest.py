"""Names and shapes of published state dicts, and torchvision's networks where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from any_torchvision import without_operators

LAYOUTS = Path(__file__).parent / "layouts"
Shapes = dict[str, tuple[int, ...]]


@pytest.fixture
def published_shapes() -> Callable[[str], Shapes]:
    """Every name of a published state dict and its shape, as the real network gave them."""

    def read(name: str) -> Shapes:
        shapes: Shapes = {}
        for line in (LAYOUTS / f"{name.replace('/', '_')}.txt").read_text().splitlines():
            if line.startswith("#"):
                continue
            key, *rest = line.split()
            if rest[0] == "batchnorm":
                for part in ("weight", "bias", "running_mean", "running_var"):
                    shapes[f"{key}.{part}"] = (int(rest[1]),)
                shapes[f"{key}.num_batches_tracked"] = ()
            else:
                shapes[key] = tuple(int(side) for side in rest[0].split("x"))
        return shapes

    return read


@pytest.fixture(scope="session")
def torchvision_models() -> ModuleType:
    """torchvision.models, where it is installed."""
    with without_operators():
        return pytest.importorskip("torchvision.models")
