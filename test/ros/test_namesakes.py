"""Two nodes of one name: each says so of the other, but not of one that was killed a moment ago."""

import live_node as live
import pytest

pytestmark = pytest.mark.ros

IMPATIENT = """
import sys
from seg_perception.ros import namesakes
from seg_perception.ros.node import main

namesakes.LEASE_S = 0.0
sys.exit(main(sys.argv))
"""


def named(peer, name="perception_node"):
    from rclpy.node import Node

    return Node(name, context=peer.context)


def test_a_node_of_the_same_name_is_told_of_once_it_has_outlived_any_lease(peer):
    from seg_perception.ros.namesakes import LEASE_S, Namesakes

    now_s = 100.0
    ours, other = named(peer, "first"), named(peer, "second")
    namesakes = Namesakes(ours, lambda: now_s)
    peer.spin_until(lambda: ("second", "/") in ours.get_node_names_and_namespaces(), "the other node")
    now_s += LEASE_S
    assert not namesakes.sentence()
    same = named(peer, "first")
    peer.spin_until(lambda: ours.get_node_names_and_namespaces().count(("first", "/")) == 2, "the namesake")
    now_s += LEASE_S / 2
    assert not namesakes.sentence()
    now_s += LEASE_S / 2
    assert "another node is named /first too" in namesakes.sentence()
    same.destroy_node()
    peer.spin_until(lambda: not namesakes.sentence(), "the namesake to be forgotten")
    for node in (ours, other):
        node.destroy_node()


def test_the_node_counts_and_explains_it(tmp_path, model, peer):
    peer.wait_until_alone()
    with live.running(peer, tmp_path, live.parameters(model), ("-c", IMPATIENT)):
        other = named(peer)
        peer.spin_until(lambda: peer.causes().get("node_name_taken"), "the other to be counted")
        assert "__node:=" in peer.last_words("node_name_taken")
        other.destroy_node()
