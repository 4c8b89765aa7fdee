"""Start perception_node; a bag, a recording and RViz if asked for.

ros2 launch seg_perception perception.launch.py params_file:=my.param.yaml model:=/data/deeplab.onnx rviz:=true
ros2 launch seg_perception perception.launch.py cameras:=front,left,right model:=/data/deeplab.onnx bag:=drive.mcap
"""

import tempfile
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction, Shutdown, TimerAction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.substitutions import ExecutableInPackage

from launch import LaunchDescription
from seg_perception.config import Config, parameters_beside, parameters_of
from seg_perception.offline import points_topic
from seg_perception.ros.dds import environment
from seg_perception.viewing.layouts import rviz

SHARE = Path(get_package_share_directory("seg_perception"))

# Argument -> (default, description).
ARGUMENTS = {
    "params_file": ("", "parameter file; empty: BAG.param.yaml beside the bag, or the one that comes with the package"),
    "cameras": ("", "names of the cameras, comma-separated, each as the parameter file has it; empty: all of those"),
    "model": ("", "deployed ONNX file; empty: inference.model of the parameter file"),
    "backend": ("", "what runs the network; empty: inference.backend of the parameter file"),
    "lidar_topic": ("", "topic of the sweeps; empty: lidar.topic of the parameter file"),
    "wake_latency_us": ("", "how slowly CPUs may wake; empty: node.wake_latency_us of the parameter file"),
    "namespace": ("", "namespace of the node"),
    "use_sim_time": ("false", "take the time from /clock, as with a bag or a simulator"),
    "autostart": ("true", "configure and activate at once; false: wait for a lifecycle manager"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
    "enclave": ("", "SROS2 enclave of the node; empty: none"),
    "bag": ("", "rosbag2 to play, at whose end all ends unless RViz is open; empty: none, sensors are live"),
    "rate": ("1.0", "how fast the bag is played"),
    "loop": ("false", "start the bag over at its end"),
    "record": ("", "rosbag2 to record what comes out into; empty: none"),
    "rviz": ("false", "start RViz"),
    "rviz_config": ("", "RViz configuration; empty: one for the cameras and LiDARs of the parameter file"),
}

# Argument -> the parameter that it sets, where it is not empty.
PARAMETERS = {"model": "inference.model", "backend": "inference.backend", "lidar_topic": "lidar.topic"}
BOOLEAN_PARAMETERS = {"use_sim_time": "use_sim_time", "autostart": "autostart"}
INTEGER_PARAMETERS = {"wake_latency_us": "node.wake_latency_us"}

LAST_S = 2.0  # for what the node still has to say, and the recorder to write, once the bag is at its end

# Below the node's name.
RECORDED = ("objects", "objects/markers", "bev/drivable", "bev/classes", "map")
RECORDED_BESIDE = ("/tf", "/tf_static", "/diagnostics")


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` runs."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_processes)])


def _processes(context) -> list:
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    processes = [_node(given)]
    if given["bag"]:
        processes.append(_player(given))
    if given["record"]:
        processes.append(_recorder(given))
    if _is_true(given, "rviz"):
        processes.append(_rviz(given))
    return processes


def _node(given: dict) -> LifecycleNode:
    overrides = {parameter: given[name] for name, parameter in PARAMETERS.items() if given[name]}
    overrides.update({parameter: _is_true(given, name) for name, parameter in BOOLEAN_PARAMETERS.items()})
    overrides.update({p: _integer(given, name) for name, p in INTEGER_PARAMETERS.items() if given[name]})
    enclave = ["--enclave", given["enclave"]] if given["enclave"] else []
    return LifecycleNode(
        package="seg_perception",
        executable="perception_node",
        name="perception_node",
        namespace=given["namespace"],
        parameters=[_params_file(given), overrides],
        ros_arguments=["--log-level", given["log_level"], *enclave],
        additional_env=environment(),
        output="screen",
        on_exit=_end if given["bag"] else None,
    )


def _player(given: dict) -> ExecuteProcess:
    """Our own player, because it waits for the node to subscribe and needs no plugin for the bag's format.

    Not through `ros2 run`, which keeps a signal to itself and leaves the player behind when it is ended.
    """
    player = ExecutableInPackage("seg-perception", package="seg_perception")
    command = [player, "play", given["bag"], "--rate", given["rate"]]
    command += ["--clock", "100"] if _is_true(given, "use_sim_time") else []
    command += ["--loop"] if _is_true(given, "loop") else []
    waiting = ["--wait-for-subscribers", "3600", "--no-progress"]  # the first start compiles, or builds an engine
    return ExecuteProcess(
        cmd=[*command, *waiting],
        name="player",
        additional_env=environment(),
        output="screen",
        on_exit=None if _is_true(given, "rviz") else _end,
    )


def _end(_event, context) -> list:
    """Everything, in a moment, unless it is on its way out already."""
    if context.is_shutdown:
        return []
    return [TimerAction(period=LAST_S, actions=[Shutdown()])]


def _recorder(given: dict) -> ExecuteProcess:
    node = _node_name(given)
    clouds = [points_topic(lidar, node) for lidar in _config(given).lidar_topics()]
    topics = [*clouds, *(f"{node}/{topic}" for topic in RECORDED), *RECORDED_BESIDE]
    command = ["ros2", "bag", "record", "-o", given["record"], *topics]
    return ExecuteProcess(cmd=command, name="recorder", additional_env=environment(), output="screen")


def _rviz(given: dict) -> Node:
    file = given["rviz_config"]
    if not file:
        template = (SHARE / "rviz" / "perception.rviz").read_text(encoding="utf-8")
        file = _temporary("perception.rviz", rviz(template, _config(given), _node_name(given)))
    return Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", file],
        parameters=[{"use_sim_time": _is_true(given, "use_sim_time")}],
        additional_env=environment(),
    )


def _params_file(given: dict) -> str:
    shipped = SHARE / "config" / "perception.param.yaml"
    beside = parameters_beside(Path(given["bag"])) if given["bag"] else shipped
    file = Path(given["params_file"] or (beside if beside.is_file() else shipped))
    if not file.is_file():
        raise ValueError(f"launch argument params_file: a file wanted, '{file}' seen")
    if not given["cameras"]:
        return str(file)
    return _temporary("perception.param.yaml", parameters_of(file, _names(given["cameras"])))


def _config(given: dict) -> Config:
    """The settings, as far as they say which cameras and LiDARs there are."""
    return Config.load(_params_file(given))


def _temporary(name: str, content: str) -> str:
    """The path of a file with this name and content, which is left behind."""
    file = Path(tempfile.mkdtemp(prefix="seg_perception_")) / name
    file.write_text(content, encoding="utf-8")
    return str(file)


def _node_name(given: dict) -> str:
    return "/".join(["", *filter(None, given["namespace"].split("/")), "perception_node"])


def _names(text: str) -> list:
    return [entry.strip() for entry in text.split(",")]


def _integer(given: dict, name: str) -> int:
    try:
        return int(given[name])
    except ValueError:
        raise ValueError(f"launch argument {name}: an integer wanted, {given[name]!r} seen") from None


def _is_true(given: dict, name: str) -> bool:
    text = given[name].lower()
    if text not in ("true", "1", "false", "0"):
        raise ValueError(f"launch argument {name}: true or false wanted, {given[name]!r} seen")
    return text in ("true", "1")
