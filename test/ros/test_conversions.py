"""Records become messages that say the same after a trip through CDR."""

import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vision_msgs")

from rclpy.serialization import deserialize_message, serialize_message

from seg_perception.datatypes import PointCloud, PointField
from seg_perception.labels import Taxonomy
from seg_perception.messages.cdr import cloud_bytes
from seg_perception.messages.image import decode_image
from seg_perception.messages.pointcloud import cloud_from_columns, decode_cloud
from seg_perception.ros import conversions, dds

STAMP_NS = 1_700_000_000_123_456_789


def through_cdr(msg):
    return deserialize_message(serialize_message(msg), type(msg))


def test_a_cloud_keeps_stamp_frame_fields_and_bytes():
    columns = {axis: np.arange(4, dtype=np.float32) for axis in "xyz"} | {"ring": np.arange(4, dtype=np.uint16)}
    cloud = cloud_from_columns("lidar", STAMP_NS, columns)
    back = decode_cloud(through_cdr(conversions.point_cloud(cloud)))
    assert (back.stamp_ns, back.frame_id, back.fields) == (STAMP_NS, "lidar", cloud.fields)
    assert back.data.tobytes() == cloud.data.tobytes()


@pytest.mark.parametrize("frame_id", ["", "lidar", "os1/os_lidar", "Fahrzeug/Dach-\u00e4u\u00dferst"])
@pytest.mark.parametrize("names", [(), ("x",), ("x", "yy", "zzz", "")])
@pytest.mark.parametrize("width", [0, 1, 7])
def test_the_bytes_of_a_cloud_say_what_its_message_does(frame_id, names, width):
    fields = tuple(PointField(name, 4 * at, 7 - at % 2, 1 + at % 2) for at, name in enumerate(names))
    data = np.random.default_rng(width).integers(0, 256, (2 * width, 22), np.uint8)
    cloud = PointCloud(frame_id, STAMP_NS, width, 2, fields, data, is_bigendian=width == 1, is_dense=width == 7)
    message = conversions.point_cloud(cloud)
    assert deserialize_message(cloud_bytes(cloud), type(message)) == message
    assert len(cloud_bytes(cloud)) == len(serialize_message(message))


def test_an_image_keeps_its_pixels():
    pixels = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)
    back = decode_image(through_cdr(conversions.image(pixels, "rgb8", "optical", STAMP_NS)), "front")
    assert (back.stamp_ns, back.frame_id) == (STAMP_NS, "optical")
    assert (back.pixels == pixels).all()


def test_a_strided_view_of_an_image_is_sent_as_it_looks():
    pixels = np.arange(60, dtype=np.uint8).reshape(6, 10)[:, ::2]
    assert bytes(conversions.image(pixels, "mono8", "optical", STAMP_NS).data) == pixels.tobytes()


def test_label_info_names_every_class_id():
    info = through_cdr(conversions.label_info(Taxonomy.load("cityscapes"), STAMP_NS))
    assert {entry.class_id: entry.class_name for entry in info.class_map}[13] == "car"
    assert len(info.class_map) == 19


def test_a_profile_that_the_user_set_is_left_alone():
    assert set(dds.PROFILE_VARIABLES) <= set(dds.environment({}))
    assert not set(dds.PROFILE_VARIABLES) & set(dds.environment({"FASTRTPS_DEFAULT_PROFILES_FILE": "/mine.xml"}))
    assert dds.environment({"MALLOC_TOP_PAD_": "1"}).get("MALLOC_TOP_PAD_") is None


ALLOCATE = """
import resource
from seg_perception.ros import dds

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        b"1" * 40_000_000  # more than glibc learns to keep by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

by_default = faults()
dds.prepare()
faults()
print(by_default, faults())
"""


@pytest.mark.parametrize("chosen", [{}, {"MALLOC_MMAP_THRESHOLD_": "131072"}])
def test_a_prepared_process_keeps_large_buffers_unless_its_user_chose_otherwise(chosen):
    environment = {name: value for name, value in os.environ.items() if name not in dds.MALLOC} | chosen
    done = subprocess.run([sys.executable, "-c", ALLOCATE], env=environment, capture_output=True, text=True, check=True)
    by_default, prepared = map(int, done.stdout.split())
    assert (prepared < by_default / 10) is not bool(chosen)
