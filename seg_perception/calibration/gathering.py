"""Pairs of sweeps and pictures, spread over a bag, with all that a check of the calibration asks of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_perception.bags import BagReader
from seg_perception.calibration.alignment import Pair, Picture
from seg_perception.calibration.edges import lidar_edges
from seg_perception.config import CameraConfig, Config, PairingConfig
from seg_perception.datatypes import CameraImage, LidarScan
from seg_perception.errors import CalibrationError, SegPerceptionError, TransformError
from seg_perception.geometry.camera import CameraModel
from seg_perception.geometry.motion import MovedSweep
from seg_perception.geometry.transform_tree import TransformTree
from seg_perception.messages.header import stamp_ns
from seg_perception.messages.image import decode
from seg_perception.messages.pointcloud import decode_cloud, decode_scan, middle_ns
from seg_perception.offline import camera_of, check_topics, recorded_transforms

LATEST_S = 0.1
"""How much later or earlier than its stamp a picture may be supposed to be taken."""

_LATE_STEP_S = 0.005

Edges = Mapping[tuple[str, str], NDArray[np.float64]]
"""(parent, child) -> T_parent_child, rigid (4, 4)."""


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """A sweep, and its silhouettes at its stamp in the LiDAR's frame, as `LidarEdges` has them."""

    scan: LidarScan
    moved: MovedSweep
    middle: NDArray[np.float64]
    beyond: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """One sweep and one picture of a camera.

    T_then_sweep: (K, 4, 4), from the LiDAR at the sweep's stamp to the LiDAR as it stood at instants from LATEST_S
    before the picture's stamp to LATEST_S after it; (1, 4, 4), at the stamp alone, where poses for more are missing.
    """

    image: CameraImage
    sweep: Sweep
    T_then_sweep: NDArray[np.float64]

    @property
    def timed(self) -> bool:
        """Whether it is known where the LiDAR stood at other instants than the picture's stamp."""
        return len(self.T_then_sweep) > 1

    def moved(self, late_s: float) -> NDArray[np.float64]:
        """`T_then_sweep` so many seconds after the picture's stamp; at the stamp where nothing else is known."""
        if not self.timed:
            return self.T_then_sweep[0]
        at = min(max((late_s + LATEST_S) / _LATE_STEP_S, 0.0), len(self.T_then_sweep) - 1.000001)
        step, share = int(at), at - int(at)
        return np.asarray((1.0 - share) * self.T_then_sweep[step] + share * self.T_then_sweep[step + 1])

    def pair(self, camera: CameraModel) -> Pair:
        """With its edges looked for, for `Alignment`."""
        return Pair(Picture(self.image.pixels, camera), self.sweep.middle, self.sweep.beyond, self.moved)


@dataclass(frozen=True, slots=True, eq=False)
class CameraShots:
    """What a bag holds of one camera.

    T_cam_lidar: (4, 4) as mounted. frame_id: its optical frame. mounting: by (parent, child), T_parent_child of the
    edges of /tf_static between the two. pairs: of the shots, in their order.
    """

    name: str
    model: CameraModel
    frame_id: str
    lidar_frame: str
    T_cam_lidar: NDArray[np.float64]
    mounting: Edges
    shots: list[Shot]
    pairs: list[Pair]

    @property
    def timed(self) -> bool:
        """Whether pictures can be moved in time."""
        return all(shot.timed for shot in self.shots)


