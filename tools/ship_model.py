"""Make what comes with the package of a trained checkpoint: the deployed network in float32 and int8, and its card.

    .venv/bin/python tools/ship_model.py runs/shipped_more/best.pt --data data/simulated      # needs PyTorch and Open3D

The int8 form is refused where it loses more than 2 points of mean IoU on the validation pictures. Every figure on the
card is measured here, by `make accuracy-labels`, on streets that no part of the training has seen.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from seg_perception.cli.main import main as command
from seg_perception.models.checkpoints import load_checkpoint, read_checkpoint
from seg_perception.shipped import CARD, MODEL, MODEL_INT8

LARGEST = 12e6  # bytes of a file
FIGURES = Path("bench_out/accuracy_labels.json")
CANNOT = """\
It has seen simulated streets only: one style of town, by day, dry. On real pictures it is a demonstration, not a
perception system: see the table of real pictures in docs/accuracy.md. It knows no night, rain, snow, tunnels, animals,
construction sites or motorways, and its lane markings are road. Train on your own data before you drive by it."""


def main() -> int:
    """Export, quantise, measure, write the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="best.pt of a training")
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and val/ of `simulate-pictures`")
    parser.add_argument("--network-size", default="512x256", help="(%(default)s)")
    args = parser.parse_args()
    pictures = sorted((args.data / "val" / "images").iterdir())[:8]
    compared = [word for picture in pictures for word in ("--picture", picture)]
    run("export", args.checkpoint, MODEL, "--network-size", args.network_size, *compared)
    truth = ("--calibration", args.data / "train" / "images", "--truth", args.data, "--split", "val")
    run("quantize", MODEL, MODEL_INT8, "--target", "cpu", *truth)
    for path in (MODEL, MODEL_INT8):
        if path.stat().st_size > LARGEST:
            sys.exit(f"{path}: {path.stat().st_size / 1e6:.1f} MB, at most {LARGEST / 1e6:.0f} MB wanted")
    subprocess.run([sys.executable, "benchmarks/accuracy_labels.py", "--checkpoint", args.checkpoint], check=True)
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    CARD.write_text(yaml.safe_dump(card(args.checkpoint, figures), sort_keys=False, width=120), encoding="utf-8")
    print(CARD.read_text(encoding="utf-8"))
    return 0


def run(*words: object) -> None:
    """One command of ours; ends the program where it fails."""
    code = command([str(word) for word in words])
    if code:
        sys.exit(code)


def card(checkpoint: Path, figures: dict[str, Any]) -> dict[str, Any]:
    """What there is to know about the model."""
    unseen, points = figures["unseen"]["semantic"], figures["points"]["visible"]
    return {
        "name": "street",
        "date": datetime.date.today().isoformat(),
        "network": "DeepLabV3+ MobileNetV2, output stride 16, separable ASPP and decoder, 19 Cityscapes classes",
        "parameters": sum(parameter.numel() for parameter in load_checkpoint(checkpoint).model.parameters()),
        "files": {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in (MODEL, MODEL_INT8)},
        "training": trainings(checkpoint),
        "data": "streets of seeds 1 and 3 (see config/training/shipped_start.yaml), validated on those of seed 2",
        "unseen_streets": {
            "pictures": figures["unseen"]["pictures"],
            "mean_iou": rounded(unseen["mean_iou"]),
            "mean_iou_int8": rounded(figures["int8"]["cpu"]["mean_iou_int8"]),
            "pixel_accuracy": rounded(unseen["pixel_accuracy"]),
            "iou": {name: rounded(entry["iou"]) for name, entry in unseen["classes"].items()},
        },
        "shipped_drive": {
            "sweeps": figures["points"]["sweeps"],
            "point_mean_iou": rounded(points["mean_iou"]),
            "point_accuracy": rounded(points["point_accuracy"]),
        },
        "cannot": CANNOT.replace("\n", " "),
        "licence": "Apache-2.0; no weights and no pictures of others were used",
    }


def trainings(checkpoint: Path) -> list[dict[str, Any]]:
    """What was trained for how long, from the first to the last: each names what it started from."""
    training = read_checkpoint(checkpoint)["training"]
    config = training["config"]
    before = trainings(checkpoint.parents[2] / config["start_from"]) if config.get("start_from") else []
    done = {"steps": training["iteration"], "of": config["schedule"]["iterations"], "seed": config["seed"]}
    kept = {part: config[part] for part in ("augmentation", "loss", "schedule")}
    return [*before, {**done, "validation_mean_iou": rounded(training["best"]), **kept}]


def rounded(value: float | None) -> float | None:
    """To four digits."""
    return None if value is None else round(value, 4)


def sha256(path: Path) -> str:
    """Of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
