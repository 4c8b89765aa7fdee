"""docs/interfaces.md says what the code does."""

import re

import live_node as live
import pytest

pytest.importorskip("rclpy")

from seg_perception.errors import BackendLostError, CalibrationError, MessageError, ModelError, StampError
from seg_perception.geometry.lens import COEFFICIENT_COUNTS
from seg_perception.inference.cuda_runtime import CudaError
from seg_perception.messages.image import ENCODINGS
from seg_perception.messages.point_times import TIME_FIELDS
from seg_perception.ros.params import settings
from seg_perception.ros.problems import INTERNAL, QUIET, SENTENCES

PAGE = (live.ROOT / "docs" / "interfaces.md").read_text(encoding="utf-8")


def test_every_parameter_of_the_node_is_in_the_table_in_that_order():
    rows = [row.split("`")[1] for row in PAGE.partition("## Parameters")[2].splitlines() if row.startswith("| `")]
    assert rows == [setting.name for setting in settings(["<name>"], ["<name>"])]


OF_ERRORS = {
    error.cause for error in (BackendLostError, CalibrationError, CudaError, MessageError, ModelError, StampError)
}


def test_what_a_message_may_hold_is_all_there():
    said = PAGE.partition("### What a message may hold")[2].partition("## Published")[0]
    encodings = {name.replace("16", "8") if name != "16UC1" else name for name in ENCODINGS}
    assert all(f"`{name}`" in said for name in (*encodings, *TIME_FIELDS))
    for model in COEFFICIENT_COUNTS.keys() - {"none"}:
        counts = re.search(rf"`{model}` \(([^);]*)", said)
        assert counts and tuple(map(int, re.findall(r"\d+", counts[1]))) == COEFFICIENT_COUNTS[model]


@pytest.mark.parametrize("cause", sorted({*SENTENCES, *QUIET, INTERNAL, *OF_ERRORS}))
def test_every_cause_is_explained(cause):
    assert f"`{cause}`" in PAGE or f"`{cause}/<camera>`" in PAGE


OF_ROS = {"/rosout", "/parameter_events", "/perception_node/transition_event"}
ASKED = {  # where the page names a setting
    "`camera.<name>.image_topic`": "/front/image_raw",
    "`camera.<name>.info_topic`": "/front/camera_info",
    "`lidar.topic`": "/points",
    "`pairing.image_queue`": "10",
    "`pairing.sweep_queue`": "5",
}
PLACES = {"~/": "/perception_node/", "<camera>": "front", "<group>": "drivable"}


def table(heading):
    """Topic → (type, reliability, durability, depth), as the page has it for one LiDAR."""
    topics = {}
    for line in PAGE.partition(f"## {heading}\n")[2].partition("| Topic | What")[0].partition("## ")[0].splitlines():
        for setting, value in ASKED.items():
            line = line.replace(setting, value)
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) < 3 or not re.match(r"`?[~/]", cells[0]):
            continue
        topic, kind = (re.split("[`; (]+", cell.lstrip("`"))[0] for cell in cells[:2])
        for place, value in PLACES.items():
            topic = topic.replace(place, value)
        reliability = "BEST_EFFORT" if "best effort" in cells[2] else "RELIABLE"
        durability = "TRANSIENT_LOCAL" if "transient local" in cells[2] else "VOLATILE"
        depth = int(re.search(r"\d+", cells[2]).group())
        topics[topic] = kind.replace("/", "/msg/"), reliability, durability, depth
    return topics


def offered(peer, topic, who):
    """The same of the node itself. who: `publisher` or `subscription`."""
    from rcl_interfaces.srv import GetParameters

    ask = peer.node.get_publishers_info_by_topic if who == "publisher" else peer.node.get_subscriptions_info_by_topic
    (info,) = (info for info in ask(topic) if info.node_name == "perception_node")
    request = GetParameters.Request(names=[f"qos_overrides.{topic}.{who}.depth"])
    answer = live.call(peer, GetParameters, "get_parameters", request).values
    depth = answer[0].integer_value if answer else None  # Fast DDS tells of no depth
    return info.topic_type, info.qos_profile.reliability.name, info.qos_profile.durability.name, depth


@pytest.mark.ros
def test_every_topic_has_the_type_and_the_qos_that_the_page_says(tmp_path, model):
    peer = live.Peer()
    scene = {part: {"enabled": True} for part in ("objects", "voxel_map", "bev")}
    params = live.parameters(model, output={"point_groups": "drivable"}, **scene)
    try:
        with live.running(peer, tmp_path, params):
            graph = {
                "publisher": peer.node.get_publisher_names_and_types_by_node("perception_node", "/"),
                "subscription": peer.node.get_subscriber_names_and_types_by_node("perception_node", "/"),
            }
            for who, heading in {"publisher": "Published", "subscription": "Subscribed"}.items():
                told = table(heading)
                assert {name for name, _ in graph[who] if "/rear/" not in name} - OF_ROS == set(told)
                for topic, wanted in told.items():
                    seen = offered(peer, topic, who)
                    assert seen[:3] == wanted[:3], topic
                    assert seen[3] == (None if topic in ("/diagnostics", "/perception_node/statistics") else wanted[3])
    finally:
        peer.close()
