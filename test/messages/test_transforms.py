"""Transforms of a message reach the tree, each for itself."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from seg_perception.errors import MessageError, StampError, TransformLoopError
from seg_perception.geometry.transform_tree import TransformTree
from seg_perception.geometry.transforms import from_quat_translation
from seg_perception.messages.transforms import StampedTransform, insert_tf, tf_fields

QUARTER_TURN = (0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5))


@pytest.fixture
def stamped(header):
    """stamped(parent, child, stamp_ns, move, turn) -> geometry_msgs/TransformStamped."""

    def make(parent: str, child: str, stamp_ns: int, move=(1.0, 2.0, 3.0), turn=QUARTER_TURN) -> SimpleNamespace:
        transform = SimpleNamespace(
            translation=SimpleNamespace(**dict(zip("xyz", move, strict=True))),
            rotation=SimpleNamespace(**dict(zip("xyzw", turn, strict=True))),
        )
        return SimpleNamespace(header=header(stamp_ns, parent), child_frame_id=child, transform=transform)

    return make


def test_transform_carries_points_of_the_child_into_the_parent(stamped) -> None:
    tree = TransformTree()
    count, errors = insert_tf(tree, SimpleNamespace(transforms=[stamped("odom", "base", 7)]), static=False)
    assert (count, errors) == (1, [])
    np.testing.assert_allclose(tree.T("odom", "base", 7) @ [1, 0, 0, 1], [1, 3, 3, 1], atol=1e-12)


def test_static_transform_needs_no_stamp(stamped) -> None:
    tree = TransformTree()
    insert_tf(tree, SimpleNamespace(transforms=[stamped("base", "lidar", 0)]), static=True)
    assert tree.T("base", "lidar", 123).shape == (4, 4)


def test_bad_transforms_do_not_cost_the_good_ones(stamped) -> None:
    tree = TransformTree()
    transforms = [
        stamped("odom", "base", 0),
        stamped("odom", "base", 5, move=(np.nan, 0.0, 0.0)),
        stamped("base", "base", 5),
        stamped("odom", "base", 5),
    ]
    count, errors = insert_tf(tree, SimpleNamespace(transforms=transforms), static=False)
    assert count == 1
    assert [type(error) for error in errors] == [StampError, MessageError, TransformLoopError]
    assert tree.can_transform("odom", "base", 5)


def test_transform_written_is_the_transform_read() -> None:
    T_odom_base = from_quat_translation((0.1, -0.2, 0.3, np.sqrt(1 - 0.14)), (4.0, 5.0, 6.0))
    (fields,) = tf_fields([StampedTransform("odom", "base", 1_000_000_007, T_odom_base)])["transforms"]
    assert fields["header"] == {"stamp": {"sec": 1, "nanosec": 7}, "frame_id": "odom"}
    assert fields["child_frame_id"] == "base"
    move, turn = fields["transform"]["translation"], fields["transform"]["rotation"]
    T = from_quat_translation([turn[axis] for axis in "xyzw"], [move[axis] for axis in "xyz"])
    np.testing.assert_allclose(T, T_odom_base, atol=1e-12)
