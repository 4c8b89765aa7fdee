"""What is read of an ONNX file, against what the onnx package reads of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from seg_perception.errors import ModelError
from seg_perception.export.graph import file_hash
from seg_perception.inference.onnx_file import OnnxFile


def network(dtype: type = np.float32, operator: str = "Add") -> onnx.ModelProto:
    weights = numpy_helper.from_array(np.arange(600, dtype=dtype), "weights")
    elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "weights"], ["y"])],
        "network",
        [helper.make_tensor_value_info("x", elem_type, [600])],
        [helper.make_tensor_value_info("y", elem_type, [600])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"contract": "Überfahrt", "other": ""})
    return model


def test_metadata_is_what_was_written(tmp_path: Path) -> None:
    onnx.save(network(), tmp_path / "m.onnx")
    assert OnnxFile.read(tmp_path / "m.onnx").metadata == {"contract": "Überfahrt", "other": ""}


def test_hash_covers_the_external_data(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(network(), path, save_as_external_data=True, location="m.weights", size_threshold=0)
    before = OnnxFile.read(path).sha256
    assert before == file_hash(path)
    data = bytearray((tmp_path / "m.weights").read_bytes())
    data[5] ^= 1
    (tmp_path / "m.weights").write_bytes(data)
    assert OnnxFile.read(path).sha256 != before
    (tmp_path / "m.weights").unlink()
    with pytest.raises(ModelError, match=r"external data 'm\.weights' cannot be read"):
        OnnxFile.read(path)


def test_external_data_elsewhere_is_refused(tmp_path: Path) -> None:
    model = network()
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"external data '\.\./secret' seen, a file beside the model wanted"):
        OnnxFile.read(tmp_path / "m.onnx")


def test_precision_is_that_of_the_weights_and_of_q_dq(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    for model, precision in ((network(), "fp32"), (network(np.float16), "fp16")):
        onnx.save(model, path)
        assert OnnxFile.read(path).precision == precision
    quantized = network()
    quantized.graph.node[0].op_type = "QuantizeLinear"
    path.write_bytes(quantized.SerializeToString())
    assert OnnxFile.read(path).precision == "int8"


def test_weights_in_constant_nodes_and_in_branches_are_seen(tmp_path: Path) -> None:
    half = numpy_helper.from_array(np.ones(3, np.float16), "w")
    inner = helper.make_graph([helper.make_node("Constant", [], ["y"], value=half)], "inner", [], [])
    model = network()
    model.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert OnnxFile.read(tmp_path / "m.onnx").half


def test_the_real_deeplab_reads_as_onnx_reads_it(shared_data: Path) -> None:
    path = shared_data / "deeplab_cityscapes" / "deeplab_mnv_cityscapes_513x1025.onnx"
    assert OnnxFile.read(path).sha256 == file_hash(path)
    assert OnnxFile.read(path).precision == "fp32"


@pytest.mark.parametrize("content", [b"", b"\x08\x07broken", b"PNG and so on", b"\x3a\xff\xff\xff\x7f", b"\x08\x07"])
def test_what_is_no_onnx_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"broken\.onnx: not an ONNX file"):
        OnnxFile.read(tmp_path / "broken.onnx")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    content = network().SerializeToString()
    for length in (len(content) - 3, len(content) // 2):
        (tmp_path / "cut.onnx").write_bytes(content[:length])
        with pytest.raises(ModelError, match=r"cut\.onnx: not an ONNX file"):
            OnnxFile.read(tmp_path / "cut.onnx")


def test_graphs_nested_without_end_are_refused(tmp_path: Path) -> None:
    content = b""
    for _ in range(2000):
        for tag in (6, 5, 1):  # a graph in an attribute of a node of a graph
            length = bytes([len(content) & 0x7F | 0x80, len(content) >> 7 & 0x7F | 0x80, len(content) >> 14])
            content = bytes([tag << 3 | 2]) + length + content
    length = bytes([len(content) & 0x7F | 0x80, len(content) >> 7 & 0x7F | 0x80, len(content) >> 14])
    (tmp_path / "deep.onnx").write_bytes(bytes([7 << 3 | 2]) + length + content)
    with pytest.raises(ModelError, match=r"deep\.onnx: not an ONNX file \(maximum recursion depth"):
        OnnxFile.read(tmp_path / "deep.onnx")


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent\.onnx: cannot be read"):
        OnnxFile.read(tmp_path / "absent.onnx")
