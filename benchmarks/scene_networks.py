"""`python benchmarks/scene_networks.py [NETWORK.onnx ...]`: what real networks make of the scene, on simulated drives.

Each goes the whole way: picture, backend, merging, painting, objects, grid. Beside the network that ships and those
that are named, the truth goes through the same chain. Prints a table, and writes bench_out/scene_networks.json.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from panoptic import Errors, TruthSegmenter, true_images
from pictured_drives import SEEDS, PicturedSweep, pictured_sweeps
from scene import score_road
from scene_truth import TAXONOMY, true_road

from seg_perception.config import Config
from seg_perception.evaluation.metrics import PanopticQuality
from seg_perception.evaluation.points import PointScores
from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter
from seg_perception.inference.panoptic_merging import settled
from seg_perception.inference.segmenter import LogitsSegmentation, Segmenter
from seg_perception.pipeline import Pipeline
from seg_perception.scene.memory import SceneMemory
from seg_perception.shipped import MODEL

OUT = Path("bench_out/scene_networks.json")
SMALLEST = 100  # pixels of an instance that is neither missed nor a false alarm
STUFF = ~TAXONOMY.is_thing[: len(TAXONOMY.trained)]


def measure(drives: list[list[PicturedSweep]], segmenter: Segmenter, *, truth: bool = False) -> dict[str, Any]:
    """All figures of one network. truth: it reads them from pictures of the truth."""
    config = Config.from_mapping({"cameras": [mount.name for mount in drives[0][0].cameras]})
    objects = {"image instances": PointScores(TAXONOMY), "clusters": PointScores(TAXONOMY)}
    pictures = PanopticQuality(~STUFF, smallest=SMALLEST)
    road = np.zeros(4, np.int64)
    for sweeps in drives:
        memories = {name: SceneMemory(config, TAXONOMY) for name in objects}
        picture, corner = true_road(sweeps[0].config)
        for sweep in sweeps:
            images = true_images(sweep) if truth else sweep.images
            pipeline = Pipeline(config, dict.fromkeys(images, segmenter), sweep.tree)
            for mount in sweep.cameras:
                pipeline.set_camera(mount.name, mount.model)
            result = pipeline.process(sweep.scan, images)
            for name, memory in memories.items():
                cloud = result.cloud
                if name == "clusters":
                    cloud = replace(cloud, instance_id=np.zeros_like(cloud.instance_id))
                update = memory.update(cloud, result.sweep.points, result.sweep.T_fixed_lidar())
                assert update.objects is not None and memory.grid is not None
                objects[name].add(sweep.truth, cloud.class_id, (update.objects.of_point + 1).astype(np.int64))
            for name, image in images.items():
                _score_picture(pictures, sweep, name, segmenter.segment(image.pixels))
            road += score_road(memory.grid.layers(update.stamp_ns, update.objects), sweep, picture, corner)
    hit, wrong, denied, unseen = road.tolist()
    tells = bool(segmenter.contract.things)
    solid = {name: scores.quality for name, scores in objects.items() if tells or name == "clusters"}
    figures: dict[str, Any] = {
        "mIoU of visible points": objects["clusters"].visible.mean_iou,
        "drivable where known": hit / (hit + wrong + denied),
        "never seen counted as missed": hit / (hit + wrong + denied + unseen),
        "2D, stuff": list(pictures.scores.mean(STUFF)),
        "2D, things": list(pictures.scores.mean(~STUFF)) if tells else None,
    }
    for name in objects:
        quality = solid.get(name)
        figures[f"3D, {name}"] = None if quality is None else list(quality.scores.mean(~STUFF))
        counts = ("matched", "missed", "false_alarms")
        figures[f"{name}: matched, missed, false alarms"] = (
            None if quality is None else [int(getattr(quality, count)[~STUFF].sum()) for count in counts]
        )
    return figures


def _score_picture(quality: PanopticQuality, sweep: PicturedSweep, name: str, said: Any) -> None:
    labels = said.label_image()
    instances = said.instance_image(labels) if isinstance(said, LogitsSegmentation) else None
    if instances is None:
        instances = np.zeros(labels.shape, np.uint16)
    else:
        labels = settled(labels, instances, TAXONOMY.is_thing)
    quality.update(sweep.labels[name], sweep.instances[name], labels, instances)


def main() -> None:
    """Print the table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", type=Path, help="deployed ONNX files, beside the one that ships")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--sweeps", type=int, default=5, help="of each drive, half a second apart")
    args = parser.parse_args()
    drives = [list(pictured_sweeps(seed, args.sweeps)) for seed in args.seeds]
    rows = {"truth at stride 4": measure(drives, TruthSegmenter(Errors(), tells_things=True), truth=True)}
    for path in [MODEL, *args.networks]:
        rows[path.stem] = measure(drives, OnnxRuntimeSegmenter(path))
    columns = list(next(iter(rows.values())))
    print("| network | " + " | ".join(columns) + " |\n|---|" + "---:|" * len(columns))
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(_text(row[column]) for column in columns) + " |")
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list):
        return ", ".join(f"{each:.3f}" if isinstance(each, float) else str(each) for each in value)
    return f"{100.0 * value:.1f} %"


if __name__ == "__main__":
    main()
