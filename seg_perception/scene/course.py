"""Whether the fixed frame jumps: odometry that is corrected, as by GNSS or a map, in the middle of a drive."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_HARDEST = 50.0  # m/s2; a crash apart, no vehicle is faster or slower by more
_LEAST_M = 0.3  # what odometry may be off from one sweep to the next
_LONGEST_S = 1.0  # after a longer break nobody knows


class Course:
    """The way of one LiDAR through the fixed frame, from sweep to sweep."""

    def __init__(self) -> None:
        self._stamp_ns = 0
        self._place = self._velocity = np.zeros(3)
        self._known = False  # the velocity

    def jump_m(self, stamp_ns: int, place: NDArray[np.float64]) -> float:
        """By how much the next place, (3,), lies beside where the LiDAR was driving to, metres; 0 where it may have
        got there."""
        step_s = (stamp_ns - self._stamp_ns) * 1e-9
        if not 0.0 < step_s <= _LONGEST_S:
            self._known, jump_m = False, 0.0
        elif not self._known:
            self._velocity, self._known, jump_m = (place - self._place) / step_s, True, 0.0
        else:
            off_m = float(np.linalg.norm(place - self._place - self._velocity * step_s))
            jump_m = off_m if off_m > _LEAST_M + _HARDEST * step_s**2 else 0.0
            if jump_m == 0.0:
                self._velocity = (place - self._place) / step_s
        self._stamp_ns, self._place = stamp_ns, place.copy()
        return jump_m
