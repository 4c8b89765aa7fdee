"""Serialized messages reach a callback as they were sent, in memory that is freed with them; nothing else is forgotten
over them."""

import ctypes
import gc
import threading
import time

import live_node as live
import numpy as np
import pytest

pytest.importorskip("rclpy")

import rclpy
from rclpy.context import Context
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.exceptions import InvalidHandle
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode
from rclpy.serialization import serialize_message
from rclpy.task import Future
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from seg_perception.messages.cdr import read_image
from seg_perception.ros import qos, serialized, taking
from seg_perception.ros.taking import TakingExecutor

pytestmark = pytest.mark.ros


@pytest.fixture
def context():
    live.isolate()
    context = Context()
    rclpy.init(context=context)
    yield context
    rclpy.shutdown(context=context)
    serialized.find_rcl.cache_clear()


@pytest.fixture
def executor(context):
    executor = TakingExecutor(context=context)
    yield executor
    executor.shutdown()


@pytest.fixture
def node(context, executor):
    node = rclpy.create_node("taking", context=context)
    executor.add_node(node)
    yield node
    node.destroy_node()


def spin_until(executor, done):
    end_s = time.monotonic() + live.PATIENCE_S
    while not done():
        assert time.monotonic() < end_s, "in vain"
        executor.spin_once(timeout_sec=0.1)


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
    spin_until(executor, lambda: len(got) == 3)
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
    end = serialized._Owner.__del__
    monkeypatch.setattr(serialized._Owner, "__del__", lambda owner: freed.append(1) or end(owner))
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
    serialized.find_rcl.cache_clear()
    got, images = through_dds(context, TakingExecutor(context=context))
    assert [type(content) for content, _ in got] == [bytes] * 3
    assert (read_image(got[1][0]).data == images[1].data).all()


def test_where_rclpy_is_built_otherwise_the_bytes_come_from_it(context, monkeypatch):
    monkeypatch.setattr(taking, "_INNER", ("what Humble lacks",))
    got, images = through_dds(context, TakingExecutor(context=context))
    assert [type(content) for content, _ in got] == [bytes] * 3
    assert (read_image(got[1][0]).data == images[1].data).all()


def test_what_is_published_as_bytes_is_the_message_and_its_memory_free_again(node, executor):
    got = []
    node.create_subscription(Image, "pictures", got.append, qos.published(5))
    publisher = node.create_publisher(Image, "pictures", qos.published(5))
    content = np.frombuffer(serialize_message(live.raw_image("front", 1000, np.ones((48, 64, 3), np.uint8))), np.uint8)
    content = content.copy()
    for value in (1, 2):
        content[-1] = value
        serialized.publish(publisher, content)
    content[:] = 0
    spin_until(executor, lambda: len(got) == 2)
    assert [message.data[-1] for message in got] == [1, 2]
    assert {message.data[0] for message in got} == {1}


def test_bytes_that_rcl_refuses_are_refused_by_rclpy(node):
    publisher = node.create_publisher(Image, "pictures", qos.published(5))
    node.destroy_publisher(publisher)
    with pytest.raises(InvalidHandle):
        serialized.publish(publisher, np.zeros(100, np.uint8))


def test_an_inactive_lifecycle_publisher_publishes_no_bytes(context, executor):
    node = LifecycleNode("taking", context=context)
    executor.add_node(node)
    got = []
    node.create_subscription(Header, "headers", got.append, qos.published(5))
    publisher = node.create_lifecycle_publisher(Header, "headers", qos.published(5))
    for active, name in ((False, "before"), (True, "after")):
        if active:
            node.trigger_configure()
            node.trigger_activate()
        serialized.publish(publisher, np.frombuffer(serialize_message(Header(frame_id=name)), np.uint8))
    spin_until(executor, lambda: got)
    assert [header.frame_id for header in got] == ["after"]
    node.destroy_node()


def by_timer(node, tell):
    timer = node.create_timer(0.001, tell)
    timer.cancel()
    return timer.reset


