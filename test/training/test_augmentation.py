"""A varied picture keeps its truth: each pixel still has the label it had."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from seg_perception.errors import ConfigError
from seg_perception.training.augmentation import augment
from seg_perception.training.config import AugmentationConfig
from seg_perception.training.datasets import Sample
from seg_perception.training.targets import instance_targets

PLAIN = AugmentationConfig(64, 48, 1.0, 1.0, flip=0.0, colour=0.0, blur=0.0, noise=0.0, rare_crop=0.0)


def coded(height: int = 96, width: int = 144) -> Sample:
    """Labels and instances that can be read off the pixels: blocks of 24, red = 10 * class."""
    labels = np.kron(np.random.default_rng(0).integers(0, 20, (height // 24, width // 24)), np.ones((24, 24), int))
    pixels = np.stack([labels * 10, labels * 10, labels * 10], axis=-1).astype(np.uint8)
    return Sample("coded", pixels, labels.astype(np.uint8), (labels + 1).astype(np.uint16))


def grid(height: int = 60, width: int = 62) -> Sample:
    """A smooth ramp, labelled by the place along it, to see half a pixel of shift."""
    u = np.tile(np.arange(width), (height, 1))
    return Sample("grid", np.stack([4 * u] * 3, axis=-1).astype(np.uint8), (u // 2).astype(np.uint8), None)


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_labels_and_instances_move_with_the_pixels(scale: float, flip: float) -> None:
    config = replace(PLAIN, min_scale=scale, max_scale=scale, flip=flip)
    for seed in range(5):
        sample = augment(coded(), config, np.random.default_rng(seed))
        assert sample.pixels.shape == (48, 64, 3) and sample.labels.shape == (48, 64)
        assert sample.pixels.flags.c_contiguous and sample.labels.flags.c_contiguous
        inside = sample.labels != 255
        same = sample.pixels[..., 0] == sample.labels * 10
        assert same[inside].mean() > (0.65 if scale != 1.0 else 0.999)  # resized pixels blend at the blocks' borders
        assert (sample.instances[inside] == sample.labels[inside].astype(int) + 1).all()


@pytest.mark.parametrize("upright", [False, True])
def test_resized_labels_lie_where_the_resized_pixels_do(upright: bool) -> None:
    ramp = grid()
    if upright:
        ramp = replace(ramp, pixels=ramp.pixels.swapaxes(0, 1).copy(), labels=ramp.labels.T.copy())
    for scale in (0.7, 1.7, 2.0):
        config = replace(PLAIN, min_scale=scale, max_scale=scale, crop_width=32, crop_height=32)
        sample = augment(ramp, config, np.random.default_rng(1))
        inside = sample.labels != 255
        shift = sample.pixels[..., 0][inside] / 4.0 - (2.0 * sample.labels[inside] + 0.5)
        assert abs(shift.mean()) < 0.15


def test_beyond_the_border_there_is_void() -> None:
    config = replace(PLAIN, crop_width=200, crop_height=100)
    sample = augment(coded(), config, np.random.default_rng(0))
    void = sample.labels == 255
    assert void.sum() == 200 * 100 - 144 * 96
    assert (sample.pixels[void] == [124, 116, 104]).all() and not sample.instances[void].any()


def test_the_same_generator_gives_the_same_sample() -> None:
    config = AugmentationConfig(64, 48)
    one, two = (augment(coded(), config, np.random.default_rng((3, 1, 7))) for _ in range(2))
    other = augment(coded(), config, np.random.default_rng((3, 1, 8)))
    assert (one.pixels == two.pixels).all() and (one.labels == two.labels).all()
    assert not (one.pixels == other.pixels).all()


def test_rare_classes_are_in_more_crops() -> None:
    sample = coded()
    labels = np.zeros_like(sample.labels)
    labels[3:5, 3:5] = 7
    sample = replace(sample, labels=labels)

    def share(rare: float) -> float:
        config = replace(PLAIN, crop_width=32, crop_height=24, rare_crop=rare)
        return np.mean([(augment(sample, config, np.random.default_rng(k)).labels == 7).any() for k in range(80)])

    assert share(1.0) > 0.4 > share(0.0) + 0.2


def test_colours_change_but_labels_do_not() -> None:
    config = replace(PLAIN, colour=0.5, noise=8.0, blur=1.0)
    plain = augment(coded(), PLAIN, np.random.default_rng(4))
    varied = augment(coded(), config, np.random.default_rng(4))
    assert (varied.labels == plain.labels).all() and not (varied.pixels == plain.pixels).all()


def test_scales_the_wrong_way_round_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"min_scale 2\.0 above max_scale 1\.0"):
        AugmentationConfig(min_scale=2.0, max_scale=1.0)


def test_offsets_lead_every_pixel_of_a_thing_to_its_centre() -> None:
    labels, instances = np.zeros((40, 60), np.uint8), np.zeros((40, 60), np.uint16)
    labels[10:21, 5:16], instances[10:21, 5:16] = 2, 9
    labels[10:21, 16:31], instances[10:21, 16:31] = 2, 4
    labels[0], instances[30, 30] = 255, 3  # void, and an instance of stuff
    is_thing = np.zeros(256, bool)
    is_thing[2] = True
    targets = instance_targets(Sample("two cars", np.zeros((40, 60, 3), np.uint8), labels, instances), is_thing)
    v, u = np.nonzero(targets.things)
    arrived = np.stack([v + targets.offset[0, v, u], u + targets.offset[1, v, u]], axis=-1)
    assert np.unique(arrived.round(4), axis=0).tolist() == [[15.0, 10.0], [15.0, 23.0]]
    assert (targets.centre[15, 10], targets.centre[15, 23]) == (1.0, 1.0)
    assert targets.centre[15, 12] == pytest.approx(np.exp(-4 / 128))
    assert not targets.known[0].any() and not targets.things[30, 30]


def test_a_sample_without_instances_teaches_no_things() -> None:
    with pytest.raises(ValueError, match="instances wanted"):
        instance_targets(grid(), np.zeros(256, bool))
