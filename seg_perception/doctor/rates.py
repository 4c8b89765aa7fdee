"""How often messages come on a topic of a bag, as its first ones tell it: neither gaps nor a bag that goes on without
them change the rate."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import numpy as np

from seg_perception.bags import BagReader

_LOOKED_AT = 50  # messages: all are read up to the last of them, pictures too
_GAP = 3.0  # times the typical step


@dataclass(frozen=True, slots=True)
class Rate:
    """count: messages in the whole bag. Of the first: step_s, the median time from one to the next, 0 of one alone;
    longest_s, the longest."""

    count: int
    step_s: float
    longest_s: float

    @classmethod
    def of(cls, bag: BagReader, topic: str) -> Rate:
        """Of an open bag, by the time of recording."""
        logged_ns = [message.log_ns for message in islice(bag.messages({topic}), _LOOKED_AT)]
        steps_s = np.diff(logged_ns) * 1e-9 if len(logged_ns) > 1 else np.zeros(1)
        return cls(bag.counts[topic], float(np.median(steps_s)), float(steps_s.max()))

    def __str__(self) -> str:
        if self.step_s == 0.0:  # one, or all at once
            return f"{self.count} in all"
        gap = f" with a gap of {self.longest_s:.1f} s" if self.longest_s > _GAP * self.step_s else ""
        return f"{1.0 / self.step_s:.1f} Hz{gap} ({self.count})"
