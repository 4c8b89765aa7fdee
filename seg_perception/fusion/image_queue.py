"""The images of one camera that sweeps may ask for, and which of them is nearest.

Of two images about equally near the earlier is taken. Cameras that are triggered where a turn begins are half a turn
from its middle on either side: were it left to the jitter, a fifth of their images would go unused and as many sweeps
share one, and each sweep would wait for an image that is no better.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")

TIME_JUMP_NS = 500_000_000  # a stamp this far behind the newest one is a jump of the clock, not a late message
LATER = 0.45  # of the step between two images: so near to the later one a sweep takes that, else the earlier
SURELY_EARLIER = 0.52  # of a camera's period: so soon after an image no later one is taken, if it is a little early


class Rhythm:
    """How often a sensor measures, told by the shortest of the last few steps between its stamps."""

    def __init__(self) -> None:
        self._last_ns = 0
        self._steps_ns: deque[int] = deque(maxlen=8)

    def add(self, stamp_ns: int) -> None:
        if 0 < stamp_ns - self._last_ns < TIME_JUMP_NS:
            self._steps_ns.append(stamp_ns - self._last_ns)
        self._last_ns = stamp_ns

    @property
    def period_ns(self) -> int:
        """0 where it is not known yet."""
        return min(self._steps_ns) if len(self._steps_ns) > 2 else 0


class ImageQueue(Generic[Item]):
    """The images of one camera in the order of their stamps.

    One stamped far from the newest is doubted, and kept aside until the next tells what it is: one alone, or the first
    after a pause or a jump of the clock. A sweep may have it meanwhile, as its stamp says when it was taken.
    """

    def __init__(self, camera: str, size: int) -> None:
        self.camera, self.size = camera, size
        self.stamps: list[int] = []
        self.items: dict[int, Item] = {}
        self.doubted: tuple[int, Item] | None = None
        self.used: set[int] = set()
        self.newest_ns = 0
        self.pushed_out_ns = 0  # the last image that had to go before a sweep could ask for it
        self.came = 0  # images, so far
        self.rhythm = Rhythm()

    def add(self, stamp_ns: int, item: Item) -> list[str]:
        """Keep an image; return the causes of what had to go."""
        self.came += 1
        causes = self._settle_doubt(stamp_ns)
        if self.newest_ns and abs(stamp_ns - self.newest_ns) > TIME_JUMP_NS:
            self.doubted = stamp_ns, item
            return causes
        return [*causes, *self._insert(stamp_ns, item)]

    def start_over(self, stamp_ns: int) -> list[str]:
        """The clock jumped back to about this. A doubted image that is behind the others is of that time, and stays."""
        doubted, self.doubted = self.doubted, None
        before_ns, self.newest_ns = self.newest_ns, stamp_ns
        causes = self.forget(len(self.stamps))
        if doubted is None:
            return causes
        if doubted[0] < before_ns:
            return [*causes, *self._insert(*doubted)]
        unused = [] if doubted[0] in self.used else ["image_unused"]
        self.used.discard(doubted[0])
        return [*causes, *unused]

    def _settle_doubt(self, next_ns: int) -> list[str]:
        """Believe the doubted image where the next one goes on from it, and not from the one before, or where a sweep
        beyond a pause had it; else drop it."""
        if self.doubted is None:
            return []
        stamp_ns, item = self.doubted
        is_ahead = stamp_ns > self.newest_ns
        goes_on = 0 < next_ns - stamp_ns <= abs(next_ns - self.newest_ns)
        if goes_on and not is_ahead:
            return [f"image_time_jump/{self.camera}", *self.start_over(stamp_ns)]
        self.doubted = None
        if is_ahead and (goes_on or stamp_ns in self.used):
            return self._insert(stamp_ns, item)
        self.used.discard(stamp_ns)
        return [f"image_far_{'ahead' if is_ahead else 'behind'}/{self.camera}"]

    def _insert(self, stamp_ns: int, item: Item) -> list[str]:
        if stamp_ns in self.items:
            return [f"image_repeated_stamp/{self.camera}"]
        causes = []
        insort(self.stamps, stamp_ns)
        self.items[stamp_ns] = item
        self.rhythm.add(stamp_ns)
        self.newest_ns = max(self.newest_ns, stamp_ns)
        while len(self.stamps) > self.size:
            self.pushed_out_ns = self.stamps[0]
            causes += self.forget(1)
        return causes

    def forget(self, count: int) -> list[str]:
        """Let go of the oldest `count` images; a cause for each that no sweep used."""
        gone, self.stamps = self.stamps[:count], self.stamps[count:]
        for stamp in gone:
            del self.items[stamp]
        unused = [stamp for stamp in gone if stamp not in self.used]
        self.used.difference_update(gone)
        return ["image_unused"] * len(unused)

    def nearest(self, stamp_ns: int, window_ns: int) -> int | None:
        """The stamp nearest to `stamp_ns`; of two about equally near the earlier, if it is within the window."""
        right = bisect_left(self.stamps, stamp_ns)
        around = self.stamps[max(right - 1, 0) : right + 1]
        if self.doubted is not None:
            around.append(self.doubted[0])
        nearest = min(around, key=lambda stamp: abs(stamp - stamp_ns), default=None)
        before = max((stamp for stamp in around if 0 <= stamp_ns - stamp <= window_ns), default=None)
        if nearest is None or before is None or nearest - stamp_ns <= LATER * (nearest - before):
            return nearest
        return before

    def use(self, stamp_ns: int) -> Item:
        """The image of this stamp, for a sweep."""
        self.used.add(stamp_ns)
        if self.doubted is not None and stamp_ns == self.doubted[0]:
            return self.doubted[1]
        return self.items[stamp_ns]

    def knows_nearest(self, stamp_ns: int, window_ns: int) -> bool:
        """Whether no image that is still to come will be taken, as far as the camera keeps its rhythm."""
        if self.doubted is not None and 0 <= self.doubted[0] - stamp_ns <= TIME_JUMP_NS:
            return True
        if not self.stamps:
            return False
        after_ns = stamp_ns - self.stamps[-1]  # that the sweep is
        share = SURELY_EARLIER if after_ns <= window_ns else LATER
        return after_ns <= 0 or after_ns < share * self.rhythm.period_ns


class RateLimit:
    """Which images of one camera come through at no more than `rate_hz` on average, by their stamps."""

    def __init__(self, rate_hz: float) -> None:
        self._due_ns = 0
        self.set_rate(rate_hz)

    def set_rate(self, rate_hz: float) -> None:
        """From now on this many."""
        self._period_ns = round(1e9 / rate_hz)

    def admits(self, stamp_ns: int) -> bool:
        """Whether this one may pass; asked once for each image. A clock that jumps back starts anew."""
        if self._due_ns - self._period_ns - TIME_JUMP_NS < stamp_ns < self._due_ns:
            return False
        on_time = 0 <= stamp_ns - self._due_ns < self._period_ns
        self._due_ns = (self._due_ns if on_time else stamp_ns) + self._period_ns
        return True
