"""Calibrations from files: the YAML that camera_calibration and camera_info_manager write, and drivers read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from seg_perception.config import CameraConfig
from seg_perception.errors import CalibrationError
from seg_perception.geometry.camera import CameraModel
from seg_perception.messages.camera_info import CameraInfoRecord, camera_model

_LENGTHS = {"camera_matrix": 9, "distortion_coefficients": None, "rectification_matrix": 9, "projection_matrix": 12}


def calibration_of(camera: CameraConfig) -> CameraModel | None:
    """The camera whose calibration the settings name a file for; None where they name none. Raises CalibrationError."""
    if not camera.calibration:
        return None
    record = load_calibration(camera.calibration)
    return camera_model(record, rectified=camera.rectified, name=f"camera '{camera.name}' ({camera.calibration})")


def load_calibration(path: str | Path) -> CameraInfoRecord:
    """The CameraInfo that a calibration file holds; its frame is empty, its stamp 0. Raises CalibrationError."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CalibrationError(f"calibration {path}: {' '.join(str(error).split())}") from error
    if not isinstance(content, Mapping):
        raise CalibrationError(f"calibration {path}: a mapping wanted, {type(content).__name__} seen")
    width, height = (_entry(content, key, int, path) for key in ("image_width", "image_height"))
    k, d, r, p = (_matrix(content, key, length, path) for key, length in _LENGTHS.items())
    model = _entry(content, "distortion_model", str, path)
    return CameraInfoRecord("", 0, width, height, model, d, k, r, p)


def _entry(content: Mapping[str, Any], key: str, kind: type, path: str | Path) -> Any:
    value = content.get(key)
    if type(value) is not kind:
        raise CalibrationError(f"calibration {path}: {key}: {kind.__name__} wanted, {value!r} seen")
    return value


def _matrix(content: Mapping[str, Any], key: str, length: int | None, path: str | Path) -> tuple[float, ...]:
    matrix = content.get(key)
    data = matrix.get("data") if isinstance(matrix, Mapping) else None
    if not isinstance(data, list) or not all(type(value) in (int, float) for value in data):
        raise CalibrationError(f"calibration {path}: {key}: a mapping with the numbers under 'data' wanted")
    if length is not None and len(data) != length:
        raise CalibrationError(f"calibration {path}: {key}: {length} numbers wanted, {len(data)} seen")
    return tuple(map(float, data))