def gather(
    bag: BagReader, config: Config, most: int, replacing: Edges | None = None
) -> tuple[dict[str, CameraShots], dict[str, str]]:
    """Up to `most` sweeps, evenly out of an open bag, each with the nearest picture of every camera. Those without
    poses around their pictures, as a bag's first and last often are, are left out where enough others are there.

    replacing: transforms that take the place of what /tf_static says of the same child. Returns what there is of each
    camera, and for those of which there is nothing, why. Raises BagError where the bag lacks the configured topics.
    """
    check_topics(bag, config)
    tree = recorded_transforms(bag)
    for (parent, child), T in (replacing or {}).items():
        tree.insert(parent, child, 0, T, static=True)
    stamps = {camera.name: _stamps(bag, camera.resolved_image_topic()) for camera in config.cameras}
    clouds = (message.msg for message in bag.messages({config.lidar.topic}))
    middles = {stamp_ns(msg.header, "cloud"): _middle_ns(msg, config.pairing) for msg in clouds}
    pairs = {camera.name: _paired(middles, stamps[camera.name], camera, config) for camera in config.cameras}
    usable = sorted(set().union(*pairs.values()))
    timed = _timed(usable, pairs, tree, config, frames_of(bag, config)[0])
    usable = timed if 2 * len(timed) >= min(most, len(usable)) else usable
    chosen = {usable[k] for k in np.unique(np.linspace(0, len(usable) - 1, min(most, len(usable))).round().astype(int))}
    sweeps = {}
    for message in bag.messages({config.lidar.topic}):
        if stamp_ns(message.msg.header, "cloud") in chosen:
            scan = decode_scan(message.msg)[0]
            sweeps[scan.stamp_ns] = _sweep(scan, tree, config)
    found: dict[str, CameraShots] = {}
    missing: dict[str, str] = {}
    for camera in config.cameras:
        try:
            found[camera.name] = _shots(bag, camera, pairs[camera.name], sweeps, tree, config)
            _require_said(found[camera.name], replacing)
        except SegPerceptionError as error:
            found.pop(camera.name, None)
            missing[camera.name] = str(error)
    return found, missing


def _middle_ns(msg: Any, config: PairingConfig) -> int:
    """Of a sweep; the stamp of one that cannot be read, which is said only where it is needed."""
    try:
        return middle_ns(decode_cloud(msg), config)
    except SegPerceptionError:
        return stamp_ns(msg.header, "cloud")


def frames_of(bag: BagReader, config: Config) -> tuple[str, dict[str, str]]:
    """The frame of the clouds, and by camera that of its pictures, where the bag has any."""
    check_topics(bag, config)

    def first(topic: str) -> str | None:
        return next((str(message.msg.header.frame_id) for message in bag.messages({topic})), None)

    cameras = {camera.name: camera.frame_id or first(camera.resolved_image_topic()) for camera in config.cameras}
    return first(config.lidar.topic) or "", {name: frame for name, frame in cameras.items() if frame}


def _stamps(bag: BagReader, topic: str) -> list[int]:
    return [stamp_ns(message.msg.header, topic) for message in bag.messages({topic})]


def _paired(
    middles: Mapping[int, int], image_ns: Sequence[int], camera: CameraConfig, config: Config
) -> dict[int, int]:
    """Sweep stamp -> stamp of the picture nearest to its middle, as its header has it, where it is within the window.
    middles: of each sweep by its stamp."""
    if not image_ns:
        return {}
    window_ns, offset_ns = round(config.pairing.window_ms * 1e6), round(camera.offset_ms * 1e6)
    nearest = {at: min(image_ns, key=lambda ns: abs(ns + offset_ns - middle)) for at, middle in middles.items()}
    return {at: stamp for at, stamp in nearest.items() if abs(stamp + offset_ns - middles[at]) <= window_ns}


def _timed(
    usable: Sequence[int], pairs: Mapping[str, Mapping[int, int]], tree: TransformTree, config: Config, lidar_frame: str
) -> list[int]:
    """The stamps of those sweeps around all of whose pictures it is known where the LiDAR stood."""
    reach_ns, found = round(LATEST_S * 1e9), []
    for at in usable:
        taken_ns = [
            pairs[camera.name][at] + round(camera.offset_ms * 1e6)
            for camera in config.cameras
            if at in pairs[camera.name]
        ]
        span_ns = np.array([min(taken_ns) - reach_ns, max(taken_ns) + reach_ns])
        if tree.can_transform(config.motion.fixed_frame, lidar_frame, span_ns):
            found.append(at)
    return found


