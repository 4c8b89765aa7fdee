"""A deployed network gives the labels of the network it was made from, in every form of input, output and Resize."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from seg_perception.errors import ModelError
from seg_perception.export.deploy import DeploySpec, deploy
from seg_perception.inference.contract import METADATA_KEY, ModelContract
from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter

NORMALISED = {"mean": (110.0,) * 3, "scale": (1 / 64,) * 3}
EVEN, ODD = (48, 80), (49, 81)  # (height, width): sides 4k and 4k + 1, maps of 12x20 and 13x21


@pytest.fixture
def deployed(tmp_path: Path, taxonomy_of: Callable[[int], str], picture: np.ndarray):
    """Deploys a network file with the given settings and returns the contract and the file."""

    def run(source: Path, classes: int = 4, **settings: object) -> tuple[ModelContract, Path]:
        spec = DeploySpec(**{"taxonomy": taxonomy_of(classes), **NORMALISED, **settings})
        return deploy(source, tmp_path / "deployed.onnx", spec, picture), tmp_path / "deployed.onnx"

    return run


def network_input(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(1, 3, h, w) float32 made outside the graph."""
    resized = cv2.resize(picture.astype(np.float32), (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return np.moveaxis((resized - 110.0) / 64.0, 2, 0)[None].astype(np.float32)


def run_plain(path: Path, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, feed)


def bilinear(scores: np.ndarray, contract: ModelContract, size: tuple[int, int]) -> np.ndarray:
    """(C, H, W): scores at each pixel of the network's input, by the contract's alignment, in NumPy."""
    own = contract.network_alignment

    def taps(count: int, scale: float, offset: float, length: int):
        place = np.clip(scale * np.arange(count) + offset, 0, length - 1)
        first = np.minimum(place.astype(int), length - 2)
        return first, place - first

    top, v = taps(size[0], own.scale_v, own.offset_v, scores.shape[1])
    left, u = taps(size[1], own.scale_u, own.offset_u, scores.shape[2])
    rows = scores[:, top] * (1 - v)[:, None] + scores[:, top + 1] * v[:, None]
    return rows[:, :, left] * (1 - u) + rows[:, :, left + 1] * u


@pytest.mark.parametrize("how", ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"])
@pytest.mark.parametrize("size", [EVEN, ODD])
@pytest.mark.parametrize("by_scale", [False, True])
def test_final_upsampling_is_cut_exactly(
    writer, deployed, picture, tmp_path: Path, how: str, size: tuple[int, int], by_scale: bool
) -> None:
    writer.body()
    if by_scale:
        ratio = [np.nextafter(np.float32(s / (-(-s // 4))), np.float32(9)) for s in size]
        writer.scale_up([1, 1, *ratio], how)
    else:
        writer.resize([1, 4, *size], how)
    source = writer.save(tmp_path / "network.onnx", [1, 3, *size])

    contract, path = deployed(source)

    assert contract.output == "logits"
    assert contract.output_size == (-(-size[1] // 4), -(-size[0] // 4))
    assert contract.label_agreement >= 0.999
    (own,) = run_plain(source, {"image": network_input(picture, size)})
    (logits,) = run_plain(path, {"pixels": picture})
    np.testing.assert_allclose(bilinear(logits, contract, size), own[0], atol=1e-4)


def test_alignment_of_align_corners_is_a_sixteenth_where_sides_are_16k_plus_1(writer, deployed, tmp_path: Path) -> None:
    writer.conv(3, 8, 4).add("Relu").conv(8, 4, 4).resize([1, 4, 65, 97], "align_corners")
    contract, _ = deployed(writer.save(tmp_path / "network.onnx", [1, 3, 65, 97]))
    assert contract.network_alignment.scale_u == contract.network_alignment.scale_v == 1 / 16
    assert contract.network_alignment.offset_u == contract.network_alignment.offset_v == 0.0
    assert contract.stride == (16.0, 16.0)
    assert not contract.alignment_assumed


@pytest.mark.parametrize(
    ("size", "scale", "offset"), [(EVEN, 1 / 4, 0.5 / 4 - 0.5), (ODD, 1 / 4, 0.0)], ids=["4k", "4k + 1"]
)
def test_alignment_that_no_resize_tells_is_assumed_from_the_sides_and_said_so(
    writer, deployed, tmp_path: Path, size: tuple[int, int], scale: float, offset: float
) -> None:
    contract, _ = deployed(writer.body().save(tmp_path / "network.onnx", [1, 3, *size]))
    own = contract.network_alignment
    assert contract.alignment_assumed
    assert (own.scale_u, own.offset_u, own.scale_v, own.offset_v) == (scale, offset, scale, offset)


def tail_softmax(w) -> None:
    w.body().resize([1, 4, *EVEN]).add("Softmax", axis=1)


def tail_log_softmax(w) -> None:
    w.body().add("LogSoftmax", axis=1).resize([1, 4, *EVEN])


def tail_argmax(w) -> None:
    w.body().resize([1, 4, *EVEN]).add("ArgMax", axis=1, keepdims=0)


def tail_argmax_of_softmax_cast_and_squeezed(w) -> None:
    w.body().resize([1, 4, *EVEN]).add("Softmax", axis=-3).add("ArgMax", axis=1, keepdims=1)
    w.add("Squeeze", np.array([1])).add("Cast", to=TensorProto.INT32)


def tail_pixels_last(w) -> None:
    w.body().resize([1, 4, *EVEN]).add("Transpose", perm=[0, 2, 3, 1])


def tail_argmax_over_last_axis(w) -> None:
    w.body().add("Transpose", perm=[0, 2, 3, 1]).resize([1, *EVEN, 4]).add("ArgMax", axis=3, keepdims=0)


def tail_squeezed(w) -> None:
    w.body().resize([1, 4, *EVEN]).add("Squeeze", np.array([0]))


def tail_identity_resize_first(w) -> None:
    w.body().resize([1, 4, 12, 20], "align_corners").resize([1, 4, *EVEN]).add("Identity")


def tail_no_upsampling(w) -> None:
    w.body()


@pytest.mark.parametrize("tail", [value for name, value in list(globals().items()) if name.startswith("tail_")])
def test_every_tail_that_can_be_cut_gives_logits_at_their_own_stride(tail, writer, deployed, tmp_path: Path) -> None:
    tail(writer)
    integers = "argmax" in tail.__name__
    output_type = TensorProto.INT32 if "cast" in tail.__name__ else TensorProto.INT64
    source = writer.save(
        tmp_path / "network.onnx", [1, 3, *EVEN], output_type=output_type if integers else TensorProto.FLOAT
    )
    contract, path = deployed(source)
    assert contract.output == "logits"
    assert contract.output_size == (20, 12)
    assert contract.label_agreement >= 0.999
    assert not {"Softmax", "ArgMax"} & {node.op_type for node in onnx.load(path).graph.node}


def test_softmax_before_the_upsampling_stays_and_gives_probabilities(writer, deployed, picture, tmp_path: Path) -> None:
    writer.body().add("Softmax", axis=1).resize([1, 4, *EVEN])
    contract, path = deployed(writer.save(tmp_path / "network.onnx", [1, 3, *EVEN]))
    assert contract.output == "probabilities"
    assert contract.output_size == (20, 12)
    labels = OnnxRuntimeSegmenter(path).segment(picture).sample(np.array([[30.0, 40.0]]))
    (values,) = run_plain(path, {"pixels": picture})
    assert values.min() >= 0
    np.testing.assert_allclose(values.sum(axis=0), 1.0, rtol=1e-5)
    assert 1 / 4 <= labels.probability[0] <= 1.0


@pytest.mark.parametrize(("mode", "how"), [("nearest", "asymmetric"), ("cubic", "half_pixel")])
def test_upsampling_that_bilinear_sampling_would_not_repeat_is_kept(
    writer, deployed, tmp_path: Path, mode: str, how: str
) -> None:
    writer.body().resize([1, 4, *EVEN], how, mode)
    contract, _ = deployed(writer.save(tmp_path / "network.onnx", [1, 3, *EVEN]))
    assert contract.output_size == (EVEN[1], EVEN[0])
    assert contract.label_agreement >= 0.999


def test_only_the_last_of_two_upsamplings_is_cut(writer, deployed, tmp_path: Path) -> None:
    writer.body().resize([1, 4, 24, 40]).resize([1, 4, *EVEN])
    contract, _ = deployed(writer.save(tmp_path / "network.onnx", [1, 3, *EVEN]))
    assert contract.output_size == (40, 24)
    assert contract.label_agreement >= 0.999


@pytest.mark.parametrize("sigmoid", [False, True])
def test_one_class_against_the_rest_becomes_two(writer, deployed, picture, tmp_path: Path, sigmoid: bool) -> None:
    writer.body(classes=1).resize([1, 1, *EVEN])
    if sigmoid:
        writer.add("Sigmoid")
    source = writer.save(tmp_path / "network.onnx", [1, 3, *EVEN])
    contract, path = deployed(source, classes=2)
    assert contract.num_classes == 2
    assert contract.label_agreement >= 0.999
    (logits,) = run_plain(path, {"pixels": picture})
    assert logits.shape == (2, 12, 20)
    assert (logits[0] == 0).all()


def test_sigmoid_before_the_upsampling_becomes_two_probabilities(writer, deployed, picture, tmp_path: Path) -> None:
    writer.body(classes=1).add("Sigmoid").resize([1, 1, *EVEN])
    contract, path = deployed(writer.save(tmp_path / "network.onnx", [1, 3, *EVEN]), classes=2)
    (values,) = run_plain(path, {"pixels": picture})
    assert contract.output == "probabilities"
    np.testing.assert_allclose(values.sum(axis=0), 1.0, rtol=1e-6)


def test_network_that_gives_labels_alone_gives_uint8_labels(writer, deployed, picture, tmp_path: Path) -> None:
    writer.body().add("ArgMax", axis=1, keepdims=1).add("Cast", to=TensorProto.FLOAT)
    writer.resize([1, 1, *EVEN], "asymmetric", "nearest").add("Cast", to=TensorProto.INT64)
    contract, path = deployed(writer.save(tmp_path / "n.onnx", [1, 3, *EVEN], output_type=TensorProto.INT64))
    assert contract.output == "labels"
    assert contract.label_agreement == 1.0
    (labels,) = run_plain(path, {"pixels": picture})
    assert (labels.dtype, labels.shape) == (np.uint8, EVEN)
    assert OnnxRuntimeSegmenter(path).segment(picture).sample(np.array([[3.0, 3.0]])).probability[0] == 1.0


@pytest.mark.parametrize("opset", [13, 17, 18, 20])
def test_labels_option_gives_labels_and_their_probability(
    writer, deployed, picture, tmp_path: Path, opset: int
) -> None:
    writer.body().resize([1, 4, *EVEN])
    source = writer.save(tmp_path / "network.onnx", [1, 3, *EVEN], opset=opset)
    contract, path = deployed(source, labels=True)
    labels, confidence = run_plain(path, {"pixels": picture})
    (own,) = run_plain(source, {"image": network_input(picture, EVEN)})
    wanted = np.exp(own[0] - own[0].max(axis=0))
    assert contract.output == "labels"
    assert (labels == own[0].argmax(axis=0)).mean() > 0.999
    np.testing.assert_allclose(confidence, (wanted / wanted.sum(axis=0)).max(axis=0), atol=1e-4)


def test_channels_last_input(writer, deployed, tmp_path: Path) -> None:
    writer.add("Transpose", perm=[0, 3, 1, 2]).body().resize([1, 4, *EVEN])
    contract, _ = deployed(writer.save(tmp_path / "network.onnx", [1, *EVEN, 3]))
    assert contract.layout == "NHWC"
    assert contract.label_agreement >= 0.999


def test_uint8_input_that_the_network_normalises_itself(writer, deployed, tmp_path: Path) -> None:
    writer.add("Cast", to=TensorProto.FLOAT).add("Sub", np.float32(110)).add("Mul", np.float32(1 / 64))
    writer.body().resize([1, 4, *EVEN])
    source = writer.save(tmp_path / "network.onnx", [1, 3, *EVEN], input_type=TensorProto.UINT8)
    contract, _ = deployed(source, mean=(0.0,) * 3, scale=(1.0,) * 3)
    assert contract.label_agreement >= 0.999
    with pytest.raises(ModelError, match="is uint8: mean 0 and scale 1 wanted"):
        deployed(source)


def test_half_precision_network(writer, deployed, picture, tmp_path: Path) -> None:
    writer.dtype = np.float16
    writer.body().resize([1, 4, *EVEN])
    types = {"input_type": TensorProto.FLOAT16, "output_type": TensorProto.FLOAT16}
    # Two half-precision runs that differ in the last bit of their input differ along label boundaries.
    contract, path = deployed(writer.save(tmp_path / "network.onnx", [1, 3, *EVEN], **types), min_agreement=0.99)
    (logits,) = run_plain(path, {"pixels": picture})
    assert logits.dtype == np.float16
    assert contract.output_size == (20, 12)


@pytest.mark.parametrize("shape", [["batch", 3, *EVEN], ["batch", 3, "h", "w"], [1, "c", "h", "w"]])
def test_dynamic_input_is_fixed_at_the_network_size(writer, deployed, tmp_path: Path, shape: list) -> None:
    writer.body().scale_up([1, 1, 4, 4])
    source = writer.save(tmp_path / "network.onnx", shape)
    contract, _ = deployed(source, network_size=(64, 40), layout="NCHW")
    assert contract.network_size == (64, 40)
    assert contract.output_size == (16, 10)
    assert contract.label_agreement >= 0.999


def test_dynamic_input_without_a_size_is_refused(writer, deployed, tmp_path: Path) -> None:
    source = writer.body().save(tmp_path / "network.onnx", [1, 3, "h", "w"])
    with pytest.raises(ModelError, match="say with --network-size"):
        deployed(source)


def test_old_opset_is_converted(writer, deployed, tmp_path: Path) -> None:
    writer.body().add("Upsample", np.array([1, 1, 4, 4], np.float32), mode="linear")
    source = writer.save(tmp_path / "network.onnx", [1, 3, *EVEN], opset=9)
    contract, path = deployed(source)
    assert onnx.load(path).opset_import[0].version >= 13
    assert contract.label_agreement >= 0.999
    assert contract.output_size == (20, 12)


def test_external_weights_are_taken_in_and_hashed(writer, deployed, tmp_path: Path) -> None:
    source = (
        writer.body()
        .resize([1, 4, *EVEN])
        .save(
            tmp_path / "network.onnx",
            [1, 3, *EVEN],
            save_as_external_data=True,
            location="weights.bin",
            size_threshold=0,
        )
    )
    contract, path = deployed(source)
    assert contract.label_agreement >= 0.999
    assert not any(tensor.external_data for tensor in onnx.load(path, load_external_data=False).graph.initializer)
    both = source.read_bytes() + (tmp_path / "weights.bin").read_bytes()
    assert contract.source_sha256 == hashlib.sha256(both).hexdigest()


def test_bgr_network_sees_blue_first(writer, deployed, tmp_path: Path) -> None:
    source = writer.body().resize([1, 4, *EVEN]).save(tmp_path / "network.onnx", [1, 3, *EVEN])
    mean = (100.0, 110.0, 120.0)  # of R, G, B
    contract, path = deployed(source, channel_order="bgr", mean=mean, scale=(1.0, 0.5, 0.25))
    assert contract.label_agreement >= 0.999
    pixels = np.full((*EVEN, 3), (10, 20, 30), np.uint8)
    own = np.array([(30 - 120) * 0.25, (20 - 110) * 0.5, 10 - 100], np.float32)
    feed = np.broadcast_to(own[None, :, None, None], (1, 3, *EVEN))
    (wanted,) = run_plain(source, {"image": np.ascontiguousarray(feed)})
    (logits,) = run_plain(path, {"pixels": pixels})
    np.testing.assert_allclose(logits[:, 6, 10], wanted[0, :, 24, 40], rtol=1e-4)


def test_second_output_is_chosen_by_name(writer, deployed, tmp_path: Path) -> None:
    writer.body().resize([1, 4, *EVEN])
    source = writer.save(tmp_path / "network.onnx", [1, 3, *EVEN], outputs=[writer.tensor, "t1"])
    with pytest.raises(ModelError, match="say with --output which"):
        deployed(source)
    contract, path = deployed(source, output=writer.tensor)
    assert contract.label_agreement >= 0.999
    assert [output.name for output in onnx.load(path).graph.output] == ["logits"]


def test_contract_travels_in_the_file(writer, deployed, tmp_path: Path) -> None:
    source = writer.body().resize([1, 4, *EVEN]).save(tmp_path / "network.onnx", [1, 3, *EVEN])
    contract, path = deployed(source, image_size=(131, 83))
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert ModelContract.from_metadata(metadata, "file") == contract
    assert set(metadata) == {METADATA_KEY}
    assert contract.taxonomy == "classes4"
    assert contract.source_sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    assert OnnxRuntimeSegmenter(path).contract == contract


@pytest.mark.parametrize("settings", [{}, {"image_size": (131, 83)}, {"labels": True}])
def test_graph_keeps_to_what_tensorrt_accepts(writer, deployed, tmp_path: Path, settings: dict) -> None:
    source = writer.body().resize([1, 4, *EVEN]).save(tmp_path / "network.onnx", [1, 3, *EVEN])
    _, path = deployed(source, **settings)
    graph = onnx.load(path).graph
    nodes = list(graph.node)
    shape = [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim]
    assert shape == ([83, 131, 3] if "image_size" in settings else [0, 0, 3])
    assert graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    assert (nodes[0].op_type, nodes[0].attribute[0].i) == ("Cast", TensorProto.FLOAT)
    assert nodes[1].op_type == "Transpose"
    assert not any(a.name == "antialias" and a.i for node in nodes for a in node.attribute)
    producer = {name: node for node in nodes for name in node.output}
    for output in graph.output:
        if output.type.tensor_type.elem_type == TensorProto.UINT8:
            before = producer[producer[output.name].input[0]]
            assert (before.op_type, before.attribute[0].i) == ("Cast", TensorProto.FLOAT)


def test_image_size_equal_to_network_size_needs_no_resize(writer, deployed, tmp_path: Path) -> None:
    source = writer.body().resize([1, 4, *EVEN]).save(tmp_path / "network.onnx", [1, 3, *EVEN])
    _, path = deployed(source, image_size=(EVEN[1], EVEN[0]))
    assert "Resize" not in {node.op_type for node in onnx.load(path).graph.node}


def test_labels_that_change_leave_no_file(writer, deployed, tmp_path: Path) -> None:
    source = writer.body().resize([1, 4, *EVEN]).save(tmp_path / "network.onnx", [1, 3, *EVEN])
    with pytest.raises(ModelError, match=r"of the labels it gave before, 110\.00% wanted"):
        deployed(source, min_agreement=1.1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["classes4.yaml", "network.onnx"]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"channel_order": "gbr"}, r"channel_order: one of \('rgb', 'bgr'\) wanted, 'gbr' seen"),
        ({"scale": (1.0, 0.0, 1.0)}, "scale: three finite values"),
        ({"network_size": (0, 5)}, "network_size: positive width and height wanted"),
        ({"classes": 5}, "the network gives 4 classes, taxonomy 'classes5' has 5"),
        ({"output": "nothing"}, "output 'nothing': the network has"),
        ({"layout": "NHWC"}, "not three channels in layout NHWC"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(
    writer, deployed, tmp_path: Path, settings: dict, sentence: str
) -> None:
    source = writer.body().resize([1, 4, *EVEN]).save(tmp_path / "network.onnx", [1, 3, *EVEN])
    with pytest.raises(ModelError, match=sentence):
        deployed(source, **settings)


def test_file_that_is_no_onnx_is_refused_by_name(deployed, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not a network")
    with pytest.raises(ModelError, match=r"broken\.onnx: not an ONNX file"):
        deployed(tmp_path / "broken.onnx")
    with pytest.raises(ModelError, match=r"absent\.onnx"):
        deployed(tmp_path / "absent.onnx")


@pytest.mark.parametrize("image_size", [None, (211, 133), (EVEN[1], EVEN[0])], ids=["any", "fixed", "its own"])
def test_for_cpus_the_picture_is_resized_before_it_becomes_planes_and_the_scores_are_the_same(
    writer, deployed, tmp_path: Path, image_size: tuple[int, int] | None
) -> None:
    writer.body()
    source = writer.save(tmp_path / "network.onnx", [1, 3, *EVEN])
    width, height = image_size or (211, 133)
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    scores, order = {}, {}
    for target in ("any", "cpu"):
        _, path = deployed(source, target=target, image_size=image_size, channel_order="bgr")
        (scores[target],) = run_plain(path, {"pixels": pixels})
        order[target] = [node.op_type for node in onnx.load(path).graph.node if node.name.startswith("deploy/")]
    np.testing.assert_allclose(scores["cpu"], scores["any"], rtol=0, atol=1e-5)
    if "Resize" in order["any"]:
        assert order["any"].index("Transpose") < order["any"].index("Resize")
        assert order["cpu"].index("Transpose") > order["cpu"].index("Resize")
