"""The errors this package raises on purpose.

Every message names the thing, the value seen and the value wanted. In the live node each class is counted under its
`cause` and reported, so a new child deserves a `cause` of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType


class SegPerceptionError(Exception):
    """Base of every error raised on purpose by this package."""

    cause = "error"


class ConfigError(SegPerceptionError):
    """A configuration file or value that cannot be used."""

    cause = "config"


class CalibrationError(SegPerceptionError):
    """A camera calibration that cannot be used: all-zero K, unknown model, wrong coefficient count."""

    cause = "calibration"


class MessageError(SegPerceptionError):
    """A message (or file holding one) whose content contradicts itself: truncated, unknown encoding, corrupt JPEG."""

    cause = "bad_message"


class StampError(MessageError):
    """A stamp that cannot be used: zero in a message."""

    cause = "bad_stamp"


class FarStampError(StampError):
    """A transform stamped far from the others of its frame, as by a sender whose clock is wrong."""

    cause = "tf_far_stamp"


class ModelError(SegPerceptionError):
    """A network or engine file that cannot be used as a segmenter."""

    cause = "model"


class BackendLostError(SegPerceptionError):
    """What runs the network failed, and failed again when started anew. Nothing more can be expected of it."""

    cause = "engine_lost"


class BagError(SegPerceptionError):
    """A rosbag2 that cannot be read or written."""

    cause = "bag"


class TransformError(SegPerceptionError):
    """Base of everything that can go wrong when a transform is asked for."""

    cause = "tf"


class UnknownFrameError(TransformError):
    """A frame that no transform ever named."""

    cause = "tf_unknown_frame"


class DisconnectedError(TransformError):
    """Two frames that share no common ancestor."""

    cause = "tf_disconnected"


class ExtrapolationError(TransformError):
    """A stamp outside the interval that the tree holds."""

    cause = "tf_extrapolation"


class TransformLoopError(TransformError):
    """An edge that would make a frame its own ancestor."""

    cause = "tf_loop"


class ErrorsTo:
    """A block of which each SegPerceptionError goes to `handle`, and no further; those of the class `but` go on.

    Not `contextlib.contextmanager`: from Python 3.12 on each error that ends in one leaves a cycle behind, which keeps
    what was in hand, a sweep or a picture, until the garbage collector comes by.
    """

    __slots__ = ("_but", "_handle")

    def __init__(
        self, handle: Callable[[SegPerceptionError], None], but: type[SegPerceptionError] | None = None
    ) -> None:
        self._handle, self._but = handle, but

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if not isinstance(error, SegPerceptionError) or (self._but is not None and isinstance(error, self._but)):
            return False
        self._handle(error)
        return True
