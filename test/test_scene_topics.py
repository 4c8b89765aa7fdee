"""Which topic of the scene is due when, and that a bag takes all of it."""

from __future__ import annotations

from dataclasses import replace

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
    ride.hand_in(T0 - 60_000 * MS)
    assert set(told(ride, topics, T0 - 59_900 * MS, **asked)) == {MAP}


def test_periods_may_change_between_sweeps(ride):
    topics = SceneTopics(ride.intake.config, CITYSCAPES)
    assert MAP in told(ride, topics, T0)
    assert MAP not in told(ride, topics, T0 + 100 * MS)
    config = ride.intake.config
    topics.reconfigure(replace(config, voxel_map=replace(config.voxel_map, period_s=0.1)))
    assert all(MAP in told(ride, topics, T0 + k * 100 * MS) for k in (2, 3))


def test_who_comes_between_sweeps_is_told_of_the_last_one_once(ride):
    topics = SceneTopics(ride.intake.config, CITYSCAPES)
    topics._told_ns[MAP] = T0 - 3_600_000 * MS  # while somebody was there, long ago
    _, done = ride.sweep(T0)
    memory = ride.intake.scene.memory
    nobody, somebody = (lambda topic: False), (lambda topic: topic in (MAP, DRIVABLE))
    assert dict(topics.latched(memory, done.scene, nobody)) == {}
    assert set(dict(topics.latched(memory, done.scene, somebody))) == {MAP, DRIVABLE}
    assert dict(topics.latched(memory, done.scene, somebody)) == {}


def test_at_the_end_grid_and_map_are_told_of_the_last_sweep_once(ride):
    topics = SceneTopics(ride.intake.config, CITYSCAPES)
    told(ride, topics, T0)
    _, done = ride.sweep(T0 + 100 * MS)
    memory = ride.intake.scene.memory
    dict(topics.messages(memory, done.scene))
    assert set(dict(topics.last(memory, done.scene))) == {MAP}
    assert set(dict(topics.last(memory, done.scene))) == set()


def test_grid_and_classes_go_together_again_when_the_second_is_wanted_later():
    ride = Ride(bev={**SCENE["bev"], "period_s": 0.2})
    topics = SceneTopics(ride.intake.config, CITYSCAPES)
    seen = []
    for k in range(6):
        wanted = {CLASSES} if k == 0 else {CLASSES, DRIVABLE}
        seen.append(set(told(ride, topics, T0 + k * 100 * MS, wanted=lambda topic, wanted=wanted: topic in wanted)))
    both = {CLASSES, DRIVABLE}
    assert seen == [{CLASSES}, both, set(), both, set(), both]


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
