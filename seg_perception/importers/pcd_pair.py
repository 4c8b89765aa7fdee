"""One picture, one PCD file and a calibration between them: what calibration tools leave behind.

Two calibrations are read:

- a text of three rows, `K:` (9 numbers), `D:` (k1 k2 p1 p2, and k3 perhaps) and `T:` (12, LiDAR to camera, by rows);
- the JSON pair of SensorsCalibration: one file with `cam_K` and `cam_dist`, and an extrinsic one with `sensor_calib`.

Frames: `lidar` and `camera_optical`, nothing else: the files know of no vehicle and no motion.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import CalibrationError, ConfigError
from seg_perception.geometry.camera import CameraModel
from seg_perception.geometry.transforms import inverse
from seg_perception.importers.calibration import nearest_rigid, numbers, read_table
from seg_perception.importers.recording import (
    Imported,
    RecordedCamera,
    Recording,
    Transport,
    picture_size,
    require_file,
)
from seg_perception.messages.pointcloud import cloud_from_columns
from seg_perception.pcd import read_pcd

_log = logging.getLogger(__name__)

LIDAR_TOPIC = "/lidar/points"
LIDAR_FRAME = "lidar"
CAMERA = "camera"
DEFAULT_STAMP_NS = 1_000_000_000
"""Where neither the files nor the user say when: one second after 1970. 0 is no stamp, and now is another each time."""

_EPOCH_SECONDS = (1e8, 1e10)
"""Between 1973 and 2286: seconds since 1970, not a count from some start."""


def import_pcd_pair(
    image: Path,
    cloud: Path,
    calib: Path,
    out: Path,
    *,
    extrinsic: Path | None = None,
    stamp_ns: int | None = None,
    transport: Transport = "raw",
    progress: bool = False,
) -> Imported:
    """Turn one picture and one sweep into a bag.

    calib: the text, or the intrinsic JSON, to which `extrinsic` belongs. stamp_ns: of the picture, and of the sweep
    where its points carry no absolute times. A sweep that has them (`timestamp`, float64 seconds since 1970) is stamped
    with the first and logged at the last; the picture gets the first too, unless stamp_ns says otherwise.
    Raises ConfigError for what is missing, MessageError for broken files, CalibrationError.
    """
    width, height = picture_size(require_file(image, "picture"))
    columns = read_pcd(require_file(cloud, "point cloud"))
    K, D, T_cam_lidar = read_calibration(calib, extrinsic, (width, height))
    if D.size == 4:
        D = np.append(D, 0.0)  # k3: plumb_bob has five in a CameraInfo
    model = CameraModel.from_camera_info(
        width=width, height=height, distortion_model="plumb_bob", d=D, k=K, r=np.eye(3), p=np.zeros(12), name=str(calib)
    )
    camera = RecordedCamera(CAMERA, f"{CAMERA}_optical", model, transport=transport)
    if (span_ns := point_span_ns(columns)) is None:
        span_ns = (DEFAULT_STAMP_NS,) * 2 if stamp_ns is None else (stamp_ns,) * 2
    image_ns = span_ns[0] if stamp_ns is None else stamp_ns

    recording = Recording([camera], LIDAR_TOPIC)
    recording.add_static(min(image_ns, span_ns[0]), {(LIDAR_FRAME, camera.frame_id): inverse(T_cam_lidar)})
    recording.add_picture(camera, image_ns, image)
    recording.add_sweep(span_ns[1], partial(cloud_from_columns, LIDAR_FRAME, span_ns[0], columns))
    return recording.write(out, progress=progress)


def read_calibration(
    calib: Path, extrinsic: Path | None, size: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """K (3, 3), D (n,) and `T_cam_lidar` (4, 4). size: of the picture, which is believed where the files say otherwise.

    Raises ConfigError for a missing file, CalibrationError for what is in it.
    """
    require_file(calib, "calibration")
    if calib.suffix.lower() != ".json":
        if extrinsic is not None:
            raise ConfigError(f"extrinsic: none wanted, {extrinsic} seen: the text {calib} holds its own in row 'T'")
        table = read_table(calib)
        count = len(table.get("D", "").split())
        K, D = numbers(table, "K", (3, 3), calib), numbers(table, "D", (count,), calib)
        return K, D, nearest_rigid(numbers(table, "T", (3, 4), calib), f"{calib}: T")
    if extrinsic is None:
        raise ConfigError(f"extrinsic: a JSON file with sensor_calib wanted beside {calib}, none given")
    intrinsics = _param(calib)
    stated = (intrinsics.get("img_dist_w", size[0]), intrinsics.get("img_dist_h", size[1]))
    if stated != size:
        _log.warning("calibration %s is for %s x %s pixels, the picture has %d x %d: the picture is believed",
                     calib, *stated, *size)  # fmt: skip
    K = _matrix(intrinsics, "cam_K", calib)
    if K.shape != (3, 3):
        raise CalibrationError(f"calibration {calib}: cam_K: 3 x 3 numbers wanted, shape {K.shape} seen")
    T_cam_lidar = _matrix(_param(require_file(extrinsic, "extrinsic")), "sensor_calib", extrinsic)
    return K, _matrix(intrinsics, "cam_dist", calib).ravel(), nearest_rigid(T_cam_lidar, f"{extrinsic}: sensor_calib")


def point_span_ns(columns: Mapping[str, NDArray]) -> tuple[int, int] | None:
    """When the first and the last point were measured, where a column `timestamp` has seconds since 1970; else None."""
    times = columns.get("timestamp")
    if times is None or times.dtype.kind != "f":
        return None
    times = times[np.isfinite(times)]
    low, high = _EPOCH_SECONDS
    if times.size == 0 or not (low < times.min() and times.max() < high):
        return None
    return round(float(times.min()) * 1e9), round(float(times.max()) * 1e9)


def parse_stamp(text: str) -> int:
    """Nanoseconds of decimal seconds since 1970, exactly; ConfigError for anything else and for what is not above 0."""
    try:
        stamp_ns = int(Decimal(text).scaleb(9).to_integral_value())
    except (InvalidOperation, ValueError, OverflowError):
        stamp_ns = 0
    if stamp_ns <= 0:
        raise ConfigError(f"stamp: seconds above 0 wanted, '{text}' seen")
    return stamp_ns


def _param(path: Path) -> Mapping[str, Any]:
    """The `param` of the one sensor in a JSON calibration."""
    try:
        (sensor,) = json.loads(path.read_text(encoding="utf-8")).values()
        param = sensor["param"]
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise CalibrationError(f"calibration {path}: one sensor with 'param' wanted: {error}") from error
    if not isinstance(param, dict):
        raise CalibrationError(f"calibration {path}: 'param' is no mapping")
    return param


def _matrix(param: Mapping[str, Any], name: str, path: Path) -> NDArray[np.float64]:
    try:
        return np.array(param[name]["data"], np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise CalibrationError(f"calibration {path}: {name}: a matrix wanted: {error}") from error
