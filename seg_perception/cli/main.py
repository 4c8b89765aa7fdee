"""`seg-perception`: one command, one subcommand for each thing a user does."""

from __future__ import annotations

import argparse
import logging
import sys

from seg_perception import __version__
from seg_perception.cli import (
    build_engine,
    check_calibration,
    check_model,
    demo,
    deploy,
    doctor,
    evaluate,
    export,
    import_,
    layout,
    map,
    models,
    play,
    quantize,
    replay,
    simulate,
    simulate_pictures,
    train,
    view,
)
from seg_perception.errors import SegPerceptionError

COMMANDS = (
    import_,
    simulate,
    simulate_pictures,
    play,
    replay,
    map,
    view,
    demo,
    deploy,
    check_calibration,
    check_model,
    build_engine,
    train,
    evaluate,
    export,
    quantize,
    models,
    doctor,
    layout,
)


def parser() -> argparse.ArgumentParser:
    """The whole command line. Each command module adds its own part and sets `run`."""
    top = argparse.ArgumentParser(prog="seg-perception", description="Cameras and LiDAR in, a semantic 3D scene out.")
    top.add_argument("--version", action="version", version=__version__)
    top.add_argument("--log-level", default="warning", choices=("debug", "info", "warning", "error"))
    subparsers = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(subparsers)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run one command. An error this package raises on purpose ends in its sentence and exit code 2."""
    args = parser().parse_args(argv)
    logging.basicConfig(level=args.log_level.upper(), format="%(levelname)s: %(message)s")
    try:
        return args.run(args)
    except SegPerceptionError as error:
        print(f"seg-perception {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
