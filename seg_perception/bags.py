"""rosbag2 in and out without ROS: mcap and sqlite3, compressed or not. The one door to the rosbags library."""

from __future__ import annotations

import copy
import heapq
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import (
    Connection,
    MessageDefinitionFormat,
    Nodetype,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer
from rosbags.rosbag2.reader import DirectoryReader
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from seg_perception.datatypes import PointCloud
from seg_perception.errors import BagError, MessageError
from seg_perception.labels import Taxonomy
from seg_perception.messages.camera_info import CameraInfoRecord, camera_info_fields
from seg_perception.messages.header import as_bytes, header_fields
from seg_perception.messages.image import image_fields
from seg_perception.messages.labels import label_info_fields
from seg_perception.messages.pointcloud import cloud_fields
from seg_perception.messages.transforms import StampedTransform, tf_fields
from seg_perception.messages.vision_msgs import VISION_MSGS

_METADATA_VERSION: Literal[8] = 8  # the newest whose QoS profiles are still readable to Humble
_FOREVER = QosTime(9223372036, 854775807)
_COMPRESSION = {
    "": CompressionMode.NONE,
    "file": CompressionMode.FILE,
    "message": CompressionMode.MESSAGE,
    "chunk": CompressionMode.STORAGE,
}


@dataclass(frozen=True, slots=True)
class TopicQos:
    """What a late or lossy subscriber may expect of a topic."""

    reliable: bool = True
    latched: bool = False
    depth: int = 10


@dataclass(frozen=True, slots=True)
class BagMessage:
    """One message as it was recorded. `data`: its serialized bytes (CDR), fit to be published as they are."""

    topic: str
    type: str
    log_ns: int
    data: bytes
    _types: _Types = field(repr=False)

    @property
    def msg(self) -> Any:
        """The message object, deserialized anew at each access. MessageError where the bytes are not of that type."""
        return self._types.deserialize(self)


class BagReader:
    """A rosbag2, to be used in a `with`: its directory, or a single .mcap or .db3 file.

    Raises BagError where there is no bag, it is cut short or damaged, on entering as well as while reading.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._reader = self._open()
        self._types = _Types()

    def __enter__(self) -> BagReader:
        try:
            self._reader.open()
            for file in getattr(self._reader.storage, "storages", [self._reader.storage]):
                _refuse_short_database(file.path)
        except BagError:
            self._reader.close()
            raise
        except Exception as error:  # on damaged files the library lets out asserts, and struct, sqlite and zstd errors
            cut = "; was the recording cut short? `mcap recover` saves what is whole" * ("end magic" in str(error))
            raise BagError(f"bag {self.path}: {_sentence(error)}{cut}") from error
        self._types.learn(self._reader.connections)
        return self

    def __exit__(self, *_: object) -> None:
        if self._reader.is_open:
            self._reader.close()

    @property
    def topics(self) -> dict[str, str]:
        """Type of each topic, as "sensor_msgs/msg/Image", sorted by topic."""
        return {connection.topic: connection.msgtype for connection in self._sorted()}

    @property
    def counts(self) -> dict[str, int]:
        """Messages of each topic, sorted by topic."""
        counts: dict[str, int] = {}
        for connection in self._sorted():
            counts[connection.topic] = counts.get(connection.topic, 0) + connection.msgcount
        return counts

    @property
    def start_ns(self) -> int:
        """Log time of the first message; 0 in an empty bag."""
        return self._reader.start_time if self._reader.message_count else 0

    @property
    def end_ns(self) -> int:
        """Log time of the last message; 0 in an empty bag."""
        return self._reader.end_time - 1 if self._reader.message_count else 0

    @property
    def duration_ns(self) -> int:
        """From the first message to the last."""
        return self.end_ns - self.start_ns

    def qos(self, topic: str) -> TopicQos | None:
        """What the bag says of a topic's publisher; None where it says nothing."""
        for connection in self._sorted():
            profiles = getattr(connection.ext, "offered_qos_profiles", []) if connection.topic == topic else []
            if profiles:
                return TopicQos(
                    all(profile.reliability != QosReliability.BEST_EFFORT for profile in profiles),
                    any(profile.durability == QosDurability.TRANSIENT_LOCAL for profile in profiles),
                    max([1, *(profile.depth for profile in profiles)]),
                )
        return None

    def messages(self, topics: Iterable[str] | None = None, start_ns: int | None = None) -> Iterator[BagMessage]:
        """Messages in order of log time, equal times as recorded. topics: None for all. start_ns: earliest log time."""
        wanted = None if topics is None else set(topics)
        connections = [c for c in self._reader.connections if wanted is None or c.topic in wanted]
        last_ns = None
        try:
            for connection, log_ns, data in self._merged(connections, start_ns) if connections else ():
                yield BagMessage(connection.topic, connection.msgtype, log_ns, data, self._types)
                last_ns = log_ns
        except Exception as error:
            where = "before its first message" if last_ns is None else f"after the message logged at {last_ns} ns"
            raise BagError(f"bag {self.path}: damaged {where}: {_sentence(error)}") from error

    def _open(self) -> Reader:
        if not self.path.exists():
            raise BagError(f"bag {self.path}: no such file or directory")
        if self.path.is_dir() and not (self.path / "metadata.yaml").is_file():
            files = sorted(entry.name for pattern in ("*.mcap", "*.db3") for entry in self.path.glob(pattern))
            hint = f"; it holds {files}, each of which may be read by itself" if files else ""
            raise BagError(f"bag {self.path}: no rosbag2, as the directory has no metadata.yaml{hint}")
        if not self.path.is_dir() and self.path.suffix not in (".mcap", ".db3"):
            raise BagError(f"bag {self.path}: a directory, a .mcap or a .db3 file wanted")
        return Reader(self.path)

    def _sorted(self) -> list[Connection]:
        return sorted(self._reader.connections, key=lambda connection: connection.topic)

    def _merged(self, connections: list[Connection], start_ns: int | None) -> Iterator[tuple[Connection, int, bytes]]:
        """The library reads the files of a split bag one after another; here they are merged by time."""
        storage = self._reader.storage
        if not isinstance(storage, DirectoryReader) or len(storage.storages) < 2:
            return self._reader.messages(connections, start=start_ns)
        parts = [copy.copy(storage) for _ in storage.storages]
        for part, file in zip(parts, storage.storages, strict=True):
            part.storages = [file]
        return heapq.merge(*(part.messages(connections, start=start_ns) for part in parts), key=lambda item: item[1])


class BagWriter:
    """A new rosbag2, to be used in a `with`. The same calls give the same bytes.

    path: ending in .mcap, a single file, which appears when the bag is complete; any other, a directory. Nothing of it
    stays where writing ends in an exception. compression: "" for none; "file" or "message" (directories only); "chunk"
    (mcap only), which every mcap tool reads. Raises BagError, also where the path exists already.

    log_ns is the time of recording, by default the message's own stamp.
    """

    def __init__(self, path: str | Path, storage: str = "mcap", compression: str = "") -> None:
        self.path = Path(path)
        self._single = self.path.suffix == ".mcap"
        if storage not in ("mcap", "sqlite3") or (self._single and storage != "mcap"):
            raise BagError(f"bag {path}: storage mcap, or sqlite3 in a directory, wanted, '{storage}' seen")
        allowed = ["", *([] if self._single else ["file", "message"]), *(["chunk"] if storage == "mcap" else [])]
        if compression not in allowed:
            raise BagError(f"bag {path}: compression '{compression}' seen, one of {allowed} wanted for this path")
        if self.path.exists():
            raise BagError(f"bag {path}: exists already")
        self._plugin = StoragePlugin[storage.upper()]
        self._compression = _COMPRESSION[compression]
        self._types = _Types()
        self._connections: dict[tuple[str, str], Connection] = {}
        self._writer: Writer
        self._folder: Path

    def __enter__(self) -> BagWriter:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._folder = self.path
            if self._single:  # the library writes directories; the name of this one goes into the file, so it is fixed
                self._folder = Path(tempfile.mkdtemp(prefix=f".{self.path.stem}-", dir=self.path.parent)) / "bag"
            self._writer = Writer(self._folder, version=_METADATA_VERSION, storage_plugin=self._plugin)
            self._writer.set_compression(self._compression, CompressionFormat.ZSTD)
            self._writer.open()
        except Exception as error:
            raise BagError(f"bag {self.path}: {_sentence(error)}") from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: Any) -> None:
        complete = False
        try:
            self._writer.__exit__(kind, error, trace)
            if self._single and kind is None:
                (self._folder / "bag.mcap").replace(self.path)
            complete = kind is None
        except Exception as failure:
            raise BagError(f"bag {self.path}: {_sentence(failure)}") from failure
        finally:
            if self._single or not complete:
                shutil.rmtree(self._folder.parent if self._single else self._folder, ignore_errors=True)

    def write_raw(self, topic: str, type: str, log_ns: int, data: bytes, qos: TopicQos | None = None) -> None:
        """Write serialized bytes as they are. qos: of the topic, if this is its first message; default: by its type."""
        connection = self._connections.get((topic, type)) or self._connect(topic, type, qos)
        try:
            self._writer.write(connection, int(log_ns), data)
        except Exception as error:
            raise BagError(f"bag {self.path}: {topic}: {_sentence(error)}") from error

    def write(self, topic: str, type: str, fields: Mapping[str, Any], log_ns: int, qos: TopicQos | None = None) -> None:
        """Write a message of any standard type from its fields: a mapping, nested as the message is. qos: as above."""
        try:
            data = self._types.serialize(type, fields)
        except Exception as error:
            raise BagError(f"bag {self.path}: {topic}: no {type} can be made of it: {_sentence(error)}") from error
        self.write_raw(topic, type, log_ns, data, qos)

    def write_image(
        self,
        topic: str,
        stamp_ns: int,
        frame_id: str,
        pixels: NDArray[np.uint8],
        encoding: str = "rgb8",
        log_ns: int | None = None,
    ) -> None:
        """Write a sensor_msgs/Image. pixels: (H, W) for mono8, (H, W, 3) for rgb8 and bgr8, uint8."""
        fields = {"header": header_fields(stamp_ns, frame_id), **image_fields(pixels, encoding)}
        self.write(topic, "sensor_msgs/msg/Image", fields, stamp_ns if log_ns is None else log_ns)

    def write_compressed(
        self,
        topic: str,
        stamp_ns: int,
        frame_id: str,
        data: bytes | NDArray[np.uint8],
        format: str,
        log_ns: int | None = None,
    ) -> None:
        """Write a sensor_msgs/CompressedImage: the bytes of a JPEG or PNG file. format: "jpeg", "png"."""
        fields = {"header": header_fields(stamp_ns, frame_id), "format": format, "data": as_bytes(data)}
        self.write(topic, "sensor_msgs/msg/CompressedImage", fields, stamp_ns if log_ns is None else log_ns)

    def write_camera_info(self, topic: str, record: CameraInfoRecord, log_ns: int | None = None) -> None:
        """Write a sensor_msgs/CameraInfo."""
        log_ns = record.stamp_ns if log_ns is None else log_ns
        self.write(topic, "sensor_msgs/msg/CameraInfo", camera_info_fields(record), log_ns)

    def write_cloud(
        self, topic: str, cloud: PointCloud, log_ns: int | None = None, qos: TopicQos | None = None
    ) -> None:
        """Write a sensor_msgs/PointCloud2."""
        fields = {"header": header_fields(cloud.stamp_ns, cloud.frame_id), **cloud_fields(cloud)}
        self.write(topic, "sensor_msgs/msg/PointCloud2", fields, cloud.stamp_ns if log_ns is None else log_ns, qos)

    def write_tf(self, topic: str, transforms: Sequence[StampedTransform], log_ns: int | None = None) -> None:
        """Write a tf2_msgs/TFMessage. topic: "/tf", or "/tf_static", which is recorded as latched."""
        if not transforms:
            raise BagError(f"bag {self.path}: {topic}: at least one transform wanted, none seen")
        log_ns = max(transform.stamp_ns for transform in transforms) if log_ns is None else log_ns
        self.write(topic, "tf2_msgs/msg/TFMessage", tf_fields(transforms), log_ns)

    def write_label_info(
        self, topic: str, taxonomy: Taxonomy, stamp_ns: int, frame_id: str = "", log_ns: int | None = None
    ) -> None:
        """Write a vision_msgs/LabelInfo, recorded as latched."""
        fields = label_info_fields(taxonomy)
        classes = [{"class_id": class_id, "class_name": name} for class_id, name in fields["class_map"]]
        fields = {**fields, "header": header_fields(stamp_ns, frame_id), "class_map": classes}
        self.write(topic, "vision_msgs/msg/LabelInfo", fields, stamp_ns if log_ns is None else log_ns)

    def write_clock(self, stamp_ns: int, topic: str = "/clock") -> None:
        """Write a rosgraph_msgs/Clock, logged at the time it tells."""
        self.write(topic, "rosgraph_msgs/msg/Clock", {"clock": header_fields(stamp_ns, "")["stamp"]}, stamp_ns)

    def _connect(self, topic: str, type: str, qos: TopicQos | None) -> Connection:
        if qos is None:
            qos = TopicQos(latched=topic.endswith("/tf_static") or type == "vision_msgs/msg/LabelInfo")
        profile = Qos(
            QosHistory.KEEP_LAST,
            qos.depth,
            QosReliability.RELIABLE if qos.reliable else QosReliability.BEST_EFFORT,
            QosDurability.TRANSIENT_LOCAL if qos.latched else QosDurability.VOLATILE,
            _FOREVER,
            _FOREVER,
            QosLiveliness.AUTOMATIC,
            _FOREVER,
            False,
        )
        store = self._types.store
        try:
            connection = self._writer.add_connection(topic, type, typestore=store, offered_qos_profiles=[profile])
        except Exception as error:
            raise BagError(f"bag {self.path}: {topic} of type {type}: {_sentence(error)}") from error
        self._connections[topic, type] = connection
        return connection


