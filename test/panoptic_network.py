"""A network that reads class, centre and offset of every fourth pixel off the picture: what it says is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from seg_perception.export.deploy import DeploySpec, deploy

STRIDE, SIZE = 4, (64, 40)
SKY, CAR, PERSON = 0, 1, 2
TAXONOMY = """
name: street
classes:
  - {name: sky, train_id: 0, color: [0, 0, 255]}
  - {name: car, train_id: 1, color: [255, 0, 0], thing: true}
  - {name: person, train_id: 2, color: [0, 255, 0], thing: true}
"""
# A cell of 4 x 4 pixels: red of its pixel (0, 0) is 100 times the class, green the heat, and at (0, 1) red and green
# are the offset (v, u) plus 128.
_CLASS = np.array([0.0, 100.0, 200.0], np.float32)


def save_network(path: Path, *, offset_shift: int = 0, upsampled: bool = True) -> Path:
    """Outputs `scores`, `heat`, `way`, at the size of the picture or at stride 4. offset_shift: samples that the offset
    is padded by, which moves it away from the scores."""
    weights = np.zeros((6, 3, STRIDE, STRIDE), np.float32)
    weights[:3, 0, 0, 0] = 2e-3 * _CLASS  # of -(red - class)^2, what does not depend on red alone
    weights[3, 1, 0, 0] = 1 / 255
    weights[4, 0, 0, 1] = weights[5, 1, 0, 1] = 1.0
    bias = np.concatenate([-1e-3 * _CLASS**2, [0.0, -128.0, -128.0]]).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "w", "b"], ["all"], strides=[STRIDE, STRIDE]),
        helper.make_node("Split", ["all", "parts"], ["s", "c", "o"], axis=1),
    ]
    constants = [
        numpy_helper.from_array(weights, "w"),
        numpy_helper.from_array(bias, "b"),
        numpy_helper.from_array(np.array([3, 1, 2]), "parts"),
        numpy_helper.from_array(np.array([0, 0, 0, offset_shift, 0, 0, 0, 0]), "pads"),
    ]
    nodes.append(helper.make_node("Pad", ["o", "pads"], ["padded"]))
    for name, part, channels in (("scores", "s", 3), ("heat", "c", 1), ("way", "padded" if offset_shift else "o", 2)):
        constants.append(numpy_helper.from_array(np.array([1, channels, SIZE[1], SIZE[0]]), f"{name}_size"))
        resize = helper.make_node("Resize", [part, "", "", f"{name}_size"], [name], mode="linear")
        nodes.append(resize if upsampled else helper.make_node("Identity", [part], [name]))
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIZE[1], SIZE[0]])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("scores", "heat", "way")],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def drawn(things: list[tuple[int, slice, slice]]) -> np.ndarray:
    """(40, 64, 3) uint8 with those things, each (class, rows, columns) in samples of the stride."""
    picture = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    cells = picture.reshape(SIZE[1] // STRIDE, STRIDE, SIZE[0] // STRIDE, STRIDE, 3)
    for class_id, rows, columns in things:
        v, u = (rows.start + rows.stop - 1) // 2, (columns.start + columns.stop - 1) // 2
        grid = np.mgrid[rows, columns]
        cells[rows, 0, columns, 0, 0] = 100 * class_id
        cells[rows, 0, columns, 1, 0] = 128 + STRIDE * (v - grid[0])
        cells[rows, 0, columns, 1, 1] = 128 + STRIDE * (u - grid[1])
        cells[v, 0, u, 0, 1] = 255
    return picture


def deploy_two_cars(path: Path) -> np.ndarray:
    """Write the deployed network to `path`; returns a picture of two cars that touch."""
    taxonomy, source = path.with_name("street.yaml"), path.with_name("plain.onnx")
    taxonomy.write_text(TAXONOMY)
    picture = drawn([(CAR, slice(2, 7), slice(1, 6)), (CAR, slice(2, 7), slice(6, 11))])
    spec = DeploySpec(taxonomy=str(taxonomy), output="scores", centre="heat", offset="way")
    deploy(save_network(source), path, spec, picture)
    return picture
