"""A drive as a rosbag2 that looks recorded, with the truth on topics of its own, and the parameter file beside it.

| topic                            | type              | what                                                      |
|----------------------------------|-------------------|-----------------------------------------------------------|
| /CAMERA/image_raw, + /compressed | (Compressed)Image | rgb8, or JPEG                                             |
| /CAMERA/camera_info              | CameraInfo        | with the stamp of each picture                            |
| /points                          | PointCloud2       | x y z intensity ring time; stamped when it looks ahead    |
| /tf, /tf_static, /clock          |                   | odom to base_link at 100 Hz, and the clock; the mounting  |
| /truth/CAMERA/labels             | Image mono8       | train ids, 255 where the lens sees nothing                |
| /truth/CAMERA/instances          | Image mono16      | instance ids, 0 for none                                  |
| /truth/CAMERA/depth              | Image 32FC1       | z in the optical frame, metres; inf in the sky            |
| /truth/points                    | PointCloud2       | of each point of /points, in order: x y z without noise;  |
|                                  |                   | time; vx vy vz of its thing in odom; class_id;            |
|                                  |                   | instance_id; in_view, visible: bit k is camera k, in its  |
|                                  |                   | exposure nearest to the sweep's stamp                     |
| /truth/boxes                     | MarkerArray       | a cube for each countable thing: ns class, id track       |
| /truth/label_info                | LabelInfo         | what the train ids mean                                   |
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from seg_perception.bags import BagWriter
from seg_perception.config import parameter_file, parameters_beside
from seg_perception.geometry.transforms import quat_xyzw_from_matrix
from seg_perception.labels import Taxonomy
from seg_perception.messages.camera_info import record_of
from seg_perception.messages.header import header_fields
from seg_perception.messages.image import compressed_fields
from seg_perception.messages.pointcloud import cloud_from_columns
from seg_perception.messages.scene import ADD, CUBE, MARKER
from seg_perception.messages.transforms import StampedTransform
from seg_perception.simulation.config import CameraMount
from seg_perception.simulation.drive import Drive, TrackedBox
from seg_perception.simulation.lidar import Sweep
from seg_perception.simulation.truth import Agreement, Sight, agreement

EPOCH_NS = 1_700_000_000_000_000_000
"""Stamp of the drive's time 0."""
FIXED_FRAME, BASE_FRAME, LIDAR_FRAME = "odom", "base_link", "lidar"
POINTS_TOPIC, TRUTH_POINTS_TOPIC, BOXES_TOPIC = "/points", "/truth/points", "/truth/boxes"
TAXONOMY = "cityscapes"
_POSE_RATE = 100.0
_LEAD, _TRAIL = 0.3, 0.5  # seconds of /tf before and after
_READ_OUT = 0.012  # seconds from an exposure to its message
_BOX_RANGE = 100.0
_JPEG_QUALITY = 92

_Event = tuple[float, int, Callable[[], None]]


@dataclass(frozen=True, slots=True)
class Simulated:
    """What a simulation left behind, and how it went. frames, sweeps: how many, in `seconds` of work."""

    bag: Path
    config: Path
    counts: dict[str, int]
    agreement: Agreement
    frames: int
    sweeps: int
    seconds: float


def stamp_of(seconds: float) -> int:
    """The stamp of an instant of the drive, nanoseconds."""
    return EPOCH_NS + round(seconds * 1e9)


def image_topic(mount: CameraMount, transport: str) -> str:
    """Where a camera's pictures go."""
    return f"/{mount.name}/image_raw" + ("" if transport == "raw" else "/compressed")


def write_drive(drive: Drive, out: Path, *, progress: bool = False) -> Simulated:
    """Simulate everything in order of time and write it. Raises BagError where `out` exists."""
    config = parameters_beside(out)
    started = time.perf_counter()
    with BagWriter(out, compression="chunk") as writer:
        recorder = _Recorder(drive, writer)
        events = sorted(recorder.events(), key=lambda event: event[:2])
        heavy = sum(1 for event in events if event[1] >= _HEAVY)
        with tqdm(
            total=heavy, desc=f"simulating {out.name}", unit="image|sweep", disable=None if progress else True
        ) as bar:
            for _, order, write in events:
                write()
                bar.update(order >= _HEAVY)
    config.write_text(_settings(drive), encoding="utf-8")
    frames = sum(len(drive.frame_times(index)) for index in range(len(drive.cameras)))
    return Simulated(
        out,
        config,
        recorder.counts,
        recorder.check.total,
        frames,
        len(drive.sweep_times()),
        time.perf_counter() - started,
    )


