"""The ONNX Runtime backend on a small deployed network."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from seg_perception.config import InferenceConfig
from seg_perception.errors import ModelError
from seg_perception.export.deploy import DeploySpec, deploy
from seg_perception.inference.contract import METADATA_KEY
from seg_perception.inference.loading import load_segmenter
from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter

SIZE = (80, 48)


def brightness_network(path: Path) -> Path:
    """19 classes; class k is the one whose brightness 13k is nearest to the picture's, at stride 1."""
    centres = np.arange(19, dtype=np.float32) * 13.0
    weights = np.broadcast_to((2.0 * centres / 3.0)[:, None, None, None], (19, 3, 1, 1))
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "w", "b"], ["scores"])],
        "brightness",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIZE[1], SIZE[0]])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 19, SIZE[1], SIZE[0]])],
        [numpy_helper.from_array(weights.copy(), "w"), numpy_helper.from_array(-(centres**2), "b")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    deploy(brightness_network(folder / "network.onnx"), folder / "deployed.onnx", DeploySpec())
    return folder / "deployed.onnx"


def grey(level: int, size: tuple[int, int] = (160, 96)) -> np.ndarray:
    return np.full((size[1], size[0], 3), level, np.uint8)


def test_raw_pixels_of_any_size_go_in_and_labels_of_that_size_come_out(deployed: Path) -> None:
    segmenter = OnnxRuntimeSegmenter(deployed)
    for size in ((160, 96), (81, 47), (33, 200)):
        picture = grey(13 * 2, size)
        picture[:, size[0] // 2 :] = 13 * 7
        segmentation = segmenter.segment(picture)
        labels = segmentation.label_image()
        assert segmentation.size == size
        assert labels.shape == (size[1], size[0])
        assert (labels[:, : size[0] // 2 - 4] == 2).all()
        assert (labels[:, size[0] // 2 + 4 :] == 7).all()


def test_a_segmentation_outlives_the_next_call_and_the_network(deployed: Path) -> None:
    segmenter = OnnxRuntimeSegmenter(deployed)
    first = segmenter.segment(grey(0))
    segmenter.segment(grey(13 * 5))
    segmenter.close()
    assert (first.label_image() == 0).all()
    with pytest.raises(ModelError, match="is closed"):
        segmenter.segment(grey(0))


def test_same_picture_gives_the_same_bytes(deployed: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (96, 160, 3), dtype=np.uint8)
    uv = np.random.default_rng(1).uniform(0, 90, (500, 2))
    answers = [OnnxRuntimeSegmenter(deployed, threads=n).segment(picture).sample(uv) for n in (1, 2, 2)]
    for answer in answers[1:]:
        assert answer.class_id.tobytes() == answers[0].class_id.tobytes()
        assert answer.probability.tobytes() == answers[0].probability.tobytes()


def test_several_threads_may_segment_at_once(deployed: Path) -> None:
    segmenter = OnnxRuntimeSegmenter(deployed)
    wrong: list[int] = []

    def work(level: int) -> None:
        for _ in range(10):
            if not (segmenter.segment(grey(13 * level)).label_image() == level).all():
                wrong.append(level)

    threads = [threading.Thread(target=work, args=(level,)) for level in (3, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_view_of_a_larger_picture_is_accepted(deployed: Path) -> None:
    picture = grey(13 * 4, (320, 96))
    assert (OnnxRuntimeSegmenter(deployed).segment(picture[:, ::2]).label_image() == 4).all()


@pytest.mark.parametrize(
    "bad",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)],
)
def test_what_is_no_rgb_picture_is_refused(deployed: Path, bad: np.ndarray) -> None:
    with pytest.raises(ModelError, match=r"picture: uint8 of shape \(H, W, 3\) wanted"):
        OnnxRuntimeSegmenter(deployed).segment(bad)


def test_picture_of_another_size_than_deployed_for_is_refused(tmp_path: Path) -> None:
    source = brightness_network(tmp_path / "network.onnx")
    deploy(source, tmp_path / "deployed.onnx", DeploySpec(image_size=(160, 96)))
    segmenter = OnnxRuntimeSegmenter(tmp_path / "deployed.onnx")
    assert (segmenter.segment(grey(13)).label_image() == 1).all()
    with pytest.raises(ModelError, match=r"deployed for images of 160x96, 81x47 seen"):
        segmenter.segment(grey(13, (81, 47)))


def test_network_that_was_not_deployed_is_refused_with_the_command_to_run(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a deployed network; run `seg-perception deploy`"):
        OnnxRuntimeSegmenter(brightness_network(tmp_path / "network.onnx"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"version": 99}, "deployed with contract version 99, 1 wanted"),
        ({"output": "poems"}, "output 'poems' seen"),
        ({"surplus": 1}, "its contract cannot be read"),
    ],
)
def test_contract_of_another_kind_is_refused(deployed: Path, tmp_path: Path, change: dict, sentence: str) -> None:
    import json

    model = onnx.load(deployed)
    content = json.loads(model.metadata_props[0].value)
    helper.set_model_props(model, {METADATA_KEY: json.dumps({**content, **change})})
    onnx.save(model, tmp_path / "changed.onnx")
    with pytest.raises(ModelError, match=sentence):
        OnnxRuntimeSegmenter(tmp_path / "changed.onnx")


def test_missing_and_broken_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent\.onnx: no such file"):
        OnnxRuntimeSegmenter(tmp_path / "absent.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x07broken")
    with pytest.raises(ModelError, match=r"broken\.onnx: ONNX Runtime cannot load it"):
        OnnxRuntimeSegmenter(tmp_path / "broken.onnx")


def test_provider_that_is_not_there_is_refused(deployed: Path) -> None:
    with pytest.raises(ModelError, match=r"ONNX Runtime has no \['NoSuchProvider'\]"):
        OnnxRuntimeSegmenter(deployed, providers=["NoSuchProvider"])


def test_provider_that_onnxruntime_goes_on_without_is_refused(deployed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class WithoutGpu(onnxruntime.InferenceSession):
        """As where CUDA's libraries are missing: a line on stderr, and the rest of the providers."""

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    gpu = "CUDAExecutionProvider"
    monkeypatch.setattr(onnxruntime, "InferenceSession", WithoutGpu)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [gpu, "CPUExecutionProvider"])
    with pytest.raises(ModelError, match=rf"cannot start \['{gpu}'\], only \['CPUExecutionProvider'\]"):
        OnnxRuntimeSegmenter(deployed, providers=[gpu, "CPUExecutionProvider"])
    OnnxRuntimeSegmenter(deployed, providers=["CPUExecutionProvider"]).close()


def test_configuration_names_the_backend(deployed: Path) -> None:
    segmenter = load_segmenter(InferenceConfig(model=str(deployed), threads=1))
    assert segmenter.contract.num_classes == 19
    with pytest.raises(ModelError, match=r"inference\.model: path of a deployed ONNX file wanted"):
        load_segmenter(InferenceConfig())


def test_contract_survives_its_own_json(deployed: Path) -> None:
    contract = OnnxRuntimeSegmenter(deployed).contract
    assert type(contract).from_metadata({METADATA_KEY: contract.to_json()}, "memory") == contract
    fixed = dataclasses.replace(contract, image_size=(3, 4))
    assert type(contract).from_metadata({METADATA_KEY: fixed.to_json()}, "memory") == fixed


def test_running_a_network_needs_neither_onnx_nor_torch() -> None:
    script = (
        "import sys; sys.modules.update({n: None for n in ('onnx', 'torch', 'rclpy', 'tensorrt', 'open3d')});"
        "import seg_perception.inference.loading, seg_perception.inference.onnxruntime_segmenter"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2])
