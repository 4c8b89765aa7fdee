"""How far apart a LiDAR's points are, read from a sweep: from one column to the next, and from one beam to the next.

Neither a ring field nor any order of the points is needed. A beam keeps its elevation while it turns, so points of
nearly one elevation, sorted by azimuth, are mostly one column apart; those of one column, sorted by elevation, mostly
one beam. Ask before the points are deskewed: that bends the beams.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from seg_perception.config import VisibilityConfig

_BAND_DEG = 0.04  # points whose elevations differ by less are taken for one beam's
_LEAST_DEG = 0.01  # points closer than this are one direction measured twice
_NEAR_M = 8.0  # nearer points are seen aslant by a beam that does not start at the origin
_ENOUGH = 20_000  # points: of more, only some of the bands are looked at
_WIDEST_DEG = 5.0  # as the settings have it; points that seem further apart lie in no order
_NEEDED = 500  # steps; of fewer there is no saying


def has_spacing(config: VisibilityConfig) -> bool:
    """Whether both spacings are set."""
    return config.spacing_deg > 0.0 and config.beam_spacing_deg > 0.0


def with_spacing(config: VisibilityConfig, points: NDArray[np.float32]) -> VisibilityConfig:
    """The same settings, the spacings that are not set (0) read from a sweep, to a hundredth of a degree.

    points: (N, 3) as `measured_spacing` takes them; where they do not tell, nothing is set.
    """
    if has_spacing(config) or (measured := measured_spacing(points)) is None:
        return config
    column, beam = (max(round(angle, 2), 0.01) for angle in measured)
    if max(column, beam) > _WIDEST_DEG:
        return config
    return replace(config, spacing_deg=config.spacing_deg or column, beam_spacing_deg=config.beam_spacing_deg or beam)


def measured_spacing(points: NDArray[np.float32]) -> tuple[float, float] | None:
    """Degrees between neighbouring points of a beam, and between neighbouring beams; None where that cannot be told.

    points: (N, 3) metres, as measured, in the LiDAR's frame. Of uneven spacings the median of what returned counts.
    """
    with np.errstate(invalid="ignore"):  # of a signalling NaN, which is no return, and becomes a quiet one
        x, y, z = (points[:, axis].astype(np.float64) for axis in range(3))
    flat = np.hypot(x, y)
    far = np.isfinite(flat) & (flat > _NEAR_M)
    azimuth = np.degrees(np.arctan2(y[far], x[far]))
    elevation = np.degrees(np.arctan2(z[far], flat[far]))
    column = _typical_step(azimuth, elevation, _BAND_DEG)
    if column is None:
        return None
    beam = _typical_step(elevation, azimuth, column)
    return None if beam is None else (column, beam)


def _typical_step(along: NDArray[np.float64], across: NDArray[np.float64], width: float) -> float | None:
    """The median step along one angle between neighbours that lie within bands of `width` of the other, degrees.

    Twice, the bands laid differently: where the edge of a band runs along a beam, each side has but half of it.
    """
    medians = []
    for phase in (0.0, 0.5):
        band = np.floor(across / width + phase)
        some = band % max(1, len(band) // _ENOUGH) == 0
        order = np.lexsort((along[some], band[some]))
        steps = np.diff(along[some][order])[np.diff(band[some][order]) == 0]
        steps = steps[steps > _LEAST_DEG]
        if len(steps) >= _NEEDED:
            medians.append(float(np.median(steps)))
    return min(medians, default=None)
