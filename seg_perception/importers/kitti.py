"""KITTI raw recordings (synced + rectified): a drive's folder and its day's calibration.

Frames: `base_link` is the GPS/IMU unit, whose pose is the one that KITTI reports; `velodyne`; and for each camera its
own rectified optical frame `camera_0X_optical`. KITTI projects from the rectified camera 0:

    u ~ P_rect_0X · R_rect_00 · T_cam0_velo · X

The last column of P, t = K^-1 P[:,3], is the way from there to camera 0X, and goes into TF with the rotations; what is
left of the calibration is K alone, and depth is measured from the camera's own centre.

Stamps: pictures and sweeps carry KITTI's own. A sweep's is the instant in the middle of its turn, when the laser faces
forward and triggers the cameras; it is logged when the turn ends. KITTI keeps no time for each point: none is written.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from seg_perception.datatypes import PointCloud
from seg_perception.errors import ConfigError, MessageError
from seg_perception.geometry.camera import CameraModel
from seg_perception.geometry.transforms import from_rotation_translation, inverse
from seg_perception.importers.calibration import nearest_rigid, numbers, read_table
from seg_perception.importers.lidar_odometry import poses_from_sweeps
from seg_perception.importers.oxts import poses_from_oxts, read_oxts
from seg_perception.importers.recording import (
    FIXED_FRAME,
    Imported,
    RecordedCamera,
    Recording,
    Transport,
    require_file,
    require_folder,
)
from seg_perception.importers.twist import exp_se3, log_se3
from seg_perception.messages.pointcloud import cloud_from_columns, scan_from_cloud

_log = logging.getLogger(__name__)

LIDAR_TOPIC = "/velodyne/points"
BODY_FRAME = "base_link"
LIDAR_FRAME = "velodyne"

Odometry = Literal["oxts", "sweeps"]


@dataclass(frozen=True, slots=True, eq=False)
class KittiCalibration:
    """One day's calibration. T_velo_imu and T_cam0_velo (unrectified camera 0): rigid (4, 4)."""

    folder: Path
    T_velo_imu: NDArray[np.float64]
    T_cam0_velo: NDArray[np.float64]

    @classmethod
    def load(cls, folder: Path) -> KittiCalibration:
        """Read `calib_imu_to_velo.txt` and `calib_velo_to_cam.txt`; raises CalibrationError."""
        require_folder(folder, "KITTI calibration")
        return cls(folder, _rigid_from(folder / "calib_imu_to_velo.txt"), _rigid_from(folder / "calib_velo_to_cam.txt"))

    def camera(self, number: str, transport: Transport) -> tuple[RecordedCamera, NDArray[np.float64]]:
        """The rectified camera "00" to "03" and its `T_cam_velo`, from `calib_cam_to_cam.txt`."""
        path = self.folder / "calib_cam_to_cam.txt"
        table = read_table(path)
        P = numbers(table, f"P_rect_{number}", (3, 4), path)
        width, height = numbers(table, f"S_rect_{number}", (2,), path).astype(int).tolist()
        R_rect = numbers(table, "R_rect_00", (3, 3), path)
        K = P[:, :3]
        model = CameraModel(width, height, K)
        T_rect_cam0 = nearest_rigid(from_rotation_translation(R_rect, np.zeros(3)), f"{path}: R_rect_00")
        T_cam_rect = from_rotation_translation(np.eye(3), np.linalg.solve(K, P[:, 3]))
        camera = RecordedCamera(f"camera_{number}", f"camera_{number}_optical", model, True, transport)
        return camera, T_cam_rect @ T_rect_cam0 @ self.T_cam0_velo


@dataclass(frozen=True, slots=True)
class _Stream:
    """The files of one sensor by frame number, and the stamps of all frames: a frame's number is its row there."""

    files: dict[int, Path]
    stamps_ns: list[int]

    def stamp_ns(self, frame: int) -> int:
        return self.stamps_ns[frame]


