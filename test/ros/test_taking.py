"""Serialized messages reach a callback as they were sent, in memory that is freed with them."""

import ctypes
import gc

import live_node as live
import numpy as np
import pytest

pytest.importorskip("rclpy")

import rclpy
from rclpy.context import Context
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image

from seg_perception.messages.cdr import read_image
from seg_perception.ros import qos, taking
from seg_perception.ros.taking import TakingExecutor

pytestmark = pytest.mark.ros


@pytest.fixture
def context():
    live.isolate()
    context = Context()
    rclpy.init(context=context)
    yield context
    rclpy.shutdown(context=context)


def through_dds(context, executor, numbered=True):
    """What a raw subscription gets of three images sent, and the images."""
    node = rclpy.create_node("taking", context=context)
    executor.add_node(node)
    got = []
    callback = (lambda content, info: got.append((content, info))) if numbered else lambda content: got.append(content)
    node.create_subscription(Image, "pictures", callback, qos.published(5), raw=True)
    publisher = node.create_publisher(Image, "pictures", qos.published(5))
    images = [live.raw_image("front", 1000 + k, np.full((48 + k, 64, 3), k, np.uint8)) for k in range(3)]
    for image in images:
        publisher.publish(image)
    for _ in range(100):
        executor.spin_once(timeout_sec=0.1)
        if len(got) == 3:
            break
    executor.shutdown()
    node.destroy_node()
    return got, images


def test_the_bytes_are_those_that_were_sent_and_are_numbered(context):
    got, images = through_dds(context, TakingExecutor(context=context))
    assert [type(content) for content, _ in got] == [np.ndarray] * 3
    for (content, _), image in zip(got, images, strict=True):
        assert len(content) == len(serialize_message(image))
        assert (read_image(content).data == image.data).all()
    assert [info["publication_sequence_number"] for _, info in got] == [1, 2, 3]


def test_their_memory_is_freed_with_the_last_view_of_it(context, monkeypatch):
    freed = []
    end = taking._Owner.__del__
    monkeypatch.setattr(taking._Owner, "__del__", lambda owner: freed.append(1) or end(owner))
    got, _ = through_dds(context, TakingExecutor(context=context), numbered=False)
    del freed[:]
    rows = read_image(got.pop()).data.reshape(-1, 192)[:5]
    gc.collect()
    assert (rows == 2).all()
    assert not freed
    del rows
    assert freed == [1]


def test_without_rcl_the_bytes_come_from_rclpy(context, monkeypatch):
    def missing(name):
        raise OSError(f"{name}: not found")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    got, images = through_dds(context, TakingExecutor(context=context))
    assert [type(content) for content, _ in got] == [bytes] * 3
    assert (read_image(got[1][0]).data == images[1].data).all()
