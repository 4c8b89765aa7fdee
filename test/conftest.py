"""Fixtures and skip rules that every test may use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

with suppress(ImportError):  # where it is missing its tests say so
    from hypothesis import HealthCheck, settings

    settings.register_profile("busy", suppress_health_check=[HealthCheck.too_slow])  # others may keep the machine busy
    settings.load_profile("busy")

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


@pytest.fixture
def torch() -> Iterator[ModuleType]:
    """With one thread: small layers on a busy machine wait for their threads, not for their work."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(threads)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, packages in OPTIONAL.items():
        missing = [name for name in packages if item.get_closest_marker(marker) and find_spec(name) is None]
        if missing:
            pytest.skip(f"{', '.join(missing)} not installed")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A live test shares the machine with others: one that fails is run once more, and the summary says so."""
    if not config.pluginmanager.hasplugin("rerunfailures"):
        return
    for item in items:
        if item.get_closest_marker("ros") and not item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What made each test fail that was run again, as it would be told of one that failed for good."""
    for report in terminalreporter.getreports("rerun"):
        terminalreporter.section(f"failed at first, in its {report.when}: {report.nodeid}", "_")
        report.toterminal(terminalreporter._tw)
