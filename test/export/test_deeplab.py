"""The real Cityscapes DeepLab, on real pictures: align_corners, 16k + 1, image pooling by a constant Tile."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from seg_perception.errors import ModelError
from seg_perception.export.deploy import DeploySpec, deploy
from seg_perception.export.verification import read_picture
from seg_perception.inference.contract import Alignment
from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter

SPEC = {"mean": (128.0,) * 3, "scale": (1 / 128,) * 3}
KITTI = "kitti_drive/image_02/data/0000000003.png"
PJLAB = "pjlab/manual/0.png"


@pytest.fixture(scope="module")
def deeplab(shared_data: Path) -> Path:
    return shared_data / "deeplab_cityscapes" / "deeplab_mnv_cityscapes_513x1025.onnx"


def network_input(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(1, 3, h, w) of a picture resized by OpenCV to (width, height)."""
    resized = cv2.resize(picture.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    return np.moveaxis((resized - 128.0) / 128.0, 2, 0)[None].copy()


@pytest.mark.parametrize("name", [KITTI, PJLAB])
def test_deployed_deeplab_gives_the_labels_of_the_original(
    deeplab: Path, shared_data: Path, tmp_path: Path, name: str
) -> None:
    picture = read_picture(shared_data / name)
    contract = deploy(deeplab, tmp_path / "deployed.onnx", DeploySpec(**SPEC), picture)
    original = onnxruntime.InferenceSession(str(deeplab), providers=["CPUExecutionProvider"])
    labels = original.run(None, {"t0": network_input(picture, (1025, 513))})[0][0].argmax(axis=0)

    assert contract.output_size == (65, 33)
    assert contract.network_alignment == Alignment(1 / 16, 0.0, 1 / 16, 0.0)
    answer = OnnxRuntimeSegmenter(tmp_path / "deployed.onnx").segment(picture).label_image((1025, 513))
    assert (answer == labels).mean() > 0.999
    assert len(np.unique(labels)) > 5


@pytest.mark.parametrize("size", [(1025, 305), (1249, 385), (625, 193)])
def test_deeplab_at_another_size_is_the_one_whose_constants_are_computed_from_shapes(
    deeplab: Path, shared_data: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    """Size-free by hand: the repeats of the Tile are the Shape of the map that it is joined with."""
    free = onnx.load(deeplab)
    tile = next(node for node in free.graph.node if node.op_type == "Tile")
    concat = next(node for node in free.graph.node if node.op_type == "Concat")
    scores = next(node for node in free.graph.node if node.op_type == "Resize").input[0]
    free.graph.initializer.append(numpy_helper.from_array(np.array([1, 1]), "ones"))
    nodes = [
        helper.make_node("Shape", [concat.input[1]], ["map_sides"], start=2),
        helper.make_node("Concat", ["ones", "map_sides"], ["repeats"], axis=0),
    ]
    tile.input[1] = "repeats"
    kept = list(free.graph.node)
    position = kept.index(tile)
    computed = next(k for k, node in enumerate(kept) if concat.input[1] in node.output)
    assert computed < kept.index(concat)
    kept.remove(tile)
    kept.insert(max(position, computed), tile)
    kept[kept.index(tile) : kept.index(tile)] = nodes
    del free.graph.node[:]
    free.graph.node.extend(kept)
    free.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "h"
    free.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "w"
    free.graph.output.append(helper.make_empty_tensor_value_info(scores))

    picture = read_picture(shared_data / KITTI)
    contract = deploy(deeplab, tmp_path / "deployed.onnx", DeploySpec(**SPEC, network_size=size), picture)
    session = onnxruntime.InferenceSession(free.SerializeToString(), providers=["CPUExecutionProvider"])
    (wanted,) = session.run([scores], {"t0": network_input(picture, size)})
    deployed = onnxruntime.InferenceSession(str(tmp_path / "deployed.onnx"), providers=["CPUExecutionProvider"])
    (logits,) = deployed.run(None, {"pixels": picture})

    assert contract.output_size == ((size[0] - 1) // 16 + 1, (size[1] - 1) // 16 + 1)
    assert contract.network_alignment == Alignment(1 / 16, 0.0, 1 / 16, 0.0)
    assert contract.label_agreement >= 0.999
    np.testing.assert_allclose(logits, wanted[0], atol=2e-3)


def test_deeplab_at_a_size_of_another_form_is_refused(deeplab: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"sides of the form 16k \+ 1 wanted, 304 seen; the nearest are 289 and 305"):
        deploy(deeplab, tmp_path / "deployed.onnx", DeploySpec(**SPEC, network_size=(1025, 304)))


def test_half_pixel_alignment_of_the_same_logits_would_be_wrong(
    deeplab: Path, shared_data: Path, tmp_path: Path
) -> None:
    picture = read_picture(shared_data / KITTI)
    deploy(deeplab, tmp_path / "deployed.onnx", DeploySpec(**SPEC), picture)
    segmenter = OnnxRuntimeSegmenter(tmp_path / "deployed.onnx")
    right = segmenter.segment(picture).label_image()
    wrong = cv2.resize(
        np.moveaxis(
            onnxruntime.InferenceSession(str(tmp_path / "deployed.onnx")).run(None, {"pixels": picture})[0], 0, 2
        ),
        (picture.shape[1], picture.shape[0]),
        interpolation=cv2.INTER_LINEAR,
    ).argmax(axis=2)
    assert (right == wrong).mean() < 0.97