def by_service(node, tell):
    node.create_service(Trigger, "answer", lambda _, response: (tell(), response)[1])
    client = node.create_client(Trigger, "answer")
    return lambda: client.call_async(Trigger.Request())


def by_guard(node, tell):
    return node.create_guard_condition(tell).trigger


def by_event(node, tell):
    callbacks = SubscriptionEventCallbacks(incompatible_qos=lambda _: tell())
    node.create_subscription(Header, "others", lambda _: None, qos.published(5), event_callbacks=callbacks)
    other = rclpy.create_node("other", context=node.context)  # of no executor, which its publisher would wake
    return lambda: other.create_publisher(Header, "others", qos.sensor_input(5))


@pytest.mark.parametrize("other", [by_timer, by_service, by_guard, by_event])
def test_messages_without_end_keep_nothing_else_waiting(node, executor, other):
    publisher = node.create_publisher(Header, "headers", qos.published(5))
    node.create_subscription(Header, "headers", lambda _: publisher.publish(Header()), qos.published(5), raw=True)
    told = []
    happen = other(node, lambda: told.append(other))
    for _ in range(3):
        publisher.publish(Header())
    for _ in range(20):
        executor.spin_once(timeout_sec=0.1)
    happen()
    spin_until(executor, lambda: told)


def test_subscriptions_come_and_go_between_messages(node, executor):
    got = []
    publisher = node.create_publisher(Header, "headers", qos.latched())
    publisher.publish(Header(frame_id="a"))
    for round_ in range(1, 4):
        subscription = node.create_subscription(Header, "headers", got.append, qos.latched())
        spin_until(executor, lambda round_=round_: len(got) == round_)
        node.destroy_subscription(subscription)
        publisher.publish(Header(frame_id="a"))
        executor.spin_once(timeout_sec=0.1)
    assert [header.frame_id for header in got] == ["a"] * 3
    executor.spin_once(timeout_sec=0.1)
    assert not publisher.get_subscription_count()


def test_a_coroutine_takes_a_message_too(node, executor):
    got = []

    async def take(message):
        got.append(message.frame_id)

    node.create_subscription(Header, "headers", take, qos.published(5))
    node.create_publisher(Header, "headers", qos.published(5)).publish(Header(frame_id="a"))
    spin_until(executor, lambda: got)
    assert got == ["a"]


def test_a_message_may_be_what_a_future_waits_for(node, executor):
    future = Future()
    node.create_subscription(Header, "headers", future.set_result, qos.published(5))
    node.create_publisher(Header, "headers", qos.published(5)).publish(Header(frame_id="a"))
    executor.spin_until_future_complete(future, timeout_sec=live.PATIENCE_S)
    assert future.result().frame_id == "a"


def test_what_a_callback_raises_leaves_spin_once(node, executor):
    def fail(message):
        raise ValueError(message.frame_id)

    node.create_subscription(Header, "headers", fail, qos.published(5))
    node.create_publisher(Header, "headers", qos.published(5)).publish(Header(frame_id="a"))
    with pytest.raises(ValueError, match="a"):
        spin_until(executor, lambda: False)


def test_an_event_is_told_though_nothing_else_happens_and_all_may_be_waited_for_without_end(node, executor):
    told = []
    by_event(node, lambda: told.append(1))()
    end_s = time.monotonic() + live.PATIENCE_S
    while not told:
        assert time.monotonic() < end_s
        executor.spin_once()


def test_spinning_ends_with_the_executor_and_with_its_context(context):
    executor = TakingExecutor(context=context)
    executor.add_node(rclpy.create_node("taking", context=context))
    executor.spin_once(timeout_sec=0.0)
    executor.shutdown()
    executor.spin_once(timeout_sec=0.0)

    other = Context()
    rclpy.init(context=other)
    executor = TakingExecutor(context=other)
    executor.add_node(rclpy.create_node("taking", context=other))
    executor.spin_once(timeout_sec=0.0)
    threading.Timer(0.2, lambda: rclpy.shutdown(context=other)).start()
    with pytest.raises(ExternalShutdownException):
        spin_until(executor, lambda: False)
