"""Stamps and bytes, which every message carries.

Messages are read by the names of their standard fields, so that rclpy's objects and those of a bag reader decode alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import StampError

NS_PER_S = 1_000_000_000


def time_ns(time: Any) -> int:
    """Nanoseconds of a builtin_interfaces/Time; 0 is passed on as it is."""
    return int(time.sec) * NS_PER_S + int(time.nanosec)


def stamp_ns(header: Any, what: str) -> int:
    """Nanoseconds of a std_msgs/Header. A stamp that is not after 0 raises StampError; `what` names the message."""
    stamp = time_ns(header.stamp)
    if stamp <= 0:
        raise StampError(f"{what} in frame '{header.frame_id}': stamp is {stamp} ns, the time of measurement wanted")
    return stamp


def time_fields(stamp_ns: int) -> tuple[int, int]:
    """(sec, nanosec) of a builtin_interfaces/Time. Raises StampError where they do not fit."""
    sec, nanosec = divmod(int(stamp_ns), NS_PER_S)
    if not -(2**31) <= sec < 2**31:
        raise StampError(f"stamp {stamp_ns} ns: seconds within int32 wanted, {sec} seen")
    return sec, nanosec


def header_fields(stamp_ns: int, frame_id: str) -> dict[str, Any]:
    """The fields of a std_msgs/Header, nested as it is."""
    sec, nanosec = time_fields(stamp_ns)
    return {"stamp": {"sec": sec, "nanosec": nanosec}, "frame_id": frame_id}


def as_bytes(data: Any) -> NDArray[np.uint8]:
    """The (N,) uint8 of a `uint8[]` field. Nothing is copied where it is a buffer: bytes, array.array, ndarray."""
    if isinstance(data, np.ndarray):
        return np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    if isinstance(data, list | tuple):
        return np.asarray(data, np.uint8)
    return np.frombuffer(data, np.uint8)
