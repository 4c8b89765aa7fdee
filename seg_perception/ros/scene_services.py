"""The services that save the map of voxels and load one, while the node goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger

from seg_perception.errors import SegPerceptionError
from seg_perception.scene_step import SceneStep

FILE = "voxel_map.file"
Action = Callable[[SceneStep, Path], str]

_log = logging.getLogger(__name__)


class SceneServices:
    """`~/save_map` and `~/load_map`, there while in the `with` block; both take the file from the parameter `FILE`.

    scene: tells the scene of an active node, else None. Files are read and written in a thread of their own, so that
    messages are taken in meanwhile. To be there as long as the node: an answer may come when it is active no more.
    """

    def __init__(self, node: Node, scene: Callable[[], SceneStep | None]) -> None:
        self._node, self._scene = node, scene
        self._stack = ExitStack()

    def __enter__(self) -> SceneServices:
        self._files = self._stack.enter_context(ThreadPoolExecutor(1, "map files"))
        group = MutuallyExclusiveCallbackGroup()  # not that of the subscriptions, which would wait for a file
        for name, action in (("save_map", SceneStep.save_map), ("load_map", SceneStep.load_map)):
            service = self._node.create_service(Trigger, f"~/{name}", self._answer(action), callback_group=group)
            self._stack.callback(self._node.destroy_service, service)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _answer(self, action: Action) -> Callable:
        async def answer(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            done = Future(executor=self._node.executor)
            self._files.submit(lambda: done.set_result(self._outcome(action)))
            response.success, response.message = await done
            return response

        return answer

    def _outcome(self, action: Action) -> tuple[bool, str]:
        """Whether it succeeded, and a sentence. Never raises: a caller left without an answer waits for ever, and
        whoever calls next waits behind it."""
        scene = self._scene()
        if scene is None:
            return False, "the node is not active: there is no map"
        file = self._node.get_parameter(FILE).value
        if not file:
            return False, f"parameter {FILE}: the path of a map wanted, '' seen"
        try:
            return True, action(scene, Path(file).expanduser())
        except (SegPerceptionError, OSError) as error:
            return False, str(error)
        except Exception as error:  # a file that no reader foresaw, a home that is nobody's, no memory left
            _log.exception("a map cannot be saved or loaded")
            return False, f"{file}: {error!r}"
