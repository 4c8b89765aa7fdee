"""`seg-perception quantize`: a deployed network in int8, with what it costs."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import ConfigError, ModelError
from seg_perception.labels import Taxonomy

if TYPE_CHECKING:
    from seg_perception.training.datasets import FileSource


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "quantize",
        help="make the int8 form of a deployed network, and measure what it costs",
        description="Put the convolutions of a deployed float32 network into int8 (Q/DQ), with ranges from real "
        "pictures. TensorRT and CPUs need different files. The loss is measured on other pictures; above the limit "
        "nothing is written.",
    )
    parser.add_argument("model", type=Path, metavar="MODEL.onnx", help="made by `seg-perception deploy` or `export`")
    parser.add_argument("destination", type=Path, metavar="OUT.onnx")
    parser.add_argument("--target", required=True, choices=("tensorrt", "cpu"), help="cpu: ONNX Runtime and OpenVINO")
    parser.add_argument("--calibration", type=Path, required=True, metavar="BAG_OR_FOLDER", help="real pictures")
    parser.add_argument("--pictures", type=int, default=32, help="at most so many of them (%(default)s)")
    parser.add_argument("--truth", type=Path, metavar="DATA", help="other, labelled pictures to measure the loss on")
    parser.add_argument(
        "--kind", default="folder", choices=("folder", "cityscapes", "camvid", "bag"), help="of --truth"
    )
    parser.add_argument("--split", default="", help="part of --truth, where it has parts")
    parser.add_argument("--labels", default="auto", choices=("auto", "train_ids", "ids", "colors"), help="of --truth")
    parser.add_argument("--every", type=int, default=1, help="take every so manieth picture of --truth")
    parser.add_argument("--taxonomy", help="name or YAML file of the classes of --truth (what the model names)")
    parser.add_argument("--max-loss", type=float, default=0.02, help="of mean IoU, with --truth (%(default)s)")
    parser.add_argument("--min-agreement", type=float, default=0.9, help="of labels, without it (%(default)s)")
    parser.add_argument(
        "--keep", type=_pair, default=(1, 3), metavar="FIRST,LAST", help="convolutions that stay in float32 (1,3)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Quantise, measure, say what it cost."""
    try:
        from seg_perception.export.calibration import read_pictures
        from seg_perception.export.quantize import Int8Limits, to_int8
    except ImportError as error:
        raise ModelError(f"quantising needs onnx; `pip install onnx onnxruntime` ({error})") from error
    if args.truth and args.truth.resolve() == args.calibration.resolve():
        raise ConfigError(f"--truth {args.truth}: pictures that ranges were not taken from wanted, --calibration seen")
    pictures = read_pictures(args.calibration, args.model, args.pictures)
    with tempfile.TemporaryDirectory() as cache:
        report = to_int8(
            args.model,
            args.destination,
            pictures,
            target=args.target,
            held_out=_labelled(_source(args, Path(cache))) if args.truth else (),
            limits=Int8Limits(args.max_loss, args.min_agreement),
            kept=args.keep,
        )
    before, after = (path.stat().st_size / 1e6 for path in (args.model, args.destination))
    print(f"{args.destination}: int8 for {args.target}, {after:.1f} MB instead of {before:.1f}")
    if np.isnan(report.loss):
        print(f"  {report.agreement:.2%} of the labels of one picture that was kept back stay (no truth: --truth)")
    else:
        print(f"  mean IoU {report.mean_iou:.2%} -> {report.mean_iou_int8:.2%} on {report.pictures} pictures,", end=" ")
        print(f"a loss of {report.loss:.2%}; {report.agreement:.2%} of the labels stay")
    return 0


def _source(args: argparse.Namespace, cache: Path) -> FileSource:
    from seg_perception.inference.contract import ModelContract
    from seg_perception.inference.onnx_file import OnnxFile
    from seg_perception.training.config import SourceConfig
    from seg_perception.training.datasets import open_source

    contract = ModelContract.from_metadata(OnnxFile.read(args.model).metadata, str(args.model))
    taxonomy = Taxonomy.load(args.taxonomy or contract.taxonomy)
    return open_source(SourceConfig(str(args.truth), args.kind, args.split, args.labels, args.every), taxonomy, cache)


def _labelled(source: FileSource) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    from tqdm import tqdm

    for index in tqdm(range(len(source)), desc="measuring", unit="picture"):
        sample = source[index]
        yield sample.pixels, sample.labels


def _pair(text: str) -> tuple[int, int]:
    parts = text.split(",")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"two numbers FIRST,LAST wanted, '{text}' seen")
    return int(parts[0]), int(parts[1])
