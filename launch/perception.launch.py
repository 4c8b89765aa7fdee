"""Start perception_node, and RViz if asked for.

ros2 launch seg_perception perception.launch.py params_file:=my.param.yaml model:=/data/deeplab.onnx rviz:=true
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node

from launch import LaunchDescription
from seg_perception.ros.dds import environment

SHARE = Path(get_package_share_directory("seg_perception"))

# Argument -> (default, description).
ARGUMENTS = {
    "params_file": ("", "parameter file; empty: the one that comes with the package"),
    "model": ("", "deployed ONNX file; empty: inference.model of the parameter file"),
    "backend": ("", "what runs the network; empty: inference.backend of the parameter file"),
    "namespace": ("", "namespace of the node"),
    "use_sim_time": ("false", "take the time from /clock, as with a bag or a simulator"),
    "autostart": ("true", "configure and activate at once; false: wait for a lifecycle manager"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
    "rviz": ("false", "start RViz"),
    "rviz_config": ("", "RViz configuration; empty: the one that comes with the package"),
}

# Argument -> the parameter that it sets, where it is not empty.
PARAMETERS = {"model": "inference.model", "backend": "inference.backend"}
BOOLEAN_PARAMETERS = {"use_sim_time": "use_sim_time", "autostart": "autostart"}


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` runs."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_nodes)])


def _nodes(context) -> list:
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    overrides = {parameter: given[name] for name, parameter in PARAMETERS.items() if given[name]}
    overrides.update(
        {parameter: given[name].lower() in ("true", "1") for name, parameter in BOOLEAN_PARAMETERS.items()}
    )
    node = LifecycleNode(
        package="seg_perception",
        executable="perception_node",
        name="perception_node",
        namespace=given["namespace"],
        parameters=[given["params_file"] or str(SHARE / "config" / "perception.param.yaml"), overrides],
        arguments=["--ros-args", "--log-level", given["log_level"]],
        additional_env=environment(),
        output="screen",
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", given["rviz_config"] or str(SHARE / "rviz" / "perception.rviz")],
        parameters=[{"use_sim_time": overrides["use_sim_time"]}],
        additional_env=environment(),
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    return [node, rviz]
