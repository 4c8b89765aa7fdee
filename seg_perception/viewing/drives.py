"""A bag of labelled clouds as sweeps to look at, with the boxes, the map and the pictures that belong to them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_perception.bags import BagMessage, BagReader
from seg_perception.config import MotionConfig
from seg_perception.datatypes import NO_INSTANCE, UNKNOWN, LidarScan, PointCloud
from seg_perception.errors import BagError, MessageError, TransformError
from seg_perception.geometry.motion import MovedSweep
from seg_perception.geometry.transforms import from_quat_translation
from seg_perception.labels import Taxonomy
from seg_perception.messages.header import time_ns
from seg_perception.messages.pointcloud import decode_cloud, scan_from_cloud
from seg_perception.offline import NODE, POINTS_TOPIC, VEHICLE_FRAME, recorded_transforms
from seg_perception.scene.voxel_map import MapCloud
from seg_perception.viewing.shown import Boxes, Points, ShownSweep, in_frame

CLOUD, MARKERS, DETECTIONS = (
    "sensor_msgs/msg/PointCloud2",
    "visualization_msgs/msg/MarkerArray",
    "vision_msgs/msg/Detection3DArray",
)
MAP_TOPIC = f"{NODE}/map"
TRUTH = "/truth/"
_OUR_POINTS = re.compile(rf"{NODE}(/\w+)?/points")
_CUBE, _ADD = 1, 0  # of visualization_msgs/Marker
_KEPT = 32  # sweeps held in memory
_BEFORE_NS, _AFTER_NS = 500_000_000, 2_000_000_000  # log time around a stamp in which messages of that stamp are found


class LabelledDrive:
    """An open bag that holds clouds with a field `class_id`.

    topic: of those clouds; by default the node's, of all LiDARs, or the truth of a simulated drive. fixed_frame: all is
    shown in it; where the bag does not lead there, in the frame of the first cloud. Sweeps that cannot be placed are
    passed over and counted in `missed`. Raises BagError where there is no such cloud.

    frame: what everything lies in. boxes_topic, map_topic: where boxes and maps come from; empty for none.
    """

    def __init__(self, bag: BagReader, taxonomy: Taxonomy, topic: str = "", fixed_frame: str = "odom") -> None:
        topics = bag.topics
        self.bag, self.taxonomy = bag, taxonomy
        ours = [name for name in topics if _OUR_POINTS.fullmatch(name)]  # one for each LiDAR
        self.topics = [topic] if topic else ours or [f"{TRUTH}points"]
        if any(topics.get(name) != CLOUD for name in self.topics):
            wanted = topic or f"{POINTS_TOPIC}, {NODE}/LIDAR/points or {TRUTH}points"
            raise BagError(f"bag {bag.path}: no labelled cloud on {wanted}; its topics are {list(topics)}")
        boxes = [f"{NODE}/objects", f"{NODE}/objects/markers", f"{TRUTH}boxes"]
        if self.topics[0].startswith(TRUTH):
            boxes = boxes[2:]
        self.boxes_topic = next((name for name in boxes if topics.get(name) in (MARKERS, DETECTIONS)), "")
        self.map_topic = MAP_TOPIC if topics.get(MAP_TOPIC) == CLOUD else ""
        self.tree = recorded_transforms(bag)
        self.missed = 0
        self._log_ns: list[int] = []  # of the sweeps that were come by so far
        self._recent: dict[int, ShownSweep] = {}
        self._forward = self._placed(None)
        self._map: tuple[int, Points | None] = (0, None)
        first = next((decode_cloud(m.msg, positions=False) for m in bag.messages(self.topics)), None)
        if first is None:
            raise BagError(f"bag {bag.path}: nothing on {self.topics}")
        self.frame = first.frame_id
        if self.tree.can_transform(fixed_frame, first.frame_id, first.stamp_ns):
            self.frame = fixed_frame
        self._motion = MotionConfig(fixed_frame=self.frame, mode="static" if self.frame == first.frame_id else "auto")

    @property
    def moves(self) -> bool:
        """Whether it is known how the vehicle moves, so that sweeps may be laid over each other."""
        return self._motion.mode != "static"

    @property
    def most(self) -> int:
        """How many sweeps there are at most."""
        return sum(self.bag.counts[topic] for topic in self.topics)

    def sweep(self, index: int) -> ShownSweep | None:
        """A sweep, counted from 0; None after the last."""
        if index not in self._recent and index < len(self._log_ns):
            for _, sweep in self._placed(self._log_ns[index]):
                self._keep(index, sweep)
                break
        while index >= len(self._log_ns):
            following = next(self._forward, None)
            if following is None:
                return None
            self._keep(len(self._log_ns), following[1])
            self._log_ns.append(following[0])
        return self._recent.get(index)

    def sweeps(self) -> Iterator[ShownSweep]:
        """All of them."""
        return (sweep for _, sweep in self._placed(None))

    def map_at(self, stamp_ns: int) -> Points | None:
        """The newest map that had been recorded by then."""
        log_ns, newest = self._map
        if not self.map_topic:
            return None
        if log_ns > stamp_ns:
            log_ns, newest = 0, None
        last = None
        for message in self.bag.messages({self.map_topic}, start_ns=log_ns + 1):
            if message.log_ns > stamp_ns:
                break
            last = message
        if last is not None:
            cloud = decode_cloud(last.msg)
            T = self.tree.T(self.frame, cloud.frame_id, cloud.stamp_ns)
            log_ns, newest = last.log_ns, in_frame(T, Points.of_map(_map_cloud(cloud)))
        self._map = log_ns, newest
        return newest

    def _keep(self, index: int, sweep: ShownSweep) -> None:
        self._recent[index] = sweep
        if len(self._recent) > _KEPT:
            del self._recent[next(iter(self._recent))]

    def _placed(self, start_ns: int | None) -> Iterator[tuple[int, ShownSweep]]:
        for message in self.bag.messages(self.topics, start_ns):
            scan = self._scan(message)
            sweep = MovedSweep(scan, self.tree, self._motion)
            try:
                T_frame_lidar = self.tree.T(self.frame, scan.frame_id, scan.stamp_ns)
            except TransformError:
                self.missed += start_ns is None
                continue
            points = in_frame(T_frame_lidar, _points(scan.cloud, sweep.points))
            T_frame_vehicle = T_frame_lidar
            if self.tree.can_transform(self.frame, VEHICLE_FRAME, scan.stamp_ns):
                T_frame_vehicle = self.tree.T(self.frame, VEHICLE_FRAME, scan.stamp_ns)
            yield message.log_ns, ShownSweep(scan.stamp_ns, points, self._boxes(scan.stamp_ns), T_frame_vehicle)

    def _scan(self, message: BagMessage) -> LidarScan:
        """The labelled sweep; where it holds labels alone, with the positions of the cloud of the same stamp."""
        labels = decode_cloud(message.msg, positions=False)
        if not labels.has("class_id"):
            raise MessageError(f"{message.topic}: cloud in frame '{labels.frame_id}': no field 'class_id' in it")
        if labels.has("x"):
            return scan_from_cloud(decode_cloud(message.msg))[0]
        inputs = {
            name for name, type in self.bag.topics.items() if type == CLOUD and not name.startswith((TRUTH, NODE))
        }
        for msg in self._around(inputs, labels.stamp_ns):
            if msg.width * msg.height == len(labels) and time_ns(msg.header.stamp) == labels.stamp_ns:
                scan, _ = scan_from_cloud(decode_cloud(msg))
                return LidarScan(labels.frame_id, scan.stamp_ns, scan.points, scan.stamps_ns, labels)
        raise BagError(
            f"bag {self.bag.path}: {message.topic} has no positions, and no cloud of the same stamp has them"
        )

    def _boxes(self, stamp_ns: int) -> Boxes:
        for msg in self._around({self.boxes_topic} if self.boxes_topic else set(), stamp_ns):
            header, boxes = _told_boxes(msg, self.taxonomy)
            if not boxes or time_ns(header.stamp) != stamp_ns:
                continue
            if not self.tree.can_transform(self.frame, header.frame_id, stamp_ns):
                break
            T, size, class_id, track_id = zip(*boxes, strict=True)
            T_frame_box = self.tree.T(self.frame, header.frame_id, stamp_ns) @ np.array(T)
            return Boxes(T_frame_box, np.array(size), np.array(class_id, np.uint8), np.array(track_id, np.int64))
        return Boxes.none()

    def _around(self, topics: set[str], stamp_ns: int) -> Iterator[Any]:
        for message in self.bag.messages(topics, stamp_ns - _BEFORE_NS) if topics else ():
            if message.log_ns > stamp_ns + _AFTER_NS:
                return
            yield message.msg


def _points(labels: PointCloud, xyz: NDArray[np.float32]) -> Points:
    """The returns of a labelled cloud; without a probability its labels are certain, without instances it has none."""
    class_id = labels.field("class_id").astype(np.uint8)
    probability = (class_id != UNKNOWN).astype(np.float32)
    instance_id = np.full(len(labels), NO_INSTANCE, np.int64)
    if labels.has("probability"):
        probability = labels.field("probability").astype(np.float32)
    if labels.has("instance_id"):
        instance_id = labels.field("instance_id").astype(np.int64)
    no_age = np.zeros(len(labels), np.float32)
    points = Points(xyz.astype(np.float64), class_id, probability, instance_id, no_age)
    return points.select(np.flatnonzero(np.isfinite(xyz).all(axis=1)))


def _map_cloud(cloud: PointCloud) -> MapCloud:
    xyz = np.column_stack([cloud.field(axis) for axis in "xyz"]).astype(np.float64)
    return MapCloud(xyz, cloud.field("class_id"), cloud.field("probability"), cloud.field("weight"))


def _told_boxes(msg: Any, taxonomy: Taxonomy) -> tuple[Any, list[tuple[Any, ...]]]:
    """The header of a MarkerArray of cubes or of a Detection3DArray, and of each box its pose (4, 4), size,
    train id and track."""
    if hasattr(msg, "detections"):
        told = [
            (d.bbox.center, d.bbox.size, d.results[0].hypothesis.class_id if d.results else "", d.id)
            for d in msg.detections
        ]
        header = msg.header
    else:
        cubes = [marker for marker in msg.markers if marker.type == _CUBE and marker.action == _ADD]
        told = [(cube.pose, cube.scale, cube.ns, cube.id) for cube in cubes]
        header = cubes[0].header if cubes else None
    train_ids = {name: train_id for train_id, name in enumerate(taxonomy.names)}
    boxes = []
    for pose, size, name, number in told:
        turn, place = pose.orientation, pose.position
        T = from_quat_translation((turn.x, turn.y, turn.z, turn.w), (place.x, place.y, place.z))
        track_id = int(number) if str(number).isdecimal() else 0
        boxes.append((T, (size.x, size.y, size.z), train_ids.get(name, UNKNOWN), track_id))
    return header, boxes
