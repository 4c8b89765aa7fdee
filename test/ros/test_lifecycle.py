"""Every transition of the node's lifecycle, asked for over its services, and how it ends."""

import os
import shutil
import signal
from pathlib import Path

import live_node as live
import pytest
from live_node import CAR, ROAD, ask_to_change, call, change, set_parameter

from seg_perception.datatypes import UNKNOWN

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def node(tmp_path_factory, model, peer):
    """Not started by itself, and with a model that is not there."""
    params = live.parameters(model, autostart=False, inference={"model": "/nowhere/model.onnx", "threads": 1})
    node = live.NodeProcess(tmp_path_factory.mktemp("node"), params)
    yield node
    node.stop()


def state(peer):
    from lifecycle_msgs.srv import GetState

    return call(peer, GetState, "get_state", GetState.Request()).current_state.label


def test_without_autostart_it_waits_for_a_manager(node, peer):
    assert state(peer) == "unconfigured"


def test_a_model_that_is_not_there_leaves_it_unconfigured_and_says_so(node, peer):
    assert not change(peer, "configure")
    assert state(peer) == "unconfigured"
    assert "cannot configure" in node.log
    assert "/nowhere/model.onnx" in node.log


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("motion.mode", "levitate", "one of ['auto', 'required', 'static']"),
        ("camera.front.crop", "half of it", "WIDTHxHEIGHT+X+Y"),
        ("inference.max_image_size", "large", "WIDTHxHEIGHT"),
        ("voxel_map.capacity", 3000, "a power of two"),
    ],
)
def test_a_value_that_cannot_be_is_refused_as_it_is_set_with_the_reason(node, peer, name, value, wanted):
    result = set_parameter(peer, name, value)
    assert not result.successful
    assert f"{wanted} wanted, {value!r} seen" in result.reason


def number(peer, transition_id):
    """Ask for a transition by its number alone, as lifecycle managers do; whether it succeeded."""
    from lifecycle_msgs.srv import ChangeState

    request = ChangeState.Request()
    request.transition.id = transition_id
    return call(peer, ChangeState, "change_state", request).success


def test_a_transition_that_is_none_of_its_state_is_refused_by_name_and_by_number(node, peer):
    assert not change(peer, "activate")
    for transition_id in (0, 2, 3, 4, 77):  # destroy, clean up, activate, deactivate, none at all
        assert not number(peer, transition_id)
    assert state(peer) == "unconfigured"
    assert "change_state: refused" in node.log


def test_a_parameter_of_a_type_that_does_not_exist_is_refused(node, peer):
    from rcl_interfaces.msg import Parameter, ParameterValue
    from rcl_interfaces.srv import SetParameters

    request = SetParameters.Request(parameters=[Parameter(name="taxonomy", value=ParameterValue(type=99))])
    assert not call(peer, SetParameters, "set_parameters", request).results
    assert "set_parameters: refused: 99 is not" in node.log


def test_it_goes_through_all_states_and_labels_each_time_it_is_active(node, peer, model):
    assert set_parameter(peer, "inference.model", str(model)).successful
    for _ in range(2):
        assert change(peer, "configure")
        for _ in range(2):
            assert change(peer, "activate")
            assert state(peer) == "active"
            peer.wait_until_connected(node)
            assert peer.labels_of(peer.send_good()) == [ROAD, CAR, UNKNOWN]
            peer.spin_until(lambda: peer.summary()["sweeps_in"] == 1, "a count that starts anew")
            assert change(peer, "deactivate")
            assert state(peer) == "inactive"
            peer.spin_until(lambda: not peer.publishers["/points"].get_subscription_count(), "it to unsubscribe")
        assert change(peer, "cleanup")
        assert state(peer) == "unconfigured"
        peer.spin_until(lambda: not peer.node.count_publishers("/perception_node/points"), "its publishers to go")


def test_settings_do_not_change_under_a_configured_node(node, peer):
    assert change(peer, "configure")
    result = set_parameter(peer, "motion.mode", "auto")
    assert not result.successful
    assert "motion.mode: read at configure: clean up first" in result.reason


def test_classes_that_are_not_there_are_refused_as_they_are_set(node, peer):
    result = set_parameter(peer, "output.point_groups", "drivable=rode")
    assert not result.successful
    assert "has no class 'rode'" in result.reason


def test_sigterm_ends_it_from_any_state_in_under_two_seconds_without_a_traceback(node, peer):
    assert change(peer, "activate")
    peer.wait_until_connected(node)  # what DDS learns while the node goes, it may keep for ever
    assert node.seconds_to_end(signal.SIGTERM) < live.stretched(2.0)
    assert node.wait() == 0
    assert "Traceback" not in node.log


LOADS_FOR_LONG = """
import sys, time
from seg_perception.ros import node

def load(*_, **__):
    print("loading", flush=True)
    time.sleep(60.0)

node.load_segmenters = load
sys.exit(node.main(sys.argv))
"""


