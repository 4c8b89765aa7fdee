"""Each camera's network: what cameras share, and what classes become in the cloud."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import live_node as live
import numpy as np
import pytest
import small_world as world
from small_world import CAR, ROAD

from seg_perception.config import CameraConfig, Config
from seg_perception.datatypes import UNKNOWN, PointLabels
from seg_perception.errors import ConfigError, ModelError
from seg_perception.inference.loading import load_segmenters
from seg_perception.inference.networks import Network
from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter
from seg_perception.labels import Taxonomy
from seg_perception.pipeline import Pipeline, warm_up


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """`front` and `left` run one network, `rear` another, of classes of its own."""
    rear = live.three_class_model(tmp_path / "three.onnx")
    colors = live.color_model(tmp_path / "colors.onnx")
    names = ["front", "left", "rear"]
    return world.config(cameras=names, camera={"rear": rear}, inference={"model": str(colors), "threads": 1})


def with_rear(config: Config, **settings: str) -> Config:
    *others, rear = config.cameras
    return replace(config, cameras=(*others, replace(rear, **settings)))


def red_and_blue() -> np.ndarray:
    return live.picture()


def test_cameras_of_the_same_settings_share_one_network(config):
    of_camera = load_segmenters(config)
    assert of_camera["front"] is of_camera["left"]
    assert of_camera["rear"] is not of_camera["front"]
    same_file = with_rear(config, model="", taxonomy="", class_map="", backend="onnxruntime")
    assert len(set(load_segmenters(same_file).values())) == 1


def test_a_hash_that_a_camera_wants_of_its_model_is_that_of_its_own(config):
    rear = config.cameras[2]
    assert replace(config.inference_of(rear), model="").model_sha256 == ""
    common = replace(config, inference=replace(config.inference, model_sha256="0" * 64))
    assert common.inference_of(rear).model_sha256 == ""
    assert common.inference_of(config.cameras[0]).model_sha256 == "0" * 64
    with pytest.raises(ConfigError, match="model names none"):
        CameraConfig("front", model_sha256="0" * 64)


def test_networks_that_were_loaded_are_freed_where_the_next_cannot_be(config, monkeypatch):
    closed = []
    monkeypatch.setattr(OnnxRuntimeSegmenter, "close", lambda self: closed.append(self))
    with pytest.raises(ModelError, match="nowhere"):
        load_segmenters(with_rear(config, model="nowhere.onnx"))
    assert len(closed) == 1


def test_points_have_the_classes_of_the_cloud_whichever_network_named_them(config):
    pipeline = Pipeline(config, load_segmenters(config), world.tree())
    for camera in ("front", "rear"):
        pipeline.set_camera(camera, world.camera())
        image = replace(world.image(name=camera), pixels=red_and_blue())
        result = pipeline.process(world.scan(), {camera: image})
        assert result.cloud.class_id.tolist() == [ROAD, CAR, UNKNOWN, UNKNOWN]
    own = result.segmentations["rear"].label_image()
    assert own[50, [10, 190]].tolist() == [0, 1]  # the picture keeps the classes of its network
    assert pipeline.networks["rear"].taxonomy.names == ("asphalt", "car", "hedge")


def test_pictures_go_together_to_the_network_that_is_theirs():
    class Together(world.LeftRightSegmenter):
        def segment_all(self, pictures: list[np.ndarray]) -> list:
            asked.append((self, len(pictures)))
            return [self.segment(picture) for picture in pictures]

    asked: list[tuple[Together, int]] = []
    one, other = Together(), Together()
    names = {"front": one, "left": other, "rear": one}
    pipeline = Pipeline(world.config(cameras=list(names)), names, world.tree())
    for name in names:
        pipeline.set_camera(name, world.camera())
    pipeline.process(world.scan(), {name: world.image(name=name) for name in names})
    assert asked == [(one, 2), (other, 1)]
    assert (one.calls, other.calls) == (2, 1)


def test_classes_without_a_place_in_the_cloud_are_refused_with_the_setting(config):
    segmenters = load_segmenters(config)
    with pytest.raises(ConfigError, match=r"camera\.rear\.class_map: .*'hedge'.*'cityscapes'"):
        Pipeline(with_rear(config, class_map="road=asphalt"), segmenters, world.tree())
    with pytest.raises(ModelError, match=r"3 classes of .*'cityscapes' with 19"):
        Pipeline(with_rear(config, taxonomy=""), segmenters, world.tree())


def test_a_thing_that_is_none_in_the_cloud_loses_its_instance():
    class Told:
        size = (world.WIDTH, world.HEIGHT)

        def sample(self, uv: np.ndarray) -> PointLabels:
            count, sure = len(uv), np.ones(len(uv), np.float32)
            return PointLabels(np.arange(count, dtype=np.uint8), sure, sure, np.full(count, 7, np.uint16))

        def label_image(self, size: tuple[int, int] | None = None) -> np.ndarray:
            raise NotImplementedError

    cityscapes = Taxonomy.load("cityscapes")
    table = np.full(256, UNKNOWN, np.uint8)
    table[:2] = CAR, ROAD
    network = Network(world.LeftRightSegmenter(), cityscapes, cityscapes, table)
    labels = network.sample(Told(), np.zeros((3, 2)))
    assert labels.class_id.tolist() == [CAR, ROAD, UNKNOWN]
    assert labels.instance_id is not None
    assert labels.instance_id.tolist() == [7, 0, 0]


def test_warm_up_runs_each_network_once():
    one, other = world.LeftRightSegmenter(), world.LeftRightSegmenter()
    config = world.config(cameras=["front", "left", "rear"], camera={"rear": {"crop": "10x10+0+0"}})
    warm_up(config, {"front": one, "left": one, "rear": other})
    assert (one.calls, other.calls) == (1, 1)