def import_kitti(
    drive: Path,
    calib: Path,
    out: Path,
    *,
    cameras: Sequence[str] = ("02",),
    timestamps: Path | None = None,
    loop: int = 1,
    transport: Transport = "raw",
    odometry: Odometry = "oxts",
    progress: bool = False,
) -> Imported:
    """Turn a drive into a bag.

    drive: holds `image_0X/data/*.png`, `velodyne_points/data/*.bin`, their `timestamps*.txt`, and perhaps `oxts`.
    timestamps: a folder of `image_0X_timestamps.txt` and `velodyne_timestamps{,_start,_end}.txt` to use instead.
    loop: times that the drive is repeated; stamps go on, with the drive's own period across the seam.
    odometry: what `odom` to `base_link` comes from; "sweeps": estimated, see `lidar_odometry`.
    Raises ConfigError for what is missing, MessageError for broken files, CalibrationError.
    """
    if loop < 1:
        raise ConfigError(f"loop: at least 1 wanted, {loop} seen")
    require_folder(drive, "KITTI drive")
    sweeps = _stream(drive, "velodyne_points", "*.bin", timestamps)
    ends_ns = _sweep_ends(drive, sweeps, timestamps)
    calibration = KittiCalibration.load(calib)
    T_base_velo = inverse(calibration.T_velo_imu)
    edges = {(BODY_FRAME, LIDAR_FRAME): T_base_velo}
    recorded = []
    pictures = []
    for number in cameras:
        camera, T_cam_velo = calibration.camera(number, transport)
        edges[(LIDAR_FRAME, camera.frame_id)] = inverse(T_cam_velo)
        recorded.append(camera)
        pictures.append(_stream(drive, f"image_{number}", "*.png", timestamps))
    lap_ns = _lap_ns(sweeps) if loop > 1 else 0
    one_lap = _poses_from_sweeps(sweeps, T_base_velo) if odometry == "sweeps" else _poses(drive, sweeps)
    poses = {
        stamp_ns + lap * lap_ns: T_odom_base
        for lap in range(loop)
        for stamp_ns, T_odom_base in _lap_poses(one_lap, lap).items()
    }
    if odometry == "sweeps":
        first, last = min(sweeps.files), max(sweeps.files)
        poses = _with_half_turns(
            poses, (ends_ns[first] - sweeps.stamp_ns(first), ends_ns[last] - sweeps.stamp_ns(last))
        )

    recording = Recording(recorded, LIDAR_TOPIC)
    first_ns = min(stream.stamp_ns(min(stream.files)) for stream in [sweeps, *pictures])
    recording.add_static(min([first_ns, *poses]), edges)
    for stamp_ns, T_odom_base in poses.items():
        recording.add_pose(stamp_ns, {(FIXED_FRAME, BODY_FRAME): T_odom_base})
    for lap in range(loop):
        shift_ns = lap * lap_ns
        for camera, stream in zip(recorded, pictures, strict=True):
            for frame, path in stream.files.items():
                recording.add_picture(camera, stream.stamp_ns(frame) + shift_ns, path)
        for frame, path in sweeps.files.items():
            read = partial(read_velodyne, path, sweeps.stamp_ns(frame) + shift_ns)
            recording.add_sweep(ends_ns[frame] + shift_ns, read)
    return recording.write(out, progress=progress)


def read_velodyne(path: Path, stamp_ns: int) -> PointCloud:
    """A `.bin` file, float32 x y z reflectance, as a cloud with the fields x, y, z and intensity."""
    try:
        values = np.fromfile(path, "<f4")
    except OSError as error:
        raise MessageError(f"sweep {path}: {error}") from error
    if path.stat().st_size % 16:
        raise MessageError(f"sweep {path}: 16 bytes a point wanted, {path.stat().st_size} bytes seen: truncated?")
    points = values.reshape(-1, 4)
    columns = {name: points[:, index] for index, name in enumerate(("x", "y", "z", "intensity"))}
    return cloud_from_columns(LIDAR_FRAME, stamp_ns, columns)


def read_timestamps(path: Path) -> list[int]:
    """One stamp a row, nanoseconds since 1970, of a KITTI file; it names no time zone, and UTC is assumed."""
    try:
        rows = path.read_text(encoding="ascii").splitlines()
        return [_timestamp_ns(row) for row in rows if row.strip()]
    except (OSError, ValueError) as error:
        raise ConfigError(f"timestamps {path}: {error}") from error


