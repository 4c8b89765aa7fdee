"""Fixtures of the simulation's tests."""

from __future__ import annotations

import pytest
from simulation.small_drive import config, small_drive, sweep_of

from seg_perception.simulation.config import DriveConfig
from seg_perception.simulation.drive import Drive
from seg_perception.simulation.lidar import Sweep


@pytest.fixture
def drive() -> Drive:
    """Two cameras back to back, 50 ms late, 32 beams, 15 m/s through bends among traffic."""
    return small_drive()


@pytest.fixture
def sweep(drive: Drive) -> Sweep:
    """Its fifth sweep."""
    return sweep_of(4)


@pytest.fixture
def small_config() -> DriveConfig:
    """The configuration of `drive`."""
    return config()
