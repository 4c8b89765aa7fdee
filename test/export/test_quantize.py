"""Int8 forms of deployed networks: symmetric, by channel, biases in floating point, and of nearly the same labels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from seg_perception.errors import ModelError
from seg_perception.export.deploy import DeploySpec, deploy
from seg_perception.export.quantize import read_pictures, to_int8
from seg_perception.export.tensorrt_rules import findings, try_rtx
from seg_perception.inference.onnx_file import OnnxFile
from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter


def network(path: Path, convolutions: int = 7) -> Path:
    """19 classes at stride 2, from a chain of convolutions, each with a bias and a Relu."""
    rng = np.random.default_rng(0)
    nodes, tensors, channels, name = [], [], 3, "image"
    for k in range(convolutions):
        out = 19 if k == convolutions - 1 else 32
        weights = rng.normal(0.0, 1.4 / np.sqrt(9 * channels), (out, channels, 3, 3)).astype(np.float32)
        tensors += [
            numpy_helper.from_array(weights, f"w{k}"),
            numpy_helper.from_array(np.zeros(out, np.float32), f"b{k}"),
        ]
        stride = 2 if k == 0 else 1
        nodes.append(helper.make_node("Conv", [name, f"w{k}", f"b{k}"], [f"c{k}"], strides=[stride] * 2, pads=[1] * 4))
        name, channels = f"c{k}", out
        if k < convolutions - 1:
            nodes.append(helper.make_node("Relu", [name], [f"r{k}"]))
            name = f"r{k}"
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 40, 64])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 19, 20, 32])],
        tensors,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def pictures(count: int, size: tuple[int, int] = (96, 60)) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    small = rng.integers(0, 256, (count, 6, 10, 3), dtype=np.uint8)
    return [cv2.resize(each, size, interpolation=cv2.INTER_CUBIC) for each in small]


@pytest.fixture
def deployed(tmp_path: Path) -> Path:
    spec = DeploySpec(mean=(128.0,) * 3, scale=(1 / 128,) * 3)
    deploy(network(tmp_path / "network.onnx"), tmp_path / "deployed.onnx", spec)
    return tmp_path / "deployed.onnx"


def test_the_int8_form_gives_nearly_the_same_labels_and_the_same_contract(deployed: Path, tmp_path: Path) -> None:
    int8 = tmp_path / "int8.onnx"
    agreement = to_int8(deployed, int8, pictures(6))
    assert agreement > 0.9
    assert OnnxFile.read(int8).precision == "int8"
    assert OnnxRuntimeSegmenter(int8).contract == OnnxRuntimeSegmenter(deployed).contract


def test_it_is_what_tensorrt_takes(deployed: Path, tmp_path: Path) -> None:
    to_int8(deployed, tmp_path / "int8.onnx", pictures(6))
    model = onnx.load(tmp_path / "int8.onnx")
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert nodes
    for node in nodes:
        zero = tensors[node.input[2]]
        assert zero.dtype == np.int8
        assert not zero.any()
    assert findings(tmp_path / "int8.onnx") == []
    quantized = [node for node in model.graph.node if node.op_type == "Conv" and "Dequantize" in node.input[1]]
    assert len(quantized) == 3  # of seven, the first and the last three stay
    assert all(tensors[node.input[2]].dtype == np.float32 for node in quantized)


@pytest.mark.tensorrt_rtx
def test_the_real_builder_takes_it(deployed: Path, tmp_path: Path) -> None:
    to_int8(deployed, tmp_path / "int8.onnx", pictures(6))
    assert try_rtx(tmp_path / "int8.onnx").refusal == ""


def test_what_cannot_be_quantised_is_refused_and_leaves_no_file(deployed: Path, tmp_path: Path) -> None:
    to_int8(deployed, tmp_path / "int8.onnx", pictures(3))
    before = set(tmp_path.iterdir())
    with pytest.raises(ModelError, match="float32 wanted, int8 seen"):
        to_int8(tmp_path / "int8.onnx", tmp_path / "no.onnx", pictures(3))
    with pytest.raises(ModelError, match="at least 2 wanted, 1 seen"):
        to_int8(deployed, tmp_path / "no.onnx", pictures(1))
    with pytest.raises(ModelError, match="not a deployed network"):
        to_int8(tmp_path / "network.onnx", tmp_path / "no.onnx", pictures(3))
    with pytest.raises(ModelError, match=r"picture: uint8 of shape \(H, W, 3\) wanted"):
        to_int8(deployed, tmp_path / "no.onnx", [np.zeros((4, 4), np.uint8)] * 2)
    with pytest.raises(ModelError, match=r"of its labels stay, 110\.00% wanted"):
        to_int8(deployed, tmp_path / "no.onnx", pictures(3), min_agreement=1.1)
    assert set(tmp_path.iterdir()) == before


def test_a_network_of_few_convolutions_is_refused(tmp_path: Path) -> None:
    deploy(network(tmp_path / "network.onnx", 4), tmp_path / "deployed.onnx", DeploySpec())
    with pytest.raises(ModelError, match="more than 4 convolutions wanted, 4 seen"):
        to_int8(tmp_path / "deployed.onnx", tmp_path / "int8.onnx", pictures(3))


def test_pictures_are_spread_over_the_folder(deployed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    with pytest.raises(ModelError, match=r"pictures \(\.png, \.jpg\) of any size wanted, none seen"):
        read_pictures(folder, deployed)
    for number, picture in enumerate(pictures(7)):
        cv2.imwrite(str(folder / f"{number}.png"), np.full_like(picture, number))
    assert [int(each[0, 0, 0]) for each in read_pictures(folder, deployed, most=3)] == [0, 3, 6]
    assert len(read_pictures(folder, deployed)) == 7


@pytest.mark.slow
def test_the_real_deeplab_keeps_most_labels_and_converts(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "deeplab_cityscapes" / "deeplab_mnv_cityscapes_513x1025.onnx"
    deploy(source, tmp_path / "deeplab.onnx", DeploySpec(mean=(128.0,) * 3, scale=(1 / 128,) * 3))
    read = read_pictures(shared_data / "kitti_drive", tmp_path / "deeplab.onnx", most=5)
    assert to_int8(tmp_path / "deeplab.onnx", tmp_path / "int8.onnx", read) >= 0.88
    assert findings(tmp_path / "int8.onnx") == []
