"""What the live node publishes is, byte for byte, what the replay of the same bag gives."""

import json
import subprocess
import sys

import live_node as live
import numpy as np
import pytest
import yaml

from seg_perception.bags import BagReader, BagWriter
from seg_perception.config import Config
from seg_perception.inference.loading import load_segmenters
from seg_perception.intake import Intake
from seg_perception.messages.camera_info import CameraInfoRecord
from seg_perception.messages.pointcloud import cloud_from_columns, decode_cloud, encode_semantic_cloud
from seg_perception.messages.transforms import StampedTransform
from seg_perception.offline import replay

pytestmark = pytest.mark.ros

MS = 1_000_000
SWEEPS = 8


def pose(x):
    T = np.eye(4)
    T[0, 3] = x
    return T


T_LIDAR_CAMERA = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]], float)


def rear_and_side(random, i):
    """A car 15 m ahead, and in each sweep 1.2 m further: its rear and its right side, a point of the sweep each."""
    rear = np.column_stack([np.zeros(300), random.uniform(-0.9, 0.9, 300), random.uniform(-1.2, 0.0, 300)])
    side = np.column_stack([random.uniform(0.0, 4.3, 300), np.full(300, -0.9), random.uniform(-1.2, 0.0, 300)])
    return (np.vstack([rear, side]) + np.array([15.0 + 1.2 * i, 2.0, 0.0])).astype(np.float32)


