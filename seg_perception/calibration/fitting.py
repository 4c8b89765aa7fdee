"""Which small correction of a calibration fits the pictures best, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from seg_perception.calibration.alignment import Alignment
from seg_perception.geometry.transforms import from_rotation_translation

Float64Array = NDArray[np.float64]

PARAMETERS = ("pitch", "yaw", "roll", "x", "y", "z", "late")
"""Of a correction: turns about the camera's x, y and z axis, degrees; moves along them, metres; and by how many seconds
a picture was taken later than its stamp says."""

SCAN_DEG = np.linspace(-6.0, 6.0, 25)
"""Turns that `scan` tries."""

_EXPECTED = np.array([1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.05])  # how large corrections are, before anything was seen
_STEP = np.array([0.05, 0.05, 0.1, 0.02, 0.02, 0.04, 0.005])  # for derivatives, at a blur of 0.1 degrees
_SCAN_BLUR_DEG = 0.4
_SCAN_LATE_S = 0.0, -0.03, 0.03, -0.06, 0.06
_BLURS_DEG = 0.4, 0.2, 0.1
_FOLDS = 4
_CLIMBS = 12  # at each blur


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """theta: (7,) the correction in PARAMETERS. deviation: (7,) its standard deviations.

    folds: (4, 7) the corrections that fit best without one quarter of the pictures each. gain_z: by how many standard
    deviations the correction fits better than none, from the differences between parts of pictures (a paired test).
    score, given: mean over the silhouettes with and without the correction, in deviations of the picture's edges.
    """

    theta: Float64Array
    deviation: Float64Array
    folds: Float64Array
    gain_z: float
    score: float
    given: float


def corrected(T_cam_lidar: Float64Array, theta: Float64Array) -> Float64Array:
    """The calibration with a correction applied, on the camera's side."""
    rotation = cv2.Rodrigues(np.radians(theta[:3]))[0]
    return np.asarray(from_rotation_translation(rotation, theta[3:6]) @ T_cam_lidar)


def scan(alignment: Alignment) -> Float64Array:
    """(pitch, yaw, units) sums for every pair of turns in SCAN_DEG."""
    sums = np.empty((len(SCAN_DEG), len(SCAN_DEG), alignment.units))
    theta = np.zeros(7)
    for a, theta[0] in enumerate(SCAN_DEG):
        for b, theta[1] in enumerate(SCAN_DEG):
            sums[a, b] = _sums(alignment, theta, _SCAN_BLUR_DEG)
    return sums


def fit(alignment: Alignment, scanned: Float64Array, free: NDArray[np.bool_]) -> Fit:
    """Climb from the best place of a scan, with ever less blur, to the correction under which edges lie best.

    free: (7,) which parameters may differ from 0. Far from 0 they are taken for less likely, as _EXPECTED says. The
    deviation is the larger of what the peak's width and the scatter of its slopes say, and what leaving out a quarter
    of the observations at a time changes (jackknife).
    """
    everything = np.ones(alignment.units, bool)
    theta, *folds = [
        _climb(alignment, _start(alignment, scanned, free, units), free, units)
        for units in (everything, *_kept(alignment.units))
    ]
    spread = np.array(folds) - np.mean(folds, axis=0)
    jackknife = np.sqrt((_FOLDS - 1) / _FOLDS * np.sum(spread**2, axis=0))
    deviation = np.maximum(jackknife, _width(alignment, theta, free))
    given, found = (_sums(alignment, t, _BLURS_DEG[-1]) for t in (np.zeros(7), theta))
    gain = found - given
    gain_z = float(gain.sum() / max(np.linalg.norm(gain), 1e-9))
    return Fit(theta, deviation, np.array(folds), gain_z, *(float(s.sum()) / alignment.count for s in (found, given)))


def _sums(alignment: Alignment, theta: Float64Array, blur_deg: float) -> Float64Array:
    return alignment.sums(corrected(alignment.T_cam_lidar, theta), float(theta[6]), blur_deg)


def _kept(units: int) -> Iterator[NDArray[np.bool_]]:
    """What is left without one quarter of the parts of pictures, one after another."""
    for fold in range(_FOLDS):
        yield np.arange(units) % _FOLDS != fold


