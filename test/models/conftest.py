"""Names and shapes of published state dicts, and torchvision's networks where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

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
    """torchvision.models. Its C++ operators, which these networks do not use, may be built for another PyTorch."""
    torch = pytest.importorskip("torch")
    if find_spec("torchvision") is None:
        pytest.skip("torchvision not installed")
    register = torch.library.register_fake
    torch.library.register_fake = lambda *_, **__: lambda function: function
    try:
        import torchvision.models

        return torchvision.models
    finally:
        torch.library.register_fake = register
