"""`seg-perception layout`: RViz configuration, Foxglove layout and SROS2 policy for the sensors of a parameter file."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

from seg_perception.config import NODE_NAME, Config
from seg_perception.errors import ConfigError
from seg_perception.ros.dds import shipped_file
from seg_perception.viewing import layouts

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
WRITTEN: dict[str, Callable[[str, Config, str], str]] = {
    "rviz/perception.rviz": layouts.rviz,
    "foxglove/perception.json": layouts.foxglove,
    "security/policy.xml": layouts.policy,
}
"""What is written, by the file of the package that is its template."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add `layout`."""
    parser = subparsers.add_parser(
        "layout", help="write what RViz, Foxglove and SROS2 need for these cameras and LiDARs"
    )
    parser.add_argument("config", type=Path, help="parameter file")
    parser.add_argument("--out", type=Path, required=True, help="folder to write perception.rviz, .json, policy.xml to")
    parser.add_argument("--namespace", default="", help="namespace of the node")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the files, name them."""
    config = Config.load(args.config)
    names = [*filter(None, args.namespace.split("/")), NODE_NAME]
    if not all(NAME.fullmatch(name) for name in names):
        raise ConfigError(f"--namespace: letters, digits and _ between slashes wanted, '{args.namespace}' seen")
    node = "/" + "/".join(names)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, write in WRITTEN.items():
        template = shipped_file(name)
        if template is None:
            raise ConfigError(f"{name}: not beside this package, nor in its share folder")
        path = args.out / template.name
        path.write_text(write(template.read_text(encoding="utf-8"), config, node), encoding="utf-8")
        print(path)
    return 0
