"""The scene over DDS: what the live node tells of it is what the replay of the same messages gives."""

from __future__ import annotations

from contextlib import closing

import live_node as live
import numpy as np
import pytest
import yaml

from seg_perception.bags import BagReader, BagWriter
from seg_perception.cli.main import main
from seg_perception.messages.pointcloud import decode_cloud, labels_from_cloud
from seg_perception.scene.map_files import load_map
from seg_perception.scene_topics import CLASSES, DRIVABLE, MAP, MARKERS, OBJECTS, TRACKS

pytestmark = pytest.mark.ros

SWEEPS = 10
PERIOD_SWEEPS = 3
TOPICS = (OBJECTS, MARKERS, TRACKS, DRIVABLE, CLASSES, MAP)
PUBLISHED = {topic: 4 if topic in (DRIVABLE, CLASSES, MAP) else SWEEPS for topic in TOPICS}
NAMES = {topic: f"/perception_node/{topic}" for topic in TOPICS}


def sweep_xyz(k: int) -> np.ndarray:
    """Road to the left; ahead to the right the rear of a car that draws away by 0.3 m a sweep."""
    x, y = np.meshgrid(np.linspace(3.0, 12.0, 30), np.linspace(0.5, 3.0, 10))
    road = np.column_stack([x.ravel(), y.ravel(), np.full(x.size, -0.5)])
    y, z = np.meshgrid(np.linspace(-3.0, -1.5, 12), np.linspace(-0.4, 0.8, 8))
    car = np.column_stack([np.full(y.size, 8.0 + 0.3 * k), y.ravel(), z.ravel()])
    return np.vstack([road, car]).astype(np.float32)


def odometry(first_ns: int):
    """The vehicle drives 0.5 m a sweep."""
    from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3

    return live.tf_message(
        *(
            TransformStamped(
                header=live.header("odom", first_ns + k * live.STEP_NS),
                child_frame_id="lidar",
                transform=Transform(translation=Vector3(x=0.5 * k, y=0.0, z=0.5), rotation=Quaternion(w=1.0)),
            )
            for k in range(SWEEPS + 1)
        )
    )


class Recorder(live.Peer):
    """A peer that writes all it sends into a bag, and keeps all that it hears of the scene."""

    def __init__(self, bag: BagWriter) -> None:
        super().__init__()
        self._bag = bag
        self.heard: dict[str, list] = {topic: [] for topic in TOPICS}

    def send(self, topic, msg):
        from rclpy.serialization import serialize_message

        kind = f"{type(msg).__module__.split('.')[0]}/msg/{type(msg).__name__}"
        self._bag.write_raw(topic, kind, self.stamp_ns, serialize_message(msg))
        super().send(topic, msg)

    def listen(self) -> dict[str, str]:
        """Subscribe to all that the node tells of the scene; returns the types."""
        from seg_perception.ros import conversions, qos

        self.spin_until(lambda: all(map(self.node.count_publishers, NAMES.values())), "every topic to be offered")
        found = dict(self.node.get_topic_names_and_types())
        types = {topic: found[name][0] for topic, name in NAMES.items()}
        for topic, kind in types.items():
            take = self.heard[topic].append
            self.node.create_subscription(conversions.message_type(kind), NAMES[topic], take, qos.published(20))
        self.wait_until_known()
        return types

    def drive(self) -> list[int]:
        """Send sweep after sweep, each when the one before is done; returns their stamps."""
        static = live.transform("lidar", "front_optical", 0), live.transform("lidar", "rear_optical", 0)
        self.send("/tf_static", live.tf_message(*static))
        self.send("/tf", odometry(self.stamp_ns + live.STEP_NS))
        self.spin_until(lambda: "edge.lidar" in self.values("transforms"), "the node to know the odometry")
        stamps = []
        for k in range(SWEEPS):
            points = live.cloud(self.stamp_ns + live.STEP_NS, sweep_xyz(k))
            stamps.append(self.send_good(instead={"/points": points}))
            self.labels_of(stamps[-1])
            self.spin_until(lambda k=k: len(self.heard[OBJECTS]) == k + 1, "the objects of the sweep")
        self.spin_until(lambda: len(self.heard[MAP]) == PUBLISHED[MAP], "the last map")
        self.spin_for(0.5)
        return stamps


