"""`make gpu-check` from the first line to the page, on a GPU made of host memory: that it runs, no figures."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from fake_gpu import FakeGpu
from onnx import TensorProto, helper, numpy_helper

from seg_perception.errors import ModelError
from seg_perception.export.deploy import DeploySpec, deploy
from seg_perception.inference.tensorrt_segmenter import TensorRtSegmenter


@pytest.fixture
def gpu_check(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_check", project_root / "benchmarks" / "gpu_check.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_check", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
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


def command(gpu_check: ModuleType, monkeypatch: pytest.MonkeyPatch, model: Path) -> Path:
    out = model.parent / "gpu"
    arguments = ["gpu_check", "--model", str(model), "--pictures", str(model.parent / "pictures"), "--out", str(out)]
    monkeypatch.setattr("sys.argv", arguments)
    monkeypatch.setattr(gpu_check, "SECONDS", 0.0)
    return out


def test_it_writes_a_row_for_each_precision(
    gpu_check: ModuleType, monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    gpu = FakeGpu()

    def on_fake(path: Path, library: str, cache: Path) -> TensorRtSegmenter:
        def absent(*_: object) -> None:
            raise RuntimeError("no libnvrtc")  # label images are made on the CPU

        arguments: dict[str, Any] = {**FakeGpu().arguments, "nvrtc": SimpleNamespace(nvrtcCreateProgram=absent)}
        return TensorRtSegmenter(path, cache=cache, **arguments)

    monkeypatch.setattr(gpu_check, "TensorRtSegmenter", on_fake)
    monkeypatch.setattr(gpu_check.cuda_device, "probe", lambda: gpu.device)
    monkeypatch.setattr(gpu_check.tensorrt_library, "load", lambda name: gpu.library)
    out = command(gpu_check, monkeypatch, model)
    assert gpu_check.main() == 0
    figures = json.loads((out / "fake-gpu.json").read_text())
    assert [(row["precision"], row["agreement"]) for row in figures["rows"]] == [("fp32", 1.0), ("fp16", 1.0)]
    page = (out / "fake-gpu.md").read_text()
    assert page.startswith("# Fake GPU\n")
    header, rule, *rows = [line for line in page.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in (header, rule, *rows)} == {14}


def test_a_network_whose_labels_differ_fails_the_check(
    gpu_check: ModuleType, monkeypatch: pytest.MonkeyPatch, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = gpu_check.Row("net", "fp16", "1x1", "1x1", 0.99, 0.995, *[1.0] * 9)
    monkeypatch.setattr(gpu_check, "measure", lambda *_: row)
    monkeypatch.setattr(gpu_check.cuda_device, "probe", lambda: FakeGpu().device)
    monkeypatch.setattr(gpu_check.tensorrt_library, "load", lambda name: FakeGpu().library)
    command(gpu_check, monkeypatch, model)
    assert gpu_check.main() == 1
    assert "net fp16: 99.000% of labels, 99.5% wanted" in capsys.readouterr().out


def test_without_a_gpu_it_says_so_and_writes_nothing(
    gpu_check: ModuleType, monkeypatch: pytest.MonkeyPatch, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def probe() -> None:
        raise ModelError("no NVIDIA driver")

    monkeypatch.setattr(gpu_check.cuda_device, "probe", probe)
    out = command(gpu_check, monkeypatch, model)
    assert gpu_check.main() == 2
    assert capsys.readouterr().err == "gpu-check: no NVIDIA driver\n"
    assert not out.exists()