class _Types:
    """The message types of a bag: the standard ones, and those whose definitions it brings."""

    def __init__(self) -> None:
        self.store: Typestore = get_typestore(Stores.ROS2_JAZZY)
        for name, definition in VISION_MSGS.items():
            self.store.register(get_types_from_msg(definition, name))

    def learn(self, connections: Iterable[Connection]) -> None:
        """Register types that are not known yet. Where a definition cannot be read, only its own messages will fail."""
        known = self.store.fielddefs
        for connection in connections:
            form, text = connection.msgdef
            with suppress(Exception):
                if connection.msgtype not in known:
                    as_idl = form == MessageDefinitionFormat.IDL
                    found = get_types_from_idl(text) if as_idl else get_types_from_msg(text, connection.msgtype)
                    self.store.register({name: definition for name, definition in found.items() if name not in known})

    def serialize(self, type: str, fields: Mapping[str, Any]) -> bytes:
        """The bytes of a message with these fields."""
        return bytes(self.store.serialize_cdr(self._build(type, fields), type))

    def _build(self, type: str, value: Any) -> Any:
        """A message from a mapping of its fields, or from an object that has them as attributes."""
        fields = {}
        inner: Any
        for name, (node, inner) in self.store.fielddefs[type][1]:
            item = value[name] if isinstance(value, Mapping) else getattr(value, name)
            if node == Nodetype.NAME:
                item = self._build(inner, item)
            elif node in (Nodetype.ARRAY, Nodetype.SEQUENCE):
                (inner_node, inner_type), _ = inner
                if inner_node == Nodetype.NAME:
                    item = [self._build(inner_type, entry) for entry in item]
                elif inner_type[0] != "string":
                    item = np.asarray(item, inner_type[0])
            fields[name] = item
        return self.store.types[type](**fields)

    def deserialize(self, message: BagMessage) -> Any:
        try:
            return self.store.deserialize_cdr(message.data, message.type)
        except Exception as error:
            raise MessageError(
                f"{message.topic} at {message.log_ns} ns: its {len(message.data)} bytes are no {message.type}: "
                f"{_sentence(error)}"
            ) from error


def _refuse_short_database(path: Path) -> None:
    """SQLite reads a file whose end is missing until something asks for that end; its header tells what there was."""
    with path.open("rb") as file:
        head = file.read(100)
    page_bytes, pages = int.from_bytes(head[16:18], "big"), int.from_bytes(head[28:32], "big")
    wanted = pages * (65536 if page_bytes == 1 else page_bytes)
    if path.suffix == ".db3" and path.stat().st_size < wanted:
        raise BagError(f"bag {path}: cut short: {path.stat().st_size} bytes seen, {wanted} wanted")


def _sentence(error: Exception) -> str:
    """What an error says, in one line; its kind where it says nothing."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
