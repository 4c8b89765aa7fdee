"""The words of `launch` and `launch_ros` that our launch files use, where neither is installed: each notes what it got.

They are not on PyPI, so what a launch file asks for is looked at here, not run. Where they are installed the tests take
the real ones instead (`test_shipped_files.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

NAMES = {
    "launch": ("LaunchDescription",),
    "launch.actions": (
        "DeclareLaunchArgument",
        "ExecuteProcess",
        "IncludeLaunchDescription",
        "OpaqueFunction",
        "RegisterEventHandler",
        "Shutdown",
        "TimerAction",
    ),
    "launch.event_handlers": ("OnProcessExit",),
    "launch.launch_description_sources": ("PythonLaunchDescriptionSource",),
    "launch.substitutions": ("LaunchConfiguration",),
    "launch_ros": (),
    "launch_ros.actions": ("LifecycleNode", "Node"),
    "launch_ros.substitutions": ("ExecutableInPackage",),
}


class Noted:
    """Anything that a launch file makes: its kind, and the arguments it was made with."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.kind, self.args, self.kwargs = type(self).__name__, args, kwargs

    def perform(self, context: dict[str, str]) -> str:
        """Of a LaunchConfiguration: the argument's value."""
        return context[self.args[0]]


@contextmanager
def spoken(share: Path) -> Iterator[None]:
    """In the block `launch` and `launch_ros` can be imported, and the share folder of the package is `share`."""
    modules = {}
    for module, names in NAMES.items():
        modules[module] = ModuleType(module)
        for name in names:
            setattr(modules[module], name, type(name, (Noted,), {}))
    index = ModuleType("ament_index_python.packages")
    index.get_package_share_directory = lambda package: str(share)  # type: ignore[attr-defined]
    modules["ament_index_python"] = ModuleType("ament_index_python")
    modules["ament_index_python.packages"] = index
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def entities(path: Path, share: Path) -> tuple[dict[str, Any], list[Noted]]:
    """The globals of a launch file, and what it describes."""
    namespace: dict[str, Any] = {}
    with spoken(share):
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), namespace)
        return namespace, namespace["generate_launch_description"]().args[0]
