"""Messages as any middleware hands them out: objects with the standard fields."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

STAMP_NS = 1_700_000_000_123_456_789


def _header(stamp_ns: int = STAMP_NS, frame_id: str = "sensor") -> SimpleNamespace:
    return SimpleNamespace(
        stamp=SimpleNamespace(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9),
        frame_id=frame_id,
    )


@pytest.fixture(scope="session")
def header() -> Callable[..., SimpleNamespace]:
    """header(stamp_ns, frame_id) -> std_msgs/Header."""
    return _header


@pytest.fixture(scope="session")
def image_msg() -> Callable[..., SimpleNamespace]:
    """image_msg(rows, encoding, columns, **changes) -> sensor_msgs/Image. rows: (H, step) uint8."""

    def make(rows: np.ndarray, encoding: str, columns: int, /, **changes: Any) -> SimpleNamespace:
        fields = {
            "header": _header(),
            "height": rows.shape[0],
            "width": columns,
            "encoding": encoding,
            "is_bigendian": 0,
            "step": rows.shape[1],
            "data": rows.tobytes(),
        }
        return SimpleNamespace(**{**fields, **changes})

    return make


@pytest.fixture(scope="session")
def compressed_msg() -> Callable[..., SimpleNamespace]:
    """compressed_msg(data, format) -> sensor_msgs/CompressedImage."""

    def make(data: bytes, format: str = "jpeg", stamp_ns: int = STAMP_NS) -> SimpleNamespace:
        return SimpleNamespace(header=_header(stamp_ns), format=format, data=data)

    return make


@pytest.fixture(scope="session")
def cloud_msg() -> Callable[..., SimpleNamespace]:
    """cloud_msg(points, rows, pad, stamp_ns, **changes) -> sensor_msgs/PointCloud2.

    points: structured array. Its byte order, offsets and itemsize become the message's; `pad` bytes of 0xee follow each
    row.
    """
    codes = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}

    def make(
        points: np.ndarray, /, rows: int = 1, pad: int = 0, stamp_ns: int = STAMP_NS, **changes: Any
    ) -> SimpleNamespace:
        columns = len(points) // rows
        fields, big = [], False
        for name, (dtype, offset, *_) in (points.dtype.fields or {}).items():
            base, shape = dtype.subdtype or (dtype, ())
            big = big or base.byteorder == ">"
            fields.append(
                SimpleNamespace(name=name, offset=offset, datatype=codes[base.str[1:]], count=int(np.prod(shape)))
            )
        data = points.view(np.uint8).reshape(rows, columns * points.dtype.itemsize)
        data = np.pad(data, ((0, 0), (0, pad)), constant_values=0xEE)
        content = {
            "header": _header(stamp_ns, "lidar"),
            "height": rows,
            "width": columns,
            "fields": fields,
            "is_bigendian": big,
            "point_step": points.dtype.itemsize,
            "row_step": data.shape[1],
            "data": data.tobytes(),
            "is_dense": False,
        }
        return SimpleNamespace(**{**content, **changes})

    return make
