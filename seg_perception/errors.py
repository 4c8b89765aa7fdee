"""The errors this package raises on purpose.

Every message names the thing, the value seen and the value wanted. In the live node each class is counted under its
`cause` and reported, so a new child deserves a `cause` of its own.
"""

from __future__ import annotations


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
