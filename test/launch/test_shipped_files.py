"""Launch files, parameter file, RViz and Foxglove configurations, as far as they can be checked here."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace

import live_node as live
import pytest
import yaml
from launch_words import entities

from seg_perception.cli.main import main, parser
from seg_perception.config import Config, as_mapping
from seg_perception.ros import dds

FILES = {name: live.ROOT / "launch" / f"{name}.launch.py" for name in ("perception", "replay", "simulation")}


def published():
    """What the node publishes with the shipped parameter file, by the policy, which test_security_policy.py holds to
    it."""
    (profile,) = ElementTree.parse(live.ROOT / "security" / "policy.xml").iter("profile")
    return {entry.text for group in profile.iter("topics") if "publish" in group.attrib for entry in group}


def described(name):
    """The globals of a launch file, and what it describes."""
    return entities(FILES[name], live.ROOT)


def started(**given):
    """What perception.launch.py starts with these arguments: by executable, or by the program of the command."""
    namespace, _ = described("perception")
    values = {name: default for name, (default, _) in namespace["ARGUMENTS"].items()}
    found = namespace["_processes"]({**values, **given})
    return {process.kwargs.get("executable") or process.kwargs["cmd"][1]: process for process in found}


def node_parameters(process):
    """The file, and the overrides of it as a config reads them."""
    file, overrides = process.kwargs["parameters"]
    nested = {}
    for name, value in overrides.items():
        *sections, leaf = name.split(".")
        branch = nested
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[leaf] = value
    return file, nested


@pytest.mark.parametrize("name", FILES)
def test_every_launch_argument_is_declared_with_a_description(name):
    namespace, entities = described(name)
    declared = {entity.args[0]: entity.kwargs for entity in entities if entity.kind == "DeclareLaunchArgument"}
    assert set(declared) == set(namespace["ARGUMENTS"])
    assert all(entry["description"] for entry in declared.values())
    assert all(entry["default_value"] is None or type(entry["default_value"]) is str for entry in declared.values())


def test_without_arguments_the_node_alone_starts_with_the_shipped_parameters():
    found = started()
    assert set(found) == {"perception_node"}
    file, overrides = node_parameters(found["perception_node"])
    assert Config.load(file) == Config.load(live.ROOT / "config" / "perception.param.yaml")
    assert overrides == {"use_sim_time": False, "autostart": True}


def test_what_is_given_becomes_parameters_that_the_node_takes():
    given = {"model": "m.onnx", "backend": "openvino", "lidar_topic": "/top", "wake_latency_us": "20"}
    found = started(use_sim_time="True", **given)
    _, overrides = node_parameters(found["perception_node"])
    assert (overrides.pop("use_sim_time"), overrides.pop("autostart")) == (True, True)
    config = Config.from_mapping(as_mapping(overrides, "overrides"))
    assert (config.inference.model, config.inference.backend, config.lidar.topic) == ("m.onnx", "openvino", "/top")
    assert config.node.wake_latency_us == 20


def test_cameras_that_are_named_are_those_of_the_parameter_file_or_by_default(tmp_path):
    cameras = {name: {"transport": "compressed"} for name in ("left", "right")}
    several = tmp_path / "several.param.yaml"
    several.write_text(yaml.safe_dump({"/**": {"ros__parameters": {"cameras": [*cameras], "camera": cameras}}}))
    found = started(params_file=str(several), cameras="rear, left")
    file, _ = node_parameters(found["perception_node"])
    rear, left = Config.load(file).cameras
    assert (rear.name, rear.transport, left.name, left.transport) == ("rear", "raw", "left", "compressed")
    file, _ = node_parameters(started(cameras="side")["perception_node"])  # the shipped file is of `front`
    assert [camera.name for camera in Config.load(file).cameras] == ["side"]
    assert "{}" not in Path(file).read_text(encoding="utf-8")  # an empty section, at which ROS stops reading


def test_a_parameter_file_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"params_file: a file wanted, '/nowhere\.yaml' seen"):
        started(params_file="/nowhere.yaml")


def test_an_enclave_is_handed_to_the_node_alone():
    assert started()["perception_node"].kwargs["ros_arguments"] == ["--log-level", "info"]
    given = started(enclave="/perception")["perception_node"].kwargs["ros_arguments"]
    assert given == ["--log-level", "info", "--enclave", "/perception"]


def test_every_parameter_that_the_launch_file_sets_is_one_of_the_node():
    pytest.importorskip("rclpy")
    from seg_perception.ros.params import AUTOSTART, ROS_OWN, settings

    namespace, _ = described("perception")
    known = {setting.name for setting in settings()} | {AUTOSTART, *ROS_OWN}
    tables = ("PARAMETERS", "BOOLEAN_PARAMETERS", "INTEGER_PARAMETERS")
    assert {name for table in tables for name in namespace[table].values()} <= known


def test_a_bag_brings_its_parameter_file_a_player_and_a_recorder_that_know_their_options(tmp_path, monkeypatch):
    for name in dds.PROFILE_VARIABLES:  # a live test before this one may have set them for its children
        monkeypatch.delenv(name, raising=False)
    bag = tmp_path / "drive.mcap"
    (tmp_path / "drive.param.yaml").write_text("cameras: [front]\n")
    found = started(
        bag=str(bag), loop="true", use_sim_time="true", record="out", namespace="/car", rviz="true", log_level="debug"
    )
    assert set(found) == {"perception_node", "play", "bag", "rviz2"}
    assert node_parameters(found["perception_node"])[0] == str(tmp_path / "drive.param.yaml")
    program, *options = found["play"].kwargs["cmd"]
    assert (program.args, program.kwargs) == (("seg-perception",), {"package": "seg_perception"})
    args = parser().parse_args(options)
    assert (args.command, args.bag, args.clock, args.loop) == ("play", bag, 100.0, True)
    assert "/car/perception_node/points" in found["bag"].kwargs["cmd"]
    assert "FASTRTPS_DEFAULT_PROFILES_FILE" in found["play"].kwargs["additional_env"]


def test_the_queue_of_who_receives_holds_the_pieces_of_four_full_segments():
    profile = ElementTree.parse(live.ROOT / "config" / "fastdds.xml")
    sizes = {element.tag.rpartition("}")[2]: element.text for element in profile.iter()}
    assert int(sizes["port_queue_capacity"]) * (1 << 16) >= 4 * int(sizes["segment_size"])


def test_replay_passes_on_only_what_perception_takes():
    perception, replay = described("perception")[0], described("replay")
    (included,) = [entity for entity in replay[1] if entity.kind == "IncludeLaunchDescription"]
    passed_on = dict(included.kwargs["launch_arguments"])
    assert set(passed_on) <= set(perception["ARGUMENTS"])
    assert passed_on["use_sim_time"] == "true"
    assert included.args[0].args[0] == str(FILES["perception"])


def test_a_simulation_is_made_with_options_that_the_command_knows_then_replayed():
    namespace, entities = described("simulation")
    (simulator,) = [entity for entity in entities if entity.kind == "ExecuteProcess"]
    command = ["1" if type(part) is not str else part for part in simulator.kwargs["cmd"][1:]]
    assert parser().parse_args(command).command == "simulate"
    (handler,) = [entity for entity in entities if entity.kind == "RegisterEventHandler"]
    (event,) = handler.args
    assert event.kwargs["target_action"] is simulator
    (replay,) = event.kwargs["on_exit"](SimpleNamespace(returncode=0), None)
    passed_on = dict(replay.kwargs["launch_arguments"])
    assert set(passed_on) - {"cameras"} <= set(described("replay")[0]["ARGUMENTS"])
    # Arguments are seen by what is launched from there: of one name, and not passed on, they would be meant for both.
    assert set(namespace["ARGUMENTS"]) & set(described("perception")[0]["ARGUMENTS"]) <= set(passed_on)
    assert passed_on["cameras"] == ""


def test_the_shipped_parameter_file_is_a_config_with_a_camera():
    config = Config.load(live.ROOT / "config" / "perception.param.yaml")
    assert [camera.name for camera in config.cameras] == ["front"]


def test_rviz_looks_at_topics_that_the_node_publishes_with_a_matching_qos():
    config = yaml.safe_load((live.ROOT / "rviz" / "perception.rviz").read_text(encoding="utf-8"))
    displays = {display["Name"]: display for display in config["Visualization Manager"]["Displays"]}
    topics = {name: display["Topic"] for name, display in displays.items() if "Topic" in display}
    assert {topic["Value"].replace("/perception_node", "~") for topic in topics.values()} <= published()
    assert set(topics) == {"Semantic cloud", "Map", "Drivable ground", "Objects", "Overlay"}
    assert displays["Semantic cloud"]["Color Transformer"] == "RGB8"
    assert all(topic["Reliability Policy"] == "Reliable" for topic in topics.values())
    latched = {name for name, topic in topics.items() if topic["Durability Policy"] == "Transient Local"}
    assert latched == {"Map", "Drivable ground"}


def test_foxglove_looks_at_topics_that_the_node_publishes():
    layout = json.loads((live.ROOT / "foxglove" / "perception.json").read_text(encoding="utf-8"))
    panels = layout["configById"]
    scene = panels["3D!scene"]["topics"]
    pictures = {panel["imageMode"]["imageTopic"] for name, panel in panels.items() if name.startswith("Image!")}
    assert {topic.replace("/perception_node", "~") for topic in {*scene, *pictures}} <= published()
    assert set(leaves(layout["layout"])) == set(panels)


SEVERAL = {
    "cameras": ["left", "right"],
    "camera": {"left": {"calibration": "left.yaml"}},
    "lidars": ["top", "rear"],
    "lidar": {"rear": {"topic": "/back/cloud"}},
    "output": {"point_groups": "drivable"},
    "motion": {"fixed_frame": "map"},
    "objects": {"enabled": False},
}


def written(tmp_path, *options, settings=None):
    """The three files that `seg-perception layout` writes for these settings."""
    file = live.ROOT / "config" / "perception.param.yaml"
    if settings is not None:
        file = tmp_path / "several.param.yaml"
        file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    assert main(["layout", str(file), "--out", str(tmp_path / "out"), *options]) == 0
    return [
        (tmp_path / "out" / name).read_text(encoding="utf-8")
        for name in ("perception.rviz", "perception.json", "policy.xml")
    ]


def test_what_is_shipped_is_what_is_written_for_the_shipped_parameter_file(tmp_path):
    rviz, foxglove, policy = written(tmp_path)
    assert yaml.safe_load(rviz) == yaml.safe_load((live.ROOT / "rviz" / "perception.rviz").read_text())
    assert json.loads(foxglove) == json.loads((live.ROOT / "foxglove" / "perception.json").read_text())
    assert policy == (live.ROOT / "security" / "policy.xml").read_text(encoding="utf-8")


def test_rviz_and_foxglove_show_every_lidar_and_every_camera(tmp_path):
    rviz, foxglove, _ = written(tmp_path, "--namespace", "car", settings=SEVERAL)
    manager = yaml.safe_load(rviz)["Visualization Manager"]
    assert manager["Global Options"]["Fixed Frame"] == "map"
    topics = {display["Name"]: display["Topic"]["Value"] for display in manager["Displays"] if "Topic" in display}
    node = "/car/perception_node"
    assert topics == {
        "Drivable ground": f"{node}/bev/drivable",
        "Map": f"{node}/map",
        "Semantic cloud top": f"{node}/top/points",
        "Semantic cloud rear": f"{node}/rear/points",
        "Objects": f"{node}/objects/markers",
        "Overlay left": f"{node}/left/overlay",
        "Overlay right": f"{node}/right/overlay",
    }
    layout = json.loads(foxglove)
    panels = layout["configById"]
    assert {f"{node}/top/points", f"{node}/rear/points", f"{node}/map"} <= set(panels["3D!scene"]["topics"])
    assert f"{node}/points" not in panels["3D!scene"]["topics"]
    pictures = {panel["imageMode"]["imageTopic"] for panel in panels.values() if "imageMode" in panel}
    assert pictures == {f"{node}/{name}/overlay/compressed" for name in ("left", "right")}
    assert set(leaves(layout["layout"])) == set(panels)


def test_a_policy_allows_the_topics_of_every_lidar_and_camera_and_of_nothing_that_is_switched_off(tmp_path):
    *_, policy = written(tmp_path, "--namespace", "car", settings=SEVERAL)
    (profile,) = ElementTree.fromstring(policy).iter("profile")
    assert (profile.get("ns"), profile.get("node")) == ("/car", "perception_node")
    topics = {
        permission: {entry.text for entry in group} for group in profile.iter("topics") for permission in group.attrib
    }
    assert topics["subscribe"] == {
        "/left/image_raw", "/right/image_raw", "/right/camera_info", "/top/points", "/back/cloud", "/tf", "/tf_static",
    }  # fmt: skip
    published = topics["publish"]
    assert {name for name in published if not name.startswith("~/")} == {"/diagnostics", "/parameter_events", "/rosout"}
    assert {"~/top/points", "~/rear/points", "~/rear/points/drivable", "~/left/label_info", "~/map"} <= published
    assert not any("front" in name or "objects" in name or name.startswith("~/points") for name in published)


def test_rviz_and_recording_started_by_launch_know_every_lidar(tmp_path):
    file = tmp_path / "several.param.yaml"
    file.write_text(yaml.safe_dump(SEVERAL), encoding="utf-8")
    found = started(params_file=str(file), cameras="left,rear_view", rviz="true", record="out")
    assert {"/perception_node/top/points", "/perception_node/rear/points"} <= set(found["bag"].kwargs["cmd"])
    _, shown = found["rviz2"].kwargs["arguments"]
    content = Path(shown).read_text(encoding="utf-8")
    assert "/perception_node/rear/points" in content
    assert "/perception_node/rear_view/overlay" in content


def leaves(node):
    if isinstance(node, str):
        return [node]
    return [*leaves(node["first"]), *leaves(node["second"])]
