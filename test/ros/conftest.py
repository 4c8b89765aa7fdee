"""One tiny network for all tests of the live node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import live_node
import pytest


@pytest.fixture(scope="session", autouse=True)
def isolated() -> None:
    live_node.isolate()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return live_node.color_model(tmp_path_factory.mktemp("model") / "colors.onnx")


@pytest.fixture(scope="module")
def peer() -> Iterator[live_node.Peer]:
    peer = live_node.Peer()
    yield peer
    peer.close()
