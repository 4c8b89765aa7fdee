"""tf2_msgs/TFMessage into the transform tree; and the other way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import SegPerceptionError
from seg_perception.geometry.transform_tree import TransformTree
from seg_perception.geometry.transforms import quat_xyzw_from_matrix
from seg_perception.messages.header import header_fields, time_ns


@dataclass(frozen=True, slots=True, eq=False)
class StampedTransform:
    """One transform to be written. T_parent_child: rigid (4, 4) float64."""

    parent: str
    child: str
    stamp_ns: int
    T_parent_child: NDArray[np.float64]


def insert_tf(tree: TransformTree, msg: Any, static: bool) -> tuple[int, list[SegPerceptionError]]:
    """Take in every transform of a message. static: it came over /tf_static.

    Returns how many were taken in, and an error for each that was not: a bad transform does not cost the others.
    """
    errors: list[SegPerceptionError] = []
    for transform in msg.transforms:
        move, turn = transform.transform.translation, transform.transform.rotation
        try:
            tree.insert(
                transform.header.frame_id,
                transform.child_frame_id,
                time_ns(transform.header.stamp),
                ((move.x, move.y, move.z), (turn.x, turn.y, turn.z, turn.w)),
                static=static,
            )
        except SegPerceptionError as error:
            errors.append(error)
    return len(msg.transforms) - len(errors), errors


def newest_ns(msg: Any) -> int:
    """The newest stamp in a TFMessage; 0 where it holds none."""
    return max((time_ns(transform.header.stamp) for transform in msg.transforms), default=0)


def tf_fields(transforms: Sequence[StampedTransform]) -> dict[str, Any]:
    """The fields of a TFMessage."""
    return {"transforms": [_transform_fields(transform) for transform in transforms]}


def _transform_fields(transform: StampedTransform) -> dict[str, Any]:
    move, turn = transform.T_parent_child[:3, 3], quat_xyzw_from_matrix(transform.T_parent_child)
    return {
        "header": header_fields(transform.stamp_ns, transform.parent),
        "child_frame_id": transform.child,
        "transform": {
            "translation": dict(zip("xyz", move.tolist(), strict=True)),
            "rotation": dict(zip("xyzw", turn.tolist(), strict=True)),
        },
    }
