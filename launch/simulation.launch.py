"""Make up a drive from a seed, then play it through the node. Needs Open3D.

ros2 launch seg_perception simulation.launch.py out:=drive.mcap seed:=7 cameras:=3
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.substitutions import ExecutableInPackage

from launch import LaunchDescription
from seg_perception.shipped import MODEL

REPLAY = Path(get_package_share_directory("seg_perception")) / "launch" / "replay.launch.py"

# Argument -> (default, description). None: has to be given.
ARGUMENTS = {
    "out": (None, "where the drive is written: OUT.mcap, which must not exist yet"),
    "seed": ("0", "another seed, another street"),
    "seconds": ("20", "how long the drive is"),
    "cameras": ("1", "1 to 8, evenly around"),
    "model": (str(MODEL), "deployed ONNX file; by default the one that ships"),
    "backend": ("onnxruntime", "what runs the network"),
    "rviz": ("true", "start RViz"),
    "record": ("", "rosbag2 to record what comes out into; empty: none"),
}
SIMULATED = ("out", "seed", "seconds", "cameras")
REPLAYED = ("model", "backend", "rviz", "record")


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` runs."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    options = [part for name in SIMULATED for part in (f"--{name}", LaunchConfiguration(name))]
    program = ExecutableInPackage("seg-perception", package="seg_perception")
    simulator = ExecuteProcess(cmd=[program, "simulate", *options], name="simulator", output="screen")
    arguments = {"bag": LaunchConfiguration("out"), **{name: LaunchConfiguration(name) for name in REPLAYED}}
    arguments["cameras"] = ""  # what is launched from here sees our arguments: a number here, names there

    def then_replay(event, _context) -> list:
        if event.returncode:
            return []
        source = PythonLaunchDescriptionSource(str(REPLAY))
        return [IncludeLaunchDescription(source, launch_arguments=arguments.items())]

    after = RegisterEventHandler(OnProcessExit(target_action=simulator, on_exit=then_replay))
    return LaunchDescription([*declared, after, simulator])
