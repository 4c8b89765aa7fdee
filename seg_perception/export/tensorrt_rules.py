"""What in an ONNX file is known to fail on which TensorRT, and what the parser of TensorRT-RTX says of it here and now.

The rules are written down from the documentation, from the sources and change logs of the ONNX parser (onnx-tensorrt,
8.5 to 10.6) and from trials with those of TensorRT-RTX 1.4 and 1.7; they find what has gone wrong before, and prove
nothing about the rest. The parser of TensorRT-RTX runs without a GPU, and is of the family of TensorRT 11; it picks no
kernels, so it says nothing about memory, speed or results.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from seg_perception.errors import ModelError
from seg_perception.export.graph import attribute, first_line, opset_of
from seg_perception.inference import tensorrt_library
from seg_perception.inference.engine_build import BuildOptions, build_engine
from seg_perception.inference.onnx_file import OnnxFile

VERSIONS = {  # version -> where it is met
    "8.5": "JetPack 5",
    "8.6": "",
    "10.3": "JetPack 6",
    "10.9": "",
    "10.13": "JetPack 7.0",
    "10.16": "JetPack 7.2",
    "11.4": "x86, JetPack 7.2.2",
}
SUPPORTED = ("10.3", "10.9", "10.13", "10.16", "11.4")

_OPSETS = {"8.5": (7, 17), "8.6": (7, 17), "10.3": (9, 20), "10.9": (9, 22), "10.13": (9, 24), "10.16": (9, 24),
           "11.4": (9, 25)}  # fmt: skip
_ALL = frozenset(VERSIONS)
_BEFORE_10 = frozenset({"8.5", "8.6"})

SINCE = {  # standard operator -> the first of VERSIONS whose parser imports it
    **dict.fromkeys(("GroupNormalization", "IsInf", "LayerNormalization"), "8.6"),
    **dict.fromkeys(("CastLike", "DeformConv", "Gelu", "Hardmax", "Mish"), "10.3"),
    **dict.fromkeys(("BlackmanWindow", "HammingWindow", "HannWindow", "STFT"), "10.9"),
}
_INTEGER = frozenset({"ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul"})
NOWHERE = _INTEGER | {  # standard operators that none imports
    "AffineGrid", "Bernoulli", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor",
    "CenterCropPad", "Col2Im", "Compress", "ConcatFromSequence", "DFT", "Det", "ImageDecoder", "MaxRoiPool",
    "MaxUnpool", "MelWeightMatrix", "Multinomial", "NegativeLogLikelihoodLoss", "Optional", "OptionalGetElement",
    "OptionalHasElement", "RegexFullMatch", "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase",
    "SequenceInsert", "SequenceLength", "SequenceMap", "SoftmaxCrossEntropyLoss", "SplitToSequence", "StringConcat",
    "StringNormalizer", "StringSplit", "TfIdfVectorizer", "Unique",
}  # fmt: skip
_PLACES = ("align_corners", "asymmetric", "half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn")  # of Resize
_MOST_OF_TOPK = 3840
_SMALL = 1 << 14  # values
_READ_UINT8 = {"Cast", "Shape", "Equal", "QuantizeLinear", "DequantizeLinear"}  # the last two have rules of their own
_SINCE_10: dict[int | None, str] = {
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.FLOAT8E4M3FN: "float8",
    TensorProto.FLOAT8E5M2: "float8",
    TensorProto.INT4: "int4",
    TensorProto.UINT4: "uint4",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that fails. node: empty where it is about the whole file. versions: on which it does."""

    versions: frozenset[str]
    node: str
    text: str


@dataclass(frozen=True, slots=True)
class RtxResult:
    """What TensorRT-RTX made of a file. library: name and version. refusal: empty where it built an engine."""

    library: str
    refusal: str
    seconds: float
    layers: int
    plan_bytes: int


