"""`seg-perception settings`: the parameter file that a recorded bag asks for, to begin with."""

from __future__ import annotations

import argparse
from pathlib import Path

import yaml

from seg_perception.bags import BagReader
from seg_perception.config import parameters_beside
from seg_perception.doctor.suggestion import suggest
from seg_perception.errors import ConfigError


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add `settings`."""
    parser = subparsers.add_parser("settings", help="write the parameter file that a recorded bag asks for")
    parser.add_argument("bag", type=Path, help="rosbag2: a directory, or a single .mcap or .db3 file")
    parser.add_argument("--out", type=Path, help="file to write; default: BAG.param.yaml beside the bag")
    parser.add_argument("--model", default="", help="deployed ONNX to name in it")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Look at the bag, write the file, say what is left to do."""
    out = args.out or parameters_beside(args.bag)
    if out.exists():
        raise ConfigError(f"{out}: exists already; name another file with --out")
    with BagReader(args.bag) as bag:
        suggestion = suggest(bag)
    parameters = {**suggestion.parameters, "inference": {"model": args.model}}
    out.write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}, sort_keys=False), encoding="utf-8")
    for note in suggestion.notes:
        print(f"  {note}")
    print(f"{out}\nnext: seg-perception doctor {args.bag} --config {out}")
    return 0
