"""`seg-perception deploy`: any segmentation ONNX -> one that takes raw camera pixels."""

from __future__ import annotations

import argparse

from seg_perception.errors import ModelError

# What a network reads of a pixel, (pixel - mean) * scale, in the channel order it is given in.
PRESETS = {
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "unit": ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
    "tf": ((127.5, 127.5, 127.5), (1 / 127.5, 1 / 127.5, 1 / 127.5)),
    "imagenet": ((123.675, 116.28, 103.53), (1 / 58.395, 1 / 57.12, 1 / 57.375)),
}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "deploy",
        help="make a segmentation network take raw camera pixels",
        description="Wrap a segmentation network (ONNX) so that it takes raw RGB camera pixels, resizes and normalises "
        "them inside the graph, and gives class scores at its own stride. Sizes are written WIDTHxHEIGHT.",
    )
    parser.add_argument("source", metavar="IN.onnx")
    parser.add_argument("destination", metavar="OUT.onnx")
    parser.add_argument("--taxonomy", default="cityscapes", help="name or YAML file of the classes (%(default)s)")
    parser.add_argument("--channel-order", choices=("rgb", "bgr"), default="rgb", help="what the network reads")
    parser.add_argument("--preset", choices=tuple(PRESETS), help="mean and scale by name")
    parser.add_argument("--mean", type=_three, help="subtracted from pixels 0..255: one value or R,G,B")
    parser.add_argument("--scale", type=_three, help="multiplied after that: one value or R,G,B; 1/128 is understood")
    parser.add_argument("--layout", choices=("auto", "NCHW", "NHWC"), default="auto", help="of the network's input")
    parser.add_argument("--network-size", type=size_of, help="size the picture is resized to (as exported)")
    parser.add_argument("--image-size", type=size_of, help="fix the camera's size, as TensorRT likes it (any)")
    parser.add_argument("--output", default="", help="name of the output, where the network has several")
    parser.add_argument("--centre", default="", help="name of the output that is a heat map of the centres of things")
    parser.add_argument(
        "--offset", default="", help="name of the output that points from each pixel to the centre of its thing"
    )
    parser.add_argument("--gives", choices=("auto", "logits", "labels"), default="auto", help="what that output holds")
    parser.add_argument("--labels", action="store_true", help="put out labels and confidence instead of class scores")
    parser.add_argument(
        "--target",
        choices=("any", "cpu"),
        default="any",
        help="cpu: ONNX Runtime and OpenVINO alone, which then take less time for large pictures (%(default)s)",
    )
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="take up to N pictures in one call (1)")
    parser.add_argument("--picture", help="a real picture to compare both networks on (a synthetic one)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Deploy, and say what came out."""
    try:
        from seg_perception.export.batch import to_batch
        from seg_perception.export.deploy import DeploySpec, deploy
        from seg_perception.export.verification import read_picture
    except ImportError as error:
        raise ModelError(f"deploying needs onnx; `pip install onnx onnxruntime` ({error})") from error

    if args.preset is None and (args.mean is None or args.scale is None):
        raise ModelError(
            f"{args.source}: how does the network read a pixel 0..255? name --mean and --scale, or one of --preset "
            f"{', '.join(PRESETS)}; with wrong ones it runs, and labels badly"
        )
    mean, scale = PRESETS[args.preset or "none"]
    spec = DeploySpec(
        taxonomy=args.taxonomy,
        channel_order=args.channel_order,
        mean=args.mean or mean,
        scale=args.scale or scale,
        layout=args.layout,
        network_size=args.network_size,
        image_size=args.image_size,
        output=args.output,
        gives=args.gives,
        labels=args.labels,
        target=args.target,
        centre=args.centre,
        offset=args.offset,
    )
    contract = deploy(args.source, args.destination, spec, read_picture(args.picture) if args.picture else None)
    if args.batch != 1:
        to_batch(args.destination, args.destination, args.batch)
    image = "any size" if contract.image_size is None else "{}x{}".format(*contract.image_size)
    print(f"{args.destination}: pixels of {image}, RGB -> network {_text(contract.network_size)}")
    print(f"  {contract.output} {_text(contract.output_size)}, {contract.num_classes} classes of {contract.taxonomy}")
    if args.batch != 1:
        print(f"  up to {args.batch} pictures in one call")
    if contract.things:
        print(f"  centre and offset beside them, which tell things of {len(contract.things)} classes apart")
    own = contract.network_alignment
    told = "assumed from the sides: the graph does not tell" if contract.alignment_assumed else "from the graph"
    print(
        f"  u_out = {own.scale_u:.6g} u_net {own.offset_u:+.6g}, "
        f"v_out = {own.scale_v:.6g} v_net {own.offset_v:+.6g} ({told})"
    )
    print(f"  labels equal to those of {args.source}, fed the same picture: {contract.label_agreement:.4%}")
    return 0


def size_of(text: str) -> tuple[int, int]:
    """1025x305 -> (1025, 305)."""
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdigit() and int(side) > 0 for side in sides):
        raise argparse.ArgumentTypeError(f"WIDTHxHEIGHT wanted, '{text}' seen")
    return int(sides[0]), int(sides[1])


def _three(text: str) -> tuple[float, float, float]:
    """One value for all three channels, or three separated by commas; each a number or a fraction."""
    try:
        values = [_number(part) for part in text.split(",")]
    except (ValueError, ZeroDivisionError) as error:
        raise argparse.ArgumentTypeError(f"one number or three wanted, '{text}' seen") from error
    if len(values) == 1:
        values *= 3
    if len(values) != 3:
        raise argparse.ArgumentTypeError(f"one number or three wanted, '{text}' seen")
    return values[0], values[1], values[2]


def _number(text: str) -> float:
    numerator, _, denominator = text.partition("/")
    return float(numerator) / float(denominator or 1)


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
