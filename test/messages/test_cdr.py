"""Serialized images and clouds are read as their sender meant them; what is none is refused, whatever it is."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg_perception.datatypes import PointCloud, PointField
from seg_perception.errors import MessageError
from seg_perception.messages.cdr import (
    CloudBuffer,
    cloud_bytes,
    read_cloud,
    read_header,
    read_image,
    read_transforms,
)

FIELDS = tuple(PointField(name, 4 * at, 7) for at, name in enumerate(("x", "yy", "zzz", "")))
CLOUD = PointCloud("lidar", 5_000_000_007, 3, 2, FIELDS, np.arange(96, dtype=np.uint8).reshape(6, 16), is_dense=False)


def image_bytes(order: str) -> bytes:
    """A 2 x 2 mono8 image in frame "abc", written by hand, with the gaps before what lies at multiples of four."""
    head = struct.pack(f"{order}iI I4s II I6sBx I I", 5, 7, 4, b"abc\0", 2, 2, 6, b"mono8\0", 0, 2, 4)
    return bytes([0, order == "<", 0, 0]) + head + bytes([1, 2, 3, 4])


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_image_in_either_byte_order_is_read_where_it_lies(order: str) -> None:
    content = np.frombuffer(image_bytes(order), np.uint8)
    image = read_image(content)
    assert (image.header.stamp.sec, image.header.stamp.nanosec, image.header.frame_id) == (5, 7, "abc")
    assert (image.height, image.width, image.encoding, image.is_bigendian, image.step) == (2, 2, "mono8", 0, 2)
    assert image.data.tolist() == [1, 2, 3, 4]
    assert np.shares_memory(image.data, content)


def test_a_cloud_is_read_as_it_was_written() -> None:
    msg = read_cloud(cloud_bytes(CLOUD))
    assert (msg.header.stamp.sec, msg.header.stamp.nanosec, msg.header.frame_id) == (5, 7, "lidar")
    assert (msg.height, msg.width, msg.point_step, msg.row_step) == (2, 3, 16, 48)
    assert (msg.fields, msg.is_bigendian, msg.is_dense) == (FIELDS, False, False)
    assert msg.data.tobytes() == CLOUD.data.tobytes()


@pytest.mark.parametrize("changes", [{"name": "w"}, {"offset": 8}, {"datatype": 6}, {"count": 0}])
def test_fields_that_come_again_are_the_same_tuple_and_others_are_read_anew(changes: dict) -> None:
    other = replace(CLOUD, fields=(*FIELDS[:3], FIELDS[3]._replace(**changes)))
    for cloud in (CLOUD, other, CLOUD):
        first, again = read_cloud(cloud_bytes(cloud)), read_cloud(cloud_bytes(cloud))
        assert first.fields is again.fields
        wanted = cloud.fields if changes != {"count": 0} else FIELDS  # as some drivers write 1
        assert first.fields == wanted
        assert (again.point_step, again.data.tobytes()) == (16, CLOUD.data.tobytes())


def test_a_cloud_of_endless_fields_is_read_and_not_remembered() -> None:
    many = tuple(PointField("x" * 50, 0, 2) for _ in range(40))
    content = cloud_bytes(replace(CLOUD, fields=many))
    assert read_cloud(content).fields == many
    assert read_cloud(content).fields is not read_cloud(content).fields


def test_a_cloud_whose_points_lie_in_the_buffer_is_sent_from_there() -> None:
    buffer = CloudBuffer()
    for points in (6, 2, 9):
        data = np.full((points, 16), points, np.uint8)
        cloud = PointCloud("lidar", 5_000_000_007, points, 1, FIELDS, buffer.points(data.shape), is_dense=points == 2)
        cloud.data[:] = data
        message = buffer.message(cloud)
        assert message.tobytes() == cloud_bytes(cloud)
        assert np.shares_memory(message, cloud.data)


@pytest.mark.parametrize("name", ["x", "x" * 5000])
def test_a_cloud_that_does_not_fit_the_buffer_is_sent_from_memory_of_its_own(name: str) -> None:
    buffer = CloudBuffer()
    field = PointField(name, 0, 7)
    inside = PointCloud("lidar", 1, 2, 1, (field,), buffer.points((2, 4)), is_dense=True)
    inside.data[:] = 7
    outside = PointCloud("lidar", 1, 2, 1, (field,), np.full((2, 4), 7, np.uint8), is_dense=True)
    assert buffer.message(outside).tobytes() == cloud_bytes(outside)
    assert buffer.message(inside).tobytes() == cloud_bytes(outside)


def transforms_bytes(order: str) -> bytes:
    """Two transforms of which the first one's names leave gaps, written by hand."""
    values = [0.5 * k for k in range(14)]
    first = struct.pack(f"{order}I iI I5s3x I5s7x 7d", 2, 5, 7, 5, b"odom\0", 5, b"base\0", *values[:7])
    second = struct.pack(f"{order}iI I2s2x I2s2x 7d", 6, 8, 2, b"a\0", 2, b"b\0", *values[7:])
    return bytes([0, order == "<", 0, 0]) + first + second


