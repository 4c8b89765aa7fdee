"""The pipeline over a recorded bag, without ROS and without a clock: same bag in, same labels out, byte for byte."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from seg_perception.bags import BagReader
from seg_perception.config import NODE_NAME, CameraConfig, Config, parameters_beside
from seg_perception.datatypes import NO_CAMERA, SemanticCloud
from seg_perception.drawing import Pixels
from seg_perception.errors import BagError, ConfigError, MessageError
from seg_perception.geometry.camera import CameraModel
from seg_perception.geometry.motion import MovedSweep
from seg_perception.geometry.projection import Projection, project
from seg_perception.geometry.spacing import with_spacing
from seg_perception.geometry.transform_tree import TransformTree
from seg_perception.geometry.visibility import visible
from seg_perception.intake import Intake
from seg_perception.messages.calibration_file import calibration_of
from seg_perception.messages.camera_info import camera_model, decode_camera_info
from seg_perception.messages.header import time_ns
from seg_perception.messages.image import decode
from seg_perception.messages.pointcloud import decode_cloud, labels_from_cloud, middle_ns, scan_from_cloud
from seg_perception.messages.transforms import insert_tf
from seg_perception.pipeline import SweepResult

TF, TF_STATIC = "/tf", "/tf_static"
VEHICLE_FRAME = "base_link"  # by REP 105
IMAGE_TYPES = {"raw": "sensor_msgs/msg/Image", "compressed": "sensor_msgs/msg/CompressedImage"}
NODE = f"/{NODE_NAME}"  # topics below it are those of the live node
POINTS_TOPIC = f"{NODE}/points"  # of the only LiDAR

_log = logging.getLogger(__name__)


def replay(bag: BagReader, intake: Intake) -> Iterator[SweepResult]:
    """Hand an open bag's messages to `intake` in the order they were recorded, and yield each sweep as it is done,
    remembered in the scene.

    Log time stands for the clock, so deadlines mean what they meant on the vehicle. At the end of the bag whatever
    still waits goes with what is there. Raises BagError where the bag holds none of the configured clouds.
    """
    config = intake.config
    images, infos = defaultdict(list), defaultdict(list)  # of each topic, which cameras
    for camera in config.cameras:
        images[camera.resolved_image_topic()].append(camera.name)
        if not camera.calibration:
            infos[camera.resolved_info_topic()].append(camera.name)
    lidars = {topic: name for name, topic in config.lidar_topics().items()}
    check_topics(bag, config)
    intake.without_pictures()
    for message in bag.messages({TF, TF_STATIC, *lidars, *images, *infos}):
        now_s = message.log_ns * 1e-9
        with intake.telling.refusing():  # a damaged message costs itself, not the bag
            if message.topic in images:
                for name in images[message.topic]:
                    intake.image(name, message.msg)
            elif message.topic in infos:
                for name in infos[message.topic]:
                    intake.camera_info(name, message.msg)
            elif message.topic in lidars:
                intake.cloud(message.msg, now_s, lidars[message.topic])
            else:
                intake.transforms(message.msg, static=message.topic == TF_STATIC)
        yield from _ready(intake, now_s)
    yield from _ready(intake, math.inf)


def recorded_transforms(bag: BagReader) -> TransformTree:
    """All that an open bag says on /tf and /tf_static. What of it cannot be used costs itself, and one warning says how
    much that was."""
    tree = TransformTree(cache_ns=None)
    taken, refused = 0, []
    for message in bag.messages({TF, TF_STATIC}):
        try:
            count, errors = insert_tf(tree, message.msg, static=message.topic == TF_STATIC)
        except MessageError as error:
            count, errors = 0, [error]
        taken += count
        refused += errors
    if refused:
        _log.warning(
            "bag %s: %d of %d transforms refused, the first: %s",
            bag.path,
            len(refused),
            taken + len(refused),
            refused[0],
        )
    return tree


def points_topic(lidar: str, node: str = NODE) -> str:
    """Where the labelled clouds of a LiDAR go; "": of the only one."""
    return f"{node}/{lidar}/points" if lidar else f"{node}/points"


def labelled_sweep(bag: BagReader, config: Config) -> tuple[SemanticCloud, dict[str, tuple[Pixels, Projection]]]:
    """The first labelled sweep of a bag that holds its inputs too, of whichever LiDAR; and by camera the picture taken
    nearest to it, with the points that lie in it and are not hidden. A camera of which the bag holds nothing is left
    out."""
    topics = [points_topic(lidar) for lidar in config.lidar_topics()]
    msg = next((message.msg for message in bag.messages(topics)), None)
    if msg is None:
        raise BagError(f"bag {bag.path}: no labelled cloud on {topics}; its topics are {list(bag.topics)}")
    cloud = decode_cloud(msg)
    scan = scan_from_cloud(cloud)[0]
    class_id, probability, instance_id = labels_from_cloud(cloud)
    no_camera = np.full(len(scan), NO_CAMERA, np.uint8)
    semantic = SemanticCloud(scan, class_id, probability, instance_id, no_camera, ())
    tree = recorded_transforms(bag)
    sweep = MovedSweep(scan, tree, config.motion)
    visibility = with_spacing(config.visibility, scan.points)
    views = {}
    for camera in config.cameras:
        offset_ns = round(camera.offset_ms * 1e6)
        model = camera_of(bag, camera)
        nearest = _nearest(bag, camera.resolved_image_topic(), middle_ns(cloud, config.pairing) - offset_ns)
        if model is None or nearest is None:
            continue
        image = decode(nearest, camera.name, camera.frame_id, camera.sample_bits)
        points = project(sweep.points, sweep.T_cam_lidar(image.frame_id, image.stamp_ns + offset_ns), model)
        views[camera.name] = (image.pixels, points.select(visible(points, model, visibility)))
    return semantic, views


def check_topics(bag: BagReader, config: Config) -> None:
    """Refuse settings without a camera, and a bag that lacks the configured clouds, or the images of every camera, or
    holds them as another type than configured; naming what it does hold."""
    if not config.cameras:
        raise ConfigError("cameras: at least one camera name wanted, none configured")
    images = {camera.resolved_image_topic(): IMAGE_TYPES[camera.transport] for camera in config.cameras}
    clouds = dict.fromkeys(config.lidar_topics().values(), "sensor_msgs/msg/PointCloud2")
    for what, wanted in (("cloud", clouds), ("image", images)):
        if not set(wanted) & set(bag.topics):
            raise BagError(f"bag {bag.path}: no {what} on {sorted(wanted)}; its topics are {list(bag.topics)}")
        for topic, type in wanted.items():
            seen = bag.topics.get(topic, type)
            if seen != type:
                transports = [name for name, its in IMAGE_TYPES.items() if its == seen and what == "image"]
                remedy = "".join(f"; camera.<name>.transport: {name} reads it" for name in transports)
                raise BagError(f"bag {bag.path}: {topic}: {type} wanted by the settings, {seen} seen{remedy}")


def camera_of(bag: BagReader, camera: CameraConfig) -> CameraModel | None:
    """The camera of the file that the settings name, else of the first CameraInfo; None where there is neither."""
    if camera.calibration:
        return calibration_of(camera)
    info = next((message.msg for message in bag.messages({camera.resolved_info_topic()})), None)
    return info and camera_model(decode_camera_info(info), rectified=camera.rectified, name=f"camera '{camera.name}'")


def config_for(bag: Path, config: str | None) -> Config:
    """The configuration named, or the one that lies beside the bag as `<bag>.param.yaml`, where `import` puts it."""
    if not bag.exists():
        raise BagError(f"bag {bag}: no such file or directory")
    path = Path(config) if config else parameters_beside(bag)
    if not config and not path.is_file():
        raise ConfigError(
            f"bag {bag}: no {path.name} beside it; name one with --config, or have one "
            f"written: seg-perception settings {bag}"
        )
    return Config.load(path)


def _ready(intake: Intake, now_s: float) -> Iterator[SweepResult]:
    while (result := intake.next_result(now_s)) is not None:
        yield intake.remember(result)


def _nearest(bag: BagReader, topic: str, stamp_ns: int) -> Any:
    """The message whose header is stamped nearest; None where the topic has none."""

    def off_ns(msg: Any) -> int:
        return abs(time_ns(msg.header.stamp) - stamp_ns)

    return min((message.msg for message in bag.messages({topic})), key=off_ns, default=None)
