"""`python benchmarks/panoptic.py`: objects by image instances against objects by clustering, on simulated drives.

The network is taken out: class scores, centres and offsets are made of the truth of each picture, at stride 4, whole or
with errors, and go the way that a network's would: merging, points, cameras, objects. Nothing here was learnt, so this
says what the chain is worth, not what a network is.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from seg_perception.config import Config
from seg_perception.datatypes import CameraImage, LidarScan
from seg_perception.evaluation.points import PointScores, PointTruth
from seg_perception.geometry.transform_tree import TransformTree
from seg_perception.inference.contract import Alignment, ModelContract
from seg_perception.inference.segmenter import Segmentation, segmentation_of
from seg_perception.labels import Taxonomy
from seg_perception.messages.pointcloud import cloud_from_columns, scan_from_cloud
from seg_perception.pipeline import Pipeline
from seg_perception.scene.objects import ObjectFinder
from seg_perception.simulation.config import CameraMount, DriveConfig, LidarMount, standard_rig
from seg_perception.simulation.drive import Drive
from seg_perception.simulation.truth import sight
from seg_perception.simulation.writing import stamp_of
from seg_perception.training.datasets import Sample
from seg_perception.training.targets import instance_targets

OUT = Path("bench_out/panoptic.json")
TAXONOMY = Taxonomy.load("cityscapes")
SIZE, STRIDE, CAMERAS, EXPOSED_S = (1024, 512), 4, 3, 0.05
FIELD_OF_VIEW_DEG = 130.0  # neighbours overlap by 10 degrees
CERTAIN = 8.0  # logit of the true class


@dataclass(frozen=True, slots=True)
class Errors:
    """What the maps are off by. offset: standard deviation as a share of the offset. missed: share of centres."""

    offset: float = 0.0
    missed: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class TrueSweep:
    """One sweep, its pictures (class, and instance in two bytes, of each pixel) and the truth of its points."""

    scan: LidarScan
    images: dict[str, CameraImage]
    cameras: tuple[CameraMount, ...]
    tree: TransformTree
    truth: PointTruth


class TruthSegmenter:
    """Maps of a network that is right but for `errors`, from the picture's own pixels."""

    contract = ModelContract(
        taxonomy="cityscapes", num_classes=19, output="logits", network_size=SIZE,
        output_size=(SIZE[0] // STRIDE, SIZE[1] // STRIDE),
        network_alignment=Alignment.of_resize(SIZE, (SIZE[0] // STRIDE, SIZE[1] // STRIDE)), alignment_assumed=False,
        image_size=None, channel_order="rgb", layout="NCHW", mean=(0.0, 0.0, 0.0), scale=(1.0, 1.0, 1.0),
        source_name="truth", source_sha256="", created_by="benchmark", things=tuple(np.flatnonzero(TAXONOMY.is_thing)),
    )  # fmt: skip
    backend = "truth"

    def __init__(self, errors: Errors, *, tells_things: bool) -> None:
        self._errors, self._rng = errors, np.random.default_rng(0)
        if not tells_things:
            self.contract = replace(self.contract, things=())

    def segment(self, pixels: NDArray[np.uint8]) -> Segmentation:
        """See `Segmenter.segment`."""
        labels, instances = pixels[:, :, 0], pixels[:, :, 1].astype(np.uint16) | pixels[:, :, 2].astype(np.uint16) << 8
        things = np.unique(instances[instances > 0])
        missed = things[self._rng.random(len(things)) < self._errors.missed]
        found = np.where(np.isin(instances, missed), 0, instances).astype(np.uint16)
        heat = instance_targets(Sample("", pixels, labels, found), TAXONOMY.is_thing).centre
        centre = heat.reshape(SIZE[1] // STRIDE, STRIDE, SIZE[0] // STRIDE, STRIDE).max(axis=(1, 3))
        ways = instance_targets(Sample("", pixels, labels, instances), TAXONOMY.is_thing).offset
        middle = slice(STRIDE // 2, None, STRIDE)
        offset, seen = ways[:, middle, middle] + 0.5, labels[middle, middle]  # a sample lies half a pixel before
        offset = offset * self._rng.normal(1.0, self._errors.offset, offset.shape).astype(np.float32)
        logits = np.where(seen == np.arange(19, dtype=np.uint8)[:, None, None], np.float32(CERTAIN), np.float32(0.0))
        return segmentation_of({"logits": logits, "centre": centre, "offset": offset}, self.contract, SIZE)

    def close(self) -> None:
        """Nothing to free."""


def sweeps(seed: int, count: int) -> Iterator[TrueSweep]:
    """Sweeps of one drive, a second apart."""
    rig = standard_rig(CAMERAS, SIZE, field_of_view_deg=FIELD_OF_VIEW_DEG, offset_ms=1e3 * EXPOSED_S)
    drive = Drive(DriveConfig(seed=seed, seconds=count + 1.0, speed=8.0, cameras=rig, lidar=LidarMount()))
    for k in tqdm(range(count), desc=f"drive {seed}", unit="sweep"):
        sweep = drive.sweep(10 * k + 5)
        exposed = sweep.time + EXPOSED_S
        tree = TransformTree(cache_ns=None)
        times = np.arange(sweep.time - 0.2, sweep.time + 0.2, 0.01)
        for at, T in zip(times, drive.T_world_base(times), strict=True):
            tree.insert("odom", "base_link", stamp_of(at), T)
        tree.insert("base_link", "lidar", 0, drive.config.lidar.T_base_lidar, static=True)
        images = {}
        for camera in drive.cameras:
            mount, truth = camera.mount, camera.truth(exposed)
            tree.insert("base_link", mount.frame_id, 0, mount.T_base_cam, static=True)
            low, high = truth.instances & 255, truth.instances >> 8
            pixels = np.stack([truth.labels, low, high], axis=-1).astype(np.uint8)
            images[mount.name] = CameraImage(mount.name, mount.frame_id, stamp_of(exposed), pixels)
        columns = {name: sweep.points[:, axis] for axis, name in enumerate("xyz")}
        scan = scan_from_cloud(cloud_from_columns("lidar", stamp_of(sweep.time), columns))[0]
        scan = replace(scan, stamps_ns=np.array([stamp_of(at) for at in sweep.times]))
        seen = [sight(drive.world, sweep, camera, exposed) for camera in drive.cameras]
        in_view, visible = (np.any([getattr(s, name) for s in seen], axis=0) for name in ("in_view", "visible"))
        point_truth = PointTruth(scan.stamp_ns, sweep.class_id, sweep.instance.astype(np.int64), in_view, visible)
        yield TrueSweep(scan, images, drive.config.cameras, tree, point_truth)


def measure(drives: list[TrueSweep], segmenter: TruthSegmenter, reach_m: float) -> dict[str, float]:
    """PQ in 3D of things, and the least milliseconds of finding the objects of a sweep."""
    config = Config.from_mapping(
        {"cameras": [mount.name for mount in drives[0].cameras], "objects": {"instance_reach_m": reach_m}}
    )
    finder, scores = ObjectFinder(TAXONOMY, config.objects), PointScores(TAXONOMY)
    finding_ms = []
    for sweep in drives:
        pipeline = Pipeline(config, segmenter, sweep.tree)
        for mount in sweep.cameras:
            pipeline.set_camera(mount.name, mount.model)
        result = pipeline.process(sweep.scan, sweep.images)
        T = result.sweep.T_fixed_lidar()
        level = (result.sweep.points @ T[:3, :3].T).astype(np.float32)
        cloud = result.cloud
        started = time.perf_counter()
        objects = finder.find(level, cloud.class_id, cloud.probability, T[:3, 3], cloud.instance_id)
        finding_ms.append(1e3 * (time.perf_counter() - started))
        scores.add(sweep.truth, cloud.class_id, (objects.of_point + 1).astype(np.int64))
    quality = scores.quality
    things = TAXONOMY.is_thing[: len(quality.matched)]
    pq, sq, rq = quality.scores.mean(things)
    counts = {name: int(getattr(quality, name)[things].sum()) for name in ("matched", "missed", "false_alarms")}
    return {"pq": pq, "sq": sq, "rq": rq, **counts, "objects_ms": min(finding_ms)}


def main() -> None:
    """Print the table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--sweeps", type=int, default=4, help="of each drive")
    args = parser.parse_args()
    drives = [sweep for seed in args.seeds for sweep in sweeps(seed, args.sweeps)]
    rows = {"clustering": measure(drives, TruthSegmenter(Errors(), tells_things=False), 0.0)}
    for reach_m in (0.0, 0.5, 1.0, 2.0):
        rows[f"instances, reach {reach_m:g} m"] = measure(drives, TruthSegmenter(Errors(), tells_things=True), reach_m)
    for errors in (Errors(offset=0.2), Errors(offset=0.5), Errors(missed=0.1), Errors(0.2, 0.1)):
        name = f"instances, reach 1 m, offsets off by {errors.offset:.0%}, {errors.missed:.0%} of the centres missed"
        rows[name] = measure(drives, TruthSegmenter(errors, tells_things=True), 1.0)
    print("| objects | PQ of things | SQ | RQ | matched | missed | false alarms | least ms |\n|---|" + "---:|" * 7)
    for name, row in rows.items():
        shares = " | ".join(f"{row[key]:.3f}" for key in ("pq", "sq", "rq"))
        counts = " | ".join(str(row[key]) for key in ("matched", "missed", "false_alarms"))
        print(f"| {name} | {shares} | {counts} | {row['objects_ms']:.1f} |")
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
