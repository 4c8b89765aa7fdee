"""Which topic of the scene is due when, and that a bag takes all of it."""

from __future__ import annotations

import pytest
from small_world import MS, T0
from test_scene_step import SCENE, Ride

from seg_perception.bags import BagReader, BagWriter
from seg_perception.config import BevConfig, Config, ObjectsConfig
from seg_perception.datatypes import PointCloud
from seg_perception.labels import Taxonomy
from seg_perception.scene_topics import CLASSES, DRIVABLE, MAP, MARKERS, OBJECTS, TRACKS, SceneTopics

CITYSCAPES = Taxonomy.load("cityscapes")


def told(ride: Ride, topics: SceneTopics, stamp_ns: int, **wanted):
    _, done = ride.sweep(stamp_ns)
    return dict(topics.messages(ride.intake.scene.memory, done.scene, **wanted))


@pytest.fixture
def ride():
    return Ride(voxel_map={**SCENE["voxel_map"], "period_s": 0.3}, bev={**SCENE["bev"], "period_s": 0.0})


def test_objects_are_told_each_sweep_and_the_map_when_its_period_has_passed(ride):
    topics = SceneTopics(ride.intake.config, CITYSCAPES)
    seen = [set(told(ride, topics, T0 + k * 100 * MS)) for k in range(4)]
    each = {OBJECTS, MARKERS, TRACKS, DRIVABLE, CLASSES}
    assert seen == [each | {MAP}, each, each, each | {MAP}]


def test_a_period_begins_when_somebody_asks_and_anew_after_a_jump_back(ride):
    topics = SceneTopics(ride.intake.config, CITYSCAPES)
    asked = {"wanted": lambda topic: topic == MAP}
    assert told(ride, topics, T0, wanted=lambda topic: False) == {}
    assert set(told(ride, topics, T0 + 100 * MS, **asked)) == {MAP}
    assert set(told(ride, topics, T0 + 200 * MS, **asked)) == set()
    assert set(told(ride, topics, T0 - 60_000 * MS, **asked)) == {MAP}


def test_parts_that_are_switched_off_have_no_topics():
    config = Config(objects=ObjectsConfig(enabled=False), bev=BevConfig(enabled=False))
    assert set(SceneTopics(config, CITYSCAPES).types) == {MAP}


def test_every_message_of_the_scene_comes_back_from_a_bag(ride, tmp_path):
    topics = SceneTopics(ride.intake.config, CITYSCAPES)
    told(ride, topics, T0)
    messages = told(ride, topics, T0 + 300 * MS)
    path = tmp_path / "scene.mcap"
    with BagWriter(path) as bag:
        for topic, content in messages.items():
            if isinstance(content, PointCloud):
                bag.write_cloud(f"/{topic}", content)
            else:
                bag.write(f"/{topic}", topics.types[topic], content, T0)
    with BagReader(path) as bag:
        assert bag.topics == {f"/{topic}": kind for topic, kind in sorted(topics.types.items())}
        back = {message.topic[1:]: message.msg for message in bag.messages()}
    assert [detection.id for detection in back[OBJECTS].detections] == ["1"]
    assert back[OBJECTS].detections[0].results[0].hypothesis.class_id == "car"
    assert {marker.ns for marker in back[MARKERS].markers} == {"boxes", "names"}
    assert back[DRIVABLE].info.width * back[DRIVABLE].info.height == len(back[DRIVABLE].data) == 40_000
