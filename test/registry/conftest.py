"""State dicts as publishers write them, with weights that were never trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def published_state() -> Callable[[str], dict[str, Any]]:
    """The names of a published network with our own network's random weights under them."""
    torch = pytest.importorskip("torch")
    from seg_perception.models.build import build_model
    from seg_perception.models.checkpoints import PUBLISHED, translated

    def state(name: str) -> dict[str, Any]:
        torch.manual_seed(0)
        ours = build_model(PUBLISHED[name].network).state_dict()
        return {theirs: ours[own] for theirs, own in translated(names_of(name), PUBLISHED[name].renames).items()}

    def names_of(name: str) -> list[str]:
        from any_torchvision import without_operators

        with without_operators():
            segmentation = pytest.importorskip("torchvision.models.segmentation")
        build = getattr(segmentation, name.partition("/")[2])
        return list(build(weights=None, weights_backbone=None, aux_loss=True).state_dict())

    return state
