"""Which image of each camera belongs to which sweep: by stamps alone, no clock of its own, no message looked into.

The same object pairs live (with a steady clock) and offline (with the bag's log time), so both find the same pairs.
A sweep is ready when the image nearest to it is known for every camera, that is, once an image at or after the sweep's
instant has come, or when its deadline has passed. Nothing is waited for longer, and nothing is dropped uncounted.

Several LiDARs share the images. Each has a queue and a clock of its own: one that is slow, or late, or stamps wrongly
costs its own sweeps.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

from seg_perception.config import PairingConfig
from seg_perception.fusion.image_queue import LATER, SURELY_EARLIER, TIME_JUMP_NS, ImageQueue, Item, Rhythm

FAR_OFF = "stamp_far_off"
FAR_OFF_NS = 1_000_000_000  # images that keep coming and are this far from the sweeps: a clock is wrong


@dataclass(frozen=True, slots=True)
class MissingImage:
    """Why a camera has no image for a sweep: the cause to count, and the sentence to say."""

    cause: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Pairing(Generic[Item]):
    """One sweep of one LiDAR and the image each camera has for it. `missing`: camera → why it has none.

    stamp_ns: that it was paired by, which `Pairer.add_sweep` was given.
    deadline_s: until then, on the caller's clock, whatever else the sweep needs may be waited for.
    """

    lidar: str
    stamp_ns: int
    sweep: Item
    images: Mapping[str, Item]
    missing: Mapping[str, MissingImage]
    deadline_s: float


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Item]):
    lidar: str
    stamp_ns: int
    sweep: Item
    deadline_s: float


class _SweepQueue(Generic[Item]):
    """The sweeps of one LiDAR that wait, in the order of their stamps."""

    def __init__(self) -> None:
        self.waiting: deque[_Waiting[Item]] = deque()
        self.last_ns = 0  # of those that were believed
        self.last_s = 0.0  # when it came
        self.doubted: _Waiting[Item] | None = None  # until the next one tells what it is
        self.paired_ns = 0  # of those that went
        self.came: dict[str, int] = {}  # images of each camera by then
        self.rhythm = Rhythm()
        self.is_behind = False  # a sweep was dropped, and since then more than one has been waiting

    def expected_ns(self) -> list[int]:
        """The stamps of the sweeps that wait, and those that the next two will have; none of those without a rhythm."""
        period_ns = self.rhythm.period_ns
        ahead = [self.last_ns + period_ns, self.last_ns + 2 * period_ns] if period_ns else []
        return [waiting.stamp_ns for waiting in self.waiting] + ahead

    def doubts(self, stamp_ns: int, now_s: float) -> bool:
        """Whether this stamp is far behind the last, or far ahead of it without that time having passed."""
        step_ns = stamp_ns - self.last_ns
        passed_ns = (now_s - self.last_s) * 1e9
        return self.last_ns > 0 and (step_ns < -TIME_JUMP_NS or step_ns > TIME_JUMP_NS + max(passed_ns, 0.0))

    def bears_out(self, stamp_ns: int) -> bool:
        """Whether this stamp goes on from the doubted one, and not from the one before it."""
        doubted_ns = self.doubted.stamp_ns if self.doubted else stamp_ns
        return 0 < stamp_ns - doubted_ns <= abs(stamp_ns - self.last_ns)


class Pairer(Generic[Item]):
    """Pairs sweeps with images. What is let go is counted by cause in `counts`, with the LiDAR's name where it has one.

    lidars: their names; the only one may go without.
    """

    def __init__(
        self,
        cameras: Sequence[str],
        config: PairingConfig,
        counts: Counter[str] | None = None,
        lidars: Sequence[str] = ("",),
    ) -> None:
        self.counts: Counter[str] = Counter() if counts is None else counts
        self.reconfigure(config)
        self._images: dict[str, ImageQueue[Item]] = {name: ImageQueue(name, config.image_queue) for name in cameras}
        self._sweeps: dict[str, _SweepQueue[Item]] = {name: _SweepQueue() for name in lidars}

    def reconfigure(self, config: PairingConfig) -> None:
        """Another window and another deadline, for the sweeps to come; the queues keep their sizes."""
        self._config = config
        self._window_ns = round(config.window_ms * 1e6)

    def add_image(self, camera: str, stamp_ns: int, item: Item) -> None:
        """An image has come. `stamp_ns` is the one to pair by, the camera's offset already added.

        One stamped far from those around it costs itself alone; a camera whose stamps jump back, two images in a row,
        loses its own images and nothing else.
        """
        self.counts.update(self._images[camera].add(stamp_ns, item))

    def add_sweep(self, stamp_ns: int, item: Item, now_s: float, lidar: str = "") -> bool:
        """A sweep has come at `now_s`; it waits for its images until its deadline. `stamp_ns` is the one to pair by:
        the instant that stands for it. Returns whether with it the clock jumped back, as when a bag starts over.

        One stamped far from the last is doubted until the next one comes. Where that goes on from the last, it was one
        alone, and is dropped. Where that goes on from it, the clock has jumped: back, the sweeps that wait are dropped,
        and the images of the time that is no more; another LiDAR that jumps back as well does not do so again.
        """
        queue = self._sweeps[lidar]
        new = _Waiting(lidar, stamp_ns, item, now_s + self._config.deadline_ms * 1e-3)
        if queue.bears_out(stamp_ns):
            back = stamp_ns < queue.last_ns
            if back:
                self.counts["time_jump"] += 1
                self._forget_after(stamp_ns)
            self._believe(queue, new, now_s)
            return back
        self._drop_doubted(queue, lidar)
        if queue.doubts(stamp_ns, now_s):
            queue.doubted = new
        elif stamp_ns <= queue.last_ns:
            self._count("sweep_out_of_order", lidar)
        else:
            self._believe(queue, new, now_s)
        return False

    def foresees(self, camera: str, stamp_ns: int) -> bool:
        """Whether a sweep will most likely take this image: one that waits, or, as its LiDAR keeps its rhythm, the next
        or the one after it. While sweeps are dropped, it is not known which."""
        period_ns = self._images[camera].rhythm.period_ns
        for sweeps in self._sweeps.values():
            sweeps.is_behind = sweeps.is_behind and len(sweeps.waiting) > 1
            if sweeps.is_behind:
                continue
            each_is_taken = 0 < sweeps.rhythm.period_ns < 1.1 * period_ns
            for sweep_ns in sweeps.expected_ns():
                after_ns = sweep_ns - stamp_ns
                is_taken = each_is_taken or -LATER * period_ns < after_ns < SURELY_EARLIER * period_ns
                if is_taken and abs(after_ns) <= self._window_ns:
                    return True
        return False

    def next_ready(self, now_s: float, without: Collection[str] = ()) -> Pairing[Item] | None:
        """The sweep that came first of those that are ready, one a LiDAR at most, with its images; None while all have
        to wait. without: LiDARs that are not asked. At the time `inf` no sweep comes any more.
        """
        if now_s == math.inf:
            for name, queue in self._sweeps.items():
                self._drop_doubted(queue, name)
        heads = [q.waiting[0] for name, q in self._sweeps.items() if q.waiting and name not in without]
        ready = [head for head in heads if self._is_ready(head, now_s)]
        if not ready:
            return None
        waiting = min(ready, key=lambda head: (head.deadline_s, head.stamp_ns))
        self._sweeps[waiting.lidar].waiting.popleft()
        return self._pair(waiting)

    @property
    def waits(self) -> bool:
        """Whether any sweep may become ready by an image that comes, or by its deadline."""
        return any(queue.waiting for queue in self._sweeps.values())

    def _is_ready(self, waiting: _Waiting[Item], now_s: float) -> bool:
        decided = all(queue.knows_nearest(waiting.stamp_ns, self._window_ns) for queue in self._images.values())
        return decided or now_s >= waiting.deadline_s

    def _believe(self, queue: _SweepQueue[Item], new: _Waiting[Item], now_s: float) -> None:
        """Let a sweep wait, and the doubted one before it."""
        believed = [queue.doubted, new] if queue.doubted else [new]
        queue.doubted, queue.last_ns, queue.last_s = None, new.stamp_ns, now_s
        for sweep in believed:
            queue.rhythm.add(sweep.stamp_ns)
        queue.waiting.extend(believed)
        while len(queue.waiting) > self._config.sweep_queue:
            queue.waiting.popleft()
            queue.is_behind = True
            self._count("sweep_overload", new.lidar)

    def _drop_doubted(self, queue: _SweepQueue[Item], lidar: str) -> None:
        if queue.doubted is not None:
            self._count("sweep_far_ahead" if queue.doubted.stamp_ns > queue.last_ns else "sweep_far_behind", lidar)
            queue.doubted = None

    def _forget_after(self, stamp_ns: int) -> None:
        """The clock jumped back to this. What other LiDARs' next sweeps are is then known: the first of a new time."""
        for sweeps in self._sweeps.values():
            self.counts["sweep_cleared"] += len(sweeps.waiting)
            sweeps.waiting.clear()
            sweeps.last_ns = sweeps.paired_ns = 0
        for images in self._images.values():
            if images.newest_ns > stamp_ns + TIME_JUMP_NS:
                self.counts.update(images.start_over(stamp_ns))

    def _count(self, cause: str, lidar: str) -> None:
        self.counts[f"{cause}/{lidar}" if lidar else cause] += 1

    def _pair(self, waiting: _Waiting[Item]) -> Pairing[Item]:
        sweeps = self._sweeps[waiting.lidar]
        sweeps.paired_ns = waiting.stamp_ns
        # A later sweep is never nearer to an image before this one's neighbour on the left; of any LiDAR.
        asked_ns = min(queue.paired_ns for queue in self._sweeps.values())
        if any(queue.doubted for queue in self._sweeps.values()):
            asked_ns = 0  # it may be the first of another time, which its images are of too
        images: dict[str, Item] = {}
        missing: dict[str, MissingImage] = {}
        for name, queue in self._images.items():
            nearest = queue.nearest(waiting.stamp_ns, self._window_ns)
            if nearest is not None and abs(nearest - waiting.stamp_ns) <= self._window_ns:
                images[name] = queue.use(nearest)
            else:
                missing[name] = self._why(queue, waiting.stamp_ns, nearest, queue.came > sweeps.came.get(name, 0))
            sweeps.came[name] = queue.came
            self.counts.update(queue.forget(max(0, bisect_right(queue.stamps, asked_ns) - 1)))
        return Pairing(waiting.lidar, waiting.stamp_ns, waiting.sweep, images, missing, waiting.deadline_s)

    def _why(self, queue: ImageQueue[Item], stamp_ns: int, nearest: int | None, coming: bool) -> MissingImage:
        """coming: images came since the LiDAR's sweep before this one."""
        if queue.pushed_out_ns and abs(queue.pushed_out_ns - stamp_ns) <= self._window_ns:
            return MissingImage(
                "image_queue_too_short",
                f"its image was pushed out before the sweep came; pairing.image_queue is {queue.size}",
            )
        if nearest is None:
            return MissingImage(
                "no_image",
                "no image by the sweep's deadline; does the camera run, and is pairing.deadline_ms long enough?",
            )
        off_ms = (nearest - stamp_ns) * 1e-6
        if coming and abs(nearest - stamp_ns) > FAR_OFF_NS:
            return MissingImage(
                FAR_OFF,
                f"its images keep coming, and the nearest is stamped {abs(off_ms) * 1e-3:.1f} s "
                f"{'after' if off_ms > 0 else 'before'} the sweep: the clock of the camera or of the LiDAR is wrong",
            )
        period_ms = queue.rhythm.period_ns * 1e-6
        remedy = "a constant offset belongs into its offset_ms"
        if 0.5 * period_ms > self._config.window_ms:
            remedy = f"an image comes every {period_ms:.0f} ms, so half of that and a little more is needed"
        return MissingImage(
            "no_image_in_window",
            f"its nearest image is {abs(off_ms):.1f} ms {'after' if off_ms > 0 else 'before'} the sweep, at most "
            f"{self._config.window_ms:g} ms wanted (pairing.window_ms); {remedy}",
        )
