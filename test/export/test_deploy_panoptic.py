"""A network that tells things apart is deployed with its centres and offsets, or refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from panoptic_network import CAR, PERSON, SIZE, TAXONOMY, drawn, save_network

from seg_perception.errors import ModelError
from seg_perception.export import deploy as deploying
from seg_perception.export.deploy import DeploySpec, deploy
from seg_perception.export.half import to_half
from seg_perception.export.tensorrt_rules import SUPPORTED, findings
from seg_perception.inference.contract import METADATA_KEY, ModelContract
from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter
from seg_perception.inference.segmenter import LogitsSegmentation

NAMES = {"output": "scores", "centre": "heat", "offset": "way"}
TWO_CARS = [(CAR, slice(2, 7), slice(1, 6)), (CAR, slice(2, 7), slice(6, 11)), (PERSON, slice(3, 9), slice(13, 15))]


@pytest.fixture
def spec(tmp_path: Path) -> DeploySpec:
    taxonomy = tmp_path / "street.yaml"
    taxonomy.write_text(TAXONOMY)
    return DeploySpec(taxonomy=str(taxonomy), **NAMES)


def answer(model: Path, picture: np.ndarray) -> LogitsSegmentation:
    segmentation = OnnxRuntimeSegmenter(model, threads=1).segment(picture)
    assert isinstance(segmentation, LogitsSegmentation)
    return segmentation


def instances_of_samples(model: Path, picture: np.ndarray) -> np.ndarray:
    """(10, 16) at the middle of each cell of 4 x 4 pixels."""
    uv = np.stack(np.meshgrid(np.arange(1.5, SIZE[0], 4), np.arange(1.5, SIZE[1], 4)), axis=-1).reshape(-1, 2)
    instance_id = answer(model, picture).sample(uv).instance_id
    assert instance_id is not None
    return instance_id.reshape(SIZE[1] // 4, SIZE[0] // 4)


@pytest.mark.parametrize("upsampled", [True, False])
def test_two_cars_that_touch_are_two_instances(spec: DeploySpec, tmp_path: Path, upsampled: bool) -> None:
    source = save_network(tmp_path / "net.onnx", upsampled=upsampled)
    contract = deploy(source, tmp_path / "out.onnx", spec, drawn(TWO_CARS))
    assert contract.things == (CAR, PERSON) and contract.output_size == (16, 10)
    seen = instances_of_samples(tmp_path / "out.onnx", drawn(TWO_CARS))
    wanted = np.zeros_like(seen)
    for number, (_, rows, columns) in enumerate(TWO_CARS, 1):
        wanted[rows, columns] = number
    pairs = {(int(a), int(b)) for a, b in zip(wanted.ravel(), seen.ravel(), strict=True)}
    assert len(pairs) == 4 and (0, 0) in pairs  # the same instances, whatever their numbers


def test_a_picture_of_another_size_has_the_same_instances(spec: DeploySpec, tmp_path: Path) -> None:
    deploy(save_network(tmp_path / "net.onnx"), tmp_path / "out.onnx", spec, drawn(TWO_CARS))
    large = np.repeat(np.repeat(drawn(TWO_CARS), 3, axis=0), 3, axis=1)
    segmentation = answer(tmp_path / "out.onnx", large)
    image = segmentation.instance_image(segmentation.label_image())
    assert image is not None and image.shape == (120, 192)
    assert len({int(image[3 * 16 + 1, 3 * u + 1]) for u in (12, 32, 56)}) == 3


def test_offsets_that_lie_elsewhere_than_the_logits_are_refused(spec: DeploySpec, tmp_path: Path) -> None:
    source = save_network(tmp_path / "net.onnx", offset_shift=2)
    with pytest.raises(ModelError, match=r"output 'way': the offset at the places of the logits wanted"):
        deploy(source, tmp_path / "out.onnx", spec, drawn(TWO_CARS))
    assert not (tmp_path / "out.onnx").exists()


def test_offsets_that_changed_on_the_way_are_refused(
    spec: DeploySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = deploying.append_logits

    def damaged(model: onnx.ModelProto, *rest: object) -> None:
        real(model, *rest)  # type: ignore[arg-type]
        bias = next(tensor for tensor in model.graph.initializer if tensor.name == "net/b")
        bias.raw_data = (onnx.numpy_helper.to_array(bias) + np.float32([0, 0, 0, 0, 5, 0])).tobytes()

    monkeypatch.setattr(deploying, "append_logits", damaged)
    with pytest.raises(ModelError, match="centres and offsets differ by"):
        deploy(save_network(tmp_path / "net.onnx"), tmp_path / "out.onnx", spec, drawn(TWO_CARS))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"offset": ""}, "both wanted"),
        ({"labels": True}, "class scores wanted"),
        ({"centre": "peaks"}, "output 'peaks'"),
        ({"centre": "way"}, r"\(1, 1, h, w\) wanted"),
        ({"taxonomy": "cityscapes"}, "gives 3 classes"),
    ],
)
def test_what_cannot_tell_things_apart_is_refused(spec: DeploySpec, tmp_path: Path, change: dict, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        deploy(save_network(tmp_path / "net.onnx"), tmp_path / "out.onnx", dataclasses.replace(spec, **change))


def test_a_contract_of_before_is_one_that_tells_no_things_apart(spec: DeploySpec, tmp_path: Path) -> None:
    contract = deploy(save_network(tmp_path / "net.onnx"), tmp_path / "out.onnx", spec, drawn(TWO_CARS))
    content = json.loads(contract.to_json())
    assert ModelContract.from_metadata({METADATA_KEY: contract.to_json()}, "new") == contract
    del content["things"]
    assert ModelContract.from_metadata({METADATA_KEY: json.dumps(content)}, "old").things == ()


def test_the_rules_of_tensorrt_find_nothing_in_it(spec: DeploySpec, tmp_path: Path) -> None:
    deploy(save_network(tmp_path / "net.onnx"), tmp_path / "out.onnx", spec, drawn(TWO_CARS))
    assert not [finding for finding in findings(tmp_path / "out.onnx") if finding.versions & set(SUPPORTED)]


def test_in_float16_it_tells_the_same_things_apart(spec: DeploySpec, tmp_path: Path) -> None:
    deploy(save_network(tmp_path / "net.onnx"), tmp_path / "out.onnx", spec, drawn(TWO_CARS))
    to_half(tmp_path / "out.onnx", tmp_path / "half.onnx", drawn(TWO_CARS))
    whole, half = (instances_of_samples(tmp_path / name, drawn(TWO_CARS)) for name in ("out.onnx", "half.onnx"))
    np.testing.assert_array_equal(whole, half)
