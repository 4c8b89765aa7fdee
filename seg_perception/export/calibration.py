"""Real pictures to take the ranges of a quantised network from: out of a folder, or out of a bag."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seg_perception.bags import BagReader
from seg_perception.config import NODE_NAME
from seg_perception.errors import ConfigError, MessageError, ModelError
from seg_perception.export.verification import read_picture
from seg_perception.inference.contract import ModelContract
from seg_perception.inference.onnx_file import OnnxFile
from seg_perception.messages.image import decode

MOST = 32
_IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
_NOT_CAMERAS = ("/truth/", f"/{NODE_NAME}/")


def read_pictures(source: Path, model: Path, most: int = MOST) -> list[NDArray[np.uint8]]:
    """Up to `most` pictures, (H, W, 3) uint8 RGB, evenly spread over a folder (by name) or a bag (by time).

    Of a bag every image topic counts, but for the truth of a simulated drive and what the node itself publishes. Those
    of a wrong size are left out where the network takes one size. Raises ModelError where there are none.
    """
    if most < 1:
        raise ConfigError(f"pictures: at least 1 wanted, {most} seen")
    contract = ModelContract.from_metadata(OnnxFile.read(model).metadata, str(model))
    is_bag = source.suffix in (".mcap", ".db3") or (source / "metadata.yaml").is_file()
    pictures = _of_bag(source, most) if is_bag else _of_folder(source, most)
    wanted = contract.image_size
    fitting = [each for each in pictures if wanted is None or (each.shape[1], each.shape[0]) == wanted]
    if not fitting:
        what = "bag" if is_bag else "folder"
        raise ModelError(f"{what} {source}: pictures (.png, .jpg, Image) of {wanted or 'any'} size wanted, none seen")
    return fitting


def _of_folder(folder: Path, most: int) -> list[NDArray[np.uint8]]:
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    return [read_picture(path) for path in found[:: _step(len(found), most)]]


def _of_bag(path: Path, most: int) -> list[NDArray[np.uint8]]:
    pictures = []
    with BagReader(path) as bag:
        types = bag.topics
        topics = {topic for topic in types if types[topic] in _IMAGE_TYPES and not topic.startswith(_NOT_CAMERAS)}
        step = _step(sum(bag.counts[topic] for topic in topics), most)
        for number, message in enumerate(bag.messages(topics) if topics else ()):
            if number % step == 0:
                try:
                    pictures.append(decode(message.msg, message.topic).pixels)
                except MessageError:  # a depth image or a damaged one: nothing to take ranges from
                    continue
    return pictures


def _step(found: int, most: int) -> int:
    return max(-(-found // most), 1)
