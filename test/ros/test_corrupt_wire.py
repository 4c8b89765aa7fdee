"""Serialized messages that are not what they say, sent over DDS as they are: the node reads on."""

import live_node as live
import pytest
from live_node import CAR, ROAD

from seg_perception.datatypes import UNKNOWN

pytestmark = pytest.mark.ros

GOOD = [ROAD, CAR, UNKNOWN]


@pytest.fixture(scope="module")
def node(tmp_path_factory, model, peer):
    with live.running(peer, tmp_path_factory.mktemp("node"), live.parameters(model)) as node:
        yield node


def spoilt(content: bytes, how: str) -> bytes:
    if how == "cut":
        return content[: len(content) // 2]
    if how == "header only":
        return content[:4]
    if how == "a name of 4 GB":
        return content[:12] + b"\xff" * 4 + content[16:]
    if how == "random":
        return content[:4] + bytes((i * 97) & 255 for i in range(len(content) - 4))
    raise AssertionError(how)


@pytest.mark.parametrize("how", ["cut", "header only", "a name of 4 GB", "random"])
@pytest.mark.parametrize(
    "topic", ["/points", "/front/image_raw", "/front/camera_info", "/rear/image_raw/compressed", "/tf"]
)
def test_bytes_that_are_no_message_do_not_stop_the_node(node, peer, topic, how):
    from rclpy.serialization import serialize_message

    peer.stamp_ns += live.STEP_NS
    stamp = peer.stamp_ns
    message = {
        "/points": lambda: live.cloud(stamp),
        "/front/image_raw": lambda: live.raw_image("front", stamp, live.picture()),
        "/front/camera_info": lambda: live.camera_info("front", stamp),
        "/rear/image_raw/compressed": lambda: live.compressed_image("rear", stamp, live.picture()),
        "/tf": lambda: live.tf_message(live.transform("odom", "base_link", stamp)),
    }[topic]()
    peer.send(topic, spoilt(serialize_message(message), how))
    peer.spin_for(0.2)
    assert node.alive, node.log[-2000:]
    assert peer.labels_of(peer.send_good()) == GOOD
