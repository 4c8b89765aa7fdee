"""Whoever subscribes to map and grid gets those of now, not those of when somebody last looked."""

import live_node as live
import pytest

pytestmark = pytest.mark.ros

TOPICS = ("/perception_node/map", "/perception_node/bev/drivable")
PERIOD_S = 1.0


@pytest.fixture(scope="module")
def node(tmp_path_factory, model, peer):
    params = live.parameters(
        model,
        motion={"mode": "auto"},
        voxel_map={"enabled": True, "capacity": 1 << 12, "period_s": PERIOD_S},
        bev={"enabled": True, "side_m": 20.0, "period_s": 0.0},
    )
    with live.running(peer, tmp_path_factory.mktemp("node"), params) as node:
        yield node


def drive(peer, sweeps):
    """So many sweeps into the scene; returns the stamp of the last one."""
    for _ in range(sweeps):
        edge = live.transform("odom", "lidar", peer.stamp_ns + live.STEP_NS)
        peer.send("/tf", live.tf_message(edge, live.transform("odom", "lidar", peer.stamp_ns + 2 * live.STEP_NS)))
        stamp = peer.send_good()
        peer.labels_of(stamp)
    return stamp


class Listener:
    """Subscribed to map and grid while in the `with` block. stamps: of what came, by topic."""

    def __init__(self, peer):
        self._peer = peer
        self.stamps = {topic: [] for topic in TOPICS}

    def __enter__(self):
        from nav_msgs.msg import OccupancyGrid
        from sensor_msgs.msg import PointCloud2

        from seg_perception.ros import qos

        self._subscriptions = [
            self._peer.node.create_subscription(
                kind, topic, lambda msg, topic=topic: self.stamps[topic].append(live.stamp_of(msg)), qos.latched()
            )
            for topic, kind in zip(TOPICS, (PointCloud2, OccupancyGrid), strict=True)
        ]
        return self

    def __exit__(self, *_):
        for subscription in self._subscriptions:
            self._peer.node.destroy_subscription(subscription)

    def wait_for(self, stamp, *topics):
        for topic in topics or TOPICS:
            stamps = self.stamps[topic]
            self._peer.spin_until(lambda stamps=stamps: stamp in stamps, f"{topic} of {stamp}; came: {stamps}")


def test_the_first_who_asks_when_the_sweeps_have_stopped_gets_map_and_grid_once(node, peer):
    last = drive(peer, 2)
    with Listener(peer) as listener:
        listener.wait_for(last)
        peer.spin_for(0.5)
        assert listener.stamps == {topic: [last] for topic in TOPICS}


def test_the_period_of_the_map_may_change_while_it_runs(node, peer):
    with Listener(peer) as listener:
        listener.wait_for(peer.stamp_ns)
        for period_s, published in ((0.0, 3), (PERIOD_S, 0)):
            assert live.set_parameter(peer, "voxel_map.period_s", period_s).successful
            of_map = listener.stamps[TOPICS[0]]
            before = len(of_map)
            listener.wait_for(drive(peer, 3), TOPICS[1])
            peer.spin_until(lambda: len(of_map) >= before + published, "the map of each sweep")  # noqa: B023
            peer.spin_for(0.3)
            assert len(of_map) == before + published


def test_who_comes_again_gets_them_as_of_the_last_sweep(node, peer):
    stamp = peer.stamp_ns
    last = drive(peer, 12)
    assert last - stamp > PERIOD_S * 1e9
    with Listener(peer) as listener:
        listener.wait_for(last)
        peer.spin_for(0.5)
    for stamps in listener.stamps.values():
        assert stamps[-1] == last
        assert len(stamps) <= 2  # what DDS kept comes first