_STATIC, _POSE, _HEAVY = 0, 1, 2  # of what happens at the same instant, the smaller number goes first


@dataclass(slots=True)
class _Check:
    """Compares sweeps with pictures as soon as both are there, and keeps neither longer than needed."""

    total: Agreement = field(default_factory=lambda: Agreement(0, 0, 0))
    frames: dict[tuple[int, int], Any] = field(default_factory=dict)
    waiting: dict[tuple[int, int], list[tuple[Sweep, Sight]]] = field(default_factory=dict)

    def add_frame(self, camera: int, index: int, frame: Any) -> None:
        self.frames = {key: kept for key, kept in self.frames.items() if key[0] != camera or key[1] > index - 12}
        self.frames[camera, index] = frame
        for sweep, seen in self.waiting.pop((camera, index), []):
            self.total = self.total + agreement(sweep, seen, frame)

    def add_sweep(self, camera: int, index: int, sweep: Sweep, seen: Sight) -> None:
        if (camera, index) in self.frames:
            self.total = self.total + agreement(sweep, seen, self.frames[camera, index])
        else:
            self.waiting.setdefault((camera, index), []).append((sweep, seen))


class _Recorder:
    """Turns instants into messages."""

    def __init__(self, drive: Drive, writer: BagWriter) -> None:
        self.drive, self.writer, self.check = drive, writer, _Check()
        self.counts: dict[str, int] = {}
        self._taxonomy = Taxonomy.load(TAXONOMY)

    def events(self) -> Iterator[_Event]:
        """Everything that happens: when it is recorded, its order at that instant, what writes it."""
        drive = self.drive
        yield -_LEAD, _STATIC, self._write_static
        steps = np.arange(round(-_LEAD * _POSE_RATE), round((drive.config.seconds + _TRAIL) * _POSE_RATE) + 1)
        for instant in steps / _POSE_RATE:
            yield float(instant), _POSE, lambda t=float(instant): self._write_pose(t)  # type: ignore[misc]
        half = 0.5 / drive.config.lidar.rate_hz
        for index, instant in enumerate(drive.sweep_times()):
            yield float(instant) + half, _HEAVY, lambda i=index, t=float(instant): self._write_sweep(i, t + half)  # type: ignore[misc]
        for camera in range(len(drive.cameras)):
            for index, instant in enumerate(drive.frame_times(camera)):
                at = float(instant) + _READ_OUT
                yield at, _HEAVY + 1 + camera, lambda c=camera, i=index, t=at: self._write_frame(c, i, t)  # type: ignore[misc]

    def _count(self, topic: str) -> str:
        self.counts[topic] = self.counts.get(topic, 0) + 1
        return topic

    def _write_static(self) -> None:
        stamp = stamp_of(-_LEAD)
        edges = [StampedTransform(BASE_FRAME, LIDAR_FRAME, stamp, self.drive.config.lidar.T_base_lidar)]
        edges += [
            StampedTransform(BASE_FRAME, mount.frame_id, stamp, mount.T_base_cam) for mount in self.drive.config.cameras
        ]
        self.writer.write_tf(self._count("/tf_static"), edges, stamp)
        self.writer.write_label_info(self._count("/truth/label_info"), self._taxonomy, stamp)

    def _write_pose(self, instant: float) -> None:
        stamp = stamp_of(instant)
        T = self.drive.T_world_base(instant)
        self.writer.write_clock(stamp)
        self._count("/clock")
        self.writer.write_tf(self._count("/tf"), [StampedTransform(FIXED_FRAME, BASE_FRAME, stamp, T)], stamp)

    def _write_sweep(self, index: int, at: float) -> None:
        sweep = self.drive.sweep(index)
        stamp, log_ns = stamp_of(sweep.time), stamp_of(at)
        offsets = (sweep.times - sweep.time).astype(np.float32)
        x, y, z = sweep.points.T
        columns = {"x": x, "y": y, "z": z, "intensity": sweep.intensity, "ring": sweep.ring, "time": offsets}
        self.writer.write_cloud(self._count(POINTS_TOPIC), cloud_from_columns(LIDAR_FRAME, stamp, columns), log_ns)
        in_view, visible = np.zeros(len(sweep), np.uint8), np.zeros(len(sweep), np.uint8)
        for camera in range(len(self.drive.cameras)):
            seen = self.drive.sight(sweep, camera)
            in_view |= seen.in_view.astype(np.uint8) << camera
            visible |= seen.visible.astype(np.uint8) << camera
            self.check.add_sweep(camera, self.drive.nearest_frame(camera, sweep.time), sweep, seen)
        x, y, z = sweep.exact.T
        vx, vy, vz = self.drive.velocities(sweep).T
        truth = {"x": x, "y": y, "z": z, "time": offsets, "vx": vx, "vy": vy, "vz": vz, "instance_id": sweep.instance}
        truth |= {"class_id": sweep.class_id, "in_view": in_view, "visible": visible}
        self.writer.write_cloud(self._count(TRUTH_POINTS_TOPIC), cloud_from_columns(LIDAR_FRAME, stamp, truth), log_ns)
        boxes = {"markers": [self._marker(box, stamp) for box in self._near_boxes(sweep.time)]}
        self.writer.write(self._count(BOXES_TOPIC), "visualization_msgs/msg/MarkerArray", boxes, log_ns)

    def _near_boxes(self, instant: float) -> list[TrackedBox]:
        here = self.drive.T_world_base(instant)[:3, 3]
        return [box for box in self.drive.boxes(instant) if np.linalg.norm(box.T_world_box[:3, 3] - here) < _BOX_RANGE]

    def _write_frame(self, camera: int, index: int, at: float) -> None:
        frame, mount = self.drive.frame(camera, index), self.drive.config.cameras[camera]
        self.check.add_frame(camera, index, frame)
        stamp, log_ns, transport = stamp_of(frame.time), stamp_of(at), self.drive.config.transport
        topic = self._count(image_topic(mount, transport))
        self.writer.write_camera_info(
            self._count(f"/{mount.name}/camera_info"), record_of(mount.model, mount.frame_id, stamp), log_ns
        )
        if transport == "raw":
            self.writer.write_image(topic, stamp, mount.frame_id, frame.pixels, log_ns=log_ns)
        else:
            jpeg = compressed_fields(frame.pixels, "jpeg", _JPEG_QUALITY)
            self.writer.write_compressed(topic, stamp, mount.frame_id, jpeg["data"], jpeg["format"], log_ns)
        for what, encoding, image in (
            ("labels", "mono8", frame.labels),
            ("instances", "mono16", frame.instances),
            ("depth", "32FC1", frame.depth),
        ):
            fields = {"header": header_fields(stamp, mount.frame_id), **_plain_image(image, encoding)}
            self.writer.write(self._count(f"/truth/{mount.name}/{what}"), "sensor_msgs/msg/Image", fields, log_ns)

    def _marker(self, box: TrackedBox, stamp: int) -> dict[str, Any]:
        """A visualization_msgs/Marker: a translucent cube in the colour of its class."""
        red, green, blue = (float(value) / 255.0 for value in self._taxonomy.colors[box.class_id])
        position = dict(zip("xyz", box.T_world_box[:3, 3].tolist(), strict=True))
        turn = dict(zip("xyzw", quat_xyzw_from_matrix(box.T_world_box).tolist(), strict=True))
        return {
            **MARKER,
            "header": header_fields(stamp, FIXED_FRAME),
            "ns": self._taxonomy.names[box.class_id],
            "id": box.track,
            "type": CUBE,
            "action": ADD,
            "pose": {"position": position, "orientation": turn},
            "scale": dict(zip("xyz", box.size.tolist(), strict=True)),
            "color": {"r": red, "g": green, "b": blue, "a": 0.35},
            "lifetime": {"sec": 0, "nanosec": 200_000_000},
        }


def _plain_image(image: NDArray, encoding: str) -> dict[str, Any]:
    """The fields of a sensor_msgs/Image of one channel of any sample type."""
    samples = np.ascontiguousarray(image)
    height, width = samples.shape
    return {
        "height": height,
        "width": width,
        "encoding": encoding,
        "is_bigendian": 0,
        "step": width * samples.itemsize,
        "data": samples.reshape(-1).view(np.uint8),
    }


def _readout(mount: CameraMount) -> dict[str, float]:
    """From the first row to the last, where these are exposed one after the other."""
    readout_ms = round(mount.row_time_us * (mount.model.height - 1) * 1e-3, 6)
    return {"readout_ms": readout_ms} if readout_ms else {}


def _settings(drive: Drive) -> str:
    """The parameter file with which node and replay read the bag."""
    transport = drive.config.transport
    cameras = {
        mount.name: {
            "image_topic": image_topic(mount, transport),
            "info_topic": f"/{mount.name}/camera_info",
            "transport": "raw" if transport == "raw" else "compressed",
            "rectified": False,
            **_readout(mount),
        }
        for mount in drive.config.cameras
    }
    return parameter_file(cameras, POINTS_TOPIC, FIXED_FRAME)
