"""`seg-perception simulate-pictures`: pictures with their truth, to train a network on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from seg_perception.cli.simulate import image_size


def add_parser(subparsers: Any) -> None:
    """Add `simulate-pictures`."""
    parser = subparsers.add_parser("simulate-pictures", help="make up pictures with exact truth, to train on")
    parser.add_argument("--out", type=Path, required=True, help="folder; kind `folder` of a training's sources")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other streets; default: 1")
    parser.add_argument("--streets", type=int, default=300, help="default: 300")
    parser.add_argument("--per-street", type=int, default=8, help="pictures; default: 8")
    parser.add_argument("--image-size", default="512x256", metavar="WxH", help="default: 512x256")
    parser.add_argument("--workers", type=int, default=1, help="processes; default: 1")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Draw them, or what is still missing of them."""
    from seg_perception.simulation.pictures import PictureSet, write_pictures

    pictures = PictureSet(args.seed, args.streets, args.per_street, image_size(args.image_size))
    count = write_pictures(pictures, args.out, workers=args.workers)
    print(f"{count} pictures with labels and instances in {args.out}")
    return 0
