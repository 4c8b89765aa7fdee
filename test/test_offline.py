import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
import small_world as world
from small_world import MS, T0

from seg_perception.bags import BagReader, BagWriter
from seg_perception.config import Config
from seg_perception.errors import BagError, ConfigError
from seg_perception.intake import Intake
from seg_perception.messages.camera_info import CameraInfoRecord
from seg_perception.messages.pointcloud import decode_cloud, encode_semantic_cloud, labels_from_cloud
from seg_perception.messages.transforms import StampedTransform
from seg_perception.offline import POINTS_TOPIC, config_for, labelled_sweep, points_topic, recorded_transforms, replay

SWEEPS = 5


def transform(parent, child, T, stamp_ns=T0):
    return StampedTransform(parent, child, stamp_ns, T)


@pytest.fixture
def bag(tmp_path):
    """Five sweeps and images 10 ms after them, with clouds on /points and a camera called front."""
    path = tmp_path / "drive.mcap"
    info = CameraInfoRecord(
        "front_optical", T0, world.WIDTH, world.HEIGHT, "plumb_bob", (0.0,) * 5, tuple(world.K.ravel()),
        tuple(np.eye(3).ravel()), tuple(np.hstack([world.K, np.zeros((3, 1))]).ravel()),
    )  # fmt: skip
    with BagWriter(path) as writer:
        edges = [transform("base_link", "lidar", np.eye(4)), transform("lidar", "front_optical", world.T_LIDAR_CAMERA)]
        writer.write_tf("/tf_static", edges, T0)
        for i in range(SWEEPS):
            stamp = T0 + i * 100 * MS
            writer.write_cloud("/points", world.scan(stamp).cloud)
            writer.write_camera_info("/front/camera_info", info, stamp + 10 * MS)
            image = world.image(stamp + 10 * MS)
            writer.write_image("/front/image_raw", image.stamp_ns, image.frame_id, image.pixels)
    return path


def replayed(bag, config):
    """Every labelled cloud as the bytes that would be published."""
    intake = Intake(config, world.LeftRightSegmenter(), lambda *_: None)
    with BagReader(bag) as reader:
        clouds = [encode_semantic_cloud(r.cloud, intake.pipeline.taxonomy.colors) for r in replay(reader, intake)]
    return [cloud.data.tobytes() for cloud in clouds], intake


def test_every_sweep_of_a_bag_is_labelled(bag):
    clouds, intake = replayed(bag, world.config())
    assert len(clouds) == SWEEPS
    assert intake.statistics.sweeps_labelled == SWEEPS
    assert intake.statistics.points_by_class[[world.ROAD, world.CAR]].tolist() == [SWEEPS, SWEEPS]


def test_a_replay_has_nobody_who_looks_at_pictures_and_counts_none_as_too_fast(bag):
    paired, _ = replayed(bag, world.config())
    clouds, intake = replayed(bag, world.config(camera={"front": {"segment": "every"}}))
    assert clouds == paired
    assert "image_overload" not in intake.statistics.causes


def test_the_clouds_of_several_lidars_are_labelled_each_for_itself(bag, tmp_path):
    several = tmp_path / "several.mcap"
    with BagReader(bag) as reader, BagWriter(several) as writer:
        for message in reader.messages():
            topics = ["/top/points", "/left"] if message.topic == "/points" else [message.topic]
            for topic in topics:
                writer.write_raw(topic, message.type, message.log_ns, message.data)
    config = world.config(lidars=["top", "left"], lidar={"left": {"topic": "/left"}})
    intake = Intake(config, world.LeftRightSegmenter(), lambda *_: None)
    with BagReader(several) as reader:
        results = list(replay(reader, intake))
    of_lidars = {lidar: [r.cloud for r in results if r.cloud.scan.lidar == lidar] for lidar in ("top", "left")}
    assert [len(clouds) for clouds in of_lidars.values()] == [SWEEPS, SWEEPS]
    for top, left in zip(*of_lidars.values(), strict=True):
        assert top.scan.stamp_ns == left.scan.stamp_ns
        assert top.class_id.tolist() == left.class_id.tolist()
    assert intake.statistics.sweeps_labelled == 2 * SWEEPS
    assert points_topic("left") == "/perception_node/left/points"
    assert points_topic("") == POINTS_TOPIC


