"""What is written to a bag is read from it, what is damaged is refused in a sentence, and real rclpy reads the same."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from seg_perception.bags import BagReader, BagWriter, TopicQos
from seg_perception.datatypes import PointCloud
from seg_perception.errors import BagError, MessageError
from seg_perception.geometry.transform_tree import TransformTree
from seg_perception.geometry.transforms import from_quat_translation
from seg_perception.labels import Taxonomy
from seg_perception.messages.camera_info import CameraInfoRecord, Roi, decode_camera_info
from seg_perception.messages.header import time_ns
from seg_perception.messages.image import compressed_fields, decode
from seg_perception.messages.pointcloud import cloud_from_columns, decode_cloud
from seg_perception.messages.transforms import StampedTransform, insert_tf

START_NS = 1_700_000_000_000_000_001
PIXELS = np.random.default_rng(1).integers(0, 256, (12, 20, 3), np.uint8)
JPEG = compressed_fields(PIXELS)["data"].tobytes()
INFO = CameraInfoRecord(
    "front_optical", START_NS, 20, 12, "plumb_bob", (0.1, 0.2, 0.3, 0.4, 0.5), tuple(range(9)), tuple(range(9)),
    tuple(range(12)), 2, 3, Roi(1, 2, 3, 4, True),
)  # fmt: skip
T_BASE_LIDAR = from_quat_translation((0.1, -0.2, 0.3, np.sqrt(1 - 0.14)), (4.0, 5.0, 6.0))
TAXONOMY = Taxonomy.load("cityscapes")

FORMS: dict[str, dict[str, str]] = {
    "single.mcap": {},
    "single_chunks.mcap": {"compression": "chunk"},
    "mcap": {},
    "mcap_chunks": {"compression": "chunk"},
    "mcap_file": {"compression": "file"},
    "mcap_message": {"compression": "message"},
    "sqlite3": {"storage": "sqlite3"},
    "sqlite3_file": {"storage": "sqlite3", "compression": "file"},
    "sqlite3_message": {"storage": "sqlite3", "compression": "message"},
}


def _cloud(stamp_ns: int = START_NS) -> PointCloud:
    points = np.arange(15, dtype=np.float32).reshape(5, 3)
    columns = {"x": points[:, 0], "y": points[:, 1], "z": points[:, 2], "ring": np.arange(5, dtype=np.uint16)}
    return cloud_from_columns("lidar", stamp_ns, columns)


def _write(path: Path, **form: str) -> Path:
    """One message of each kind, a second apart, the last ones out of order."""
    with BagWriter(path, **form) as bag:
        bag.write_tf("/tf_static", [StampedTransform("base", "lidar", START_NS, T_BASE_LIDAR)])
        bag.write_label_info("/labels", TAXONOMY, START_NS, "front_optical")
        bag.write_image("/front/image_raw", START_NS, "front_optical", PIXELS, log_ns=START_NS + 3)
        bag.write_compressed("/front/image_raw/compressed", START_NS, "front_optical", JPEG, "jpeg", START_NS + 4)
        bag.write_camera_info("/front/camera_info", INFO, START_NS + 5)
        bag.write_clock(START_NS + 6)
        bag.write_cloud("/points", _cloud(), START_NS + 2)
        bag.write_tf("/tf", [StampedTransform("odom", "base", START_NS, np.eye(4))], START_NS + 1)
    return path


@pytest.fixture(scope="module", params=list(FORMS))
def bag_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(tmp_path_factory.mktemp("bags") / request.param, **FORMS[request.param])


def _by_topic(path: Path) -> dict[str, Any]:
    with BagReader(path) as bag:
        return {message.topic: message.msg for message in bag.messages()}


def test_every_form_holds_the_same_messages(bag_path: Path) -> None:
    messages = _by_topic(bag_path)
    assert (decode(messages["/front/image_raw"], "front").pixels == PIXELS).all()
    assert bytes(messages["/front/image_raw/compressed"].data) == JPEG
    assert decode_camera_info(messages["/front/camera_info"]) == INFO
    cloud = decode_cloud(messages["/points"])
    assert cloud.fields == _cloud().fields
    assert (cloud.data == _cloud().data).all()
    tree = TransformTree()
    assert insert_tf(tree, messages["/tf_static"], static=True) == (1, [])
    np.testing.assert_allclose(tree.T("base", "lidar", START_NS), T_BASE_LIDAR, atol=1e-12)
    classes = {entry.class_id: entry.class_name for entry in messages["/labels"].class_map}
    assert classes == dict(enumerate(TAXONOMY.names))
    assert time_ns(messages["/clock"].clock) == START_NS + 6


def test_messages_come_in_order_of_log_time_and_ties_as_recorded(bag_path: Path) -> None:
    with BagReader(bag_path) as bag:
        seen = [(message.topic, message.log_ns - START_NS) for message in bag.messages()]
    assert seen == [
        ("/tf_static", 0),
        ("/labels", 0),
        ("/tf", 1),
        ("/points", 2),
        ("/front/image_raw", 3),
        ("/front/image_raw/compressed", 4),
        ("/front/camera_info", 5),
        ("/clock", 6),
    ]


def test_bag_says_what_it_holds(bag_path: Path) -> None:
    with BagReader(bag_path) as bag:
        assert bag.topics["/points"] == "sensor_msgs/msg/PointCloud2"
        assert list(bag.topics) == sorted(bag.topics)
        assert bag.counts == dict.fromkeys(bag.topics, 1)
        assert (bag.start_ns, bag.end_ns, bag.duration_ns) == (START_NS, START_NS + 6, 6)


def test_only_static_transforms_and_label_names_are_latched(bag_path: Path) -> None:
    with BagReader(bag_path) as bag:
        latched = {topic for topic in bag.topics if (qos := bag.qos(topic)) and qos.latched}
        assert latched == {"/tf_static", "/labels"}
        assert bag.qos("/points") == TopicQos()
        assert bag.qos("/nothing") is None


def test_topics_and_start_choose_messages(bag_path: Path) -> None:
    with BagReader(bag_path) as bag:
        assert [m.topic for m in bag.messages(["/tf", "/clock"])] == ["/tf", "/clock"]
        assert [m.topic for m in bag.messages(start_ns=START_NS + 5)] == ["/front/camera_info", "/clock"]
        assert list(bag.messages(["/nothing"])) == []


def test_same_messages_give_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    first = _write(tmp_path / "a.mcap")
    second = _write(tmp_path / "elsewhere" / "b.mcap")
    assert first.read_bytes() == second.read_bytes()


def test_raw_bytes_copied_to_another_bag_are_the_same_messages(tmp_path: Path) -> None:
    source = _write(tmp_path / "a.mcap")
    with BagReader(source) as bag, BagWriter(tmp_path / "b", "sqlite3") as copy:
        for message in bag.messages():
            copy.write_raw(message.topic, message.type, message.log_ns, message.data, bag.qos(message.topic))
    with BagReader(source) as first, BagReader(tmp_path / "b") as second:
        assert [(m.topic, m.log_ns, m.data) for m in first.messages()] == [
            (m.topic, m.log_ns, m.data) for m in second.messages()
        ]


def test_split_bag_is_merged_by_time(tmp_path: Path) -> None:
    path = tmp_path / "split"
    files = []
    for part, stamps in (("a", (1, 3, 5)), ("b", (2, 3, 4))):
        with BagWriter(tmp_path / part) as bag:
            for stamp_ns in stamps:
                bag.write_tf("/tf", [StampedTransform("odom", part, stamp_ns, np.eye(4))])
        metadata = yaml.safe_load((tmp_path / part / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
        files.append(tmp_path / part / f"{part}.mcap")
    path.mkdir()
    for file in files:
        file.rename(path / file.name)
    metadata.update(relative_file_paths=[file.name for file in files], message_count=6)
    metadata.update(starting_time={"nanoseconds_since_epoch": 1}, duration={"nanoseconds": 4})
    metadata["topics_with_message_count"][0]["message_count"] = 6
    (path / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": metadata}))
    with BagReader(path) as bag:
        seen = [(m.log_ns, m.msg.transforms[0].child_frame_id) for m in bag.messages()]
        late = [m.log_ns for m in bag.messages(start_ns=4)]
    assert seen == [(1, "a"), (2, "b"), (3, "a"), (3, "b"), (4, "b"), (5, "a")]
    assert late == [4, 5]


def test_empty_bag_has_nothing_and_lasts_no_time(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "a.mcap"):
        pass
    with BagReader(tmp_path / "a.mcap") as bag:
        assert (bag.topics, bag.start_ns, bag.duration_ns) == ({}, 0, 0)
        assert list(bag.messages()) == []


def test_type_that_a_bag_brings_itself_can_be_read(tmp_path: Path) -> None:
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg("std_msgs/Header header\nfloat64 speed\n", "car_msgs/msg/Wheel"))
    with Writer(tmp_path / "bag", version=8) as writer:
        connection = writer.add_connection("/wheel", "car_msgs/msg/Wheel", typestore=store)
        header = store.types["std_msgs/msg/Header"](
            stamp=store.types["builtin_interfaces/msg/Time"](sec=1, nanosec=2), frame_id="wheel"
        )
        msg = store.types["car_msgs/msg/Wheel"](header=header, speed=12.5)
        writer.write(connection, 5, store.serialize_cdr(msg, "car_msgs/msg/Wheel"))
    with BagReader(tmp_path / "bag") as bag:
        (message,) = bag.messages()
        assert (message.type, message.msg.speed) == ("car_msgs/msg/Wheel", 12.5)


def test_message_cut_short_is_an_error_of_that_message_alone(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "a.mcap") as bag:
        bag.write_cloud("/points", _cloud(START_NS))
        bag.write_cloud("/points", _cloud(START_NS + 1))
    with BagReader(tmp_path / "a.mcap") as bag:
        whole = [message.data for message in bag.messages()]
    with BagWriter(tmp_path / "b.mcap") as bag:
        bag.write_raw("/points", "sensor_msgs/msg/PointCloud2", START_NS, whole[0][:-9])
        bag.write_raw("/points", "sensor_msgs/msg/PointCloud2", START_NS + 1, whole[1])
    with BagReader(tmp_path / "b.mcap") as bag:
        bad, good = bag.messages()
        with pytest.raises(MessageError, match=f"/points at {START_NS} ns: its .* bytes are no sensor_msgs/msg/Point"):
            _ = bad.msg
        assert decode_cloud(good.msg).stamp_ns == START_NS + 1


def _refusal(path: Path) -> str:
    with pytest.raises(BagError) as refused, BagReader(path) as bag:
        list(bag.messages())
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_what_is_no_bag_is_refused(tmp_path: Path) -> None:
    assert "no such file or directory" in _refusal(tmp_path / "nothing.mcap")
    (tmp_path / "empty").mkdir()
    assert "has no metadata.yaml" in _refusal(tmp_path / "empty")
    (tmp_path / "notes.txt").write_text("hello")
    assert "a directory, a .mcap or a .db3 file wanted" in _refusal(tmp_path / "notes.txt")
    for name in ("a.mcap", "a.db3"):
        for content in (b"", b"hello", bytes(5000)):
            (tmp_path / name).write_bytes(content)
            _refusal(tmp_path / name)


def test_directory_without_metadata_names_the_bags_within(tmp_path: Path) -> None:
    path = _write(tmp_path / "bag")
    (path / "metadata.yaml").unlink()
    assert "['bag.mcap']" in _refusal(path)
    assert len(_by_topic(path / "bag.mcap")) == 8


def test_damaged_metadata_is_refused(tmp_path: Path) -> None:
    key = "rosbag2_bagfile_information"
    for at, content in enumerate(["", "{", f"{key}: 5", f"{key}: {{version: 8}}"]):
        path = _write(tmp_path / str(at))
        (path / "metadata.yaml").write_text(content)
        _refusal(path)


def test_bag_whose_file_is_missing_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "bag")
    (path / "bag.mcap").unlink()
    assert "missing" in _refusal(path)


@pytest.mark.parametrize("form", ["single.mcap", "mcap_chunks", "mcap_file", "sqlite3"])
def test_bag_cut_anywhere_is_refused(tmp_path: Path, form: str) -> None:
    path = _write(tmp_path / form, **FORMS[form])
    (file,) = [path] if path.is_file() else [entry for entry in path.iterdir() if entry.suffix != ".yaml"]
    content = file.read_bytes()
    for share in (0.02, 0.3, 0.6, 0.9, 0.999):
        file.write_bytes(content[: int(len(content) * share)])
        _refusal(path)


def test_damage_within_a_bag_names_the_last_good_message(tmp_path: Path) -> None:
    path = tmp_path / "bag.mcap"
    with BagWriter(path, compression="chunk") as bag:
        for at in range(3):
            bag.write_image("/image", START_NS + at, "cam", np.zeros((800, 800, 3), np.uint8))  # fills a chunk
    content = path.read_bytes()
    zstd = b"\x28\xb5\x2f\xfd"
    second = content.index(zstd, content.index(zstd) + 1)
    path.write_bytes(content[:second] + bytes(4) + content[second + 4 :])
    with BagReader(path) as bag, pytest.raises(BagError, match=f"damaged after the message logged at {START_NS} ns"):
        list(bag.messages())


def test_existing_path_is_never_overwritten(tmp_path: Path) -> None:
    for name in ("a.mcap", "a"):
        path = _write(tmp_path / name)
        with pytest.raises(BagError, match="exists already"):
            BagWriter(path)


@pytest.mark.parametrize("name", ["a.mcap", "a"])
def test_writing_that_fails_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    def fail() -> None:
        with BagWriter(tmp_path / name) as bag:
            bag.write_clock(5)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_single_file_leaves_nothing_else_behind(tmp_path: Path) -> None:
    _write(tmp_path / "sub" / "a.mcap")
    assert [entry.name for entry in (tmp_path / "sub").iterdir()] == ["a.mcap"]


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.mcap", {"storage": "sqlite3"}),
        ("a", {"storage": "tape"}),
        ("a.mcap", {"compression": "file"}),
        ("a", {"storage": "sqlite3", "compression": "chunk"}),
        ("a", {"compression": "zip"}),
    ],
)
def test_forms_that_do_not_exist_are_refused(tmp_path: Path, name: str, form: dict[str, str]) -> None:
    with pytest.raises(BagError, match="wanted"):
        BagWriter(tmp_path / name, **form)


def test_content_that_no_message_can_hold_is_refused(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "a.mcap") as bag:
        with pytest.raises(BagError, match="at least one transform wanted"):
            bag.write_tf("/tf", [])
        with pytest.raises(BagError, match="/clock: no rosgraph_msgs/msg/Clock can be made of it"):
            bag.write("/clock", "rosgraph_msgs/msg/Clock", {}, 5)
        with pytest.raises(BagError, match="no_msgs/msg/None"):
            bag.write_raw("/none", "no_msgs/msg/None", 5, b"")
        with pytest.raises(MessageError, match="rgba8"):
            bag.write_image("/image", 5, "cam", PIXELS, "rgba8")


def test_sqlite_file_is_laid_out_as_rosbag2_lays_it_out(tmp_path: Path) -> None:
    path = _write(tmp_path / "bag", storage="sqlite3")
    with sqlite3.connect(path / "bag.db3") as database:
        topics = dict(database.execute("SELECT name, offered_qos_profiles FROM topics").fetchall())
        hashes = dict(database.execute("SELECT name, type_description_hash FROM topics").fetchall())
    (profile,) = yaml.safe_load(topics["/tf_static"])
    assert (profile["reliability"], profile["durability"], profile["history"]) == (1, 1, 1)
    # As in the JSON files that rosidl installs with the packages of Jazzy.
    assert hashes["/points"] == "RIHS01_9198cabf7da3796ae6fe19c4cb3bdd3525492988c70522628af5daa124bae2b5"
    assert all(value.startswith("RIHS01_") for value in hashes.values())


_CHECK = """
import importlib, json, pathlib, sys
from ament_index_python.packages import get_package_share_directory
from dataclasses import replace
from rclpy.serialization import deserialize_message, serialize_message
from seg_perception.bags import BagReader
from seg_perception.messages.image import decode
from seg_perception.messages.pointcloud import decode_scan
from seg_perception.messages.camera_info import decode_camera_info

