"""Reading the end of a segmentation network: where its class scores are, and which up-sampling can be cut off.

Cutting is exact where sampling the smaller map bilinearly gives what the network itself would have given: a linear
Resize, followed by nothing but a softmax over the classes, an arg-max over them, or changes of type and layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto

from seg_perception.errors import ModelError
from seg_perception.export.graph import GraphIndex, attribute, run, session_of
from seg_perception.inference.contract import Alignment

_LAYOUT_OPS = ("Identity", "Cast", "Transpose", "Squeeze", "Unsqueeze")
_ACTIVATIONS = ("Softmax", "LogSoftmax", "Sigmoid")
_TAIL_OPS = (*_LAYOUT_OPS, *_ACTIVATIONS, "ArgMax", "Resize")
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)


@dataclass(frozen=True, slots=True)
class Tap:
    """A tensor of the network that a deployed graph can read. layout: a letter an axis, of N, C, H, W and 1 (length 1).

    size: (width, height). alignment: network pixel to sample of this tensor. assumed: no Resize of the graph tells that
    (see `assumed_alignment`).
    """

    tensor: str
    layout: str
    size: tuple[int, int]
    alignment: Alignment
    assumed: bool
    dtype: np.dtype


@dataclass(frozen=True, slots=True)
class MapTaps:
    """An output that is a plain map. whole: as the network up-samples it; own: at its own stride."""

    whole: Tap
    own: Tap


@dataclass(frozen=True, slots=True)
class Head:
    """What a network gives, and where.

    scores: the class scores as the network up-samples them, before softmax; None where it gives labels alone.
    logits: the same at their own stride, up-sampling cut off (equal to `scores` where nothing could be cut).
    labels: the labels, where the network gives nothing else. channels: of the scores; 1: one class against the rest.
    are_probabilities: the network applies softmax before it up-samples. output: the network's own output, and
    `output_layout` its axes; `output_is_labels`, `output_is_probability`: what it holds.
    """

    output: str
    output_layout: str
    output_is_labels: bool
    output_is_probability: bool
    scores: Tap | None
    logits: Tap | None
    labels: Tap | None
    channels: int
    are_probabilities: bool


def find_head(
    model: ModelProto,
    feed: Mapping[str, NDArray],
    network_size: tuple[int, int],
    *,
    gives_labels: bool | None = None,
    num_classes: int | None = None,
) -> Head:
    """Read the end of `model`, whose single output is the segmentation. `feed`: one input, run once to see shapes.

    gives_labels: whether the output holds labels; None: labels where it is made by an arg-max or holds integers.
    num_classes: helps to tell channels from rows where both are possible. Raises ModelError.
    """
    return _HeadReader(model, feed, network_size, num_classes).read(gives_labels)


def find_map(
    model: ModelProto, output: str, feed: Mapping[str, NDArray], network_size: tuple[int, int], channels: int
) -> MapTaps:
    """Where the values of `output`, (1, channels, h, w), can be read. Raises ModelError where it is no such map."""
    return _HeadReader(model, feed, network_size, channels, output).read_map()


class _HeadReader:
    """Walks from an output, by default the first, towards the input, one node at a time."""

    def __init__(
        self,
        model: ModelProto,
        feed: Mapping[str, NDArray],
        network_size: tuple[int, int],
        num_classes: int | None,
        output: str = "",
    ) -> None:
        self._index = GraphIndex(model)
        self._network_size = network_size
        self._num_classes = num_classes
        self._output = output or model.graph.output[0].name
        self._values = run(session_of(model, self._watched()), feed)

    def read(self, gives_labels: bool | None) -> Head:
        """See `find_head`."""
        argmax = self._find_argmax() if gives_labels is not False else None
        value = self._values[self._output]
        if argmax is None and (gives_labels or not np.issubdtype(value.dtype, np.floating)):
            return self._labels_only()
        if argmax is not None:
            start = argmax.input[0]
            rank = self._values[start].ndim
            axis = int(attribute(argmax, "axis", 0)) % rank  # type: ignore[call-overload]
            layout = _layout_with_channel_at(axis, rank, self._output)
        else:
            start, layout = self._output, self._guess_layout(value.shape)
        scores, layout_of_scores, activated = self._before_activation(start, layout)
        channels = self._values[scores].shape[layout_of_scores.index("C")]
        scores_tap = self._tap(scores, layout_of_scores)
        logits_tap = self._cut(scores_tap)
        blends_probabilities = self._follows_softmax(logits_tap)
        return Head(
            output=self._output,
            output_layout="" if argmax is not None else layout,
            output_is_labels=argmax is not None,
            output_is_probability=activated or blends_probabilities,
            scores=scores_tap,
            logits=logits_tap,
            labels=None,
            channels=channels,
            are_probabilities=blends_probabilities,
        )

    def read_map(self) -> MapTaps:
        """See `find_map`."""
        value = self._values[self._output]
        layout = self._guess_layout(value.shape)
        if value.shape[layout.index("C")] != self._num_classes or not np.issubdtype(value.dtype, np.floating):
            raise ModelError(
                f"output '{self._output}': floats (1, {self._num_classes}, h, w) wanted, "
                f"{value.dtype} of shape {value.shape} seen"
            )
        whole = self._tap(self._output, layout)
        return MapTaps(whole, self._cut(whole))

    def _watched(self) -> list[str]:
        """Every tensor of the tail, and the scales of its Resizes."""
        names, name = [], self._output
        while name:
            names.append(name)
            node = self._index.producer.get(name)
            if node is None or node.op_type not in _TAIL_OPS:
                break
            if node.op_type == "Resize" and len(node.input) > 2 and node.input[2] in self._index.producer:
                names.append(node.input[2])
            name = node.input[0]
        return names

    def _find_argmax(self) -> NodeProto | None:
        name = self._output
        while (node := self._index.producer.get(name)) is not None:
            if node.op_type == "ArgMax":
                return node
            if node.op_type not in ("Identity", "Cast", "Squeeze", "Unsqueeze"):
                return None
            name = node.input[0]
        return None

    def _labels_only(self) -> Head:
        shape = self._values[self._output].shape
        if len([side for side in shape if side > 1]) != 2:
            raise ModelError(f"output '{self._output}' of shape {shape}: labels of one picture (1, h, w) wanted")
        sides = iter("HW")
        layout = "".join("1" if side == 1 else next(sides) for side in shape)
        tap = self._tap(self._output, layout)
        return Head(self._output, layout, True, False, None, None, tap, 0, False)

    def _guess_layout(self, shape: tuple[int, ...]) -> str:
        """Which axis of the scores holds the classes: the one that leaves a picture of the network's proportions."""
        if len(shape) not in (3, 4) or (len(shape) == 4 and shape[0] != 1):
            raise ModelError(f"output '{self._output}' of shape {shape}: class scores (1, C, h, w) wanted")
        first, second = ("NCHW", "NHWC") if len(shape) == 4 else ("CHW", "HWC")
        fits = [shape[layout.index("C")] == self._num_classes for layout in (first, second)]
        if fits[0] != fits[1]:
            return first if fits[0] else second
        return min((first, second), key=lambda layout: self._stretch(shape, layout))

    def _stretch(self, shape: tuple[int, ...], layout: str) -> float:
        """How far the strides along both axes differ; 0: equal."""
        width, height = self._network_size
        return abs(float(np.log(width / shape[layout.index("W")] * shape[layout.index("H")] / height)))

    def _tap(self, tensor: str, layout: str) -> Tap:
        shape = self._values[tensor].shape
        size = (shape[layout.index("W")], shape[layout.index("H")])
        alignment = assumed_alignment(self._network_size, size)
        return Tap(tensor, layout, size, alignment, size != self._network_size, self._values[tensor].dtype)

    def _before_activation(self, tensor: str, layout: str) -> tuple[str, str, bool]:
        """Strip what changes neither the best class nor, once softmax is applied to the blend, its probability."""
        activated = False
        while (node := self._index.producer.get(tensor)) is not None:
            before: str | None = None
            if node.op_type in _LAYOUT_OPS:
                before = self._layout_before(node, layout)
            elif self._is_softmax(node, layout) or self._is_lone_sigmoid(node, layout):
                before, activated = layout, True
            if before is None:
                break
            tensor, layout = node.input[0], before
        return tensor, layout, activated

    def _cut(self, tap: Tap) -> Tap:
        """The scores before their last up-sampling, if nothing but layout and at most one real Resize lies between."""
        tensor, layout, alignment, best = tap.tensor, tap.layout, tap.alignment, tap
        resized = False
        while (node := self._index.producer.get(tensor)) is not None:
            if node.op_type in _LAYOUT_OPS:
                layout_before = self._layout_before(node, layout)
                if layout_before is None:
                    break
                tensor, layout = node.input[0], layout_before
                continue
            step = self._linear_upsampling(node, layout) if node.op_type == "Resize" else None
            if step is None or (resized and step != Alignment()):
                break
            resized = resized or step != Alignment()
            tensor, alignment = node.input[0], step.after(alignment)
            value = self._values[tensor]
            size = (value.shape[layout.index("W")], value.shape[layout.index("H")])
            best = Tap(tensor, layout, size, alignment, tap.assumed, value.dtype)
        return best

    def _linear_upsampling(self, node: NodeProto, layout: str) -> Alignment | None:
        """How a Resize maps its output's pixels to its input's; None where bilinear sampling would not repeat it."""
        before, after = self._values[node.input[0]].shape, self._values[node.output[0]].shape
        same = all(a == b for a, b, axis in zip(before, after, layout, strict=True) if axis not in "HW")
        grows = all(a <= b for a, b in zip(before, after, strict=True))
        mode = attribute(node, "mode", "nearest")
        if mode != "linear" or not same or not grows:
            return None
        if attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
            return None
        how = str(attribute(node, "coordinate_transformation_mode", "half_pixel"))
        scales = self._scales(node, before, after)
        axes = [
            resize_axis(how, before[axis], after[axis], scales[axis]) for axis in (layout.index("W"), layout.index("H"))
        ]
        if axes[0] is None or axes[1] is None:
            return None
        return Alignment(*axes[0], *axes[1])

    def _scales(self, node: NodeProto, before: tuple[int, ...], after: tuple[int, ...]) -> list[float]:
        """Scale of a Resize along each axis: the given one, or the ratio of sizes."""
        scales = [b / a for a, b in zip(before, after, strict=True)]
        name = node.input[2] if len(node.input) > 2 else ""
        given = self._values[name] if name in self._values else self._index.constant(name)
        if given is not None and given.size:
            axes = attribute(node, "axes", None) or range(len(before))
            for axis, scale in zip(axes, given, strict=True):  # type: ignore[call-overload]
                scales[axis] = float(scale)
        return scales

    def _layout_before(self, node: NodeProto, layout: str) -> str | None:
        """The layout of a node's input, given that of its output; None where it cannot be told."""
        if node.op_type == "Cast":
            return layout if attribute(node, "to", 0) in _FLOATS else None
        if node.op_type == "Transpose":
            order = attribute(node, "perm", list(reversed(range(len(layout)))))
            before = [""] * len(layout)
            for axis, origin in enumerate(order):  # type: ignore[arg-type, var-annotated]
                before[origin] = layout[axis]
            return "".join(before)
        if node.op_type in ("Squeeze", "Unsqueeze"):
            return self._layout_before_squeeze(node, layout)
        return layout

    def _layout_before_squeeze(self, node: NodeProto, layout: str) -> str | None:
        rank = self._values[node.input[0]].ndim
        axes = self._index.constant(node.input[1]) if len(node.input) > 1 else None
        if axes is None:
            return None
        if node.op_type == "Squeeze":
            letters = iter(layout)
            gone = {int(axis) % rank for axis in axes}
            return "".join("1" if axis in gone else next(letters) for axis in range(rank))
        added = {int(axis) % len(layout) for axis in axes}
        if any(layout[axis] in "CHW" for axis in added):
            return None
        return "".join(letter for axis, letter in enumerate(layout) if axis not in added)

    def _is_softmax(self, node: NodeProto, layout: str) -> bool:
        return node.op_type in ("Softmax", "LogSoftmax") and _axis(node, len(layout)) == layout.index("C")

    def _is_lone_sigmoid(self, node: NodeProto, layout: str) -> bool:
        return node.op_type == "Sigmoid" and self._values[node.output[0]].shape[layout.index("C")] == 1

    def _follows_softmax(self, tap: Tap) -> bool:
        """Whether a softmax (or sigmoid) lies before `tap`, so that what is blended are probabilities."""
        tensor, layout = tap.tensor, tap.layout
        while (node := self._index.producer.get(tensor)) is not None:
            if node.op_type == "Sigmoid" or self._is_softmax(node, layout):
                return node.op_type != "LogSoftmax"  # a blend of those differs from one of logits by a constant
            before = self._layout_before(node, layout) if node.op_type in _LAYOUT_OPS else None
            if node.op_type == "Resize":
                before = layout
            if before is None:
                return False
            tensor, layout = node.input[0], before
        return False