def _timestamp_ns(text: str) -> int:
    """Nanoseconds of a row as 2011-09-26 13:02:25.961661696; datetime itself stops at microseconds."""
    seconds, _, fraction = text.strip().partition(".")
    instant = datetime.strptime(seconds, "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc)
    return int(instant.timestamp()) * 1_000_000_000 + int(fraction.ljust(9, "0")[:9])


def _rigid_from(path: Path) -> NDArray[np.float64]:
    table = read_table(path)
    matrix = np.column_stack([numbers(table, "R", (3, 3), path), numbers(table, "T", (3,), path)])
    return nearest_rigid(matrix, str(path))


def _stream(drive: Path, sensor: str, pattern: str, timestamps: Path | None) -> _Stream:
    folder = require_folder(drive / sensor / "data", f"KITTI {sensor}")
    files = {int(path.stem): path for path in sorted(folder.glob(pattern)) if path.stem.isdigit()}
    if not files:
        raise ConfigError(f"KITTI {sensor}: files {pattern} wanted, {folder} has none")
    path = _timestamps_path(drive, sensor, "", timestamps)
    stamps_ns = read_timestamps(require_file(path, f"timestamps of {sensor}"))
    if len(stamps_ns) <= max(files):
        raise ConfigError(f"timestamps {path}: a row for frame {max(files)} wanted, {len(stamps_ns)} rows seen")
    return _Stream(files, stamps_ns)


def _timestamps_path(drive: Path, sensor: str, which: str, timestamps: Path | None) -> Path:
    if timestamps is None:
        return drive / sensor / f"timestamps{which}.txt"
    return timestamps / f"{sensor.removesuffix('_points')}_timestamps{which}.txt"


def _sweep_ends(drive: Path, sweeps: _Stream, timestamps: Path | None) -> list[int]:
    """When each turn ended; where nobody says, the sweep's own stamp."""
    path = _timestamps_path(drive, "velodyne_points", "_end", timestamps)
    if not path.is_file():
        return sweeps.stamps_ns
    ends_ns = read_timestamps(path)
    if len(ends_ns) != len(sweeps.stamps_ns):
        raise ConfigError(f"timestamps {path}: {len(sweeps.stamps_ns)} rows wanted, {len(ends_ns)} seen")
    return ends_ns


def _lap_ns(sweeps: _Stream) -> int:
    """How far a repetition is moved: from the first sweep to the last, and one median period more."""
    if len(sweeps.stamps_ns) < 2:
        raise ConfigError("loop: a drive of one frame has no period to repeat it with")
    period_ns = int(np.median(np.diff(sweeps.stamps_ns)))
    return sweeps.stamp_ns(max(sweeps.files)) - sweeps.stamp_ns(min(sweeps.files)) + period_ns


def _poses(drive: Path, sweeps: _Stream) -> dict[int, NDArray[np.float64]]:
    """`T_odom_base` by stamp, from OXTS packets; empty where not every sweep has one, since none is invented."""
    if not (drive / "oxts" / "data").is_dir():
        _log.info("KITTI drive %s has no oxts: the bag has no odometry", drive)
        return {}
    packets = _stream(drive, "oxts", "*.txt", None)
    missing = sorted(set(sweeps.files) - set(packets.files))
    if missing:
        _log.warning("KITTI drive %s: %d sweeps have no OXTS packet (first: %d); the bag has no odometry",
                     drive, len(missing), missing[0])  # fmt: skip
        return {}
    T_odom_base = poses_from_oxts([read_oxts(path) for path in packets.files.values()])
    return {packets.stamp_ns(frame): T for frame, T in zip(packets.files, T_odom_base, strict=True)}


def _poses_from_sweeps(sweeps: _Stream, T_base_velo: NDArray[np.float64]) -> dict[int, NDArray[np.float64]]:
    """`T_odom_base` by stamp, estimated; `odom` is the first."""
    frames = sorted(sweeps.files)
    scans = (scan_from_cloud(read_velodyne(sweeps.files[frame], sweeps.stamp_ns(frame)))[0] for frame in frames)
    T_odom_base = [T_base_velo @ T @ inverse(T_base_velo) for T in poses_from_sweeps(scan.points for scan in scans)]
    return dict(zip(map(sweeps.stamp_ns, frames), T_odom_base, strict=True))


def _with_half_turns(
    poses: dict[int, NDArray[np.float64]], half_turns_ns: tuple[int, int]
) -> dict[int, NDArray[np.float64]]:
    """The first and the last step go on over the half turns before the first stamp and after the last, in which
    pictures were taken too."""
    if len(poses) < 2:
        return poses
    (first_ns, T_first), (second_ns, T_second), *_ = poses.items()
    *_, (before_ns, T_before), (last_ns, T_last) = poses.items()
    back = log_se3(inverse(T_second) @ T_first) * half_turns_ns[0] / (second_ns - first_ns)
    ahead = log_se3(inverse(T_before) @ T_last) * half_turns_ns[1] / (last_ns - before_ns)
    return {
        first_ns - half_turns_ns[0]: T_first @ exp_se3(back),
        **poses,
        last_ns + half_turns_ns[1]: T_last @ exp_se3(ahead),
    }


def _lap_poses(poses: dict[int, NDArray[np.float64]], lap: int) -> dict[int, NDArray[np.float64]]:
    """The poses of one repetition: across the seam the vehicle drives on as in its last step, it does not jump."""
    if lap == 0 or len(poses) < 2:
        return poses
    T = list(poses.values())
    T_lap = T[-1] @ inverse(T[-2]) @ T[-1] @ inverse(T[0])
    moved = np.linalg.matrix_power(T_lap, lap)
    return {stamp_ns: moved @ T_odom_base for stamp_ns, T_odom_base in poses.items()}
