"""Large messages as the bytes that travel, through rcl itself: without rclpy's copies, and without Python's lock.

rclpy takes and publishes serialized messages too. It copies them once more on the way, and holds the lock meanwhile:
for an image of 7 MB a good millisecond in which no other thread of the node gets on. Here the same functions of rcl are
called through ctypes, which lets the lock go; what is taken stays in the memory that rcl filled, and what is published
is read where it lies. Where rcl is not found, or has nothing of this, rclpy does both.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.publisher import Publisher

log = logging.getLogger(__name__)

Taken = tuple[NDArray[np.uint8], dict[str, int]]  # the message, and what is known of it, as rclpy names it

_NOTHING_THERE = 401  # RCL_RET_SUBSCRIPTION_TAKE_FAILED


class _Allocator(ctypes.Structure):
    """rcutils_allocator_t."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("allocate", "deallocate", "reallocate", "zero_allocate", "state")]


class _Bytes(ctypes.Structure):
    """rcutils_uint8_array_t, which is rcl_serialized_message_t."""

    _fields_ = [
        ("buffer", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("capacity", ctypes.c_size_t),
        ("allocator", _Allocator),
    ]


class _Owner:
    """Frees what rcl filled with the last view of it."""

    def __init__(self, content: _Bytes, free: Callable[[Any], int]) -> None:
        self._content, self._free = content, free

    @property
    def __array_interface__(self) -> dict[str, Any]:
        place = self._content.buffer, False
        return {"version": 3, "shape": (self._content.length,), "typestr": "|u1", "data": place}

    def __del__(self) -> None:
        self._free(ctypes.byref(self._content))


class _Info(ctypes.Structure):
    """The beginning of rmw_message_info_t, and room for the rest."""

    _fields_ = [
        ("source_timestamp", ctypes.c_int64),
        ("received_timestamp", ctypes.c_int64),
        ("publication_sequence_number", ctypes.c_uint64),
        ("rest", ctypes.c_uint8 * 232),
    ]


class Rcl:
    """What of rcl moves serialized messages. Raises OSError or AttributeError where it is not there."""

    def __init__(self) -> None:
        rcutils, rcl = ctypes.CDLL("librcutils.so"), ctypes.CDLL("librcl.so")
        rcutils.rcutils_get_default_allocator.restype = _Allocator
        self._allocator = rcutils.rcutils_get_default_allocator()
        self._free = rcutils.rcutils_uint8_array_fini
        self._reset_error = rcutils.rcutils_reset_error
        self._take, self._publish = rcl.rcl_take_serialized_message, rcl.rcl_publish_serialized_message
        self._take.argtypes = [ctypes.c_void_p] * 4
        self._publish.argtypes = [ctypes.c_void_p] * 3

    def take(self, subscription: int) -> Taken | None:
        """The next message of an rcl_subscription_t at this address; None where there is none."""
        content, info = _Bytes(allocator=self._allocator), _Info()
        owner = _Owner(content, self._free)
        code = self._take(subscription, ctypes.byref(content), ctypes.byref(info), None)
        if code:
            self._reset_error()
            if code != _NOTHING_THERE:
                log.warning("a message could not be taken: rcl_take_serialized_message returned %d", code)
            return None
        return np.asarray(owner), {"publication_sequence_number": info.publication_sequence_number}

    def publish(self, publisher: int, content: NDArray[np.uint8]) -> bool:
        """Publish by an rcl_publisher_t at this address; False where rcl refuses. content: (N,), contiguous."""
        message = _Bytes(content.ctypes.data, content.size, content.size, self._allocator)
        code = self._publish(publisher, ctypes.byref(message), None)
        if code:
            self._reset_error()
        return not code


@cache
def find_rcl() -> Rcl | None:
    """None, said once, where rclpy has to do it."""
    try:
        return Rcl()
    except (OSError, AttributeError) as error:
        log.info("serialized messages are taken and published by rclpy: %s", error)
        return None


def publish(publisher: Publisher, content: NDArray[np.uint8]) -> None:
    """Publish these bytes, (N,) uint8, which are free to be written to again afterwards.

    Nothing where a lifecycle publisher is not active. Raises as rclpy does.
    """
    rcl = find_rcl()
    if rcl is not None and getattr(publisher, "is_activated", True):
        with publisher.handle:
            if rcl.publish(publisher.handle.pointer, np.ascontiguousarray(content)):
                return
    publisher.publish(content.tobytes())  # rclpy says what is wrong
