"""Known bad networks are found by the rules; the real parser of TensorRT-RTX refuses them too, and takes the good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from seg_perception.errors import ModelError
from seg_perception.export.deploy import DeploySpec, deploy
from seg_perception.export.half import to_half
from seg_perception.export.tensorrt_rules import NOWHERE, SINCE, SUPPORTED, findings, try_rtx
from seg_perception.inference import tensorrt_library

FLOAT, UINT8, INT8, HALF = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT8, TensorProto.FLOAT16


def model_of(
    nodes: list, kind: int, shape: list, *tensors: TensorProto, out: int = FLOAT, opset: int = 17
) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", out, None)],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def tensor(name: str, value: object, kind: type = np.float32) -> TensorProto:
    return numpy_helper.from_array(np.array(value, kind), name)


def uint8_transpose() -> ModelProto:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], name="turn", perm=[2, 0, 1]),
        helper.make_node("Cast", ["t"], ["y"], to=FLOAT),
    ]
    return model_of(nodes, UINT8, [8, 8, 3])


def antialias() -> ModelProto:
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], name="shrink", mode="linear", antialias=1)
    return model_of([node], FLOAT, [1, 3, 8, 8], tensor("scales", [1, 1, 0.5, 0.5]), opset=18)


def mixed_types() -> ModelProto:
    # A model that onnx itself calls invalid, as converters to float16 have made them.
    nodes = [helper.make_node("Cast", ["x"], ["h"], to=HALF), helper.make_node("Add", ["h", "one"], ["y"], name="sum")]
    return model_of(nodes, FLOAT, [1, 8], tensor("one", [1.0]), out=HALF)


def unknown_operator() -> ModelProto:
    return model_of([helper.make_node("Frobnicate", ["x"], ["y"], name="odd", domain="acme")], FLOAT, [1, 8])


def quantized(kind: type, opset: int = 17) -> ModelProto:
    zero = tensor("zero", 128 if kind is np.uint8 else 0, kind)
    weight_zero = tensor("weight_zero", 0, np.int8)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="quantize"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], name="dequantize"),
        helper.make_node("DequantizeLinear", ["w", "scale", "weight_zero"], ["wd"], name="weights"),
        helper.make_node("Conv", ["d", "wd"], ["y"], name="conv"),
    ]
    weights = numpy_helper.from_array(np.ones((32, 32, 3, 3), np.int8), "w")
    made = model_of(nodes, FLOAT, [1, 32, 16, 16], tensor("scale", 0.05), zero, weight_zero, weights, opset=opset)
    if opset > 18:
        made.opset_import[0].version = opset
    return made


def quantized_bias() -> ModelProto:
    nodes = [
        helper.make_node("DequantizeLinear", ["b", "scale"], ["bias"], name="bias"),
        helper.make_node("Add", ["x", "bias"], ["y"]),
    ]
    return model_of(nodes, FLOAT, [1, 8], tensor("scale", 0.05), tensor("b", [3] * 8, np.int32))


def one(
    operator: str,
    *tensors: TensorProto | str,
    kind: int = FLOAT,
    out: int = FLOAT,
    shape: Sequence[int] = (1, 3, 8, 8),
    indices: bool = False,
    **attributes: object,
) -> ModelProto:
    """A network of one node, which reads the input and then the constants; '' stands for an input left out."""
    constants = [entry for entry in tensors if not isinstance(entry, str)]
    names = ["x", *(entry if isinstance(entry, str) else entry.name for entry in tensors)]
    node = helper.make_node(operator, names, ["y", "indices"] if indices else ["y"], name="it", **attributes)
    return model_of([node], kind, list(shape), *constants, out=out, opset=18)


def scaled(**attributes: object) -> ModelProto:
    return one("Resize", "", tensor("scales", [1, 1, 2, 2]), mode="linear", **attributes)


def own_function() -> ModelProto:
    made = model_of([helper.make_node("Twice", ["x"], ["y"], domain="acme")], FLOAT, [1, 8])
    made.opset_import.append(helper.make_opsetid("acme", 1))
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    made.functions.append(helper.make_function("acme", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 17)]))
    return made


def asymmetric() -> ModelProto:
    return one("QuantizeLinear", tensor("scale", 0.1), tensor("zero", 3, np.int8))


BAD: dict[Callable[[], ModelProto], str] = {
    uint8_transpose: "node 'turn': Transpose of uint8: cast to float before it",
    antialias: "node 'shrink': Resize with antialias=1",
    mixed_types: "node 'sum': Add of float32 and float16",
    unknown_operator: "node 'odd': operator acme.Frobnicate needs a plugin",
    lambda: quantized(np.uint8): "node 'quantize': QuantizeLinear with uint8",
    quantized_bias: "node 'bias': DequantizeLinear of an int32 bias",
    asymmetric: "node 'it': QuantizeLinear with a zero point that is not 0",
    lambda: one("Relu", kind=UINT8): "node 'it': Relu of uint8: cast to float",
    lambda: one("Det", shape=(1, 3, 3)): "node 'it': operator Det is not supported",
    lambda: one("DynamicQuantizeLinear"): "node 'it': operator DynamicQuantizeLinear is not supported; quantise by Qua",
    lambda: scaled(coordinate_transformation_mode="half_pixel_symmetric"): "node 'it': Resize with half_pixel_symmet",
    lambda: scaled(keep_aspect_ratio_policy="not_larger"): "node 'it': Resize that keeps the aspect ratio",
    lambda: one("MaxPool", kernel_shape=[2, 2], indices=True): "node 'it': MaxPool that gives indices",
    lambda: one("MaxPool", kernel_shape=[2, 2], dilations=[2, 2]): "node 'it': MaxPool with dilations",
    lambda: one(
        "TopK", tensor("k", [3841], np.int64), shape=(1, 9999), axis=1, indices=True
    ): "node 'it': TopK of 3841",
}
NAMES = [
    "uint8 transpose", "antialias", "mixed types", "unknown", "uint8 q/dq", "int32 bias", "zero point", "uint8", "det",
    "integer quantization", "resize mode", "aspect ratio", "indices", "dilations", "topk",
]  # fmt: skip


def saved(model: ModelProto, folder: Path) -> Path:
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


@pytest.mark.parametrize(("make", "sentence"), BAD.items(), ids=NAMES)
def test_a_known_bad_network_is_found_with_its_node(
    make: Callable[[], ModelProto], sentence: str, tmp_path: Path
) -> None:
    found = findings(saved(make(), tmp_path))
    named = {f"{entry.node}: {entry.text}": entry for entry in found}
    (finding,) = (entry for words, entry in named.items() if words.startswith(sentence))
    assert set(SUPPORTED) <= finding.versions


def test_an_opset_beyond_a_version_is_told_for_that_version_alone(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    failing = {
        opset: {version for entry in findings(saved(model_of([node], FLOAT, [1, 8], opset=opset), tmp_path))
                for version in entry.versions}
        for opset in (17, 20, 22, 24)
    }  # fmt: skip
    assert failing == {
        17: set(),
        20: {"8.5", "8.6"},
        22: {"8.5", "8.6", "10.3"},
        24: {"8.5", "8.6", "10.3", "10.9"},
    }


@pytest.mark.parametrize(
    ("model", "sentence", "versions"),
    [
        (lambda: one("Gelu"), "operator Gelu is not supported before 10.3", {"8.5", "8.6"}),
        (lambda: one("IsInf"), "operator IsInf is not supported before 8.6", {"8.5"}),
        (
            lambda: one("Cast", to=TensorProto.BFLOAT16, out=TensorProto.BFLOAT16),
            "bfloat16: not supported before 10",
            {"8.5", "8.6"},
        ),
        (own_function, "Twice is a function of the model's own: inline it", {"8.5", "8.6"}),
    ],
)
def test_what_came_with_a_version_is_told_for_those_before_it(
    model: Callable[[], ModelProto], sentence: str, versions: set[str], tmp_path: Path
) -> None:
    assert {entry.versions for entry in findings(saved(model(), tmp_path)) if entry.text == sentence} == {
        frozenset(versions)
    }


def test_what_every_version_takes_has_nothing_known_against_it(tmp_path: Path) -> None:
    good = [
        one("Cast", kind=UINT8, to=FLOAT),
        one("TopK", tensor("k", [3840], np.int64), shape=(1, 9999), axis=1, indices=True),
        one("MaxPool", kernel_shape=[2, 2], dilations=[1, 1]),
        scaled(coordinate_transformation_mode="pytorch_half_pixel"),
        one("Resize", "", tensor("scales", [1, 1, 2, 2]), mode="cubic"),
    ]
    for model in good:
        model.opset_import[0].version = 17
        assert findings(saved(model, tmp_path)) == []


def test_zero_points_that_lie_beside_the_file_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(asymmetric(), path, save_as_external_data=True, location="data", size_threshold=0)
    (tmp_path / "data").unlink()
    assert {entry.text for entry in findings(path)} == {"opset 18 seen, 7 to 17 wanted; export it so"}


def test_what_deploy_writes_has_nothing_known_against_it(good: dict[str, Path]) -> None:
    for name, path in good.items():
        assert findings(path) == [], name


def test_symmetric_int8_has_nothing_known_against_it(tmp_path: Path) -> None:
    assert findings(saved(quantized(np.int8), tmp_path)) == []


def test_what_is_no_network_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x07broken")
    for name in ("broken.onnx", "absent.onnx"):
        with pytest.raises(ModelError, match=name):
            findings(tmp_path / name)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Deployed networks of every kind of output, in both precisions."""
    folder = tmp_path_factory.mktemp("good")
    weights = np.random.default_rng(0).normal(0.0, 1.0, (19, 3, 4, 4)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["small"], strides=[4, 4]),
        helper.make_node("Resize", ["small", "", "", "sizes"], ["y"], mode="linear"),
    ]
    sizes = tensor("sizes", [1, 19, 40, 64], np.int64)
    source = saved(model_of(nodes, FLOAT, [1, 3, 40, 64], tensor("w", weights), sizes), folder)
    made = {}
    for name, more in {"logits": {}, "labels": {"labels": True}, "fixed": {"image_size": (96, 60)}}.items():
        made[name] = folder / f"{name}.onnx"
        deploy(source, made[name], DeploySpec(mean=(128.0,) * 3, scale=(1 / 128,) * 3, **more))
        made[f"{name} fp16"] = folder / f"{name}.fp16.onnx"
        to_half(made[name], made[f"{name} fp16"])
    return made