def _sweep(scan: LidarScan, tree: TransformTree, config: Config) -> Sweep:
    edges = lidar_edges(scan.points)
    moved = MovedSweep(scan, tree, config.motion)
    deskewed = moved.points[edges.index].astype(np.float64) - scan.points[edges.index]
    return Sweep(scan, moved, edges.middle + deskewed, edges.beyond + deskewed)


def _shots(
    bag: BagReader,
    camera: CameraConfig,
    pairs: Mapping[int, int],
    sweeps: Mapping[int, Sweep],
    tree: TransformTree,
    config: Config,
) -> CameraShots:
    model = camera_of(bag, camera)
    if model is None:
        raise CalibrationError(f"camera '{camera.name}': a CameraInfo on {camera.resolved_info_topic()} wanted, none")
    sweep_of = {pairs[at]: sweep for at, sweep in sweeps.items() if at in pairs}
    shots = []
    for message in bag.messages({camera.resolved_image_topic()}):
        if (header_ns := stamp_ns(message.msg.header, "image")) in sweep_of:
            image = decode(message.msg, camera.name, camera.frame_id, camera.sample_bits)
            model.require_image_size(*image.size)
            taken_ns = header_ns + round(camera.offset_ms * 1e6)
            shots.append(Shot(image, sweep_of[header_ns], _ways(sweep_of[header_ns], taken_ns, tree, config)))
    if not shots:
        raise CalibrationError(
            f"camera '{camera.name}': a picture within {config.pairing.window_ms:g} ms of a sweep wanted, none"
        )
    frame_id, scan = shots[0].image.frame_id, shots[0].sweep.scan
    T_cam_lidar = tree.T(frame_id, scan.frame_id, scan.stamp_ns)
    mounting = _mounting(tree, frame_id, scan.frame_id)
    return CameraShots(
        camera.name, model, frame_id, scan.frame_id, T_cam_lidar, mounting, shots, [shot.pair(model) for shot in shots]
    )


def _require_said(camera: CameraShots, replacing: Edges | None) -> None:
    """Raises CalibrationError where what is to take the place of /tf_static says nothing of this camera."""
    if replacing and not set(replacing) & set(camera.mounting):
        raise CalibrationError(
            f"camera '{camera.name}': a transform between '{camera.frame_id}' and '{camera.lidar_frame}' wanted in the "
            f"calibration file, or on the way between them; it has {sorted(map(' -> '.join, replacing))}"
        )


def _mounting(tree: TransformTree, camera_frame: str, lidar_frame: str) -> Edges:
    parents = {edge.child: edge.parent for edge in tree.edges() if edge.static}
    climbs = []
    for frame in (camera_frame, lidar_frame):
        climb = []
        while frame in parents:
            climb.append((parents[frame], frame))
            frame = parents[frame]
        climbs.append(climb)
    between = set(climbs[0]) ^ set(climbs[1])
    return {(parent, child): tree.T(parent, child, 0) for parent, child in sorted(between)}


def _ways(sweep: Sweep, taken_ns: int, tree: TransformTree, config: Config) -> NDArray[np.float64]:
    """`Shot.T_then_sweep`."""
    scan, fixed = sweep.scan, config.motion.fixed_frame
    if sweep.moved.kind == "static":
        return np.eye(4)[None]
    late_ns = np.arange(-LATEST_S, LATEST_S + 0.5 * _LATE_STEP_S, _LATE_STEP_S) * 1e9
    for stamps_ns in (taken_ns + late_ns.round().astype(np.int64), np.array([taken_ns])):
        try:
            return tree.T_fixed(scan.frame_id, stamps_ns, scan.frame_id, scan.stamp_ns, fixed)
        except TransformError:
            continue
    return np.eye(4)[None]
