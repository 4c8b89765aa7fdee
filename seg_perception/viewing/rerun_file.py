"""A Rerun recording of a labelled drive or of a map: the one door to the rerun library.

| entity                   | what                                                                            |
|--------------------------|---------------------------------------------------------------------------------|
| /                        | names and colours of the classes                                                |
| world/points             | each sweep, coloured by class                                                   |
| world/objects            | boxes, with class and track id                                                  |
| world/map                | the map                                                                         |
| world/trajectory, /vehicle | where the vehicle goes, and is                                                |
| world/cameras/FRAME      | where a camera is, and its pinhole; below it `image`, and `labels` over it       |

The timeline `stamp` is that of the messages' own stamps. A pinhole has no distortion: points that Rerun draws into a
raw image lie off by that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from seg_perception.bags import BagMessage
from seg_perception.datatypes import UNKNOWN
from seg_perception.errors import ConfigError, SegPerceptionError
from seg_perception.geometry.transforms import quat_xyzw_from_matrix
from seg_perception.labels import Taxonomy
from seg_perception.messages.camera_info import decode_camera_info
from seg_perception.messages.header import stamp_ns
from seg_perception.messages.image import decode
from seg_perception.offline import IMAGE_TYPES
from seg_perception.viewing.coloring import class_colors
from seg_perception.viewing.drives import LabelledDrive
from seg_perception.viewing.scenes import Scene
from seg_perception.viewing.shown import Points, ShownSweep

_POINT_M, _VOXEL_M = 0.04, 0.08  # radii
_JPEG_QUALITY = 85
_SLACK_NS = 100_000_000  # images taken so long before the first sweep, or after the last, belong to them
_LABELS = ("label_image", "labels")  # last part of the topics of label images
_OTHER = ("confidence", "overlay", "instances", "depth")  # and of those that are left out
_INFO = "sensor_msgs/msg/CameraInfo"


def write(path: Path, scene: Scene, limit: int | None = None) -> str:
    """Write the recording; says what is in it. limit: of sweeps. Raises ConfigError where rerun is not installed."""
    rr = _rerun()
    recording = rr.RecordingStream("seg_perception", recording_id=path.stem)
    recording.save(str(path))
    try:
        return _write(rr, recording, scene, limit)
    except BaseException:
        path.unlink(missing_ok=True)  # half a recording would pass for a whole one
        raise
    finally:
        recording.disconnect()


def _write(rr: Any, recording: Any, scene: Scene, limit: int | None) -> str:
    recording.log("/", _annotations(rr, scene.taxonomy), static=True)
    recording.log("world", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
    if scene.drive is not None:
        return _Drive(rr, recording, scene.drive).write(limit)
    assert scene.map is not None
    recording.log("world/map", _points(rr, scene.map, _VOXEL_M), static=True)
    return f"{len(scene.map)} voxels"


class _Drive:
    """Writes one drive, part after part; Rerun puts them in order by their stamps."""

    def __init__(self, rr: Any, recording: Any, drive: LabelledDrive) -> None:
        self._rr, self._recording, self._drive = rr, recording, drive
        self._map: Points | None = None

    def write(self, limit: int | None) -> str:
        sweeps, boxes = [], 0
        for sweep in islice(self._drive.sweeps(), limit):
            sweeps.append((sweep.stamp_ns, sweep.T_frame_vehicle[:3, 3]))
            boxes += len(sweep.boxes)
            self._write_sweep(sweep)
        if self._drive.moves and sweeps:
            path = np.array([place for _, place in sweeps])
            self._recording.log("world/trajectory", self._rr.LineStrips3D([path], radii=0.1), static=True)
        frames: set[str] = set()
        images = 0
        for frame in self._write_images(sweeps[0][0], sweeps[-1][0]) if sweeps else ():
            frames.add(frame)
            images += 1
        self._arrange(sorted(frames))
        return f"{len(sweeps)} sweeps, {boxes} boxes, {images} images of {len(frames)} cameras"

    def _write_sweep(self, sweep: ShownSweep) -> None:
        rr, recording, drive = self._rr, self._recording, self._drive
        self._at(sweep.stamp_ns)
        recording.log("world/points", _points(rr, sweep.points, _POINT_M))
        T = sweep.T_frame_vehicle
        recording.log("world/vehicle", rr.Transform3D(translation=T[:3, 3], mat3x3=T[:3, :3]))
        if drive.boxes_topic:
            recording.log("world/objects", _boxes(rr, sweep, drive.taxonomy))
        newest = drive.map_at(sweep.stamp_ns)
        if newest is not None and newest is not self._map:
            recording.log("world/map", _points(rr, newest, _VOXEL_M))
        self._map = newest

    def _write_images(self, first_ns: int, last_ns: int) -> Iterator[str]:
        """Pictures and label images from the first sweep to the last, and the frame of each."""
        bag = self._drive.bag
        chosen = {
            name for name, type in bag.topics.items() if type in IMAGE_TYPES.values() and _shown(name, bag.topics)
        }
        infos = {name for name, type in bag.topics.items() if type == _INFO}
        for message in bag.messages(chosen | infos):
            try:
                stamp = stamp_ns(message.msg.header, message.topic)
                if first_ns - _SLACK_NS <= stamp <= last_ns + _SLACK_NS:
                    self._at(stamp)
                    if message.topic in infos:
                        self._write_camera(message, stamp)
                    else:
                        yield self._write_image(message)
            except SegPerceptionError:  # damaged, or nowhere: it is left out, as it is of the labels
                continue

    def _write_camera(self, message: BagMessage, stamp: int) -> None:
        info = decode_camera_info(message.msg)
        T = self._drive.tree.T(self._drive.frame, info.frame_id, stamp)
        at = f"world/cameras/{info.frame_id}"
        self._recording.log(at, self._rr.Transform3D(translation=T[:3, 3], mat3x3=T[:3, :3]))
        K = np.asarray(info.k, np.float64).reshape(3, 3)
        self._recording.log(f"{at}/image", self._rr.Pinhole(image_from_camera=K, width=info.width, height=info.height))

    def _write_image(self, message: BagMessage) -> str:
        rr, image = self._rr, decode(message.msg, message.topic)
        at = f"world/cameras/{image.frame_id}/image"
        if _what(message.topic) in _LABELS:
            self._recording.log(f"{at}/labels", rr.SegmentationImage(image.pixels[:, :, 0], opacity=0.5))
        else:
            self._recording.log(at, rr.Image(image.pixels).compress(jpeg_quality=_JPEG_QUALITY))
        return image.frame_id

    def _arrange(self, frames: list[str]) -> None:
        """The world beside the cameras."""
        rrb = self._rr.blueprint
        views = [
            rrb.Spatial2DView(
                origin=f"world/cameras/{frame}/image",
                contents=["$origin/**", "world/points", "world/objects"],
                name=frame,
            )
            for frame in frames
        ]
        world = rrb.Spatial3DView(origin="world", name="world")
        layout = rrb.Horizontal(world, rrb.Vertical(*views), column_shares=[3, 2]) if views else world
        self._recording.send_blueprint(rrb.Blueprint(layout, collapse_panels=True))

    def _at(self, stamp: int) -> None:
        self._recording.set_time("stamp", timestamp=np.datetime64(stamp, "ns"))


def _points(rr: Any, points: Points, radius_m: float) -> Any:
    return rr.Points3D(points.xyz, class_ids=points.class_id.astype(np.uint16), radii=radius_m)


def _boxes(rr: Any, sweep: ShownSweep, taxonomy: Taxonomy) -> Any:
    boxes = sweep.boxes
    names = [
        "" if train_id == UNKNOWN else f"{taxonomy.names[train_id]} {track}"
        for train_id, track in zip(boxes.class_id.tolist(), boxes.track_id.tolist(), strict=True)
    ]
    return rr.Boxes3D(
        centers=boxes.T_frame_box[:, :3, 3],
        half_sizes=boxes.size / 2,
        quaternions=quat_xyzw_from_matrix(boxes.T_frame_box),
        labels=names,
        show_labels=False,
        class_ids=boxes.class_id.astype(np.uint16),
    )


def _annotations(rr: Any, taxonomy: Taxonomy) -> Any:
    colors = class_colors(taxonomy)
    names = [*enumerate(taxonomy.names), (UNKNOWN, "unknown")]
    return rr.AnnotationContext([(number, name, colors[number].tolist()) for number, name in names])


def _what(topic: str) -> str:
    """`label_image` of `/node/front/label_image/compressed`."""
    parts = topic.split("/")
    return parts[-2] if parts[-1] == "compressed" else parts[-1]


def _shown(topic: str, topics: Iterable[str]) -> bool:
    """Whether a topic holds pictures or labels, and not what its compressed sibling holds too."""
    return _what(topic) not in _OTHER and f"{topic}/compressed" not in topics


def _rerun() -> Any:
    try:
        import rerun
        import rerun.blueprint
    except ImportError as error:
        raise ConfigError(
            f"a Rerun recording needs the rerun library, which `pip install rerun-sdk` brings: {error}"
        ) from error
    return rerun
