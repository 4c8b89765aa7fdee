"""The OpenVINO backend against ONNX Runtime, on a small network and on the real DeepLab with real pictures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from panoptic_network import deploy_two_cars

from seg_perception.config import InferenceConfig
from seg_perception.errors import ModelError
from seg_perception.export.deploy import DeploySpec, deploy
from seg_perception.inference.loading import load_segmenter
from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter
from seg_perception.inference.segmenter import LogitsSegmentation

pytestmark = pytest.mark.openvino

NETWORK = (64, 40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    weights = np.random.default_rng(0).normal(0.0, 1.0, (19, 3, 4, 4)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "w"], ["scores"], strides=[4, 4])],
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, NETWORK[1], NETWORK[0]])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 19, NETWORK[1] // 4, NETWORK[0] // 4])],
        [numpy_helper.from_array(weights, "w")],
    )
    source = folder / "network.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), source)
    spec = DeploySpec(mean=(128.0,) * 3, scale=(1 / 128,) * 3)
    deploy(source, folder / "any.onnx", spec)
    deploy(source, folder / "fixed.onnx", DeploySpec(mean=spec.mean, scale=spec.scale, image_size=(96, 60)))
    deploy(source, folder / "labels.onnx", DeploySpec(mean=spec.mean, scale=spec.scale, labels=True))
    return folder


def backend(model: Path, **more: object) -> object:
    from seg_perception.inference.openvino_segmenter import OpenVinoSegmenter

    return OpenVinoSegmenter(model, threads=1, **more)


def picture(seed: int, size: tuple[int, int] = (96, 60)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["any.onnx", "labels.onnx", "fixed.onnx"])
def test_labels_are_those_of_onnxruntime(folder: Path, name: str) -> None:
    ours, reference = backend(folder / name), OnnxRuntimeSegmenter(folder / name, threads=1)
    sizes = [(96, 60)] if name == "fixed.onnx" else [(96, 60), (33, 81)]
    for seed, size in enumerate(sizes):
        pixels = picture(seed, size)
        labels, wanted = ours.segment(pixels).label_image(), reference.segment(pixels).label_image()
        assert (labels == wanted).mean() >= 0.999


@pytest.mark.parametrize("name", ["any.onnx", "labels.onnx"])
def test_a_segmentation_outlives_the_next_call_and_the_network(folder: Path, name: str) -> None:
    ours = backend(folder / name)
    first = ours.segment(picture(0))
    wanted = first.label_image().copy()
    ours.segment(picture(1))
    np.testing.assert_array_equal(first.label_image(), wanted)
    ours.close()
    np.testing.assert_array_equal(first.label_image(), wanted)
    with pytest.raises(ModelError, match="is closed"):
        ours.segment(picture(0))


def test_things_are_told_apart_as_onnxruntime_tells_them(tmp_path: Path) -> None:
    uv = np.stack(np.meshgrid(np.arange(64.0), np.arange(40.0)), axis=-1).reshape(-1, 2)
    pixels = deploy_two_cars(tmp_path / "net.onnx")
    seen, wanted = (
        made.segment(pixels).sample(uv).instance_id
        for made in (backend(tmp_path / "net.onnx"), OnnxRuntimeSegmenter(tmp_path / "net.onnx", threads=1))
    )
    np.testing.assert_array_equal(seen, wanted)
    assert set(seen) == {0, 1, 2}


def test_same_picture_gives_the_same_bytes(folder: Path) -> None:
    answers = [backend(folder / "any.onnx").segment(picture(2)) for _ in range(2)]
    assert isinstance(answers[0], LogitsSegmentation)
    assert answers[0]._scores.tobytes() == answers[1]._scores.tobytes()


def test_what_cannot_be_run_is_refused_by_name(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"precision: one of \('fp32', 'bf16'\) wanted, 'int3' seen"):
        backend(folder / "any.onnx", precision="int3")
    with pytest.raises(ModelError, match="not a deployed network"):
        backend(folder / "network.onnx")
    with pytest.raises(ModelError, match=r"absent\.onnx: cannot be read"):
        backend(folder / "absent.onnx")
    ours = backend(folder / "fixed.onnx")
    with pytest.raises(ModelError, match="deployed for images of 96x60, 60x96 seen"):
        ours.segment(picture(0, (60, 96)))
    with pytest.raises(ModelError, match=r"picture: uint8 of shape \(H, W, 3\) wanted"):
        ours.segment(np.zeros((4, 4), np.uint8))


def test_more_sizes_than_are_kept_are_refused(folder: Path) -> None:
    ours = backend(folder / "any.onnx")
    for width in range(40, 47):
        ours.segment(picture(0, (width, 30)))
    with pytest.raises(ModelError, match="at most 8 sizes wanted, 99x30 seen"):
        ours.segment(picture(0, (99, 30)))


def test_signals_arrive_after_another_thread_let_it_go(folder: Path) -> None:
    program = """
import gc, os, signal, sys, threading
from seg_perception.inference.openvino_segmenter import OpenVinoSegmenter

signal.signal(signal.SIGUSR1, lambda *_: print("arrived"))
held = [OpenVinoSegmenter(sys.argv[1], threads=1)]
thread = threading.Thread(target=lambda: (held.clear(), gc.collect()))
thread.start()
thread.join()
os.kill(os.getpid(), signal.SIGUSR1)
"""
    command = [sys.executable, "-c", program, str(folder / "any.onnx")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "arrived\n"), done.stderr


def test_configuration_names_it(folder: Path) -> None:
    segmenter = load_segmenter(InferenceConfig(model=str(folder / "any.onnx"), backend="openvino", threads=1))
    assert segmenter.backend.startswith("OpenVINO 20")  # type: ignore[attr-defined]


def test_the_real_deeplab_gives_the_labels_of_onnxruntime_on_real_pictures(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "deeplab_cityscapes" / "deeplab_mnv_cityscapes_513x1025.onnx"
    deploy(source, tmp_path / "deeplab.onnx", DeploySpec(mean=(128.0,) * 3, scale=(1 / 128,) * 3))
    ours, reference = backend(tmp_path / "deeplab.onnx"), OnnxRuntimeSegmenter(tmp_path / "deeplab.onnx")
    for name in ("kitti_drive/image_02/data/0000000003.png", "pjlab/manual/0.png"):
        pixels = cv2.imread(str(shared_data / name))[..., ::-1]
        agreement = (ours.segment(pixels).label_image() == reference.segment(pixels).label_image()).mean()
        assert agreement >= 0.999, name
