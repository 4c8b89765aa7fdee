"""Running a fully convolutional network at another input size than the one it was exported for.

Exported graphs hold sizes of feature maps as constants: repeats of a Tile, sizes of a Resize, shapes of a Reshape. Such
a constant is the size that some tensor computed earlier had at the exported input size; it becomes the size that this
tensor has at the new one. Where two such tensors now differ, where none is found, or where the new size would shift the
feature maps against the picture (sides of the form 16k + 1 stay of that form), the size is refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper

from seg_perception.errors import ModelError
from seg_perception.export.graph import (
    GraphIndex,
    add_constant,
    attribute,
    infer_shapes,
    prune,
    run,
    session_of,
    set_input_shape,
)

_UNBOUNDED = 2**31 - 1  # a Slice that ends here or beyond runs to the end
Size = tuple[int, int]  # (height, width) in this module, as the graphs have it


def resize_network(model: ModelProto, layout: str, network_size: tuple[int, int]) -> ModelProto:
    """The same network for a picture of `network_size` (width, height). Raises ModelError where it cannot be.

    layout: of the input, NCHW or NHWC. The change is checked by undoing it: back at the exported size, every constant
    has to be what it was.
    """
    old_shape = infer_shapes(model)[model.graph.input[0].name]
    model = _with_constant_sizes(model, old_shape)
    rows = layout.index("H")
    exported_size: Size = (old_shape[rows], old_shape[rows + 1])
    forth = _Resizer(model, rows, (network_size[1], network_size[0]))
    resized = forth.resize()
    forth.check_strides()
    restored = _Resizer(resized, rows, exported_size).resize()
    # Sent through the same mill, so that scales are written as sizes on both sides.
    if _constants_of(restored) != _constants_of(_Resizer(model, rows, exported_size).resize()):
        raise ModelError(
            f"network size {network_size[0]}x{network_size[1]}: the change of constants cannot be undone, "
            "so that they do not follow from the input size alone"
        )
    return resized


def _with_constant_sizes(model: ModelProto, input_shape: tuple[int, ...]) -> ModelProto:
    """A copy in which sizes joined from a computed head and a constant (height, width) are one constant.

    Some exporters write the batch and the channels of a Resize as they are at run time, and its sizes as numbers.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    index = GraphIndex(copy)
    joined = {
        name: index.producer[name]
        for node in copy.graph.node
        if node.op_type in _CHANGES
        for name in node.input[1:]
        if name in index.producer and index.producer[name].op_type == "Concat"
    }
    mixed = [name for name, node in joined.items() if _ends_in_constants(node, index)]
    if mixed:
        dtype = helper.tensor_dtype_to_np_dtype(copy.graph.input[0].type.tensor_type.elem_type)
        values = run(session_of(copy, mixed), {copy.graph.input[0].name: np.zeros(input_shape, dtype)}, mixed)
        kept = [node for node in copy.graph.node if not set(mixed).intersection(node.output)]
        del copy.graph.node[:]
        copy.graph.node.extend(kept)
        for name, value in values.items():
            add_constant(copy, name, value)
    return copy


def _ends_in_constants(node: NodeProto, index: GraphIndex) -> bool:
    """Whether the last two values that a Concat joins are constants."""
    known = 0
    for name in reversed(node.input):
        value = index.constant(name)
        if value is None:
            break
        known += value.size
    return known >= 2