def resize_axis(how: str, before: int, after: int, scale: float) -> tuple[float, float] | None:
    """(scale, offset) from a pixel of a Resize's output to its input along one axis; None for an unknown `how`.

    The formulas are those of the ONNX operator Resize, attribute coordinate_transformation_mode.
    """
    if before == after and abs(scale - 1.0) < 1e-6:
        return 1.0, 0.0
    if how == "half_pixel" or (how == "pytorch_half_pixel" and after > 1):
        return 1.0 / scale, 0.5 / scale - 0.5
    if how == "align_corners" and after > 1:
        return (before - 1) / (after - 1), 0.0
    if how == "asymmetric":
        return 1.0 / scale, 0.0
    return None


def assumed_alignment(network_size: tuple[int, int], size: tuple[int, int]) -> Alignment:
    """Network pixel to output where no Resize tells: corners where (side - 1) divides exactly, else half-pixel.

    Networks with sides 16k + 1 keep their corners in place at every stride; all others divide their sides.
    """
    axes = []
    for network, own in zip(network_size, size, strict=True):
        divides = network % own == 0
        corners = own > 1 and not divides and (network - 1) % (own - 1) == 0
        step = (own - 1) / (network - 1) if corners else own / network
        axes.append((step, 0.0 if corners else 0.5 * step - 0.5))
    return Alignment(*axes[0], *axes[1])


def _axis(node: NodeProto, rank: int) -> int:
    return int(attribute(node, "axis", -1)) % rank  # type: ignore[call-overload]


def _layout_with_channel_at(axis: int, rank: int, output: str) -> str:
    layouts = {(4, 1): "NCHW", (4, 3): "NHWC", (3, 0): "CHW", (3, 2): "HWC"}
    if (rank, axis) not in layouts:
        raise ModelError(f"output '{output}': its ArgMax runs over axis {axis} of {rank}; (1, C, h, w) wanted")
    return layouts[rank, axis]
