"""Rigid motions: hand-made values, and laws that hold for all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from seg_perception.errors import TransformError
from seg_perception.geometry.transform_edges import MovingLink, Query
from seg_perception.geometry.transforms import (
    compose,
    from_quat_translation,
    from_rotation_translation,
    inverse,
    is_rigid,
    quat_xyzw_from_matrix,
    transform_points,
)

HALF = np.sqrt(0.5)
QUARTER_TURN_LEFT = (0.0, 0.0, HALF, HALF)

numbers = st.floats(-1.0, 1.0)
quats = (
    st.tuples(numbers, numbers, numbers, numbers)
    .filter(lambda q: np.linalg.norm(q) > 0.1)
    .map(lambda q: np.asarray(q) / np.linalg.norm(q))
)
translations = st.tuples(*[st.floats(-1e4, 1e4)] * 3).map(np.asarray)
poses = st.builds(from_quat_translation, quats, translations)


def angle_between(quat0: np.ndarray, quat1: np.ndarray) -> float:
    return 2.0 * np.arccos(np.clip(abs(np.dot(quat0, quat1)), 0.0, 1.0))


def test_quarter_turn_left_carries_x_ahead_to_y() -> None:
    T = from_quat_translation(QUARTER_TURN_LEFT, (10.0, 20.0, 30.0))
    np.testing.assert_allclose(transform_points(T, [[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]]), [[10, 21, 30], [8, 20, 30]])


def test_quaternion_of_another_length_is_the_same_rotation() -> None:
    stretched = 3.0 * np.asarray(QUARTER_TURN_LEFT)
    np.testing.assert_allclose(
        from_quat_translation(stretched, np.zeros(3)), from_quat_translation(QUARTER_TURN_LEFT, np.zeros(3)), atol=1e-15
    )


@pytest.mark.parametrize("quat_xyzw", [(0.0, 0.0, 0.0, 0.0), (0.0, np.nan, 0.0, 1.0)])
def test_quaternion_that_is_no_rotation_is_refused(quat_xyzw: tuple[float, ...]) -> None:
    with pytest.raises(TransformError, match="quaternion of squared length"):
        from_quat_translation(quat_xyzw, np.zeros(3))


@pytest.mark.parametrize("axis", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.6, 0.0, 0.8)])
def test_half_turn_comes_back_as_its_own_quaternion(axis: tuple[float, ...]) -> None:
    quat = quat_xyzw_from_matrix(from_quat_translation((*axis, 0.0), np.zeros(3)))
    np.testing.assert_allclose(np.abs(quat @ [*axis, 0.0]), 1.0, atol=1e-15)


@given(quats, translations)
@settings(deadline=None)
def test_quaternion_survives_the_matrix(quat_xyzw: np.ndarray, translation: np.ndarray) -> None:
    quat = quat_xyzw_from_matrix(from_quat_translation(quat_xyzw, translation))
    assert quat[3] >= 0.0
    np.testing.assert_allclose(quat * np.sign(quat @ quat_xyzw), quat_xyzw, atol=1e-14)


@given(poses)
@settings(deadline=None)
def test_every_pose_is_rigid_and_cancels_with_its_inverse(T: np.ndarray) -> None:
    assert is_rigid(T)
    np.testing.assert_allclose(compose(inverse(T), T), np.eye(4), atol=1e-9)
    np.testing.assert_allclose(compose(T, inverse(T)), np.eye(4), atol=1e-9)


@given(poses, poses, translations)
@settings(deadline=None)
def test_composing_is_doing_one_after_the_other(T_a_b: np.ndarray, T_b_c: np.ndarray, point_c: np.ndarray) -> None:
    stepwise = transform_points(T_a_b, transform_points(T_b_c, point_c[None]))
    np.testing.assert_allclose(transform_points(compose(T_a_b, T_b_c), point_c[None]), stepwise, atol=1e-9)


def test_composing_nothing_is_identity() -> None:
    np.testing.assert_array_equal(compose(), np.eye(4))


@pytest.mark.parametrize(
    "spoilt",
    [
        np.eye(3),
        np.diag([1.0, 1.0, -1.0, 1.0]),
        np.diag([1.0, 1.0, 1.01, 1.0]),
        np.full((4, 4), np.nan),
        np.eye(4) + np.outer([0, 0, 0, 1], [0.1, 0, 0, 0]),
    ],
    ids=["3x3", "mirror", "scale", "nan", "last row"],
)
def test_what_is_not_a_rigid_motion_is_told(spoilt: np.ndarray) -> None:
    assert not is_rigid(spoilt)


def test_points_of_a_float32_cloud_keep_their_millimetres_far_from_the_origin() -> None:
    T = from_rotation_translation(np.eye(3), (4.0e5 + 0.1, 5.0e6 + 0.2, 0.3))
    moved = transform_points(T, np.array([[0.001, 0.002, 0.003]], np.float32))
    assert moved.dtype == np.float64
    np.testing.assert_allclose(moved - T[:3, 3], [[0.001, 0.002, 0.003]], atol=1e-8)


def test_nan_point_stays_nan_and_its_neighbours_do_not() -> None:
    moved = transform_points(from_quat_translation(QUARTER_TURN_LEFT, np.ones(3)), [[np.nan] * 3, [0, 0, 0]])
    np.testing.assert_array_equal(np.isnan(moved), [[True] * 3, [False] * 3])


def test_each_point_is_moved_by_its_own_transform() -> None:
    rng = np.random.default_rng(0)
    Ts = from_quat_translation(rng.normal(size=(5, 4)), rng.normal(size=(5, 3)))
    points = rng.normal(size=(5, 3))
    np.testing.assert_allclose(
        transform_points(Ts, points), [transform_points(T, p[None])[0] for T, p in zip(Ts, points, strict=True)]
    )


def test_stacks_are_inverted_and_composed_one_by_one() -> None:
    rng = np.random.default_rng(1)
    Ts = from_quat_translation(rng.normal(size=(4, 4)), rng.normal(size=(4, 3)))
    np.testing.assert_allclose(inverse(Ts), [inverse(T) for T in Ts])
    np.testing.assert_allclose(compose(Ts, Ts[0]), [T @ Ts[0] for T in Ts])
    np.testing.assert_allclose(quat_xyzw_from_matrix(Ts), [quat_xyzw_from_matrix(T) for T in Ts])


def between(q0: ArrayLike, q1: ArrayLike, ratio: float, t0: ArrayLike = (0, 0, 0), t1: ArrayLike = (0, 0, 0)) -> Any:
    """The pose at that part of the second between two samples; up to a second after the last one."""
    second = 1_000_000_000
    stamps_ns, translations = np.array([second, 2 * second]), np.array([t0, t1], float)
    link = MovingLink("odom", stamps_ns, translations, np.array([q0, q1], float), np.zeros(0, bool))
    return link.onto(np.eye(4), Query("odom", "base", np.array([second + round(ratio * second)]), tolerance_ns=second))[
        0
    ]


@given(quats, quats, st.floats(0.0, 1.0))
@settings(max_examples=200, deadline=None)
def test_a_pose_between_two_turns_the_shorter_way_at_constant_speed(q0: Any, q1: Any, ratio: float) -> None:
    T, whole = between(q0, q1, ratio), angle_between(q0, q1)
    assert is_rigid(T, 1e-12)
    quat = quat_xyzw_from_matrix(T)
    assert angle_between(q0, quat) == pytest.approx(ratio * whole, abs=1e-6)  # acos in the test costs the digits
    assert angle_between(quat, q1) == pytest.approx((1.0 - ratio) * whole, abs=1e-6)


def test_between_equal_and_opposite_quaternions_nothing_turns() -> None:
    quat, T = np.asarray(QUARTER_TURN_LEFT), from_quat_translation(QUARTER_TURN_LEFT, (0, 0, 0))
    np.testing.assert_array_equal(between(quat, quat, 0.3), T)
    np.testing.assert_allclose(between(quat, -quat, 0.3), T, atol=1e-15)


def test_a_tiny_turn_loses_no_digits() -> None:
    turn = 1e-7
    tiny = (0.0, 0.0, np.sin(turn / 2), np.cos(turn / 2))
    np.testing.assert_allclose(between((0, 0, 0, 1), tiny, 0.25)[1, 0], turn / 4, rtol=1e-12)


def test_beyond_the_last_sample_a_pose_goes_on_turning() -> None:
    half_turn = from_quat_translation((0.0, 0.0, 1.0, 0.0), (0, 0, 0))
    np.testing.assert_allclose(between((0.0, 0.0, 0.0, 1.0), QUARTER_TURN_LEFT, 2.0), half_turn, atol=1e-15)


def test_pose_halfway_is_half_the_way_and_half_the_turn() -> None:
    still, there = (0.0, 0.0, 0.0, 1.0), (2.0, 4.0, 6.0)
    T = [between(still, QUARTER_TURN_LEFT, ratio, t1=there) for ratio in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(T[0], np.eye(4), atol=1e-15)
    np.testing.assert_allclose(T[1][:3, 3], (1.0, 2.0, 3.0))
    np.testing.assert_allclose(T[1][:3, 0], (HALF, HALF, 0.0), atol=1e-15)
    np.testing.assert_allclose(T[2][:3, 0], (0.0, 1.0, 0.0), atol=1e-15)


def test_at_both_samples_a_pose_is_where_they_are_to_the_last_bit() -> None:
    start, stop = (0.1, 0.2, 0.3), (0.7, 0.11, 1e9)
    for ratio, place in ((0.0, start), (1.0, stop)):
        assert between(QUARTER_TURN_LEFT, QUARTER_TURN_LEFT, ratio, start, stop)[:3, 3].tolist() == list(place)
