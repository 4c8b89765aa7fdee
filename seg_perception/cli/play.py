"""`seg-perception play`: publish a recorded bag over DDS, where `ros2 bag` is not installed."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from types import FrameType
from typing import Any

from seg_perception.bags import BagReader
from seg_perception.errors import ConfigError


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add `play`."""
    parser = subparsers.add_parser("play", help="publish a bag over DDS, as `ros2 bag play` does")
    parser.add_argument("bag", type=Path, help="rosbag2: a directory, or a single .mcap or .db3 file")
    parser.add_argument("--rate", type=_positive, default=1.0, help="2 is twice as fast as recorded (default: 1)")
    parser.add_argument("--clock", type=_positive, default=0.0, metavar="HZ", help="publish /clock at this rate")
    parser.add_argument("--loop", action="store_true", help="start over at the end; stamps jump back with it")
    parser.add_argument(
        "--wait-for-subscribers",
        type=float,
        default=10.0,
        metavar="S",
        help="start once somebody listens, or after S seconds (default: 10; 0: at once)",
    )
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Play, then say how many messages each topic had."""
    try:
        from seg_perception.ros.player import PlayOptions, play
    except ImportError as error:
        raise ConfigError(
            f"ROS 2 is needed to publish: {error}; source one, or take the environment of `make venv`"
        ) from error
    _from_now_on(_interrupt)
    options = PlayOptions(args.rate, args.clock, args.loop, args.wait_for_subscribers)
    with BagReader(args.bag) as bag:
        report = play(bag, options, progress=not args.no_progress)
    _from_now_on(signal.SIG_IGN)  # as the interpreter ends, one would become its exit code
    for topic, count in sorted(report.published.items()):
        print(f"{topic:<40}{count:>8} published{', nobody listened at the start' * (topic in report.unheard)}")
    for topic, why in report.skipped.items():
        print(f"{topic:<40}{'':>8} skipped: {why}")
    print(f"latest message: {report.latest_s * 1e3:.1f} ms after it was due")
    return 0


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"a number above 0 wanted, {text} seen")
    return value


def _from_now_on(action: Any) -> None:
    """Do this at SIGINT and SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, action)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Once: what Ctrl-C tells all processes of a launch, the launch tells them again."""
    _from_now_on(signal.SIG_IGN)
    raise KeyboardInterrupt
