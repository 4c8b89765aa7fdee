"""`seg-perception evaluate`: how right the labels of pictures, or of the points of a drive, are."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import ConfigError

if TYPE_CHECKING:
    from seg_perception.bags import BagReader
    from seg_perception.config import Config
    from seg_perception.labels import Taxonomy
    from seg_perception.training.datasets import Sample

    Sweep = tuple[int, NDArray[np.uint8], NDArray[np.uint16]]  # stamp, class and instance of each point


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add `evaluate`."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure labels of pictures, or of points, against their truth",
        description="Measure a deployed network (.onnx) or a checkpoint of a training (.pt, needs PyTorch), with PQ "
        "where it tells things apart, on labelled pictures. With --kind points, measure the labels of points on a "
        "simulated drive: those of a labelled bag, or those that the network gives when the drive is replayed. "
        "A pixel or point that gets no label is a miss.",
    )
    parser.add_argument("model", type=Path, help="deployed OUT.onnx, or best.pt; with points also a labelled bag")
    parser.add_argument("--data", required=True, help="folder or, with --kind bag or points, a simulated drive")
    parser.add_argument("--kind", default="folder", choices=("folder", "cityscapes", "camvid", "bag", "points"))
    parser.add_argument("--split", default="", help="part of the data, where it has parts")
    parser.add_argument("--labels", default="auto", choices=("auto", "train_ids", "ids", "colors"))
    parser.add_argument("--taxonomy", help="name or YAML file of the classes (what the model names)")
    parser.add_argument("--every", type=int, default=1, help="take every so manieth picture or sweep")
    parser.add_argument("--config", help="points: parameter file to replay with (BAG.param.yaml beside the drive)")
    parser.add_argument(
        "--lidar",
        default="",
        metavar="NAME",
        help="points: of several LiDARs that whose clouds are measured, by /truth/NAME/points where it is there",
    )
    parser.add_argument(
        "--fewest-points", type=int, default=15, help="points: smaller instances count for nobody (%(default)s)"
    )
    parser.add_argument("--json", type=Path, help="also write everything here")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, write the JSON."""
    if args.every < 1:
        raise ConfigError(f"--every: at least 1 wanted, {args.every} seen")
    if args.json and not args.json.absolute().parent.is_dir():  # said before it has measured for minutes
        raise ConfigError(f"--json {args.json}: its folder does not exist")
    report, lines = _points(args) if args.kind == "points" else _pictures(args)
    print("\n".join(lines))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


def _pictures(args: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Report and table of a network on pictures."""
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
    lines = semantic_lines(report["semantic"])
    return report, lines + (panoptic_lines(report["panoptic"]) if "panoptic" in report else [])


def _points(args: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Report and table of the labels of points."""
    from tqdm import tqdm

    from seg_perception.bags import BagReader
    from seg_perception.evaluation.points import PointScores, TruthReader, check_classes, truth_topic
    from seg_perception.evaluation.reports import point_lines

    drive = Path(args.data)
    with BagReader(drive) as bag, BagReader(drive) as truth_bag:
        truths = TruthReader(truth_bag, truth_topic(truth_bag, args.lidar))
        sweeps, taxonomy = _replayed(args, bag) if args.model.suffix == ".onnx" else _recorded(args)
        check_classes(truth_bag, taxonomy)
        scores = PointScores(taxonomy, args.fewest_points)
        seen = without_truth = 0
        for stamp, class_id, instance_id in tqdm(sweeps, total=truths.sweeps, unit="sweep"):
            seen += 1
            if (seen - 1) % args.every:
                continue
            truth = truths.at(stamp)
            if truth is None:
                without_truth += 1
            else:
                scores.add(truth, class_id, instance_id)
    report = {"model": args.model.name, "data": args.data, **scores.report()}
    report |= {"sweeps_without_truth": without_truth, "sweeps_without_labels": truths.sweeps - seen + without_truth}
    lines = point_lines(report)
    if without_truth or seen != truths.sweeps:
        lines.append(
            f"{report['sweeps_without_labels']} of {truths.sweeps} sweeps of the drive were not labelled and "
            f"{without_truth} labelled sweeps are none of the drive: neither is in the figures"
        )
    return report, lines


def _replayed(args: argparse.Namespace, bag: BagReader) -> tuple[Iterator[Sweep], Taxonomy]:
    """Every sweep of the drive as the network labels it."""
    from seg_perception.cli.replay import warn_once, with_model
    from seg_perception.inference.loading import load_segmenters
    from seg_perception.intake import Intake
    from seg_perception.labels import Taxonomy
    from seg_perception.offline import config_for, replay

    config: Config = with_model(config_for(bag.path, args.config), str(args.model))
    if args.lidar not in config.lidar_topics():
        raise ConfigError(f"--lidar '{args.lidar}': one of {list(config.lidar_topics())} wanted")
    intake = Intake(config, load_segmenters(config), warn_once())
    clouds = (result.cloud for result in replay(bag, intake) if result.cloud.scan.lidar == args.lidar)
    sweeps = ((cloud.scan.stamp_ns, cloud.class_id, cloud.instance_id) for cloud in clouds)
    return sweeps, Taxonomy.load(args.taxonomy) if args.taxonomy else intake.pipeline.taxonomy


def _recorded(args: argparse.Namespace) -> tuple[Iterator[Sweep], Taxonomy]:
    """Every sweep of a bag that `replay` or the node labelled."""
    from seg_perception.bags import BagReader
    from seg_perception.errors import BagError
    from seg_perception.evaluation.points import check_classes
    from seg_perception.labels import Taxonomy
    from seg_perception.messages.pointcloud import decode_cloud, labels_from_cloud
    from seg_perception.offline import points_topic

    topic = points_topic(args.lidar)
    taxonomy = Taxonomy.load(args.taxonomy or "cityscapes")
    with BagReader(args.model) as bag:
        if topic not in bag.topics:
            raise BagError(
                f"bag {bag.path}: no labelled cloud on {topic} (--lidar names one of several); its topics are "
                f"{list(bag.topics)}"
            )
        check_classes(bag, taxonomy)

    def sweeps() -> Iterator[Sweep]:
        with BagReader(args.model) as bag:
            for message in bag.messages({topic}):
                cloud = decode_cloud(message.msg)
                class_id, _, instance_id = labels_from_cloud(cloud)
                yield cloud.stamp_ns, class_id, instance_id

    return sweeps(), taxonomy


def _predictor(model: Path, taxonomy: str | None) -> tuple[Any, Taxonomy]:
    """What gives labels (and instances) of a picture, and what they mean."""
    from seg_perception.errors import ModelError
    from seg_perception.labels import Taxonomy

    if model.suffix != ".onnx":
        try:
            from seg_perception.training.prediction import TorchPredictor
        except ImportError as error:
            raise ModelError(f"PyTorch is needed for {model}: {error}; `pip install torch`") from error
        predictor = TorchPredictor(model)
        return predictor, Taxonomy.load(taxonomy) if taxonomy else predictor.taxonomy
    from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter
    from seg_perception.inference.panoptic_merging import settled
    from seg_perception.inference.segmenter import LogitsSegmentation

    segmenter = OnnxRuntimeSegmenter(model)
    named = Taxonomy.load(taxonomy or segmenter.contract.taxonomy)

    def predict(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint16] | None]:
        segmentation = segmenter.segment(pixels)
        labels = segmentation.label_image()
        instances = segmentation.instance_image(labels) if isinstance(segmentation, LogitsSegmentation) else None
        if instances is None:
            return labels, None
        return settled(labels, instances, named.is_thing), instances

    return predict, named


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
