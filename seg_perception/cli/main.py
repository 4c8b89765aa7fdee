"""`seg-perception`: one command, one subcommand for each thing a user does."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from importlib import import_module

from seg_perception import __version__
from seg_perception.errors import SegPerceptionError

COMMANDS = {  # each is a module of this folder
    "import": "import_",
    "simulate": "simulate",
    "simulate-pictures": "simulate_pictures",
    "play": "play",
    "replay": "replay",
    "map": "map",
    "view": "view",
    "demo": "demo",
    "deploy": "deploy",
    "check-calibration": "check_calibration",
    "check-model": "check_model",
    "build-engine": "build_engine",
    "train": "train",
    "evaluate": "evaluate",
    "export": "export",
    "quantize": "quantize",
    "models": "models",
    "settings": "settings",
    "doctor": "doctor",
    "layout": "layout",
}


def parser(only: str = "") -> argparse.ArgumentParser:
    """The whole command line, or what one command needs of it: all that they import together takes a second. Each
    command's module adds its own part and sets `run`."""
    top = argparse.ArgumentParser(prog="seg-perception", description="Cameras and LiDAR in, a semantic 3D scene out.")
    top.add_argument("--version", action="version", version=__version__)
    top.add_argument("--log-level", default="warning", choices=("debug", "info", "warning", "error"))
    subparsers = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in [only] if only else COMMANDS:
        import_module(f"seg_perception.cli.{COMMANDS[command]}").add_parser(subparsers)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run one command. An error this package raises on purpose ends in its sentence and exit code 2, and so does what
    the system refuses: a folder that cannot be written, a disk that is full."""
    argv = sys.argv[1:] if argv is None else argv
    args = parser(argv[0] if argv and argv[0] in COMMANDS else "").parse_args(argv)
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
