"""What an image tells apart is told apart in the cloud and in the scene."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import small_world

from seg_perception.config import Config
from seg_perception.inference.contract import Alignment
from seg_perception.inference.panoptic_merging import ImageThings
from seg_perception.inference.segmenter import LogitsSegmentation
from seg_perception.labels import Taxonomy
from seg_perception.pipeline import Pipeline
from seg_perception.scene.memory import SceneMemory

CAR, BUILDING = 13, 2
WIDTH, HEIGHT = small_world.WIDTH, small_world.HEIGHT


class TwoCarsSegmenter(small_world.LeftRightSegmenter):
    """A car left and a car right of the middle, and a building above both."""

    def segment(self, pixels: np.ndarray) -> LogitsSegmentation:
        scores = np.zeros((19, HEIGHT // 4, WIDTH // 4), np.float32)
        scores[CAR], scores[BUILDING, :4] = 5.0, 10.0
        instance = np.ones(scores.shape[1:], np.uint16)
        instance[:, WIDTH // 8 :] = 2
        alignment = Alignment.of_resize((WIDTH, HEIGHT), (WIDTH // 4, HEIGHT // 4))
        things = ImageThings(instance, np.arange(256) == CAR)
        return LogitsSegmentation(scores, alignment, (WIDTH, HEIGHT), things=things)


def cars_that_touch() -> np.ndarray:
    """A wall of points 10 m ahead, half on either car, and some of the building above it."""
    y, z = np.meshgrid(np.arange(-3.95, 4.0, 0.1), np.append(np.arange(-1.5, 0.5, 0.2), 4.2))
    return np.column_stack([np.full(y.size, 10.0), y.ravel(), z.ravel()]).astype(np.float32)


def cloud_of(segmenter: small_world.LeftRightSegmenter, camera: dict | None = None):
    config = small_world.config(**({"camera": {"front": camera}} if camera else {}))
    pipeline = Pipeline(config, segmenter, small_world.tree())
    pipeline.set_camera("front", small_world.camera())
    return pipeline.process(small_world.scan(xyz=cars_that_touch()), {"front": small_world.image()}).cloud


def test_points_carry_the_instance_of_the_image():
    cloud = cloud_of(TwoCarsSegmenter())
    seen = cloud.class_id == CAR
    left = cloud.scan.points[:, 1] > 0
    assert seen.sum() > 500
    assert set(cloud.instance_id[seen & left]) == {1} and set(cloud.instance_id[seen & ~left]) == {2}
    assert (cloud.class_id == BUILDING).any() and not cloud.instance_id[cloud.class_id == BUILDING].any()


def test_cars_that_touch_are_two_objects_in_the_scene():
    cloud = cloud_of(TwoCarsSegmenter())
    for told, count in ((cloud, 2), (replace(cloud, instance_id=np.zeros_like(cloud.instance_id)), 1)):
        objects = SceneMemory(Config(), Taxonomy.load("cityscapes")).update(told, told.scan.points, np.eye(4)).objects
        assert objects is not None and list(objects.class_id) == [CAR] * count


def test_a_network_that_tells_nothing_apart_gives_no_instances():
    assert not cloud_of(small_world.LeftRightSegmenter()).instance_id.any()


def test_a_cropped_picture_tells_the_same_instances():
    class Cropped(TwoCarsSegmenter):
        def segment(self, pixels: np.ndarray) -> LogitsSegmentation:
            assert pixels.shape[:2] == (HEIGHT - 20, WIDTH)
            whole = super().segment(pixels)
            return LogitsSegmentation(
                np.moveaxis(whole._scores, 2, 0)[:, 5:], whole._alignment, (WIDTH, HEIGHT - 20),
                things=ImageThings(whole._things.instance[5:], whole._things.is_thing),
            )  # fmt: skip

    cropped = cloud_of(Cropped(), {"crop": f"{WIDTH}x{HEIGHT - 20}+0+20"})
    whole = cloud_of(TwoCarsSegmenter())
    both = (cropped.class_id == CAR) & (whole.class_id == CAR)
    assert both.sum() > 500 and (cropped.instance_id[both] == whole.instance_id[both]).all()
