"""`seg-perception check-calibration`: do points lie where pictures show them? A number, a picture, a sentence."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg_perception.bags import BagReader
from seg_perception.errors import CalibrationError, ConfigError

if TYPE_CHECKING:
    from seg_perception.calibration.checking import Check
    from seg_perception.calibration.gathering import Edges
    from seg_perception.config import Config


def add_parser(subparsers: Any) -> None:
    """Add `check-calibration`."""
    parser = subparsers.add_parser(
        "check-calibration", help="measure how well LiDAR and cameras of a bag fit each other"
    )
    parser.add_argument("bag", type=Path, help="rosbag2: a directory, or a single .mcap or .db3 file")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures and calibration.json")
    parser.add_argument("--config", help="YAML; default: BAG.param.yaml beside the bag")
    parser.add_argument(
        "--calibration",
        type=Path,
        help="extrinsics in place of /tf_static: calib.json of direct_visual_lidar_calibration, KITTI's calib folder "
        "or object text, Autoware's YAML",
    )
    parser.add_argument("--camera", action="append", help="check only this camera; may be repeated; default: all")
    parser.add_argument("--lidar", help="which of several LiDARs")
    parser.add_argument("--sweeps", type=int, default=10, help="sweeps to look at, evenly over the bag; default: 10")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check, draw, say what was found. 0: nothing suspicious; 1: a camera is."""
    from seg_perception.calibration.checking import check
    from seg_perception.calibration.gathering import gather
    from seg_perception.calibration.pictures import camera_picture
    from seg_perception.drawing import save
    from seg_perception.offline import config_for

    if args.sweeps < 1:
        raise ConfigError(f"--sweeps: at least 1 wanted, {args.sweeps} seen")
    config = _lidar(_cameras(config_for(args.bag, args.config), args.camera), args.lidar)
    with BagReader(args.bag) as bag:
        replacing = _replacing(args.calibration, bag, config) if args.calibration else {}
        found, missing = gather(bag, config, args.sweeps, replacing)
    if not found:
        raise CalibrationError("; ".join(missing.values()))
    args.out.mkdir(parents=True, exist_ok=True)
    checks = {}
    for name, camera in found.items():
        others = {other: shots.T_cam_lidar for other, shots in found.items() if other != name}
        checks[name] = check(camera, others)
        save(args.out / f"{name}.jpg", camera_picture(checks[name]))
        print(_lines(checks[name]))
    for sentence in missing.values():
        print(f"not checked  {sentence}")
    report = {"cameras": {name: done.figures() for name, done in checks.items()}, "not_checked": missing}
    (args.out / "calibration.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"pictures  {args.out}/*.jpg\nfigures   {args.out / 'calibration.json'}")
    return int(any(done.verdict == "suspicious" for done in checks.values()))


def _cameras(config: Config, names: list[str] | None) -> Config:
    known = [camera.name for camera in config.cameras]
    if unknown := sorted(set(names or ()) - set(known)):
        raise ConfigError(f"--camera: one of {known} wanted, {unknown} seen")
    return replace(config, cameras=tuple(camera for camera in config.cameras if camera.name in (names or known)))


def _lidar(config: Config, name: str | None) -> Config:
    """Of one LiDAR alone."""
    if not config.lidars and name is None:
        return config
    topics = config.lidar_topics()
    if name not in topics:
        raise ConfigError(f"--lidar: one of {[*topics]} wanted, {name!r} seen")
    return replace(config, lidars=(), lidar=replace(config.lidar, topic=topics[name]))


def _replacing(path: Path, bag: BagReader, config: Config) -> Edges:
    """What the file says, in the frames of this bag."""
    from seg_perception.calibration.files import read_extrinsics
    from seg_perception.calibration.gathering import frames_of

    edges: dict[tuple[str, str], Any] = {}
    lidar_frame, camera_frames = frames_of(bag, config)
    if path.suffix.lower() == ".json" and len(camera_frames) > 1:
        raise ConfigError(
            f"--calibration {path}: it is of one camera; name it with --camera, one of {[*camera_frames]}"
        )
    for name, frame in camera_frames.items():
        edges |= read_extrinsics(path, name, frame, lidar_frame)
    return edges


def _lines(check: Check) -> str:
    """One camera's rows of the table."""
    z = check.trials[0].z
    head = f"{check.camera.name:12s} {check.verdict.upper():11s} {len(check.camera.shots)} pairs, "
    head += f"{check.silhouettes} silhouettes" + (f", {z:.1f} above chance" if math.isfinite(z) else "")
    lines = [head]
    if check.fit is not None:
        names = ("pitch", "yaw", "roll", "x", "y", "z")
        parts = [f"{n} {v:+.2f}±{s:.2f}" for n, v, s in zip(names, check.fit.theta, check.fit.deviation, strict=False)]
        lines.append(f"{'':12s} correction  {' '.join(parts)} (degrees, m; camera's axes)")
        if check.camera.timed:
            lines[-1] += f", late {1e3 * check.fit.theta[6]:+.0f}±{1e3 * check.fit.deviation[6]:.0f} ms"
    return "\n".join(lines + [f"{'':12s} - {sentence}" for sentence in check.sentences])
