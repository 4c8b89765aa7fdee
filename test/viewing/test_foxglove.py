"""What `replay` writes opens in Foxglove: each topic described in full, and everything there that the layout shows."""

from __future__ import annotations

import json
import re
import struct

import live_node as live
import pytest
import yaml
from viewing import small_bag as small

from seg_perception.bags import BagReader
from seg_perception.cli.main import main
from seg_perception.viewing.drives import LabelledDrive

_HEADER, _SCHEMA, _CHANNEL = 8, 3, 4  # length of the magic; opcodes of MCAP's records
_PLAIN = {
    "bool", "byte", "char", "float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64",
    "uint64", "string", "wstring",
}  # fmt: skip


@pytest.fixture(scope="module")
def replayed(tmp_path_factory):
    """The small drive, labelled by a tiny network, with images."""
    folder = tmp_path_factory.mktemp("foxglove")
    drive = small.write_bag(folder / "drive.mcap")
    settings = {
        "cameras": ["front"],
        "motion": {"fixed_frame": "odom"},
        "inference": {"model": str(live.color_model(folder / "model.onnx")), "backend": "onnxruntime"},
        "objects": {"enabled": True},
        "voxel_map": {"enabled": True, "capacity": 1 << 14},
        "bev": {"enabled": True, "side_m": 40.0},
    }
    drive.with_suffix(".param.yaml").write_text(yaml.safe_dump({"/**": {"ros__parameters": settings}}))
    out = folder / "labelled.mcap"
    assert main(["replay", str(drive), "--images", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def layout(project_root):
    return json.loads((project_root / "foxglove" / "perception.json").read_text())["configById"]


def records(path):
    """Opcode and content of each record of an MCAP file outside its chunks; the summary repeats what chunks hold."""
    content = path.read_bytes()
    at = _HEADER
    while at < len(content) - _HEADER:
        opcode, length = struct.unpack_from("<BQ", content, at)
        yield opcode, content[at + 9 : at + 9 + length]
        at += 9 + length


def strings(content, at, count):
    """So many length-prefixed strings."""
    found = []
    for _ in range(count):
        (length,) = struct.unpack_from("<I", content, at)
        found.append(content[at + 4 : at + 4 + length].decode())
        at += 4 + length
    return found


def test_every_channel_is_cdr_described_by_its_whole_ros2msg_definition(replayed):
    schemas, channels = {}, {}
    for opcode, content in records(replayed):
        (number,) = struct.unpack_from("<H", content)
        if opcode == _SCHEMA:
            schemas[number] = strings(content, 2, 3)
        if opcode == _CHANNEL:
            (schema,) = struct.unpack_from("<H", content, 2)
            topic, encoding = strings(content, 4, 2)
            channels[topic] = encoding, schemas[schema]
    with BagReader(replayed) as bag:
        assert {topic: schema[0] for topic, (_, schema) in channels.items()} == bag.topics
    for topic, (encoding, (name, language, text)) in channels.items():
        assert (encoding, language) == ("cdr", "ros2msg"), topic
        first, *others = re.split(r"^=+\nMSG: ", text, flags=re.MULTILINE)
        defined = {other.splitlines()[0].strip() for other in others}
        for definition in (first, *(other.partition("\n")[2] for other in others)):
            used = {
                re.split(r"[\[<]", line.split()[0])[0]
                for line in definition.splitlines()
                if line.strip() and not line.strip().startswith("#") and "=" not in line.split("#")[0].replace("<=", "")
            }
            assert used - _PLAIN <= defined, f"{topic} of type {name}"


def test_the_layout_finds_its_topics_and_its_frame(replayed, layout):
    scene = layout["3D!scene"]
    wanted = set(scene["topics"]) | {
        panel["imageMode"]["imageTopic"] for panel in layout.values() if "imageMode" in panel
    }
    with BagReader(replayed) as bag:
        assert wanted <= set(bag.topics)
        assert all(bag.counts[topic] for topic in wanted)
        drive = LabelledDrive(bag, small.CITYSCAPES)
        for stamp_ns in (small.stamp(k) for k in range(small.SWEEPS)):
            assert drive.tree.can_transform(scene["followTf"], "lidar", stamp_ns)
            assert drive.tree.can_transform(scene["followTf"], "odom", stamp_ns)


def test_with_images_come_their_labels_under_the_same_stamp_and_frame(replayed):
    with BagReader(replayed) as bag:
        named = {
            topic: [(m.msg.header.frame_id, m.msg.header.stamp.nanosec) for m in bag.messages({topic})]
            for topic in ("/front/image_raw", "/perception_node/front/label_image/compressed")
        }
    assert named["/front/image_raw"] == named["/perception_node/front/label_image/compressed"]
    assert len(named["/front/image_raw"]) == small.SWEEPS


def test_tf_goes_little_further_than_the_sweeps(replayed):
    with BagReader(replayed.with_name("drive.mcap")) as recorded, BagReader(replayed) as bag:
        assert recorded.counts["/tf"] == small.SWEEPS + 1
        assert bag.counts["/tf"] == small.SWEEPS
        assert bag.qos("/tf_static").latched


def test_without_images_only_tf_is_copied(replayed, tmp_path):
    out = tmp_path / "one.mcap"
    assert main(["replay", str(replayed.with_name("drive.mcap")), "--limit", "1", "--out", str(out)]) == 0
    with BagReader(out) as bag:
        assert bag.counts["/perception_node/points"] == 1
        assert {topic for topic in bag.topics if not topic.startswith("/perception_node/")} == {"/tf", "/tf_static"}
