"""Labelled bags as something to look at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from viewing import small_bag as small

from seg_perception.bags import BagReader, BagWriter
from seg_perception.errors import BagError
from seg_perception.labels import Taxonomy
from seg_perception.messages.pointcloud import cloud_from_columns
from seg_perception.messages.transforms import StampedTransform
from seg_perception.viewing.drives import LabelledDrive
from seg_perception.viewing.scenes import KEYS, Scene, Shown
from seg_perception.viewing.shown import gathered


@pytest.fixture
def drive(bag):
    with BagReader(bag) as reader:
        yield LabelledDrive(reader, small.CITYSCAPES)


def test_sweeps_are_shown_in_the_fixed_frame(drive):
    assert (drive.frame, drive.moves) == ("odom", True)
    for k in (2, 0, 1):  # back and forth
        sweep = drive.sweep(k)
        assert sweep.stamp_ns == small.stamp(k)
        assert sweep.points.xyz[0] == pytest.approx([10.0, 2.0, 0.5])
        assert sweep.points.xyz[1] == pytest.approx([6.0 + k, -1.0, 0.0])
        assert sweep.points.instance_id.tolist() == [0, 7, 0]
        assert sweep.T_frame_vehicle[0, 3] == pytest.approx(k)
    assert drive.sweep(3) is None


def test_boxes_come_from_the_markers_of_the_same_stamp(drive):
    boxes = drive.sweep(2).boxes
    assert (boxes.class_id.tolist(), boxes.track_id.tolist()) == ([small.CAR], [7])
    edges = boxes.edges[0]
    assert edges.shape == (12, 2, 3)
    assert edges.reshape(-1, 3).min(axis=0) == pytest.approx([8.0 - 2.0, -2.0, -0.25])
    assert edges.reshape(-1, 3).max(axis=0) == pytest.approx([8.0 + 2.0, 0.0, 1.25])
    assert sorted(np.linalg.norm(edges[:, 1] - edges[:, 0], axis=1)) == pytest.approx([1.5] * 4 + [2.0] * 4 + [4.0] * 4)


def test_the_map_is_the_newest_that_was_there(drive):
    assert drive.map_at(small.stamp(0)) is None
    assert drive.map_at(small.stamp(2)).class_id.tolist() == [small.ROAD, small.POLE]
    assert drive.map_at(small.stamp(0)) is None


def test_of_earlier_sweeps_only_what_stands_still_is_laid_together(drive):
    points = gathered([drive.sweep(k) for k in range(3)], small.CITYSCAPES)
    assert points.class_id.tolist() == [small.POLE, small.POLE, small.POLE, small.CAR, 255]
    assert points.age_s == pytest.approx([0.2, 0.1, 0.0, 0.0, 0.0])


def test_a_map_beside_a_sweep_shows_no_cars_as_they_were_when_it_was_told_and_alone_it_does(drive):
    told = drive.map_at(small.stamp(2))
    told = replace(told, class_id=np.array([small.CAR, small.POLE], np.uint8))
    beside = Scene(small.CITYSCAPES, drive, map=told, shown=Shown(index=2)).draw()[0]
    without = Scene(small.CITYSCAPES, drive, map=told, shown=Shown(index=2, map=False)).draw()[0]
    assert len(beside.points) == len(without.points) + 1
    assert len(Scene(small.CITYSCAPES, map=told).draw()[0].points) == 2


def test_without_odometry_sweeps_are_shown_in_their_own_frame(still_bag):
    with BagReader(still_bag) as reader:
        drive = LabelledDrive(reader, small.CITYSCAPES)
        assert (drive.frame, drive.moves) == ("lidar", False)
        assert drive.sweep(2).points.xyz[1] == pytest.approx([6.0, -1.0, 0.0])


def test_truth_without_positions_takes_them_from_the_cloud_of_its_stamp(truth_bag):
    with BagReader(truth_bag) as reader:
        drive = LabelledDrive(reader, small.CITYSCAPES)
        assert (drive.topics, drive.boxes_topic) == (["/truth/points"], "/truth/boxes")
        assert drive.sweep(1).points.xyz[1] == pytest.approx([7.0, -1.0, 0.0])
        assert len(drive.sweep(1).boxes) == 1


def test_sweeps_of_several_lidars_come_in_turn(tmp_path):
    path = tmp_path / "two.mcap"
    with BagWriter(path) as writer:
        mounts = [StampedTransform("lidar_0", "lidar_1", small.T0, np.eye(4))]
        writer.write_tf("/tf_static", mounts)
        for k in range(4):
            columns = {axis: np.full(k + 1, 1.0, np.float32) for axis in "xyz"}
            labels = {"class_id": np.full(k + 1, small.ROAD, np.uint8)}
            cloud = cloud_from_columns(f"lidar_{k % 2}", small.stamp(k), columns | labels)
            writer.write_cloud(f"/perception_node/lidar_{k % 2}/points", cloud)
        writer.write_cloud("/perception_node/points/drivable", cloud)
    with BagReader(path) as reader:
        drive = LabelledDrive(reader, small.CITYSCAPES)
        assert drive.most == 4
        assert [len(sweep.points) for sweep in drive.sweeps()] == [1, 2, 3, 4]


def test_a_bag_without_labels_is_refused_with_its_topics(bag):
    with BagReader(bag) as reader, pytest.raises(BagError, match=r"/nowhere; its topics are .*/front/image_raw"):
        LabelledDrive(reader, small.CITYSCAPES, "/nowhere")


def test_keys_change_what_is_drawn(drive):
    scene = Scene(Taxonomy.load("cityscapes"), drive, shown=Shown(index=1))

    def drawn(key):
        KEYS[key][1](scene)
        return scene.draw()[0]

    whole = scene.draw()[0]
    assert (len(whole.points), len(whole.lines)) == (3 + 2, 12)
    assert len(drawn("B").lines) == 0
    assert len(drawn("M").points) == 3
    assert (drawn("C").rgb[1] != whole.rgb[1]).any()
    drawn("N")
    assert scene.shown.index == 2
    drawn("N")
    assert scene.shown.index == 2
    for _ in range(3):
        drawn("P")
    assert scene.shown.index == 0


def test_the_eye_follows_the_vehicle(drive):
    scene = Scene(small.CITYSCAPES, drive)
    eyes = []
    for _ in range(2):
        eyes.append(scene.draw()[1].eye)
        scene.step(1)
    assert eyes[1] - eyes[0] == pytest.approx([small.STEP_M, 0.0, 0.0])
