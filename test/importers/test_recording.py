"""What every import leaves: settings that fit the bag, and the command that asks for it."""

from __future__ import annotations

import argparse

import pytest

from seg_perception.bags import BagReader
from seg_perception.cli import import_
from seg_perception.config import Config, parameters_beside


def command(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    import_.add_parser(parser.add_subparsers())
    args = parser.parse_args(["import", *arguments])
    return args.run(args)


def test_command_writes_bag_and_settings(tiny_drive, tmp_path, capsys):
    out = tmp_path / "made" / "drive.mcap"
    assert (
        command("kitti", str(tiny_drive), "--calib", str(tiny_drive / "calib"), "--out", str(out), "--loop", "2") == 0
    )
    printed = capsys.readouterr().out
    assert "6  /velodyne/points" in printed
    assert str(out) in printed
    config = Config.load(tmp_path / "made" / "drive.param.yaml")
    assert config.lidar.topic == "/velodyne/points"
    assert config.motion.fixed_frame == "odom"
    (camera,) = config.cameras
    assert (camera.name, camera.rectified, camera.transport) == ("camera_02", True, "raw")
    with BagReader(out) as bag:
        assert bag.counts[camera.resolved_image_topic()] == bag.counts[camera.resolved_info_topic()] == 6
        assert bag.topics[camera.resolved_image_topic()] == "sensor_msgs/msg/Image"


def test_compressed_pictures_go_to_the_compressed_topic(tiny_drive, tmp_path):
    arguments = ["kitti", str(tiny_drive), "--calib", str(tiny_drive / "calib"), "--compressed", "png"]
    command(*arguments, "--out", str(tmp_path / "drive.mcap"))
    (camera,) = Config.load(tmp_path / "drive.param.yaml").cameras
    assert camera.transport == "compressed"
    with BagReader(tmp_path / "drive.mcap") as bag:
        assert bag.topics["/camera_02/image_rect/compressed"] == "sensor_msgs/msg/CompressedImage"
        assert bag.topics[camera.resolved_info_topic()] == "sensor_msgs/msg/CameraInfo"


def test_static_transforms_are_one_latched_message(tiny_drive, tmp_path):
    command("kitti", str(tiny_drive), "--calib", str(tiny_drive / "calib"), "--out", str(tmp_path / "drive.mcap"))
    with BagReader(tmp_path / "drive.mcap") as bag:
        messages = list(bag.messages(["/tf_static"]))
        assert bag.qos("/tf_static").latched
        assert messages[0].log_ns == bag.start_ns
    (message,) = messages
    edges = [(t.header.frame_id, t.child_frame_id) for t in message.msg.transforms]
    assert edges == [("base_link", "velodyne"), ("velodyne", "camera_02_optical")]


def test_settings_lie_beside_the_bag(tmp_path):
    assert parameters_beside(tmp_path / "drive.mcap") == tmp_path / "drive.param.yaml"
    assert parameters_beside(tmp_path / "drive.v2") == tmp_path / "drive.v2.param.yaml"


@pytest.mark.parametrize("arguments", [[], ["kitti"], ["waymo", "x"], ["nuscenes", "x", "--poses", "guess"]])
def test_incomplete_commands_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        command(*arguments)
    assert stop.value.code == 2


def test_messages_lie_in_the_file_in_order_of_time(tiny_drive, tmp_path):
    """A reader that streams need not seek: picture 0, sweep 0 (its turn ends later), picture 1 and so on."""
    arguments = ["kitti", str(tiny_drive), "--calib", str(tiny_drive / "calib"), "--compressed", "png"]
    command(*arguments, "--out", str(tmp_path / "drive.mcap"))
    content = (tmp_path / "drive.mcap").read_bytes()
    files = [f"{kind}/data/{frame:010d}.{end}" for frame in range(3)
             for kind, end in (("image_02", "png"), ("velodyne_points", "bin"))]  # fmt: skip
    places = [content.find((tiny_drive / name).read_bytes()) for name in files]
    assert min(places) > 0
    assert places == sorted(places)
