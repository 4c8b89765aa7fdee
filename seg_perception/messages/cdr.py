"""Images, clouds and transforms as the bytes that travel: read in place; clouds written with their points copied once.

CDR as every DDS speaks it, "plain" (OMG DDS-XTypes 1.3, 7.4.3): a number lies at a multiple of its size, counted from
the end of the four bytes that name the encoding; before a string or a sequence stands its length, and a string ends
with a zero.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_perception.datatypes import PointCloud, PointField
from seg_perception.errors import MessageError
from seg_perception.messages.header import as_bytes, time_fields

_LITTLE_ENDIAN = b"\x00\x01\x00\x00"

# What stands together, by what the second byte of a message may be, which names the order of bytes.
_Layouts = tuple[struct.Struct, struct.Struct]


def _layouts(numbers: str) -> _Layouts:
    return struct.Struct(f">{numbers}"), struct.Struct(f"<{numbers}")


_BYTE, _ONE, _TWO, _THREE = _layouts("B"), _layouts("I"), _layouts("II"), _layouts("III")
_STAMP, _FIELD, _POSE = _layouts("iI"), _layouts("IB3xI"), _layouts("7d")
_WRITTEN_STAMP, _WRITTEN_SIZE, _WRITTEN_SIZES = _STAMP[1], _TWO[1], _THREE[1]
_FIELD_BYTES, _TRANSFORM_BYTES = 14, 72  # without a name each takes no fewer
_FIELDS_KEPT, _BYTES_KEPT = 32, 1024  # of a cloud: what is longer is read anew each time
_KNOWN_FIELDS: dict[tuple[int, int, int], tuple[bytes, tuple[PointField, ...]]] = {}  # by order, place and count
_HEAD_ROOM = 4096  # before the points of a cloud that is written in place, so that these lie at a multiple of that


@dataclass(frozen=True, slots=True)
class Time:
    """builtin_interfaces/Time."""

    sec: int
    nanosec: int


@dataclass(frozen=True, slots=True)
class Header:
    """std_msgs/Header."""

    stamp: Time
    frame_id: str


@dataclass(frozen=True, slots=True, eq=False)
class ImageMessage:
    """sensor_msgs/Image; `data` (N,) uint8 shares the memory of the bytes it was read from."""

    header: Header
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class CloudMessage:
    """sensor_msgs/PointCloud2; `data` (N,) uint8 shares the memory of the bytes it was read from. fields: a count of 0,
    as some drivers write it, is 1."""

    header: Header
    height: int
    width: int
    fields: tuple[PointField, ...]
    is_bigendian: bool
    point_step: int
    row_step: int
    data: NDArray[np.uint8]
    is_dense: bool


@dataclass(frozen=True, slots=True)
class Vector3:
    """geometry_msgs/Vector3."""

    x: float
    y: float
    z: float


@dataclass(frozen=True, slots=True)
class Quaternion:
    """geometry_msgs/Quaternion."""

    x: float
    y: float
    z: float
    w: float


@dataclass(frozen=True, slots=True)
class Transform:
    """geometry_msgs/Transform."""

    translation: Vector3
    rotation: Quaternion


@dataclass(frozen=True, slots=True)
class TransformStamped:
    """geometry_msgs/TransformStamped."""

    header: Header
    child_frame_id: str
    transform: Transform


@dataclass(frozen=True, slots=True)
class TransformsMessage:
    """tf2_msgs/TFMessage."""

    transforms: tuple[TransformStamped, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Unread:
    """A message that begins with a header, of which nothing else was read. rest: all but the stamp."""

    header: Header
    content: bytes

    @property
    def rest(self) -> tuple[bytes, bytes]:
        return self.content[: len(_LITTLE_ENDIAN)], self.content[len(_LITTLE_ENDIAN) + 8 :]


def read_header(content: Any) -> Unread:
    """Any serialized message that begins with a std_msgs/Header, as (N,) uint8 or bytes. Raises MessageError for what
    does not."""
    data = as_bytes(content)
    return Unread(_Reader(data, "header").header(), data.tobytes())


def read_transforms(content: Any) -> TransformsMessage:
    """A serialized tf2_msgs/TFMessage: bytes, or (N,) uint8. Raises MessageError for what is none."""
    read = _Reader(as_bytes(content), "transforms")
    (count,) = read.numbers(_ONE)
    read.require(count * _TRANSFORM_BYTES, f"{count} transforms")
    return TransformsMessage(tuple(_transform(read) for _ in range(count)))


def _transform(read: _Reader) -> TransformStamped:
    header, child, (x, y, z, *rotation) = read.header(), read.string(), read.numbers(_POSE, 8)
    return TransformStamped(header, child, Transform(Vector3(x, y, z), Quaternion(*rotation)))


def read_image(content: Any) -> ImageMessage:
    """A serialized sensor_msgs/Image: bytes, or (N,) uint8. Raises MessageError for what is none."""
    read = _Reader(as_bytes(content), "image")
    header, (height, width), encoding = read.header(), read.numbers(_TWO), read.string()
    (is_bigendian,), (step,) = read.numbers(_BYTE), read.numbers(_ONE)
    return ImageMessage(header, height, width, encoding, is_bigendian, step, read.sequence())


def read_cloud(content: Any) -> CloudMessage:
    """A serialized sensor_msgs/PointCloud2: bytes, or (N,) uint8. Raises MessageError for what is none."""
    read = _Reader(as_bytes(content), "cloud")
    header, (height, width, count) = read.header(), read.numbers(_THREE)
    fields = read.point_fields(count)
    (is_bigendian,), (point_step, row_step) = read.numbers(_BYTE), read.numbers(_TWO)
    data, (is_dense,) = read.sequence(), read.numbers(_BYTE)
    return CloudMessage(header, height, width, fields, bool(is_bigendian), point_step, row_step, data, bool(is_dense))


def cloud_bytes(cloud: PointCloud) -> bytes:
    """A sensor_msgs/PointCloud2, serialized."""
    data = np.ascontiguousarray(cloud.data).reshape(-1)
    return b"".join((_cloud_head(cloud), data.data, struct.pack("?", cloud.is_dense)))


class CloudBuffer:
    """Memory for one serialized cloud after the other: points are written where they are sent from."""

    def __init__(self) -> None:
        self._content = np.empty(0, np.uint8)

    def points(self, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """(N, point_step) uint8 of any values, the `data` of the next cloud; those of the last one are gone."""
        end = _HEAD_ROOM + shape[0] * shape[1]
        if end >= len(self._content):
            self._content = np.empty(end + 1, np.uint8)
        return self._content[_HEAD_ROOM:end].reshape(shape)

    def message(self, cloud: PointCloud) -> NDArray[np.uint8]:
        """(N,) uint8 as `cloud_bytes`, good until `points` is asked for again. cloud: with the `data` given last."""
        head = np.frombuffer(_cloud_head(cloud), np.uint8)
        end = _HEAD_ROOM + cloud.data.size
        in_place = cloud.data.ctypes.data == self._content[_HEAD_ROOM:].ctypes.data and cloud.data.flags.c_contiguous
        if not in_place or len(head) > _HEAD_ROOM:
            return np.frombuffer(cloud_bytes(cloud), np.uint8)
        self._content[_HEAD_ROOM - len(head) : _HEAD_ROOM] = head
        self._content[end] = cloud.is_dense
        return self._content[_HEAD_ROOM - len(head) : end + 1]


def _cloud_head(cloud: PointCloud) -> bytes:
    """All that stands before the points."""
    sizes = cloud.point_step, cloud.point_step * cloud.width, cloud.data.size
    before, behind = _layout_written(cloud.frame_id, cloud.fields, cloud.is_bigendian)
    stamp, size = _WRITTEN_STAMP.pack(*time_fields(cloud.stamp_ns)), _WRITTEN_SIZE.pack(cloud.height, cloud.width)
    return b"".join((_LITTLE_ENDIAN, stamp, before, size, behind, _WRITTEN_SIZES.pack(*sizes)))


@lru_cache(maxsize=16)
def _layout_written(frame_id: str, fields: tuple[PointField, ...], is_bigendian: bool) -> tuple[bytes, bytes]:
    """What stands in the head of a cloud between stamp and size, and between size and the lengths at its end."""
    frame, layout = _Writer(), _Writer()
    frame.string(frame_id)
    frame.align(4)
    layout.number("I", len(fields))
    for field in fields:
        layout.string(field.name)
        layout.number("I", field.offset)
        layout.number("B", field.datatype)
        layout.number("I", field.count)
    layout.number("?", is_bigendian)
    layout.align(4)
    return bytes(frame.written), bytes(layout.written)


class _Reader:
    """Reads what stands one after the other. what: names the message in errors."""

    def __init__(self, content: NDArray[np.uint8], what: str) -> None:
        self._content, self._what, self._at = content, what, len(_LITTLE_ENDIAN)
        encoding = content[: self._at].tobytes()
        if len(encoding) < self._at or encoding[0] or encoding[1] > 1:
            raise MessageError(f"serialized {what}: begins with {encoding.hex(' ') or 'nothing'}, plain CDR wanted")
        self._order = encoding[1]
        self._bytes = content.data

    def require(self, count: int, what: str) -> None:
        """Raise MessageError unless so many bytes are left."""
        if count > len(self._content) - self._at:
            raise MessageError(
                f"serialized {self._what}: {len(self._content)} bytes, too few for {what} from byte {self._at} on"
            )

    def header(self) -> Header:
        sec, nanosec = self.numbers(_STAMP)
        return Header(Time(sec, nanosec), self.string())

    def numbers(self, layouts: _Layouts, size: int = 4) -> tuple[Any, ...]:
        """Those of a layout that lie together. size: of the first of them; a single byte has no place to keep to."""
        layout = layouts[self._order]
        if layout.size > 1:
            self._at += -(self._at - len(_LITTLE_ENDIAN)) % size
        self.require(layout.size, "a number")
        self._at += layout.size
        return layout.unpack_from(self._bytes, self._at - layout.size)

    def string(self) -> str:
        return self.sequence().tobytes().split(b"\0", 1)[0].decode(errors="replace")

    def point_fields(self, count: int) -> tuple[PointField, ...]:
        """So many sensor_msgs/PointField: the same tuple as long as the same bytes come."""
        self.require(count * _FIELD_BYTES, f"{count} fields")
        begin, alike = self._at, (self._order, self._at % 4, count)
        known, fields = _KNOWN_FIELDS.get(alike, (b"", ()))
        if known and self._content[begin : begin + len(known)].tobytes() == known:
            self._at += len(known)
            return fields
        read = ((self.string(), *self.numbers(_FIELD)) for _ in range(count))
        fields = tuple(PointField(name, offset, datatype, many or 1) for name, offset, datatype, many in read)
        if count <= _FIELDS_KEPT and self._at - begin <= _BYTES_KEPT:
            _KNOWN_FIELDS[alike] = self._content[begin : self._at].tobytes(), fields
        return fields

    def sequence(self) -> NDArray[np.uint8]:
        (count,) = self.numbers(_ONE)
        self.require(count, f"a sequence of {count}")
        self._at += count
        return self._content[self._at - count : self._at]


class _Writer:
    """What has been written so far, little-endian."""

    def __init__(self) -> None:
        self.written = bytearray()

    def number(self, kind: str, value: float) -> None:
        """kind: as in `struct`."""
        self.align(struct.calcsize(kind))
        self.written += struct.pack(f"<{kind}", value)

    def align(self, size: int) -> None:
        self.written += bytes(-len(self.written) % size)

    def string(self, value: str) -> None:
        content = value.encode() + b"\0"
        self.number("I", len(content))
        self.written += content