@pytest.mark.parametrize("order", ["<", ">"])
def test_transforms_in_either_byte_order_are_read(order: str) -> None:
    first, second = read_transforms(transforms_bytes(order)).transforms
    assert (first.header.stamp.sec, first.header.stamp.nanosec) == (5, 7)
    assert (first.header.frame_id, first.child_frame_id) == ("odom", "base")
    assert (second.header.frame_id, second.child_frame_id, second.header.stamp.nanosec) == ("a", "b", 8)
    move, turn = second.transform.translation, second.transform.rotation
    assert (move.x, move.y, move.z, turn.x, turn.y, turn.z, turn.w) == (3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 6.5)


def test_of_a_message_with_a_header_all_but_the_stamp_is_compared() -> None:
    content = image_bytes("<")
    later, other = bytearray(content), bytearray(content)
    later[4:12] = struct.pack("<iI", 6, 8)
    other[-1] += 1
    read = read_header(content)
    assert (read.header.stamp.sec, read.header.stamp.nanosec, read.header.frame_id) == (5, 7, "abc")
    assert read_header(later).rest == read.rest
    assert read_header(other).rest != read.rest
    assert read_header(image_bytes(">")).rest != read.rest


@pytest.mark.parametrize(
    ("read", "content"),
    [
        (read_image, image_bytes("<")),
        (read_cloud, cloud_bytes(CLOUD)),
        (read_transforms, transforms_bytes("<")),
        (read_header, image_bytes("<")[:20]),
    ],
)
def test_bytes_cut_anywhere_are_refused_with_the_numbers(read, content: bytes) -> None:
    for length in range(len(content)):
        with pytest.raises(MessageError, match=r"serialized (image|cloud|transforms|header)"):
            read(content[:length])


def test_an_encoding_other_than_plain_cdr_is_refused() -> None:
    with pytest.raises(MessageError, match="begins with 00 03 00 00"):
        read_image(b"\0\3\0\0" + image_bytes("<")[4:])


def test_a_count_of_fields_that_cannot_be_is_refused_before_they_are_read() -> None:
    content = bytearray(cloud_bytes(CLOUD))
    at = content.index(b"lidar") + 8 + 8
    content[at : at + 4] = struct.pack("<I", 2**32 - 1)
    with pytest.raises(MessageError, match="too few for 4294967295 fields"):
        read_cloud(bytes(content))


READERS = [read_image, read_cloud, read_transforms, read_header]


@given(content=st.binary(max_size=200), read=st.sampled_from(READERS), order=st.sampled_from([0, 1]))
def test_random_bytes_are_read_or_refused(content: bytes, read, order: int) -> None:
    try:
        read(bytes([0, order, 0, 0]) + content)
    except MessageError as error:
        assert str(error).startswith("serialized")
