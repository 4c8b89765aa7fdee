"""nuScenes key frames, described by an `info.json` in the layout of MMDetection3D's info files (version 1.1).

Each camera looks at its own instant. The info file gives no vehicle pose for it, but its `lidar2cam` was computed with
one:

    T_cam_lidar(stored) = T_cam_ego · T_ego(t_cam)_ego(t_lidar) · T_ego_lidar

so that the pose is what is left when the two fixed extrinsics are taken away. These poses are what goes to /tf as
`odom` -> `base_link`; `odom` is the vehicle at the first sweep's instant. With `poses="twist"` one constant twist for
each key frame, fitted to the cameras' poses, takes their place.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from seg_perception.datatypes import PointCloud
from seg_perception.errors import CalibrationError, ConfigError, MessageError
from seg_perception.geometry.camera import CameraModel
from seg_perception.geometry.transforms import inverse
from seg_perception.importers.calibration import nearest_rigid
from seg_perception.importers.recording import (
    FIXED_FRAME,
    Imported,
    RecordedCamera,
    Recording,
    picture_size,
    require_file,
)
from seg_perception.importers.twist import exp_se3, fit_twist
from seg_perception.messages.pointcloud import cloud_from_columns

Poses = Literal["per-camera", "twist"]

LIDAR_TOPIC = "/lidar_top/points"
BODY_FRAME = "base_link"
LIDAR_FRAME = "lidar_top"
_BYTES_A_POINT = 20
_EXTRINSIC_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One camera of one key frame. T_ego_cam: fixed. T_cam_lidar: with the vehicle's motion between the two stamps."""

    camera: str
    picture: Path
    stamp_ns: int
    K: NDArray[np.float64]
    T_ego_cam: NDArray[np.float64]
    T_cam_lidar: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class KeyFrame:
    """A sweep and the views nearest to it. T_global_ego: the vehicle at the sweep's stamp."""

    sweep: Path
    stamp_ns: int
    T_global_ego: NDArray[np.float64]
    T_ego_lidar: NDArray[np.float64]
    views: tuple[View, ...]

    def moved(self, view: View) -> NDArray[np.float64]:
        """`T_ego(t_lidar)_ego(t_cam)`: how the vehicle moved from the sweep to the picture, as the data set knew it."""
        return self.T_ego_lidar @ inverse(view.T_cam_lidar) @ inverse(view.T_ego_cam)

    def seconds(self, view: View) -> float:
        """From the sweep's stamp to the picture's."""
        return (view.stamp_ns - self.stamp_ns) * 1e-9

    def twist(self, hold_out: Collection[str] = ()) -> NDArray[np.float64]:
        """The vehicle's twist (6,), fitted to the poses of all cameras but those held out."""
        fitted = [view for view in self.views if view.camera not in hold_out]
        return fit_twist([self.moved(view) for view in fitted], [self.seconds(view) for view in fitted])


def import_nuscenes(
    folder: Path,
    out: Path,
    *,
    poses: Poses = "per-camera",
    hold_out: Sequence[str] = (),
    progress: bool = False,
) -> Imported:
    """Turn a folder of key frames into a bag; pictures keep their own bytes.

    poses: the vehicle at each picture's stamp: "per-camera" from that camera's own `lidar2cam`, or by a "twist" fitted
    to all of a key frame's cameras but those of `hold_out` (names as CAM_FRONT), whose `lidar2cam` is then not used.
    Raises ConfigError for what is missing, MessageError for broken files, CalibrationError.
    """
    frames = read_key_frames(folder)
    known = {view.camera for frame in frames for view in frame.views}
    if strangers := sorted(set(hold_out) - known):
        raise ConfigError(f"hold-out: cameras of {sorted(known)} wanted, {strangers} seen")
    if hold_out and poses != "twist":
        raise ConfigError(f"hold-out: poses 'twist' wanted, '{poses}' seen: nothing is fitted")
    cameras, edges = _rig(frames)
    recording = Recording(list(cameras.values()), LIDAR_TOPIC)
    first_ns = min(min([frame.stamp_ns, *(view.stamp_ns for view in frame.views)]) for frame in frames)
    recording.add_static(first_ns, edges)
    T_odom_global = inverse(frames[0].T_global_ego)
    for frame in frames:
        T_odom_ego = T_odom_global @ frame.T_global_ego
        recording.add_pose(frame.stamp_ns, {(FIXED_FRAME, BODY_FRAME): T_odom_ego})
        twist = frame.twist(hold_out) if poses == "twist" else None
        for view in frame.views:
            moved = frame.moved(view) if twist is None else exp_se3(twist * frame.seconds(view))
            recording.add_pose(view.stamp_ns, {(FIXED_FRAME, BODY_FRAME): T_odom_ego @ moved})
            recording.add_picture(cameras[view.camera], view.stamp_ns, view.picture)
        recording.add_sweep(frame.stamp_ns, partial(read_sweep, frame.sweep, frame.stamp_ns))
    return recording.write(out, progress=progress)