@pytest.fixture(scope="module")
def run(tmp_path_factory, model):
    """The messages of each topic live and replayed, the stamps of the sweeps, and the peer."""
    from rclpy.serialization import deserialize_message
    from std_srvs.srv import Trigger

    from seg_perception.ros import conversions

    folder = tmp_path_factory.mktemp("scene")
    period_s = PERIOD_SWEEPS * live.STEP_NS * 1e-9
    params = live.parameters(
        model,
        motion={"mode": "auto"},
        objects={"enabled": True},
        tracking={"confirm_hits": 2},
        voxel_map={"enabled": True, "capacity": 1 << 14, "period_s": period_s, "file": str(folder / "map.ply")},
        bev={"enabled": True, "side_m": 40.0, "period_s": period_s},
    )
    with BagWriter(folder / "drive.mcap") as bag, closing(Recorder(bag)) as peer, live.running(peer, folder, params):
        types = peer.listen()
        stamps = peer.drive()
        peer.answers = {name: live.call(peer, Trigger, name, Trigger.Request()) for name in ("save_map", "load_map")}
    (folder / "drive.param.yaml").write_text(yaml.safe_dump({"/**": {"ros__parameters": params}}))
    assert main(["replay", str(folder / "drive.mcap"), "--out", str(folder / "out.mcap")]) == 0
    replayed: dict[str, list] = {topic: [] for topic in TOPICS}
    with BagReader(folder / "out.mcap") as bag:
        assert {NAMES[topic]: kind for topic, kind in types.items()}.items() <= bag.topics.items()
        for message in bag.messages(NAMES.values()):
            kind = conversions.message_type(message.type)
            replayed[message.topic.removeprefix("/perception_node/")].append(deserialize_message(message.data, kind))
    peer.saved = load_map(folder / "map.ply")
    return peer, replayed, stamps


@pytest.mark.parametrize("topic", TOPICS)
def test_live_and_replay_tell_the_same(run, topic):
    peer, replayed, _ = run
    assert len(peer.heard[topic]) == PUBLISHED[topic]
    assert peer.heard[topic] == replayed[topic]


def test_the_car_keeps_its_number_and_its_points_carry_it(run):
    peer, _, stamps = run
    assert [live.stamp_of(msg) for msg in peer.heard[OBJECTS]] == stamps
    assert [len(msg.detections) for msg in peer.heard[OBJECTS]] == [0] + [1] * (SWEEPS - 1)
    last = peer.heard[OBJECTS][-1].detections[0]
    assert (last.id, last.results[0].hypothesis.class_id, last.header.frame_id) == ("1", "car", "odom")
    class_id, _, instance_id = labels_from_cloud(decode_cloud(peer.clouds[stamps[-1]]))
    assert set(instance_id[class_id == live.CAR]) == {1}
    assert set(instance_id[class_id == live.ROAD]) == {0}
    tracks = decode_cloud(peer.heard[TRACKS][-1])
    assert tracks.field("velocity_x")[0] == pytest.approx(8.0, abs=1.0)


def test_the_grid_lies_in_the_fixed_frame_and_is_free_on_the_road(run):
    peer, *_ = run
    grid = peer.heard[DRIVABLE][-1]
    assert grid.header.frame_id == "odom"
    cells = np.array(grid.data, np.int8).reshape(grid.info.height, grid.info.width)
    x, y = 0.5 * (SWEEPS - 1) + 6.0, 1.5  # road, from the vehicle's last place
    column = int((x - grid.info.origin.position.x) / grid.info.resolution)
    row = int((y - grid.info.origin.position.y) / grid.info.resolution)
    assert cells[row, column] == 0
    assert -1 in cells


def test_diagnostics_tell_the_time_that_the_scene_takes(run):
    values = run[0].values("sweeps")
    assert float(values["latency_ms.scene.median"]) > 0.0
    assert float(values["latency_ms.publish_scene.median"]) > 0.0


def test_diagnostics_tell_how_full_the_scene_is(run):
    values = run[0].values("scene")
    assert 0 < int(values["voxels"]) < int(values["voxels_at_most"])
    assert {"points_without_room": "0", "tracks": "1", "flat_things": "0"}.items() <= values.items()
    assert float(values["map_mib"]) > 0.0
    assert float(values["grid_mib"]) > 0.0


def test_the_services_save_the_map_that_was_told_last_and_read_it_again(run):
    peer, *_ = run
    last = decode_cloud(peer.heard[MAP][-1])  # of the last sweep: the map is told of after every third
    assert peer.answers["save_map"].success
    assert str(len(peer.saved)) in peer.answers["save_map"].message
    assert sorted(map(tuple, peer.saved.points)) == sorted(zip(*map(last.field, "xyz"), strict=True))
    assert peer.answers["load_map"].success
    assert "with the next sweep" in peer.answers["load_map"].message
