"""`seg-perception replay`: label a recorded bag without ROS, as fast as the machine can, the same way each time."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from seg_perception.bags import BagReader, BagWriter, TopicQos
from seg_perception.compiling import telling_of_compiling
from seg_perception.config import Config
from seg_perception.datatypes import PointCloud
from seg_perception.drawing import Pixels, overlay, save, sweep_picture
from seg_perception.errors import ConfigError, TransformError
from seg_perception.inference.loading import load_segmenters
from seg_perception.inference.networks import Network
from seg_perception.intake import Intake
from seg_perception.labels import Taxonomy
from seg_perception.messages.image import compressed_fields
from seg_perception.messages.pointcloud import encode_semantic_cloud
from seg_perception.offline import (
    NODE,
    TF,
    TF_STATIC,
    VEHICLE_FRAME,
    check_topics,
    config_for,
    points_topic,
    replay,
)
from seg_perception.pipeline import SweepResult
from seg_perception.scene_step import SceneStep
from seg_perception.scene_topics import LATCHED, SceneTopics
from seg_perception.statistics import summary_lines

_TRAIL_NS = 500_000_000  # of /tf after the last sweep

_log = logging.getLogger(__name__)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add `replay`."""
    parser = subparsers.add_parser("replay", help="label a bag without ROS, deterministically")
    parser.add_argument("bag", type=Path, help="rosbag2: a directory, or a single .mcap or .db3 file")
    parser.add_argument("--out", type=Path, required=True, help="bag to write: OUT.mcap, or a directory")
    parser.add_argument("--config", help="YAML; default: BAG.param.yaml beside the bag")
    parser.add_argument("--model", help="deployed ONNX, instead of inference.model")
    parser.add_argument("--limit", type=_positive, help="stop after this many sweeps")
    parser.add_argument(
        "--picture", type=Path, help="write a picture of one sweep (.png): image beside bird's-eye view"
    )
    parser.add_argument("--picture-of", type=int, default=0, metavar="N", help="which sweep, counted from 0")
    parser.add_argument(
        "--images",
        action="store_true",
        help="also write each camera's images and infos as recorded, and the labels over them, compressed",
    )
    parser.add_argument("--summary", type=Path, help="write the summary as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Replay, write the labelled clouds, say what happened."""
    for path in (args.picture, args.summary):
        if path and not path.parent.is_dir():
            raise ConfigError(f"{path}: its folder does not exist")
    config = with_model(config_for(args.bag, args.config), args.model)
    with BagReader(args.bag) as bag, telling_of_compiling() as kernels:
        check_topics(bag, config)
        intake = Intake(config, load_segmenters(config), warn_once())
        taxonomy, networks = intake.pipeline.taxonomy, intake.pipeline.networks
        topics = SceneTopics(config, taxonomy)
        total = sum(bag.counts.get(topic, 0) for topic in config.lidar_topics().values())
        total = min(total, args.limit or total)
        if args.picture and args.picture_of >= total:
            raise ConfigError(f"--picture-of {args.picture_of}: the bag gives {total} sweeps, counted from 0")
        with BagWriter(args.out) as out:
            out.write_label_info(f"{NODE}/label_info", taxonomy, max(bag.start_ns, 1))
            for camera in config.cameras:
                own = networks[camera.name].taxonomy
                out.write_label_info(f"{NODE}/{camera.name}/label_info", own, max(bag.start_ns, 1))
            results, last = islice(replay(bag, intake), args.limit), None
            for number, result in enumerate(tqdm(results, total=total, unit="sweep")):
                cloud = encode_semantic_cloud(result.cloud, taxonomy.colors)
                out.write_cloud(points_topic(result.cloud.scan.lidar), cloud)
                _write_scene(out, topics, topics.messages, intake.scene, result)
                last = result
                if args.images:
                    _write_pictures(out, result, networks, config)
                if args.picture and number == args.picture_of:
                    save(args.picture, _picture(result, taxonomy, networks))
            if last is not None:  # a drive shorter than the map's period would hold that of its first sweep alone
                _write_scene(out, topics, topics.last, intake.scene, last)
            _copy_inputs(bag, out, config, total, args.images)
    summary = intake.statistics.summary(taxonomy.names)
    print("\n".join(summary_lines(summary)))
    if kernels.compiled:
        print(f"note       p99 counts compiling {kernels.compiled} kernels; the next run on this machine finds them")
    if args.summary:
        args.summary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return 0


def warn_once() -> Callable[[str, str], None]:
    """Logs the first problem of each cause; statistics count the rest."""
    warned: set[str] = set()

    def on_problem(cause: str, sentence: str) -> None:
        if cause not in warned:
            warned.add(cause)
            _log.warning("%s: %s", cause, sentence)

    return on_problem


def _write_scene(
    out: BagWriter, topics: SceneTopics, told: Callable[..., Iterator[Any]], step: SceneStep, result: SweepResult
) -> None:
    """What of the scene is told after this sweep: `topics.messages`, all that the live node would tell, or another."""
    if result.scene is None or step.memory is None:
        return
    log_ns = result.cloud.scan.stamp_ns
    for topic, content in told(step.memory, result.scene):
        name, qos = f"{NODE}/{topic}", TopicQos(latched=topic in LATCHED)
        if isinstance(content, PointCloud):
            out.write_cloud(name, content, qos=qos)
        else:
            out.write(name, topics.types[topic], content, log_ns, qos)


def _write_pictures(out: BagWriter, result: SweepResult, networks: Mapping[str, Network], config: Config) -> None:
    """Labels and overlay of each image, compressed as the live node does."""
    offset_ns = {camera.name: round(camera.offset_ms * 1e6) for camera in config.cameras}
    for name, segmentation in result.segmentations.items():
        image, label_image = result.images[name], segmentation.label_image()
        drawn = overlay(image.pixels, label_image, networks[name].taxonomy.colors, config.output.overlay_alpha)
        stamp_ns = image.stamp_ns - offset_ns[name]
        for kind, fields in (
            ("label_image", compressed_fields(label_image, "png")),
            ("overlay", compressed_fields(drawn, "jpeg", config.output.jpeg_quality)),
        ):
            out.write_compressed(f"{NODE}/{name}/{kind}/compressed", stamp_ns, image.frame_id, **fields)


def _copy_inputs(bag: BagReader, out: BagWriter, config: Config, sweeps: int, images: bool) -> None:
    """/tf and /tf_static as recorded, without which nobody could lay the outputs over each other; images: theirs too.

    As far as the sweeps go that were asked for, and a little further.
    """
    topics = {TF, TF_STATIC}
    if images:
        topics |= {camera.resolved_image_topic() for camera in config.cameras}
        topics |= {camera.resolved_info_topic() for camera in config.cameras}
    last = next(islice(bag.messages(config.lidar_topics().values()), max(sweeps - 1, 0), None), None)
    for message in bag.messages(topics):
        if last and message.log_ns > last.log_ns + _TRAIL_NS:
            break
        out.write_raw(message.topic, message.type, message.log_ns, message.data, bag.qos(message.topic))


def _picture(result: SweepResult, taxonomy: Taxonomy, networks: Mapping[str, Network]) -> Pixels:
    """Painted points, cameras as configured, beside the view from above; of a single camera what the network said."""
    above = None
    if len(result.visible) == 1:
        (name,) = result.visible
        labels = result.segmentations[name].label_image()
        above = overlay(result.images[name].pixels, labels, networks[name].taxonomy.colors, 0.5)
    views = {name: (result.images[name].pixels, result.visible[name]) for name in networks if name in result.visible}
    T_vehicle_lidar = None
    with contextlib.suppress(TransformError):
        T_vehicle_lidar = result.sweep.T_frame_lidar(VEHICLE_FRAME)
    return sweep_picture(result.cloud, views, taxonomy, above, T_vehicle_lidar=T_vehicle_lidar)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"a number above 0 wanted, {text} seen")
    return value


def with_model(config: Config, model: str | None) -> Config:
    """The configuration, with another model where one is named."""
    if not model:
        return config
    return dataclasses.replace(config, inference=dataclasses.replace(config.inference, model=model))
