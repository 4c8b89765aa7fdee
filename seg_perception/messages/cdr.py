"""A point cloud as the bytes that travel, its points copied once.

CDR as every DDS speaks it, "plain" and little-endian (OMG DDS-XTypes 1.3, 7.4.3): a number lies at a multiple of its
size, counted from the end of the four bytes that name the encoding; before a string or a sequence stands its length,
and a string ends with a zero.
"""

from __future__ import annotations

import struct

import numpy as np

from seg_perception.datatypes import PointCloud
from seg_perception.messages.header import time_fields

_LITTLE_ENDIAN = b"\x00\x01\x00\x00"


def cloud_bytes(cloud: PointCloud) -> bytes:
    """A sensor_msgs/PointCloud2, serialized."""
    head = _Cdr()
    sec, nanosec = time_fields(cloud.stamp_ns)
    head.number("i", sec)
    head.number("I", nanosec)
    head.string(cloud.frame_id)
    head.number("I", cloud.height)
    head.number("I", cloud.width)
    head.number("I", len(cloud.fields))
    for field in cloud.fields:
        head.string(field.name)
        head.number("I", field.offset)
        head.number("B", field.datatype)
        head.number("I", field.count)
    head.number("?", cloud.is_bigendian)
    head.number("I", cloud.point_step)
    head.number("I", cloud.point_step * cloud.width)
    head.number("I", cloud.data.size)
    data = np.ascontiguousarray(cloud.data).reshape(-1)
    return b"".join((_LITTLE_ENDIAN, head.written, data.data, struct.pack("?", cloud.is_dense)))


class _Cdr:
    """What has been written so far."""

    def __init__(self) -> None:
        self.written = bytearray()

    def number(self, kind: str, value: float) -> None:
        """kind: as in `struct`."""
        size = struct.calcsize(kind)
        self.written += bytes(-len(self.written) % size) + struct.pack(f"<{kind}", value)

    def string(self, value: str) -> None:
        content = value.encode() + b"\0"
        self.number("I", len(content))
        self.written += content
