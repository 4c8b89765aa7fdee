"""A simulated drive, unpacked into pictures that can be read in any order."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from seg_perception.bags import BagMessage, BagReader
from seg_perception.config import CameraConfig, Config, parameters_beside
from seg_perception.errors import ConfigError, MessageError
from seg_perception.messages.header import as_bytes, stamp_ns
from seg_perception.messages.image import decode

_PENDING = 64  # messages of a camera that wait for their counterpart


def extract_bag(bag: Path, cache: Path) -> Path:
    """The drive as a folder (`datasets`, layout folder) within `cache`, made once for each content of the bag.

    Cameras and their image topics are those of the parameter file beside the bag; `/truth/<camera>/labels` (train ids)
    belongs to the image with the same stamp, as does `/truth/<camera>/instances` where there is one. Raises ConfigError
    where nothing fits.
    """
    if not bag.exists():
        raise ConfigError(f"bag {bag}: no such file or directory")
    folder = cache / f"{bag.stem}-{_fingerprint(bag)}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{bag.stem}-", dir=cache))
    try:
        _unpack(bag, part)
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _unpack(bag: Path, folder: Path) -> None:
    cameras = Config.load(parameters_beside(bag)).cameras
    for name in ("images", "labels", "instances"):
        (folder / name).mkdir()
    with BagReader(bag) as reader:
        topics = reader.topics
        complete = [camera for camera in cameras if f"/truth/{camera.name}/labels" in topics]
        if not complete:
            raise ConfigError(f"bag {bag}: no /truth/<camera>/labels for any of {[c.name for c in cameras]}")
        written = sum(_unpack_camera(reader, camera, folder, topics) for camera in complete)
    if not written:
        raise ConfigError(f"bag {bag}: no label picture has the stamp of an image")


def _unpack_camera(reader: BagReader, camera: CameraConfig, folder: Path, topics: dict[str, str]) -> int:
    """Write every image that has its labels; return how many."""
    parts = {
        camera.resolved_image_topic(): "images",
        f"/truth/{camera.name}/labels": "labels",
        f"/truth/{camera.name}/instances": "instances",
    }
    parts = {topic: part for topic, part in parts.items() if topic in topics}
    waiting: dict[int, dict[str, NDArray]] = {}
    written = 0
    total = sum(reader.counts[topic] for topic in parts)
    for message in tqdm(reader.messages(parts), total=total, desc=f"unpack {camera.name}", leave=False):
        msg = message.msg
        stamp = stamp_ns(msg.header, message.topic)
        found = waiting.setdefault(stamp, {})
        found[parts[message.topic]] = _picture(message, msg, parts[message.topic], camera.name)
        if len(found) == len(parts):
            for part, picture in waiting.pop(stamp).items():
                cv2.imwrite(str(folder / part / f"{camera.name}_{stamp}.png"), picture)
            written += 1
        if len(waiting) > _PENDING:
            del waiting[min(waiting)]
    return written


def _picture(message: BagMessage, msg: Any, part: str, camera: str) -> NDArray:
    """As OpenCV writes it: BGR, or one channel of 8 or 16 bits."""
    if part == "images":
        return decode(msg, camera).pixels[..., ::-1]
    wanted = {"labels": ("mono8", "<u1"), "instances": ("mono16", "<u2")}
    encoding, dtype = wanted[part]
    if msg.encoding not in (encoding, encoding.replace("mono", "") + "UC1"):
        raise MessageError(f"{message.topic}: encoding {encoding} wanted, {msg.encoding} seen")
    rows = as_bytes(msg.data).reshape(msg.height, msg.step)
    if msg.is_bigendian:
        dtype = dtype.replace("<", ">")
    width = msg.width * np.dtype(dtype).itemsize
    return np.ascontiguousarray(rows[:, :width]).view(dtype).astype(np.dtype(dtype).newbyteorder("="))


def _fingerprint(bag: Path) -> str:
    """Of names, sizes and dates: a bag written anew is unpacked anew."""
    files = sorted(bag.rglob("*")) if bag.is_dir() else [bag]
    facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]
