"""`seg-perception models`: public checkpoints by name, verified, converted and deployed in one step."""

from __future__ import annotations

import argparse
from pathlib import Path

from seg_perception.cli.deploy import PRESETS, size_of
from seg_perception.errors import ConfigError
from seg_perception.registry.download import MOST_BYTES, file_hash
from seg_perception.registry.entries import BACKBONE, ONNX, Entry, add_entry, find_entry, load_entries
from seg_perception.registry.fetching import DeploymentSizes, default_cache, deployed, fetch


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command with its three actions."""
    parser = subparsers.add_parser(
        "models",
        help="list, fetch and add public checkpoints",
        description="Public checkpoints by name. A file whose SHA-256 is not the one in the list is not kept.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    lists = actions.add_parser("list", help="what can be fetched, under which licence, and how it is verified")
    _add_places(lists)
    lists.set_defaults(run=_list)
    _add_fetch(actions)
    _add_add(actions)


def _add_fetch(actions: argparse._SubParsersAction) -> None:
    parser = actions.add_parser("fetch", help="download, verify, convert and deploy one")
    parser.add_argument("name")
    parser.add_argument("--network-size", type=size_of, help="picture is resized to (1024x512; of an ONNX: its own)")
    parser.add_argument("--image-size", type=size_of, help="fix the camera's size, as TensorRT likes it (any)")
    parser.add_argument("--picture", action="append", default=[], type=Path, help="a real picture to compare on")
    parser.add_argument("--sha256", default="", help="the hash that you trust, or its first 8 digits or more")
    parser.add_argument("--unverified", action="store_true", help="take a file of which no hash is known as it comes")
    parser.add_argument("--max-mib", type=int, default=MOST_BYTES >> 20, help="largest file taken (%(default)s)")
    _add_places(parser)
    parser.set_defaults(run=_fetch)


def _add_add(actions: argparse._SubParsersAction) -> None:
    parser = actions.add_parser("add", help="put a checkpoint of your own on the list")
    parser.add_argument("name")
    parser.add_argument("source", help="a file, or a URL")
    parser.add_argument("--layout", required=True, help="'models fetch' names those there are when it meets another")
    parser.add_argument("--taxonomy", default="cityscapes", help="name or YAML file of its classes (%(default)s)")
    parser.add_argument("--licence", default="", help="as its publisher states it")
    parser.add_argument("--sha256", default="", help="of a URL's file; that of a file is computed")
    parser.add_argument("--preset", choices=tuple(PRESETS), default="none", help="how an ONNX network reads a pixel")
    parser.add_argument("--channel-order", choices=("rgb", "bgr"), default="rgb", help="of an ONNX network")
    parser.add_argument("--replace", action="store_true", help="in place of one of the same name")
    _add_places(parser)
    parser.set_defaults(run=_add)


def _add_places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--list", type=Path, metavar="YAML", help="your own list (~/.config/seg_perception/models.yaml)"
    )
    parser.add_argument("--cache", type=Path, default=default_cache(), help="(%(default)s)")


def _list(args: argparse.Namespace) -> int:
    if args.list is not None and not args.list.is_file():
        raise ConfigError(f"--list {args.list}: no such file")
    for entry in load_entries(args.list).values():
        digits = len(entry.sha256)
        checked = "SHA-256" if digits == 64 else f"{digits} digits of its SHA-256" if digits else "no known SHA-256"
        here = "fetched" if (args.cache / entry.name / entry.file_name).is_file() else "not fetched"
        classes = "" if entry.layout == BACKBONE else f" ({entry.taxonomy})"
        print(f"{entry.name}\n  {entry.layout}{classes}, {checked}, {here}")
        print(f"  {entry.url}\n  {entry.licence or 'licence not stated'}")
    return 0


def _fetch(args: argparse.Namespace) -> int:
    entry = find_entry(args.name, args.list)
    print(f"{entry.name}: {entry.licence or 'licence not stated'}")
    limits = {"most_bytes": args.max_mib << 20, "progress": True}
    file = fetch(entry, args.cache, sha256=args.sha256, unverified=args.unverified, **limits)
    known = max(len(args.sha256), len(entry.sha256))
    checked = f"{known} of 64 digits checked" if known else "not checked against anything"
    print(f"  {file.path}: {'fetched' if file.fetched else 'was there'}, SHA-256 {file.sha256} ({checked})")
    if entry.layout == BACKBONE:
        print("  a backbone: name it as backbone_weights of a training")
        return 0
    from seg_perception.export.verification import read_picture

    pictures = [read_picture(path) for path in args.picture]
    print(f"{deployed(entry, file, args.cache, DeploymentSizes(args.network_size, args.image_size), pictures)}")
    return 0


def _add(args: argparse.Namespace) -> int:
    url, sha256, taxonomy = args.source, args.sha256, args.taxonomy
    if "://" not in url:
        path = Path(url).resolve()
        if not path.is_file():
            raise ConfigError(f"{url}: a file or a URL wanted, no such file")
        seen = file_hash(path)
        if not seen.startswith(sha256):
            raise ConfigError(f"{url}: SHA-256 {sha256} wanted, {seen} seen")
        url, sha256 = path.as_uri(), seen
    if taxonomy.endswith((".yaml", ".yml")):
        taxonomy = str(Path(taxonomy).resolve())
    mean, scale = PRESETS[args.preset]
    pixels = {"mean": mean, "scale": scale, "channel_order": args.channel_order} if args.layout == ONNX else {}
    entry = Entry(args.name, url, args.layout, taxonomy, args.licence, sha256, **pixels)
    print(f"{entry.name}: added to {add_entry(entry, args.list, replace=args.replace)}")
    if not sha256:
        print("  no SHA-256: fetching it will need --sha256 or --unverified")
    return 0