def test_two_cameras_of_one_topic_both_see(bag):
    shared = {"image_topic": "/front/image_raw", "info_topic": "/front/camera_info"}
    left, right = ({**shared, "crop": f"{world.WIDTH // 2}x{world.HEIGHT}+{x}+0"} for x in (0, world.WIDTH // 2))
    _, intake = replayed(bag, world.config(cameras=["left", "right"], camera={"left": left, "right": right}))
    assert not [cause for cause in intake.statistics.causes if cause.startswith("no_image")]
    assert intake.statistics.points_by_class[[world.ROAD, world.CAR]].tolist() == [SWEEPS, SWEEPS]


def test_pictures_of_the_other_transport_are_refused_with_the_setting_that_reads_them(bag):
    with BagReader(bag) as reader, pytest.raises(BagError, match="transport: raw reads it"):
        config = world.config(camera={"front": {"transport": "compressed", "image_topic": "/front/image_raw"}})
        list(replay(reader, Intake(config, world.LeftRightSegmenter(), lambda *_: None)))


def test_the_last_sweep_goes_out_though_its_image_never_came(bag, tmp_path):
    cut = tmp_path / "cut.mcap"
    with BagReader(bag) as reader, BagWriter(cut) as writer:
        for message in list(reader.messages())[:-2]:
            writer.write_raw(message.topic, message.type, message.log_ns, message.data)
    clouds, intake = replayed(cut, world.config())
    assert len(clouds) == SWEEPS
    assert intake.statistics.causes["no_image_in_window/front"] == 1


def test_a_damaged_message_costs_itself_and_not_the_bag(bag, tmp_path):
    damaged = tmp_path / "damaged.mcap"
    with BagReader(bag) as reader, BagWriter(damaged) as writer:
        for number, message in enumerate(reader.messages({"/points"})):
            data = b"\x00\x01\x00\x00short" if number == 2 else message.data
            writer.write_raw(message.topic, message.type, message.log_ns, data)
        for message in reader.messages({"/tf_static", "/front/camera_info", "/front/image_raw"}):
            writer.write_raw(message.topic, message.type, message.log_ns, message.data)
    clouds, intake = replayed(damaged, world.config())
    assert len(clouds) == SWEEPS - 1
    assert intake.statistics.causes["bad_message"] == 1


def test_transforms_of_a_bag_that_cannot_be_used_cost_themselves_and_are_told_in_one_line(bag, tmp_path, caplog):
    damaged = tmp_path / "damaged.mcap"
    with BagReader(bag) as reader, BagWriter(damaged) as writer:
        writer.write_tf("/tf", [transform("lidar", "base_link", np.eye(4)), transform("odom", "lidar", np.eye(4))], T0)
        writer.write_raw("/tf", "tf2_msgs/msg/TFMessage", T0, b"\x00\x01\x00\x00short")
        for message in reader.messages({"/tf_static"}):
            writer.write_raw(message.topic, message.type, message.log_ns, message.data)
    with BagReader(damaged) as reader:
        tree = recorded_transforms(reader)
    assert tree.can_transform("base_link", "front_optical", T0)
    (record,) = caplog.records
    assert "2 of 5 transforms refused, the first: /tf at" in record.message


def test_the_same_bag_gives_the_same_bytes(bag):
    assert replayed(bag, world.config())[0] == replayed(bag, world.config())[0]


def test_a_labelled_bag_shows_its_sweep_with_the_picture_taken_nearest(bag, tmp_path):
    labelled = tmp_path / "labelled.mcap"
    intake = Intake(world.config(), world.LeftRightSegmenter(), lambda *_: None)
    with BagReader(bag) as reader, BagWriter(labelled) as writer:
        for message in reader.messages():
            writer.write_raw(message.topic, message.type, message.log_ns, message.data)
        for result in replay(reader, intake):
            writer.write_cloud(POINTS_TOPIC, encode_semantic_cloud(result.cloud, intake.pipeline.taxonomy.colors))
    with BagReader(labelled) as reader:
        cloud, views = labelled_sweep(reader, world.config())
    pixels, points = views["front"]
    assert pixels.shape == (world.HEIGHT, world.WIDTH, 3)
    assert points.index.tolist() == [0, 1]
    assert cloud.class_id[points.index].tolist() == [world.ROAD, world.CAR]


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"lidar": {"topic": "/nothing"}}, ["/nothing", "/points"]),
        ({"camera": {"front": {"image_topic": "/rear/image_raw"}}}, ["/rear/image_raw", "/front/image_raw"]),
    ],
)
def test_a_bag_without_the_configured_topics_is_refused_naming_what_it_holds(bag, settings, names):
    with pytest.raises(BagError) as caught:
        replayed(bag, world.config(**settings))
    for name in names:
        assert name in str(caught.value)


def test_settings_beside_the_bag_are_found_and_their_absence_is_said(bag):
    with pytest.raises(ConfigError, match="--config"):
        config_for(bag, None)
    bag.with_suffix(".param.yaml").write_text("cameras: [front]\n")
    assert config_for(bag, None) == Config.from_mapping({"cameras": ["front"]})


def test_a_real_drive_replayed_twice_gives_identical_files(shared_data, tmp_path):
    """The whole command line: KITTI imported, the real DeepLab deployed, replayed twice."""

    def run(*arguments):
        command = [sys.executable, "-m", "seg_perception.cli.main", *map(str, arguments)]
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path).stdout

    kitti = shared_data / "kitti_drive"
    timestamps = kitti / "timestamps_drive_0001"
    run("import", "kitti", kitti, "--calib", kitti / "calib", "--timestamps", timestamps, "--out", "kitti.mcap")
    (network,) = (shared_data / "deeplab_cityscapes").glob("*.onnx")
    run("deploy", network, "net.onnx", "--mean", 128, "--scale", "1/128", "--network-size", "625x193")
    for name in ("one", "two"):
        run("replay", "kitti.mcap", "--model", "net.onnx", "--out", f"{name}.mcap", "--limit", 3,
            "--summary", f"{name}.json", "--picture", f"{name}.png")  # fmt: skip
    one, two = (hashlib.sha256((tmp_path / f"{name}.mcap").read_bytes()).hexdigest() for name in ("one", "two"))
    assert one == two
    summary = json.loads((tmp_path / "one.json").read_text())
    assert summary["sweeps_labelled"] == 3
    assert summary["points_by_class"]["car"] > 20_000  # two cars and a lorry stand before the vehicle
    assert summary["points_by_class"]["road"] > 8_000
    assert (tmp_path / "one.png").stat().st_size > 100_000
    with BagReader(tmp_path / "one.mcap") as bag:
        cloud = decode_cloud(next(bag.messages({POINTS_TOPIC})).msg)
    names = [field.name for field in cloud.fields]
    assert names == ["x", "y", "z", "intensity", "rgb", "class_id", "probability", "instance_id"]
    class_id, probability, _ = labels_from_cloud(cloud)
    assert (probability[class_id != 255] > 0).all()
    assert (probability[class_id == 255] == 0).all()
