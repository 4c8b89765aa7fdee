"""Messages that came as far as this process and were overwritten in DDS's queue before anybody took them.

No event tells of them. Their publisher numbers its messages, so they are the numbers that are missing, less what is
known to have been lost on its way.
"""

from __future__ import annotations

_NO_NUMBER = 2**64 - 1  # RMW_MESSAGE_INFO_SEQUENCE_NUMBER_UNSUPPORTED
UNNUMBERED = "not counted: this middleware, or its rclpy, does not tell the numbers of messages"


class Gaps:
    """The numbers of one topic's messages. Where several publish, whose number it is cannot be told: nothing counts."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._open = 0  # missing since the last look
        self._told_apart = True  # all numbers since then can be of one publisher
        self._missing = self._lost = self._told = 0
        self._uncounted = ""  # why, as of the last look
        self._unnumbered = False

    @property
    def state(self) -> str:
        """How many are known to be overwritten, or why that is not known at present, as of the last look."""
        return self._uncounted or str(self._told)

    def took(self, number: int | None) -> None:
        """A message was taken. number: by its publisher, None where the middleware does not say."""
        self._unnumbered = number is None or number == _NO_NUMBER
        if number is None or self._unnumbered:
            return
        if self._last is not None:
            self._open += max(number - self._last - 1, 0)
            self._told_apart = self._told_apart and number > self._last
        self._last = number

    def lost(self, count: int) -> None:
        """So many were lost on their way."""
        self._lost += count

    def overwritten(self, publishers: int) -> int:
        """How many are known to be overwritten since the last look. publishers: of the topic, now."""
        if publishers == 1 and self._told_apart:
            self._missing += self._open
        self._uncounted = UNNUMBERED if self._unnumbered else ""
        if publishers > 1:
            self._uncounted = f"not counted: {publishers} nodes publish it, and whose number is whose is not told"
        self._open, self._told_apart = 0, publishers == 1
        if publishers != 1:
            self._last = None
        new = max(self._missing - self._lost - self._told, 0)
        self._told += new
        return new
