"""A simulated drive becomes a folder of pictures, each beside the truth of its own stamp."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from seg_perception.bags import BagWriter
from seg_perception.errors import ConfigError
from seg_perception.labels import Taxonomy
from seg_perception.messages.header import header_fields
from seg_perception.training.config import SourceConfig
from seg_perception.training.datasets import open_source
from seg_perception.training.extraction import extract_bag

SECOND = 1_000_000_000


def drive(folder: Path, *, instances: bool = True, truth: bool = True) -> Path:
    """Four images, labels for all but the third, logged long before their images."""
    bag = folder / "drive.mcap"
    (folder / "drive.param.yaml").write_text(
        yaml.safe_dump({"cameras": ["front"], "camera": {"front": {"image_topic": "/front/image_raw"}}})
    )
    with BagWriter(bag) as writer:
        for number in range(4):
            stamp = (number + 1) * SECOND
            labels = np.full((4, 6), number, np.uint8)
            if truth and number != 2:
                writer.write_image("/truth/front/labels", stamp, "front", labels, "mono8", log_ns=number)
            if truth and instances and number != 2:
                picture = np.full((4, 6), 1000 + number, "<u2")
                fields = {
                    "header": header_fields(stamp, "front"),
                    "height": 4,
                    "width": 6,
                    "encoding": "mono16",
                    "is_bigendian": 0,
                    "step": 12,
                    "data": picture.view(np.uint8).ravel(),
                }
                writer.write("/truth/front/instances", "sensor_msgs/msg/Image", fields, stamp)
            pixels = np.zeros((4, 6, 3), np.uint8) + np.array([10 * number, 20, 30], np.uint8)
            writer.write_image("/front/image_raw", stamp, "front", pixels)
    return bag


def test_images_come_with_labels_and_instances_of_the_same_stamp(tmp_path: Path) -> None:
    bag = drive(tmp_path)
    source = open_source(SourceConfig(str(bag), "bag"), Taxonomy.load("cityscapes"), tmp_path / "cache")
    assert len(source) == 3
    for index, number in enumerate((0, 1, 3)):
        sample = source[index]
        assert sample.name.endswith(f"front_{(number + 1) * SECOND}.png")
        assert (sample.pixels == [10 * number, 20, 30]).all() and (sample.labels == number).all()
        assert sample.instances is not None and (sample.instances == 1000 + number).all()


def test_a_drive_without_instances_does(tmp_path: Path) -> None:
    bag = drive(tmp_path, instances=False)
    source = open_source(SourceConfig(str(bag), "bag"), Taxonomy.load("cityscapes"), tmp_path / "cache")
    assert len(source) == 3 and source[0].instances is None


def test_a_drive_is_unpacked_once(tmp_path: Path) -> None:
    bag = drive(tmp_path)
    first = extract_bag(bag, tmp_path / "cache")
    (first / "mark").touch()
    assert extract_bag(bag, tmp_path / "cache") == first and (first / "mark").exists()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [first.name]


def test_a_bag_without_truth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no /truth/<camera>/labels for any of \['front'\]"):
        extract_bag(drive(tmp_path, truth=False), tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())
