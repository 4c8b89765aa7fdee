"""`seg-perception`: one command, one subcommand for each thing a user does."""

from __future__ import annotations

import argparse
import logging
import os
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
    """Run one command. An error this package raises on purpose ends in its sentence and exit code 2, and so does what
    the system refuses: a folder that cannot be written, a disk that is full."""
    args = parser().parse_args(argv)
    logging.basicConfig(level=args.log_level.upper(), format="%(levelname)s: %(message)s")
    try:
        code = args.run(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # who read the output, such as `head`, has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (SegPerceptionError, OSError) as error:
        print(f"seg-perception {args.command}: {_sentence(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _sentence(error: Exception) -> str:
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error) or type(error).__name__
    path = error.filename2 or error.filename
    return error.strerror if path is None else f"{path}: {error.strerror}"


if __name__ == "__main__":
    sys.exit(main())
