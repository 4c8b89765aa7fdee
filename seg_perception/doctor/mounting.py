"""Which way up a camera is mounted, as /tf_static has it: networks are trained on upright pictures."""

from __future__ import annotations

import math

from seg_perception.errors import TransformError
from seg_perception.geometry.transform_tree import TransformTree
from seg_perception.offline import VEHICLE_FRAME

_LEVEL = 0.5  # sine of the angle between the view and the vertical, from which on a picture has an up


def turn_deg_of(tree: TransformTree, frame_id: str, stamp_ns: int) -> int | None:
    """By how much, clockwise, a picture in the optical frame `frame_id` is to be turned to be upright: 0, 90, 180 or
    270 (`camera.<name>.turn_deg`). None where nothing connects it with the vehicle, or the camera looks up or down."""
    try:
        T_cam_vehicle = tree.T(frame_id, VEHICLE_FRAME, stamp_ns)
    except TransformError:
        return None
    right, down = -T_cam_vehicle[:2, 2]  # of the picture, as the way to the ground goes
    if math.hypot(right, down) < _LEVEL:
        return None
    return round(math.degrees(math.atan2(right, down)) / 90.0) % 4 * 90
