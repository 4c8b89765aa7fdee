"""torchvision as a source of truth for tests, whichever PyTorch its C++ operators were built for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def without_operators() -> Iterator[None]:
    """Within, torchvision loads though its operators cannot, and torchmetrics with it; no test needs them."""
    torch = pytest.importorskip("torch")
    register = torch.library.register_fake
    torch.library.register_fake = lambda *_, **__: lambda function: function
    try:
        yield
    finally:
        torch.library.register_fake = register
