"""What went wrong, said in the log once with a throttle, and the last words on each cause kept for diagnostics."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

THROTTLE_S = 5.0
SILENCE_S = 5.0
INTERNAL = "internal_error"

SENTENCES = {
    "sweep_overload": "sweeps come faster than they can be labelled; the oldest that waited was dropped; latency_ms on "
    "/diagnostics tells which stage takes the time",
    "sweep_out_of_order": "a sweep was dropped whose stamp is not after that of the one before; do two nodes publish?",
    "sweep_far_ahead": "one sweep was stamped far ahead of those around it; it was dropped",
    "sweep_far_behind": "one sweep was stamped far behind those around it; it was dropped",
    "sweep_cleared": "sweeps that waited were dropped, because stamps jumped back",
    "image_overload": "images come faster than they can be segmented; the older one was not segmented by itself; "
    "segment: max_rate asks for fewer",
    "image_far_ahead": "one image was stamped far ahead of those around it; it was dropped",
    "image_far_behind": "one image was stamped far behind those around it; it was dropped",
    "image_time_jump": "the camera's stamps jumped back; its images of before were forgotten",
    "image_repeated_stamp": "an image with the stamp of one before it was dropped; do two nodes publish?",
    "time_jump": "stamps jumped back, as where a bag starts over; images, sweeps and transforms were forgotten",
}
"""Causes that are counted where there is nobody to tell; the node says them when it sees the count rise."""

QUIET = frozenset({"image_unused", "image_over_rate", "tf_awaited"})  # nothing is wrong with any of them


class ProblemLog:
    """Told of every problem, from any thread; says each cause at most once in `THROTTLE_S` seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._said_s: dict[str, float] = {}
        self._unsaid: Counter[str] = Counter()
        self._last_words: dict[str, str] = {}

    def __call__(self, cause: str, sentence: str) -> None:
        """Take note of one problem, a warning; counting it is the caller's business."""
        self.say(cause, sentence)

    def say(self, cause: str, sentence: str, level: int = logging.WARNING) -> bool:
        """Take note of one problem; counting it is the caller's business. Returns whether it was said just now."""
        now_s = self._clock()
        with self._lock:
            self._last_words[cause] = sentence
            if now_s - self._said_s.get(cause, -THROTTLE_S) < THROTTLE_S:
                self._unsaid[cause] += 1
                return False
            self._said_s[cause] = now_s
            unsaid = self._unsaid.pop(cause, 0)
        more = f" ({unsaid} more since this was last said)" if unsaid else ""
        log.log(level, "%s: %s%s", cause, sentence, more)
        return True

    def risen(self, before: Mapping[str, int], now: Mapping[str, int]) -> None:
        """Say those of `SENTENCES` whose count has risen, of each sensor that a cause names after a slash."""
        for cause, count in now.items():
            kind, _, sensor = cause.partition("/")
            if kind in SENTENCES and count > before.get(cause, 0):
                self(cause, f"{sensor}: {SENTENCES[kind]}" if sensor else SENTENCES[kind])

    @property
    def last_words(self) -> dict[str, str]:
        """Cause → the latest sentence about it."""
        with self._lock:
            return dict(self._last_words)


class SilenceLog:
    """Says once when an expected topic falls silent, or never speaks, and once when it is heard again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard_s: dict[str, float] = {}
        self._silent: set[str] = set()

    def expect(self, topic: str) -> None:
        """From now on, messages are to come on this topic."""
        self._heard_s[topic] = self._clock()

    def heard(self, topic: str) -> None:
        """One has come."""
        if topic in self._heard_s:
            self._heard_s[topic] = self._clock()
        if topic in self._silent:
            self._silent.discard(topic)
            log.info("%s: messages come again", topic)

    def check(self, publishers_of: Callable[[str], int]) -> None:
        """To be called now and then. publishers_of: how many publishers a topic has."""
        now_s = self._clock()
        for topic, heard_s in self._heard_s.items():
            if now_s - heard_s < SILENCE_S or topic in self._silent:
                continue
            self._silent.add(topic)
            count = publishers_of(topic)
            hint = f"it has {count} publisher(s)" if count else "nobody publishes it; is the topic right?"
            log.warning("%s: no message for %.0f s; %s", topic, now_s - heard_s, hint)
