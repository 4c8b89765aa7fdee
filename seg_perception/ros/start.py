"""The program `perception_node`, which SIGINT and SIGTERM end in order from its first line on.

Until the node listens it imports, loads and compiles, for minutes at the first start on a machine: nothing of that
has to be finished when the user does not want it any more.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopSignals:
    """SIGINT and SIGTERM, caught. seen: whether one came."""

    def __init__(self) -> None:
        self.seen = False
        self._at_once = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """In the block a signal raises KeyboardInterrupt, wherever it finds the main thread; so does one before."""
        before, self._at_once = self._at_once, True
        try:
            if self.seen:
                raise KeyboardInterrupt
            yield
        finally:
            self._at_once = before

    def ignore(self) -> None:
        """From now on none does anything: as the interpreter ends, another would become its exit code."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.seen = True
        if self._at_once:
            raise KeyboardInterrupt


def hold_standard_streams() -> None:
    """Open /dev/null where stdin, stdout or stderr is closed: a socket or file of DDS would take its number, and get
    what libraries print."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM. Returns the exit code: 0, or 1 where it could not start."""
    stop = StopSignals()
    hold_standard_streams()
    try:
        with stop.at_once():
            from seg_perception.ros.node import main as run
    except KeyboardInterrupt:
        stop.ignore()
        return 0
    except ModuleNotFoundError as error:
        if error.name != "rclpy":
            raise
        print("perception_node: no rclpy: source a ROS 2, or take the environment of `make venv`", file=sys.stderr)
        return 1
    gc.freeze()  # what was imported stays, and no collection has to go through it
    code = run(args, stop)
    stop.ignore()
    gc.collect()  # the node, and the threads of DDS with it: they must not meet what the process takes down as it ends
    gc.freeze()  # collecting what goes with the process takes the interpreter 0.5 s of processor time as it ends
    return code


if __name__ == "__main__":
    sys.exit(main())
