"""The verdict on one camera's calibration: what is wrong, by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from seg_perception.calibration.alignment import Alignment
from seg_perception.calibration.fitting import PARAMETERS, Fit, corrected, fit, scan
from seg_perception.calibration.gathering import CameraShots
from seg_perception.calibration.mistakes import Trial, trials
from seg_perception.geometry.transforms import transform_points

Verdict = Literal["fine", "suspicious", "unclear"]

TOLERANCE_DEG = 0.25
"""How far the typical silhouette may lie off its edge, seen from the camera."""

TURN_DEG = 0.5
"""How far the camera may be turned about any of its axes: a roll moves the middle of the picture little."""

TOLERANCE_S = 0.015
_SURE = 3.0  # standard deviations
_MARGIN_DEG = 6.0
_MOST = 1500  # silhouettes a pair
_BETTER_FIT_Z = 3.5  # a correction is believed where it fits by so much better than none (`Fit.gain_z`)
_FITS_Z = 3.0  # a calibration that fits less well than this above chance is not measured further
_EXPLAINS_Z = 6.0  # a mistake undone explains what is wrong from here on,
_BETTER_Z = 2.0  # where it fits by so much better than the calibration as given;
_EXPLAINS_BLIND_Z = 4.0  # from here on where that one sees hardly anything
_ABOUT_AS_WELL = 0.6
_ENOUGH = 3000  # silhouettes with which a right calibration would have fitted
_HARDLY_ANY = 200  # silhouettes of all sweeps below which it says nothing that a camera sees none of them
_CLEAR_DEG = 1.0  # where errors up to this could hide, nothing can be said


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """One camera's.

    trials: as `mistakes.trials` has them. scanned: (pitch, yaw) score for turns in SCAN_DEG. fit: None where the
    calibration does not fit well enough to be measured. shift_deg, shift_sd_deg: by how much the typical silhouette
    moves under the fitted correction, seen from the camera.
    """

    camera: CameraShots
    silhouettes: int
    trials: list[Trial]
    scanned: NDArray[np.float64]
    fit: Fit | None
    shift_deg: float
    shift_sd_deg: float
    verdict: Verdict
    sentences: list[str]

    @property
    def T_cam_lidar(self) -> NDArray[np.float64]:
        """The calibration that fits best: as given, as corrected, or with a mistake undone."""
        if self.fit is not None:
            return corrected(self.camera.T_cam_lidar, self.fit.theta)
        return max(self.trials, key=lambda trial: trial.z if np.isfinite(trial.z) else -np.inf).T_cam_lidar

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        found: dict[str, Any] = {
            "verdict": self.verdict,
            "sentences": self.sentences,
            "pairs": len(self.camera.shots),
            "silhouettes": self.silhouettes,
            "fits_z": _number(self.trials[0].z),
            "mistakes_z": {trial.mistake: _number(trial.z) for trial in self.trials[1:]},
            "T_cam_lidar_given": self.camera.T_cam_lidar.tolist(),
            "shift_deg": _number(self.shift_deg),
            "shift_sd_deg": _number(self.shift_sd_deg),
        }
        if self.fit is not None:
            found["gain_z"] = _number(self.fit.gain_z)
            found["correction"] = dict(zip(PARAMETERS, self.fit.theta.round(5).tolist(), strict=True))
            found["deviation"] = dict(zip(PARAMETERS, self.fit.deviation.round(5).tolist(), strict=True))
            found["T_cam_lidar_corrected"] = self.T_cam_lidar.tolist()
        return found


def check(camera: CameraShots, others: Mapping[str, NDArray[np.float64]]) -> Check:
    """Hold one camera's calibration against its pictures. others: T_cam_lidar of the other cameras."""
    alignment = Alignment(camera.pairs, camera.T_cam_lidar, _MARGIN_DEG, _MOST)
    tried = trials(camera, others)
    scanned = scan(alignment)
    picture = scanned.sum(axis=2) / max(alignment.count, 1)
    fits = bool(tried[0].z >= _FITS_Z)
    wrong = _mistake(tried)
    if wrong is not None or not fits:
        all_around = sum(len(shot.sweep.middle) for shot in camera.shots)
        verdict, sentences = _without_fit(tried[0], wrong, alignment.count, all_around)
        return Check(camera, alignment.count, tried, picture, None, np.nan, np.nan, verdict, sentences)
    free = np.ones(7, bool)
    free[6] = camera.timed
    found = fit(alignment, scanned, free)
    points = np.concatenate([shot.sweep.middle[:: max(1, len(shot.sweep.middle) // 2000)] for shot in camera.shots])
    points = points[camera.model.in_view(camera.model.project(transform_points(camera.T_cam_lidar, points))[0])]
    nothing = np.zeros(7)
    shift = _shift_deg(camera, points, nothing, found.theta)
    folds = np.array([_shift_deg(camera, points, fold, found.theta) for fold in found.folds])
    shift_sd = float(np.sqrt((len(folds) - 1) / len(folds) * np.sum(folds**2)))
    verdict, sentences = _with_fit(found, shift, shift_sd, camera.timed)
    return Check(camera, alignment.count, tried, picture, found, shift, shift_sd, verdict, sentences)


def _shift_deg(camera: CameraShots, points: NDArray, one: NDArray, other: NDArray) -> float:
    """Median angle between where two corrections let the camera see the points."""
    rays = []
    for theta in (one, other):
        seen = transform_points(corrected(camera.T_cam_lidar, theta), points)
        rays.append(seen / np.linalg.norm(seen, axis=1, keepdims=True))
    return float(np.degrees(np.median(np.linalg.norm(rays[0] - rays[1], axis=1))))


def _mistake(tried: list[Trial]) -> Trial | None:
    """The one that, undone, fits well and far better than the calibration as given; of several that fit about as well,
    the one that needs least turning to do so."""
    given, *undone = tried
    least = max(_EXPLAINS_Z, given.z + _BETTER_Z) if np.isfinite(given.z) else _EXPLAINS_BLIND_Z
    explaining = [trial for trial in undone if trial.z >= max(least, _ABOUT_AS_WELL * undone[0].z)]
    return min(explaining, key=lambda trial: (trial.turn_deg, -trial.z), default=None)


def _without_fit(given: Trial, wrong: Trial | None, silhouettes: int, all_around: int) -> tuple[Verdict, list[str]]:
    """silhouettes: in and around the camera's view; all_around: of the sweeps, wherever they are."""
    if all_around < _HARDLY_ANY and wrong is None:
        return "unclear", [f"{all_around} silhouettes in the sweeps, all around, are too few to judge by"]
    blind = not np.isfinite(given.z)
    if blind:
        sentences = [f"as given, the camera sees hardly anything of the sweeps: {silhouettes} silhouettes in its view"]
    else:
        how = "hardly better" if given.z < _FITS_Z else "better"
        sentences = [
            f"as given, points fit the pictures {how} than by chance ({given.z:.1f} standard deviations above)"
        ]
    if wrong is not None:
        sentences.append(
            f"it looks as if {wrong.mistake}: with that undone it is {wrong.z:.1f} standard deviations above chance"
        )
    elif blind or silhouettes >= _ENOUGH:
        sentences.append(
            "none of the typical mistakes, undone, fits clearly: is it mounted elsewhere, or another lens?"
        )
    else:
        sentences.append(f"{silhouettes} silhouettes in and around its view are too few to judge by")
        return "unclear", sentences
    return "suspicious", sentences


def _with_fit(found: Fit, shift: float, shift_sd: float, timed: bool) -> tuple[Verdict, list[str]]:
    theta, sd, better = found.theta, found.deviation, found.gain_z >= _BETTER_FIT_Z
    sentences = []
    off = better and (shift > TOLERANCE_DEG or bool(np.abs(theta[:3]).max() > TURN_DEG))
    late = better and timed and abs(theta[6]) > TOLERANCE_S
    hidden = max(TOLERANCE_DEG, _SURE * shift_sd)
    if off:
        sentences.append(f"points lie {shift:.2f} ± {shift_sd:.2f} degrees off their edges (median over the view)")
        sentences += _parts(theta, sd)
    if late:
        which = "later" if theta[6] > 0.0 else "earlier"
        sentences.append(
            f"pictures are taken {1e3 * abs(theta[6]):.0f} ± {1e3 * sd[6]:.0f} ms {which} than their stamps say: add "
            f"{1e3 * theta[6]:+.0f} to the camera's offset_ms"
        )
    if off or late:
        return "suspicious", sentences
    if hidden > _CLEAR_DEG:
        return "unclear", [
            f"too little to see: an error of up to {hidden:.1f} degrees could hide in what these sweeps show"
        ]
    if shift > TOLERANCE_DEG:
        return "unclear", [f"a calibration {shift:.2f} ± {shift_sd:.2f} degrees away fits better, but not surely"]
    sentences.append(
        f"points lie within {shift:.2f} ± {shift_sd:.2f} degrees of their edges; {hidden:.2f} would be told"
    )
    if not timed:
        sentences.append("the time offset cannot be told: no poses around the pictures' stamps")
    elif _SURE * sd[6] > 2.0 * TOLERANCE_S:
        sentences.append(
            f"the time offset cannot be told better than ± {1e3 * sd[6]:.0f} ms: faster driving and bends would tell"
        )
    else:
        sentences.append(f"the pictures' stamps are right within {1e3 * abs(theta[6]):.0f} ± {1e3 * sd[6]:.0f} ms")
    return "fine", sentences


_WAYS = (
    ("turned down", "turned up", "degrees"),
    ("turned left", "turned right", "degrees"),
    ("rolled anticlockwise", "rolled clockwise", "degrees"),
    ("further left", "further right", "m"),
    ("higher", "lower", "m"),
    ("further back", "further ahead", "m"),
)
"""What to do to the camera's pose for a correction above and below 0: points move the other way."""


def _parts(theta: NDArray[np.float64], sd: NDArray[np.float64]) -> list[str]:
    """Which turns and moves the correction is made of: those that are sure, else the surest."""
    sure = np.abs(theta[:6]) / np.maximum(sd[:6], 1e-9)
    kept = (sure > _SURE) & (np.abs(theta[:6]) > ([0.1] * 3 + [0.03] * 3))
    if not kept.any():
        kept[int(np.argmax(sure))] = True
    found = []
    for k in np.flatnonzero(kept):
        more, less, unit = _WAYS[k]
        found.append(f"{more if theta[k] > 0.0 else less} by {abs(theta[k]):.2f} ± {sd[k]:.2f} {unit}")
    return [f"the camera should be {', '.join(found)}"]


def _number(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