class _Resizer:
    """One change of size, node by node in topological order."""

    def __init__(self, model: ModelProto, rows: int, new_size: Size) -> None:
        self._model = ModelProto()
        self._model.CopyFrom(model)
        self._index = GraphIndex(self._model)
        self._old = infer_shapes(model)
        self._input = model.graph.input[0].name
        old_shape = self._old[self._input]
        self._old_size: Size = (old_shape[rows], old_shape[rows + 1])
        self._new_size = new_size
        new_shape = list(old_shape)
        new_shape[rows : rows + 2] = new_size
        set_input_shape(self._model, new_shape)
        self._new: dict[str, tuple[int, ...]] = {}
        self._stale = True

    def resize(self) -> ModelProto:
        """The changed copy."""
        done = {self._input}
        for node in self._model.graph.node:
            if node.op_type in ("If", "Loop", "Scan"):
                raise ModelError(f"{_name(node)}: a network with control flow keeps its exported size")
            change = _CHANGES.get(node.op_type)
            if change is not None:
                change(self, node, done)
            done.update(node.output)
        prune(self._model)
        return self._model

    def _new_shapes(self) -> dict[str, tuple[int, ...]]:
        if self._stale:
            self._new = infer_shapes(self._model)
            self._stale = False
        return self._new

    def _sizes_now(self, done: set[str]) -> dict[Size, set[Size]]:
        """Size of a feature map at the exported input size -> its sizes now, from the tensors computed so far."""
        new_shapes = self._new_shapes()
        sizes: dict[Size, set[Size]] = defaultdict(set)
        sizes[self._old_size].add(self._new_size)
        for name in done:
            old, new = self._old.get(name, ()), new_shapes.get(name, ())
            if len(old) == 4 and len(new) == 4 and name != self._input:
                sizes[old[2], old[3]].add((new[2], new[3]))
        return sizes

    def _size_now(self, node: NodeProto, old: Size, done: set[str]) -> Size:
        """What a constant size becomes."""
        found = self._sizes_now(done).get(old, set())
        if len(found) != 1:
            why = f"it could become any of {sorted(found)}" if found else "no feature map before it has that size"
            raise ModelError(f"{_name(node)}: holds the constant size {old} (height, width), and {why}")
        return next(iter(found))

    def _replace(self, node: NodeProto, position: int, value: NDArray) -> None:
        while len(node.input) <= position:
            node.input.append("")
        base, names = f"{node.output[0]}/constant{position}", {t.name for t in self._model.graph.initializer}
        name = next(candidate for k in range(len(names) + 1) if (candidate := f"{base}.{k}") not in names)
        node.input[position] = add_constant(self._model, name, value)
        self._index = GraphIndex(self._model)
        self._stale = True

    def _constant(self, node: NodeProto, position: int) -> NDArray | None:
        value = self._index.constant(node.input[position]) if len(node.input) > position else None
        return None if value is None or not value.size else np.array(value)

    def change_resize(self, node: NodeProto, done: set[str]) -> None:
        """Sizes follow the map they were taken from; so do scales of a single sample, or that are no whole numbers."""
        before, after = self._old.get(node.input[0]), self._old.get(node.output[0])
        scales, sizes = self._constant(node, 2), self._constant(node, 3)
        pooled = before is not None and before[2:] == (1, 1)
        if sizes is None and (scales is None or (np.array_equal(scales, np.round(scales)) and not pooled)):
            return
        if before is None or after is None or len(after) != 4:
            raise ModelError(f"{_name(node)}: resizes to a constant size, and not a picture (1, C, h, w)")
        rows = 2 if after[1] == before[1] else 1
        if after[rows : rows + 2] == before[rows : rows + 2]:
            new = self._new_shapes()[node.input[0]][rows : rows + 2]
        else:
            new = self._size_now(node, (after[rows], after[rows + 1]), done)
        target = np.array(after, np.int64)
        target[rows : rows + 2] = new
        axes = attribute(node, "axes", None)
        self._replace(node, 3, target if axes is None else target[list(axes)])  # type: ignore[call-overload]
        node.input[2] = ""

    def change_tile(self, node: NodeProto, done: set[str]) -> None:
        """A single sample repeated to the size of a map: what exporters make of image pooling."""
        repeats, before = self._constant(node, 1), self._old.get(node.input[0])
        if repeats is None or before is None or len(before) != 4 or tuple(repeats[2:]) == (1, 1):
            return
        if before[2:] != (1, 1):
            raise ModelError(f"{_name(node)}: repeats a map of {before[2:]} by a constant; only one sample can be")
        repeats[2:] = self._size_now(node, (int(repeats[2]), int(repeats[3])), done)
        self._replace(node, 1, repeats)

    def change_expand(self, node: NodeProto, done: set[str]) -> None:
        """Expand and ConstantOfShape: the last two of four sides are a map's."""
        position = 1 if node.op_type == "Expand" else 0
        shape = self._constant(node, position)
        if shape is None or len(shape) != 4 or tuple(shape[2:]) == (1, 1):
            return
        shape[2:] = self._size_now(node, (int(shape[2]), int(shape[3])), done)
        self._replace(node, position, shape)

    def change_reshape(self, node: NodeProto, done: set[str]) -> None:
        """The one replacement of a map's size (or of its product) that keeps the count of values."""
        shape, before = self._constant(node, 1), self._new_shapes().get(node.input[0])
        if shape is None or before is None or -1 in shape:
            return
        count = int(np.prod(before))
        resolved = [before[axis] if side == 0 else int(side) for axis, side in enumerate(shape)]
        if int(np.prod(resolved)) == count:
            return
        candidates = {c for c in self._reshape_candidates(resolved, done) if int(np.prod(c)) == count}
        if len(candidates) != 1:
            raise ModelError(f"{_name(node)}: reshapes to the constant {shape.tolist()}, which does not follow")
        self._replace(node, 1, np.array(next(iter(candidates)), np.int64))

    def _reshape_candidates(self, shape: list[int], done: set[str]) -> Iterator[tuple[int, ...]]:
        for (old_height, old_width), found in self._sizes_now(done).items():
            for new_height, new_width in found:
                for axis in range(len(shape)):
                    if tuple(shape[axis : axis + 2]) == (old_height, old_width):
                        yield (*shape[:axis], new_height, new_width, *shape[axis + 2 :])
                    if shape[axis] == old_height * old_width:
                        yield (*shape[:axis], new_height * new_width, *shape[axis + 1 :])

    def change_slice(self, node: NodeProto, done: set[str]) -> None:
        """A positive end on a map's axis is the map's size, and follows it."""
        before, ends = self._old.get(node.input[0]), self._constant(node, 2)
        if before is None or ends is None or len(before) != 4:
            return
        axes = self._constant(node, 3)
        of_axis = {int(axis) % 4: k for k, axis in enumerate(range(len(ends)) if axes is None else axes)}
        fixed = [axis for axis in (2, 3) if axis in of_axis and 0 < ends[of_axis[axis]] < _UNBOUNDED]
        if not fixed:
            return
        wanted = [int(ends[of_axis[axis]]) if axis in fixed else before[axis] for axis in (2, 3)]
        new = self._size_now(node, (wanted[0], wanted[1]), done)
        for axis in fixed:
            ends[of_axis[axis]] = new[axis - 2]
        self._replace(node, 2, ends)

    def change_pool(self, node: NodeProto, done: set[str]) -> None:
        """A window as large as the map is a global pooling written with a constant."""
        before, now = self._old.get(node.input[0]), self._new_shapes().get(node.input[0])
        kernel = tuple(attribute(node, "kernel_shape", ()))  # type: ignore[arg-type, var-annotated]
        if before is None or now is None or kernel != before[2:] or kernel == (1, 1):
            return
        for entry in node.attribute:
            if entry.name == "kernel_shape" or (entry.name == "strides" and tuple(entry.ints) == kernel):
                entry.CopyFrom(helper.make_attribute(entry.name, list(now[2:])))
        self._stale = True

    def change_transposed_convolution(self, node: NodeProto, done: set[str]) -> None:
        """Its size follows from its input, unless the exporter fixed it."""
        if attribute(node, "output_shape", None) is not None:
            raise ModelError(f"{_name(node)}: its output_shape is a constant")

    def check_strides(self) -> None:
        """Every map keeps its stride: sides that divided still divide, sides of the form sk + 1 keep that form."""
        new_shapes = self._new_shapes()
        misfits: list[tuple[int, int, int]] = []  # stride, remainder, side seen
        for name in self._index.producer:
            old, new = self._old.get(name, ()), new_shapes.get(name, ())
            if len(old) != 4 or len(new) != 4:
                continue
            for axis in (0, 1):
                found = _misfit(self._old_size[axis], old[2 + axis], self._new_size[axis], new[2 + axis])
                if found and found[0][2] % found[0][0] == found[0][1]:
                    raise ModelError(
                        f"{_name(self._index.producer[name])}: its map of {old[2:]} (height, width) becomes {new[2:]}, "
                        "which does not follow the input; a constant that is not understood holds its size"
                    )
                misfits.extend(found)
        if misfits:
            stride, remainder, side = max(misfits)
            below = (side - remainder) // stride * stride + remainder
            form = f"{stride}k" + (f" + {remainder}" if remainder else "")
            raise ModelError(
                f"network size {self._new_size[1]}x{self._new_size[0]}: sides of the form {form} wanted, {side} seen; "
                f"the nearest are {below} and {below + stride}"
            )


