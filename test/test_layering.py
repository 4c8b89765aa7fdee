"""The arrows between the rooms, and the one door that each heavy dependency has."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from seg_perception.folders import INLINED

NAME = "seg_perception"
PACKAGE = Path(__file__).resolve().parent.parent / NAME

TIERS = (
    ("errors", "shipped", "folders", "compiling", "prefetching", "borrowing"),
    ("datatypes", "config"),
    ("labels", "once", "crew", "statistics", "pcd", "schema"),
    ("geometry",),
    ("inference", "fusion", "scene"),
    ("messages",),
    ("pipeline", "bags"),
    ("scene_step", "scene_topics", "telling", "drawing", "models"),
    ("intake", "evaluation"),
    ("offline", "importers", "export", "simulation", "training"),
    ("ros", "registry", "calibration", "viewing"),
    ("doctor",),
    ("cli",),
)
"""A room may import itself and rooms of the tiers above it in this list. A new room gets its place here."""

TIER_OF = {room: tier for tier, rooms in enumerate(TIERS) for room in rooms}

BESIDE_THE_PIPELINE = {"models", "export", "training", "simulation", "evaluation", "registry", "calibration", "viewing"}

ROS_PACKAGES = {
    "rclpy",
    "builtin_interfaces",
    "rcl_interfaces",
    "ament_index_python",
    "std_srvs",
    "tf2_ros",
    "launch",
    "launch_ros",
}

DOORS = {
    "rosbags": ("bags.py",),
    "onnx": ("export/",),
    "onnxruntime": ("inference/onnxruntime_segmenter.py", "export/"),
    "tensorrt": ("inference/tensorrt_library.py",),
    "cuda": ("inference/cuda_runtime.py",),
    "openvino": ("inference/openvino_segmenter.py",),
    "open3d": ("simulation/raycast.py", "importers/lidar_odometry.py", "viewing/open3d_window.py"),
    "rerun": ("viewing/rerun_file.py",),
    "scipy": ("scene/", "calibration/"),
    "torch": ("models/", "export/", "training/"),
    "ROS": ("ros/",),
}
"""Heavy dependency -> the files and folders of the package that may import it."""

BLOCKED = ("rclpy", "sensor_msgs", "tf2_msgs", "vision_msgs", "torch", "tensorrt", "open3d")


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def dotted(module: Path) -> str:
    parts = (NAME, *module.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(name: str) -> str:
    """`seg_perception.geometry.camera` -> `geometry`; empty for the package itself."""
    return name.partition(".")[2].partition(".")[0]


def imports(module: Path) -> Iterator[str]:
    """Every absolute name that a module imports, wherever in it, `from a import b` as `a.b`."""
    for node in ast.walk(ast.parse(module.read_text(), filename=str(module))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{module}:{node.lineno}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def heavy_dependency(name: str) -> str:
    top = name.split(".")[0]
    return "ROS" if top in ROS_PACKAGES or top.endswith("_msgs") else top


def import_without(blocked: tuple[str, ...], names: list[str]) -> subprocess.CompletedProcess[str]:
    """Imports modules in a new process in which the blocked packages cannot be found."""
    code = f"""
import importlib, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"{{name}} is blocked", name=name)
sys.meta_path.insert(0, Block())
for name in {names!r}:
    importlib.import_module(name)
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_the_blocking_works() -> None:
    assert "json is blocked" in import_without(("json",), ["json"]).stderr


@pytest.mark.parametrize("blocked", [BLOCKED, (*BLOCKED, "onnx", "onnxruntime", "rosbags")], ids=["heavy", "heavier"])
def test_pipeline_imports_without_its_heavy_neighbours(blocked: tuple[str, ...]) -> None:
    done = import_without(blocked, [f"{NAME}.pipeline"])
    assert done.returncode == 0, done.stderr


def test_everything_outside_its_door_imports_without_ros_torch_tensorrt_and_open3d() -> None:
    names = [dotted(module) for module in modules()]
    free = [name for name in names if room_of(name) not in {"ros", "models", "training"}]
    done = import_without(BLOCKED, free)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", modules(), ids=dotted)
def test_imports_follow_the_arrows(module: Path) -> None:
    room = room_of(dotted(module))
    if not room:
        ours = {name for name in imports(module) if name.startswith(f"{NAME}.")}
        assert ours == {f"{NAME}.folders"}  # which has to speak before numba is imported
        return
    assert room in TIER_OF, f"{room} has no tier yet"
    for name in imports(module):
        target = room_of(name)
        if name.startswith(f"{NAME}.") and target in TIER_OF and target != room:
            assert TIER_OF[target] < TIER_OF[room], f"{dotted(module)} imports {name}"


@pytest.mark.parametrize("module", modules(), ids=dotted)
def test_heavy_dependencies_come_in_by_their_own_door(module: Path) -> None:
    place = module.relative_to(PACKAGE).as_posix()
    for name in imports(module):
        doors = DOORS.get(heavy_dependency(name))
        assert doors is None or place.startswith(doors), f"{dotted(module)} imports {name}, whose place is {doors}"


def test_pipeline_reaches_nothing_that_stands_beside_it() -> None:
    sources = {dotted(module): module for module in modules()}
    reached: set[str] = set()
    waiting = [f"{NAME}.pipeline"]
    while waiting:
        name = waiting.pop()
        if name not in sources:
            name = name.rpartition(".")[0]
        if name in sources and name not in reached:
            reached.add(name)
            waiting += [target for target in imports(sources[name]) if target.startswith(f"{NAME}.")]
    assert not {room_of(name) for name in reached} & (BESIDE_THE_PIPELINE | {"ros", "cli", "bags"})


def compiled_into(file: Path) -> set[str]:
    """The modules of ours whose names the kernels of a file use."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    homes, decorators = {}, {"njit"}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("seg_perception"):
            for name in node.names:
                whole = PACKAGE.parent / node.module.replace(".", "/") / f"{name.name}.py"
                homes[name.asname or name.name] = f"{node.module}.{name.name}" if whole.is_file() else node.module
        elif isinstance(node, ast.Assign) and "njit" in ast.unparse(node.value):
            decorators |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    kernels = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and any(name in ast.unparse(decorator) for decorator in node.decorator_list for name in decorators)
    ]
    used = {node.id for kernel in kernels for node in ast.walk(kernel) if isinstance(node, ast.Name)}
    return {"/".join(homes[name].split(".")[1:]) + ".py" for name in used & homes.keys()}


def test_what_is_compiled_into_the_kernels_of_a_file_is_known():
    files = {str(file.relative_to(PACKAGE)): file for file in PACKAGE.rglob("*.py")}
    directly = {name: compiled_into(file) for name, file in files.items() if "njit" in file.read_text()}

    def all_of(name: str) -> set[str]:
        found = directly.get(name, set())
        return found.union(*map(all_of, found))

    unknown = {name: all_of(name).difference(INLINED.get(name, ())) for name in directly}
    assert not {name: files for name, files in unknown.items() if files}, "to be added to INLINED in folders.py"
    assert all((PACKAGE / name).is_file() for names in INLINED.items() for name in (names[0], *names[1]))
