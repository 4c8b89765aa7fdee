"""Large messages taken without rclpy's copies, and without Python's lock.

rclpy takes serialized messages too (`raw=True`), copies them once more and holds the lock meanwhile: for an image of
7 MB a good millisecond in which no other thread of the node gets on. The executor here calls the same function of rcl
through ctypes, which lets the lock go, and hands on the memory that rcl filled. Where rcl is not found, or has nothing
of this, rclpy does it.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.context import Context
from rclpy.executors import InvalidHandle, SingleThreadedExecutor, await_or_execute
from rclpy.subscription import Subscription

log = logging.getLogger(__name__)

_NOTHING_THERE = 401  # RCL_RET_SUBSCRIPTION_TAKE_FAILED
_Take = Callable[[int], tuple[NDArray[np.uint8], dict[str, int]] | None]


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


class TakingExecutor(SingleThreadedExecutor):
    """A SingleThreadedExecutor whose raw subscriptions get (N,) uint8 of their own instead of bytes."""

    def __init__(self, *, context: Context | None = None) -> None:
        super().__init__(context=context)
        self._take: _Take | None = None
        try:
            if not hasattr(self, "_execute_subscription"):  # Humble divides the work otherwise
                self._take = _library()
        except (OSError, AttributeError) as error:
            log.info("serialized messages are taken by rclpy: %s", error)

    def _take_subscription(self, sub: Any) -> Any:
        """What rclpy's executors call for a subscription that is ready."""
        if not sub.raw or self._take is None:
            return super()._take_subscription(sub)
        try:
            with sub.handle:
                taken = self._take(sub.handle.pointer)
        except InvalidHandle:  # destroyed meanwhile
            return None
        if taken is None:
            return None
        arguments = taken if sub._callback_type is Subscription.CallbackType.WithMessageInfo else taken[:1]

        async def execute() -> None:
            await await_or_execute(sub.callback, *arguments)

        return execute


def _library() -> _Take:
    """take(rcl_subscription_t *) -> the message and what is known of it, or None. Raises OSError, AttributeError."""
    rcutils, rcl = ctypes.CDLL("librcutils.so"), ctypes.CDLL("librcl.so")
    rcutils.rcutils_get_default_allocator.restype = _Allocator
    allocator = rcutils.rcutils_get_default_allocator()
    free = rcutils.rcutils_uint8_array_fini
    take_serialized = rcl.rcl_take_serialized_message
    take_serialized.argtypes = [ctypes.c_void_p] * 4
    reset_error = rcutils.rcutils_reset_error

    def take(subscription: int) -> tuple[NDArray[np.uint8], dict[str, int]] | None:
        content, info = _Bytes(allocator=allocator), _Info()
        owner = _Owner(content, free)
        code = take_serialized(subscription, ctypes.byref(content), ctypes.byref(info), None)
        if code:
            reset_error()
            if code != _NOTHING_THERE:
                log.warning("a message could not be taken: rcl_take_serialized_message returned %d", code)
            return None
        return np.asarray(owner), {"publication_sequence_number": info.publication_sequence_number}

    return take
