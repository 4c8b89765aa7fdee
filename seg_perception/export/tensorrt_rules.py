"""What in an ONNX file is known to fail on which TensorRT, and what the parser of TensorRT-RTX says of it here and now.

The rules are written down from the documentation and from trials with the parsers of TensorRT-RTX 1.4 and 1.7; they
find what has gone wrong before, and prove nothing about the rest. The parser of TensorRT-RTX runs without a GPU, and is
of the family of TensorRT 11; it picks no kernels, so it says nothing about memory, speed or results.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto, TensorProto

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
_FIRST_TYPED = {"10.3", "10.9", "10.13", "10.16", "11.4"}
_ALL = set(VERSIONS)


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


def _other_domains(model: ModelProto) -> Iterator[Finding]:
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") and not any(node.op_type == f.name for f in model.functions):
            yield _everywhere(node, f"operator {node.domain}.{node.op_type} needs a plugin")


def _types(model: ModelProto) -> Iterator[Finding]:
    kinds = _known_types(model)
    for node in model.graph.node:
        seen = [kinds.get(name) for name in node.input]
        if node.op_type == "Transpose" and seen[0] == TensorProto.UINT8:
            yield _everywhere(node, "Transpose of uint8: cast to float before it")
        if node.op_type in ("Add", "Sub", "Mul", "Div", "Conv", "MatMul", "Concat"):
            floats = {kind for kind in seen if kind in (TensorProto.FLOAT, TensorProto.FLOAT16)}
            if len(floats) > 1:
                text = f"{node.op_type} of float32 and float16: networks are strongly typed; cast one of them"
                yield Finding(frozenset(_FIRST_TYPED), _name(node), text)


def _resize(model: ModelProto) -> Iterator[Finding]:
    for node in model.graph.node:
        if node.op_type == "Resize" and attribute(node, "antialias", 0):
            yield _everywhere(node, "Resize with antialias=1: not supported; export it without")
        if node.op_type == "Resize" and attribute(node, "mode", b"nearest") == b"cubic":
            yield Finding(frozenset({"8.5", "8.6"}), _name(node), "cubic Resize: not supported before 10")


def _quantization(model: ModelProto) -> Iterator[Finding]:
    kinds = _known_types(model)
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        seen = [kinds.get(name) for name in node.input]
        if TensorProto.UINT8 in seen[:1] * (node.op_type == "DequantizeLinear") + seen[2:]:
            yield _everywhere(node, f"{node.op_type} with uint8: quantise symmetrically to int8")
        if node.op_type == "DequantizeLinear" and seen[0] == TensorProto.INT32:
            yield _everywhere(node, "DequantizeLinear of an int32 bias: leave biases in floating point")


def _everywhere(node: NodeProto, text: str) -> Finding:
    return Finding(frozenset(_ALL), _name(node), text)


def _name(node: NodeProto) -> str:
    return f"node '{node.name or (node.output[0] if node.output else '')}'"


def _known_types(model: ModelProto) -> dict[str, int]:
    """Element types by tensor, as far as shape inference tells."""
    with contextlib.suppress(Exception):  # an operator that it does not know is none of its business here
        model = onnx.shape_inference.infer_shapes(model)
    graph = model.graph
    values = [*graph.input, *graph.output, *graph.value_info]
    known = {value.name: value.type.tensor_type.elem_type for value in values}
    return {**known, **{tensor.name: tensor.data_type for tensor in graph.initializer}}


_RULES: tuple[Callable[[ModelProto], Iterator[Finding]], ...] = (_opset, _other_domains, _types, _resize, _quantization)
