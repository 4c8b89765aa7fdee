"""A few threads that share pieces of work which do not depend on each other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Generic, TypeVar

Hand = TypeVar("Hand")


class Crew(Generic[Hand]):
    """The thread that calls, and helpers of its own beside it, which it starts when they are first needed.

    hands: what each thread works with, and no other does; as many threads as hands. The helpers end with `close`, or
    when nobody holds the crew any more.
    """

    def __init__(self, hands: Sequence[Hand]) -> None:
        self.hands = tuple(hands)
        self._helpers: ThreadPoolExecutor | None = None

    def do(self, pieces: Sequence[Callable[[Hand], object]]) -> None:
        """All pieces, begun in their order, each by whoever is free.

        A helper that has not begun when nothing is left to begin is not waited for: on a busy machine the caller does
        all of it. What a piece raises ends the work: no further piece is begun, and it is raised here.
        """
        waiting = deque(pieces)

        def work(hand: Hand) -> None:
            try:
                while waiting:
                    try:
                        piece = waiting.popleft()
                    except IndexError:  # another was faster
                        return
                    piece(hand)
            except BaseException:
                waiting.clear()
                raise

        helpers = min(len(self.hands), len(pieces)) - 1
        if helpers > 0 and self._helpers is None:
            self._helpers = ThreadPoolExecutor(len(self.hands) - 1, "labels")
        asked = [self._helpers.submit(work, hand) for hand in self.hands[1 : 1 + helpers]] if self._helpers else []
        try:
            work(self.hands[0])
        finally:
            begun = [helper for helper in asked if not helper.cancel()]
            wait(begun)
        for helper in begun:
            helper.result()

    def close(self) -> None:
        """End the helpers, which have nothing to do."""
        if self._helpers is not None:
            self._helpers.shutdown()
            self._helpers = None
