"""Launch file, parameter file and RViz configuration, as far as they can be checked without `launch` and RViz."""

import ast
from importlib.util import find_spec

import live_node as live
import pytest
import yaml

from seg_perception.config import Config

LAUNCH = live.ROOT / "launch" / "perception.launch.py"


def constants():
    """The literal dictionaries at the top of the launch file."""
    tree = ast.parse(LAUNCH.read_text(encoding="utf-8"))
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            found[node.targets[0].id] = ast.literal_eval(node.value)
    return found


def test_every_parameter_that_the_launch_file_sets_is_one_of_the_node():
    pytest.importorskip("rclpy")
    from seg_perception.ros.params import AUTOSTART, ROS_OWN, settings

    known = {setting.name for setting in settings()} | {AUTOSTART, *ROS_OWN}
    found = constants()
    assert set(found["PARAMETERS"].values()) | set(found["BOOLEAN_PARAMETERS"].values()) <= known


def test_every_launch_argument_is_declared_with_a_description_and_used():
    found = constants()
    text = LAUNCH.read_text(encoding="utf-8")
    passed_on = {**found["PARAMETERS"], **found["BOOLEAN_PARAMETERS"]}
    assert set(passed_on) <= set(found["ARGUMENTS"])
    for name, (_, description) in found["ARGUMENTS"].items():
        assert description
        assert name in passed_on or f'given["{name}"]' in text or f'LaunchConfiguration("{name}")' in text


@pytest.mark.skipif(find_spec("launch_ros") is None, reason="launch_ros is not installed")
def test_the_launch_file_describes_a_node():
    namespace: dict = {}
    exec(compile(LAUNCH.read_text(encoding="utf-8"), str(LAUNCH), "exec"), namespace)
    assert namespace["generate_launch_description"]().entities


def test_the_shipped_parameter_file_is_a_config_with_a_camera():
    config = Config.load(live.ROOT / "config" / "perception.param.yaml")
    assert [camera.name for camera in config.cameras] == ["front"]


def test_rviz_looks_at_topics_that_the_node_publishes_with_a_matching_qos():
    config = yaml.safe_load((live.ROOT / "rviz" / "perception.rviz").read_text(encoding="utf-8"))
    displays = {display["Name"]: display for display in config["Visualization Manager"]["Displays"]}
    assert displays["Semantic cloud"]["Topic"]["Value"] == "/perception_node/points"
    assert displays["Semantic cloud"]["Color Transformer"] == "RGB8"
    assert displays["Overlay"]["Topic"]["Value"] == "/perception_node/front/overlay"
    topics = [display["Topic"] for display in displays.values() if "Topic" in display]
    assert all(topic["Reliability Policy"] == "Reliable" for topic in topics)
