"""Poses of KITTI's GPS/IMU unit (OXTS RT3003)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seg_perception.errors import MessageError
from seg_perception.geometry.transforms import from_rotation_translation

_EARTH_RADIUS_M = 6378137.0


def read_oxts(path: Path) -> NDArray[np.float64]:
    """Latitude, longitude (degrees), altitude (m), roll, pitch, yaw (rad): the first six of a packet's values.

    Raises MessageError for a file that does not hold them.
    """
    try:
        values = np.array([float(word) for word in path.read_text(encoding="ascii").split()[:6]])
    except (OSError, ValueError) as error:
        raise MessageError(f"OXTS packet {path}: {error}") from error
    if values.size != 6 or not np.all(np.isfinite(values)):
        raise MessageError(f"OXTS packet {path}: at least 6 finite numbers wanted, {values.size} seen")
    return values


def poses_from_oxts(packets: ArrayLike) -> NDArray[np.float64]:
    """`T_first_imu`, (N, 4, 4): each pose of the unit in the frame of the first one.

    packets: (N, 6), rows as `read_oxts` gives them. As KITTI's development kit does it: positions by the Mercator
    projection scaled with the cosine of the first latitude, x east, y north, z up; rotations as Rz(yaw) Ry(pitch)
    Rx(roll).
    """
    latitude, longitude, altitude, roll, pitch, yaw = np.asarray(packets, np.float64).T
    scale = np.cos(np.radians(latitude[0]))
    x = scale * _EARTH_RADIUS_M * np.radians(longitude)
    y = scale * _EARTH_RADIUS_M * np.log(np.tan(np.radians(90.0 + latitude) / 2.0))
    rotation = _turn(2, yaw) @ _turn(1, pitch) @ _turn(0, roll)
    T_world_imu = from_rotation_translation(rotation, np.column_stack([x, y, altitude]))
    return np.asarray(np.linalg.inv(T_world_imu[0]) @ T_world_imu)


def _turn(axis: int, angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Right-handed rotations (N, 3, 3) about one axis."""
    a, b = (axis + 1) % 3, (axis + 2) % 3
    rotation = np.zeros((len(angle), 3, 3))
    rotation[:, axis, axis] = 1.0
    rotation[:, a, a] = rotation[:, b, b] = np.cos(angle)
    rotation[:, b, a] = np.sin(angle)
    rotation[:, a, b] = -np.sin(angle)
    return rotation
