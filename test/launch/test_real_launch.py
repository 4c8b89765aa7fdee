"""The launch files run, where `launch_ros` is installed, in a process of its own: the node, a bag, and their end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import live_node as live
import pytest
import yaml
from viewing import small_bag as small

from seg_perception.bags import BagReader, BagWriter
from seg_perception.datatypes import UNKNOWN

pytestmark = [
    pytest.mark.ros,
    pytest.mark.skipif(find_spec("launch_ros") is None, reason="launch_ros is not installed"),
]

LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

path, *given = sys.argv[1:]
arguments = [argument.split(":=", 1) for argument in given]
service = LaunchService()
source = PythonLaunchDescriptionSource(path)
service.include_launch_description(
    LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments)])
)
sys.exit(service.run())
"""
PROGRAMS = {"perception_node": "seg_perception.ros.start", "seg-perception": "seg_perception.cli.main"}


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """That of the launch: a ROS domain of its own, and an ament prefix in which this checkout is `seg_perception`."""
    folder = tmp_path_factory.mktemp("prefix")
    index = folder / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    (index / "seg_perception").touch()
    (folder / "share" / "seg_perception").symlink_to(live.ROOT)
    programs = folder / "lib" / "seg_perception"
    programs.mkdir(parents=True)
    for name, module in PROGRAMS.items():
        file = programs / name
        file.write_text(f"#!{sys.executable}\nimport sys\nfrom {module} import main\nsys.exit(main())\n")
        file.chmod(0o755)
    first = {"AMENT_PREFIX_PATH": folder, "PYTHONPATH": live.ROOT}
    live.isolate()
    return {
        **os.environ,
        **{name: os.pathsep.join([str(path), os.environ.get(name, "")]) for name, path in first.items()},
    }


@pytest.fixture
def launch(tmp_path, environment):
    """Starts a launch file in a session of its own, in which nobody may be left at the end."""
    started = []

    def start(name, **given):
        log = (tmp_path / "launch.log").open("w")
        command = [sys.executable, "-c", LAUNCH, str(live.ROOT / "launch" / f"{name}.launch.py")]
        command += [f"{argument}:={value}" for argument, value in given.items()]
        own = {**environment, "ROS_LOG_DIR": str(tmp_path / "log")}
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=own)
        process.log = lambda: (tmp_path / "launch.log").read_text()
        started.append(process)
        return process

    yield start
    for process in started:
        for pid in left(process):
            os.kill(pid, signal.SIGKILL)
        process.wait()


