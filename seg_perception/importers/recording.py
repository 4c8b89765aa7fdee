"""What every importer ends with: a rosbag2 in order of time, and the parameter file with which node and replay read it.

Frames follow REP 103 and REP 105: optical frames end in `_optical`; all edges that do not move go out in one message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from seg_perception.bags import BagWriter
from seg_perception.config import parameter_file, parameters_beside
from seg_perception.datatypes import PointCloud
from seg_perception.errors import CalibrationError, ConfigError, MessageError
from seg_perception.geometry.camera import CameraModel
from seg_perception.messages.camera_info import CameraInfoRecord, record_of
from seg_perception.messages.compressed import compressed_size
from seg_perception.messages.image import compressed_fields
from seg_perception.messages.transforms import StampedTransform

Transport = Literal["raw", "jpeg", "png"]
Edges = Mapping[tuple[str, str], NDArray[np.float64]]
"""(parent, child) -> T_parent_child, rigid (4, 4)."""

_Entry = tuple[int, str, Callable[[BagWriter], None]]
"""Log time, topic, and what writes the message."""

FIXED_FRAME = "odom"
_SUFFIX_FORMATS = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png"}


@dataclass(frozen=True, slots=True, eq=False)
class RecordedCamera:
    """One camera of a recording. transport: "raw" for rgb8 pictures, else the format of compressed ones."""

    name: str
    frame_id: str
    model: CameraModel
    rectified: bool = False
    transport: Transport = "raw"

    @property
    def image_topic(self) -> str:
        """Where its pictures go; the names are those that image_proc and image_transport give."""
        topic = f"/{self.name}/{'image_rect' if self.rectified else 'image_raw'}"
        return topic if self.transport == "raw" else f"{topic}/compressed"

    @property
    def info_topic(self) -> str:
        """Where its CameraInfo goes, with the stamp of each picture."""
        return f"/{self.name}/camera_info"

    def info(self, stamp_ns: int) -> CameraInfoRecord:
        """Its CameraInfo."""
        return record_of(self.model, self.frame_id, stamp_ns)

    def settings(self) -> dict[str, Any]:
        """Its section of the parameter file."""
        return {
            "image_topic": self.image_topic,
            "info_topic": self.info_topic,
            "transport": "raw" if self.transport == "raw" else "compressed",
            "rectified": self.rectified,
        }


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import left behind. bag, config: paths. counts: messages by topic."""

    bag: Path
    config: Path
    counts: dict[str, int]


@dataclass(slots=True)
class Recording:
    """Messages collected first, then written in order of log time; of equal times the first added goes first."""

    cameras: Sequence[RecordedCamera]
    lidar_topic: str
    _entries: list[_Entry] = field(default_factory=list, init=False)

    def add_static(self, stamp_ns: int, edges: Edges) -> None:
        """All transforms that do not move, in one message: a latched topic keeps only the last."""
        transforms = _stamped(stamp_ns, edges)
        self._add(stamp_ns, "/tf_static", lambda writer: writer.write_tf("/tf_static", transforms, stamp_ns))

    def add_pose(self, stamp_ns: int, edges: Edges) -> None:
        """Transforms as they are at one instant."""
        transforms = _stamped(stamp_ns, edges)
        self._add(stamp_ns, "/tf", lambda writer: writer.write_tf("/tf", transforms, stamp_ns))

    def add_picture(self, camera: RecordedCamera, stamp_ns: int, path: Path) -> None:
        """A picture file and the CameraInfo beside it. The file is read when its turn to be written comes."""
        info = camera.info(stamp_ns)

        def write_picture(writer: BagWriter) -> None:
            if camera.transport == "raw":
                pixels = read_picture(path)
                _require_size(camera, (pixels.shape[1], pixels.shape[0]), path)
                writer.write_image(camera.image_topic, stamp_ns, camera.frame_id, pixels)
            else:
                data, kind = _compressed(camera, path)
                writer.write_compressed(camera.image_topic, stamp_ns, camera.frame_id, data, kind)

        self._add(stamp_ns, camera.info_topic, lambda writer: writer.write_camera_info(camera.info_topic, info))
        self._add(stamp_ns, camera.image_topic, write_picture)

    def add_sweep(self, log_ns: int, read: Callable[[], PointCloud]) -> None:
        """A sweep, read when its turn to be written comes. log_ns: when it was complete."""
        self._add(log_ns, self.lidar_topic, lambda writer: writer.write_cloud(self.lidar_topic, read(), log_ns))

    def write(self, out: Path, *, progress: bool = False) -> Imported:
        """Write bag and parameter file. progress: show a bar."""
        counts: dict[str, int] = {}
        config = parameters_beside(out)
        entries = sorted(self._entries, key=lambda entry: entry[0])
        with BagWriter(out) as writer:
            for _, topic, write in _bar(entries, f"writing {out.name}", progress):
                write(writer)
                counts[topic] = counts.get(topic, 0) + 1
        cameras = {camera.name: camera.settings() for camera in self.cameras}
        config.write_text(parameter_file(cameras, self.lidar_topic, FIXED_FRAME), encoding="utf-8")
        return Imported(out, config, counts)

    def _add(self, log_ns: int, topic: str, write: Callable[[BagWriter], None]) -> None:
        self._entries.append((log_ns, topic, write))


def require_folder(path: Path, what: str) -> Path:
    """The path of a folder that is there; ConfigError where it is not."""
    if not path.is_dir():
        raise ConfigError(f"{what}: a folder wanted, {path} is none")
    return path


def require_file(path: Path, what: str) -> Path:
    """The path of a file that is there; ConfigError where it is not."""
    if not path.is_file():
        raise ConfigError(f"{what}: a file wanted, {path} is none")
    return path


def read_picture(path: Path) -> NDArray[np.uint8]:
    """A picture file as (H, W, 3) uint8 RGB; MessageError where it is missing or no picture."""
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise MessageError(f"picture {path}: a PNG or JPEG file wanted, none could be read")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


def picture_size(path: Path) -> tuple[int, int]:
    """(width, height) of a picture file."""
    height, width = read_picture(path).shape[:2]
    return width, height


def _compressed(camera: RecordedCamera, path: Path) -> tuple[bytes | NDArray[np.uint8], str]:
    """The picture in the camera's format, and that format's name: the file's own bytes where it is in it already."""
    if _SUFFIX_FORMATS.get(path.suffix.lower()) == camera.transport:
        data = path.read_bytes()
        _require_size(camera, compressed_size(np.frombuffer(data, np.uint8), f"picture {path}"), path)
        return data, camera.transport
    pixels = read_picture(path)
    _require_size(camera, (pixels.shape[1], pixels.shape[0]), path)
    fields = compressed_fields(pixels, camera.transport)
    return fields["data"], fields["format"]


def _require_size(camera: RecordedCamera, size: tuple[int, int], path: Path) -> None:
    model = camera.model
    if size != (model.width, model.height):
        raise CalibrationError(
            f"picture {path} is {size[0]} x {size[1]}; the calibration of {camera.name} is for "
            f"{model.width} x {model.height}: another day's?"
        )


def _stamped(stamp_ns: int, edges: Edges) -> list[StampedTransform]:
    return [StampedTransform(parent, child, stamp_ns, T) for (parent, child), T in edges.items()]


def _bar(entries: Sequence[_Entry], what: str, shown: bool) -> Iterable[_Entry]:
    """A progress bar where somebody looks: never in a file or a pipe."""
    return tqdm(entries, desc=what, unit="message", disable=None if shown else True)
