"""A vehicle's constant twist: what two poses a moment apart say about all instants near them.

A twist is (6,): velocity in m/s, then angular velocity in rad/s, both along the axes of the moving body.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import CalibrationError
from seg_perception.geometry.transforms import from_rotation_translation, quat_xyzw_from_matrix

_SMALL_ANGLE = 1e-4
"""rad; below it the first terms of the series are exact to 1e-16 of the result."""


def exp_se3(screw: NDArray[np.float64]) -> NDArray[np.float64]:
    """The motion (4, 4) of a body that moves for one second with this twist (Murray, Li, Sastry 1994, eq. 2.36)."""
    W = _cross(screw[3:])
    angle = float(np.linalg.norm(screw[3:]))
    if angle < _SMALL_ANGLE:
        a, b, c = 1.0 - angle**2 / 6.0, 0.5 - angle**2 / 24.0, 1.0 / 6.0 - angle**2 / 120.0
    else:
        a, b, c = np.sin(angle) / angle, (1.0 - np.cos(angle)) / angle**2, (angle - np.sin(angle)) / angle**3
    eye = np.eye(3)
    return from_rotation_translation(eye + a * W + b * W @ W, (eye + b * W + c * W @ W) @ screw[:3])


def log_se3(T: NDArray[np.float64]) -> NDArray[np.float64]:
    """The twist (6,) that makes the motion T (4, 4) in one second; rotations below half a turn."""
    quat_xyzw = quat_xyzw_from_matrix(T)
    sine = float(np.linalg.norm(quat_xyzw[:3]))
    angle = 2.0 * np.arctan2(sine, quat_xyzw[3])
    rotation = quat_xyzw[:3] * (angle / sine if sine > 0.0 else 2.0)
    W = _cross(rotation)
    c = 1.0 / 12.0 if angle < _SMALL_ANGLE else (1.0 - 0.5 * angle / np.tan(0.5 * angle)) / angle**2
    return np.concatenate([(np.eye(3) - 0.5 * W + c * W @ W) @ T[:3, 3], rotation])


def fit_twist(poses: Sequence[NDArray[np.float64]], seconds: Sequence[float]) -> NDArray[np.float64]:
    """The twist (6,) that explains poses, each (4, 4) relative to that at 0 s, best: least squares of their logs."""
    t = np.asarray(seconds, np.float64)
    if not np.any(t):
        raise CalibrationError(f"twist: poses at other times than 0 s wanted, {t.tolist()} s seen")
    return np.asarray(t @ np.stack([log_se3(T) for T in poses]) / (t @ t))


def _cross(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    x, y, z = vector
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
