import dataclasses

import pytest

from seg_perception.config import CameraConfig, Config, NamedLidarConfig
from seg_perception.errors import ConfigError


def test_defaults_need_no_file():
    assert Config.from_mapping({}) == Config()


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"pairing": {"windwo_ms": 5.0}}, ["windwo_ms", "window_ms"]),
        ({"speed": 1}, ["speed"]),
        ({"motion": {"mode": "sometimes"}}, ["mode", "sometimes", "auto"]),
        ({"pairing": {"window_ms": "wide"}}, ["window_ms", "float", "wide"]),
        ({"pairing": {"window_ms": -1.0}}, ["window_ms", "at least 0"]),
        ({"pairing": {"window_ms": float("nan")}}, ["window_ms", "nan"]),
        ({"pairing": {"window_ms": float("inf")}}, ["window_ms", "finite", "inf"]),
        ({"motion": {"cache_s": 1e300}}, ["cache_s", "at most"]),
        ({"taxonomy": 5}, ["taxonomy", "str", "5"]),
        ({"cameras": ["a"], "camera": {"a": {"offset_ms": float("nan")}}}, ["camera.a", "offset_ms", "nan"]),
        ({"cameras": ["front left"]}, ["front left", "letters"]),
        ({"cameras": [".."]}, ["..", "letters"]),
        ({"camrea": {}}, ["camrea", "camera"]),
        ({"pairing": {"image_queue": 1.5}}, ["image_queue", "int", "1.5"]),
        ({"pairing": {"image_queue": True}}, ["image_queue", "int", "True"]),
        ({"pairing": 3}, ["pairing", "mapping", "3"]),
        ({"cameras": "front"}, ["cameras", "list", "front"]),
        ({"cameras": ["a", "a"]}, ["cameras", "once"]),
        ({"cameras": ["a"], "camera": {"b": {}}}, ["b", "not in cameras"]),
        ({"lidars": ["a"], "lidar": {"b": {}}}, ["b", "not in lidars"]),
        ({"lidars": ["a"], "lidar": {"a": {"tpic": "/a"}}}, ["lidar.a", "tpic", "topic"]),
        ({"lidars": ["top"], "lidar": {"topic": "/a"}}, ["lidar.topic", "/a", "lidar.<name>.topic"]),
        ({"lidars": ["topic"]}, ["topic", "another name"]),
        ({"lidars": ["to p"]}, ["to p", "letters"]),
        ({"lidars": ["a", "b"], "lidar": {"a": {"topic": "/b/points"}}}, ["/b/points", "of its own"]),
        ({"cameras": ["a"], "lidars": ["a"]}, ["a", "once"]),
        ({"lidar": {"left": {"topic": "/a"}}}, ["left", "not in lidars"]),
        ({"cameras": ["a"], "camera": {"a": {"name": "b"}}}, ["name", "a"]),
        ({"cameras": ["a"], "camera": {"a": {"transport": "pigeon"}}}, ["camera.a", "pigeon", "compressed"]),
        ({"lidar": {"topic": "not a topic!"}}, ["not a topic!", "slashes"]),
        ({"lidar": {"topic": "/points/"}}, ["/points/", "slashes"]),
        ({"lidar": {"topic": ""}}, ["topic ''", "wanted"]),
        ({"cameras": ["a"], "camera": {"a": {"image_topic": "/für"}}}, ["/für", "letters"]),
        ({"cameras": ["a"], "camera": {"a": {"info_topic": "/a//b"}}}, ["/a//b", "slashes"]),
        ({"cameras": ["a"], "camera": {"a": {"image_topic": "/points"}}}, ["/points", "PointCloud2", "Image"]),
        ({"cameras": ["a"], "camera": {"a": {"image_topic": "/tf"}}}, ["/tf", "TFMessage", "Image"]),
        ({"cameras": ["2nd"]}, ["2nd", "letter"]),
    ],
)
def test_bad_setting_is_refused_by_name(content, names):
    with pytest.raises(ConfigError) as caught:
        Config.from_mapping(content)
    for name in names:
        assert name in str(caught.value)


@pytest.mark.parametrize("topic", ["image", "/a/b_1/c", "~/image", "{node}/image", "/a/{ns}x"])
def test_every_name_that_ros_takes_may_be_a_topic(topic):
    assert Config.from_mapping({"lidar": {"topic": topic}}).lidar.topic == topic


