"""The scene as messages: what is told of tracks, grid and map."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from seg_perception.labels import Taxonomy
from seg_perception.messages.scene import (
    ADD,
    ARROW,
    DELETE,
    Markers,
    bev_cloud,
    detections_fields,
    map_cloud,
    occupancy_fields,
    tracks_cloud,
)
from seg_perception.scene.bev_grid import BevLayers
from seg_perception.scene.tracking import Tracks
from seg_perception.scene.voxel_map import MapCloud

CITYSCAPES = Taxonomy.load("cityscapes")
ROAD, PERSON, CAR = 0, 11, 13
STAMP_NS = 1_700_000_000_123_456_789


def tracks() -> Tracks:
    """A car driving left along y, a person that stands still and is not seen now, and one not confirmed yet."""
    return Tracks(
        track_id=np.array([7, 9, 12], np.int32),
        class_id=np.array([CAR, PERSON, CAR], np.uint8),
        probability=np.array([0.75, 0.5, 1.0], np.float32),
        centre=np.array([[10.0, 2.0, 0.8], [5.0, -3.0, 0.9], [0.0, 0.0, 0.0]]),
        size=np.array([[4.0, 1.8, 1.5], [0.6, 0.6, 1.7], [4.0, 1.8, 1.5]]),
        yaw=np.array([0.5 * math.pi, 0.0, 0.0]),
        velocity=np.array([[0.0, 6.0], [0.1, 0.0], [0.0, 0.0]]),
        turn_rate=np.array([0.1, 0.0, 0.0]),
        age_s=np.array([3.0, 2.0, 0.1]),
        coasting_s=np.array([0.0, 0.4, 0.0]),
        confirmed=np.array([True, True, False]),
        of_object=np.array([0, 2], np.int32),
    )


def nobody() -> Tracks:
    columns = {field.name: getattr(tracks(), field.name)[:0] for field in dataclasses.fields(Tracks)}
    return Tracks(**columns)


def test_detections_tell_class_probability_box_and_number_of_confirmed_tracks():
    fields = detections_fields(tracks(), CITYSCAPES, "odom", STAMP_NS)
    assert fields["header"] == {"stamp": {"sec": 1_700_000_000, "nanosec": 123_456_789}, "frame_id": "odom"}
    car, person = fields["detections"]
    assert (car["id"], person["id"]) == ("7", "9")
    assert car["results"][0]["hypothesis"] == {"class_id": "car", "score": 0.75}
    assert car["bbox"]["size"] == {"x": 4.0, "y": 1.8, "z": 1.5}
    assert car["bbox"]["center"]["position"] == {"x": 10.0, "y": 2.0, "z": 0.8}
    turn = car["bbox"]["center"]["orientation"]
    assert (turn["z"], turn["w"]) == pytest.approx((math.sqrt(0.5), math.sqrt(0.5)))


def test_the_cloud_of_tracks_tells_velocity_age_and_how_long_a_track_was_not_seen():
    cloud = tracks_cloud(tracks(), CITYSCAPES.colors, "odom", STAMP_NS)
    assert cloud.field("track_id").tolist() == [7, 9]
    assert cloud.field("velocity_y").tolist() == [6.0, 0.0]
    assert cloud.field("coasting_s").tolist() == pytest.approx([0.0, 0.4])
    assert np.column_stack([cloud.field(axis) for axis in "xyz"])[0] == pytest.approx([10.0, 2.0, 0.8])


def test_a_moving_thing_has_an_arrow_along_its_velocity_and_a_standing_one_has_none():
    markers = Markers(CITYSCAPES).fields(tracks(), "odom", STAMP_NS)["markers"]
    assert {(m["ns"], m["id"]) for m in markers} == {
        ("boxes", 7), ("names", 7), ("velocities", 7), ("boxes", 9), ("names", 9),
    }  # fmt: skip
    arrow = next(m for m in markers if m["type"] == ARROW)
    assert arrow["scale"]["x"] == pytest.approx(6.0)
    assert arrow["pose"]["orientation"]["z"] == pytest.approx(math.sqrt(0.5))
    assert next(m for m in markers if m["ns"] == "names")["text"] == "car 7"
    assert all(m["action"] == ADD for m in markers)
    assert all(m["lifetime"]["sec"] == 1 for m in markers)  # a node that fell silent leaves no boxes behind


def test_markers_of_what_is_gone_are_deleted_once():
    board = Markers(CITYSCAPES)
    board.fields(tracks(), "odom", STAMP_NS)
    gone = board.fields(nobody(), "odom", STAMP_NS)["markers"]
    assert len(gone) == 5
    assert {m["action"] for m in gone} == {DELETE}
    assert board.fields(nobody(), "odom", STAMP_NS)["markers"] == []


def layers() -> BevLayers:
    return BevLayers(
        corner=(-2.0, 4.0),
        cell_m=0.5,
        class_id=np.array([[ROAD, 255], [CAR, ROAD]], np.uint8),
        ground=np.array([[-1.8, np.nan], [-1.7, np.nan]], np.float32),
        top=np.array([[0.0, np.nan], [1.4, 0.0]], np.float32),
        drivable=np.array([[0.9, np.nan], [0.1, 0.6]], np.float32),
    )


def test_occupancy_is_free_where_drivable_and_its_first_cell_lies_at_the_corner():
    fields = occupancy_fields(layers(), 0.5, "odom", STAMP_NS)
    assert fields["data"].tolist() == [0, -1, 100, 0]
    assert (fields["info"]["width"], fields["info"]["height"], fields["info"]["resolution"]) == (2, 2, 0.5)
    assert fields["info"]["origin"]["position"] == {"x": -2.0, "y": 4.0, "z": pytest.approx(-1.75)}
    nowhere = dataclasses.replace(layers(), ground=np.full((2, 2), np.nan, np.float32))
    assert occupancy_fields(nowhere, 0.5, "odom", STAMP_NS)["info"]["origin"]["position"]["z"] == 0.0


def test_cells_whose_class_or_ground_is_not_known_are_left_out_of_the_cloud():
    cloud = bev_cloud(layers(), CITYSCAPES.colors, "odom", STAMP_NS)
    assert cloud.field("class_id").tolist() == [ROAD, CAR]
    assert cloud.field("x").tolist() == [-1.75, -1.75]
    assert cloud.field("y").tolist() == [4.25, 4.75]
    assert cloud.field("height").tolist() == pytest.approx([0.0, 1.4])


def test_the_cloud_of_the_map_has_the_colour_of_each_class():
    voxels = MapCloud(
        np.ones((1, 3), np.float32), np.array([ROAD], np.uint8), np.ones(1, np.float32), np.full(1, 5.0, np.float32)
    )
    cloud = map_cloud(voxels, CITYSCAPES.colors, "odom", STAMP_NS)
    assert cloud.field("rgb").view(np.uint32).tolist() == [128 << 16 | 64 << 8 | 128]
    assert cloud.field("weight").tolist() == [5.0]


def test_at_utm_coordinates_the_positions_of_clouds_are_float64_and_keep_millimetres():
    one = np.ones(1, np.float32)
    far = MapCloud(np.array([[500_000.123, 5_000_000.456, 7.0]]), np.array([ROAD], np.uint8), one, one)
    cloud = map_cloud(far, CITYSCAPES.colors, "utm", STAMP_NS)
    assert [cloud.field(axis).tolist() for axis in "xyz"] == [[500_000.123], [5_000_000.456], [7.0]]
    near = MapCloud(np.array([[500.5, 5.0, 7.0]]), np.array([ROAD], np.uint8), one, one)
    assert map_cloud(near, CITYSCAPES.colors, "odom", STAMP_NS).field("x").dtype == np.float32
    grid = dataclasses.replace(layers(), corner=(500_000.0, 5_000_000.2))
    assert bev_cloud(grid, CITYSCAPES.colors, "utm", STAMP_NS).field("y").tolist() == [5_000_000.45, 5_000_000.95]
