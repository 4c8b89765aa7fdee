"""security/policy.xml allows exactly what the node with the shipped parameter file makes use of; RViz and Foxglove, as
shipped, ask for what it publishes, by type and QoS."""

import json
import xml.etree.ElementTree as ElementTree

import live_node as live
import pytest
import yaml

pytestmark = pytest.mark.ros

POLICY = live.ROOT / "security" / "policy.xml"
NODE = "perception_node"
NEWER = {"~/get_type_description"}  # Humble has it not
SHOWN_BY = {  # what a panel or display of that kind can show
    "Map": "nav_msgs/msg/OccupancyGrid",
    "PointCloud2": "sensor_msgs/msg/PointCloud2",
    "MarkerArray": "visualization_msgs/msg/MarkerArray",
    "Image": "sensor_msgs/msg/Image",
    "imageTopic": "sensor_msgs/msg/CompressedImage",
}
IN_3D = {SHOWN_BY[kind] for kind in ("Map", "PointCloud2", "MarkerArray")}


@pytest.fixture(scope="module")
def graph(tmp_path_factory, model, peer):
    """What the node really has: names by permission, as a policy writes them."""
    shipped = yaml.safe_load((live.ROOT / "config" / "perception.param.yaml").read_text(encoding="utf-8"))
    params = shipped["/**"]["ros__parameters"]
    params["inference"] = {"model": str(model), "threads": 1}
    node = live.NodeProcess(tmp_path_factory.mktemp("node"), params)
    try:
        peer.spin_until(lambda: "active: listening" in node.log, "the node to be active", live.START_S)
        topics = set(node.log.rpartition("active: listening to ")[2].splitlines()[0].split(", "))
        peer.spin_until(lambda: topics <= subscribed(peer.node), "its subscriptions")
        peer.spin_until(lambda: peer.statuses, "its diagnostics")
        yield {
            "publish": named(peer.node.get_publisher_names_and_types_by_node(NODE, "/")),
            "subscribe": named(peer.node.get_subscriber_names_and_types_by_node(NODE, "/")),
            "reply": named(peer.node.get_service_names_and_types_by_node(NODE, "/")),
            "request": named(peer.node.get_client_names_and_types_by_node(NODE, "/")),
            "offers": offers(peer.node),
        }
    finally:
        node.stop()


def subscribed(node):
    """Topics; none while the node is not known by its name."""
    is_known = (NODE, "/") in node.get_node_names_and_namespaces()
    return {name for name, _ in node.get_subscriber_names_and_types_by_node(NODE, "/")} if is_known else set()


def named(names_and_types):
    """`/perception_node/points` as `~/points`, `/points` as it is: without the slash it would be below a namespace."""
    names = {name for name, _ in names_and_types}
    own = f"/{NODE}/"
    return {f"~/{name.removeprefix(own)}" if name.startswith(own) else name for name in names}


def offers(node):
    """Type and QoS of each topic that the node publishes."""
    topics = [name for name, _ in node.get_publisher_names_and_types_by_node(NODE, "/")]
    return {
        topic: (info.topic_type, info.qos_profile)
        for topic in topics
        for info in node.get_publishers_info_by_topic(topic)
        if info.node_name == NODE
    }


def allowed():
    root = ElementTree.parse(POLICY).getroot()
    (profile,) = root.iter("profile")
    assert (profile.get("ns"), profile.get("node")) == ("/", NODE)
    found = {"publish": set(), "subscribe": set(), "reply": set(), "request": set()}
    for group in profile:
        for permission in group.attrib:
            assert group.get(permission) == "ALLOW"
            names = [entry.text for entry in group]
            assert len(set(names)) == len(names)
            found[permission] |= set(names)
    return found


@pytest.mark.parametrize("permission", ["publish", "subscribe", "reply", "request"])
def test_the_policy_allows_what_the_node_has_and_nothing_more(graph, permission):
    assert allowed()[permission] - NEWER == graph[permission] - NEWER


def test_nothing_is_allowed_by_a_pattern():
    assert not any(set("*?[") & set(name) for names in allowed().values() for name in names)


def test_rviz_asks_for_topics_of_the_type_and_qos_that_the_node_offers(graph):
    from rclpy.qos import (
        DurabilityPolicy,
        LivelinessPolicy,
        QoSCompatibility,
        QoSProfile,
        ReliabilityPolicy,
        qos_check_compatible,
    )

    config = yaml.safe_load((live.ROOT / "rviz" / "perception.rviz").read_text(encoding="utf-8"))
    displays = [display for display in config["Visualization Manager"]["Displays"] if "Topic" in display]
    assert len(displays) == 5
    for display in displays:
        topic = display["Topic"]
        kind, offered = graph["offers"][topic["Value"]]
        assert kind == SHOWN_BY[display["Class"].rpartition("/")[2]], display["Name"]
        asked = QoSProfile(
            depth=topic["Depth"],
            reliability=ReliabilityPolicy[topic["Reliability Policy"].upper().replace(" ", "_")],
            durability=DurabilityPolicy[topic["Durability Policy"].upper().replace(" ", "_")],
            liveliness=LivelinessPolicy.AUTOMATIC,
        )
        assert qos_check_compatible(offered, asked)[0] == QoSCompatibility.OK, display["Name"]
        assert offered.durability == asked.durability, f"{display['Name']}: what is latched is to be seen at once"


def test_foxglove_asks_for_topics_of_the_types_that_its_panels_show(graph):
    layout = json.loads((live.ROOT / "foxglove" / "perception.json").read_text(encoding="utf-8"))
    panels = layout["configById"].values()
    in_3d = [topic for panel in panels for topic in panel.get("topics", ())]
    pictures = [panel["imageMode"]["imageTopic"] for panel in panels if "imageMode" in panel]
    assert {graph["offers"][topic][0] for topic in in_3d} == IN_3D
    assert {graph["offers"][topic][0] for topic in pictures} == {SHOWN_BY["imageTopic"]}