def test_two_cameras_may_look_at_one_topic():
    """As where each is a part of one wide picture."""
    shared = {"image_topic": "/wide", "info_topic": "/wide_info"}
    assert len(Config.from_mapping({"cameras": ["a", "b"], "camera": {"a": shared, "b": shared}}).cameras) == 2


def test_whole_number_serves_as_a_float():
    assert Config.from_mapping({"pairing": {"window_ms": 50}}).pairing.window_ms == 50.0


def test_ros_parameter_file_and_plain_file_read_alike(tmp_path):
    plain = "cameras: [front]\ncamera:\n  front: {rectified: true}\nmotion: {mode: required}\n"
    (tmp_path / "plain.yaml").write_text(plain)
    indented = "".join(f"    {line}\n" for line in plain.splitlines())
    (tmp_path / "ros.yaml").write_text(
        f"/**:\n  ros__parameters:\n    use_sim_time: true\n    autostart: false\n{indented}"
    )
    config = Config.load(tmp_path / "plain.yaml")
    assert config == Config.load(tmp_path / "ros.yaml")
    assert config.cameras == (CameraConfig("front", rectified=True),)


def test_a_file_for_several_nodes_gives_our_section(tmp_path):
    path = tmp_path / "all.yaml"
    path.write_text(
        "/driver:\n  ros__parameters: {rate: 10}\n/perception_node:\n  ros__parameters: {motion: {mode: static}}\n"
    )
    assert Config.load(path).motion.mode == "static"
    path.write_text("/driver:\n  ros__parameters: {rate: 10}\n/other:\n  ros__parameters: {}\n")
    with pytest.raises(ConfigError, match=r"perception_node.*driver.*other"):
        Config.load(path)


def test_what_ros_dumps_of_a_node_in_a_namespace_is_read(tmp_path):
    path = tmp_path / "dump.yaml"
    own = "autostart: true, start_type_description_service: true, use_sim_time: false, qos_overrides: {/tf: {depth: 1}}"
    path.write_text(f"/car/perception_node:\n  ros__parameters: {{{own}, motion: {{mode: static}}}}\n")
    assert Config.load(path).motion.mode == "static"


def test_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="nowhere"):
        Config.load(tmp_path / "nowhere.yaml")
    (tmp_path / "broken.yaml").write_text("cameras: [front")
    with pytest.raises(ConfigError, match="broken"):
        Config.load(tmp_path / "broken.yaml")


def test_yaml_that_builds_objects_is_refused(tmp_path):
    (tmp_path / "evil.yaml").write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(ConfigError, match="evil"):
        Config.load(tmp_path / "evil.yaml")


def test_the_only_lidar_needs_no_name_and_several_have_a_topic_each():
    assert Config().lidar_topics() == {"": "/points"}
    assert Config.from_mapping({"lidar": {"topic": "/velodyne"}}).lidar_topics() == {"": "/velodyne"}
    several = Config.from_mapping({"lidars": ["top", "left"], "lidar": {"left": {"topic": "/l"}, "top": None}})
    assert several.lidar_topics() == {"top": "/top/points", "left": "/l"}


def test_camera_info_is_the_sibling_of_the_image_topic():
    assert CameraConfig("front").resolved_image_topic() == "/front/image_raw"
    assert CameraConfig("front").resolved_info_topic() == "/front/camera_info"
    compressed = CameraConfig("front", image_topic="/a/image_raw/compressed", transport="compressed")
    assert compressed.resolved_info_topic() == "/a/camera_info"
    assert CameraConfig("front", info_topic="/calib").resolved_info_topic() == "/calib"


def test_every_setting_says_what_it_is_for():
    def walk(section):
        for entry in dataclasses.fields(section):
            if dataclasses.is_dataclass(entry.default):
                yield from walk(entry.default)
            elif entry.name not in ("name", "cameras", "lidars"):
                yield entry

    settings = [*walk(Config), *walk(CameraConfig), *walk(NamedLidarConfig)]
    assert len(settings) > 20
    assert all(entry.metadata.get("description") for entry in settings)


def test_sections_are_closed_and_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().motion.mode = "static"
    with pytest.raises(TypeError):
        CameraConfig("front", colour="red")
