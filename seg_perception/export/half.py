"""A deployed network in float32 -> the same in float16, typed as such in the file.

From TensorRT 10 on a network is computed in the types of its file, so this is where FP16 is decided. Pixels stay
float32 until they are resized and normalised; class scores come out in float16; confidences are computed in float32.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from seg_perception.errors import ModelError
from seg_perception.export.graph import first_line
from seg_perception.export.verification import synthetic_picture
from seg_perception.export.wrapping import NAMESPACE
from seg_perception.inference.contract import INPUT_NAME, MAPS, ModelContract
from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter

LARGEST = float(np.finfo(np.float16).max)
_FLOAT32_INPUTS = {"Resize": (1, 2), "Upsample": (1,)}  # float32 whatever the picture is
_QUANTIZED = {"QuantizeLinear", "DequantizeLinear"}


def to_half(
    source: str | Path, destination: str | Path, picture: NDArray[np.uint8] | None = None, min_agreement: float = 0.98
) -> float:
    """Write the float16 form of the deployed file `source`; returns the share of labels that stay the same.

    picture: (H, W, 3) uint8 RGB that both are compared on, by ONNX Runtime on the CPU; by default a synthetic one.
    Raises ModelError, leaving no file, for what is not a deployed float32 network and where more labels change.
    """
    source, destination = Path(source), Path(destination)
    try:
        model = onnx.load(source)
    except Exception as error:  # protobuf's own class, which depends on its implementation
        raise ModelError(f"model {source}: cannot be read ({first_line(error)})") from error
    contract = ModelContract.from_metadata({entry.key: entry.value for entry in model.metadata_props}, str(source))
    if any(node.op_type in _QUANTIZED for node in model.graph.node):
        raise ModelError(f"model {source}: float32 wanted, a quantised network seen")
    _convert(model, source)
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        raise ModelError(f"model {source}: no float16 form of it is valid ({first_line(error)})") from error
    if picture is None:
        picture = synthetic_picture(contract.image_size or contract.network_size)
    handle, name = tempfile.mkstemp(suffix=".onnx", dir=destination.parent)
    os.close(handle)
    try:
        onnx.save(model, name)
        agreement = _agreement(source, Path(name), picture)
        if agreement < min_agreement:
            raise ModelError(
                f"model {source}: in float16 {agreement:.2%} of its labels stay, {min_agreement:.2%} wanted"
            )
        Path(name).chmod(0o644)
        Path(name).replace(destination)
    finally:
        Path(name).unlink(missing_ok=True)
    return agreement


def _convert(model: ModelProto, source: Path) -> None:
    graph = model.graph
    before, entrance = _front(graph.node, source)
    network = [node for node in graph.node if node.name not in before]
    cast = helper.make_node("Cast", [entrance], [f"{NAMESPACE}half"], name=f"{NAMESPACE}half", to=TensorProto.FLOAT16)
    floats = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    halves: dict[str, str] = {}
    for node in network:
        kept = _FLOAT32_INPUTS.get(node.op_type, ())
        for index, name in enumerate(node.input):
            if name == entrance:
                node.input[index] = cast.output[0]
            elif name in floats and index not in kept:
                node.input[index] = halves.setdefault(name, f"{name}/half")
        _convert_attributes(node)
    for name, half in halves.items():
        graph.initializer.append(_half(floats[name], half))
    kept_names = {name for node in graph.node for name in node.input}
    initializers = [tensor for tensor in graph.initializer if tensor.name in kept_names]
    del graph.initializer[:]
    graph.initializer.extend(initializers)
    del graph.value_info[:]
    front = [node for node in graph.node if node.name in before]
    del graph.node[:]
    graph.node.extend([*front, cast, *network])
    for output in graph.output:
        if output.name in ("logits", *MAPS) and output.type.tensor_type.elem_type == TensorProto.FLOAT:
            output.type.tensor_type.elem_type = TensorProto.FLOAT16


def _front(nodes: list[NodeProto], source: Path) -> tuple[set[str], str]:
    """Names of the nodes that turn pixels into the network's input, and the tensor that they give."""
    tensor, names = INPUT_NAME, set()
    while True:
        users = [node for node in nodes if tensor in node.input]
        if len(users) != 1 or not users[0].name.startswith(NAMESPACE):
            break
        names.add(users[0].name)
        tensor = users[0].output[0]
    if not names:
        raise ModelError(f"model {source}: its pixels are not read as `seg-perception deploy` has them read")
    return names, tensor


def _convert_attributes(node: NodeProto) -> None:
    """Casts to float32 and constants of float32 within the network; what `deploy` put behind it stays."""
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            if not node.name.startswith(NAMESPACE):
                attribute.i = TensorProto.FLOAT16
        elif attribute.type == AttributeProto.TENSOR and attribute.t.data_type == TensorProto.FLOAT:
            attribute.t.CopyFrom(_half(attribute.t, attribute.t.name))


def _half(tensor: TensorProto, name: str) -> TensorProto:
    """A constant in float16. What is beyond its range (a mask's -1e9, say) becomes its largest value."""
    values = np.clip(numpy_helper.to_array(tensor), -LARGEST, LARGEST).astype(np.float16)
    return numpy_helper.from_array(values, name)


def _agreement(source: Path, half: Path, picture: NDArray[np.uint8]) -> float:
    labels = []
    for path in (source, half):
        segmenter = OnnxRuntimeSegmenter(path)
        labels.append(segmenter.segment(picture).label_image())
        segmenter.close()
    return float((labels[0] == labels[1]).mean())
