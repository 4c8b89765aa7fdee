"""Calibration files as data sets keep them: tables of names and numbers, and matrices rounded for printing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seg_perception.errors import CalibrationError
from seg_perception.geometry.transforms import from_rotation_translation

_PRINTING_TOLERANCE = 1e-3
"""How far a matrix may be from a rotation: four printed decimals pass, a scaled or swapped matrix does not."""


def read_table(path: Path) -> dict[str, str]:
    """The lines `name: text` of a calibration file, or `name text`, as some of KITTI's have it.

    Raises CalibrationError where the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"calibration {path} cannot be read: {error}") from error
    rows = (line.partition(":" if ":" in line else " ") for line in lines)
    return {name.strip(): text.strip() for name, separator, text in rows if separator}


def numbers(table: Mapping[str, str], name: str, shape: tuple[int, ...], path: Path) -> NDArray[np.float64]:
    """The finite numbers of one row of a table in the given shape; anything else raises CalibrationError."""
    if name not in table:
        raise CalibrationError(f"calibration {path}: no row '{name}'; it has {sorted(table)}")
    try:
        values = np.array([float(word) for word in table[name].split()])
    except ValueError as error:
        raise CalibrationError(f"calibration {path}: row '{name}': {error}") from error
    if values.size != np.prod(shape) or not np.all(np.isfinite(values)):
        raise CalibrationError(
            f"calibration {path}: row '{name}': {np.prod(shape)} finite numbers wanted, '{table[name]}' seen"
        )
    return values.reshape(shape)


def nearest_rigid(matrix: ArrayLike, where: str) -> NDArray[np.float64]:
    """The rigid transform (4, 4) that a rounded (3, 4) or (4, 4) matrix was printed from.

    Its rotation is the nearest one in the Frobenius norm, U V' of the singular value decomposition (orthogonal
    Procrustes problem). A matrix further than 1e-3 from any rotation raises CalibrationError.
    """
    T = np.asarray(matrix, np.float64)
    if T.shape not in ((3, 4), (4, 4)) or not np.all(np.isfinite(T)):
        raise CalibrationError(f"{where}: a finite 3x4 or 4x4 matrix wanted, {T.tolist()} seen")
    U, _, Vt = np.linalg.svd(T[:3, :3])
    rotation = U @ Vt
    error = float(np.abs(rotation - T[:3, :3]).max())
    if error > _PRINTING_TOLERANCE or np.linalg.det(rotation) < 0.0:
        raise CalibrationError(
            f"{where}: a rotation wanted, {T[:3, :3].tolist()} seen ({error:.3g} from the nearest one)"
        )
    return from_rotation_translation(rotation, T[:3, 3])
