"""Whether another node goes by the name of ours: services, parameters and topics of the two cannot be told apart."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.node import Node

NAME_TAKEN = "node_name_taken"
LEASE_S = 30.0  # a process that was killed stays known for as long as its lease, 20 s by Fast DDS's default


class Namesakes:
    """Looks for them now and then; one that was killed a moment ago is none."""

    def __init__(self, node: Node, clock: Callable[[], float] = time.monotonic) -> None:
        self._node, self._clock = node, clock
        self._alone_s = clock()

    def sentence(self) -> str:
        """What to say of a node of our name that has been there for longer than any lease; else nothing."""
        ours = self._node.get_name(), self._node.get_namespace()
        if self._node.get_node_names_and_namespaces().count(ours) < 2:
            self._alone_s = self._clock()
        if self._clock() - self._alone_s < LEASE_S:
            return ""
        name = self._node.get_fully_qualified_name()
        return f"another node is named {name} too: start one of them with -r __node:=<name> or in a namespace"
