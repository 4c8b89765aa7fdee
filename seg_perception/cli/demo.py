"""`seg-perception demo`: a drive through the live node at real speed: a labelled bag, a picture, a summary."""

from __future__ import annotations

import argparse
import heapq
import json
import os
from operator import itemgetter
from pathlib import Path
from typing import Any

from tqdm import tqdm

from seg_perception.bags import BagReader, BagWriter
from seg_perception.config import Config, parameters_beside
from seg_perception.drawing import save, sweep_picture
from seg_perception.errors import ConfigError, SegPerceptionError
from seg_perception.evaluation.points import PointScores, TruthReader, truth_topic
from seg_perception.evaluation.reports import mean_line
from seg_perception.labels import Taxonomy
from seg_perception.messages.pointcloud import decode_cloud, labels_from_cloud
from seg_perception.offline import check_topics, config_for, labelled_sweep, points_topic
from seg_perception.shipped import DRIVE, MODEL
from seg_perception.statistics import summary_lines

Clouds = dict[str, dict[int, bytes]]  # of each LiDAR by name (the only one: ""), by stamp, serialized

LOG_SLACK_NS = 70_000_000  # a sweep is recorded when it ends, half a turn after its stamp
WANTED = 0.95  # share of sweeps that a live run at real speed has to label
WORDS = 80  # of the node's log, beside the progress bar while it comes up
RESULTS = ("labelled.mcap", "picture.png", "summary.json", "node.log", "player.log")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add `demo`."""
    parser = subparsers.add_parser("demo", help="play a drive through the live node; leave a bag, a picture, a summary")
    parser.add_argument("--out", type=Path, default=Path("demo_out"), help="folder for the results (%(default)s)")
    parser.add_argument("--drive", type=Path, default=DRIVE, help="bag, its settings beside it (one that is shipped)")
    parser.add_argument("--model", type=Path, default=MODEL, help="deployed ONNX (the one that is shipped)")
    parser.add_argument("--rate", type=float, default=1.0, help="1 is as fast as it was driven")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the node and a player, each a process of its own, and write what came of it."""
    try:
        from seg_perception.ros.live_run import live_run
    except ImportError as error:
        raise ConfigError(f"the demo needs ROS 2: {error}; `make demo` installs it, or source one") from error
    drive: Path = args.drive
    config = config_for(drive, None)
    if not args.model.is_file():
        raise ConfigError(f"model {args.model}: no such file")
    args.out.mkdir(parents=True, exist_ok=True)
    for name in RESULTS:  # of an earlier run; nothing else in the folder is ours
        (args.out / name).unlink(missing_ok=True)
    with BagReader(drive) as bag:
        check_topics(bag, config)
        sent = {lidar: bag.counts.get(topic, 0) for lidar, topic in config.lidar_topics().items()}
    sweeps = sum(sent.values())
    clouds: Clouds = {lidar: {} for lidar in sent}
    print(f"playing {sweeps} sweeps of {drive.name} through the live node at {args.rate:g} x real speed")
    with tqdm(total=sweeps, unit="sweep") as bar:

        def on_cloud(lidar: str, stamp_ns: int, data: bytes) -> None:
            if not bar.n:
                bar.set_postfix_str("")
                bar.unpause()  # what the node took to come up is no time of a sweep
            bar.update()
            clouds[lidar][stamp_ns] = data

        def on_word(text: str) -> None:
            if not bar.n:
                bar.set_postfix_str(text.splitlines()[0][:WORDS])

        done = live_run(drive, parameters_beside(drive), args.model, args.out, on_cloud, args.rate, on_word)
    if not any(clouds.values()):
        raise SegPerceptionError(f"the node published no cloud; see {args.out / 'node.log'}")
    truth = _write_results(args.out, drive, config, clouds)
    summary = {
        **done.summary,
        "sweeps_sent": sweeps,
        "clouds_received": sum(done.received.values()),
        "lidars": {lidar: {"sent": sent[lidar], "received": done.received[lidar]} for lidar in sent if lidar},
        "seconds": round(done.seconds, 2),
        "cpus": os.cpu_count(),
        "node_exit_code": done.node_exit_code,
        "truth": truth,
    }
    (args.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print("\n".join([*summary_lines(summary), *_truth_lines(truth)]))
    back = f"{summary['clouds_received']} clouds back"
    print(f"live       {sweeps} sweeps sent, {back} in {done.seconds:.1f} s on {os.cpu_count()} CPUs")
    for lidar, of in summary["lidars"].items():
        print(f"           {lidar}: {of['sent']} sweeps sent, {of['received']} clouds back")
    print(f"results    {args.out}/picture.png, {args.out}/labelled.mcap, {args.out}/summary.json")
    _check(summary, args.out / "node.log")
    return 0


def _check(summary: dict[str, Any], log: Path) -> None:
    """Raise SegPerceptionError where too little came of it."""
    for lidar, of in summary["lidars"].items():
        if of["received"] < WANTED * of["sent"]:
            raise SegPerceptionError(
                f"LiDAR '{lidar}': {of['received']} of {of['sent']} sweeps came back, {WANTED:.0%} wanted; see {log}"
            )
    labelled, exit_code = summary["sweeps_labelled"] / summary["sweeps_sent"], summary["node_exit_code"]
    if labelled < WANTED or exit_code != 0:
        raise SegPerceptionError(
            f"{labelled:.0%} of the sweeps labelled, {WANTED:.0%} wanted; the node's exit code was {exit_code}, 0 "
            f"wanted; see {log}"
        )


def _write_results(out: Path, drive: Path, config: Config, clouds: Clouds) -> dict[str, Any]:
    """Inputs and labelled clouds in one bag, and a picture of the first sweep.

    Returns how the labels compare with the truth of the points; nothing where the drive does not hold it.
    """
    taxonomy = Taxonomy.load(config.taxonomy)
    labelled = out / "labelled.mcap"
    with BagReader(drive) as bag, BagWriter(labelled, compression="chunk") as writer:
        inputs = ((m.log_ns, m.topic, m.type, m.data, bag.qos(m.topic)) for m in bag.messages())
        outputs = sorted(
            (ns, points_topic(lidar), "sensor_msgs/msg/PointCloud2", data, None)
            for lidar, theirs in clouds.items()
            for ns, data in theirs.items()
        )
        last_ns = outputs[-1][0]
        for log_ns, topic, type, data, qos in heapq.merge(inputs, outputs, key=itemgetter(0)):
            if log_ns > last_ns + LOG_SLACK_NS:
                break
            writer.write_raw(topic, type, log_ns, data, qos)
    with BagReader(labelled) as bag:
        cloud, views = labelled_sweep(bag, config)
        above = next(iter(views.values()))[0] if len(views) == 1 else None
        save(out / "picture.png", sweep_picture(cloud, views, taxonomy, above))
        topics = {lidar: truth_topic(bag, lidar) for lidar in clouds}
        if not set(topics.values()) <= set(bag.topics):
            return {}
        scores = PointScores(taxonomy)
        for lidar, of_lidar in topics.items():
            truth = TruthReader(bag, of_lidar)
            for message in bag.messages({points_topic(lidar)}):
                labels = decode_cloud(message.msg)
                if (wanted := truth.at(labels.stamp_ns)) is not None:
                    class_id, _, instance_id = labels_from_cloud(labels)
                    scores.add(wanted, class_id, instance_id)
        return scores.report()


def _truth_lines(truth: dict[str, Any]) -> list[str]:
    wanted = {"labelled": "of the points with a label", "visible": "of the points that a camera sees"}
    return [f"truth      {words}: {mean_line(truth[part])}" for part, words in wanted.items() if part in truth]