def _start(
    alignment: Alignment, scanned: Float64Array, free: NDArray[np.bool_], units: NDArray[np.bool_]
) -> Float64Array:
    """(7,) the turns of a scan that score best, and then the time that does."""
    total = scanned[:, :, units].sum(axis=2)
    a, b = np.unravel_index(int(np.argmax(total)), total.shape)
    starts = [
        np.array([SCAN_DEG[a], SCAN_DEG[b], 0.0, 0.0, 0.0, 0.0, late]) for late in (_SCAN_LATE_S if free[6] else (0.0,))
    ]
    return max(starts, key=lambda start: float(_sums(alignment, start, _SCAN_BLUR_DEG)[units].sum()))


def _climb(
    alignment: Alignment, start: Float64Array, free: NDArray[np.bool_], units: NDArray[np.bool_]
) -> Float64Array:
    theta = start
    for blur_deg in _BLURS_DEG:
        theta = _climb_at(alignment, theta, start, free, units, blur_deg)
    return theta


def _climb_at(
    alignment: Alignment,
    theta: Float64Array,
    start: Float64Array,
    free: NDArray[np.bool_],
    units: NDArray[np.bool_],
    blur_deg: float,
) -> Float64Array:
    """The nearest top of score and expectation (around the turns at the start), by BFGS."""
    which = np.flatnonzero(free)
    expected = np.append(start[:6], 0.0)[which] / _EXPECTED[which]
    weight = _weight(*_information(alignment, theta, which[:3], blur_deg, units))

    def at(x: Float64Array) -> Float64Array:
        full = np.array(theta)
        full[which] = x * _EXPECTED[which]
        return full

    def cost(x: Float64Array) -> tuple[float, Float64Array]:
        unlikely = x - expected
        total = _slopes(alignment, at(x), blur_deg)[units].sum(axis=0)
        value = 0.5 * float(unlikely @ unlikely) - weight * float(total[0])
        return value, unlikely - weight * total[1:][which] * _EXPECTED[which]

    options = {"maxiter": _CLIMBS, "gtol": 1e-2}
    return at(minimize(cost, theta[which] / _EXPECTED[which], jac=True, method="BFGS", options=options).x)


def _slopes(alignment: Alignment, theta: Float64Array, blur_deg: float) -> Float64Array:
    """(units, 8) sums and their slopes by PARAMETERS, about the place where the camera would then be."""
    found = alignment.slopes(corrected(alignment.T_cam_lidar, theta), float(theta[6]), blur_deg)
    found[:, 1:4] *= np.pi / 180.0
    return found


def _information(
    alignment: Alignment,
    theta: Float64Array,
    which: NDArray[np.int64],
    blur_deg: float,
    units: NDArray[np.bool_],
) -> tuple[Float64Array, Float64Array]:
    """Second derivatives of the score, negated, and the scatter of its first ones over the units, both (n, n)."""
    curvature = np.empty((len(which), len(which)))
    step = _STEP * (blur_deg / _BLURS_DEG[-1])
    for row, i in zip(curvature, which, strict=True):
        move = np.zeros(7)
        move[i] = step[i]
        before, after = (_slopes(alignment, theta + sign * move, blur_deg)[units, 1:] for sign in (-1.0, 1.0))
        row[:] = (before - after).sum(axis=0)[which] / (2.0 * step[i])
    slopes = _slopes(alignment, theta, blur_deg)[units, 1:][:, which]
    return 0.5 * (curvature + curvature.T), slopes.T @ slopes


def _weight(curvature: Float64Array, scatter: Float64Array) -> float:
    """What makes a log-likelihood of the score: then both matrices are the same (information matrix equality)."""
    return max(float(np.trace(curvature[:3, :3])), 0.0) / max(float(np.trace(scatter[:3, :3])), 1e-9)


def _width(alignment: Alignment, theta: Float64Array, free: NDArray[np.bool_]) -> Float64Array:
    """(7,) standard deviations that the shape of the peak leaves, given the expectation; 0 where not free."""
    which = np.flatnonzero(free)
    curvature, scatter = _information(alignment, theta, which, _BLURS_DEG[-1], np.ones(alignment.units, bool))
    values, vectors = np.linalg.eigh(curvature * _weight(curvature, scatter))
    information = (vectors * np.maximum(values, 0.0)) @ vectors.T + np.diag(1.0 / _EXPECTED[which] ** 2)
    deviation = np.zeros(7)
    deviation[which] = np.sqrt(np.diag(np.linalg.inv(information)))
    return deviation
