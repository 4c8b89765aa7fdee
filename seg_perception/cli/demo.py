"""`seg-perception demo`: a recorded drive through the live node, and what came of it: a bag, a picture, a summary."""

from __future__ import annotations

import argparse
import heapq
import json
import os
import tempfile
from operator import itemgetter
from pathlib import Path

from tqdm import tqdm

from seg_perception.bags import BagReader, BagWriter
from seg_perception.config import Config
from seg_perception.drawing import save, sweep_picture
from seg_perception.errors import ConfigError, SegPerceptionError
from seg_perception.labels import Taxonomy
from seg_perception.offline import POINTS_TOPIC, check_topics, labelled_sweep
from seg_perception.statistics import summary_lines

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
LAPS = 20
LOG_SLACK_NS = 70_000_000  # a sweep is recorded when it ends, half a turn after its stamp
WANTED = 0.95  # share of sweeps that a live run at real speed has to label
RESULTS = ("model.onnx", "labelled.mcap", "picture.png", "summary.json", "node.log", "player.log")
NETWORK_SIZE = (625, 193)  # KITTI's wide pictures keep their shape, and a CPU keeps up


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add `demo`."""
    parser = subparsers.add_parser("demo", help="play a drive through the live node; leave a bag, a picture, a summary")
    parser.add_argument("--out", type=Path, default=Path("demo_out"), help="folder for the results (%(default)s)")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with kitti_drive/ and deeplab_cityscapes/")
    parser.add_argument("--laps", type=int, default=LAPS, help="how often the drive is driven (%(default)s)")
    parser.add_argument("--rate", type=float, default=1.0, help="1 is as fast as it was driven")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prepare the drive and the network, run them live, write the results."""
    try:
        from seg_perception.ros.live_run import live_run
    except ImportError as error:
        raise ConfigError(f"the demo needs ROS 2: {error}; `make demo` installs it, or source one") from error
    network, recording = _existing(args.data, "deeplab_cityscapes/*.onnx"), _existing(args.data, "kitti_drive")
    args.out.mkdir(parents=True, exist_ok=True)
    for name in RESULTS:  # of an earlier run; nothing else in the folder is ours
        (args.out / name).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="drive-", dir=args.out) as scratch:
        model = _deployed(network, args.out / "model.onnx")
        drive, parameters = _imported(recording, Path(scratch) / "drive.mcap", args.laps)
        config = Config.load(parameters)
        taxonomy = Taxonomy.load(config.taxonomy)
        with BagReader(drive) as bag:
            check_topics(bag, config)
            sweeps = bag.counts[config.lidar.topic]
        clouds: dict[int, bytes] = {}
        print(f"playing {sweeps} sweeps through the live node at {args.rate:g} x real speed")
        with tqdm(total=sweeps, unit="sweep") as bar:

            def on_cloud(stamp_ns: int, data: bytes) -> None:
                bar.update()
                if len(clouds) < sweeps // args.laps:  # the first lap; the others show the same
                    clouds[stamp_ns] = data

            done = live_run(drive, parameters, model, args.out, on_cloud, args.rate)
        if not clouds:
            raise SegPerceptionError(f"the node published no cloud; see {args.out / 'node.log'}")
        _write_results(args.out, drive, config, taxonomy, clouds)
    summary = {
        **done.summary,
        "sweeps_sent": sweeps,
        "clouds_received": done.received,
        "seconds": round(done.seconds, 2),
        "cpus": os.cpu_count(),
        "node_exit_code": done.node_exit_code,
    }
    (args.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print("\n".join(summary_lines(summary)))
    print(
        f"live       {sweeps} sweeps sent, {done.received} clouds back in {done.seconds:.1f} s on {os.cpu_count()} CPUs"
    )
    print(f"results    {args.out}/picture.png, {args.out}/labelled.mcap (the first lap), {args.out}/summary.json")
    labelled = summary["sweeps_labelled"] / sweeps
    if labelled < WANTED or done.node_exit_code != 0:
        raise SegPerceptionError(
            f"{labelled:.0%} of the sweeps labelled, {WANTED:.0%} wanted; the node's exit code was "
            f"{done.node_exit_code}, 0 wanted; see {args.out / 'node.log'}"
        )
    return 0


def _deployed(network: Path, model: Path) -> Path:
    """The Cityscapes DeepLab, taking raw pixels."""
    from seg_perception.export.deploy import DeploySpec, deploy

    deploy(network, model, DeploySpec(mean=(128.0,) * 3, scale=(1 / 128,) * 3, network_size=NETWORK_SIZE))
    return model


def _imported(recording: Path, out: Path, laps: int) -> tuple[Path, Path]:
    """The KITTI drive as a bag, `laps` times over, its stamps going on; and the settings that fit it."""
    from seg_perception.importers.kitti import import_kitti

    timestamps = recording / "timestamps_drive_0001"
    done = import_kitti(recording, recording / "calib", out, timestamps=timestamps, loop=laps, progress=True)
    return done.bag, done.config


def _existing(data: Path, pattern: str) -> Path:
    found = sorted(data.glob(pattern))
    if not found:
        raise ConfigError(f"the demo's data: {data / pattern} wanted, nothing seen; name their folder with --data")
    return found[0]


def _write_results(out: Path, drive: Path, config: Config, taxonomy: Taxonomy, clouds: dict[int, bytes]) -> None:
    """The first lap as a bag, inputs and labelled clouds (by stamp) together; and a picture of its first sweep."""
    labelled = out / "labelled.mcap"
    with BagReader(drive) as bag, BagWriter(labelled) as writer:
        inputs = ((m.log_ns, m.topic, m.type, m.data, bag.qos(m.topic)) for m in bag.messages())
        outputs = ((ns, POINTS_TOPIC, "sensor_msgs/msg/PointCloud2", data, None) for ns, data in sorted(clouds.items()))
        for log_ns, topic, type, data, qos in heapq.merge(inputs, outputs, key=itemgetter(0)):
            if log_ns > max(clouds) + LOG_SLACK_NS:
                break
            writer.write_raw(topic, type, log_ns, data, qos)
    with BagReader(labelled) as bag:
        cloud, views = labelled_sweep(bag, config)
    above = next(iter(views.values()))[0] if len(views) == 1 else None
    save(out / "picture.png", sweep_picture(cloud, views, taxonomy, above))