def cls(name):
    package, _, kind = name.split("/")
    return getattr(importlib.import_module(package + ".msg"), kind)

def same(ours, theirs):
    if hasattr(theirs, "get_fields_and_field_types"):
        return all(same(getattr(ours, name), getattr(theirs, name)) for name in theirs.get_fields_and_field_types())
    if isinstance(theirs, (str, bool, int, float)):
        return ours == theirs
    return len(ours) == len(theirs) and all(map(same, ours, theirs))

with BagReader(sys.argv[1]) as bag:
    for message in bag.messages():
        ours, theirs = message.msg, deserialize_message(message.data, cls(message.type))
        assert same(ours, theirs), message.topic
        back = replace(message, data=serialize_message(theirs))  # bytes differ: its padding holds whatever memory held
        assert same(back.msg, theirs), message.topic
        if message.topic == "/points":
            first, second = decode_scan(ours)[0], decode_scan(theirs)[0]
            assert (first.points == second.points).all() and (first.cloud.data == second.cloud.data).all()
        if message.topic.startswith("/front/image_raw"):
            assert (decode(ours, "front").pixels == decode(theirs, "front").pixels).all()
        if message.topic == "/front/camera_info":
            assert decode_camera_info(ours) == decode_camera_info(theirs)
        package = message.type.split("/")[0]
        share = get_package_share_directory(package)
        hashes = json.loads((pathlib.Path(share).parent / (message.type + ".json")).read_text())
        wanted = [entry["hash_string"] for entry in hashes["type_hashes"] if entry["type_name"] == message.type]
        print(message.topic, wanted[0])
"""


@pytest.mark.ros
def test_real_rclpy_reads_every_field_alike_and_is_read_alike(tmp_path: Path, project_root: Path) -> None:
    path = _write(tmp_path / "bag")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(project_root), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", _CHECK, str(path)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    real = dict(line.split() for line in done.stdout.splitlines())
    metadata = yaml.safe_load((path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    written = {
        entry["topic_metadata"]["name"]: entry["topic_metadata"]["type_description_hash"]
        for entry in metadata["topics_with_message_count"]
    }
    assert len(real) == 8
    assert written == real
