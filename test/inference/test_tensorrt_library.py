"""Which TensorRT is found, and what is said of one that is missing or broken: real modules on a path of their own."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
from fake_gpu import DESKTOP

from seg_perception.errors import ModelError
from seg_perception.inference import tensorrt_library


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which modules count as installed, and nothing else of TensorRT does."""
    for name in ("tensorrt", "tensorrt_bindings", "tensorrt_rtx", "tensorrt_rtx_bindings"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "tensorrt_bindings.py").write_text("raise ImportError('nothing here')")
    return tmp_path


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("raise ImportError('No module')", r"tensorrt cannot be imported \(No module\); install it \(JetPack: `apt"),
        (
            "raise OSError('libnvdla_compiler.so: cannot open\\nmore')",
            r"\(libnvdla_compiler\.so: cannot open\); install",
        ),
        ("raise RuntimeError('no libnvinfer')", r"tensorrt cannot be imported \(no libnvinfer\)"),
        ("__version__ = '10.3.0'", r"the module at .*tensorrt\.py is not TensorRT; install it"),
        ("__version__ = '8.4.1'\nclass ICudaEngine: ...", r"tensorrt 8\.4\.1 seen, 8\.5 or newer wanted"),
    ],
)
def test_a_tensorrt_that_cannot_be_used_is_named_with_the_remedy(installed: Path, content: str, sentence: str) -> None:
    (installed / "tensorrt.py").write_text(content)
    with pytest.raises(ModelError, match=sentence):
        tensorrt_library.load("tensorrt")


def test_bindings_alone_are_taken_where_the_package_that_brings_libraries_is_missing(installed: Path) -> None:
    (installed / "tensorrt.py").write_text("raise ImportError('no such package')")
    (installed / "tensorrt_bindings.py").write_text("__version__ = '11.4.0.106'\nclass ICudaEngine: ...")
    assert str(tensorrt_library.load("tensorrt")) == "tensorrt 11.4.0.106"


def add_wheel(folder: Path, distribution: str, module: str, version: str) -> None:
    """As pip leaves it: a module, and beside it the name and version of what brought it."""
    (folder / f"{module}.py").write_text(f"__version__ = '{version}'\nclass ICudaEngine: ...")
    information = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")


@pytest.mark.parametrize(("served", "wheel"), [(13, "tensorrt-cu13-bindings"), (13, "tensorrt_cu12_bindings")])
def test_wheels_of_the_cuda_that_the_driver_serves_or_of_an_older_one_are_taken(
    installed: Path, served: int, wheel: str
) -> None:
    add_wheel(installed, wheel, "tensorrt", "10.16.1.11")
    device = dataclasses.replace(DESKTOP, cuda_version=(served, 0))
    assert tensorrt_library.load("tensorrt", device).version == "10.16.1.11"


@pytest.mark.parametrize(("name", "version"), [("tensorrt", "10.16.1.11"), ("tensorrt_rtx", "1.7.1.116")])
def test_wheels_of_a_newer_cuda_are_refused_unless_no_gpu_is_asked_for(
    installed: Path, name: str, version: str
) -> None:
    add_wheel(installed, f"{name}_cu13_bindings", name, version)
    with pytest.raises(ModelError, match=rf"{name} {version} of CUDA 13 seen, CUDA 12 wanted.*in -cu12 in its place"):
        tensorrt_library.load(name, DESKTOP)
    assert str(tensorrt_library.load(name)) == f"{name} {version}"
