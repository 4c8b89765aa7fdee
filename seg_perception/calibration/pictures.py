"""A calibration to look at: points over pictures by range, and the score under small turns."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.calibration.checking import Check
from seg_perception.calibration.fitting import SCAN_DEG
from seg_perception.calibration.gathering import Shot
from seg_perception.drawing import BACKGROUND, INK, Pixels, fitted, points_by_range, write
from seg_perception.geometry.projection import project

_WIDTH = 1280
_SIDE = 420
_WRAP = 96  # letters a line


def camera_picture(check: Check, most: int = 3) -> Pixels:
    """A few frames with the sweep over them, coloured by range and its silhouettes white; beside the first what the
    calibration would be that fits best, where it is another; below them the verdict and the score under turns."""
    shots = check.camera.shots
    chosen = [shots[k] for k in np.unique(np.linspace(0, len(shots) - 1, min(most, len(shots))).round().astype(int))]
    tiles = [_tile(check, shot, check.camera.T_cam_lidar, 0.0, "as given") for shot in chosen]
    late_s = 0.0 if check.fit is None else float(check.fit.theta[6])
    if check.verdict == "suspicious" and not np.allclose(check.T_cam_lidar, check.camera.T_cam_lidar):
        tiles.insert(1, _tile(check, chosen[0], check.T_cam_lidar, late_s, "as it fits best"))
    return np.concatenate([*tiles, _footer(check)])


def _tile(check: Check, shot: Shot, T_cam_lidar: NDArray[np.float64], late_s: float, what: str) -> Pixels:
    camera, T = check.camera.model, T_cam_lidar @ shot.moved(late_s)
    sweep = project(shot.sweep.moved.points, T, camera)
    edges = project(shot.sweep.middle.astype(np.float32), T, camera)
    tile = fitted(points_by_range(shot.image.pixels, sweep, edges), _WIDTH)
    write(tile, f"{check.camera.name}, {what}", (10, 22), (255, 255, 255), 0.6)
    return tile


def _footer(check: Check) -> Pixels:
    """The sentences, and the scan: bright where silhouettes lie on edges, crossed where the calibration as given is."""
    canvas = np.empty((_SIDE + 60, _WIDTH, 3), np.uint8)
    canvas[:] = BACKGROUND
    low, high = check.scanned.min(), check.scanned.max()
    grey = ((check.scanned - low) / max(high - low, 1e-9) * 255.0).astype(np.uint8)
    heat = cv2.applyColorMap(cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC), cv2.COLORMAP_VIRIDIS)
    canvas[20 : 20 + _SIDE, 40 : 40 + _SIDE] = heat[:, :, ::-1]
    middle = (40 + _SIDE // 2, 20 + _SIDE // 2)
    cv2.drawMarker(canvas, middle, (255, 255, 255), cv2.MARKER_CROSS, 18, 1, cv2.LINE_AA)
    reach = f"{SCAN_DEG[-1]:g}"
    write(canvas, f"score, camera's points turned by -{reach} .. {reach} degrees: yaw across, pitch down",
          (40, _SIDE + 42), INK, 0.42)  # fmt: skip
    lines = [f"{check.camera.name}: {check.verdict}", ""]
    for sentence in check.sentences:
        lines += _wrapped(sentence)
    for row, line in enumerate(lines):
        write(canvas, line, (_SIDE + 70, 44 + 24 * row), INK, 0.45 if row else 0.7)
    return canvas


def _wrapped(sentence: str) -> list[str]:
    lines = [""]
    for word in sentence.replace("±", "+-").split():
        if len(lines[-1]) + len(word) >= _WRAP:
            lines.append("   ")
        lines[-1] += f" {word}"
    return lines
