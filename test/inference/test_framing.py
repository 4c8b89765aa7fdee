"""Crop and mask: what the network is shown, and where its answer may paint."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import small_world as world
from small_world import CAR, HEIGHT, ROAD, WIDTH

from seg_perception.config import CameraConfig
from seg_perception.datatypes import UNKNOWN
from seg_perception.errors import ConfigError, MessageError
from seg_perception.inference.framing import Frame


def answer(frame: Frame):
    image = world.image()
    return frame.whole(world.LeftRightSegmenter().segment(frame.shown(image)), image)


def mask_file(tmp_path, own_body):
    path = tmp_path / "mask.png"
    cv2.imwrite(str(path), np.where(own_body, 0, 255).astype(np.uint8))
    return str(path)


def bonnet():
    own_body = np.zeros((HEIGHT, WIDTH), bool)
    own_body[80:, :120] = True
    return own_body


def test_without_crop_and_mask_the_answer_is_the_networks_own():
    frame = Frame.of(CameraConfig("front"))
    image = world.image()
    assert frame.shown(image) is image.pixels
    segmentation = world.LeftRightSegmenter().segment(image.pixels)
    assert frame.whole(segmentation, image) is segmentation


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_places_stay_those_of_the_whole_picture_and_beyond_the_crop_nothing_is_said(dtype):
    frame = Frame.of(CameraConfig("front", crop="100x60+50+10"))
    assert frame.shown(world.image()).shape == (60, 100, 3)
    segmentation = answer(frame)
    assert segmentation.size == (WIDTH, HEIGHT)
    uv = np.array([[60, 30], [99, 30], [100, 30], [149, 69], [49, 30], [150, 30], [60, 9], [60, 70], [np.nan, 30]])
    labels = segmentation.sample(uv.astype(dtype))
    assert labels.class_id.tolist() == [ROAD, ROAD, CAR, CAR, *[UNKNOWN] * 5]
    picture = segmentation.label_image()
    assert picture.shape == (HEIGHT, WIDTH)
    assert (picture[10:70, 50:100] == ROAD).all()
    assert (picture[10:70, 100:150] == CAR).all()
    assert np.count_nonzero(picture != UNKNOWN) == 60 * 100


def test_the_vehicle_itself_paints_nothing(tmp_path):
    segmentation = answer(Frame.of(CameraConfig("front", mask=mask_file(tmp_path, bonnet()))))
    labels = segmentation.sample(np.array([[10.0, 79.4], [10.0, 79.5], [119.4, 99.0], [119.5, 99.0]]))
    assert labels.class_id.tolist() == [ROAD, UNKNOWN, UNKNOWN, CAR]
    assert labels.probability.tolist() == [1.0, 0.0, 0.0, 1.0]
    picture = segmentation.label_image()
    assert (picture[bonnet()] == UNKNOWN).all()
    assert (picture[~bonnet()] != UNKNOWN).all()
    assert segmentation.label_image((WIDTH // 2, HEIGHT // 2))[45, 20] == UNKNOWN


def test_crop_and_mask_go_together(tmp_path):
    segmentation = answer(Frame.of(CameraConfig("front", crop="100x60+50+40", mask=mask_file(tmp_path, bonnet()))))
    labels = segmentation.sample(np.array([[60.0, 50.0], [60.0, 90.0], [60.0, 30.0]]))
    assert labels.class_id.tolist() == [ROAD, UNKNOWN, UNKNOWN]


@pytest.mark.parametrize("turn_deg", [90, 180, 270])
@pytest.mark.parametrize(("crop", "part"), [("", np.s_[:, :]), ("100x60+50+10", np.s_[10:70, 50:150])])
def test_the_network_sees_a_turned_camera_upright_and_places_stay_those_of_its_picture(turn_deg, crop, part):
    image = replace(world.image(), pixels=np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))
    frame = Frame.of(CameraConfig("front", crop=crop, turn_deg=turn_deg))
    shown = frame.shown(image)
    assert np.array_equal(shown, np.rot90(image.pixels[part], -turn_deg // 90))
    assert shown.flags.c_contiguous
    inner = world.LeftRightSegmenter().segment(shown)
    segmentation = frame.whole(inner, image)
    picture = segmentation.label_image()
    assert np.array_equal(picture[part], np.rot90(inner.label_image(), turn_deg // 90))
    v, u = np.mgrid[:HEIGHT, :WIDTH].reshape(2, -1)
    assert np.array_equal(segmentation.sample(np.column_stack((u, v))).class_id, picture.ravel())
    beyond = np.array([[-0.6, 5.0], [WIDTH - 0.4, 5.0], [np.nan, 5.0], [5.0, HEIGHT - 0.4]])
    assert (segmentation.sample(beyond).class_id == UNKNOWN).all()


@pytest.mark.parametrize("crop", ["100x60", "100x60+50", "0x60+50+10", "a", "100x60+-5+10"])
def test_a_crop_that_is_none_is_refused(crop):
    with pytest.raises(ConfigError, match=r"crop: WIDTHxHEIGHT\+X\+Y wanted"):
        CameraConfig("front", crop=crop)


def test_a_mask_that_cannot_be_or_would_hide_nothing_or_everything_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        Frame.of(CameraConfig("front", mask=str(tmp_path / "nowhere.png")))
    for value, said in ((False, "all white"), (True, "all black")):
        with pytest.raises(ConfigError, match=said):
            Frame.of(CameraConfig("front", mask=mask_file(tmp_path, np.full((HEIGHT, WIDTH), value))))


def test_a_picture_that_does_not_fit_is_refused_with_both_sizes(tmp_path):
    for frame in (
        Frame.of(CameraConfig("front", crop="100x60+101+0")),
        Frame.of(CameraConfig("front", mask=mask_file(tmp_path, bonnet()[:, :100]))),
    ):
        with pytest.raises(MessageError, match=r"200 x 100.*100 x"):
            frame.shown(world.image())
