"""Fixtures and skip rules that every test may use."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

PROJECT_ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = PROJECT_ROOT.parent / "shared" / "data"

OPTIONAL = {
    "ros": ("rclpy", "sensor_msgs", "tf2_msgs", "vision_msgs"),
    "torch": ("torch",),
    "open3d": ("open3d",),
    "tensorrt": ("tensorrt",),
    "tensorrt_rtx": ("tensorrt_rtx_bindings",),
    "openvino": ("openvino",),
}
"""Marker -> the packages without which a test that carries it is skipped."""


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The folder that holds setup.py."""
    return PROJECT_ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of recorded drives and real networks beside the checkout; skips the test where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no recorded data: {SHARED_DATA} does not exist")
    return SHARED_DATA


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, packages in OPTIONAL.items():
        missing = [name for name in packages if item.get_closest_marker(marker) and find_spec(name) is None]
        if missing:
            pytest.skip(f"{', '.join(missing)} not installed")
