"""Small segmentation networks in every form that exporters give them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

MEAN, SCALE = 110.0, 1 / 64
CLASSES = 4


class GraphWriter:
    """Appends nodes to a graph, each reading the tensor before it."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.tensor = "image"
        self.dtype: type = np.float32

    def constant(self, value: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, op: str, *constants: np.ndarray | str | None, **attributes: object) -> GraphWriter:
        """One node; constants are stored, strings name tensors, None leaves an input out."""
        inputs = [c if isinstance(c, str) else "" if c is None else self.constant(c) for c in constants]
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, [self.tensor, *inputs], [output], name=f"n{output}", **attributes))
        self.tensor = output
        return self

    def conv(self, channels_in: int, channels_out: int, stride: int = 1, kernel: int = 3, gain: float = 2.0):
        weights = self.rng.normal(0, gain / (kernel * channels_in**0.5), (channels_out, channels_in, kernel, kernel))
        bias = self.rng.normal(0, 0.1, channels_out)
        pad = kernel // 2
        return self.add(
            "Conv", weights.astype(self.dtype), bias.astype(self.dtype), strides=[stride, stride], pads=[pad] * 4
        )

    def body(self, classes: int = CLASSES) -> GraphWriter:
        """Two strided convolutions and a classifier: stride 4."""
        return self.conv(3, 8, 2).add("Relu").conv(8, 8, 2).add("Relu").conv(8, classes, kernel=1, gain=4.0)

    def resize(self, sizes: Sequence[int], how: str = "half_pixel", mode: str = "linear") -> GraphWriter:
        return self.add("Resize", None, None, np.array(sizes, np.int64), mode=mode, coordinate_transformation_mode=how)

    def scale_up(self, scales: Sequence[float], how: str = "half_pixel", mode: str = "linear") -> GraphWriter:
        return self.add("Resize", None, np.array(scales, np.float32), mode=mode, coordinate_transformation_mode=how)

    def save(
        self,
        path: Path,
        shape: Sequence[int | str],
        *,
        opset: int = 17,
        input_type: int = TensorProto.FLOAT,
        output_type: int = TensorProto.FLOAT,
        outputs: Sequence[str] | None = None,
        **saving: object,
    ) -> Path:
        tensors = list(outputs or [self.tensor])
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info("image", input_type, shape)],
            [helper.make_tensor_value_info(name, output_type, None) for name in tensors],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        onnx.save(model, path, **saving)
        return path


@pytest.fixture
def writer() -> GraphWriter:
    return GraphWriter()


@pytest.fixture
def taxonomy_of(tmp_path: Path) -> Callable[[int], str]:
    """A taxonomy file with that many classes, the last two of them countable."""

    def write(count: int) -> str:
        path = tmp_path / f"classes{count}.yaml"
        classes = [
            {"name": f"class{k}", "train_id": k, "color": [k, k, k], "thing": k > count - 3} for k in range(count)
        ]
        path.write_text(yaml.safe_dump({"name": f"classes{count}", "classes": classes}))
        return str(path)

    return write


@pytest.fixture
def picture() -> np.ndarray:
    """(H, W, 3) uint8 that no network size divides."""
    import cv2

    coarse = np.random.default_rng(5).uniform(0, 255, (9, 14, 3)).astype(np.float32)
    return np.clip(cv2.resize(coarse, (131, 83), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)
