"""The small labelled drive, as it is and without what a recording may lack."""

from __future__ import annotations

from pathlib import Path

import pytest
from viewing import small_bag


@pytest.fixture(scope="session")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bag.write_bag(tmp_path_factory.mktemp("view") / "drive.mcap")


@pytest.fixture(scope="session")
def still_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bag.write_bag(tmp_path_factory.mktemp("still") / "drive.mcap", odometry=False)


@pytest.fixture(scope="session")
def truth_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bag.write_bag(tmp_path_factory.mktemp("truth") / "drive.mcap", positions=False)