def findings(path: str | Path) -> list[Finding]:
    """All that the rules find in a file. Raises ModelError for what is no ONNX file."""
    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise ModelError(f"model {path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # protobuf's own class, which depends on its implementation
        raise ModelError(f"model {path}: not an ONNX file ({first_line(error)})") from error
    return [finding for rule in _RULES for finding in rule(model)]


def try_rtx(path: str | Path, options: BuildOptions | None = None) -> RtxResult:
    """Parse and build with TensorRT-RTX, on the CPU. Raises ModelError where it is not installed."""
    library = tensorrt_library.load("tensorrt_rtx")
    model = OnnxFile.read(path)
    started_s = time.monotonic()
    try:
        report = build_engine(library, model, options).report
    except ModelError as error:
        return RtxResult(str(library), str(error), time.monotonic() - started_s, 0, 0)
    seconds = time.monotonic() - started_s
    return RtxResult(str(library), "", seconds, report["network_layers"], report["plan_bytes"])


def _opset(model: ModelProto) -> Iterator[Finding]:
    opset = opset_of(model)
    for version, (oldest, newest) in _OPSETS.items():
        if not oldest <= opset <= newest:
            yield Finding(frozenset({version}), "", f"opset {opset} seen, {oldest} to {newest} wanted; export it so")


def _operators(model: ModelProto) -> Iterator[Finding]:
    own = {(function.domain, function.name) for function in model.functions}
    for node in model.graph.node:
        kind = node.op_type
        if (node.domain, kind) in own:
            yield Finding(_BEFORE_10, _name(node), f"{kind} is a function of the model's own: inline it")
        elif node.domain not in ("", "ai.onnx"):
            yield _everywhere(node, f"operator {node.domain}.{kind} needs a plugin")
        elif kind in NOWHERE:
            remedy = "; quantise by QuantizeLinear and DequantizeLinear instead" if kind in _INTEGER else ""
            yield _everywhere(node, f"operator {kind} is not supported{remedy}")
        elif kind in SINCE:
            before = [*VERSIONS][: [*VERSIONS].index(SINCE[kind])]
            yield Finding(frozenset(before), _name(node), f"operator {kind} is not supported before {SINCE[kind]}")


def _types(model: ModelProto) -> Iterator[Finding]:
    kinds = _known_types(model)
    for node in model.graph.node:
        seen = [kinds.get(name) for name in node.input]
        if TensorProto.UINT8 in seen and node.op_type not in _READ_UINT8:
            yield _everywhere(node, f"{node.op_type} of uint8: cast to float before it")
        if node.op_type in ("Add", "Sub", "Mul", "Div", "Conv", "MatMul", "Concat"):
            floats = {kind for kind in seen if kind in (TensorProto.FLOAT, TensorProto.FLOAT16)}
            if len(floats) > 1:
                text = f"{node.op_type} of float32 and float16: networks are strongly typed; cast one of them"
                yield Finding(_ALL - _BEFORE_10, _name(node), text)
        for kind in dict.fromkeys(kinds.get(name) for name in node.output):
            if kind in _SINCE_10:
                yield Finding(_BEFORE_10, _name(node), f"{_SINCE_10[kind]}: not supported before 10")


def _shapes_of_operators(model: ModelProto) -> Iterator[Finding]:
    """What of a known operator is not supported."""
    constants = _constants(model)
    for node in model.graph.node:
        if node.op_type == "Resize":
            if attribute(node, "antialias", 0):
                yield _everywhere(node, "Resize with antialias=1: not supported; export it without")
            place = attribute(node, "coordinate_transformation_mode", "half_pixel")
            if place not in _PLACES:
                yield _everywhere(node, f"Resize with {place}: one of {', '.join(_PLACES)} wanted")
            if attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
                yield _everywhere(
                    node, "Resize that keeps the aspect ratio: not supported; give it the sizes that result"
                )
        if node.op_type == "MaxPool" and any(node.output[1:]):
            yield _everywhere(node, "MaxPool that gives indices: not supported")
        if node.op_type in ("MaxPool", "AveragePool"):
            dilations: Any = attribute(node, "dilations", ())
            if any(step != 1 for step in dilations):
                yield _everywhere(node, f"{node.op_type} with dilations: not supported")
        if node.op_type == "TopK" and node.input[1] in constants:
            count = int(constants[node.input[1]].max())
            if count > _MOST_OF_TOPK:
                yield _everywhere(node, f"TopK of {count}: at most {_MOST_OF_TOPK} wanted")


def _quantization(model: ModelProto) -> Iterator[Finding]:
    kinds, constants = _known_types(model), _constants(model)
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        seen = [kinds.get(name) for name in node.input]
        zeros = [constants[name] for name in node.input[2:3] if name in constants]
        if TensorProto.UINT8 in seen[:1] * (node.op_type == "DequantizeLinear") + seen[2:]:
            yield _everywhere(node, f"{node.op_type} with uint8: quantise symmetrically to int8")
        elif any(zero.any() for zero in zeros):
            yield _everywhere(node, f"{node.op_type} with a zero point that is not 0: quantise symmetrically")
        if node.op_type == "DequantizeLinear" and seen[0] == TensorProto.INT32:
            yield _everywhere(node, "DequantizeLinear of an int32 bias: leave biases in floating point")


def _everywhere(node: NodeProto, text: str) -> Finding:
    return Finding(_ALL, _name(node), text)


def _name(node: NodeProto) -> str:
    return f"node '{node.name or (node.output[0] if node.output else '')}'"


def _constants(model: ModelProto) -> dict[str, NDArray]:
    """The small constants by name, whose values lie in the file itself."""
    found = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = node.attribute[0].t
    return {
        name: numpy_helper.to_array(tensor)
        for name, tensor in found.items()
        if math.prod(tensor.dims) <= _SMALL and tensor.data_location != TensorProto.EXTERNAL
    }


def _known_types(model: ModelProto) -> dict[str, int]:
    """Element types by tensor, as far as shape inference tells."""
    with contextlib.suppress(Exception):  # an operator that it does not know is none of its business here
        model = onnx.shape_inference.infer_shapes(model)
    graph = model.graph
    values = [*graph.input, *graph.output, *graph.value_info]
    known = {value.name: value.type.tensor_type.elem_type for value in values}
    return {**known, **{tensor.name: tensor.data_type for tensor in graph.initializer}}


_RULES: tuple[Callable[[ModelProto], Iterator[Finding]], ...] = (
    _opset, _operators, _types, _shapes_of_operators, _quantization
)  # fmt: skip
