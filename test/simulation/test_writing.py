"""The bag of a simulated drive: read as any recording is, and its truth held against it."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import small_world
from simulation.small_drive import LIDAR, SIZE, config

from seg_perception.bags import BagReader
from seg_perception.cli import simulate
from seg_perception.config import Config
from seg_perception.datatypes import UNKNOWN
from seg_perception.errors import BagError, ConfigError
from seg_perception.inference.contract import Alignment
from seg_perception.inference.segmenter import LabelSegmentation
from seg_perception.intake import Intake
from seg_perception.messages.header import time_ns
from seg_perception.messages.image import decode
from seg_perception.messages.pointcloud import decode_cloud
from seg_perception.offline import replay
from seg_perception.simulation.config import standard_rig
from seg_perception.simulation.drive import Drive
from seg_perception.simulation.writing import EPOCH_NS, Simulated, write_drive

pytestmark = pytest.mark.open3d


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    out = tmp_path_factory.mktemp("simulated") / "drive.mcap"
    rig = standard_rig(1, SIZE, offset_ms=20.0, lidar=LIDAR)
    drive = Drive(config(seconds=0.5, cameras=rig, transport="raw", static_world=True))
    return write_drive(drive, out)


def messages(bag: Path, topic: str) -> list:
    with BagReader(bag) as reader:
        return [message.msg for message in reader.messages({topic})]


class TruthSegmenter(small_world.LeftRightSegmenter):
    """Knows each picture of a bag, and gives its true labels."""

    def __init__(self, bag: Path) -> None:
        super().__init__()
        pictures = [decode(msg, "front").pixels for msg in messages(bag, "/front/image_raw")]
        labels = [decode(msg, "front").pixels[..., 0] for msg in messages(bag, "/truth/front/labels")]
        self._labels = {picture.tobytes(): label for picture, label in zip(pictures, labels, strict=True)}

    def segment(self, pixels: np.ndarray) -> LabelSegmentation:
        labels = np.ascontiguousarray(self._labels[pixels.tobytes()])
        return LabelSegmentation(labels, None, Alignment(), (labels.shape[1], labels.shape[0]))


def test_replay_of_the_bag_with_true_labels_paints_points_with_their_true_class(simulated):
    settings = Config.load(simulated.config)
    truth = {cloud.stamp_ns: cloud for cloud in map(decode_cloud, messages(simulated.bag, "/truth/points"))}
    problems: list[str] = []
    right = painted = sweeps = 0
    with BagReader(simulated.bag) as bag:
        intake = Intake(settings, TruthSegmenter(simulated.bag), lambda cause, sentence: problems.append(sentence))
        for result in replay(bag, intake):
            semantic = result.cloud
            true_class = truth[semantic.scan.stamp_ns].field("class_id")
            assert result.report.motion == "per_point"
            chosen = semantic.class_id != UNKNOWN
            right += int((semantic.class_id[chosen] == true_class[chosen]).sum())
            painted += int(chosen.sum())
            sweeps += 1
    assert problems == []
    assert sweeps == 5
    assert painted > 5 * 1000
    assert right / painted > 0.95


def test_topics_are_those_of_a_recording_and_of_the_truth(simulated):
    assert simulated.counts["/points"] == simulated.counts["/truth/points"] == 5
    with BagReader(simulated.bag) as bag:
        assert {*bag.topics} == {
            "/front/image_raw",
            "/front/camera_info",
            "/points",
            "/tf",
            "/tf_static",
            "/clock",
            "/truth/front/labels",
            "/truth/front/instances",
            "/truth/front/depth",
            "/truth/points",
            "/truth/boxes",
            "/truth/label_info",
        }
        logged = [message.log_ns for message in bag.messages()]
    assert logged == sorted(logged)


def test_truth_points_lie_in_the_order_of_the_measured_ones(simulated):
    for measured, truth in zip(
        *(messages(simulated.bag, topic) for topic in ("/points", "/truth/points")), strict=True
    ):
        a, b = decode_cloud(measured), decode_cloud(truth)
        assert a.stamp_ns == b.stamp_ns and len(a) == len(b) > 1000
        assert np.array_equal(a.field("time"), b.field("time"))
        assert np.abs(a.field("x") - b.field("x")).max() < 0.15
        assert not (b.field("visible") & ~b.field("in_view")).any()
        assert set(np.unique(b.field("in_view"))) == {0, 1}


def test_pictures_and_their_truth_share_stamps_and_size(simulated):
    pictures = messages(simulated.bag, "/front/image_raw")
    stamps = [time_ns(msg.header.stamp) for msg in pictures]
    assert stamps == [EPOCH_NS + 70_000_000 + 100_000_000 * index for index in range(5)]
    for what, encoding, sample in (("labels", "mono8", 1), ("instances", "mono16", 2), ("depth", "32FC1", 4)):
        truth = messages(simulated.bag, f"/truth/front/{what}")
        assert [time_ns(msg.header.stamp) for msg in truth] == stamps
        assert {(msg.width, msg.height, msg.encoding, msg.step) for msg in truth} == {
            (*SIZE, encoding, sample * SIZE[0])
        }


def test_boxes_carry_class_track_and_size(simulated):
    markers = messages(simulated.bag, "/truth/boxes")[0].markers
    assert len(markers) > 10
    assert len({marker.id for marker in markers}) == len(markers)
    assert {marker.ns for marker in markers} <= {
        "car", "truck", "bus", "train", "motorcycle", "bicycle", "person", "rider",
    }  # fmt: skip
    lengths = [marker.scale.x for marker in markers if marker.ns == "car"]
    assert min(lengths) > 3.5 and max(lengths) < 6.0


def test_the_self_check_is_part_of_writing(simulated):
    assert simulated.agreement.compared > 5 * 800
    assert simulated.agreement.share >= 0.995


def test_an_existing_bag_is_refused(simulated, drive):
    with pytest.raises(BagError, match="exists already"):
        write_drive(drive, simulated.bag)


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        (["--image-size", "1024"], "WxH wanted, as 1024x512, '1024' seen"),
        (["--cameras", "9"], "1 to 8 wanted, 9 seen"),
        (["--beams", "8"], "16 to 128 beams wanted, 8 seen"),
        (["--speed", "31"], "0 to 30.0 m/s wanted, 31.0 seen"),
    ],
)
def test_the_command_refuses_what_it_cannot_do(argument, sentence, tmp_path):
    parser = argparse.ArgumentParser()
    simulate.add_parser(parser.add_subparsers())
    args = parser.parse_args(["simulate", "--out", str(tmp_path / "d.mcap"), *argument])
    with pytest.raises(ConfigError, match=sentence):
        args.run(args)


def test_the_command_writes_a_bag_and_says_how_it_went(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    simulate.add_parser(parser.add_subparsers())
    options = "--seconds 0.2 --image-size 96x48 --beams 16 --speed 0 --static-world --seed 5 --rolling-shutter-us 100"
    args = parser.parse_args(["simulate", "--out", str(tmp_path / "d.mcap"), *options.split()])
    assert args.run(args) == 0
    said = capsys.readouterr().out
    assert "2 pictures and 2 sweeps" in said and "agree with their pixel" in said
    (camera,) = Config.load(tmp_path / "d.param.yaml").cameras
    assert camera.transport == "compressed"
    assert camera.readout_ms == 4.7  # 47 times from row to row
