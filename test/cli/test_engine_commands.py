"""`build-engine` and `check-model`, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from fake_gpu import GENERATIONS, FakeGpu
from onnx import TensorProto, helper, numpy_helper

from seg_perception.cli.main import main
from seg_perception.config import InferenceConfig
from seg_perception.errors import ModelError
from seg_perception.export.deploy import DeploySpec, deploy
from seg_perception.inference import cuda_device
from seg_perception.inference.cuda_runtime import Cuda
from seg_perception.inference.loading import load_segmenter


@pytest.fixture
def model(tmp_path: Path) -> Path:
    weights = np.random.default_rng(0).normal(0.0, 1.0, (19, 3, 4, 4)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "w"], ["scores"], name="conv", strides=[4, 4])],
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 40, 64])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 19, 10, 16])],
        [numpy_helper.from_array(weights, "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, tmp_path / "network.onnx")
    spec = DeploySpec(mean=(128.0,) * 3, scale=(1 / 128,) * 3)
    deploy(tmp_path / "network.onnx", tmp_path / "deployed.onnx", spec)
    return tmp_path / "deployed.onnx"


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def probe(index: int = 0) -> None:
        raise ModelError("no NVIDIA driver")

    monkeypatch.setattr(cuda_device, "probe", probe)


def test_check_model_tells_each_version(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-model", "--rules-only", str(model)]) == 0
    out = capsys.readouterr().out
    assert "TensorRT 10.3 (JetPack 6)" in out
    assert out.count("nothing known against it") == 7


def test_check_model_ends_with_1_where_something_fails_on_what_is_supported(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = onnx.load(model)
    content.opset_import[0].version = 24
    (tmp_path / "new.onnx").write_bytes(content.SerializeToString())
    assert main(["check-model", "--rules-only", str(tmp_path / "new.onnx")]) == 1
    assert "opset 24 seen, 9 to 20 wanted; export it so" in capsys.readouterr().out


def test_check_model_says_once_what_many_nodes_have_in_common(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = onnx.load(model)
    for k, node in enumerate(content.graph.node[-2:]):
        node.op_type, node.domain, node.name = "Frobnicate", "acme", f"n{k}"
    (tmp_path / "odd.onnx").write_bytes(content.SerializeToString())
    assert main(["check-model", "--rules-only", str(tmp_path / "odd.onnx")]) == 1
    out = capsys.readouterr().out
    assert out.count("Frobnicate") == 7
    assert "node 'n0': operator acme.Frobnicate needs a plugin (1 more)" in out


def test_build_engine_asks_for_the_gpu_before_it_touches_tensorrt(
    model: Path, no_gpu: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build-engine", str(model)]) == 2
    assert capsys.readouterr().err == "seg-perception build-engine: no NVIDIA driver\n"


def test_build_engine_makes_a_float16_file_beside_the_model(model: Path, no_gpu: None) -> None:
    assert main(["build-engine", "--precision", "fp16", str(model)]) == 2
    assert model.with_suffix(".fp16.onnx").is_file()


@pytest.mark.parametrize(
    ("precision", "sentence"),
    [
        ("int8", "int8 wanted, no QuantizeLinear in it seen; name a folder of real pictures with --calibrate"),
        ("fp8", "fp8 wanted, no QuantizeLinear in it seen"),
    ],
)
def test_build_engine_quantises_nothing_in_silence(
    model: Path, precision: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build-engine", "--precision", precision, str(model)]) == 2
    assert sentence in capsys.readouterr().err


def test_build_engine_refuses_a_network_that_was_not_deployed(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build-engine", str(model.with_name("network.onnx"))]) == 2
    assert "not a deployed network" in capsys.readouterr().err


@pytest.mark.parametrize("version", GENERATIONS)
def test_build_engine_makes_what_the_node_will_look_for_and_tells_its_layers(
    version: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu = FakeGpu(version)
    gpu.install(monkeypatch)
    Cuda(gpu.device, gpu.driver).close()  # TensorRT makes itself a context where there is none
    folder, layers = str(tmp_path / "engines"), tmp_path / "layers.json"
    settings = ["--workspace", "64", "--no-tf32", "--max-image-size", "640x480"]
    assert main(["build-engine", *settings, "--engine-cache", folder, "--layers", str(layers), str(model)]) == 0
    assert json.loads(layers.read_text())["inspector"] == "layers as JSON"
    assert "there is none yet" in capsys.readouterr().out
    engine = {"engine_cache": folder, "workspace_mib": 64, "tf32": False, "max_image_size": "640x480"}
    load_segmenter(InferenceConfig(model=str(model), backend="tensorrt", **engine)).close()
    assert gpu.trt.built == 1
    load_segmenter(InferenceConfig(model=str(model), backend="tensorrt", engine_cache=folder)).close()
    assert gpu.trt.built == 2


@pytest.mark.tensorrt_rtx
def test_an_engine_is_built_without_a_gpu_by_tensorrt_rtx_once(
    model: Path, tmp_path: Path, no_gpu: None, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["build-engine", "--library", "tensorrt_rtx", "--engine-cache", str(tmp_path / "engines"), str(model)]
    assert main(command) == 0
    assert "there is none yet" in capsys.readouterr().out
    assert main(command) == 0
    assert "found, up to date" in capsys.readouterr().out
    (sidecar,) = (tmp_path / "engines").glob("*.json")
    assert json.loads(sidecar.read_text())["key"]["gpu"] == "any"
    assert main([*command, "--precision", "fp16"]) == 0
    assert "HALF" in capsys.readouterr().out


@pytest.mark.tensorrt_rtx
def test_check_model_has_the_real_builder_take_it(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-model", str(model)]) == 0
    assert "parsed and built it on this CPU" in capsys.readouterr().out
    content = onnx.load(model)
    conv = next(node for node in content.graph.node if node.op_type == "Conv")
    conv.op_type, conv.domain = "Frobnicate", "acme"
    model.write_bytes(content.SerializeToString())
    assert main(["check-model", str(model)]) == 1
    assert "builds no engine of it" in capsys.readouterr().out
