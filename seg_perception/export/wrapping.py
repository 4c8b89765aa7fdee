"""The nodes around a network that make it take raw pixels and give what `ModelContract` promises.

They keep to what TensorRT accepts: the cast to float comes before the transpose, no antialiased Resize, and labels
reach uint8 through float.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from seg_perception.export.graph import add_constant, opset_of, prune
from seg_perception.export.head import Head, Tap
from seg_perception.inference.contract import INPUT_NAME, MAPS

NAMESPACE = "deploy/"


class _Writer:
    """Appends nodes and remembers the last tensor."""

    def __init__(self, model: ModelProto, tensor: str) -> None:
        self._model = model
        self.nodes: list[NodeProto] = []
        self.tensor = tensor

    def add(self, op: str, name: str, *constants: NDArray, also: tuple[str, ...] = (), **attributes: Any) -> str:
        """One node on the last tensor, `constants` stored as its further inputs."""
        stored = [
            add_constant(self._model, f"{NAMESPACE}{name}/{k}", value) if value.size else ""
            for k, value in enumerate(constants)
        ]
        output = f"{NAMESPACE}{name}"
        self.nodes.append(helper.make_node(op, [self.tensor, *also, *stored], [output], name=output, **attributes))
        self.tensor = output
        return output

    def finish(self, output: str) -> None:
        """Give the last tensor its public name."""
        self.nodes[-1].output[0] = output
        self.tensor = output


def prepend_input(
    model: ModelProto,
    *,
    layout: str,
    channel_order: str,
    mean: tuple[float, ...],
    scale: tuple[float, ...],
    network_size: tuple[int, int],
    image_size: tuple[int, int] | None,
    planes_first: bool = True,
) -> None:
    """Put before the network: raw pixels (H, W, 3) uint8 RGB -> float -> resized -> (x - mean) * scale -> in order.

    planes_first: the whole picture becomes planes, and these are resized; else what it was resized to becomes planes.
    """
    source = model.graph.input[0]
    source_type = source.type.tensor_type.elem_type
    write = _Writer(model, INPUT_NAME)
    write.add("Cast", "float", to=TensorProto.FLOAT)
    if planes_first:
        write.add("Transpose", "planes", perm=[2, 0, 1])
    write.add("Unsqueeze", "batch", np.array([0]))
    if image_size != network_size:
        width, height = network_size
        nothing, sizes = np.zeros(0, np.float32), [1, 3, height, width] if planes_first else [1, height, width, 3]
        how = "half_pixel"
        write.add(
            "Resize", "resized", nothing, nothing, np.array(sizes), mode="linear", coordinate_transformation_mode=how
        )
    if not planes_first:
        write.add("Transpose", "planes", perm=[0, 3, 1, 2])
    if any(mean):
        write.add("Sub", "centred", np.array(mean, np.float32).reshape(1, -1, 1, 1))
    if any(value != 1.0 for value in scale):
        write.add("Mul", "scaled", np.array(scale, np.float32).reshape(1, -1, 1, 1))
    if channel_order == "bgr":
        write.add("Gather", "bgr", np.array([2, 1, 0]), axis=1)
    if layout == "NHWC":
        write.add("Transpose", "pixels_last", perm=[0, 2, 3, 1])
    if source_type == TensorProto.UINT8:
        write.add("Round", "rounded")
    if source_type != TensorProto.FLOAT:
        write.add("Cast", "network_type", to=source_type)
    write.finish(source.name)
    shape: list[int | str] = [image_size[1], image_size[0], 3] if image_size else ["height", "width", 3]
    del model.graph.input[:]
    model.graph.input.append(helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, shape))
    network = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*write.nodes, *network])


def append_logits(model: ModelProto, head: Head, tap: Tap, maps: Mapping[str, Tap]) -> None:
    """Let the network give `logits` (C, h, w): `tap`, its axes in that order; one class alone gets its opposite.

    maps: the taps of `centre` and `offset`, where it is to give these too (see `ModelContract`).
    """
    write = _to_planes(model, tap, head)
    if not write.nodes:
        write.add("Identity", "logits")
    write.finish("logits")
    nodes, outputs = write.nodes, [_planes("logits", tap, max(head.channels, 2))]
    for name, own in maps.items():
        write = _Writer(model, own.tensor)
        layout = "HW" if MAPS[name] == 1 else "CHW"
        dropped = np.array([axis for axis, letter in enumerate(own.layout) if letter not in layout])
        if dropped.size:
            write.add("Squeeze", f"{name}_map", dropped)
        kept = [letter for letter in own.layout if letter in layout]
        if kept != list(layout) or not write.nodes:
            write.add("Transpose", f"{name}_planes", perm=[kept.index(letter) for letter in layout])
        write.finish(name)
        nodes = [*nodes, *write.nodes]
        outputs.append(_planes(name, own, *[MAPS[name]] * ("C" in layout)))
    _set_outputs(model, nodes, outputs)


def _planes(name: str, tap: Tap, *channels: int) -> ValueInfoProto:
    """An output (channels, h, w), or (h, w)."""
    elem_type = helper.np_dtype_to_tensor_dtype(tap.dtype)
    return helper.make_tensor_value_info(name, elem_type, [*channels, tap.size[1], tap.size[0]])


def append_labels(model: ModelProto, head: Head) -> None:
    """Let the network give `labels` (h, w) uint8 and, from class scores, their `confidence` (h, w) float32."""
    tap = head.scores or head.labels
    assert tap is not None
    shape = [tap.size[1], tap.size[0]]
    outputs = [helper.make_tensor_value_info("labels", TensorProto.UINT8, shape)]
    nodes = []
    if head.scores is None:
        write = _Writer(model, tap.tensor)
        write.add("Squeeze", "map", np.array([axis for axis, letter in enumerate(tap.layout) if letter == "1"]))
    else:
        write = _to_planes(model, tap, head)
        scores = write.tensor
        confidence = _Writer(model, scores)
        confidence.add("Cast", "scores", to=TensorProto.FLOAT)
        if not head.are_probabilities:
            confidence.add("Softmax", "probabilities", axis=0)
        if opset_of(model) >= 18:
            confidence.add("ReduceMax", "confidence", np.array([0]), keepdims=0)
        else:
            confidence.add("ReduceMax", "confidence", axes=[0], keepdims=0)
        confidence.finish("confidence")
        nodes = confidence.nodes
        outputs.append(helper.make_tensor_value_info("confidence", TensorProto.FLOAT, shape))
        write.add("ArgMax", "best", axis=0, keepdims=0)
    write.add("Cast", "labels_float", to=TensorProto.FLOAT)
    write.add("Cast", "labels", to=TensorProto.UINT8)
    write.finish("labels")
    _set_outputs(model, [*write.nodes, *nodes], outputs)


def _to_planes(model: ModelProto, tap: Tap, head: Head) -> _Writer:
    """From a tap's layout to (C, h, w), one class alone completed to two."""
    write = _Writer(model, tap.tensor)
    layout = tap.layout
    single = [axis for axis, letter in enumerate(layout) if letter in "N1"]
    if single:
        write.add("Squeeze", "single", np.array(single))
        layout = "".join(letter for letter in layout if letter not in "N1")
    if layout != "CHW":
        write.add("Transpose", "classes_first", perm=[layout.index(letter) for letter in "CHW"])
    if head.channels == 1:
        one = write.tensor
        write.add("Mul", "none", np.array(-1.0 if head.are_probabilities else 0.0, tap.dtype))
        if head.are_probabilities:
            write.add("Add", "rest", np.array(1.0, tap.dtype))
        write.add("Concat", "both", also=(one,), axis=0)
    return write


def _set_outputs(model: ModelProto, nodes: list[NodeProto], outputs: list) -> None:
    model.graph.node.extend(nodes)
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    prune(model)
