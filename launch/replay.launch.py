"""A recorded drive through the node, in its own time, seen in RViz, recorded if asked for.

ros2 launch seg_perception replay.launch.py bag:=drive.mcap model:=/data/deeplab.onnx record:=labelled
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from launch import LaunchDescription

PERCEPTION = Path(get_package_share_directory("seg_perception")) / "launch" / "perception.launch.py"

# Argument of perception.launch.py -> (default here, description). None: has to be given.
ARGUMENTS = {
    "bag": (None, "rosbag2 to play, at whose end all ends unless RViz is open"),
    "params_file": ("", "parameter file; empty: BAG.param.yaml beside the bag, or the one that comes with the package"),
    "model": ("", "deployed ONNX file; empty: inference.model of the parameter file"),
    "backend": ("", "what runs the network; empty: inference.backend of the parameter file"),
    "namespace": ("", "namespace of the node"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
    "rate": ("1.0", "how fast the bag is played"),
    "loop": ("false", "start the bag over at its end"),
    "record": ("", "rosbag2 to record what comes out into; empty: none"),
    "rviz": ("true", "start RViz"),
    "rviz_config": ("", "RViz configuration; empty: the one that comes with the package"),
}
FIXED = {"use_sim_time": "true"}


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` runs."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    passed_on = {**{name: LaunchConfiguration(name) for name in ARGUMENTS}, **FIXED}
    perception = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(PERCEPTION)), launch_arguments=passed_on.items()
    )
    return LaunchDescription([*declared, perception])