@pytest.mark.parametrize(
    ("program", "transitions", "seen"),
    [
        pytest.param(live.PROGRAM, [], "", id="unconfigured"),
        pytest.param(live.PROGRAM, ["configure"], "", id="inactive"),
        pytest.param(live.PROGRAM, ["configure", "activate"], "", id="active"),
        pytest.param(live.PROGRAM, ["configure", "activate", "deactivate", "cleanup"], "", id="cleaned up"),
        pytest.param(("-c", LOADS_FOR_LONG), None, "loading", id="configuring"),
    ],
)
def test_sigint_ends_it_from_each_state_in_under_two_seconds_without_a_traceback(
    tmp_path, model, peer, program, transitions, seen
):
    peer.wait_until_alone()
    node = live.NodeProcess(tmp_path, live.parameters(model, autostart=transitions is None), program)
    try:
        for transition in transitions or []:
            assert change(peer, transition)
        if transitions == []:
            assert state(peer) == "unconfigured"
        peer.spin_until(lambda: seen in node.log, "it to begin")
        assert node.seconds_to_end(signal.SIGINT) < live.stretched(2.0)
        assert node.wait() == 0
        assert "Traceback" not in node.log
    finally:
        node.stop()


TAKES_LONG = """
import sys, time
from rclpy.lifecycle import TransitionCallbackReturn
from seg_perception.ros import node, start

at_length = getattr(node.PerceptionNode, {name!r})

def slowly(self, state):
    print("begins", flush=True)
    time.sleep(0.7)
    done = at_length(self, state)
    print("ended:", done.name, flush=True)
    return done

if {fails}:
    node.PerceptionNode.on_activate = lambda self, state: TransitionCallbackReturn.ERROR
setattr(node.PerceptionNode, {name!r}, slowly)
sys.exit(start.main(sys.argv))
"""


@pytest.mark.parametrize(
    ("name", "transitions"),
    [
        ("on_activate", ["configure", "activate"]),
        ("on_deactivate", ["configure", "activate", "deactivate"]),
        ("on_cleanup", ["configure", "cleanup"]),
        ("on_shutdown", ["shutdown"]),
        ("on_error", ["configure", "activate"]),
    ],
)
def test_sigint_twice_in_the_midst_of_a_transition_ends_the_node_when_that_has_ended(
    tmp_path, model, peer, name, transitions
):
    peer.wait_until_alone()
    script = TAKES_LONG.format(name=name, fails=name == "on_error")
    node = live.NodeProcess(tmp_path, live.parameters(model, autostart=False), ("-c", script))
    try:
        for transition in transitions[:-1]:
            assert change(peer, transition)
        ask_to_change(peer, transitions[-1])
        peer.spin_until(lambda: "begins" in node.log, "it to begin")
        os.kill(node.pid, signal.SIGINT)
        peer.spin_for(0.2)
        assert node.stop() == 0
        assert "ended: SUCCESS" in node.log
        assert "Traceback" not in node.log
    finally:
        node.stop()


LOSES_ITS_GPU = """
import os, sys
from pathlib import Path
sys.path.insert(0, {test!r})
import pytest
from compiled_kernels import compile_kernels
from fake_gpu import FakeGpu
from seg_perception.ros.node import main

gpu = FakeGpu()
gpu.install(pytest.MonkeyPatch())
gpu.driver.kernels = compile_kernels(Path({folder!r}))
gpu.driver.is_lost = lambda: os.path.exists({lost!r})
sys.exit(main(sys.argv))
"""


def test_a_lost_gpu_makes_it_inactive_and_says_why(tmp_path, model, peer):
    if not (shutil.which("g++") or shutil.which("c++")):
        pytest.skip("no C++ compiler")
    peer.wait_until_alone()
    lost = tmp_path / "lost"
    engine = {"backend": "tensorrt", "engine_cache": str(tmp_path / "engines")}
    params = live.parameters(model)
    params["inference"] = {"model": str(model), **engine}
    script = LOSES_ITS_GPU.format(test=str(Path(live.__file__).parent), lost=str(lost), folder=str(tmp_path))
    node = live.NodeProcess(tmp_path, params, ("-c", script))
    try:
        peer.wait_until_connected(node)
        assert peer.labels_of(peer.send_good()) == [ROAD, CAR, UNKNOWN]
        lost.touch()
        peer.send_good()
        peer.spin_until(lambda: state(peer) == "inactive", "it to go inactive")
        assert "starting it anew" in node.log
        assert "is lost: cuCtxSetCurrent failed on Fake GPU" in node.log
        assert "going inactive" in node.log
        assert "Traceback" not in node.log
    finally:
        exit_code = node.stop()
    assert exit_code == 0


HAS_A_BROKEN_EXECUTOR = """
import sys
from seg_perception.ros import node, start

def fail(self, timeout_sec=None):
    raise RuntimeError("wait set is broken")

node.TakingExecutor.spin_once, node.HOPELESS_S = fail, 0.5
sys.exit(start.main(sys.argv))
"""


def test_an_executor_that_does_nothing_but_fail_ends_the_node(tmp_path, model):
    node = live.NodeProcess(tmp_path, live.parameters(model, autostart=False), ("-c", HAS_A_BROKEN_EXECUTOR))
    assert node.wait() == 1
    assert "a callback that is not ours" in node.log
    assert node.log.rstrip().endswith("RuntimeError: wait set is broken")


def test_with_autostart_a_bad_setting_ends_it_with_exit_code_1_and_one_sentence(tmp_path, model):
    node = live.NodeProcess(tmp_path, live.parameters(model, pairing={"windw_ms": 10.0}))
    assert node.wait() == 1
    assert "windw_ms" in node.log
    assert "Traceback" not in node.log
