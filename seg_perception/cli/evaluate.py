"""`seg-perception evaluate`: how right a network's labels are, on pictures with truth."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seg_perception.labels import Taxonomy
    from seg_perception.training.datasets import Sample


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add `evaluate`."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure a network on pictures with truth",
        description="Measure a deployed network (.onnx) or a checkpoint of a training (.pt, needs PyTorch; with PQ "
        "where it is a Panoptic-DeepLab) on labelled pictures. A pixel that gets no label is a miss.",
    )
    parser.add_argument("model", type=Path, help="deployed OUT.onnx, or best.pt")
    parser.add_argument("--data", required=True, help="folder or, with --kind bag, a simulated drive")
    parser.add_argument("--kind", default="folder", choices=("folder", "cityscapes", "camvid", "bag"))
    parser.add_argument("--split", default="", help="part of the data, where it has parts")
    parser.add_argument("--labels", default="auto", choices=("auto", "train_ids", "ids", "colors"))
    parser.add_argument("--taxonomy", help="name or YAML file of the classes (what the model names)")
    parser.add_argument("--every", type=int, default=1, help="take every so manieth picture")
    parser.add_argument("--json", type=Path, help="also write everything here")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, write the JSON."""
    from tqdm import tqdm

    from seg_perception.evaluation.reports import panoptic_lines, semantic_lines
    from seg_perception.training.config import SourceConfig
    from seg_perception.training.datasets import open_source

    source_config = SourceConfig(args.data, args.kind, args.split, args.labels, args.every)
    predictor, taxonomy = _predictor(args.model, args.taxonomy)
    with tempfile.TemporaryDirectory() as cache:
        source = open_source(source_config, taxonomy, Path(cache))
        report = _measure(predictor, tqdm((source[k] for k in range(len(source))), total=len(source)), taxonomy)
    report = {"model": args.model.name, "data": args.data, "pictures": len(source), **report}
    print("\n".join(semantic_lines(report["semantic"])))
    if "panoptic" in report:
        print("\n".join(panoptic_lines(report["panoptic"])))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


def _predictor(model: Path, taxonomy: str | None) -> tuple[Any, Taxonomy]:
    """What gives labels (and instances) of a picture, and what they mean."""
    from seg_perception.errors import ModelError
    from seg_perception.labels import Taxonomy

    if model.suffix != ".onnx":
        try:
            from seg_perception.training.prediction import TorchPredictor
        except ImportError as error:
            raise ModelError(f"PyTorch is needed for {model}: {error}; `pip install seg_perception[torch]`") from error
        predictor = TorchPredictor(model)
        return predictor, Taxonomy.load(taxonomy) if taxonomy else predictor.taxonomy
    from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter

    segmenter = OnnxRuntimeSegmenter(model)
    named = Taxonomy.load(taxonomy or segmenter.contract.taxonomy)
    return lambda pixels: (segmenter.segment(pixels).label_image(), None), named


def _measure(predictor: Any, samples: Iterable[Sample], taxonomy: Taxonomy) -> dict[str, Any]:
    """Semantic, and panoptic where both sides tell things apart."""
    from seg_perception.evaluation.metrics import ConfusionMatrix, PanopticQuality
    from seg_perception.evaluation.reports import panoptic_report, semantic_report

    classes = len(taxonomy.trained)
    matrix, quality = ConfusionMatrix(classes), PanopticQuality(taxonomy.is_thing[:classes])
    panoptic = False
    for sample in samples:
        labels, instances = predictor(sample.pixels)
        matrix.update(sample.labels, labels)
        if instances is not None and sample.instances is not None:
            quality.update(sample.labels, sample.instances, labels, instances)
            panoptic = True
    report = {"semantic": semantic_report(matrix, taxonomy.names)}
    if panoptic:
        report["panoptic"] = panoptic_report(quality.scores, taxonomy.names, taxonomy.is_thing)
    return report
