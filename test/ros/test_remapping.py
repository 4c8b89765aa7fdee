"""Topics that are remapped at the start: what is told of them bears the names by which everybody else knows them."""

import live_node as live
import pytest
from live_node import CAR, ROAD

from seg_perception.datatypes import UNKNOWN

pytestmark = pytest.mark.ros

REMAPPED = {"/points": "/top/cloud", "/front/image_raw": "/car/front/image_raw", "/tf_static": "/car/tf_static"}
PROGRAM = (*live.PROGRAM, "--ros-args", *(part for rule in REMAPPED.items() for part in ("-r", ":=".join(rule))))


@pytest.fixture
def peer():
    """That publishes on the topics that are heard."""
    from seg_perception.ros import qos

    peer = live.Peer()
    for before, after in REMAPPED.items():
        kind = peer.publishers[before].msg_type
        peer.node.destroy_publisher(peer.publishers[before])
        profile = qos.static_transforms() if before == "/tf_static" else qos.published(10)
        peer.publishers[before] = peer.node.create_publisher(kind, after, profile)
    yield peer
    peer.close()


def test_remapped_topics_are_heard_counted_and_told_of_by_their_real_names(tmp_path, model, peer):
    with live.running(peer, tmp_path, live.parameters(model), PROGRAM) as node:
        assert peer.labels_of(peer.send_good()) == [ROAD, CAR, UNKNOWN]
        peer.spin_until(lambda: "/top/cloud.stamp_ahead_of_clock_s" in peer.values("inputs"), "the cloud to be told of")
        told = peer.values("inputs")
        assert told["/top/cloud.overwritten_unread"] == told["/car/front/image_raw.overwritten_unread"] == "0"
        assert not [name for name in told if name.startswith(("/points", "/front/image_raw", "/car/tf_static"))]
        peer.spin_until(lambda: "/top/cloud: no message for" in node.log, "the silence to be told of")
        (line,) = [line for line in node.log.splitlines() if "/top/cloud: no message for" in line]
        assert "it has 1 publisher(s)" in line
