"""What comes with the package can be used as it is."""

import hashlib

import pytest
import yaml

from seg_perception.bags import BagReader
from seg_perception.evaluation.points import TruthReader
from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter
from seg_perception.messages.image import decode
from seg_perception.messages.pointcloud import decode_scan
from seg_perception.offline import check_topics, config_for
from seg_perception.shipped import CARD, DRIVE, MODEL, MODEL_INT8


def test_the_drive_fits_its_settings_and_holds_the_truth_of_every_point():
    config = config_for(DRIVE, None)
    with BagReader(DRIVE) as bag:
        check_topics(bag, config)
        truth = TruthReader(bag)
        sweeps = 0
        for message in bag.messages({config.lidar.topic}):
            scan, _ = decode_scan(message.msg)
            wanted = truth.at(scan.stamp_ns)
            assert wanted is not None
            assert len(wanted.class_id) == len(scan)
            assert wanted.visible is not None
            assert 0.02 < wanted.visible.mean() < 0.5
            sweeps += 1
    assert sweeps == truth.sweeps == 50


@pytest.mark.parametrize("model", [MODEL, MODEL_INT8], ids=lambda path: path.stem)
def test_the_card_speaks_of_the_model_that_is_there(model):
    entry = yaml.safe_load(CARD.read_text(encoding="utf-8"))["files"][model.name]
    assert entry["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert model.stat().st_size == entry["bytes"] <= 12e6


def test_the_int8_form_gives_nearly_the_same_labels():
    with BagReader(DRIVE) as bag:
        picture = next(decode(message.msg, "front").pixels for message in bag.messages({"/front/image_raw/compressed"}))
    labels = []
    for model in (MODEL, MODEL_INT8):
        segmenter = OnnxRuntimeSegmenter(model)
        labels.append(segmenter.segment(picture).label_image())
        segmenter.close()
    assert (labels[0] == labels[1]).mean() > 0.95
    assert len(set(labels[0].ravel())) > 8
