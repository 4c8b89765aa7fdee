"""The typical mistakes of a calibration, each undone and held against the pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.calibration.alignment import Alignment, Pair
from seg_perception.calibration.fitting import corrected
from seg_perception.calibration.gathering import CameraShots
from seg_perception.geometry.transforms import (
    from_quat_translation,
    from_rotation_translation,
    inverse,
    quat_xyzw_from_matrix,
)

GIVEN = "as given"

_BLUR_DEG = 0.2
_COARSE_DEG = -3.0, -1.5, 0.0, 1.5, 3.0
_MIDDLE_DEG = -0.75, 0.0, 0.75
_FINE_DEG = -0.25, 0.0, 0.25
_AWAY_DEG = 60.0, 120.0, 180.0, 240.0, 300.0  # calibrations turned by this are surely wrong
_CORRELATION = 2.0  # neighbouring silhouettes are no independent observations
_MOST = 600  # silhouettes a pair
_FEWEST = 40  # silhouettes in view, of all pairs, below which a calibration is not judged

_OPTICAL_BODY = from_rotation_translation([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]], np.zeros(3))
"""From x ahead, y left, z up to z ahead, x right, y down (REP 103)."""

_AXES_SWAPPED = _OPTICAL_BODY, inverse(_OPTICAL_BODY)


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One calibration held against the pictures.

    mistake: what was undone, as a sentence goes on. z: by how many standard deviations it fits better than calibrations
    that are surely wrong; NaN where too little would be in view. turn_deg: by how much it had to be turned for that:
    mistakes may resemble each other.
    """

    mistake: str
    T_cam_lidar: NDArray[np.float64]
    z: float
    turn_deg: float


def trials(camera: CameraShots, others: Mapping[str, NDArray[np.float64]]) -> list[Trial]:
    """The calibration as given first, then with each mistake undone, the best first.

    others: T_cam_lidar of other cameras. Surely wrong are those that look elsewhere, turned about the LiDAR's own axis;
    what they score is what chance does in this scene.
    """
    tried = {what: T for what, T in _undone(camera) if not _alike(T, camera.T_cam_lidar)}
    tried |= {f"it is that of camera '{name}'": T for name, T in others.items()}
    scored = [(GIVEN, camera.T_cam_lidar), *tried.items()]
    bases = [camera.T_cam_lidar, inverse(camera.T_cam_lidar), *(way @ camera.T_cam_lidar for way in _AXES_SWAPPED)]
    away = [_score(camera.pairs, T @ _turned(angle))[0] for T in bases for angle in _AWAY_DEG]
    known = np.array([score for score in away if not math.isnan(score)])
    middle = float(np.median(known)) if len(known) else 0.0
    spread = 1.4826 * float(np.median(np.abs(known - middle))) if len(known) else 0.0
    found = []
    for mistake, T in scored:
        score, count, turn_deg = _score(camera.pairs, T)
        least = _CORRELATION / math.sqrt(max(count, 1))
        found.append(Trial(mistake, T, (score - middle) / max(spread, least), turn_deg))
    return [found[0], *sorted(found[1:], key=lambda trial: -np.nan_to_num(trial.z, nan=-1e9))]


