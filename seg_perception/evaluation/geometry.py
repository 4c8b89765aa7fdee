"""How right the geometry is: which labels went to points that the camera does not see, and which points lost theirs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seg_perception.datatypes import UNKNOWN


@dataclass(frozen=True, slots=True)
class GeometryScore:
    """Counts of points; scores of several sweeps add up.

    painted, correct: with a label, and with the true one. hidden, hidden_painted: in view of some camera but seen by
    none, and those of them with a label. visible, visible_unknown: seen by some camera, and those without a label.
    things, things_correct: painted with a thing class, and rightly so. hidden_wrong: hidden, and painted with a label
    that is not their own.
    """

    painted: int = 0
    correct: int = 0
    hidden: int = 0
    hidden_painted: int = 0
    visible: int = 0
    visible_unknown: int = 0
    things: int = 0
    things_correct: int = 0
    hidden_wrong: int = 0

    @property
    def correct_share(self) -> float:
        """Of the painted points, those labelled correctly."""
        return _share(self.correct, self.painted)

    @property
    def false_share(self) -> float:
        """Of the truly hidden points in view, those painted all the same."""
        return _share(self.hidden_painted, self.hidden)

    @property
    def wrong_share(self) -> float:
        """Of the truly hidden points in view, those painted with a label that is not their own."""
        return _share(self.hidden_wrong, self.hidden)

    @property
    def lost_share(self) -> float:
        """Of the truly visible points, those left unknown."""
        return _share(self.visible_unknown, self.visible)

    @property
    def thing_precision(self) -> float:
        """Of the points painted as a thing, those that are that thing: what mask bleeding costs."""
        return _share(self.things_correct, self.things)

    def __add__(self, other: GeometryScore) -> GeometryScore:
        mine, theirs = (tuple(getattr(score, name) for name in self.__slots__) for score in (self, other))
        return GeometryScore(*(a + b for a, b in zip(mine, theirs, strict=True)))


def score_labels(
    class_id: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    in_view: NDArray[np.bool_],
    visible: NDArray[np.bool_],
    is_thing: NDArray[np.bool_],
) -> GeometryScore:
    """Score one sweep. class_id, truth: (N,) train ids, UNKNOWN where not painted.

    in_view, visible: (cameras, N), truly so. is_thing: (256,) whether a train id is a thing.
    """
    painted = class_id != UNKNOWN
    right = painted & (class_id == truth)
    seen = visible.any(axis=0)
    hidden = in_view.any(axis=0) & ~seen
    things = painted & is_thing[class_id]
    return GeometryScore(
        *(
            int(np.count_nonzero(which))
            for which in (
                painted, right, hidden, hidden & painted, seen, seen & ~painted, things, things & right,
                hidden & painted & ~right,
            )
        )
    )  # fmt: skip


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
