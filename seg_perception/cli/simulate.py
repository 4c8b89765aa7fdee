"""`seg-perception simulate`: a drive with exact truth, from a seed, as a rosbag2."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from seg_perception.errors import ConfigError


def add_parser(subparsers: Any) -> None:
    """Add `simulate`."""
    parser = subparsers.add_parser("simulate", help="make up a drive with exact truth")
    parser.add_argument("--out", type=Path, required=True, help="OUT.mcap; OUT.param.yaml is written beside it")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another street; default: 0")
    parser.add_argument("--seconds", type=float, default=20.0, help="default: 20")
    parser.add_argument("--speed", type=float, default=12.0, help="m/s, 0 to 30; default: 12")
    parser.add_argument("--trajectory", choices=["straight", "turning", "braking"], default="turning")
    parser.add_argument("--static-world", action="store_true", help="only the vehicle itself moves")
    parser.add_argument("--cameras", type=int, default=1, help="1 to 8, evenly around; default: 1, ahead")
    parser.add_argument("--image-size", default="1024x512", metavar="WxH", help="default: 1024x512")
    parser.add_argument("--field-of-view", type=float, default=80.0, help="across, degrees; default: 80")
    parser.add_argument("--fisheye", action="store_true", help="equidistant lenses instead of plumb_bob ones")
    parser.add_argument("--camera-rate", type=float, default=10.0, help="Hz; default: 10")
    parser.add_argument(
        "--camera-offset-ms", type=float, default=0.0, help="exposure after the instant at which the LiDAR looks ahead"
    )
    parser.add_argument(
        "--rolling-shutter-us", type=float, default=0.0, help="time between rows; default: 0, all at once"
    )
    parser.add_argument("--lidar-camera-distance", type=float, default=0.9, help="metres; default: 0.9")
    parser.add_argument("--beams", type=int, default=64, help="of the LiDAR, 16 to 128; default: 64")
    parser.add_argument("--lidar-rate", type=float, default=10.0, help="sweeps a second; default: 10")
    parser.add_argument("--transport", choices=["jpeg", "raw"], default="jpeg", help="of the pictures; default: jpeg")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Simulate, and say what was written, how fast, and whether points and pictures agree."""
    from seg_perception.simulation.config import DriveConfig, LidarMount, standard_rig
    from seg_perception.simulation.drive import Drive
    from seg_perception.simulation.writing import write_drive

    lidar = LidarMount(beams=args.beams, rate_hz=args.lidar_rate)
    rig = standard_rig(
        args.cameras,
        image_size(args.image_size),
        field_of_view_deg=args.field_of_view,
        distance=args.lidar_camera_distance,
        offset_ms=args.camera_offset_ms,
        rate_hz=args.camera_rate,
        row_time_us=args.rolling_shutter_us,
        fisheye=args.fisheye,
        lidar=lidar,
    )
    config = DriveConfig(
        seed=args.seed,
        seconds=args.seconds,
        speed=args.speed,
        trajectory=args.trajectory,
        static_world=args.static_world,
        cameras=rig,
        lidar=lidar,
        transport=args.transport,
    )
    done = write_drive(Drive(config), args.out, progress=True)
    for topic, count in sorted(done.counts.items()):
        print(f"{count:8d}  {topic}")
    print(f"bag       {done.bag}\nsettings  {done.config}")
    print(
        f"speed     {done.frames} pictures and {done.sweeps} sweeps in {done.seconds:.1f} s: "
        f"{done.frames / done.seconds:.2f} pictures/s"
    )
    check = done.agreement
    print(
        f"truth     {100.0 * check.share:.3f} % of {check.compared} visible points agree with their pixel; "
        f"{100.0 * check.silhouette_share:.1f} % lie on silhouettes and were left out"
    )
    return 0


def image_size(text: str) -> tuple[int, int]:
    """(width, height) of "WxH"."""
    width, cross, height = text.partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise ConfigError(f"--image-size: WxH wanted, as 1024x512, '{text}' seen")
    return int(width), int(height)