def write_drive(path, behind_a_car=False):
    """A vehicle at 20 m/s past patches of color: moving transforms, per-point times, two cameras, one of them slow; or
    behind a car, which is all that the cameras see."""
    random = np.random.default_rng(7)
    start = live.STEP_NS * 10_000
    k = tuple(live.K)
    with BagWriter(path) as bag:
        static = [StampedTransform("base_link", "lidar", start, pose(0.0))]
        static += [StampedTransform("lidar", f"{name}_optical", start, T_LIDAR_CAMERA) for name in ("front", "rear")]
        events = [(start - 200 * MS, lambda at: bag.write_tf("/tf_static", static, at))]

        def moved(at):
            transform = StampedTransform("odom", "base_link", at, pose((at - start) * 20e-9))
            bag.write_tf("/tf", [transform], at)

        def picture(camera, at):
            patches = np.eye(3, dtype=np.uint8)[random.integers(0, 3, (10, 20))] * 255
            pixels = patches.repeat(10, axis=0).repeat(10, axis=1)
            if behind_a_car:
                pixels[:] = [0, 0, 255]
            p = (*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0)
            identity = tuple(np.eye(3).ravel())
            d = (-0.1, 0.01, 0.0, 0.0, 0.0)
            info = CameraInfoRecord(f"{camera}_optical", at, live.WIDTH, live.HEIGHT, "plumb_bob", d, k, identity, p)
            bag.write_camera_info(f"/{camera}/camera_info", info, at)
            bag.write_image(f"/{camera}/image_raw", at, f"{camera}_optical", pixels, log_ns=at)

        def sweep(at):
            xyz = random.uniform((5, -8, -3), (30, 8, 3), (2000, 3)).astype(np.float32)
            if behind_a_car:
                xyz[:, 0] *= -1.0
                xyz[1000:1600] = rear_and_side(random, (at - start) // (100 * MS))
            times = np.linspace(0, 50 * MS, 2000).astype(np.uint32)
            columns = dict(zip("xyz", xyz.T, strict=True))
            bag.write_cloud("/points", cloud_from_columns("lidar", at, {**columns, "t": times}), log_ns=at + 60 * MS)

        for i in range(-10, 2 * SWEEPS * 5):
            events.append((start + i * 10 * MS, moved))
        for i in range(SWEEPS):
            at = start + i * 100 * MS
            events.append((at + 5 * MS, lambda at: picture("front", at)))
            if i % 2 == 0:
                events.append((at + 12 * MS, lambda at: picture("rear", at)))
            events.append((at, sweep))
        recorded = [(at + (60 * MS if event is sweep else 0), at, event) for at, event in events]
        for _, at, event in sorted(recorded, key=lambda entry: entry[:2]):
            event(at)


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drive")
    write_drive(folder / "drive.mcap")
    return folder / "drive.mcap"


def settings(folder, model, rear, **more):
    params = live.parameters(
        model,
        camera={"front": {"image_topic": "/front/image_raw"}, "rear": {"image_topic": "/rear/image_raw", **rear}},
        motion={"mode": "auto"},
        # The last sweep waits until its deadline for an image that never comes.
        pairing={"sweep_queue": 20, "image_queue": 20, "deadline_ms": 1000.0},
        **more,
    )
    file = folder / "drive.param.yaml"
    file.write_text(yaml.safe_dump({"/**": {"ros__parameters": params}}), encoding="utf-8")
    return file


def replayed(bag_path, parameters):
    """Stamp → the semantic cloud of an offline run, its fields and bytes; and how many points were carried."""
    config = Config.load(parameters)
    intake = Intake(config, load_segmenters(config), lambda cause, sentence: None)
    with BagReader(bag_path) as bag:
        clouds = [encode_semantic_cloud(r.cloud, intake.pipeline.taxonomy.colors) for r in replay(bag, intake)]
    return {cloud.stamp_ns: cloud for cloud in clouds}, intake.statistics.points_carried


@pytest.mark.parametrize("own_network", [False, True], ids=["one network", "two networks"])
def test_the_live_node_and_the_replay_give_the_same_bytes(tmp_path, drive, model, own_network):
    from rclpy.serialization import deserialize_message
    from sensor_msgs.msg import PointCloud2

    from seg_perception.ros.live_run import live_run

    parameters = settings(tmp_path, model, live.three_class_model(tmp_path / "three.onnx") if own_network else {})
    received = {}
    run = live_run(drive, parameters, model, tmp_path, lambda lidar, stamp_ns, data: received.update({stamp_ns: data}))
    assert run.node_exit_code == 0
    assert "motion_assumed_static" not in run.summary["causes"]
    expected, _ = replayed(drive, parameters)
    assert len(expected) == SWEEPS
    assert set(received) == set(expected), run.summary["causes"]
    for stamp, data in received.items():
        cloud = decode_cloud(deserialize_message(data, PointCloud2))
        assert cloud.fields == expected[stamp].fields
        assert cloud.data.tobytes() == expected[stamp].data.tobytes()
    labels = np.concatenate([cloud.field("class_id") for cloud in expected.values()])
    assert set(np.unique(labels)) == {live.ROAD, live.VEGETATION, live.CAR, 255}


def test_what_moves_is_carried_by_the_live_node_as_by_the_replay(tmp_path, model):
    from rclpy.serialization import deserialize_message
    from sensor_msgs.msg import PointCloud2

    from seg_perception.ros.live_run import live_run

    drive = tmp_path / "drive.mcap"
    write_drive(drive, behind_a_car=True)
    parameters = settings(tmp_path, model, {}, objects={"enabled": True})
    received = {}
    run = live_run(drive, parameters, model, tmp_path, lambda lidar, stamp_ns, data: received.update({stamp_ns: data}))
    expected, carried = replayed(drive, parameters)
    assert carried > 600
    assert run.summary["points_carried"] == carried
    assert set(received) == set(expected), run.summary["causes"]
    for stamp, data in received.items():
        cloud = decode_cloud(deserialize_message(data, PointCloud2))
        assert cloud.data.tobytes() == expected[stamp].data.tobytes()


def test_the_demo_counts_the_sweeps_of_each_of_two_lidars_and_keeps_them_apart(tmp_path, drive, model):
    two = tmp_path / "drive.mcap"
    with BagReader(drive) as bag, BagWriter(two) as writer:
        for message in bag.messages():
            for topic in ["/top/points", "/left"] if message.topic == "/points" else [message.topic]:
                writer.write_raw(topic, message.type, message.log_ns, message.data, bag.qos(message.topic))
    several = {"lidars": ["top", "left"], "lidar": {"left": {"topic": "/left"}}}
    settings(tmp_path, model, {}, **several, output={"diagnostics_period_s": 3600.0})  # the demo asks for more itself
    out = tmp_path / "out"
    command = [sys.executable, "-m", "seg_perception.cli.main", "demo", "--rate", "0.5"]
    command += ["--drive", str(two), "--model", str(model), "--out", str(out)]
    done = subprocess.run(command, cwd=live.ROOT, capture_output=True, text=True, timeout=3 * live.START_S)
    assert done.returncode == 0, done.stderr[-2000:]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["lidars"] == {lidar: {"sent": SWEEPS, "received": SWEEPS} for lidar in ("top", "left")}
    assert summary["sweeps_sent"] == summary["clouds_received"] == 2 * SWEEPS
    assert f"left: {SWEEPS} sweeps sent, {SWEEPS} clouds back" in done.stdout
    with BagReader(out / "labelled.mcap") as bag:
        assert [bag.counts[f"/perception_node/{lidar}/points"] for lidar in ("top", "left")] == [SWEEPS, SWEEPS]


def test_the_recorded_drive_gives_the_same_bytes_live_and_replayed(tmp_path, shared_data):
    from rclpy.serialization import deserialize_message
    from sensor_msgs.msg import PointCloud2

    from seg_perception.export.deploy import DeploySpec, deploy
    from seg_perception.importers.kitti import import_kitti
    from seg_perception.ros.live_run import live_run

    (network,) = (shared_data / "deeplab_cityscapes").glob("*.onnx")
    model = tmp_path / "model.onnx"
    deploy(network, model, DeploySpec(mean=(128.0,) * 3, scale=(1 / 128,) * 3, network_size=(625, 193)))
    kitti = shared_data / "kitti_drive"
    imported = import_kitti(kitti, kitti / "calib", tmp_path / "kitti.mcap", timestamps=kitti / "timestamps_drive_0001")
    parameters = yaml.safe_load(imported.config.read_text())
    parameters["/**"]["ros__parameters"]["inference"] = {"model": str(model)}
    parameters["/**"]["ros__parameters"]["pairing"] = {"sweep_queue": 20, "image_queue": 20, "deadline_ms": 1000.0}
    imported.config.write_text(yaml.safe_dump(parameters))
    received = {}

    def keep(lidar, stamp_ns, data):
        received[stamp_ns] = data

    run = live_run(imported.bag, imported.config, model, tmp_path, keep, rate=0.5)
    assert run.node_exit_code == 0
    expected, _ = replayed(imported.bag, imported.config)
    assert set(received) == set(expected), run.summary["causes"]
    for stamp, data in received.items():
        cloud = decode_cloud(deserialize_message(data, PointCloud2))
        assert cloud.data.tobytes() == expected[stamp].data.tobytes()
        assert 0.05 < np.mean(cloud.field("class_id") != 255) < 0.5  # a camera sees an eighth of the turn, or so


def test_a_looping_player_with_a_clock_goes_on_until_it_is_interrupted(tmp_path, drive, peer):
    import signal

    from rosgraph_msgs.msg import Clock

    from seg_perception.ros import qos

    times = []
    peer.node.create_subscription(Clock, "/clock", lambda msg: times.append(msg.clock.sec), qos.published(10))
    arguments = ["play", str(drive), "--loop", "--clock", "50", "--rate", "4", "--wait-for-subscribers", "5"]
    player = subprocess.Popen(
        [sys.executable, "-m", "seg_perception.cli.main", *arguments, "--no-progress"],
        cwd=live.ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        peer.spin_until(lambda: len(times) > 60, "a second loop's clock")
        player.send_signal(signal.SIGINT)
        output, _ = player.communicate(timeout=live.PATIENCE_S)
    finally:
        player.kill()  # or it plays to every test after this one
    assert player.returncode == 0
    published = dict(line.split()[:2] for line in output.splitlines() if " published" in line)
    assert int(published["/points"]) > SWEEPS
    assert set(times) == {999, 1000}


def test_a_bag_that_is_none_is_refused_in_one_sentence(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "seg_perception.cli.main", "play", str(tmp_path)],
        cwd=live.ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
