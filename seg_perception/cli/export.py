"""`seg-perception export`: a trained or published PyTorch network -> a deployed ONNX, compared on pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

from seg_perception.cli.deploy import size_of


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "export",
        help="turn a trained PyTorch network into a deployed ONNX",
        description="Export a checkpoint of `seg-perception train`, or a published one, and run both networks on "
        "pictures: where logits or labels differ, nothing is written.",
    )
    parser.add_argument("checkpoint", help="best.pt of a training, or published weights with --layout")
    parser.add_argument("destination", metavar="OUT.onnx")
    parser.add_argument("--layout", help="of published weights, such as vainf/deeplabv3plus_mobilenet; 'list': all")
    parser.add_argument("--taxonomy", help="name or YAML file of the classes (of the training; published: cityscapes)")
    parser.add_argument("--network-size", type=size_of, default=(1024, 512), help="picture is resized to (1024x512)")
    parser.add_argument("--image-size", type=size_of, help="fix the camera's size, as TensorRT likes it (any)")
    parser.add_argument(
        "--picture", action="append", default=[], type=Path, help="a real picture to compare on; may be repeated"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Export, compare, say what came out."""
    from seg_perception.errors import ModelError

    try:
        from seg_perception.models.checkpoints import PUBLISHED, LoadedNetwork, load_checkpoint, load_published
    except ImportError as error:
        raise ModelError(f"PyTorch is needed to export: {error}; `pip install torch`") from error
    from dataclasses import replace

    from seg_perception.export.from_torch import export_network
    from seg_perception.export.verification import read_picture

    if args.layout == "list":
        print("\n".join(sorted(PUBLISHED)))
        return 0
    if args.layout:
        model = load_published(args.layout, args.checkpoint)
        network = LoadedNetwork(model, args.taxonomy or "cityscapes", PUBLISHED[args.layout].preprocessing)
    else:
        network = load_checkpoint(args.checkpoint)
        network = replace(network, taxonomy=args.taxonomy or network.taxonomy)
    pictures = [read_picture(path) for path in args.picture]
    report = export_network(network, args.destination, args.network_size, pictures, image_size=args.image_size)
    contract = report.contract
    print(f"{args.destination}: network {_text(contract.network_size)}, logits {_text(contract.output_size)}, ", end="")
    print(f"{Path(args.destination).stat().st_size / 1e6:.1f} MB")
    kind = "pictures" if pictures else "synthetic picture (give real ones with --picture)"
    maps = "logits, centres and offsets" if contract.things else "logits"
    print(f"  compared on {report.pictures} {kind}: {maps} differ by {report.difference:.2g} of the largest,")
    print(f"  {report.agreement:.4%} of the labels are equal")
    return 0


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