def left(process):
    """The process ids in the session of a launch; those that have ended and were not waited for are none."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(session) == process.pid and state != "Z":
            found.append(int(stat.parent.name))
    return found


def said(process, text):
    """Wait until the launch has said this."""
    give_up_s = time.monotonic() + live.START_S
    while text not in process.log():
        assert process.poll() is None, process.log()
        assert time.monotonic() < give_up_s, process.log()
        time.sleep(0.05)


@pytest.fixture
def drive(tmp_path):
    """A bag, and its parameter file beside it."""
    bag = small.write_bag(tmp_path / "drive.mcap")
    settings = {
        "cameras": ["front"],
        "motion": {"fixed_frame": "odom"},
        "inference": {"model": str(live.color_model(tmp_path / "model.onnx")), "backend": "onnxruntime"},
        **live.SCENE_OFF,
    }
    bag.with_suffix(".param.yaml").write_text(yaml.safe_dump({"/**": {"ros__parameters": settings}}))
    return bag


def test_a_replay_labels_the_bag_and_ends_with_it(launch, drive):
    replay = launch("replay", bag=drive, rviz="false", namespace="car")
    assert replay.wait(2 * live.START_S) == 0, replay.log()
    log = replay.log()
    assert "[car.perception_node]: active: listening to" in log
    assert re.search(rf"/points +{small.SWEEPS} published\n", log), log
    assert log.count("process has finished cleanly") == 2, log
    assert not left(replay)


@pytest.mark.parametrize("interrupt", [os.kill, os.killpg], ids=["the launch alone", "all, as Ctrl-C does"])
def test_an_interrupt_ends_node_and_player_in_order(launch, drive, interrupt):
    replay = launch("replay", bag=drive, rviz="false", loop="true")
    said(replay, "sweep_out_of_order")  # the bag is played for the second time
    interrupt(replay.pid, signal.SIGINT)  # which the launch passes on, to all that have not ended by then
    assert replay.wait(live.PATIENCE_S) == 0
    assert replay.log().count("process has finished cleanly") == 2, replay.log()
    assert not left(replay)


def test_a_node_whose_settings_are_wrong_says_why_and_the_launch_ends(launch, tmp_path):
    settings = tmp_path / "wrong.param.yaml"
    settings.write_text("/**: {ros__parameters: {pairing: {windw_ms: 10.0}}}\n")
    perception = launch("perception", params_file=settings)
    perception.wait(live.START_S)
    assert "windw_ms" in perception.log()
    assert "exit code 1" in perception.log()
    assert not left(perception)


def test_a_switch_that_is_neither_true_nor_false_is_refused(launch):
    perception = launch("perception", autostart="maybe")
    assert perception.wait(live.PATIENCE_S) == 1
    assert "autostart: true or false wanted, 'maybe' seen" in perception.log()


class Launched:
    """A launch as `live.Peer` looks at a node."""

    def __init__(self, process):
        self._process = process

    @property
    def alive(self):
        return self._process.poll() is None

    @property
    def log(self):
        return self._process.log()


def ask(peer, transition):
    """By its number, as lifecycle managers do; whether it succeeded."""
    from lifecycle_msgs.srv import ChangeState

    request = ChangeState.Request()
    request.transition.id = transition
    return live.call(peer, ChangeState, "change_state", request).success


def test_without_autostart_it_does_what_a_lifecycle_manager_asks_for(launch, tmp_path):
    from lifecycle_msgs.msg import Transition

    settings = tmp_path / "two.param.yaml"
    params = live.parameters(live.color_model(tmp_path / "model.onnx"))
    settings.write_text(yaml.safe_dump({"/**": {"ros__parameters": params}}))
    perception = launch("perception", params_file=settings, autostart="false")
    peer = live.Peer()
    try:
        assert not ask(peer, Transition.TRANSITION_ACTIVATE)
        assert ask(peer, Transition.TRANSITION_CONFIGURE)
        for _ in range(2):
            assert ask(peer, Transition.TRANSITION_ACTIVATE)
            assert not ask(peer, Transition.TRANSITION_ACTIVATE)
            peer.wait_until_connected(Launched(perception))
            assert peer.labels_of(peer.send_good()) == [live.ROAD, live.CAR, UNKNOWN]
            assert ask(peer, Transition.TRANSITION_DEACTIVATE)
        assert ask(peer, Transition.TRANSITION_CLEANUP)
        assert ask(peer, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    finally:
        peer.close()
    perception.send_signal(signal.SIGINT)
    assert perception.wait(live.PATIENCE_S) == 0, perception.log()
    assert "process has finished cleanly" in perception.log()
    assert "Traceback" not in perception.log()
    assert not left(perception)


def test_six_cameras_of_a_bag_are_all_used(launch, drive, tmp_path):
    cameras = [f"camera_{k}" for k in range(6)]
    six = tmp_path / "six.mcap"
    with BagReader(drive) as bag, BagWriter(six) as writer:
        for message in bag.messages():
            copies = [message.topic.replace("/front/", f"/{name}/", 1) for name in cameras]
            for topic in copies if message.topic.startswith("/front/") else [message.topic]:
                writer.write_raw(topic, message.type, message.log_ns, message.data, bag.qos(message.topic))
    settings = drive.with_suffix(".param.yaml").read_text().replace("- front", "- camera_0")
    six.with_suffix(".param.yaml").write_text(settings)
    replay = launch("perception", bag=six, cameras=",".join(cameras))
    assert replay.wait(2 * live.START_S) == 0, replay.log()
    log = replay.log()
    assert all(f"/{name}/image_raw" in log.partition("listening to")[2] for name in cameras), log
    assert not re.search("no_image|no_calibration|Traceback", log), log
    assert log.count("process has finished cleanly") == 2, log
