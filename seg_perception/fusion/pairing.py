"""Which image of each camera belongs to which sweep: by stamps alone, no clock of its own, no message looked into.

The same object pairs live (with a steady clock) and offline (with the bag's log time), so both find the same pairs.
A sweep is ready when the image nearest to it is known for every camera, that is, once an image at or after the sweep's
stamp has come, or when its deadline has passed. Nothing is waited for longer, and nothing is dropped uncounted.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from seg_perception.config import PairingConfig

Item = TypeVar("Item")

TIME_JUMP_NS = 500_000_000  # a stamp this far behind the newest one is a jump of the clock, not a late message


@dataclass(frozen=True, slots=True)
class MissingImage:
    """Why a camera has no image for a sweep: the cause to count, and the sentence to say."""

    cause: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Pairing(Generic[Item]):
    """One sweep and the image each camera has for it. `missing`: camera → why it has none.

    deadline_s: until then, on the caller's clock, whatever else the sweep needs may be waited for.
    """

    stamp_ns: int
    sweep: Item
    images: Mapping[str, Item]
    missing: Mapping[str, MissingImage]
    deadline_s: float


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Item]):
    stamp_ns: int
    sweep: Item
    deadline_s: float


class _ImageQueue(Generic[Item]):
    """The images of one camera in the order of their stamps."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.stamps: list[int] = []
        self.items: dict[int, Item] = {}
        self.used: set[int] = set()
        self.newest_ns = 0
        self.pushed_out_ns = 0  # the last image that had to go before a sweep could ask for it

    def add(self, stamp_ns: int, item: Item) -> list[str]:
        """Keep an image; return the causes of what had to go."""
        causes = []
        if stamp_ns < self.newest_ns - TIME_JUMP_NS:
            causes = ["image_time_jump", *self.forget(len(self.stamps))]
            self.newest_ns = stamp_ns
        if stamp_ns in self.items:
            return [*causes, "image_repeated_stamp"]
        insort(self.stamps, stamp_ns)
        self.items[stamp_ns] = item
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

    def nearest(self, stamp_ns: int) -> int | None:
        """The stamp nearest to `stamp_ns`; of two equally near, the earlier."""
        right = bisect_left(self.stamps, stamp_ns)
        around = self.stamps[max(right - 1, 0) : right + 1]
        return min(around, key=lambda stamp: abs(stamp - stamp_ns)) if around else None


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


class Pairer(Generic[Item]):
    """Pairs sweeps with images. What is let go is counted by cause in `counts`."""

    def __init__(self, cameras: Sequence[str], config: PairingConfig, counts: Counter[str] | None = None) -> None:
        self.counts: Counter[str] = Counter() if counts is None else counts
        self.reconfigure(config)
        self._images: dict[str, _ImageQueue[Item]] = {name: _ImageQueue(config.image_queue) for name in cameras}
        self._sweeps: deque[_Waiting[Item]] = deque()
        self._last_sweep_ns = 0

    def reconfigure(self, config: PairingConfig) -> None:
        """Another window and another deadline, for the sweeps to come; the queues keep their sizes."""
        self._config = config
        self._window_ns = round(config.window_ms * 1e6)

    def add_image(self, camera: str, stamp_ns: int, item: Item) -> None:
        """An image has come. `stamp_ns` is the one to pair by, the camera's offset already added.

        A camera whose stamps jump back loses its own images and nothing else.
        """
        self.counts.update(self._images[camera].add(stamp_ns, item))

    def jumps_back(self, stamp_ns: int) -> bool:
        """Whether a sweep of this stamp says that the clock jumped back, as when a bag starts over."""
        return stamp_ns < self._last_sweep_ns - TIME_JUMP_NS

    def add_sweep(self, stamp_ns: int, item: Item, now_s: float) -> None:
        """A sweep has come at `now_s`; it waits for its images until its deadline.

        Where it jumps back, the sweeps that wait are dropped, and the images of the time that is no more.
        """
        if self.jumps_back(stamp_ns):
            self.counts.update({"time_jump": 1, "sweep_cleared": len(self._sweeps)})
            self._sweeps.clear()
            for queue in self._images.values():
                if queue.newest_ns > stamp_ns + TIME_JUMP_NS:
                    self.counts.update(queue.forget(len(queue.stamps)))
                    queue.newest_ns = stamp_ns
        elif stamp_ns <= self._last_sweep_ns:
            self.counts["sweep_out_of_order"] += 1
            return
        self._last_sweep_ns = stamp_ns
        self._sweeps.append(_Waiting(stamp_ns, item, now_s + self._config.deadline_ms * 1e-3))
        while len(self._sweeps) > self._config.sweep_queue:
            self._sweeps.popleft()
            self.counts["sweep_overload"] += 1

    def next_ready(self, now_s: float) -> Pairing[Item] | None:
        """The oldest sweep, if it is ready, with its images; None while it has to wait."""
        if not self._sweeps:
            return None
        waiting = self._sweeps[0]
        decided = all(queue.stamps and queue.stamps[-1] >= waiting.stamp_ns for queue in self._images.values())
        if not decided and now_s < waiting.deadline_s:
            return None
        self._sweeps.popleft()
        return self._pair(waiting)

    @property
    def next_deadline_s(self) -> float | None:
        """When the oldest waiting sweep stops waiting; None while none waits."""
        return self._sweeps[0].deadline_s if self._sweeps else None

    def _pair(self, waiting: _Waiting[Item]) -> Pairing[Item]:
        images: dict[str, Item] = {}
        missing: dict[str, MissingImage] = {}
        for name, queue in self._images.items():
            nearest = queue.nearest(waiting.stamp_ns)
            if nearest is not None and abs(nearest - waiting.stamp_ns) <= self._window_ns:
                images[name] = queue.items[nearest]
                queue.used.add(nearest)
            else:
                missing[name] = self._why(queue, waiting.stamp_ns, nearest)
            # A later sweep is never nearer to an image before this one's neighbour on the left.
            self.counts.update(queue.forget(max(0, bisect_right(queue.stamps, waiting.stamp_ns) - 1)))
        return Pairing(waiting.stamp_ns, waiting.sweep, images, missing, waiting.deadline_s)

    def _why(self, queue: _ImageQueue[Item], stamp_ns: int, nearest: int | None) -> MissingImage:
        if queue.pushed_out_ns and abs(queue.pushed_out_ns - stamp_ns) <= self._window_ns:
            return MissingImage(
                "image_queue_too_short",
                f"its image was pushed out before the sweep came; pairing.image_queue is {queue.size}",
            )
        if nearest is None:
            return MissingImage("no_image", "no image by the sweep's deadline")
        off_ms = (nearest - stamp_ns) * 1e-6
        return MissingImage(
            "no_image_in_window",
            f"its nearest image is {abs(off_ms):.1f} ms {'after' if off_ms > 0 else 'before'} the sweep, at most "
            f"{self._config.window_ms:g} ms wanted (pairing.window_ms); a constant offset belongs into its offset_ms",
        )
