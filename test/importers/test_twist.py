"""Twists and the motions they make."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seg_perception.errors import CalibrationError
from seg_perception.geometry.transforms import is_rigid
from seg_perception.importers.twist import exp_se3, fit_twist, log_se3

component = st.floats(-1.5, 1.5)


@given(st.lists(component, min_size=6, max_size=6))
def test_log_takes_exp_back(values):
    screw = np.array(values)
    assert is_rigid(exp_se3(screw))
    np.testing.assert_allclose(log_se3(exp_se3(screw)), screw, atol=1e-9)


@pytest.mark.parametrize("size", [1e-3, 1e-5, 1e-8, 0.0])
def test_small_turns_lose_no_digits(size):
    screw = np.array([1.0, 2.0, 3.0, size, -size, 2 * size])
    np.testing.assert_allclose(log_se3(exp_se3(screw)), screw, atol=1e-14)


def test_exp_of_series_and_closed_form_meet():
    below, above = (exp_se3(np.array([1.0, 2.0, 3.0, angle, 0, 0])) for angle in (0.99999e-4, 1.00001e-4))
    np.testing.assert_allclose(below, above, atol=1e-8)


def test_quarter_circle_to_the_left_ends_where_it_should():
    T = exp_se3(np.array([np.pi / 2, 0, 0, 0, 0, np.pi / 2]))  # 1 m radius
    np.testing.assert_allclose(T, [[0, -1, 0, 1], [1, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1]], atol=1e-12)


def test_fit_finds_a_constant_twist_from_unequal_times():
    twist = np.array([9.2, -0.1, 0.05, 0.004, 0.03, -0.2])
    times = [-0.043, -0.02, -0.0005, 0.03]
    np.testing.assert_allclose(fit_twist([exp_se3(twist * t) for t in times], times), twist, atol=1e-10)


def test_fit_without_any_time_between_is_refused():
    with pytest.raises(CalibrationError, match="other times than 0 s"):
        fit_twist([np.eye(4)], [0.0])