_CHANGES = {
    "Resize": _Resizer.change_resize,
    "Tile": _Resizer.change_tile,
    "Expand": _Resizer.change_expand,
    "ConstantOfShape": _Resizer.change_expand,
    "Reshape": _Resizer.change_reshape,
    "Slice": _Resizer.change_slice,
    "AveragePool": _Resizer.change_pool,
    "MaxPool": _Resizer.change_pool,
    "ConvTranspose": _Resizer.change_transposed_convolution,
}


def _misfit(old_side: int, old_map: int, new_side: int, new_map: int) -> list[tuple[int, int, int]]:
    """(stride, remainder, side) of the relation that held between picture and map and no longer does; else nothing."""
    if old_map <= 1 or old_map >= old_side:
        return []
    held = []
    for remainder in (0, 1):
        stride, rest = divmod(old_side - remainder, old_map - remainder)
        if rest == 0:
            if new_side - remainder == stride * (new_map - remainder):
                return []
            held.append((stride, remainder, new_side))
    return held[:1]


def _constants_of(model: ModelProto) -> list[tuple]:
    """What a change of size may touch, in comparable form."""
    index = GraphIndex(model)
    found = []
    for node in model.graph.node:
        if node.op_type in _CHANGES:
            values = [index.constant(name) for name in node.input]
            constants = [None if value is None or value.size > 64 else value.tolist() for value in values]
            found.append((node.op_type, constants, [entry.SerializeToString() for entry in node.attribute]))
    return found


def _name(node: NodeProto) -> str:
    return f"node {node.op_type} '{node.name or node.output[0]}'"
