"""Parameters are the settings of `seg_perception/config`, one for one."""

import dataclasses

import pytest

from seg_perception.config import CameraConfig, Config
from seg_perception.errors import ConfigError

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def context():
    import rclpy

    context = rclpy.Context()
    rclpy.init(context=context)
    yield context
    rclpy.shutdown(context=context)


@pytest.fixture
def declare(context):
    """Parameters of a node that was started with these `name:=value` arguments."""
    from seg_perception.ros.params import NodeOfOverrides, Parameters

    nodes = []

    def build(*overrides):
        arguments = ["--ros-args", *(part for override in overrides for part in ("-p", override))]
        node = NodeOfOverrides("params", context=context, cli_args=arguments, use_global_arguments=False)
        nodes.append(node)
        return node, Parameters(node)

    yield build
    for node in nodes:
        node.destroy_node()


def scalars(section, prefix=""):
    """Every scalar in a Config, by its parameter name."""
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        if dataclasses.is_dataclass(value):
            yield from scalars(value, f"{prefix}{field.name}.")
        elif field.name not in ("cameras", "lidars", "name"):
            yield prefix + field.name, value


def test_an_empty_list_which_has_no_type_in_ros_is_an_empty_list(declare):
    _, parameters = declare("cameras:=[front]", "lidars:=[]")
    assert parameters.config().lidars == ()
    _, parameters = declare("cameras:=[]")
    assert parameters.config().cameras == ()


def test_every_setting_is_a_parameter_with_the_same_default_and_its_description(declare):
    node, parameters = declare("cameras:=[front]")
    expected = {**dict(scalars(Config())), **dict(scalars(CameraConfig("front"), "camera.front."))}
    assert parameters.names == set(expected) | {"cameras", "lidars"}
    for name, default in expected.items():
        assert node.get_parameter(name).value == default
        assert node.describe_parameter(name).description
    assert parameters.config() == Config(cameras=(CameraConfig("front"),))


def test_a_setting_given_at_the_start_arrives_in_the_config(declare):
    _, parameters = declare(
        "cameras:=[front, rear]",
        "camera.rear.transport:=compressed",
        "motion.mode:=static",
        "pairing.window_ms:=60",
        "painting.min_probability:=0.25",
    )
    config = parameters.config()
    assert [camera.name for camera in config.cameras] == ["front", "rear"]
    assert config.cameras[1].transport == "compressed"
    assert (config.motion.mode, config.pairing.window_ms, config.painting.min_probability) == ("static", 60.0, 0.25)


def test_several_lidars_have_a_section_each(declare):
    node, parameters = declare("cameras:=[front]", "lidars:=[top, left]", "lidar.left.topic:=/velodyne_left")
    assert parameters.config().lidar_topics() == {"top": "/top/points", "left": "/velodyne_left"}
    assert node.describe_parameter("lidars").read_only


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("motion.mod:=static", "mod"),
        ("speed:=3", "speed"),
        ("camera.rear.transport:=raw", "rear"),
        ("motion.mode:=levitate", "levitate"),
        ("pairing.image_queue:=0", "image_queue"),
        ("pairing.image_queue:=2.5", "image_queue"),
        ("painting.min_probability:=1.5", "min_probability"),
        ("painting.min_probability:=.nan", "min_probability"),
        ("lidar.topic:=7", "topic"),
        ("lidar.left.topic:=/left", "left"),
        ("motion:=auto", "motion"),
        ("autostart:=5", "autostart"),
    ],
)
def test_what_is_unknown_or_cannot_be_is_refused_by_name(declare, override, named):
    _, parameters = declare("cameras:=[front]", override)
    with pytest.raises(ConfigError, match=named):
        parameters.config()


@pytest.mark.parametrize("cameras", ["[1, 2]", "front", "[a-b]", "['']", "[front, front]"])
def test_camera_names_that_no_topic_can_have_are_refused(declare, cameras):
    with pytest.raises(ConfigError, match="cameras"):
        declare(f"cameras:={cameras}")[1].config()


def test_no_camera_is_a_config_without_cameras(declare):
    assert declare()[1].config() == Config()


def test_a_refused_value_may_be_put_right(declare):
    from rclpy.parameter import Parameter

    _, parameters = declare("cameras:=[front]", "motion.mode:=levitate")
    parameters.accept([Parameter("motion.mode", value="auto")])
    assert parameters.config([Parameter("motion.mode", value="auto")]).motion.mode == "auto"


def test_a_setting_is_described_with_its_limits(declare):
    node, _ = declare("cameras:=[front]")
    probability = node.describe_parameter("painting.min_probability").floating_point_range[0]
    assert (probability.from_value, probability.to_value) == (0.0, 1.0)
    assert node.describe_parameter("pairing.image_queue").integer_range[0].from_value == 1
    assert "required" in node.describe_parameter("motion.mode").additional_constraints


def test_qos_overrides_are_no_concern_of_ours(declare):
    _, parameters = declare("cameras:=[front]", "qos_overrides./points.subscription.reliability:=reliable")
    assert parameters.config().cameras[0].name == "front"
