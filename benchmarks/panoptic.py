"""`python benchmarks/panoptic.py`: objects by image instances against objects by clustering, on simulated drives.

The network is taken out: class scores, centres and offsets are made of the truth of each picture, at stride 4, whole or
with errors, and go the way that a network's would: merging, points, cameras, objects. Nothing here was learnt, so this
says what the chain is worth, not what a network is.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pictured_drives import SEEDS, SIZE, PicturedSweep, pictured_sweeps

from seg_perception.config import Config
from seg_perception.datatypes import CameraImage
from seg_perception.evaluation.points import PointScores
from seg_perception.inference.contract import Alignment, ModelContract
from seg_perception.inference.segmenter import Segmentation, segmentation_of
from seg_perception.labels import Taxonomy
from seg_perception.pipeline import Pipeline
from seg_perception.scene.objects import ObjectFinder
from seg_perception.training.datasets import Sample
from seg_perception.training.targets import instance_targets

OUT = Path("bench_out/panoptic.json")
TAXONOMY = Taxonomy.load("cityscapes")
STRIDE = 4
CERTAIN = 8.0  # logit of the true class


@dataclass(frozen=True, slots=True)
class Errors:
    """What the maps are off by. offset: standard deviation as a share of the offset. missed: share of centres."""

    offset: float = 0.0
    missed: float = 0.0


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

    def segment_all(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Segmentation]:
        """See `Segmenter.segment_all`."""
        return [self.segment(pixels) for pixels in pictures]

    def close(self) -> None:
        """Nothing to free."""


def truth_picture(labels: NDArray[np.uint8], instances: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """(H, W, 3): what `TruthSegmenter` reads, the class of each pixel and its instance in two bytes."""
    return np.stack([labels, instances & 255, instances >> 8], axis=-1).astype(np.uint8)


def true_images(sweep: PicturedSweep) -> dict[str, CameraImage]:
    """The truth in place of what the cameras draw."""
    return {
        name: replace(image, pixels=truth_picture(sweep.labels[name], sweep.instances[name]))
        for name, image in sweep.images.items()
    }


def measure(drives: list[PicturedSweep], segmenter: TruthSegmenter, reach_m: float) -> dict[str, float]:
    """PQ in 3D of things, and the least milliseconds of finding the objects of a sweep."""
    config = Config.from_mapping(
        {"cameras": [mount.name for mount in drives[0].cameras], "objects": {"instance_reach_m": reach_m}}
    )
    finder, scores = ObjectFinder(TAXONOMY, config.objects), PointScores(TAXONOMY)
    finding_ms = []
    for sweep in drives:
        pipeline = Pipeline(config, dict.fromkeys(sweep.images, segmenter), sweep.tree)
        for mount in sweep.cameras:
            pipeline.set_camera(mount.name, mount.model)
        result = pipeline.process(sweep.scan, true_images(sweep))
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
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--sweeps", type=int, default=5, help="of each drive, half a second apart")
    args = parser.parse_args()
    drives = [sweep for seed in args.seeds for sweep in pictured_sweeps(seed, args.sweeps)]
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
