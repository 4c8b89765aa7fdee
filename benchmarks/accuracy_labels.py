"""`make accuracy-labels`: how right a network's labels are, on pictures and points that it has never seen.

Figures go to bench_out/accuracy_labels.json and, as tables, into docs/accuracy.md. Everything is measured by the
commands that a user has: `simulate-pictures`, `evaluate`, `quantize`, `export`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_perception.cli.main import main as command
from seg_perception.errors import ModelError
from seg_perception.evaluation.metrics import ConfusionMatrix
from seg_perception.evaluation.reports import number, percent
from seg_perception.export.calibration import read_pictures
from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter
from seg_perception.inference.openvino_segmenter import OpenVinoSegmenter
from seg_perception.inference.segmenter import Segmenter
from seg_perception.labels import Taxonomy
from seg_perception.shipped import DRIVE, MODEL

OUT, PAGE = Path("bench_out"), Path("docs/accuracy.md")
REAL = Path("../shared/data")
REFERENCE = REAL / "deeplab_cityscapes" / "deeplab_mnv_cityscapes_513x1025.onnx"
UNSEEN_SEED, CALIBRATION_SEED = 101, 102  # the training draws its streets from seed 1, its validation from 2
ROUNDS = 15
Figures = dict[str, Any]


def main() -> int:
    """Measure what can be measured here, write the figures and the page's tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODEL, help="deployed float32 ONNX (the one that ships)")
    parser.add_argument("--checkpoint", type=Path, help="what it was exported from, to compare the two again")
    parser.add_argument("--drive", type=Path, default=DRIVE, help="with the truth of its points (the shipped one)")
    parser.add_argument("--streets", type=int, default=16, help="unseen streets, four pictures each (%(default)s)")
    parser.add_argument("--image-size", default="1024x512", help="of the unseen pictures (%(default)s)")
    parser.add_argument("--no-page", action="store_true", help="leave docs/accuracy.md as it is")
    args = parser.parse_args()
    if not args.model.is_file():
        raise ModelError(f"model {args.model}: no such file; name one with --model")
    OUT.mkdir(exist_ok=True)
    size = args.image_size
    unseen, speed = drawn(UNSEEN_SEED, args.streets, 4, size)
    calibration, _ = drawn(CALIBRATION_SEED, 8, 2, size)
    figures: Figures = {"model": args.model.name, "bytes": args.model.stat().st_size, "simulator": speed}
    figures["unseen"] = told("evaluate", args.model, "--data", unseen)
    figures["points"] = told("evaluate", args.model, "--data", args.drive, "--kind", "points")
    before = figures["unseen"]["semantic"]["mean_iou"]
    targets = ("cpu", "tensorrt")
    figures["int8"] = {each: quantized(args.model, each, calibration, unseen, before) for each in targets}
    if args.checkpoint:
        figures["export"] = exported(args.checkpoint, args.model, unseen)
    if REFERENCE.is_file():
        figures["real"] = beside_reference(args.model)
    (OUT / "accuracy_labels.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    for name, table in tables(figures).items():
        print(f"\n{name}\n{table}")
        if not args.no_page:
            write_block(name, table)
    return 0


def drawn(seed: int, streets: int, per_street: int, size: str) -> tuple[Path, Figures]:
    """A folder of simulated pictures with their truth, and how fast they were drawn when they were."""
    folder = OUT / "pictures" / f"{seed}_{streets}x{per_street}_{size}"
    told_speed = folder / "speed.json"
    if not told_speed.is_file():
        wall, cpu = time.perf_counter(), sum(os.times()[:4])  # of this process and its workers
        options = ("--seed", seed, "--streets", streets, "--per-street", per_street, "--image-size", size)
        run("simulate-pictures", "--out", folder, *options, "--workers", os.cpu_count() or 1)
        count = streets * per_street
        seconds = {"wall_s": (time.perf_counter() - wall) / count, "cpu_s": (sum(os.times()[:4]) - cpu) / count}
        speed = {"pictures": count, "size": size, **seconds, "cores": os.cpu_count()}
        told_speed.write_text(json.dumps(speed), encoding="utf-8")
    return folder, json.loads(told_speed.read_text(encoding="utf-8"))


def run(*words: object) -> None:
    """One command of ours; ends the program where it fails."""
    code = command([str(word) for word in words])
    if code:
        sys.exit(code)


def told(*words: object) -> Figures:
    """What a command writes with --json."""
    path = OUT / "report.json"
    run(*words, "--json", path)
    report = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    return report


def quantized(model: Path, target: str, calibration: Path, unseen: Path, before: float) -> Figures:
    """Loss and speed of the int8 form, which is written to bench_out whatever they are. before: `model`'s mean IoU."""
    int8 = OUT / f"{model.stem}.{target}.onnx"
    source = ("--target", target, "--calibration", calibration / "images", "--pictures", 16)
    run("quantize", model, int8, *source, "--min-agreement", 0)
    after = told("evaluate", int8, "--data", unseen)["semantic"]["mean_iou"]
    picture = read_pictures(calibration / "images", model, 1)[0]
    same = labels_of(model, unseen), labels_of(int8, unseen)
    return {
        "bytes": int8.stat().st_size,
        "mean_iou": before,
        "mean_iou_int8": after,
        "agreement": float(np.mean([(a == b).mean() for a, b in zip(*same, strict=True)])),
        "speed": speed_ratios(model, int8, picture),
    }


def labels_of(model: Path, folder: Path) -> list[NDArray[np.uint8]]:
    """Of sixteen pictures of a folder."""
    segmenter = OnnxRuntimeSegmenter(model)
    labels = [segmenter.segment(picture).label_image() for picture in read_pictures(folder / "images", model, 16)]
    segmenter.close()
    return labels


def speed_ratios(model: Path, int8: Path, picture: NDArray[np.uint8]) -> Figures:
    """How many times faster int8 is than float32, by backend: one thread, taking turns, best of the rounds."""
    backends: dict[str, Callable[[Path], Segmenter]] = {
        "ONNX Runtime": lambda path: OnnxRuntimeSegmenter(path, threads=1),
        "OpenVINO": lambda path: OpenVinoSegmenter(path, threads=1),
    }
    figures: Figures = {}
    for name, load in backends.items():
        try:
            pair = load(model), load(int8)
        except ModelError as error:
            figures[name] = {"refused": str(error)}
            continue
        best = [math.inf, math.inf]
        for _ in range(ROUNDS):
            for k, segmenter in enumerate(pair):
                started = time.perf_counter()
                segmenter.segment(picture)
                best[k] = min(best[k], time.perf_counter() - started)
        figures[name] = {"fp32_ms": 1e3 * best[0], "int8_ms": 1e3 * best[1], "ratio": best[0] / best[1]}
    return figures


def exported(checkpoint: Path, model: Path, unseen: Path) -> Figures:
    """The checkpoint exported anew and compared with what PyTorch computes, on unseen pictures."""
    from seg_perception.export.from_torch import export_network
    from seg_perception.models.checkpoints import load_checkpoint

    size = OnnxRuntimeSegmenter(model).contract.network_size
    pictures = read_pictures(unseen / "images", model, 8)
    report = export_network(load_checkpoint(checkpoint), OUT / "exported.onnx", size, pictures)
    return {"pictures": report.pictures, "difference": report.difference, "agreement": report.agreement}


def beside_reference(model: Path) -> Figures:
    """Labels of real pictures beside those of a DeepLab that was trained on Cityscapes: there is no truth of them."""
    reference = OUT / "reference.onnx"
    run("deploy", REFERENCE, reference, "--mean", 128, "--scale", "1/128")
    names = Taxonomy.load("cityscapes").names
    figures: Figures = {}
    for folder in ("kitti_drive", "nuscenes", "pjlab"):
        pictures = read_pictures(REAL / folder, reference, 10)
        matrix = ConfusionMatrix(len(names))
        ours, theirs = OnnxRuntimeSegmenter(model), OnnxRuntimeSegmenter(reference)
        for picture in pictures:
            matrix.update(theirs.segment(picture).label_image(), ours.segment(picture).label_image())
        # Of classes that the reference hardly sees a ratio says nothing.
        seen = matrix.counts.sum(axis=1) > 0.005 * matrix.counts.sum()
        iou = {names[k]: number(matrix.iou[k]) for k in np.flatnonzero(seen)}
        agreement = number(matrix.pixel_accuracy)
        figures[folder] = {"pictures": len(pictures), "agreement": agreement, "iou": iou}
    return figures


def tables(figures: Figures) -> dict[str, str]:
    """Markdown by the name of its block on the page."""
    semantic, points, speed = figures["unseen"]["semantic"], figures["points"], figures["simulator"]
    visible = points["visible"]
    lines = ["| class | pixels: IoU | points: IoU |", "|---|---|---|"]
    for name, entry in semantic["classes"].items():
        lines.append(f"| {name} | {percent(entry['iou'])} | {percent(visible['classes'][name]['iou'])} |")
    lines += [
        f"| **mean** | **{percent(semantic['mean_iou'])}** | **{percent(visible['mean_iou'])}** |",
        f"| right, of all | {percent(semantic['pixel_accuracy'])} | {percent(visible['point_accuracy'])} |",
        f"| labelled | {percent(semantic['coverage'])} | {percent(visible['coverage'])} |",
        "",
        f"`{figures['model']}`, {figures['bytes'] / 1e6:.1f} MB. Pixels: {figures['unseen']['pictures']} pictures of "
        f"{speed['size']} from streets of seed {UNSEEN_SEED}. Points: the visible ones of {points['sweeps']} sweeps of "
        f"`{Path(points['data']).name}`. Drawing a picture took {speed['cpu_s']:.1f} s of CPU time.",
    ]
    blocks = {"labels unseen": "\n".join(lines), "labels int8": int8_table(figures["int8"])}
    if "export" in figures:
        export = figures["export"]
        blocks["labels export"] = (
            f"On {export['pictures']} unseen pictures the logits of the deployed file differ from PyTorch's by "
            f"{export['difference']:.1e} of the largest, and {export['agreement']:.4%} of the labels are equal."
        )
    if "real" in figures:
        rows = ["| pictures | equal labels | IoU by class |", "|---|---|---|"]
        for folder, entry in figures["real"].items():
            classes = ", ".join(f"{name} {percent(value)}" for name, value in entry["iou"].items())
            rows.append(f"| {folder} ({entry['pictures']}) | {percent(entry['agreement'])} | {classes} |")
        blocks["labels real"] = "\n".join(rows)
    return blocks


def int8_table(figures: Figures) -> str:
    """Loss and speed by target."""
    lines = ["| target | size | mean IoU in float32 | in int8 | loss | equal labels | speed |", "|---" * 7 + "|"]
    for target, entry in figures.items():
        loss = entry["mean_iou"] - entry["mean_iou_int8"]
        speed = ", ".join(
            f"{name} {each['ratio']:.1f}x" if "ratio" in each else f"{name} refuses it"
            for name, each in entry["speed"].items()
        )
        ious = f"{percent(entry['mean_iou'])} | {percent(entry['mean_iou_int8'])} | {100 * loss:.2f} points"
        size = f"{entry['bytes'] / 1e6:.1f} MB"
        lines.append(f"| {target} | {size} | {ious} | {percent(entry['agreement'])} | {speed} |")
    return "\n".join(lines)


def write_block(name: str, table: str) -> None:
    """Put a table where the page has a block of its name."""
    page = PAGE.read_text(encoding="utf-8")
    block = f"<!-- {name} -->\n{table}\n<!-- end -->"
    page = re.sub(rf"<!-- {name} -->.*?<!-- end -->", lambda _: block, page, flags=re.DOTALL)
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
