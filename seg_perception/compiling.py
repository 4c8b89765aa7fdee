"""What is compiled, told while it happens: at the first start on a machine that takes a minute or two."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from numba.core import event

EVERY_S = 5.0

log = logging.getLogger(__name__)


@contextmanager
def telling_of_compiling(clock: Callable[[], float] = time.monotonic) -> Iterator[Compiled]:
    """In the block the log says when kernels are compiled, how far that is now and then, and how long it took; nothing
    where all are found in the cache. Yields what counts them."""
    listener = Compiled(clock)
    with event.install_listener("numba:compile", listener):
        yield listener
    if listener.compiled:
        log.info(
            "compiled %d kernels in %.0f s; the next start finds them", listener.compiled, clock() - listener.began_s
        )


class Compiled(event.Listener):
    """Counts kernels, those included that others are made of: `compiled`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.compiled = 0
        self.began_s = self._said_s = 0.0
        self._clock = clock

    def on_start(self, _: event.Event) -> None:
        """A kernel is not in the cache."""
        if not self.began_s:
            self.began_s = self._said_s = self._clock()
            log.info("compiling kernels (first run on this machine): a minute or two")

    def on_end(self, _: event.Event) -> None:
        """It is compiled."""
        self.compiled += 1
        now_s = self._clock()
        if now_s - self._said_s >= EVERY_S:
            self._said_s = now_s
            log.info(
                "compiling kernels (first run on this machine): %d so far, %.0f s", self.compiled, now_s - self.began_s
            )
