"""What runs the network: named, or chosen by `auto`."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from fake_driver import driver
from fake_gpu import FakeGpu
from onnx import TensorProto, helper

from seg_perception.config import Config, InferenceConfig
from seg_perception.errors import ConfigError, ModelError
from seg_perception.export.deploy import DeploySpec, deploy
from seg_perception.inference import backend_choice, cuda_device, tensorrt_segmenter
from seg_perception.inference.device_segmentation import DeviceSegmentation, ResidentSegmentation
from seg_perception.inference.loading import load_segmenter, load_segmenters
from seg_perception.inference.onnx_file import OnnxFile
from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter
from seg_perception.inference.openvino_segmenter import OpenVinoSegmenter
from seg_perception.inference.segmenter import Segmentation


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models")
    weights = helper.make_tensor("w", TensorProto.FLOAT, [19, 3, 1, 1], np.random.default_rng(0).normal(size=57))
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "w"], ["scores"])],
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 20, 30])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 19, 20, 30])],
        [weights],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, folder / "network.onnx")
    deploy(folder / "network.onnx", folder / "deployed.onnx", DeploySpec())
    return str(folder / "deployed.onnx")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No driver, and a cache of one's own."""

    def probe(index: int = 0) -> None:
        raise ModelError("no NVIDIA driver")

    monkeypatch.setattr(cuda_device, "probe", probe)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


