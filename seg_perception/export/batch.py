"""A deployed network for one picture -> the same for several at once, of any kind: float32, float16, INT8.

The pictures stay the first axis from input to outputs. What stands around the network was written here and is known
node by node; inside it only constants that hold the one picture of before (sizes of a Resize, a Reshape) have to
change. Whether that was all is shown by running both.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper

from seg_perception.errors import ModelError
from seg_perception.export.graph import GraphIndex, add_constant, attribute, first_line, prune
from seg_perception.export.verification import synthetic_picture
from seg_perception.inference.contract import METADATA_KEY, ModelContract
from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter

MIN_AGREEMENT = 0.999
_ELEMENTWISE = {"Cast", "Identity", "Round", "Add", "Sub", "Mul", "Div"}
_AXIS = {"ArgMax": -1, "Softmax": -1, "Concat": 0}  # operators with an axis, and its default


def to_batch(source: str | Path, destination: str | Path, count: int) -> float:
    """Write the form of the deployed file `source` that takes 1 to `count` pictures; returns the share of equal labels.

    Both are run by ONNX Runtime on the CPU on `count` different pictures. Raises ModelError, leaving no file, for what
    is not a deployed network for one picture, and where labels change.
    """
    source, destination = Path(source), Path(destination)
    if count < 2:
        raise ModelError(f"batch: two pictures or more wanted, {count} seen")
    try:
        model = onnx.load(source)
    except Exception as error:  # protobuf's own class, which depends on its implementation
        raise ModelError(f"model {source}: cannot be read ({first_line(error)})") from error
    contract = ModelContract.from_metadata({entry.key: entry.value for entry in model.metadata_props}, str(source))
    if contract.batch > 1:
        raise ModelError(f"model {source}: one picture at a time wanted, {contract.batch} seen; start from its source")
    _Batching(model, source).change()
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            entry.value = dataclasses.replace(contract, batch=count).to_json()
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".batch") as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        agreement = _agreement(source, path, contract, count)
        if agreement < MIN_AGREEMENT:
            raise ModelError(
                f"model {source}: {count} pictures at once, {agreement:.2%} of its labels stay, "
                f"{MIN_AGREEMENT:.2%} wanted"
            )
        path.replace(destination)
    return agreement


class _Batching:
    """One change, node by node in topological order.

    Tensors are of one of three kinds: of a single picture, which gets a first axis of pictures; of a network, whose
    first axis of 1 becomes that of pictures; and everything else, which does not depend on how many there are.
    """

    def __init__(self, model: ModelProto, path: Path) -> None:
        self._model = model
        self._path = path
        self._index = GraphIndex(model)
        self._single = {model.graph.input[0].name}
        self._network: set[str] = set()
        self._nodes: list[NodeProto] = []

    def change(self) -> None:
        """In place."""
        for node in self._model.graph.node:
            if self._single.intersection(node.input):
                self._change_single(node)
            elif self._network.intersection(node.input):
                self._change_network(node)
            self._nodes.append(node)
        graph = self._model.graph
        del graph.node[:]
        graph.node.extend(self._nodes)
        del graph.value_info[:]
        for value in (graph.input[0], *graph.output):
            if value.name not in self._single:
                raise self._refusal(f"output '{value.name}'", "the pictures are no longer apart")
            sides = [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
            kind = value.type.tensor_type.elem_type
            value.CopyFrom(helper.make_tensor_value_info(value.name, kind, ["pictures", *sides]))
        prune(self._model)

    def _change_single(self, node: NodeProto) -> None:
        """What `wrapping` writes around a network: each axis moves on by one."""
        if self._network.intersection(node.input):
            raise self._refusal(_name(node), "joins one picture with what a network made of it")
        made = self._single
        if node.op_type == "Transpose":
            perm = [0, *(axis + 1 for axis in attribute(node, "perm", []))]  # type: ignore[attr-defined]
            _set_attribute(node, "perm", perm)
        elif node.op_type == "Unsqueeze" and self._axes(node) == [0]:
            node.op_type = "Identity"
            del node.input[1:]
            made = self._network
        elif node.op_type == "ReduceMax":
            axes = [axis + 1 for axis in self._axes(node)]
            if len(node.input) > 1:
                node.input[1] = self._constant(node, np.array(axes))
            else:
                _set_attribute(node, "axes", axes)
        elif node.op_type in _AXIS:
            axis = int(attribute(node, "axis", _AXIS[node.op_type]))  # type: ignore[call-overload]
            _set_attribute(node, "axis", axis + (axis >= 0))
        elif node.op_type not in _ELEMENTWISE:
            raise self._refusal(_name(node), f"{node.op_type} of one picture is not understood")
        made.update(node.output)

    def _change_network(self, node: NodeProto) -> None:
        """Whatever is in a network: only what holds its one picture in a constant, or takes it away, changes."""
        made = self._network
        if node.op_type in ("Shape", "Size"):
            return
        if node.op_type == "Squeeze" and 0 in self._axes(node):
            axes = [axis for axis in self._axes(node) if axis != 0]
            del node.input[1:]
            if axes:
                node.input.append(self._constant(node, np.array(axes)))
            else:
                node.op_type = "Identity"
            made = self._single
        elif node.op_type == "Reshape":
            shape = self._index.constant(node.input[1])
            if shape is not None and len(shape) and shape[0] == 1:
                node.input[1] = self._constant(node, np.array([0, *shape[1:]]))
        elif node.op_type == "Resize" and len(node.input) > 3:
            sizes = self._index.constant(node.input[3])
            if sizes is not None and len(sizes) == 4:
                self._change_sizes(node, sizes)
        made.update(name for name in node.output if name)

    def _change_sizes(self, node: NodeProto, sizes: NDArray) -> None:
        """The number of pictures as it is at run time. (`axes` would say it shorter; TensorRT-RTX 1.7 refuses it.)"""
        base = f"{node.output[0]}/pictures"
        zero, one = (add_constant(self._model, f"{base}/{k}", np.array([k], np.int64)) for k in (0, 1))
        rest = add_constant(self._model, f"{base}/sizes", sizes[1:].astype(np.int64))
        self._nodes += [
            helper.make_node("Shape", [node.input[0]], [f"{base}/shape"]),
            helper.make_node("Slice", [f"{base}/shape", zero, one], [f"{base}/count"]),
            helper.make_node("Concat", [f"{base}/count", rest], [base], axis=0),
        ]
        node.input[3] = base

    def _axes(self, node: NodeProto) -> list[int]:
        """Of a Squeeze, an Unsqueeze or a reduction, as input or attribute; empty where they are computed."""
        if len(node.input) > 1:
            value = self._index.constant(node.input[1])
            return [] if value is None else [int(axis) for axis in value]
        return list(attribute(node, "axes", []))  # type: ignore[call-overload]

    def _constant(self, node: NodeProto, value: NDArray) -> str:
        return add_constant(self._model, f"{node.output[0]}/batched", value.astype(np.int64))

    def _refusal(self, where: str, why: str) -> ModelError:
        return ModelError(f"model {self._path}: several pictures at once: {where}: {why}")


def _agreement(source: Path, made: Path, contract: ModelContract, count: int) -> float:
    """Share of labels that both give alike, of the picture where fewest are: `count` at once, and the last alone."""
    picture = synthetic_picture(contract.image_size or contract.network_size)
    pictures = [np.ascontiguousarray(np.roll(picture, k * picture.shape[1] // count, axis=1)) for k in range(count)]
    one, several = OnnxRuntimeSegmenter(source), OnnxRuntimeSegmenter(made)
    try:
        found = [*several.segment_all(pictures), several.segment(pictures[-1])]
        size = contract.output_size
        equal = [
            (answer.label_image(size) == one.segment(pixels).label_image(size)).mean()
            for answer, pixels in zip(found, [*pictures, pictures[-1]], strict=True)
        ]
    finally:
        one.close()
        several.close()
    return float(np.min(equal))


def _set_attribute(node: NodeProto, name: str, value: object) -> None:
    kept = [entry for entry in node.attribute if entry.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def _name(node: NodeProto) -> str:
    return f"node '{node.name or node.output[0]}' ({node.op_type})"