@pytest.mark.tensorrt_rtx
def test_the_real_builder_takes_what_deploy_writes_in_both_precisions(good: dict[str, Path]) -> None:
    results = {name: try_rtx(path) for name, path in good.items()}
    assert {name: result.refusal for name, result in results.items() if result.refusal} == {}
    assert all(result.plan_bytes > 0 and result.layers > 0 for result in results.values())


@pytest.mark.tensorrt_rtx
def test_the_real_builder_takes_the_real_deeplab_in_both_precisions(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "deeplab_cityscapes" / "deeplab_mnv_cityscapes_513x1025.onnx"
    for labels in (False, True):
        spec = DeploySpec(mean=(128.0,) * 3, scale=(1 / 128,) * 3, labels=labels)
        deploy(source, tmp_path / "deeplab.onnx", spec)
        to_half(tmp_path / "deeplab.onnx", tmp_path / "deeplab.fp16.onnx")
        for name in ("deeplab.onnx", "deeplab.fp16.onnx"):
            assert try_rtx(tmp_path / name).refusal == "", (name, labels)


@pytest.mark.tensorrt_rtx
@pytest.mark.parametrize("make", BAD, ids=NAMES)
def test_the_real_builder_refuses_a_known_bad_network(make: Callable[[], ModelProto], tmp_path: Path) -> None:
    assert "tensorrt_rtx" in try_rtx(saved(make(), tmp_path)).refusal


@pytest.mark.tensorrt_rtx
def test_the_real_parser_knows_the_operators_that_the_rules_take_and_no_other() -> None:
    library = tensorrt_library.load("tensorrt_rtx")
    logger = tensorrt_library.make_logger(library)
    builder = library.module.Builder(logger)
    parser = library.module.OnnxParser(builder.create_network(library.network_flags(dla=False)), logger)
    assert [name for name in NOWHERE if parser.supports_operator(name)] == []
    standard = {
        schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain and schema.since_version < 26
    }
    without_plugin = {"DeformConv"}
    assert {name for name in standard if not parser.supports_operator(name)} - without_plugin <= NOWHERE
    assert [name for name in SINCE.keys() - without_plugin if not parser.supports_operator(name)] == []


@pytest.mark.tensorrt_rtx
def test_the_real_builder_takes_symmetric_int8(tmp_path: Path) -> None:
    assert try_rtx(saved(quantized(np.int8), tmp_path)).refusal == ""
