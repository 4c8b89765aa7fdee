"""The parameter file that is suggested for a bag names what is in it, and says what it left out."""

from __future__ import annotations

import numpy as np
import pytest
import small_world as world
from small_world import T0

from seg_perception.bags import BagReader, BagWriter
from seg_perception.cli.main import main
from seg_perception.config import Config
from seg_perception.doctor.suggestion import suggest
from seg_perception.errors import BagError
from seg_perception.messages.camera_info import record_of
from seg_perception.messages.header import header_fields
from seg_perception.messages.image import compressed_fields
from seg_perception.messages.pointcloud import cloud_from_columns
from seg_perception.messages.transforms import StampedTransform

PIXELS = world.image().pixels
INFO = record_of(world.camera(), "optical", T0)


def write_cloud(bag, topic, frame, points, **more):
    columns = {axis: np.ones(points, np.float32) for axis in "xyz"} | more
    bag.write_cloud(topic, cloud_from_columns(frame, T0, columns))


def write_compressed(bag, topic):
    jpeg = compressed_fields(PIXELS)
    bag.write_compressed(topic, T0, "optical", jpeg["data"], jpeg["format"])


@pytest.fixture
def car(tmp_path):
    """Pictures in every form, two LiDARs of which one has a derived cloud, odometry, and what is made of all that."""
    path = tmp_path / "car.mcap"
    with BagWriter(path) as bag:
        bag.write_image("/camera/front/image_raw", T0, "optical", PIXELS)
        write_compressed(bag, "/camera/front/image_raw/compressed")
        write_compressed(bag, "/left/front/image_rect_color/compressed")
        bag.write_image("/_back/image_raw", T0, "optical", PIXELS)
        for topic in ("/camera/front/camera_info", "/left/camera_info", "/_back/camera_info", "/depth/camera_info"):
            bag.write_camera_info(topic, INFO, T0)
        depth = {
            "height": 1,
            "width": 1,
            "encoding": "32FC1",
            "is_bigendian": 0,
            "step": 4,
            "data": np.zeros(4, np.uint8),
        }
        depth = {"header": header_fields(T0, "optical"), **depth}
        for topic in ("/depth/image_raw", "/stereo/range"):
            bag.write(topic, "sensor_msgs/msg/Image", depth, T0)
        bag.write_image("/detector/debug", T0, "optical", PIXELS)
        write_cloud(bag, "/roof/points", "roof", 50)
        write_cloud(bag, "/roof/points_filtered", "roof", 20)
        write_cloud(bag, "/velodyne_points", "bumper", 30)
        write_cloud(bag, "/perception_node/points", "roof", 60, class_id=np.zeros(60, np.uint8))
        for topic in ("/spare/image_raw", "/left/front/image_rect_color"):  # recorded while nobody published
            bag._connect(topic, "sensor_msgs/msg/Image", None)
        bag.write_cloud("/flat", cloud_from_columns("roof", T0, {"x": np.ones(3, np.float32)}))
        bag.write_tf("/tf", [StampedTransform("odom", "base_link", T0, np.eye(4))], T0)
        bag.write_tf("/tf", [StampedTransform("map", "odom", T0, np.eye(4))], T0)
    return path


def test_cameras_and_lidars_are_found_and_named_by_what_tells_them_apart(car):
    with BagReader(car) as bag:
        found = suggest(bag).parameters
    assert found["camera"] == {
        "back": {"image_topic": "/_back/image_raw", "transport": "raw"},
        "camera_front": {"image_topic": "/camera/front/image_raw", "transport": "raw"},
        "left_front": {
            "image_topic": "/left/front/image_rect_color/compressed",
            "transport": "compressed",
            "info_topic": "/left/camera_info",
            "rectified": True,
        },
    }
    assert found["lidars"] == ["roof", "velodyne"]
    assert found["lidar"]["roof"] == {"topic": "/roof/points"}
    assert found["motion"] == {"fixed_frame": "odom"}


def test_what_is_left_out_is_said_with_the_reason(car):
    with BagReader(car) as bag:
        notes = suggest(bag).notes
    reasons = {
        "/camera/front/image_raw/compressed": "the same pictures",
        "/depth/image_raw": "not that of a camera",
        "/stereo/range": "32FC1",
        "/detector/debug": "no CameraInfo",
        "/roof/points_filtered": "no more points",
        "/perception_node/points": "labelled already",
        "/flat": "cannot be used",
        "/spare/image_raw": "nothing",
    }
    for topic, reason in reasons.items():
        assert any(note.startswith(topic) and reason in note for note in notes), topic


def test_the_file_that_is_written_fits_the_bag_and_none_is_overwritten(car, capsys):
    assert main(["settings", str(car), "--model", "street.onnx"]) == 0
    assert "doctor" in capsys.readouterr().out
    config = Config.load(car.with_name("car.param.yaml"))
    assert [camera.name for camera in config.cameras] == ["back", "camera_front", "left_front"]
    assert config.inference.model == "street.onnx"
    assert main(["settings", str(car)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_one_lidar_a_camera_without_calibration_and_no_odometry(tmp_path):
    with BagWriter(tmp_path / "bare.mcap") as bag:
        write_compressed(bag, "/image_raw/compressed")
        write_cloud(bag, "/points", "lidar", 10)
    with BagReader(tmp_path / "bare.mcap") as bag:
        found = suggest(bag)
    assert found.parameters["camera"] == {"camera": {"image_topic": "/image_raw/compressed", "transport": "compressed"}}
    assert found.parameters["lidar"] == {"topic": "/points"}
    assert found.parameters["motion"] == {"mode": "static"}
    assert any("name a file in `calibration`" in note for note in found.notes)


@pytest.mark.parametrize(
    ("period_ms", "pairing"),
    [
        (100, {}),
        (200, {"window_ms": 120.0, "deadline_ms": 190.0}),
        (30_000, {"window_ms": 1000.0, "deadline_ms": 1070.0}),
    ],
)
def test_the_window_is_as_wide_as_a_slow_camera_needs_it_up_to_a_second(tmp_path, period_ms, pairing):
    with BagWriter(tmp_path / "slow.mcap") as bag:
        for k in range(4):
            bag.write_image("/image_raw", T0 + k * period_ms * 1_000_000, "optical", PIXELS)
        write_cloud(bag, "/points", "lidar", 10)
    with BagReader(tmp_path / "slow.mcap") as bag:
        found = suggest(bag)
    assert found.parameters.get("pairing", {}) == pairing
    assert any(f"every {period_ms} ms" in note for note in found.notes) == bool(pairing)


def test_a_bag_without_clouds_is_refused_with_its_topics(tmp_path):
    with BagWriter(tmp_path / "blind.mcap") as bag:
        write_compressed(bag, "/image_raw/compressed")
    with BagReader(tmp_path / "blind.mcap") as bag, pytest.raises(BagError, match=r"no clouds.*/image_raw/compressed"):
        suggest(bag)
