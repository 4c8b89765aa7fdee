"""Float16 forms of deployed networks: valid, typed, and of the same labels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from seg_perception.errors import ModelError
from seg_perception.export.deploy import DeploySpec, deploy
from seg_perception.export.half import LARGEST, to_half
from seg_perception.inference.onnx_file import OnnxFile
from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter


def network(path: Path) -> Path:
    """19 classes: a convolution at stride 4, a mask that float16 cannot hold, a Resize with scales, a Cast."""
    rng = np.random.default_rng(0)
    tensors = {
        "w": rng.normal(0.0, 0.3, (19, 3, 4, 4)).astype(np.float32),
        "mask": np.array([1.0] * 18 + [-1e9], np.float32).reshape(1, 19, 1, 1),
        "scales": np.array([1, 1, 2, 2], np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["small"], strides=[4, 4]),
        helper.make_node("Min", ["small", "mask_or_score"], ["masked"]),
        helper.make_node("Resize", ["masked", "", "scales"], ["twice"], mode="linear"),
        helper.make_node("Cast", ["twice"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Relu", ["cast"], ["scores"]),
    ]
    nodes.insert(0, helper.make_node("Mul", ["mask", "large"], ["mask_or_score"]))
    tensors["large"] = np.array(1e6, np.float32)
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 40, 64])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 19, 20, 32])],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(params=[False, True], ids=["logits", "labels"])
def deployed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    spec = DeploySpec(mean=(128.0,) * 3, scale=(1 / 128,) * 3, labels=request.param)
    deploy(network(tmp_path / "network.onnx"), tmp_path / "deployed.onnx", spec)
    return tmp_path / "deployed.onnx"


def test_the_float16_form_gives_nearly_the_same_labels(deployed: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.onnx"
    agreement = to_half(deployed, half)
    assert agreement > 0.98
    assert OnnxFile.read(half).precision == "fp16"
    ours, reference = OnnxRuntimeSegmenter(half), OnnxRuntimeSegmenter(deployed)
    assert ours.contract == reference.contract
    pixels = np.random.default_rng(1).integers(0, 256, (90, 150, 3), dtype=np.uint8)
    assert (ours.segment(pixels).label_image() == reference.segment(pixels).label_image()).mean() > 0.98


def test_the_network_is_float16_and_what_stands_before_it_float32(deployed: Path, tmp_path: Path) -> None:
    to_half(deployed, tmp_path / "half.onnx")
    model = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "half.onnx"), strict_mode=True)
    kinds = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    for node in model.graph.node:
        kind = kinds.get(node.output[0])
        if node.op_type in ("Conv", "Relu", "Min"):
            assert kind in (TensorProto.FLOAT16, None), node.name
        if node.name in ("deploy/resized", "deploy/centred", "deploy/scaled"):
            assert kind == TensorProto.FLOAT, node.name
    weights = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert weights["net/w/half"] == TensorProto.FLOAT16
    assert weights["net/scales"] == TensorProto.FLOAT
    assert "net/w" not in weights


def test_constants_beyond_the_range_become_the_largest_value(deployed: Path, tmp_path: Path) -> None:
    to_half(deployed, tmp_path / "half.onnx")
    tensors = {tensor.name: tensor for tensor in onnx.load(tmp_path / "half.onnx").graph.initializer}
    mask = numpy_helper.to_array(tensors["net/mask/half"]).ravel()
    assert mask[-1] == -LARGEST
    assert np.isfinite(mask).all()


def test_a_file_that_is_no_deployed_float32_network_is_refused(deployed: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a deployed network"):
        to_half(tmp_path / "network.onnx", tmp_path / "half.onnx")
    with pytest.raises(ModelError, match=r"absent\.onnx: cannot be read"):
        to_half(tmp_path / "absent.onnx", tmp_path / "half.onnx")
    model = onnx.load(deployed)
    model.graph.node[-1].op_type = "QuantizeLinear"
    (tmp_path / "quantized.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="a quantised network seen"):
        to_half(tmp_path / "quantized.onnx", tmp_path / "half.onnx")
    assert not (tmp_path / "half.onnx").exists()


def test_labels_that_change_too_much_leave_no_file(deployed: Path, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    with pytest.raises(ModelError, match=r"of its labels stay, 110\.00% wanted"):
        to_half(deployed, tmp_path / "half.onnx", min_agreement=1.1)
    assert set(tmp_path.iterdir()) == before


def test_the_real_deeplab_keeps_its_labels_on_a_real_picture(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "deeplab_cityscapes" / "deeplab_mnv_cityscapes_513x1025.onnx"
    deploy(source, tmp_path / "deeplab.onnx", DeploySpec(mean=(128.0,) * 3, scale=(1 / 128,) * 3))
    pixels = cv2.imread(str(shared_data / "kitti_drive/image_02/data/0000000003.png"))[..., ::-1].copy()
    assert to_half(tmp_path / "deeplab.onnx", tmp_path / "half.onnx", pixels) >= 0.995
    assert (tmp_path / "half.onnx").stat().st_size < 0.6 * (tmp_path / "deeplab.onnx").stat().st_size
