"""Stamps are whole nanoseconds, and 0 is none."""

from __future__ import annotations

import array

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg_perception.errors import StampError
from seg_perception.messages.header import as_bytes, stamp_ns, time_fields


@given(st.integers(-(2**31) * 10**9, 2**31 * 10**9 - 1))
def test_stamp_survives_the_way_through_sec_and_nanosec(stamp: int) -> None:
    sec, nanosec = time_fields(stamp)
    assert sec * 10**9 + nanosec == stamp
    assert 0 <= nanosec < 10**9


def test_stamp_keeps_every_nanosecond(header) -> None:
    assert stamp_ns(header(1_700_000_000_123_456_789), "image") == 1_700_000_000_123_456_789


@pytest.mark.parametrize("stamp", [0, -5])
def test_stamp_zero_or_before_is_refused_naming_message_and_frame(header, stamp: int) -> None:
    with pytest.raises(StampError, match=f"image of front in frame 'cam': stamp is {stamp} ns"):
        stamp_ns(header(stamp, "cam"), "image of front")


def test_stamp_after_2038_does_not_fit_a_message() -> None:
    with pytest.raises(StampError, match="int32"):
        time_fields(2**31 * 10**9)


@pytest.mark.parametrize(
    "data", [b"\1\2\3", bytearray(b"\1\2\3"), memoryview(b"\1\2\3"), array.array("B", [1, 2, 3]), [1, 2, 3], (1, 2, 3)]
)
def test_bytes_are_read_from_whatever_a_middleware_holds_them_in(data) -> None:
    assert as_bytes(data).tolist() == [1, 2, 3]


def test_bytes_of_a_buffer_are_not_copied() -> None:
    for data in (array.array("B", [1, 2, 3]), np.arange(3, dtype=np.uint8)):
        view = as_bytes(data)
        data[0] = 77
        assert view[0] == 77
