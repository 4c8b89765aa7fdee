"""The services of the map, asked as others ask them: whatever happens, there is an answer."""

from __future__ import annotations

import time
from collections.abc import Iterator

import live_node as live
import pytest
from test_scene_step import Ride

pytestmark = pytest.mark.ros


@pytest.fixture
def node() -> Iterator:
    """A node that has the services, of a scene that runs, and an executor that spins it."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    from seg_perception.ros.scene_services import FILE, SceneServices

    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("scene", context=context)
    node.declare_parameter(FILE, "")
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    scene = Ride().intake.scene
    with SceneServices(node, lambda: scene):
        yield node
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown(context=context)


def answer_of(node, name: str, file: object):
    from rclpy.parameter import Parameter
    from std_srvs.srv import Trigger

    from seg_perception.ros.scene_services import FILE

    node.set_parameters([Parameter(FILE, value=str(file))])
    client = node.create_client(Trigger, f"/scene/{name}")
    end_s = time.monotonic() + live.PATIENCE_S
    while not client.service_is_ready() and time.monotonic() < end_s:
        node.executor.spin_once(0.1)
    answer = client.call_async(Trigger.Request())
    while not answer.done() and time.monotonic() < end_s:
        node.executor.spin_once(0.1)
    assert answer.done(), f"no answer of {name} in {live.PATIENCE_S} s"
    return answer.result()


def test_a_fault_that_nobody_foresaw_is_answered_and_so_is_the_next_call(node, tmp_path):
    refused = answer_of(node, "save_map", "~nobody_of_this_name/map.ply")
    assert not refused.success
    assert "nobody_of_this_name" in refused.message
    saved = answer_of(node, "save_map", tmp_path / "map.ply")
    assert saved.success, saved.message
    assert (tmp_path / "map.ply").is_file()