class Slowed:
    """A real segmenter that takes so many seconds of the fixture `clock`. loads: counts how often one was made."""

    loads = 0
    now_s = 0.0

    def __init__(self, model: str, seconds: float) -> None:
        type(self).loads += 1
        self._inner = OnnxRuntimeSegmenter(model, threads=1)
        self._seconds = seconds
        self.contract = self._inner.contract
        self.closed = False

    def segment(self, pixels: np.ndarray) -> Segmentation:
        Slowed.now_s += self._seconds
        return self._inner.segment(pixels)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but `Slowed` takes time, however busy the machine."""
    monkeypatch.setattr(backend_choice, "time", SimpleNamespace(perf_counter=lambda: Slowed.now_s))


def slowed(model: str, seconds: float, made: list[Slowed]) -> Callable[[], Slowed]:
    def load() -> Slowed:
        made.append(Slowed(model, seconds))
        return made[-1]

    return load


def test_a_backend_that_is_named_is_never_replaced(model: str, no_gpu: None) -> None:
    for backend in ("tensorrt", "tensorrt_rtx"):
        with pytest.raises(ModelError, match="no NVIDIA driver"):
            load_segmenter(InferenceConfig(model=model, backend=backend))


def test_auto_without_a_gpu_says_why_and_measures_where_it_may(
    model: str, no_gpu: None, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with caplog.at_level(logging.INFO):
        load_segmenter(InferenceConfig(model=model, backend="auto", threads=1), measure=True)
    assert "backend auto: no TensorRT: no NVIDIA driver" in caplog.text
    (entry,) = json.loads((tmp_path / "xdg" / "seg_perception" / "backends.json").read_text()).values()
    assert entry["chosen"] in entry["milliseconds"]
    assert "onnxruntime" in entry["milliseconds"]


def test_auto_takes_the_reference_where_results_are_to_repeat(
    model: str, no_gpu: None, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    segmenter = load_segmenter(InferenceConfig(model=model, backend="auto"))
    assert isinstance(segmenter, OnnxRuntimeSegmenter)
    assert "because results are to repeat" in caplog.text
    assert not (tmp_path / "xdg" / "seg_perception" / "backends.json").exists()


@pytest.mark.parametrize(("reference_s", "other_s", "chosen"), [(0.02, 0.001, 1), (0.001, 0.02, 0), (0.02, 0.0195, 0)])
def test_the_faster_backend_is_taken_if_it_is_clearly_faster_and_the_other_closed(
    model: str, clock: None, tmp_path: Path, reference_s: float, other_s: float, chosen: int
) -> None:
    made: list[Slowed] = []
    loaders = {"onnxruntime": slowed(model, reference_s, made), "openvino": slowed(model, other_s, made)}
    segmenter = backend_choice.fastest(InferenceConfig(model=model), loaders, tmp_path / "record.json")
    assert segmenter is made[chosen]
    assert [entry.closed for entry in made] == [index != chosen for index in range(2)]


def test_a_measurement_is_made_once_for_all_that_it_depends_on(model: str, clock: None, tmp_path: Path) -> None:
    made: list[Slowed] = []
    loaders = {"onnxruntime": slowed(model, 0.02, made), "openvino": slowed(model, 0.0, made)}
    record = tmp_path / "record.json"
    config = InferenceConfig(model=model)
    for loads in (2, 3):  # both, then only the one that was chosen
        backend_choice.fastest(config, loaders, record)
        assert len(made) == loads
    for changed in (InferenceConfig(model=model, threads=2), InferenceConfig(model=model, cpu_precision="bf16")):
        before = len(made)
        backend_choice.fastest(changed, loaders, record)
        assert len(made) == before + 2


@pytest.mark.parametrize(
    "content", ["", "[]", "not json", '{"a": 3}', '{"KEY": {"chosen": "onnxruntime"}}', '{"KEY": {"milliseconds": 3}}']
)
def test_a_record_that_cannot_be_read_is_written_anew(model: str, tmp_path: Path, content: str) -> None:
    record, config = tmp_path / "record.json", InferenceConfig(model=model)
    backend_choice.fastest(config, {"onnxruntime": slowed(model, 0.0, [])}, record)
    (key,) = json.loads(record.read_text())
    record.write_text(content.replace("KEY", key))
    backend_choice.fastest(config, {"onnxruntime": slowed(model, 0.0, [])}, record)
    assert [entry["chosen"] for entry in json.loads(record.read_text()).values()] == ["onnxruntime"]


def test_a_backend_that_does_not_load_is_left_out_but_the_reference_must(model: str, tmp_path: Path) -> None:
    def broken() -> Slowed:
        raise ModelError("not installed")

    made: list[Slowed] = []
    loaders = {"onnxruntime": slowed(model, 0.0, made), "openvino": broken}
    assert backend_choice.fastest(InferenceConfig(model=model), loaders, tmp_path / "a.json") is made[0]
    with pytest.raises(ModelError, match="not installed"):
        backend_choice.fastest(InferenceConfig(model=model), {"onnxruntime": broken}, tmp_path / "b.json")


def test_settings_that_cannot_be_are_refused_by_name(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="backend"):
        InferenceConfig(model=model, backend="abacus")
    with pytest.raises(ConfigError, match="max_image_size: WIDTHxHEIGHT wanted, 'large' seen"):
        load_segmenter(InferenceConfig(model=model, backend="tensorrt", max_image_size="large"))
    with pytest.raises(ConfigError, match=r"inference\.providers: at least one"):
        load_segmenter(InferenceConfig(model=model, providers=" , "))
    with pytest.raises(ModelError, match="ONNX Runtime has no"):
        load_segmenter(InferenceConfig(model=model, providers="NoSuchProvider,CPUExecutionProvider"))


def test_a_model_that_is_not_the_one_meant_is_refused_with_both_hashes(model: str) -> None:
    meant = OnnxFile.read(model).sha256
    load_segmenter(InferenceConfig(model=model, model_sha256=meant.upper(), threads=1)).close()
    other = "0" * 64
    with pytest.raises(ModelError, match=f"{meant} seen, {other} wanted"):
        load_segmenter(InferenceConfig(model=model, model_sha256=other, threads=1))


def test_settings_that_the_backend_in_use_does_not_know_are_named_once(
    model: str, no_gpu: None, caplog: pytest.LogCaptureFixture
) -> None:
    engines = {"tf32": False, "dla_core": 0, "sample_on": "gpu", "workspace_mib": 64, "optimization_level": 3}
    settings = {"model": model, "threads": 1, "cpu_precision": "bf16", "max_image_size": "64x64", **engines}
    with caplog.at_level(logging.INFO):
        config = Config.from_mapping({"cameras": ["left", "right"], "inference": settings})
        segmenters = load_segmenters(config)
    backend = segmenters["left"].backend
    assert f"model {model} runs on {backend}" in caplog.text
    (words,) = [record.message for record in caplog.records if record.message.startswith("without effect")]
    assert words == (
        f"without effect on {backend}: inference.cpu_precision: bf16, inference.max_image_size: 64x64, "
        "inference.workspace_mib: 64, inference.optimization_level: 3, inference.dla_core: 0, inference.tf32: False, "
        "inference.sample_on: gpu"
    )


def test_a_setting_that_one_of_the_backends_heeds_is_not_idle(model: str, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("openvino")
    common = {"model": model, "threads": 1, "providers": "CPUExecutionProvider, "}
    camera = {"left": {"backend": "openvino"}}
    load_segmenters(Config.from_mapping({"cameras": ["left", "right"], "camera": camera, "inference": common}))
    assert "without effect" not in caplog.text
    alone = {"left": {"backend": "openvino"}, "right": {"backend": "openvino"}}
    load_segmenters(Config.from_mapping({"cameras": ["left", "right"], "camera": alone, "inference": common}))
    assert "inference.providers: CPUExecutionProvider, " in caplog.text


def test_every_setting_is_heeded_by_some_backend() -> None:
    heeded = OnnxRuntimeSegmenter.heeds | OpenVinoSegmenter.heeds | tensorrt_segmenter.SETTINGS
    settings = {field.name for field in dataclasses.fields(InferenceConfig)}
    assert heeded == settings - {"model", "model_sha256", "backend"}


@pytest.mark.parametrize(("sample_on", "kind"), [("cpu", DeviceSegmentation), ("gpu", ResidentSegmentation)])
def test_the_settings_of_an_engine_reach_it(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample_on: str, kind: type
) -> None:
    gpu = FakeGpu()
    gpu.install(monkeypatch)
    settings: dict[str, Any] = {
        "max_image_size": "640x480",
        "workspace_mib": 64,
        "optimization_level": 4,
        "engine_cache": str(tmp_path),
        "gpu_wait": "block",
    }
    segmenter = load_segmenter(InferenceConfig(model=model, backend="tensorrt", sample_on=sample_on, **settings))
    config = gpu.trt.configs[1]
    assert config["profile"]["pixels"][2] == (480, 640, 3)
    assert (config["WORKSPACE"], config["builder_optimization_level"]) == (64 << 20, 4)
    assert list(tmp_path.glob("*.engine"))
    assert gpu.driver.event_flags == {1}
    assert isinstance(segmenter.segment(np.zeros((40, 60, 3), np.uint8)), kind)


SCRIPT = """
import logging, sys
from seg_perception.config import Config
from seg_perception.inference.loading import load_segmenters
logging.basicConfig(level=logging.INFO, stream=sys.stderr)
inference = {"model": sys.argv[1], "backend": "auto", "threads": 1}
cameras = {"left": {"model": sys.argv[2]}}
config = Config.from_mapping({"cameras": ["left", "right"], "camera": cameras, "inference": inference})
segmenters = load_segmenters(config, on_fallback=print)
assert all("ONNX Runtime" in segmenter.backend for segmenter in segmenters.values())
"""
# What the probe asks of TensorRT before it makes anything.
TENSORRT = "__version__ = '10.3.0'\nclass ICudaEngine: ...\nclass BuilderFlag: FP16 = 1\n"


def first_in(name: str, folder: Path) -> str:
    """A path variable of this environment with a folder before everything else."""
    return os.pathsep.join(filter(None, (str(folder), os.environ.get(name))))


@pytest.mark.parametrize(
    ("macros", "modules", "sentence"),
    [
        (None, {}, "no NVIDIA driver: libcuda.so.1 cannot be loaded (*); install the driver, *--gpus all*"),
        ({"COUNT": 0}, {}, "GPU 0: the driver shows 0 GPU(s), *--gpus all*"),
        ({}, {"tensorrt": None}, "tensorrt cannot be imported (*); install it (JetPack: `apt install tensorrt*"),
        (
            {},
            {"tensorrt": "raise OSError('libnvdla_compiler.so: cannot open shared object file')"},
            "tensorrt cannot be imported (libnvdla_compiler.so: cannot open *); install it (*",
        ),
        (
            {},
            {"tensorrt": TENSORRT, "cuda": None},
            "cuda.bindings cannot be imported (*); `pip install cuda-python` *or use backend: onnxruntime",
        ),
    ],
    ids=["no driver", "no GPU", "no TensorRT", "TensorRT broken", "no bindings"],
)
def test_auto_says_once_which_piece_of_tensorrt_is_missing_or_broken_and_the_remedy(
    model: str, tmp_path: Path, macros: Mapping[str, int] | None, modules: Mapping[str, str | None], sentence: str
) -> None:
    if macros is None:
        (tmp_path / "libcuda.so.1").write_bytes(b"")  # found before any real one
    else:
        driver(tmp_path, **macros)
    for name, text in modules.items():
        (tmp_path / f"{name}.py").write_text(text or f"raise ModuleNotFoundError(\"No module named '{name}'\")\n")
    other = tmp_path / "other.onnx"
    shutil.copy(model, other)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, model, str(other)],
        env={**os.environ, **{name: first_in(name, tmp_path) for name in ("LD_LIBRARY_PATH", "PYTHONPATH")}},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (told,) = done.stdout.splitlines()
    assert all(part in told for part in sentence.split("*")), told
    assert done.stderr.count(f"backend auto: no TensorRT: {told}") == 1