def _alike(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether two calibrations are so near each other that they cannot be told apart as mistakes."""
    turn = np.linalg.norm(cv2.Rodrigues((one @ inverse(other))[:3, :3])[0])
    return bool(turn < math.radians(10.0) and np.linalg.norm((one - other)[:3, 3]) < 0.3)


def _undone(camera: CameraShots) -> Iterator[tuple[str, NDArray[np.float64]]]:
    T = camera.T_cam_lidar
    R, t = T[:3, :3], T[:3, 3]
    yield "the transform between camera and LiDAR is inverted", inverse(T)
    for (parent, child), T_edge in camera.mounting.items():
        for what, right in _edges_undone(T_edge):
            yield f"the transform {parent} -> {child} {what}", _with_edge(camera, (parent, child), right)
    yield "the rotation is inverted, the translation is not", from_rotation_translation(R.T, t)
    yield "the translation has the opposite sign", from_rotation_translation(R, -t)
    yield "the optical frame has the axes of a body (x ahead, y left, z up)", _AXES_SWAPPED[0] @ T
    yield "the way from body to optical axes was gone twice", _AXES_SWAPPED[1] @ T
    yield "the LiDAR's axes are turned by 90 degrees to the left", T @ _turned(90.0)
    yield "the LiDAR's axes are turned by 90 degrees to the right", T @ _turned(-90.0)
    yield "the LiDAR's axes are turned by 180 degrees", T @ _turned(180.0)
    yield "the cloud is mirrored, left for right", T @ np.diag([1.0, -1.0, 1.0, 1.0])
    yield "the picture is mirrored, left for right", np.diag([-1.0, 1.0, 1.0, 1.0]) @ T
    yield "the picture is upside down", np.diag([-1.0, -1.0, 1.0, 1.0]) @ T


def _edges_undone(T: NDArray[np.float64]) -> Iterator[tuple[str, NDArray[np.float64]]]:
    yield "is inverted", inverse(T)
    quat = quat_xyzw_from_matrix(T)
    yield "has its quaternion in the order w x y z, read as x y z w", from_quat_translation(np.roll(quat, -1), T[:3, 3])


def _with_edge(camera: CameraShots, edge: tuple[str, str], T_edge: NDArray[np.float64]) -> NDArray[np.float64]:
    """T_cam_lidar were one edge of the mounting another."""
    mounting = {**camera.mounting, edge: T_edge}

    def to_top(frame: str) -> NDArray[np.float64]:
        T_top = np.eye(4)
        while (found := next((e for e in mounting if e[1] == frame), None)) is not None:
            T_top, frame = mounting[found] @ T_top, found[0]
        return T_top

    return np.asarray(inverse(to_top(camera.frame_id)) @ to_top(camera.lidar_frame))


def _turned(degrees: float) -> NDArray[np.float64]:
    """About the z axis."""
    return from_rotation_translation(cv2.Rodrigues(np.array([0.0, 0.0, math.radians(degrees)]))[0], np.zeros(3))


def _score(pairs: Sequence[Pair], T_cam_lidar: NDArray[np.float64]) -> tuple[float, int, float]:
    """By how much silhouettes lie better on edges under the best small turn than under others: a peak, not a level,
    since some parts of a scene have more edges than others. NaN where too few are in view; how many are;
    and that turn, degrees."""
    alignment = Alignment(pairs, T_cam_lidar, max(_COARSE_DEG), _MOST)
    if alignment.count < _FEWEST:
        return math.nan, alignment.count, 0.0

    def best(around: tuple[float, float], turns: tuple[float, ...], blur_deg: float) -> tuple[float, float]:
        places = [(around[0] + pitch, around[1] + yaw) for pitch in turns for yaw in turns]
        return max(places, key=lambda place: _total(alignment, place, blur_deg))

    place = best((0.0, 0.0), _COARSE_DEG, 0.8)
    place = best(best(place, _MIDDLE_DEG, 0.4), _FINE_DEG, _BLUR_DEG)
    level = np.mean([_total(alignment, (pitch, yaw), _BLUR_DEG) for pitch in _COARSE_DEG for yaw in _COARSE_DEG])
    peak = _total(alignment, place, _BLUR_DEG) - float(level)
    return peak / alignment.count, alignment.count, math.hypot(*place)


def _total(alignment: Alignment, turns_deg: tuple[float, float], blur_deg: float) -> float:
    theta = np.array([*turns_deg, 0.0, 0.0, 0.0, 0.0, 0.0])
    return float(alignment.sums(corrected(alignment.T_cam_lidar, theta), 0.0, blur_deg).sum())
