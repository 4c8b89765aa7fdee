"""`make gpu-check` from the first line to the page, on a GPU made of host memory: that it runs, no figures."""

from __future__ import annotations

import ctypes
import importlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from compiled_kernels import compile_kernels
from fake_gpu import DESKTOP, FakeGpu
from onnx import TensorProto, helper, numpy_helper

from seg_perception.errors import ModelError
from seg_perception.export.deploy import DeploySpec, deploy
from seg_perception.inference.cuda_runtime import Cuda, Memory
from seg_perception.inference.tensorrt_segmenter import TensorRtSegmenter


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    return compile_kernels(tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def gpu_check(project_root: Path, monkeypatch: pytest.MonkeyPatch, compiled: Callable[[str], Any]) -> ModuleType:
    """The benchmark, on a GPU made of host memory, its figures of the shortest kind."""
    monkeypatch.syspath_prepend(project_root / "benchmarks")
    module = importlib.import_module("gpu_check")
    kernels = importlib.import_module("gpu_kernels")

    def gpu() -> FakeGpu:
        made = FakeGpu()
        made.driver.kernels = compiled
        return made

    def on_fake(path: Path, library: str, **more: Any) -> TensorRtSegmenter:
        return TensorRtSegmenter(path, **gpu().arguments, **more)

    def cuda_of(device: Any) -> Cuda:
        made = gpu()
        return Cuda(device, made.driver, made.nvrtc)

    monkeypatch.setattr(module, "TensorRtSegmenter", on_fake)
    monkeypatch.setattr(module.cuda_device, "probe", lambda: DESKTOP)
    monkeypatch.setattr(module.tensorrt_library, "load", lambda name, device: FakeGpu().library)
    monkeypatch.setattr(kernels, "cuda_of", cuda_of)
    monkeypatch.setattr(kernels, "SCORES", ((19, 16, 32),))
    monkeypatch.setattr(kernels, "POINTS", 500)
    monkeypatch.setattr(module, "STREAM", 3)
    return module


@pytest.fixture
def model(tmp_path: Path) -> Path:
    weights = np.random.default_rng(0).normal(0.0, 1.0, (19, 3, 4, 4)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "w"], ["scores"], strides=[4, 4])],
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 40, 64])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 19, 10, 16])],
        [numpy_helper.from_array(weights, "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, tmp_path / "network.onnx")
    spec = DeploySpec(mean=(128.0,) * 3, scale=(1 / 128,) * 3)
    deploy(tmp_path / "network.onnx", tmp_path / "deployed.onnx", spec)
    (tmp_path / "pictures").mkdir()
    picture = np.random.default_rng(1).integers(0, 256, (60, 96, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "pictures" / "a.png"), picture)
    return tmp_path / "deployed.onnx"


@pytest.fixture
def run(gpu_check: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """All of it, as the supervisor has it run, in this process."""

    def go(*options: object) -> int:
        common = ["--pictures", tmp_path / "pictures", "--out", tmp_path / "gpu", "--seconds", 0]
        after: list[str] = []
        while True:
            scratch = ["--scratch", tmp_path / "scratch", *after]
            (tmp_path / "scratch").mkdir(exist_ok=True)
            monkeypatch.setattr("sys.argv", ["gpu_check", *map(str, (*common, *options, *scratch))])
            code = int(gpu_check.main())
            if code != gpu_check.ANEW:
                return code
            after = ["--after", "it failed"]

    return go


def tables(page: str) -> list[list[str]]:
    """The lines of each table."""
    blocks = (block.splitlines() for block in page.split("\n\n"))
    return [block for block in blocks if block[0].startswith("|")]


def test_it_writes_a_row_for_each_precision(run: Callable[..., int], model: Path, tmp_path: Path) -> None:
    assert run("--model", model) == 0
    found = json.loads((tmp_path / "gpu" / "fake-gpu.json").read_text())
    rows = found["rows"]["engines"]
    assert [(row["precision"], row["agreement"]) for row in rows] == [("tf32", 1.0), ("fp32", 1.0), ("fp16", 1.0)]
    assert found["finished"] is True
    assert found["failures"] == {}
    assert [(row["points_equal"], row["things_equal"]) for row in found["rows"]["kernels"]] == [(1.0, 1.0)]
    assert ["points_batch_ms" in row for row in rows] == [False, False, True]
    assert all(row["complete"] and row["core_block_ms"] >= 0.0 for row in rows)
    page = (tmp_path / "gpu" / "fake-gpu.md").read_text()
    assert page.startswith("# Fake GPU\n")
    assert "Unfinished" not in page
    assert page.count("six cameras and points: `sample_on: ") == 3
    for table in tables(page):
        assert len({line.count("|") for line in table}) == 1, table
    assert [len(table) for table in tables(page)] == [3, 5]


def test_what_is_killed_half_way_leaves_what_it_had_and_is_gone_on_with(
    run: Callable[..., int],
    gpu_check: ModuleType,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = gpu_check.measure
    seen: list[str] = []

    def killed(path: Path, precision: str, *more: Any, **named: Any) -> Iterator[dict]:
        seen.append(precision)
        for part in whole(path, precision, *more, **named):
            if seen == ["tf32", "fp32"] and "agreement" in part:
                raise KeyboardInterrupt
            yield part

    monkeypatch.setattr(gpu_check, "measure", killed)
    with pytest.raises(KeyboardInterrupt):
        run("--model", model)
    page = (tmp_path / "gpu" / "fake-gpu.md").read_text()
    assert "**Unfinished**" in page
    rows = json.loads((tmp_path / "gpu" / "fake-gpu.json").read_text())["rows"]["engines"]
    assert [(row["precision"], row["complete"]) for row in rows] == [("tf32", True), ("fp32", False)]
    assert rows[1]["network_ms"] == rows[0]["network_ms"]  # what was known of it
    assert "agreement" not in rows[1]
    assert run("--model", model, "--resume") == 0
    assert seen == ["tf32", "fp32", "fp32", "fp16"]
    assert [len(table) for table in tables((tmp_path / "gpu" / "fake-gpu.md").read_text())] == [3, 5]


def test_networks_made_beforehand_are_measured_for_speed_alone(
    run: Callable[..., int], gpu_check: ModuleType, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_check, "MODEL", model)
    (tmp_path / "made").mkdir()
    shutil.copy(model, tmp_path / "made" / "of_mobilenet_v2.onnx")
    assert run("--networks", tmp_path / "made") == 0
    rows = json.loads((tmp_path / "gpu" / "fake-gpu.json").read_text())["rows"]["engines"]
    assert [(row["network"], row["precision"]) for row in rows] == [
        ("deployed", "tf32"),
        ("deployed", "fp32"),
        ("deployed", "fp16"),
        ("of_mobilenet_v2", "tf32"),
    ]
    assert "agreement" not in rows[-1]


def test_a_network_whose_labels_differ_fails_the_check(
    run: Callable[..., int], gpu_check: ModuleType, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_check, "_agreements", lambda *_: [0.98, 1.0])
    assert run("--model", model) == 1
    page = (tmp_path / "gpu" / "fake-gpu.md").read_text()
    assert "- too few equal: deployed fp16: 99.000% of labels, 99.5% wanted" in page


def test_what_cannot_be_measured_is_told_and_the_rest_goes_on(
    run: Callable[..., int], gpu_check: ModuleType, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = gpu_check.measure
    tried: list[str] = []

    def measure(path: Path, precision: str, *more: Any, **named: Any) -> Iterator[dict]:
        tried.append(precision)
        if precision == "tf32":
            raise ModelError("no memory left")
        for part in whole(path, precision, *more, **named):
            if precision == "fp32" and "stream_cpu_ms" in part:
                raise AttributeError("no such name")  # of a library that nobody has met before
            yield part

    monkeypatch.setattr(gpu_check, "measure", measure)
    assert run("--model", model) == 1
    found = json.loads((tmp_path / "gpu" / "fake-gpu.json").read_text())
    in_tf32, in_fp32 = (f"engines deployed {precision} {FakeGpu().library}" for precision in ("tf32", "fp32"))
    assert found["failures"].keys() == {in_tf32, in_fp32}
    assert found["failures"][in_tf32] == "no memory left (ModelError)"
    assert found["failures"][in_fp32].startswith("no such name (AttributeError, test_gpu_check.py:")
    assert [(row["precision"], row["complete"]) for row in found["rows"]["engines"]] == [
        ("fp32", False),
        ("fp16", True),
    ]
    assert tried == ["tf32", "fp32", "fp16"]  # what has failed is not tried again
    page = (tmp_path / "gpu" / "fake-gpu.md").read_text()
    assert f"- failed: {in_tf32}: no memory left" in page
    assert "Unfinished" not in page


def test_without_a_gpu_it_says_so_and_writes_nothing(
    run: Callable[..., int],
    gpu_check: ModuleType,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def probe() -> None:
        raise ModelError("no NVIDIA driver")

    monkeypatch.setattr(gpu_check.cuda_device, "probe", probe)
    assert run("--model", model) == 2
    assert capsys.readouterr().err == "gpu-check: no NVIDIA driver\n"
    assert not (tmp_path / "gpu").exists()


@pytest.mark.torch
def test_pytorch_alone_shows_speed_and_the_kernels_on_what_the_networks_give(
    run: Callable[..., int],
    gpu_check: ModuleType,
    torch: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    by_torch = importlib.import_module("gpu_torch")
    cudas: list[Cuda] = []

    def cuda_of(device: Any) -> Cuda:
        cudas.append(kernels_cuda(device))
        return cudas[-1]

    def memory_of(tensor: Any) -> Memory:  # the fake knows its own memory only
        memory = Memory(tensor.numel() * tensor.element_size(), tensor.data_ptr(), 0, None)
        content = (ctypes.c_uint8 * memory.nbytes).from_address(memory.address)
        cudas[-1]._driver.memory[memory.address] = ("device", content)
        return memory

    kernels_cuda = by_torch.cuda_of
    monkeypatch.setattr(by_torch, "cuda_of", cuda_of)
    for name, value in {
        "DEVICE": "cpu",
        "BACKBONES": ("mobilenet_v2",),
        "SIZES": ((64, 32),),
        "PRECISIONS": {"tf32": torch.float32},  # on a CPU float16 convolutions take seconds each
        "STREAM": 3,
        "memory_of": memory_of,
    }.items():
        monkeypatch.setattr(by_torch, name, value)
    assert run("--library", "torch") == 0
    rows = json.loads((tmp_path / "gpu" / "fake-gpu.json").read_text())["rows"]["torch"]
    assert [(row["network"], row["precision"]) for row in rows] == [
        ("deeplabv3plus_mobilenet_v2_64x32", "tf32"),
    ]
    assert {row["points_equal"] for row in rows} == {1.0}
    assert all(row["complete"] and row["stream_ms"] > 0.0 for row in rows)
    for table in tables((tmp_path / "gpu" / "fake-gpu.md").read_text()):
        assert len({line.count("|") for line in table}) == 1, table


@pytest.mark.torch
def test_a_pytorch_without_cuda_is_told_and_the_kernels_are_there_all_the_same(
    run: Callable[..., int], torch: ModuleType, tmp_path: Path
) -> None:
    if torch.cuda.is_available():
        pytest.skip("this PyTorch sees a GPU")
    assert run("--library", "torch") == 1
    found = json.loads((tmp_path / "gpu" / "fake-gpu.json").read_text())
    reason = f"a build for CUDA that sees the GPU wanted, {torch.__version__} seen (ModelError)"
    assert found["failures"] == {"PyTorch": reason}
    assert len(found["rows"]["kernels"]) == 1


@pytest.mark.torch
def test_the_networks_can_be_made_beforehand(
    run: Callable[..., int], torch: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = importlib.import_module("gpu_networks")
    monkeypatch.setattr(networks, "BACKBONES", ("mobilenet_v2",))
    monkeypatch.setattr(networks, "SIZES", ((64, 32),))
    assert run("--make", tmp_path / "made") == 0
    stem = "deeplabv3plus_mobilenet_v2_64x32"
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == [
        f"{stem}.fp16.batch6.onnx",
        f"{stem}.fp16.onnx",
        f"{stem}.onnx",
    ]
    found = networks.found_networks(tmp_path / "made")
    assert [path.name for path in found] == [f"{stem}.fp16.onnx", f"{stem}.onnx"]
