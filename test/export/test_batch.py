"""Several pictures in one call: each keeps the labels that it has alone, whatever the network and its precision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from compiled_kernels import compile_kernels
from fake_gpu import GENERATIONS, JETSON, FakeGpu
from panoptic_network import deploy_two_cars

from seg_perception.cli.main import main
from seg_perception.errors import ModelError
from seg_perception.export.batch import to_batch
from seg_perception.export.deploy import DeploySpec, deploy
from seg_perception.export.half import to_half
from seg_perception.export.quantize import to_int8
from seg_perception.export.tensorrt_rules import findings, try_rtx
from seg_perception.inference.contract import ModelContract
from seg_perception.inference.engine_build import BuildOptions
from seg_perception.inference.onnx_file import OnnxFile
from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter
from seg_perception.inference.tensorrt_segmenter import TensorRtSegmenter
from seg_perception.shipped import MODEL, MODEL_INT8

SPEC: dict[str, Any] = {"mean": (110.0,) * 3, "scale": (1 / 64,) * 3}


def network(writer: Any, path: Path, opset: int = 17) -> Path:
    """Stride 4, four classes. In it stands the one picture: in sizes of a Resize, shapes of Reshapes, a Tile."""
    writer.conv(3, 8, 2).add("Relu")
    writer.add("Reshape", np.array([1, 2, 4, 20, 32])).add("Transpose", perm=[0, 2, 1, 3, 4])
    writer.add("Reshape", np.array([1, -1, 20, 32])).conv(8, 8, 2).add("Relu")
    features = writer.tensor
    pooled = writer.add("GlobalAveragePool").add("Tile", np.array([1, 1, 10, 16])).tensor
    writer.tensor = features
    writer.resize([1, 8, 5, 8]).resize([1, 8, 10, 16]).add("Concat", pooled, axis=1).conv(16, 4, kernel=1, gain=4.0)
    writer.resize([1, 4, 40, 64])
    return writer.save(path, [1, 3, 40, 64], opset=opset)


def pictures(count: int = 4, size: tuple[int, int] = (96, 60)) -> list[np.ndarray]:
    return [np.random.default_rng(k).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8) for k in range(count)]


def places(size: tuple[int, int] = (96, 60)) -> np.ndarray:
    return np.random.default_rng(9).uniform(-2, size, (200, 2))


@pytest.fixture
def deployed(writer: Any, tmp_path: Path, taxonomy_of: Callable[[int], str]) -> Callable[..., Path]:
    def make(opset: int = 17, **more: Any) -> Path:
        source, path = tmp_path / "network.onnx", tmp_path / "one.onnx"
        if not source.exists():
            network(writer, source, opset)
        deploy(source, path, DeploySpec(taxonomy=taxonomy_of(4), **SPEC, **more))
        return path

    return make


@pytest.mark.parametrize("opset", [17, 18])
@pytest.mark.parametrize(
    "more",
    [{}, {"labels": True}, {"image_size": (96, 60)}, {"target": "cpu"}],
    ids=["logits", "labels", "fixed", "cpu"],
)
@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
def test_each_picture_keeps_its_labels(
    deployed: Callable[..., Path], tmp_path: Path, opset: int, more: dict, half: bool
) -> None:
    path = deployed(opset=opset, **more)
    if half:
        to_half(path, path, min_agreement=0.0)
    made = tmp_path / "batch.onnx"
    assert to_batch(path, made, 3) >= (0.999 if half else 1.0)
    onnx.checker.check_model(onnx.load(made), full_check=True)
    assert findings(made) == findings(path)
    one, several = OnnxRuntimeSegmenter(path, threads=1), OnnxRuntimeSegmenter(made, threads=1)
    assert (one.contract.batch, several.contract.batch) == (1, 3)
    for pixels, answer in zip(pictures(4), several.segment_all(pictures(4)), strict=True):  # 3 and 1
        found, wanted = answer.sample(places()), one.segment(pixels).sample(places())
        assert (found.class_id == wanted.class_id).mean() >= (0.98 if half else 1.0)
        np.testing.assert_allclose(found.probability, wanted.probability, atol=1e-2 if half else 1e-6)


def test_pictures_of_several_sizes_go_in_calls_of_one_size_and_come_back_in_order(
    deployed: Callable[..., Path], tmp_path: Path
) -> None:
    path = deployed()
    to_batch(path, tmp_path / "batch.onnx", 2)
    one, several = OnnxRuntimeSegmenter(path, threads=1), OnnxRuntimeSegmenter(tmp_path / "batch.onnx", threads=1)
    shapes: list[tuple[int, ...]] = []
    run = several._session.run
    several._session = type("Watched", (), {"run": lambda _, o, f: shapes.append(f["pixels"].shape) or run(o, f)})()  # type: ignore[assignment]
    given = [
        pictures(6, size)[k] for k, size in enumerate([(96, 60), (33, 81), (96, 60), (96, 60), (33, 81), (50, 50)])
    ]
    for pixels, answer in zip(given, several.segment_all(given), strict=True):
        assert answer.size == pixels.shape[1::-1]
        np.testing.assert_array_equal(answer.label_image(), one.segment(pixels).label_image())
    assert shapes == [(2, 60, 96, 3), (2, 81, 33, 3), (1, 60, 96, 3), (1, 50, 50, 3)]


def test_things_are_told_apart_in_each_picture(tmp_path: Path) -> None:
    pixels = deploy_two_cars(tmp_path / "one.onnx")
    to_batch(tmp_path / "one.onnx", tmp_path / "two.onnx", 2)
    mirrored = np.ascontiguousarray(pixels[:, ::-1])
    one = OnnxRuntimeSegmenter(tmp_path / "one.onnx", threads=1)
    for answer, given in zip(
        OnnxRuntimeSegmenter(tmp_path / "two.onnx", threads=1).segment_all([pixels, mirrored]),
        [pixels, mirrored],
        strict=True,
    ):
        found, wanted = answer.sample(places((64, 40))), one.segment(given).sample(places((64, 40)))
        np.testing.assert_array_equal(found.instance_id, wanted.instance_id)
        np.testing.assert_array_equal(found.class_id, wanted.class_id)


@pytest.mark.parametrize("model", [MODEL, MODEL_INT8], ids=["float32", "int8"])
def test_the_shipped_networks_take_several_pictures(model: Path, tmp_path: Path) -> None:
    assert to_batch(model, tmp_path / "batch.onnx", 2) == 1.0
    assert OnnxFile.read(tmp_path / "batch.onnx").precision == OnnxFile.read(model).precision


def test_openvino_gives_the_labels_of_one_picture_at_a_time(deployed: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    from seg_perception.inference.openvino_segmenter import OpenVinoSegmenter

    path = deployed()
    to_batch(path, tmp_path / "batch.onnx", 3)
    one, several = OpenVinoSegmenter(path, threads=1), OpenVinoSegmenter(tmp_path / "batch.onnx", threads=1)
    for pixels, answer in zip(pictures(4), several.segment_all(pictures(4)), strict=True):
        np.testing.assert_array_equal(answer.label_image(), one.segment(pixels).label_image())


@pytest.mark.parametrize("sample_on_gpu", [False, True], ids=["cpu", "gpu"])
@pytest.mark.parametrize("version", GENERATIONS)
def test_an_engine_takes_them_in_one_call(
    deployed: Callable[..., Path], tmp_path: Path, version: str, sample_on_gpu: bool
) -> None:
    path = deployed()
    to_batch(path, tmp_path / "batch.onnx", 3)
    gpu = FakeGpu(version)
    gpu.driver.kernels = compile_kernels(tmp_path)
    options = BuildOptions(max_image_size=(640, 480))
    ours = TensorRtSegmenter(
        tmp_path / "batch.onnx", cache=tmp_path / "c", options=options, sample_on_gpu=sample_on_gpu, **gpu.arguments
    )
    assert gpu.trt.configs[1]["profile"] == {"pixels": ((1, 16, 16, 3), (3, 480, 640, 3), (3, 480, 640, 3))}
    reference = OnnxRuntimeSegmenter(path, threads=1)
    ours.segment_all(pictures(4))  # 3 and 1, set up
    runs = gpu.trt.executions
    for pixels, answer in zip(pictures(7), ours.segment_all(pictures(7)), strict=True):
        wanted = reference.segment(pixels)
        np.testing.assert_array_equal(answer.sample(places()).class_id, wanted.sample(places()).class_id)
        np.testing.assert_array_equal(answer.label_image(), wanted.label_image())
    assert gpu.trt.executions - runs == 3  # 3, 3 and 1
    assert ours.time_network((96, 60), repeats=2) == 2.0  # 12 ms for two calls of three
    ours.close()


def test_a_jetson_takes_them_without_a_copy(deployed: Callable[..., Path], tmp_path: Path) -> None:
    path = deployed(image_size=(96, 60))
    to_batch(path, tmp_path / "batch.onnx", 2)
    gpu = FakeGpu(device=JETSON)
    ours = TensorRtSegmenter(tmp_path / "batch.onnx", cache=tmp_path / "c", **gpu.arguments)
    assert gpu.trt.configs[1]["profile"] == {"pixels": ((1, 60, 96, 3), (2, 60, 96, 3), (2, 60, 96, 3))}
    reference = OnnxRuntimeSegmenter(path, threads=1)
    for pixels, answer in zip(pictures(2), ours.segment_all(pictures(2)), strict=True):
        wanted = reference.segment(pixels).sample(places())
        np.testing.assert_array_equal(answer.sample(places()).class_id, wanted.class_id)
    assert not [name for name in gpu.driver.calls if name.startswith("cuMemcpy")]


def test_the_engine_key_says_for_how_many_it_is(deployed: Callable[..., Path], tmp_path: Path) -> None:
    path = deployed()
    to_batch(path, tmp_path / "batch.onnx", 3)
    for model, count in ((path, "1"), (tmp_path / "batch.onnx", "3")):
        ours = TensorRtSegmenter(model, cache=tmp_path / "c", **FakeGpu().arguments)
        assert ours._source.key.options["batch"] == count


@pytest.mark.tensorrt_rtx
@pytest.mark.parametrize("opset", [17, 18])
def test_the_real_parser_and_builder_of_tensorrt_rtx_take_them(
    deployed: Callable[..., Path], tmp_path: Path, opset: int
) -> None:
    for more in ({}, {"labels": True}, {"image_size": (96, 60)}):
        path = deployed(opset=opset, **more)
        for half in (False, True):
            if half:
                to_half(path, path, min_agreement=0.0)
            to_batch(path, tmp_path / "batch.onnx", 6)
            assert try_rtx(tmp_path / "batch.onnx").refusal == "", (more, half)
    to_batch(MODEL, tmp_path / "batch.onnx", 6)
    assert try_rtx(tmp_path / "batch.onnx").refusal == ""


def test_the_command_writes_it(
    writer: Any, tmp_path: Path, taxonomy_of: Callable[[int], str], capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(network(writer, tmp_path / "network.onnx"))
    out = str(tmp_path / "made.onnx")
    command = ["deploy", source, out, "--taxonomy", taxonomy_of(4), "--mean", "110", "--scale", "1/64"]
    assert main([*command, "--batch", "6"]) == 0
    assert "up to 6 pictures in one call" in capsys.readouterr().out
    assert ModelContract.from_metadata(OnnxFile.read(out).metadata, out).batch == 6


def test_a_network_whose_pictures_mix_is_refused_and_leaves_no_file(
    writer: Any, tmp_path: Path, taxonomy_of: Callable[[int], str]
) -> None:
    writer.conv(3, 8, 4).add("Relu")
    features = writer.tensor
    mean = writer.add("ReduceMean", axes=[0, 2, 3], keepdims=1).tensor  # over the pictures too
    writer.tensor = features
    writer.add("Sub", mean).conv(8, 4, kernel=1, gain=4.0).save(tmp_path / "network.onnx", [1, 3, 40, 64])
    deploy(tmp_path / "network.onnx", tmp_path / "one.onnx", DeploySpec(taxonomy=taxonomy_of(4), **SPEC))
    with pytest.raises(ModelError, match=r"3 pictures at once, \d+\.\d+% of its labels stay, 99\.90% wanted"):
        to_batch(tmp_path / "one.onnx", tmp_path / "batch.onnx", 3)
    assert not (tmp_path / "batch.onnx").exists()


def test_what_cannot_be_batched_is_refused_with_the_reason(deployed: Callable[..., Path], tmp_path: Path) -> None:
    path, made = deployed(), tmp_path / "batch.onnx"
    with pytest.raises(ModelError, match="two pictures or more wanted, 1 seen"):
        to_batch(path, made, 1)
    to_batch(path, made, 2)
    with pytest.raises(ModelError, match="one picture at a time wanted, 2 seen; start from its source"):
        to_batch(made, tmp_path / "again.onnx", 3)
    with pytest.raises(ModelError, match="one picture at a time wanted, 2 seen"):
        to_int8(made, tmp_path / "int8.onnx", pictures(20))
    content = onnx.load(path)
    content.graph.node.insert(1, onnx.helper.make_node("Abs", ["deploy/float"], ["deploy/abs"], name="abs"))
    content.graph.node[2].input[0] = "deploy/abs"
    onnx.save(content, tmp_path / "abs.onnx")
    with pytest.raises(ModelError, match=r"node 'abs' \(Abs\): Abs of one picture is not understood"):
        to_batch(tmp_path / "abs.onnx", tmp_path / "no.onnx", 2)
