"""Half an hour at ten sweeps a second: every sweep labelled, and no more memory at the end than at the beginning."""

import json
import os
import time
from collections import Counter
from functools import partial
from pathlib import Path

import live_node as live
import numpy as np
import pytest

pytestmark = [pytest.mark.ros, pytest.mark.soak]

MINUTES = float(os.environ.get("SOAK_MINUTES", "30"))
SETTLED_S = 60.0
PERIOD_S = 0.1
GROWTH_MIB = 16.0
FIGURES = live.ROOT / "bench_out" / "soak.json"


def rss_mib(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def listen(peer):
    """To what the node makes only while somebody does; returns how many of each came, by topic."""
    from nav_msgs.msg import OccupancyGrid
    from sensor_msgs.msg import Image, PointCloud2
    from vision_msgs.msg import Detection3DArray

    from seg_perception.ros import qos

    came = Counter()
    for topic, kind in {
        "objects": Detection3DArray,
        "map": PointCloud2,
        "bev/drivable": OccupancyGrid,
        "front/overlay": Image,
        "rear/label_image": Image,
    }.items():
        count = partial(lambda topic, _: came.update([topic]), topic)
        peer.node.create_subscription(kind, f"/perception_node/{topic}", count, qos.published(10))
    return came


def test_memory_stays_flat_and_no_sweep_is_lost(tmp_path, model, peer):
    scene = {part: {"enabled": True} for part in ("objects", "voxel_map", "bev")}
    node = live.NodeProcess(tmp_path, live.parameters(model, motion={"mode": "auto"}, **scene))
    came = listen(peer)
    try:
        peer.wait_until_connected(node)
        rng = np.random.default_rng(0)
        points = rng.uniform((-40, -20, -2), (40, 20, 3), (20_000, 3)).astype(np.float32)
        start_s = time.monotonic()
        sent, memory = 0, []
        while (elapsed_s := time.monotonic() - start_s) < MINUTES * 60:
            stamp = peer.stamp_ns + live.STEP_NS
            moved = live.transform("odom", "lidar", stamp + live.STEP_NS, (0.5 * sent, 0.0, 0.0))
            peer.send("/tf", live.tf_message(moved))
            peer.send_good(instead={"/points": live.cloud(stamp, points)})
            sent += 1
            peer.spin_for(max(0.001, start_s + sent * PERIOD_S - time.monotonic()))
            peer.clouds.clear()
            if elapsed_s > SETTLED_S and sent % 50 == 0:
                memory.append((elapsed_s, rss_mib(node.pid)))
        peer.spin_for(2.0)
        summary = peer.summary()
    finally:
        exit_code = node.stop()
    seconds, mib = np.array(memory).T
    slope = np.polyfit(seconds / 60, mib, 1)[0]
    figures = {
        "minutes": MINUTES,
        "sent": sent,
        "rss_mib_first": float(np.median(mib[:6])),
        "rss_mib_last": float(np.median(mib[-6:])),
        "rss_mib_most": float(mib.max()),
        "mib_a_minute": float(slope),
        "came": came,
        "summary": summary,
    }
    FIGURES.parent.mkdir(exist_ok=True)
    FIGURES.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    assert exit_code == 0
    assert figures["rss_mib_last"] - figures["rss_mib_first"] < GROWTH_MIB, figures
    dropped = summary["causes"].get("sweep_overload", 0)
    assert summary["sweeps_out"] + dropped >= summary["sweeps_in"] - 6, "sweeps went that nobody counted"
    labelled = summary["sweeps_labelled"]
    shared = os.getloadavg()[0] > (os.cpu_count() or 1)  # others leave the node too little
    assert labelled + (dropped if shared else 0) > 0.9 * sent
    assert min(came[topic] for topic in ("objects", "front/overlay", "rear/label_image")) > 0.9 * labelled
    assert min(came["map"], came["bev/drivable"]) > 30 * MINUTES
