"""Int8 forms of deployed networks: what each target takes, and what it costs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from seg_perception.bags import BagWriter
from seg_perception.cli.main import main
from seg_perception.errors import ModelError
from seg_perception.evaluation.metrics import ConfusionMatrix
from seg_perception.export.calibration import read_pictures
from seg_perception.export.deploy import DeploySpec, deploy
from seg_perception.export.quantize import Int8Limits, to_int8
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
    report = to_int8(deployed, int8, pictures(6))
    assert report.agreement > 0.9
    assert report.pictures == 1 and np.isnan(report.loss)
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
    quantized = quantized_convolutions(tmp_path / "int8.onnx")
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
        to_int8(deployed, tmp_path / "no.onnx", pictures(3), limits=Int8Limits(agreement=1.1))
    assert set(tmp_path.iterdir()) == before


def test_a_network_of_few_convolutions_is_refused(tmp_path: Path) -> None:
    deploy(network(tmp_path / "network.onnx", 4), tmp_path / "deployed.onnx", DeploySpec())
    with pytest.raises(ModelError, match="more than 4 convolutions wanted, 4 seen"):
        to_int8(tmp_path / "deployed.onnx", tmp_path / "int8.onnx", pictures(3))
    to_int8(tmp_path / "deployed.onnx", tmp_path / "int8.onnx", pictures(3), kept=(1, 0))
    assert len(quantized_convolutions(tmp_path / "int8.onnx")) == 3


def quantized_convolutions(path: Path) -> list[onnx.NodeProto]:
    return [node for node in onnx.load(path).graph.node if node.op_type == "Conv" and "Dequantize" in node.input[1]]


def labels_of(model: Path, picture: np.ndarray) -> np.ndarray:
    return OnnxRuntimeSegmenter(model).segment(picture).label_image()


def test_for_cpus_activations_are_uint8_and_biases_integers(deployed: Path, tmp_path: Path) -> None:
    report = to_int8(deployed, tmp_path / "int8.onnx", pictures(6), target="cpu")
    assert report.agreement > 0.9
    model = onnx.load(tmp_path / "int8.onnx")
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    activations = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert activations and all(tensors[node.input[2]].dtype == np.uint8 for node in activations)
    made_by = {node.output[0]: node for node in model.graph.node}
    for node in quantized_convolutions(tmp_path / "int8.onnx"):
        weights, bias = (tensors[made_by[name].input[0]].dtype for name in node.input[1:3])
        assert (weights, bias) == (np.int8, np.int32)
    # TensorRT's own recipe, and only that, passes its rules.
    assert any("uint8" in finding.text for finding in findings(tmp_path / "int8.onnx"))


@pytest.mark.openvino
def test_openvino_reads_what_is_made_for_cpus(deployed: Path, tmp_path: Path) -> None:
    from seg_perception.inference.openvino_segmenter import OpenVinoSegmenter

    to_int8(deployed, tmp_path / "int8.onnx", pictures(6), target="cpu")
    picture = pictures(6)[-1]
    given = OpenVinoSegmenter(tmp_path / "int8.onnx", threads=1).segment(picture).label_image()
    assert (given == labels_of(deployed, picture)).mean() > 0.9


def test_with_truth_the_loss_is_that_of_the_mean_iou(deployed: Path, tmp_path: Path) -> None:
    *calibrating, one, other = pictures(6)
    held_out = [(each, labels_of(deployed, each)) for each in (one, other)]
    report = to_int8(deployed, tmp_path / "int8.onnx", calibrating, held_out=held_out, limits=Int8Limits(loss=0.5))
    assert report.pictures == 2
    assert report.mean_iou == 1.0  # the truth is what the float32 network says
    matrix = ConfusionMatrix(19)
    for picture, truth in held_out:
        matrix.update(truth, labels_of(tmp_path / "int8.onnx", picture))
    assert report.mean_iou_int8 == matrix.mean_iou < 1.0
    assert report.loss == 1.0 - matrix.mean_iou


def test_a_loss_above_the_limit_writes_nothing(deployed: Path, tmp_path: Path) -> None:
    *calibrating, picture = pictures(4)
    held_out = [(picture, labels_of(deployed, picture))]
    with pytest.raises(ModelError, match=r"mean IoU falls from 100\.00% to .* by 0\.00% at most wanted"):
        to_int8(deployed, tmp_path / "no.onnx", calibrating, held_out=held_out, limits=Int8Limits(loss=0.0))
    assert not list(tmp_path.glob("*no*")) and not list(tmp_path.glob(".quantize*"))


def test_an_unknown_target_is_refused(deployed: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"target 'gpu': one of \['cpu', 'tensorrt'\] wanted"):
        to_int8(deployed, tmp_path / "no.onnx", pictures(3), target="gpu")


def test_pictures_of_a_bag_are_spread_over_its_cameras(deployed: Path, tmp_path: Path) -> None:
    with BagWriter(tmp_path / "drive.mcap") as bag:
        for k, picture in enumerate(pictures(8)):
            bag.write_image(f"/camera_{k % 2}/image_raw", 10 + k, "camera", np.full_like(picture, k))
            bag.write_image("/truth/camera_0/labels", 10 + k, "camera", picture[:, :, 0], "mono8")
            bag.write_image("/perception_node/camera_0/overlay", 10 + k, "camera", picture)
    read = read_pictures(tmp_path / "drive.mcap", deployed, most=3)
    assert [int(each[0, 0, 0]) for each in read] == [0, 3, 6]
    with BagWriter(tmp_path / "empty.mcap") as bag:
        bag.write_clock(1)
    with pytest.raises(ModelError, match=r"bag .*empty\.mcap: pictures .* wanted, none seen"):
        read_pictures(tmp_path / "empty.mcap", deployed)


def test_the_command_says_what_it_cost(deployed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, picture in enumerate(pictures(5)):
        part = "calibration" if number < 3 else "truth/val/images"
        (tmp_path / part).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / part / f"{number}.png"), picture[..., ::-1])
        if number >= 3:
            (tmp_path / "truth/val/labels").mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / f"truth/val/labels/{number}.png"), labels_of(deployed, picture))
    words = ["quantize", str(deployed), str(tmp_path / "out" / "int8.onnx"), "--target", "cpu"]
    words += ["--calibration", str(tmp_path / "calibration")]
    assert main(words) == 0
    assert "of the labels of one picture that was kept back stay" in capsys.readouterr().out
    truth = ["--truth", str(tmp_path / "truth"), "--split", "val"]
    assert main([*words, *truth, "--max-loss", "0.5"]) == 0
    assert "mean IoU 100.00% -> " in capsys.readouterr().out
    assert main([*words, *truth, "--max-loss", "0"]) == 2
    assert "by 0.00% at most wanted" in capsys.readouterr().err
    assert main([*words, "--truth", str(tmp_path / "calibration")]) == 2
    assert "pictures that ranges were not taken from wanted" in capsys.readouterr().err


def test_pictures_are_spread_over_the_folder(deployed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    with pytest.raises(ModelError, match=r"pictures \(\.png, \.jpg, Image\) of any size wanted, none seen"):
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
    assert to_int8(tmp_path / "deeplab.onnx", tmp_path / "int8.onnx", read).agreement >= 0.88
    assert findings(tmp_path / "int8.onnx") == []
    assert to_int8(tmp_path / "deeplab.onnx", tmp_path / "cpu.onnx", read, target="cpu").agreement >= 0.88
