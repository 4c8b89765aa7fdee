"""security/policy.xml allows exactly what the node with the shipped parameter file makes use of."""

import xml.etree.ElementTree as ElementTree

import live_node as live
import pytest
import yaml

pytestmark = pytest.mark.ros

POLICY = live.ROOT / "security" / "policy.xml"
NODE = "perception_node"
NEWER = {"~/get_type_description"}  # Humble has it not


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
