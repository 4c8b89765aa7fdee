"""`seg-perception doctor`: what is installed and usable here, whether settings, network and bag fit, and what to do."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from seg_perception.config import parameters_beside
from seg_perception.doctor import project
from seg_perception.doctor.finding import Finding, error
from seg_perception.doctor.machine import machine


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add `doctor`."""
    parser = subparsers.add_parser("doctor", help="check this machine, and settings, network and bag where named")
    parser.add_argument("bag", type=Path, nargs="?", help="rosbag2 that is to fit the settings")
    parser.add_argument("--config", type=Path, help="parameter file; default: BAG.param.yaml beside the bag")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print a line for each finding; exit code 1 where one of them is an error."""
    levels = []
    for finding in _findings(args):
        print(finding, flush=True)
        levels.append(finding.level)
    errors, warnings = levels.count("error"), levels.count("warn")
    print(f"\n{len(levels)} checks: {errors} errors, {warnings} warnings")
    return int(errors > 0)


def _findings(args: argparse.Namespace) -> Iterator[Finding]:
    yield from machine()
    path = args.config or (parameters_beside(args.bag) if args.bag else None)
    if path is None:
        return
    if args.bag and not args.bag.exists():
        yield error(
            "bag", f"{args.bag}: no such file or directory", "name a rosbag2: a directory, a .mcap or a .db3 file"
        )
        return
    if not args.config and not path.is_file():
        remedy = f"name one with --config, or have one written: seg-perception settings {args.bag}"
        yield error("parameters", f"no {path.name} beside the bag", remedy)
        return
    findings, config = project.parameters(path)
    yield from findings
    if config is None:
        return
    yield project.classes(config)
    yield from project.network(config)
    if args.bag:
        yield from project.bag(args.bag, config)
