"""`seg-perception map`: build the map of voxels of a recorded drive, offline."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from seg_perception.bags import BagReader
from seg_perception.cli.replay import warn_once, with_model
from seg_perception.config import Config
from seg_perception.datatypes import NO_CAMERA, NO_INSTANCE, UNKNOWN, SemanticCloud
from seg_perception.errors import BagError, ConfigError, MessageError, TransformError
from seg_perception.geometry.motion import MovedSweep
from seg_perception.inference.loading import load_segmenters
from seg_perception.intake import Intake
from seg_perception.labels import Taxonomy
from seg_perception.messages.pointcloud import decode_scan
from seg_perception.offline import config_for, points_topic, recorded_transforms, replay
from seg_perception.scene.map_files import check_suffix, save_map
from seg_perception.scene.memory import SceneMemory

_CAPACITY = 1 << 21  # voxels of a whole drive, unless more are configured

Taken = tuple[SemanticCloud, bool]
"""A labelled sweep, and whether the map took it in."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add `map`."""
    parser = subparsers.add_parser("map", help="build the map of voxels of a recorded drive")
    parser.add_argument(
        "bag", type=Path, help="rosbag2: of a drive to label, or one that holds labelled clouds and /tf"
    )
    parser.add_argument("--out", type=Path, required=True, help="map to write: .ply, .pcd or .npz")
    parser.add_argument("--config", help="YAML; default: BAG.param.yaml beside the bag")
    parser.add_argument("--model", help="deployed ONNX, instead of the configured one")
    parser.add_argument(
        "--labelled",
        metavar="TOPIC",
        help="clouds with a class_id field, used as they are; default: those of the node, where the bag has any",
    )
    parser.add_argument("--voxel", type=float, metavar="M", help="side of a voxel, instead of the configured one")
    parser.add_argument("--radius", type=float, metavar="M", help="forget what is further away; default: nothing")
    parser.add_argument("--min-weight", type=float, default=0.5, help="leave out voxels of fewer votes; default: 0.5")
    parser.add_argument("--limit", type=int, help="stop after this many sweeps")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Build, write, say what was done."""
    check_suffix(args.out)
    if not args.out.parent.is_dir():
        raise ConfigError(f"{args.out}: its folder does not exist")
    config = _map_config(with_model(config_for(args.bag, args.config), args.model), args)
    taxonomy = Taxonomy.load(config.taxonomy)
    sweeps = missed = points = 0
    with BagReader(args.bag) as bag:
        lidars = config.lidar_topics()
        labelled = [args.labelled] if args.labelled else [t for t in map(points_topic, lidars) if t in bag.topics]
        if labelled:
            memory = SceneMemory(config, taxonomy)
            found = _recorded(bag, labelled, config, memory)
        else:
            intake = Intake(config, load_segmenters(config), warn_once())
            found = ((result.cloud, result.scene is not None) for result in replay(bag, intake))
        total = sum(bag.counts.get(topic, 0) for topic in labelled or lidars.values())
        for cloud, taken in tqdm(islice(found, args.limit), total=min(total, args.limit or total), unit="sweep"):
            sweeps, missed = sweeps + taken, missed + (not taken)
            points += int(cloud.labelled.sum()) if taken else 0
        if not labelled:
            assert intake.scene.memory is not None
            memory = intake.scene.memory
    assert memory.voxel_map is not None
    if not sweeps:
        raise BagError(f"bag {args.bag}: none of its {missed} sweeps could be placed in '{config.motion.fixed_frame}'")
    scene, state = memory.voxel_map.cloud(args.min_weight), memory.voxel_map.state
    save_map(scene, args.out, taxonomy.colors)
    print(f"sweeps    {sweeps} in the map, {missed} without a transform to '{config.motion.fixed_frame}'")
    print(f"points    {points} labelled, {state.refused} found no room")
    print(
        f"voxels    {len(scene)} of {config.voxel_map.voxel_m} m written, {state.voxels} held, {state.capacity} slots"
    )
    print(f"map       {args.out}")
    return 0


def _map_config(config: Config, args: argparse.Namespace) -> Config:
    """The map alone, of the whole drive unless a radius is named, with room for it."""
    voxel_map = dataclasses.replace(
        config.voxel_map,
        enabled=True,
        voxel_m=args.voxel or config.voxel_map.voxel_m,
        radius_m=args.radius or 2000.0,
        capacity=max(_CAPACITY, config.voxel_map.capacity),
    )
    objects, bev = dataclasses.replace(config.objects, enabled=False), dataclasses.replace(config.bev, enabled=False)
    return dataclasses.replace(config, voxel_map=voxel_map, objects=objects, bev=bev)


def _recorded(bag: BagReader, topics: Sequence[str], config: Config, memory: SceneMemory) -> Iterator[Taken]:
    """Every labelled cloud of some topics, taken into the memory where the fixed frame can be reached."""
    for topic in topics:
        if bag.topics.get(topic) != "sensor_msgs/msg/PointCloud2":
            raise BagError(f"bag {bag.path}: no cloud on {topic}; its topics are {list(bag.topics)}")
    tree = recorded_transforms(bag)
    for message in bag.messages(topics):
        cloud = _labelled(message.msg)
        sweep = MovedSweep(cloud.scan, tree, config.motion)
        try:
            memory.update(cloud, sweep.points, sweep.T_fixed_lidar())
        except TransformError:
            yield cloud, False
        else:
            yield cloud, True


def _labelled(msg: object) -> SemanticCloud:
    """A cloud that has a class_id; without a probability, its labels are certain."""
    scan, _ = decode_scan(msg)
    if not scan.cloud.has("class_id"):
        raise MessageError(f"cloud in frame '{scan.frame_id}': no field 'class_id' in it")
    class_id = scan.cloud.field("class_id").astype(np.uint8)
    certain = (class_id != UNKNOWN).astype(np.float32)
    probability = scan.cloud.field("probability").astype(np.float32) if scan.cloud.has("probability") else certain
    count = len(scan)
    instance_id, camera = np.full(count, NO_INSTANCE, np.uint16), np.full(count, NO_CAMERA, np.uint8)
    return SemanticCloud(scan, class_id, probability, instance_id, camera, ())
