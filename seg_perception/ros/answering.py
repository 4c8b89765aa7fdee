"""Services that answer whatever they are asked: in rclpy, one request that makes a service raise ends the process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any

from rclpy.node import Node

_log = logging.getLogger(__name__)


def answer_always(node: Node) -> None:
    """A request that makes a service of the node's raise is logged, and answered with an empty response.

    rclpy's own do so for the number of a transition that is none of the state's (a manager activates what is active)
    and for a parameter of a type that does not exist. For the services that the node has by now, coroutines excepted.
    """
    for service in node.services:
        if not iscoroutinefunction(service.callback):
            service.callback = _answering(service.callback, service.srv_name, service.srv_type)


def _answering(callback: Callable[..., Any], name: str, kind: Any) -> Callable[..., Any]:
    def answer(request: Any, response: Any) -> Any:
        try:
            return callback(request, response)
        except Exception as error:  # rclpy has no common base
            _log.warning("%s: refused: %s", name, error)
            return kind.Response()

    return answer