def read_key_frames(folder: Path) -> list[KeyFrame]:
    """The key frames of `info.json`, by stamp. Raises ConfigError; CalibrationError for a matrix that is not rigid."""
    path = require_file(folder / "info.json", "nuScenes info")
    try:
        samples = json.loads(path.read_text(encoding="utf-8"))["data_list"]
        frames = [_key_frame(folder, sample, f"{path}: key frame {index}") for index, sample in enumerate(samples)]
    except (OSError, AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"nuScenes info {path}: {type(error).__name__}: {error}") from error
    if not frames:
        raise ConfigError(f"nuScenes info {path}: at least one key frame wanted, none seen")
    return sorted(frames, key=lambda frame: frame.stamp_ns)


def read_sweep(path: Path, stamp_ns: int) -> PointCloud:
    """A `.pcd.bin` file, float32 x y z intensity ring, as a cloud of these fields, ring as uint16."""
    try:
        values = np.fromfile(path, "<f4")
    except OSError as error:
        raise MessageError(f"sweep {path}: {error}") from error
    if path.stat().st_size % _BYTES_A_POINT:
        raise MessageError(
            f"sweep {path}: {_BYTES_A_POINT} bytes a point wanted, {path.stat().st_size} bytes seen: truncated?"
        )
    points = values.reshape(-1, 5)
    columns = {name: points[:, index] for index, name in enumerate(("x", "y", "z", "intensity"))}
    return cloud_from_columns(LIDAR_FRAME, stamp_ns, {**columns, "ring": points[:, 4].astype(np.uint16)})


def _key_frame(folder: Path, sample: Mapping[str, Any], where: str) -> KeyFrame:
    views = tuple(
        View(
            camera=name,
            picture=_find(folder, name, view["img_path"]),
            stamp_ns=_stamp_ns(view["timestamp"]),
            K=np.array(view["cam2img"], np.float64),
            T_ego_cam=nearest_rigid(view["cam2ego"], f"{where}: {name}: cam2ego"),
            T_cam_lidar=nearest_rigid(view["lidar2cam"], f"{where}: {name}: lidar2cam"),
        )
        for name, view in sample["images"].items()
    )
    lidar = sample["lidar_points"]
    return KeyFrame(
        sweep=_find(folder, "LIDAR_TOP", lidar["lidar_path"]),
        stamp_ns=_stamp_ns(sample["timestamp"]),
        T_global_ego=nearest_rigid(sample["ego2global"], f"{where}: ego2global"),
        T_ego_lidar=nearest_rigid(lidar["lidar2ego"], f"{where}: lidar2ego"),
        views=views,
    )


def _stamp_ns(seconds: float) -> int:
    """nuScenes counts microseconds; as float64 seconds they are exact to a quarter of one: rounding restores them."""
    return round(seconds * 1e6) * 1000


def _find(folder: Path, sensor: str, name: str) -> Path:
    """A file beside the info file, or where the data set keeps it."""
    in_data_set = folder / "samples" / sensor / name
    return in_data_set if in_data_set.is_file() else require_file(folder / name, f"nuScenes {sensor}")


def _rig(frames: Sequence[KeyFrame]) -> tuple[dict[str, RecordedCamera], dict[tuple[str, str], NDArray[np.float64]]]:
    """The cameras, and the transforms that do not move; refuses key frames of differently calibrated drives."""
    cameras: dict[str, RecordedCamera] = {}
    edges = {(BODY_FRAME, LIDAR_FRAME): frames[0].T_ego_lidar}
    for frame in frames:
        seen = {(BODY_FRAME, LIDAR_FRAME): frame.T_ego_lidar}
        for view in frame.views:
            if view.camera not in cameras:
                cameras[view.camera] = _camera(view)
                edges[(BODY_FRAME, cameras[view.camera].frame_id)] = view.T_ego_cam
            seen[(BODY_FRAME, cameras[view.camera].frame_id)] = view.T_ego_cam
        for edge, T in seen.items():
            if not np.allclose(T, edges[edge], rtol=0.0, atol=_EXTRINSIC_TOLERANCE):
                raise CalibrationError(
                    f"nuScenes key frame {frame.stamp_ns}: {edge[1]} is mounted otherwise than in the first key frame; "
                    "key frames of one drive wanted"
                )
    return cameras, edges


def _camera(view: View) -> RecordedCamera:
    name = view.camera.lower()
    width, height = picture_size(view.picture)
    return RecordedCamera(name, f"{name}_optical", CameraModel(width, height, view.K), transport="jpeg")
