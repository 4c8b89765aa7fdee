"""Extrinsics as other tools keep them, in place of what a bag's /tf_static says.

| file | what is read |
|---|---|
| `calib.json` of koide3's direct_visual_lidar_calibration | `results.T_lidar_camera`: x y z qx qy qz qw |
| KITTI raw: the day's folder of `calib_*.txt` | camera `..._0X`: R_rect_00, P_rect_0X, calib_velo_to_cam |
| KITTI object: a text with `P0`..`P3`, `R0_rect`, `Tr_velo_to_cam` | the same |
| KITTI tracking (`R_rect`, `Tr_velo_cam`) and odometry (`Tr`, to the rectified camera 0) | the same |
| Autoware: `sensor_kit_calibration.yaml` or `sensors_calibration.yaml` | parent: child: x y z roll pitch yaw |
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from seg_perception.calibration.gathering import Edges
from seg_perception.errors import CalibrationError
from seg_perception.geometry.transforms import compose, from_quat_translation, from_rotation_translation, inverse
from seg_perception.importers.calibration import nearest_rigid, numbers, read_table
from seg_perception.importers.kitti import KittiCalibration

_AUTOWARE_KEYS = {"x", "y", "z", "roll", "pitch", "yaw"}
_WORST_CONDITION = 1e8  # of a camera matrix; 10,000 pixels of focal length give some 10,000
_T_LINK_OPTICAL = from_rotation_translation([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]], np.zeros(3))
"""From the optical axes of a camera to those of its link (x ahead, y left, z up), as camera drivers describe them."""


def read_extrinsics(path: Path, camera: str, camera_frame: str, lidar_frame: str) -> Edges:
    """Transforms to take the place of a bag's own: between the two frames, or, of Autoware, all that the file names.

    camera: its name in the settings, from which KITTI's number is taken. Raises CalibrationError for a file that is
    none of these, or that does not hold what it should.
    """
    if path.is_dir() or path.suffix.lower() == ".txt":
        return {(lidar_frame, camera_frame): inverse(_kitti(path, camera))}
    if path.suffix.lower() == ".json":
        return {(lidar_frame, camera_frame): _koide3(path)}
    if path.suffix.lower() in (".yaml", ".yml"):
        return _autoware(path, camera_frame)
    raise CalibrationError(f"calibration {path}: a .json, .yaml or .txt file, or a folder of KITTI's, wanted")


def _koide3(path: Path) -> NDArray[np.float64]:
    """`T_lidar_camera` (4, 4)."""
    try:
        results = json.loads(_text(path))["results"]
        if "T_lidar_camera" not in results and "init_T_lidar_camera" in results:
            raise CalibrationError(f"calibration {path}: the initial guess alone is in it; run `calibrate` first")
        values = np.array(results["T_lidar_camera"], np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise CalibrationError(f"calibration {path}: results.T_lidar_camera wanted: {error!r}") from error
    if values.shape != (7,) or not np.all(np.isfinite(values)) or abs(np.linalg.norm(values[3:]) - 1.0) > 1e-2:
        raise CalibrationError(
            f"calibration {path}: T_lidar_camera: x y z and a unit quaternion x y z w wanted, {values.tolist()} seen"
        )
    return from_quat_translation(values[3:], values[:3])


def _kitti(path: Path, camera: str) -> NDArray[np.float64]:
    """`T_cam_velo` (4, 4) of the rectified camera whose number ends the name."""
    ending = re.search(r"0?([0-3])$", camera)
    if ending is None:
        raise CalibrationError(f"camera '{camera}': a name that ends in KITTI's number 0 to 3 wanted, to read {path}")
    number = ending.group(1)
    if path.is_dir():
        return KittiCalibration.load(path).camera(f"0{number}", "raw")[1]
    table = read_table(path)
    P = numbers(table, f"P{number}", (3, 4), path)
    Tr = next((name for name in ("Tr", "Tr_velo_cam") if name in table), "Tr_velo_to_cam")
    T_cam0_velo = nearest_rigid(numbers(table, Tr, (3, 4), path), f"{path}: {Tr}")
    R_rect = np.eye(4)
    if Tr != "Tr":  # which goes to the rectified camera
        name = "R_rect" if "R_rect" in table else "R0_rect"
        rotation = from_rotation_translation(numbers(table, name, (3, 3), path), np.zeros(3))
        R_rect = nearest_rigid(rotation, f"{path}: {name}")
    if np.linalg.cond(P[:, :3]) > _WORST_CONDITION:
        raise CalibrationError(f"calibration {path}: row 'P{number}': a projection wanted, {P.tolist()} seen")
    T_cam_rect = from_rotation_translation(np.eye(3), np.linalg.solve(P[:, :3], P[:, 3]))
    return compose(T_cam_rect, R_rect, T_cam0_velo)


def _autoware(path: Path, camera_frame: str) -> Edges:
    """Every transform of the file; and that from a camera's link to its optical frame, where the file stops short."""
    try:
        content = yaml.safe_load(_text(path))
    except yaml.YAMLError as error:
        raise CalibrationError(f"calibration {path}: {error}") from error
    edges: dict[tuple[str, str], NDArray[np.float64]] = {}
    for parent, children in (content if isinstance(content, dict) else {}).items():
        for child, pose in (children if isinstance(children, dict) else {}).items():
            if isinstance(pose, dict) and set(pose) == _AUTOWARE_KEYS:
                edges[parent, child] = _pose(pose, f"calibration {path}: {parent}: {child}")
    if not edges:
        raise CalibrationError(f"calibration {path}: parent: child: {{x, y, z, roll, pitch, yaw}} wanted, none in it")
    link = (
        camera_frame.replace("_optical_link", "_link").replace("_optical_frame", "_link").replace("_optical", "_link")
    )
    if link != camera_frame and any(child == link for _, child in edges):
        edges.setdefault((link, camera_frame), _T_LINK_OPTICAL)
    return edges


def _pose(pose: Mapping[str, Any], where: str) -> NDArray[np.float64]:
    """Metres and radians about fixed axes, roll first, as URDF has them: Rz(yaw) Ry(pitch) Rx(roll)."""
    try:
        x, y, z, roll, pitch, yaw = (float(pose[name]) for name in ("x", "y", "z", "roll", "pitch", "yaw"))
    except (TypeError, ValueError) as error:
        raise CalibrationError(f"{where}: six numbers wanted: {error}") from error
    if not all(math.isfinite(value) for value in (x, y, z, roll, pitch, yaw)):
        raise CalibrationError(f"{where}: six finite numbers wanted, {dict(pose)} seen")
    (cr, sr), (cp, sp), (cy, sy) = ((math.cos(angle), math.sin(angle)) for angle in (roll, pitch, yaw))
    rotation = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    return from_rotation_translation(rotation, [x, y, z])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"calibration {path} cannot be read: {error}") from error
