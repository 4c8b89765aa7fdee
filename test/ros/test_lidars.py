"""Several LiDARs on one vehicle, and publishers that do not match."""

import live_node as live
import pytest
from live_node import CAR, ROAD

from seg_perception.datatypes import UNKNOWN

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def peer():
    peer = live.Peer(lidars=("top", "left"))
    yield peer
    peer.close()


@pytest.fixture(scope="module")
def node(tmp_path_factory, model, peer):
    settings = {"lidars": ["top", "left"], "output": {"diagnostics_period_s": 0.2, "point_groups": "drivable"}}
    with live.running(peer, tmp_path_factory.mktemp("node"), live.parameters(model, **settings)) as node:
        yield node


def test_each_cloud_is_labelled_and_published_on_its_own(node, peer):
    stamp = peer.send_good(without=("/points",))
    for lidar in ("top", "left"):
        peer.send(f"/{lidar}/points", live.cloud(stamp))
    for lidar, clouds in peer.clouds_of.items():
        msg = peer.spin_until(lambda clouds=clouds: clouds.get(stamp), f"the cloud of {lidar}")
        assert live.labels(msg) == [ROAD, CAR, UNKNOWN]
    topics = {name for name, _ in peer.node.get_topic_names_and_types()}
    assert {"/perception_node/top/points/drivable", "/perception_node/left/points/drivable"} <= topics
    assert "/perception_node/points" not in topics


def test_a_lidar_that_stops_costs_nothing_of_the_other(node, peer):
    stamp = peer.send_good(without=("/points",))
    peer.send("/left/points", live.cloud(stamp))
    peer.spin_until(lambda: peer.clouds_of["left"].get(stamp), "the cloud of left")
    peer.spin_until(lambda: "age_s of /top/points" in peer.statuses["perception_node: inputs"].message, "word of top")


def test_a_publisher_that_offers_too_little_is_named_by_its_node(node, peer):
    import rclpy
    from tf2_msgs.msg import TFMessage

    from seg_perception.ros import qos

    def told_of_tf():
        values = {pair.key: pair.value for pair in peer.statuses["perception_node: inputs"].values}
        return values["/tf.overwritten_unread"]

    peer.spin_until(lambda: told_of_tf() == "0", "a count of what was overwritten")
    stranger = rclpy.create_node("forgetful", namespace="/old", context=peer.context)
    stranger.create_publisher(TFMessage, "/tf", qos.transforms())
    stranger.create_publisher(TFMessage, "/tf_static", qos.transforms())  # volatile, where latched is asked for
    peer.spin_until(lambda: peer.causes().get("incompatible_qos/tf_static"), "the event of an incompatible publisher")
    peer.spin_until(lambda: peer.last_words("incompatible_qos/tf_static"), "the name")
    assert "/old/forgetful offers less than is asked for (DURABILITY" in peer.last_words("incompatible_qos/tf_static")
    peer.spin_until(lambda: told_of_tf().startswith("not counted: 2 nodes"), "word that it is not counted any more")
    stranger.destroy_node()
