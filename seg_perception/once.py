"""What is made at most once, by whichever thread asks first, while the others wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Made = TypeVar("Made")


class Once(Generic[Made]):
    """A value to come, or the error that came instead of it."""

    def __init__(self) -> None:
        self._future: Future[Made] = Future()
        self._claimed = threading.Lock()

    @property
    def claimed(self) -> bool:
        """Whether somebody has asked."""
        return self._claimed.locked()

    def claim(self) -> bool:
        """True for the first who asks: it is now theirs to `settle`."""
        return self._claimed.acquire(blocking=False)

    def settle(self, make: Callable[[], Made]) -> None:
        """What `make` returns, or raises, is what everybody gets. What interrupts it (KeyboardInterrupt) is raised here
        as well."""
        try:
            self._future.set_result(make())
        except BaseException as error:
            self._future.set_exception(error)
            if not isinstance(error, Exception):
                raise

    def get(self, make: Callable[[], Made]) -> Made:
        """The value, made here unless somebody else does or did."""
        if self.claim():
            self.settle(make)
        return self._future.result()
