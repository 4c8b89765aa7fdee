"""Round after round through the lifecycle, with all that the node can hold: nothing of a round is left when it ends."""

from itertools import pairwise
from pathlib import Path
from statistics import median

import live_node as live
import pytest
from live_node import CAR, ROAD, change

from seg_perception.datatypes import UNKNOWN

pytestmark = pytest.mark.ros

LIDARS = ("top", "left")
PICTURES = ("front/overlay", "front/label_image", "rear/overlay/compressed", "rear/confidence")
ROUND = ("configure", "activate", "deactivate", "cleanup")
SWEEPS = 3  # of each LiDAR, in each round
WARM_UP = 2  # rounds in which whatever is loaded once is loaded
SPARE_MIB = 250.0  # in all of them: malloc may keep the room of three scenes, 82 MiB each, that are freed


class Resources:
    """What a process holds, as /proc tells it."""

    def __init__(self, pid: int) -> None:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        self.threads = int(status["Threads"])
        self.rss_mib = int(status["VmRSS"].split()[0]) / 1024
        self.descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.fixture
def peer():
    """With two LiDARs, and subscribed to `PICTURES`; `seen` holds the last stamp of each."""
    from sensor_msgs.msg import CompressedImage, Image

    from seg_perception.ros import qos

    peer = live.Peer(lidars=LIDARS)
    peer.seen = {}
    for name in PICTURES:

        def keep(msg, name=name):
            peer.seen[name] = live.stamp_of(msg)

        kind = CompressedImage if name.endswith("compressed") else Image
        peer.node.create_subscription(kind, f"/perception_node/{name}", keep, qos.published(10))
    yield peer
    peer.close()


def drive(peer):
    """Sweeps of both LiDARs with odometry, each labelled, and the pictures of the last."""
    for _ in range(SWEEPS):
        at = peer.stamp_ns + live.STEP_NS
        peer.send("/tf", live.tf_message(*(live.transform("odom", "lidar", at + i * live.STEP_NS) for i in (0, 1))))
        stamp = peer.send_good(without=("/points",))
        for lidar in LIDARS:
            peer.send(f"/{lidar}/points", live.cloud(stamp))
        for lidar, clouds in peer.clouds_of.items():
            cloud = peer.spin_until(lambda clouds=clouds: clouds.get(stamp), f"the cloud of {lidar}")  # noqa: B023
            assert live.labels(cloud) == [ROAD, CAR, UNKNOWN]
    peer.spin_until(lambda: [peer.seen.get(name) for name in PICTURES] == [stamp] * len(PICTURES), "every picture")
    peer.spin_until(lambda: peer.summary()["sweeps_out"] == SWEEPS * len(LIDARS), "a count that starts anew")


@pytest.mark.parametrize(("rounds", "a_round_mib"), [(4, 20.0), pytest.param(100, 0.5, marks=pytest.mark.soak)])
def test_rounds_through_the_lifecycle_leave_nothing_behind(tmp_path, model, peer, rounds, a_round_mib):
    """`pytest -s` shows what is held after each. a_round_mib: growth that the middlemost round may have."""
    scene = {part: {"enabled": True} for part in ("objects", "voxel_map", "bev")}
    several = {"lidars": list(LIDARS), "motion": {"mode": "auto"}, "painting": {"threads": 2}, **scene}
    node = live.NodeProcess(tmp_path, live.parameters(model, autostart=False, **several))
    try:
        held = []
        for _ in range(WARM_UP + rounds):
            for transition in ROUND:
                assert change(peer, transition), transition
                if transition == "activate":
                    peer.wait_until_connected(node)
                    drive(peer)
                    assert not [cause for cause in peer.causes() if cause.startswith(("scene", "internal"))]
            held.append(Resources(node.pid))
        told = "; ".join(f"{h.rss_mib:.1f} MiB, {h.threads} threads, {h.descriptors} descriptors" for h in held)
        print(told)
        before, last = held[WARM_UP - 1], held[-2:]  # two, as a thread may just be on its way out
        grown_mib = [b.rss_mib - a.rss_mib for a, b in pairwise(held[WARM_UP - 1 :])]
        assert min(h.threads for h in last) <= before.threads, told
        assert min(h.descriptors for h in last) <= before.descriptors, told
        assert median(grown_mib) <= a_round_mib, told
        assert sum(grown_mib) <= SPARE_MIB, told
        assert node.stop() == 0
        assert "Traceback" not in node.log
    finally:
        node.stop()
