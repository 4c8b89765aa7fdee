"""The TensorRT backend on a GPU made of host memory that answers to the real API's names alone (fake_gpu.py).

What no fake can show: that a real GPU computes the same. `make gpu-check` does, on a machine that has one.
"""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import small_world as world
from compiled_kernels import compile_kernels
from fake_gpu import BINDINGS, DESKTOP, GENERATIONS, JETSON, RTX, FakeGpu, Status
from onnx import TensorProto, helper, numpy_helper
from panoptic_network import deploy_two_cars

from seg_perception.errors import ModelError
from seg_perception.export.batch import to_batch
from seg_perception.export.deploy import DeploySpec, deploy
from seg_perception.export.half import to_half
from seg_perception.inference import engine_build
from seg_perception.inference.cuda_device import CudaDevice
from seg_perception.inference.device_segmentation import DeviceSegmentation, ResidentSegmentation
from seg_perception.inference.engine_build import BuildOptions, build_engine
from seg_perception.inference.onnx_file import OnnxFile
from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter
from seg_perception.inference.tensorrt_segmenter import MOST_SIZES, EngineLostError, TensorRtSegmenter
from seg_perception.pipeline import Pipeline

NETWORK = (64, 40)


def network(path: Path) -> Path:
    """19 classes at stride 4, from a few random convolutions."""
    rng = np.random.default_rng(0)
    weights = {
        "a": rng.normal(0.0, 0.5, (8, 3, 4, 4)).astype(np.float32),
        "b": rng.normal(0.0, 2.0, (19, 8, 1, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "a"], ["small"], strides=[4, 4]),
        helper.make_node("Tanh", ["small"], ["bent"]),
        helper.make_node("Conv", ["bent", "b"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, NETWORK[1], NETWORK[0]])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 19, NETWORK[1] // 4, NETWORK[0] // 4])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    source = network(folder / "network.onnx")
    spec = DeploySpec(mean=(128.0,) * 3, scale=(1 / 128,) * 3)
    deploy(source, folder / "any.onnx", spec)
    deploy(source, folder / "labels.onnx", DeploySpec(mean=spec.mean, scale=spec.scale, labels=True))
    deploy(source, folder / "fixed.onnx", DeploySpec(mean=spec.mean, scale=spec.scale, image_size=(96, 60)))
    return folder


def segmenter_on(gpu: FakeGpu, model: Path, cache: Path, **more: object) -> TensorRtSegmenter:
    return TensorRtSegmenter(model, cache=cache, **gpu.arguments, **more)  # type: ignore[arg-type]


def picture(seed: int, size: tuple[int, int] = (96, 60)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


def places(size: tuple[int, int] = (96, 60)) -> np.ndarray:
    return np.random.default_rng(9).uniform(-2, size, (200, 2))


@pytest.mark.parametrize("version", GENERATIONS)
@pytest.mark.parametrize("bindings", BINDINGS)
def test_every_version_gives_what_onnxruntime_gives(folder: Path, tmp_path: Path, version: str, bindings: str) -> None:
    gpu = FakeGpu(version, bindings)
    ours = segmenter_on(gpu, folder / "any.onnx", tmp_path)
    reference = OnnxRuntimeSegmenter(folder / "any.onnx", threads=1)
    for seed, size in enumerate([(96, 60), (96, 60), (33, 81)]):
        pixels = picture(seed, size)
        labels, wanted = ours.segment(pixels).sample(places(size)), reference.segment(pixels).sample(places(size))
        np.testing.assert_array_equal(labels.class_id, wanted.class_id)
        np.testing.assert_allclose(labels.probability, wanted.probability, rtol=1e-6)
    assert ours.backend == f"{version} on Fake GPU"
    ours.close()


@pytest.mark.parametrize("name", ["labels.onnx", "fixed.onnx"])
def test_networks_that_give_labels_or_take_one_size_run_too(folder: Path, tmp_path: Path, name: str) -> None:
    ours = segmenter_on(FakeGpu(), folder / name, tmp_path)
    wanted = OnnxRuntimeSegmenter(folder / name, threads=1).segment(picture(1)).sample(places())
    np.testing.assert_array_equal(ours.segment(picture(1)).sample(places()).class_id, wanted.class_id)


def test_things_are_told_apart_as_onnxruntime_tells_them(tmp_path: Path) -> None:
    pixels = deploy_two_cars(tmp_path / "net.onnx")
    ours = segmenter_on(FakeGpu(), tmp_path / "net.onnx", tmp_path / "cache").segment(pixels)
    assert isinstance(ours, DeviceSegmentation)
    wanted = OnnxRuntimeSegmenter(tmp_path / "net.onnx", threads=1).segment(pixels).sample(places((64, 40)))
    np.testing.assert_array_equal(ours.sample(places((64, 40))).instance_id, wanted.instance_id)
    assert set(wanted.instance_id) == {0, 1, 2}


@pytest.mark.parametrize("name", ["any.onnx", "labels.onnx"])
def test_a_segmentation_outlives_the_next_pictures(folder: Path, tmp_path: Path, name: str) -> None:
    ours = segmenter_on(FakeGpu(), folder / name, tmp_path)
    first = ours.segment(picture(0))
    before = first.sample(places()).class_id
    for seed in (1, 2, 3):
        ours.segment(picture(seed))
    np.testing.assert_array_equal(first.sample(places()).class_id, before)


def test_a_size_is_set_up_once_and_then_costs_one_graph_launch_a_picture(folder: Path, tmp_path: Path) -> None:
    gpu = FakeGpu()
    ours = segmenter_on(gpu, folder / "any.onnx", tmp_path)
    for _ in range(2):  # both lanes
        ours.segment(picture(0))
    gpu.driver.calls.clear()
    ours.segment(picture(1))
    assert gpu.driver.calls == ["cuCtxSetCurrent", "cuGraphLaunch", "cuEventRecord", "cuEventSynchronize"]


def test_the_network_runs_once_before_its_capture(folder: Path, tmp_path: Path) -> None:
    gpu = FakeGpu()
    segmenter_on(gpu, folder / "any.onnx", tmp_path)
    calls = gpu.driver.calls
    first_run = ["cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync", "cuStreamSynchronize", "cuStreamBeginCapture"]
    start = calls.index("cuMemcpyHtoDAsync")
    assert calls[start : start + 4] == first_run
    assert calls[start + 4 : start + 6] == ["cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync"]
    assert calls[start + 6 : start + 9] == ["cuStreamEndCapture", "cuGraphInstantiate", "cuGraphDestroy"]


def test_the_next_picture_is_uploaded_before_the_first_is_waited_for(folder: Path, tmp_path: Path) -> None:
    gpu = FakeGpu()
    ours = segmenter_on(gpu, folder / "any.onnx", tmp_path)
    pictures = [picture(seed) for seed in range(5)]
    ours.segment_all(pictures[:2])
    gpu.driver.calls.clear()
    results = ours.segment_all(pictures)
    started = [name for name in gpu.driver.calls if name in ("cuGraphLaunch", "cuEventSynchronize")]
    assert started[:4] == ["cuGraphLaunch", "cuGraphLaunch", "cuEventSynchronize", "cuGraphLaunch"]
    reference = OnnxRuntimeSegmenter(folder / "any.onnx", threads=1)
    for result, pixels in zip(results, pictures, strict=True):
        wanted = reference.segment(pixels).sample(places()).class_id
        np.testing.assert_array_equal(result.sample(places()).class_id, wanted)


def test_pictures_of_several_sizes_come_back_in_their_order(folder: Path, tmp_path: Path) -> None:
    ours = segmenter_on(FakeGpu(), folder / "any.onnx", tmp_path)
    sizes = [(96, 60), (33, 81), (96, 60), (96, 60), (50, 50), (96, 60)]
    results = ours.segment_all([picture(seed, size) for seed, size in enumerate(sizes)])
    assert [result.size for result in results] == sizes


def test_on_a_jetson_nothing_is_copied(folder: Path, tmp_path: Path) -> None:
    gpu = FakeGpu(device=JETSON)
    ours = segmenter_on(gpu, folder / "any.onnx", tmp_path)
    wanted = OnnxRuntimeSegmenter(folder / "any.onnx", threads=1).segment(picture(3)).sample(places())
    np.testing.assert_array_equal(ours.segment(picture(3)).sample(places()).class_id, wanted.class_id)
    assert "cuMemAlloc" not in gpu.driver.calls
    assert not [name for name in gpu.driver.calls if name.startswith("cuMemcpy")]


def test_any_thread_may_ask(folder: Path, tmp_path: Path) -> None:
    ours = segmenter_on(FakeGpu(), folder / "any.onnx", tmp_path)
    wanted = [ours.segment(picture(seed)).sample(places()).class_id for seed in range(3)]
    wrong: list[int] = []

    def work(seed: int) -> None:
        for _ in range(5):
            if (ours.segment(picture(seed)).sample(places()).class_id != wanted[seed]).any():
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_closing_frees_everything_contexts_before_the_engine_and_the_engine_before_its_runtime(
    folder: Path, tmp_path: Path
) -> None:
    gpu = FakeGpu()
    ours = segmenter_on(gpu, folder / "any.onnx", tmp_path)
    kept = ours.segment(picture(0))
    ours.close()
    gc.collect()
    assert {kind: count for kind, count in gpu.driver.live.items() if count} == {}
    assert not +gpu.trt.live
    freed = [entry for entry in gpu.trt.order if entry.startswith("-")]
    assert freed == ["-IExecutionContext"] * 4 + ["-ICudaEngine", "-Runtime"]  # two sizes of two lanes
    assert kept.label_image().shape == (60, 96)  # on the CPU now
    with pytest.raises(ModelError, match="is closed"):
        ours.segment(picture(0))


def test_the_engine_is_built_once_and_then_found(folder: Path, tmp_path: Path) -> None:
    for builds in (1, 0):
        gpu = FakeGpu()
        segmenter_on(gpu, folder / "any.onnx", tmp_path).close()
        assert gpu.trt.built == builds
    newer = FakeGpu(GENERATIONS[2])
    segmenter_on(newer, folder / "any.onnx", tmp_path).close()
    assert newer.trt.built == 1


@pytest.mark.parametrize("version", GENERATIONS)
def test_types_are_binding_by_the_means_of_each_version(folder: Path, tmp_path: Path, version: str) -> None:
    gpu = FakeGpu(version)
    segmenter_on(gpu, folder / "any.onnx", tmp_path, options=BuildOptions(workspace_mib=64, optimization_level=4))
    flags, config = gpu.trt.configs
    name = {"8": "EXPLICIT_BATCH", "10": "STRONGLY_TYPED", "11": "", "1": ""}
    names, wanted = gpu.trt.NetworkDefinitionCreationFlag, name[gpu.trt.__version__.split(".")[0]]
    assert flags == {"network_flags": 1 << int(names[wanted]) if wanted else 0}
    assert config["flags"] == (["REQUIRE_USER_ALLOCATION"] if version == RTX else [])
    assert config.get("PROFILE_SHARING_0806", False) is (wanted == "EXPLICIT_BATCH")
    assert config["WORKSPACE"] == 64 << 20
    assert config["builder_optimization_level"] == 4
    assert config["profile"] == {"pixels": ((16, 16, 3), (2160, 3840, 3), (2160, 3840, 3))}


@pytest.mark.parametrize("precision", ["half", "quantized"])
def test_8_is_told_by_flags_what_the_file_holds(folder: Path, tmp_path: Path, precision: str) -> None:
    gpu = FakeGpu("tensorrt 8.6.1")
    model = dataclasses.replace(OnnxFile.read(folder / "any.onnx"), **{precision: True})
    build_engine(gpu.library, model)
    assert gpu.trt.configs[1]["flags"] == [{"half": "FP16", "quantized": "INT8"}[precision]]
    assert gpu.trt.configs[1]["tactic_sources"] == {"EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"}  # no cuDNN


def test_8_5_whose_profiles_cannot_be_shared_runs_networks_for_one_size_alone(folder: Path, tmp_path: Path) -> None:
    gpu = FakeGpu("tensorrt 8.6.1")
    gpu.trt.PreviewFeature = SimpleNamespace(FASTER_DYNAMIC_SHAPES_0805=0)
    with pytest.raises(ModelError, match=r"pictures of one size, one at a time; deploy with --image-size"):
        segmenter_on(gpu, folder / "any.onnx", tmp_path)
    ours = segmenter_on(gpu, folder / "fixed.onnx", tmp_path)
    assert len(ours.segment_all([picture(seed) for seed in range(3)])) == 3


def test_progress_tf32_and_timings_reach_the_builder(folder: Path, tmp_path: Path) -> None:
    gpu = FakeGpu()
    words: list[str] = []
    timings = tmp_path / "timings"
    options = BuildOptions(tf32=False, timing_cache=timings)
    segmenter_on(gpu, folder / "any.onnx", tmp_path / "cache", options=options, on_progress=words.append)
    config = gpu.trt.configs[1]
    assert words == ["Building 0/2", "Building 1/2"]
    assert config["flags"] == ["not TF32"]
    assert timings.read_bytes() == b"timings"


def test_a_build_that_takes_long_is_heard_of_in_the_log(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        segmenter_on(FakeGpu(), folder / "any.onnx", tmp_path / "quick")
        assert "still building" not in caplog.text
        monkeypatch.setattr(engine_build, "_WORDS_EVERY_S", 0.0)
        segmenter_on(FakeGpu(), folder / "any.onnx", tmp_path / "slow")
    assert "still building, since 0 s: Building 1/2" in caplog.text


@pytest.mark.parametrize("version", [version for version in GENERATIONS if version != RTX])
def test_on_a_dla_types_are_told_by_flags_before_11_and_the_core_at_loading_too(
    folder: Path, tmp_path: Path, version: str
) -> None:
    gpu = FakeGpu(version)
    to_half(folder / "any.onnx", tmp_path / "half.onnx")
    segmenter_on(gpu, tmp_path / "half.onnx", tmp_path / "cache", options=BuildOptions(dla_core=1))
    flags, config = gpu.trt.configs
    names, is_8 = gpu.trt.NetworkDefinitionCreationFlag, version.startswith("tensorrt 8")
    assert flags == {"network_flags": 1 << int(names.EXPLICIT_BATCH) if is_8 else 0}
    assert config["DLA_core"] == gpu.trt.dla_core == 1
    assert config["default_device_type"].name == "DLA"
    assert config["flags"] == [*([] if version.startswith("tensorrt 11") else ["FP16"]), "GPU_FALLBACK"]


def test_a_dla_that_is_not_there_or_gets_float32_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="DLA core 2 wanted, 2 seen"):
        segmenter_on(FakeGpu(), folder / "any.onnx", tmp_path, options=BuildOptions(dla_core=2))
    with pytest.raises(ModelError, match="fp16 or int8 wanted for a DLA, fp32 seen"):
        segmenter_on(FakeGpu(), folder / "any.onnx", tmp_path, options=BuildOptions(dla_core=0))


def test_timings_of_another_gpu_are_left_and_those_that_cannot_be_read_are_named(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gpu = FakeGpu()
    gpu.trt.refuse["timing cache"] = [True]
    (tmp_path / "timings").write_bytes(b"of another")
    model = OnnxFile.read(folder / "any.onnx")
    build_engine(gpu.library, model, BuildOptions(timing_cache=tmp_path / "timings"))
    assert "is of another GPU or version; starting a new one" in caplog.text
    assert (tmp_path / "timings").read_bytes() == b"timings"
    with pytest.raises(ModelError, match=r"timing cache .*: cannot be read \(Is a directory\)"):
        build_engine(gpu.library, model, BuildOptions(timing_cache=tmp_path))


@pytest.mark.parametrize(
    ("refuse", "sentence"),
    [
        ("parse", r"cannot take it: node '/a' \(Det\): no importer"),
        ("build", r"cannot build an engine \(the library gave no reason\)"),
        ("deserialize", r"engine .*\.engine cannot be loaded .*delete it"),
    ],
)
def test_what_tensorrt_refuses_is_said_in_a_sentence(folder: Path, tmp_path: Path, refuse: str, sentence: str) -> None:
    gpu = FakeGpu()
    gpu.trt.refuse[refuse] = [True]
    with pytest.raises(ModelError, match=sentence):
        segmenter_on(gpu, folder / "any.onnx", tmp_path)
    assert not +gpu.driver.live


@pytest.mark.parametrize("call", ["cuGraphLaunch", "cuEventSynchronize", "cuEventRecord"])
def test_a_call_that_fails_once_costs_a_new_start_and_no_picture(
    folder: Path, tmp_path: Path, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    gpu = FakeGpu()
    ours = segmenter_on(gpu, folder / "any.onnx", tmp_path)
    wanted = ours.segment(picture(5)).sample(places()).class_id
    gpu.driver.fail[call] = [Status.CUDA_ERROR_LAUNCH_FAILED]
    with caplog.at_level(logging.WARNING):
        labels = ours.segment(picture(5)).sample(places()).class_id
    np.testing.assert_array_equal(labels, wanted)
    assert f"{call} failed on Fake GPU: CUDA_ERROR_LAUNCH_FAILED (719); starting it anew" in caplog.text
    assert gpu.trt.built == 1
    gc.collect()
    assert gpu.trt.live["ICudaEngine"] == gpu.trt.live["Runtime"] == gpu.driver.live["context"] == 1
    runtimes = [entry for entry in gpu.trt.order if entry.endswith("Runtime")]
    assert runtimes == ["+Runtime", "-Runtime", "+Runtime"]  # never two in the memory of the GPU


def test_a_kernel_that_fails_on_the_gpu_is_noticed_too(folder: Path, tmp_path: Path) -> None:
    gpu = FakeGpu()
    ours = segmenter_on(gpu, folder / "any.onnx", tmp_path)
    runs = gpu.trt.executions
    gpu.trt.refuse["run"] = [True]
    ours.segment(picture(0))
    assert gpu.trt.executions > runs + 1


def test_a_gpu_that_stays_away_is_lost_and_said_so_ever_after(folder: Path, tmp_path: Path) -> None:
    gpu = FakeGpu()
    ours = segmenter_on(gpu, folder / "any.onnx", tmp_path)
    ours.segment(picture(0))
    gpu.driver.fail["cuGraphLaunch"] = [Status.CUDA_ERROR_LAUNCH_FAILED] * 3
    gpu.driver.fail["cuStreamCreateWithPriority"] = [Status.CUDA_ERROR_OUT_OF_MEMORY] * 9
    for _ in range(2):
        with pytest.raises(EngineLostError, match=r"is lost: cuGraphLaunch failed .*OUT_OF_MEMORY") as caught:
            ours.segment(picture(0))
    assert caught.value.cause == "engine_lost"
    calls = len(gpu.driver.calls)
    with pytest.raises(EngineLostError):
        ours.segment(picture(0))
    assert len(gpu.driver.calls) == calls


def test_of_a_gpu_whose_every_call_fails_nothing_is_raised_but_the_loss(folder: Path, tmp_path: Path) -> None:
    gpu = FakeGpu()
    ours = segmenter_on(gpu, folder / "any.onnx", tmp_path)
    kept = ours.segment(picture(0))
    gpu.driver.is_lost = lambda: True
    with pytest.raises(EngineLostError, match=r"is lost: cuCtxSetCurrent failed .*; started anew: cuInit failed"):
        ours.segment(picture(0))
    assert kept.label_image().shape == (60, 96)  # on the CPU now
    ours.close()


def test_an_enqueue_that_fails_without_a_graph_costs_a_new_start_and_no_picture(folder: Path, tmp_path: Path) -> None:
    gpu = FakeGpu()
    gpu.driver.fail["cuStreamEndCapture"] = [Status.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED] * 4
    ours = segmenter_on(gpu, folder / "any.onnx", tmp_path)
    wanted = ours.segment(picture(5)).sample(places()).class_id
    gpu.trt.refuse["execute"] = [True]
    np.testing.assert_array_equal(ours.segment(picture(5)).sample(places()).class_id, wanted)
    assert sum(entry == "+Runtime" for entry in gpu.trt.order) == 2


def test_no_memory_for_another_size_of_picture_is_tried_again_with_all_memory_freed(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gpu = FakeGpu()
    ours = segmenter_on(gpu, folder / "any.onnx", tmp_path)
    gpu.trt.refuse["context"] = [True]
    assert ours.segment(picture(0)).size == (96, 60)
    assert "no execution context (the library gave no reason); is the memory of the GPU full?; starting" in caplog.text
    gpu.driver.fail["cuMemAlloc"] = [Status.CUDA_ERROR_OUT_OF_MEMORY] * 2
    with pytest.raises(EngineLostError, match=r"OUT_OF_MEMORY .*; started anew: .*OUT_OF_MEMORY"):
        ours.segment(picture(0, (50, 50)))


ONE_OF_TWO = """
import sys, time
sys.path.insert(0, {test!r})
import pytest
from fake_gpu import FakeGpu
from test_tensorrt_segmenter import picture, places
from seg_perception.config import InferenceConfig
from seg_perception.inference.loading import load_segmenter

gpu = FakeGpu()
gpu.install(pytest.MonkeyPatch())
serialize = gpu.trt.Builder.build_serialized_network
gpu.trt.Builder.build_serialized_network = lambda *given: time.sleep(2.0) or serialize(*given)
print("ready", flush=True)
sys.stdin.readline()
config = InferenceConfig(model={model!r}, backend="tensorrt", engine_cache={cache!r})
labels = load_segmenter(config).segment(picture(3)).sample(places()).class_id
print(gpu.trt.built, labels.sum())
"""


def test_of_two_nodes_that_start_at_once_one_builds_and_both_run(folder: Path, tmp_path: Path) -> None:
    model, cache, test = str(folder / "any.onnx"), str(tmp_path / "cache"), str(Path(__file__).parent.parent)
    script = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})" + ONE_OF_TWO.format(**locals())
    both = [
        subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin is not None
        print("go", file=process.stdin, flush=True)
    answers = sorted(process.communicate()[0].split() for process in both)
    wanted = OnnxRuntimeSegmenter(model, threads=1).segment(picture(3)).sample(places()).class_id
    assert answers == [["0", str(wanted.sum())], ["1", str(wanted.sum())]]


def test_an_engine_that_cannot_be_captured_runs_without_a_graph(folder: Path, tmp_path: Path) -> None:
    gpu = FakeGpu()
    gpu.driver.fail["cuStreamEndCapture"] = [Status.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED] * 2
    ours = segmenter_on(gpu, folder / "any.onnx", tmp_path)  # sets both lanes of one size up
    pixels = picture(6, NETWORK)
    wanted = OnnxRuntimeSegmenter(folder / "any.onnx", threads=1).segment(pixels).sample(places(NETWORK))
    np.testing.assert_array_equal(ours.segment(pixels).sample(places(NETWORK)).class_id, wanted.class_id)
    assert "cuGraphLaunch" not in gpu.driver.calls


def test_tensorrt_rtx_compiles_its_kernels_for_a_size_before_a_graph_keeps_them(folder: Path, tmp_path: Path) -> None:
    gpu = FakeGpu(RTX)
    segmenter_on(gpu, folder / "any.onnx", tmp_path)
    told = [config.dynamic_shapes_kernel_specialization_strategy.name for config in gpu.trt.runtime_configs]
    assert told == ["EAGER", "EAGER"]
    assert "cuGraphInstantiate" in gpu.driver.calls


def test_a_runtime_that_cannot_be_made_is_told(folder: Path, tmp_path: Path) -> None:
    gpu = FakeGpu()
    gpu.trt.refuse["runtime"] = [True]
    with pytest.raises(ModelError, match=r"tensorrt 1\S+: no runtime \(pybind11::init\(\): factory function"):
        segmenter_on(gpu, folder / "any.onnx", tmp_path)
    gc.collect()
    assert not +gpu.driver.live


def test_interrupted_at_its_first_picture_it_leaves_nothing_on_the_gpu(folder: Path, tmp_path: Path) -> None:
    gpu = FakeGpu()

    def interrupted() -> bool:
        if "cuGraphLaunch" in gpu.driver.calls:
            gpu.driver.is_lost = lambda: False
            raise KeyboardInterrupt
        return False

    gpu.driver.is_lost = interrupted
    with pytest.raises(KeyboardInterrupt):
        segmenter_on(gpu, folder / "any.onnx", tmp_path)
    gc.collect()
    assert not +gpu.driver.live


def test_an_engine_with_outputs_of_another_type_is_refused(folder: Path, tmp_path: Path) -> None:
    gpu = FakeGpu()
    gpu.trt.ICudaEngine.get_tensor_dtype = lambda self, name: getattr(
        gpu.trt.DataType, "UINT8" if name == "pixels" else "INT32"
    )
    with pytest.raises(ModelError, match=r"outputs of \('FLOAT', 'HALF', 'UINT8'\) wanted, {'logits': 'INT32'} seen"):
        segmenter_on(gpu, folder / "any.onnx", tmp_path)


def test_out_of_memory_at_the_start_is_told(folder: Path, tmp_path: Path) -> None:
    gpu = FakeGpu()
    gpu.driver.fail["cuMemHostAlloc"] = [Status.CUDA_ERROR_OUT_OF_MEMORY] * 2
    with pytest.raises(ModelError, match=r"cuMemHostAlloc failed on Fake GPU: CUDA_ERROR_OUT_OF_MEMORY \(2\)"):
        segmenter_on(gpu, folder / "any.onnx", tmp_path)


def test_a_picture_larger_than_built_for_is_refused_with_the_setting_to_raise(folder: Path, tmp_path: Path) -> None:
    options = BuildOptions(max_image_size=(128, 64))
    ours = segmenter_on(FakeGpu(), folder / "any.onnx", tmp_path, options=options)
    with pytest.raises(ModelError, match=r"not built for pictures of 129x64 .*inference\.max_image_size"):
        ours.segment(picture(0, (129, 64)))
    ours.segment(picture(0, (128, 64)))


def test_more_sizes_than_memory_is_kept_for_are_refused(folder: Path, tmp_path: Path) -> None:
    ours = segmenter_on(FakeGpu(), folder / "any.onnx", tmp_path)
    for width in range(40, 40 + MOST_SIZES - 1):
        ours.segment(picture(0, (width, 30)))
    with pytest.raises(ModelError, match=f"at most {MOST_SIZES} sizes wanted, 99x30 seen"):
        ours.segment(picture(0, (99, 30)))


def test_what_is_no_picture_is_refused_before_the_gpu_hears_of_it(folder: Path, tmp_path: Path) -> None:
    gpu = FakeGpu()
    ours = segmenter_on(gpu, folder / "fixed.onnx", tmp_path)
    gpu.driver.calls.clear()
    with pytest.raises(ModelError, match=r"picture: uint8 of shape \(H, W, 3\) wanted"):
        ours.segment(np.zeros((4, 4), np.uint8))
    with pytest.raises(ModelError, match="deployed for images of 96x60"):
        ours.segment(picture(0, (60, 96)))
    assert gpu.driver.calls == []


@pytest.mark.parametrize("captured", [True, False])
def test_the_network_is_timed_alone_and_warm_in_a_graph_where_there_can_be_one(
    folder: Path, tmp_path: Path, captured: bool
) -> None:
    gpu = FakeGpu(RTX)
    gpu.trt.refuse["capture"] = [not captured] * 4  # the lanes of two sizes
    ours = segmenter_on(gpu, folder / "any.onnx", tmp_path)
    ours.segment(picture(0))
    gpu.driver.calls.clear()
    runs = gpu.trt.executions
    assert ours.time_network((96, 60), repeats=6) == 2.0
    assert gpu.trt.executions == runs + 12
    assert gpu.driver.calls.count("cuGraphLaunch") == (12 if captured else 0)
    assert not [name for name in gpu.driver.calls if name.startswith("cuMemcpy")]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    return compile_kernels(tmp_path_factory.mktemp("kernels"))


@pytest.mark.parametrize("device", [DESKTOP, JETSON])
def test_scores_that_stay_on_the_gpu_give_the_labels_of_onnxruntime(
    folder: Path, tmp_path: Path, compiled: Callable[[str], Any], device: CudaDevice
) -> None:
    gpu = FakeGpu(device=device)
    gpu.driver.kernels = compiled
    ours = segmenter_on(gpu, folder / "any.onnx", tmp_path, sample_on_gpu=True)
    reference = OnnxRuntimeSegmenter(folder / "any.onnx", threads=1)
    pictures = [picture(seed) for seed in range(5)]
    results = ours.segment_all(pictures)
    for result, pixels in zip(results, pictures, strict=True):  # all of them live, none overwritten by the next
        assert isinstance(result, ResidentSegmentation)
        wanted = reference.segment(pixels)
        found = result.sample(places())
        np.testing.assert_array_equal(found.class_id, wanted.sample(places()).class_id)
        np.testing.assert_allclose(found.probability, wanted.sample(places()).probability, atol=1e-5)
        np.testing.assert_array_equal(result.label_image(), wanted.label_image())
    ours.close()
    with pytest.raises(ModelError, match="was let go of"):
        results[0].sample(places())
    del results, result
    gc.collect()
    assert not +gpu.driver.live


def test_scores_that_stay_on_the_gpu_are_not_downloaded(folder: Path, tmp_path: Path) -> None:
    gpu = FakeGpu()
    ours = segmenter_on(gpu, folder / "any.onnx", tmp_path, sample_on_gpu=True)
    for _ in range(3):  # both lanes, and memory to keep the scores in
        ours.segment(picture(0))
    gpu.driver.calls.clear()
    ours.segment(picture(1))
    assert gpu.driver.calls == [
        "cuCtxSetCurrent", "cuGraphLaunch", "cuMemcpyDtoDAsync", "cuEventRecord", "cuEventSynchronize"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("device", "wait", "schedule"),
    [(DESKTOP, "auto", 0), (DESKTOP, "spin", 1), (DESKTOP, "block", 4), (JETSON, "auto", 4), (JETSON, "spin", 1)],
)
def test_threads_wait_for_the_gpu_as_told_and_asleep_on_a_jetson(
    folder: Path, tmp_path: Path, device: CudaDevice, wait: str, schedule: int
) -> None:
    gpu = FakeGpu(device=device)
    segmenter_on(gpu, folder / "any.onnx", tmp_path, wait=wait).segment(picture(0))
    assert (gpu.driver.schedule, gpu.driver.event_flags) == (schedule, {int(schedule == 4)})


def test_points_go_before_the_networks_of_the_next_pictures(folder: Path, tmp_path: Path) -> None:
    gpu = FakeGpu()
    segmenter_on(gpu, folder / "any.onnx", tmp_path)
    of_kernels, *of_lanes = gpu.driver.priorities
    assert of_kernels < 0
    assert of_lanes == [0, 0]


def test_what_cannot_stay_on_the_gpu_is_sampled_on_the_cpu_and_said(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours = segmenter_on(FakeGpu(), folder / "labels.onnx", tmp_path, sample_on_gpu=True)
    wanted = OnnxRuntimeSegmenter(folder / "labels.onnx", threads=1).segment(picture(1)).sample(places())
    np.testing.assert_array_equal(ours.segment(picture(1)).sample(places()).class_id, wanted.class_id)
    assert "sampled on the CPU, not on the GPU as wanted: the network gives labels, confidence, not" in caplog.text
    assert "sample_on" not in ours.heeds
    assert "sample_on" in segmenter_on(FakeGpu(), folder / "any.onnx", tmp_path).heeds


@pytest.mark.parametrize("device", [DESKTOP, JETSON])
@pytest.mark.parametrize("batch", [1, 2])
def test_things_of_scores_that_stay_on_the_gpu_are_those_of_onnxruntime(
    tmp_path: Path, compiled: Callable[[str], Any], device: CudaDevice, batch: int
) -> None:
    pixels = deploy_two_cars(tmp_path / "net.onnx")
    pictures = [pixels, np.ascontiguousarray(pixels[:, ::-1]), pixels[::-1].copy()]
    wanted = [OnnxRuntimeSegmenter(tmp_path / "net.onnx", threads=1).segment(each) for each in pictures]
    if batch > 1:
        to_batch(tmp_path / "net.onnx", tmp_path / "batch.onnx", batch)
    gpu = FakeGpu(device=device)
    gpu.driver.kernels = compiled
    name = "batch.onnx" if batch > 1 else "net.onnx"
    ours = segmenter_on(gpu, tmp_path / name, tmp_path / "cache", sample_on_gpu=True)
    for found, expected in zip(ours.segment_all(pictures), wanted, strict=True):
        assert isinstance(found, ResidentSegmentation)
        ours_at, theirs_at = found.sample(places((64, 40))), expected.sample(places((64, 40)))
        np.testing.assert_array_equal(ours_at.class_id, theirs_at.class_id)
        np.testing.assert_array_equal(ours_at.instance_id, theirs_at.instance_id)
        np.testing.assert_array_equal(found.label_image(), expected.label_image())
    assert set(wanted[0].sample(places((64, 40))).instance_id) == {0, 1, 2}


def test_of_a_network_that_tells_things_apart_only_marks_and_ways_are_downloaded(
    tmp_path: Path, compiled: Callable[[str], Any]
) -> None:
    deploy_two_cars(tmp_path / "net.onnx")
    gpu = FakeGpu()
    gpu.driver.kernels = compiled
    ours = segmenter_on(gpu, tmp_path / "net.onnx", tmp_path / "cache", sample_on_gpu=True)
    gpu.driver.calls.clear()
    ours.segment(np.zeros((80, 120, 3), np.uint8))  # another size: a lane is set up, and its first run not captured yet
    first_run = gpu.driver.calls[: gpu.driver.calls.index("cuStreamSynchronize")]
    assert [name for name in first_run if "cpy" in name or "Launch" in name] == [
        "cuMemcpyHtoDAsync", "cuLaunchKernel", *["cuMemcpyDtoHAsync"] * 3
    ]  # fmt: skip


def test_a_sweep_is_labelled_alike_with_its_cameras_in_one_call_and_their_scores_on_the_gpu(
    folder: Path, tmp_path: Path, compiled: Callable[[str], Any]
) -> None:
    to_batch(folder / "any.onnx", tmp_path / "two.onnx", 2)
    gpu = FakeGpu()
    gpu.driver.kernels = compiled
    ours = segmenter_on(gpu, tmp_path / "two.onnx", tmp_path / "cache", sample_on_gpu=True)
    images = {
        name: dataclasses.replace(world.image(name=name), pixels=picture(seed, world.image().size))
        for seed, name in enumerate(("front", "second"))
    }
    ours.segment_all([image.pixels for image in images.values()])  # sets its lanes up, so that runs can be counted
    scan = world.scan(xyz=np.random.default_rng(4).uniform((5.0, -6.0, -2.0), (30.0, 6.0, 2.0), (400, 3)))
    clouds, runs = [], []
    for segmenter in (ours, OnnxRuntimeSegmenter(folder / "any.onnx", threads=1)):
        pipeline = Pipeline(world.config(cameras=["front", "second"]), segmenter, world.tree())
        for name in images:
            pipeline.set_camera(name, world.camera())
        before = gpu.trt.executions
        clouds.append(pipeline.process(scan, images).cloud)
        runs.append(gpu.trt.executions - before)
    assert runs == [1, 0]
    found, wanted = clouds
    np.testing.assert_array_equal(found.class_id, wanted.class_id)
    np.testing.assert_allclose(found.probability, wanted.probability, atol=1e-5)
    assert (found.class_id != 255).sum() > 100


def test_without_a_gpu_the_sentence_says_what_is_missing(folder: Path) -> None:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        with pytest.raises(ModelError, match="no NVIDIA driver"):
            TensorRtSegmenter(folder / "any.onnx")
    else:
        pytest.skip("this machine has an NVIDIA driver")
