"""`seg-perception import`: recordings of other formats as a rosbag2, with the parameter file that fits it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seg_perception.importers.recording import Imported


def add_parser(subparsers: Any) -> None:
    """Add the command and its formats."""
    parser = subparsers.add_parser("import", help="turn KITTI, nuScenes or picture-and-PCD data into a bag")
    formats = parser.add_subparsers(dest="format", required=True, metavar="FORMAT")
    _add_kitti(formats)
    _add_nuscenes(formats)
    _add_pcd_pair(formats)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Import, and say what was written."""
    importer: Callable[[argparse.Namespace], Imported] = args.importer
    done = importer(args)
    for topic, count in sorted(done.counts.items()):
        print(f"{count:8d}  {topic}")
    print(f"bag       {done.bag}\nsettings  {done.config}")
    return 0


def _add_kitti(formats: Any) -> None:
    parser = formats.add_parser("kitti", help="a KITTI raw drive, synced and rectified")
    parser.add_argument("drive", type=Path, help="folder with image_0X, velodyne_points and perhaps oxts")
    parser.add_argument("--calib", type=Path, required=True, help="folder with the day's calib_*.txt")
    parser.add_argument(
        "--camera", action="append", choices=["00", "01", "02", "03"], help="may be repeated; default: 02"
    )
    parser.add_argument("--timestamps", type=Path, help="folder with the stamps, where the drive has none")
    parser.add_argument(
        "--odometry",
        choices=["oxts", "sweeps"],
        default="oxts",
        help="where the vehicle is: as recorded, where it was; or estimated from the sweeps (needs Open3D)",
    )
    parser.add_argument("--loop", type=int, default=1, help="repeat the drive this often, stamps going on")
    _add_compressed(parser)
    _add_output(parser, _kitti)


def _add_nuscenes(formats: Any) -> None:
    parser = formats.add_parser("nuscenes", help="nuScenes key frames beside an info.json")
    parser.add_argument("folder", type=Path, help="folder with info.json, pictures and sweeps")
    parser.add_argument(
        "--poses",
        choices=["per-camera", "twist"],
        default="per-camera",
        help="the vehicle at each picture: from that camera's own lidar2cam, or by one twist fitted to all of them",
    )
    parser.add_argument(
        "--hold-out", action="append", default=[], metavar="CAM", help="keep this camera out of the fit"
    )
    _add_output(parser, _nuscenes)


def _add_pcd_pair(formats: Any) -> None:
    parser = formats.add_parser("pcd-pair", help="one picture, one PCD file and their calibration")
    parser.add_argument("--image", type=Path, required=True, help="PNG or JPEG")
    parser.add_argument("--cloud", type=Path, required=True, help="PCD file")
    parser.add_argument("--calib", type=Path, required=True, help="text with K, D and T, or an intrinsic JSON")
    parser.add_argument("--extrinsic", type=Path, help="extrinsic JSON, beside an intrinsic one")
    parser.add_argument(
        "--stamp", help="when, in seconds since 1970; default: the first point's time where there is one, else 1"
    )
    _add_compressed(parser)
    _add_output(parser, _pcd_pair)


def _add_compressed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--compressed",
        dest="transport",
        choices=["jpeg", "png"],
        default="raw",
        help="write CompressedImage; a file that is in this format already keeps its bytes; default: raw rgb8",
    )


def _add_output(parser: argparse.ArgumentParser, importer: Callable[[argparse.Namespace], Imported]) -> None:
    parser.add_argument("--out", type=Path, required=True, help="OUT.mcap for one file, else a folder")
    parser.set_defaults(importer=importer)


def _kitti(args: argparse.Namespace) -> Imported:
    from seg_perception.importers.kitti import import_kitti

    return import_kitti(
        args.drive,
        args.calib,
        args.out,
        cameras=args.camera or ["02"],
        timestamps=args.timestamps,
        loop=args.loop,
        transport=args.transport,
        odometry=args.odometry,
        progress=True,
    )


def _nuscenes(args: argparse.Namespace) -> Imported:
    from seg_perception.importers.nuscenes import import_nuscenes

    return import_nuscenes(args.folder, args.out, poses=args.poses, hold_out=args.hold_out, progress=True)


def _pcd_pair(args: argparse.Namespace) -> Imported:
    from seg_perception.importers.pcd_pair import import_pcd_pair, parse_stamp

    return import_pcd_pair(
        args.image,
        args.cloud,
        args.calib,
        args.out,
        extrinsic=args.extrinsic,
        stamp_ns=None if args.stamp is None else parse_stamp(args.stamp),
        transport=args.transport,
        progress=True,
    )
