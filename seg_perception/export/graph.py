"""Small tools around an ONNX graph: reading, tidying, asking for constants and for shapes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, inliner, numpy_helper, shape_inference, version_converter

from seg_perception.errors import ModelError

OLDEST_OPSET = 13  # the first in which Softmax has one meaning and Squeeze takes its axes as an input
CONVERTED_OPSET = 17  # the newest that TensorRT 8.5 reads
_CONSTANT_FORMS = {
    "value": None,
    "value_int": np.int64,
    "value_ints": np.int64,
    "value_float": np.float32,
    "value_floats": np.float32,
}
_LARGE = 1024  # values; larger constants say nothing about shapes


def read_model(path: Path) -> ModelProto:
    """A model with its external data, made plain: no local functions, no Constant nodes, opset 13 or newer."""
    try:
        model = onnx.load(path)
    except OSError as error:
        raise ModelError(f"model {path}: cannot be read ({error})") from error
    except Exception as error:  # protobuf's own class, which depends on its implementation
        raise ModelError(f"model {path}: not an ONNX file ({first_line(error)})") from error
    if not model.graph.node:
        raise ModelError(f"model {path}: not an ONNX file (it holds no network)")
    if model.functions:
        model = inliner.inline_local_functions(model)
    model = _modern(model, path)
    _constants_to_initializers(model)
    del model.graph.value_info[:]
    return model


def file_hash(path: Path) -> str:
    """SHA-256 of the file and of the external data that it names, in the order of their names."""
    digest = hashlib.sha256(path.read_bytes())
    shell = onnx.load(path, load_external_data=False)
    entries = (entry for tensor in shell.graph.initializer for entry in tensor.external_data)
    for location in sorted({entry.value for entry in entries if entry.key == "location"}):
        digest.update((path.parent / location).read_bytes())
    return digest.hexdigest()


def first_line(error: Exception) -> str:
    """The first line of an error's text: libraries append pages."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def opset_of(model: ModelProto) -> int:
    """Version of the standard operators that the model uses."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def _modern(model: ModelProto, path: Path) -> ModelProto:
    """Version-convert a model whose operators are too old."""
    if model.ir_version < 4:  # before, every initializer was an input too
        names = {tensor.name for tensor in model.graph.initializer}
        inputs = [entry for entry in model.graph.input if entry.name not in names]
        del model.graph.input[:]
        model.graph.input.extend(inputs)
        model.ir_version = 8
    if opset_of(model) >= OLDEST_OPSET:
        return model
    try:
        return version_converter.convert_version(model, CONVERTED_OPSET)
    except Exception as error:
        raise ModelError(
            f"model {path}: opset {opset_of(model)} seen, {OLDEST_OPSET} or newer wanted, and it cannot be converted "
            f"({first_line(error)}); export it again with a newer opset"
        ) from error


def _constants_to_initializers(model: ModelProto) -> None:
    """Constant nodes become initializers, so that a constant is found in one way only."""
    kept = []
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name in _CONSTANT_FORMS:
            value = helper.get_attribute_value(node.attribute[0])
            dtype = _CONSTANT_FORMS[node.attribute[0].name]
            array = numpy_helper.to_array(value) if dtype is None else np.array(value, dtype)
            model.graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
        else:
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)


class GraphIndex:
    """Who makes a tensor, and what the constants hold. Valid until the graph is changed."""

    def __init__(self, model: ModelProto) -> None:
        self.producer: dict[str, NodeProto] = {name: node for node in model.graph.node for name in node.output if name}
        self._initializer = {tensor.name: tensor for tensor in model.graph.initializer}

    def constant(self, name: str) -> NDArray | None:
        """The value of an initializer, or None for any other tensor."""
        tensor = self._initializer.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)


def attribute(node: NodeProto, name: str, default: object) -> object:
    """An attribute's value; strings as str."""
    for entry in node.attribute:
        if entry.name == name:
            value = helper.get_attribute_value(entry)
            return value.decode() if isinstance(value, bytes) else value
    return default


def set_input_shape(model: ModelProto, shape: Iterable[int]) -> None:
    """Give the one input a fixed shape, and forget the outputs' shapes, which follow from it."""
    model.graph.input[0].type.tensor_type.shape.CopyFrom(
        helper.make_tensor_type_proto(TensorProto.FLOAT, list(shape)).tensor_type.shape
    )
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")


def add_constant(model: ModelProto, name: str, value: NDArray) -> str:
    """Store an initializer and return its name."""
    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
    return name


def infer_shapes(model: ModelProto) -> dict[str, tuple[int, ...]]:
    """Shapes of every tensor whose shape is fixed. Weights are left out of the inference, so that it is fast."""
    shell = ModelProto()
    shell.CopyFrom(_without_weights(model))
    try:
        inferred = shape_inference.infer_shapes(shell, data_prop=True)
    except Exception as error:
        raise ModelError(f"shapes cannot be inferred ({first_line(error)})") from error
    shapes = {}
    for entry in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        if entry.type.tensor_type.HasField("shape"):
            sides = [d.dim_value if d.HasField("dim_value") else -1 for d in entry.type.tensor_type.shape.dim]
            if min(sides, default=0) >= 0:
                shapes[entry.name] = tuple(sides)
    return shapes


def _without_weights(model: ModelProto) -> ModelProto:
    """The same graph with large initializers turned into inputs of their shape."""
    small = [tensor for tensor in model.graph.initializer if _values(tensor) <= _LARGE]
    large = [tensor for tensor in model.graph.initializer if _values(tensor) > _LARGE]
    graph = helper.make_graph(
        model.graph.node,
        "shapes",
        [*model.graph.input, *(helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in large)],
        model.graph.output,
        small,
    )
    return helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)


def _values(tensor: TensorProto) -> int:
    return int(np.prod(tensor.dims, dtype=np.int64))


def prune(model: ModelProto) -> None:
    """Remove the nodes and constants that no output needs."""
    needed = {output.name for output in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
            needed.update(_captured(node))
    initializers = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    del model.graph.node[:]
    model.graph.node.extend(reversed(kept))
    del model.graph.initializer[:]
    model.graph.initializer.extend(initializers)


def _captured(node: NodeProto) -> set[str]:
    """Every tensor that the subgraphs of a node may read from outside."""
    names: set[str] = set()
    for entry in node.attribute:
        for graph in (entry.g, *entry.graphs):
            for inner in graph.node:
                names.update(inner.input)
                names.update(_captured(inner))
            names.update(output.name for output in graph.output)
    return names


def session_of(model: ModelProto, extra_outputs: Iterable[str] = ()) -> Any:
    """An ONNX Runtime session on the CPU; `extra_outputs` are tensors to be read beside the outputs."""
    import onnxruntime

    present = {output.name for output in model.graph.output}
    wanted = [name for name in dict.fromkeys(extra_outputs) if name not in present]
    if wanted:
        watched = ModelProto()
        watched.CopyFrom(model)
        watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in wanted)
        model = watched
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"ONNX Runtime refuses the network ({first_line(error)})") from error


def run(session: Any, feed: Mapping[str, NDArray], outputs: Iterable[str] = ()) -> dict[str, NDArray]:
    """Run a session; its outputs, or those named, by name."""
    names = list(outputs) or [output.name for output in session.get_outputs()]
    try:
        return dict(zip(names, session.run(names, dict(feed)), strict=True))
    except Exception as error:
        raise ModelError(f"the network does not run ({first_line(error)})") from error
