"""A Rerun recording, read back by rerun's own reader."""

from __future__ import annotations

import pytest
from viewing import small_bag as small

from seg_perception.cli.main import main

pytest.importorskip("rerun.chunk", reason="rerun, or its reader of chunks, is not installed")


@pytest.fixture(scope="module")
def chunks(bag, tmp_path_factory):
    from rerun.chunk import RrdReader

    path = tmp_path_factory.mktemp("rerun") / "drive.rrd"
    assert main(["view", str(bag), "--rerun", str(path)]) == 0
    found: dict = {}
    for chunk in RrdReader(path).stream():
        found.setdefault(chunk.entity_path, []).append(chunk)
    return found


def column(chunks, entity, name):
    """All rows of a component of an entity."""
    rows = []
    for chunk in chunks[entity]:
        batch = chunk.to_record_batch()
        for field in batch.schema.names:
            if field.split(":")[-1] == name:
                rows += batch.column(field).to_pylist()
    return rows


def test_every_part_of_the_drive_is_there(chunks):
    camera = "/world/cameras/front_optical"
    assert {
        "/", "/world", "/world/points", "/world/objects", "/world/map", "/world/trajectory", "/world/vehicle",
        camera, f"{camera}/image", f"{camera}/image/labels",
    } <= set(chunks)  # fmt: skip


def test_points_have_their_class_and_stamp(chunks):
    assert column(chunks, "/world/points", "class_ids") == [[small.POLE, small.CAR, 255]] * small.SWEEPS
    stamps = column(chunks, "/world/points", "stamp")
    assert [stamp.timestamp() for stamp in stamps] == pytest.approx([small.stamp(k) * 1e-9 for k in range(3)])
    assert column(chunks, "/world/points", "positions")[2][1] == pytest.approx([8.0, -1.0, 0.0])


def test_boxes_are_labelled_with_class_and_track(chunks):
    assert column(chunks, "/world/objects", "labels") == [["car 7"]] * small.SWEEPS
    assert column(chunks, "/world/objects", "half_sizes")[0][0] == pytest.approx([2.0, 1.0, 0.75])


def test_trajectory_is_the_way_of_the_vehicle(chunks):
    (path,) = column(chunks, "/world/trajectory", "strips")[0]
    assert [place[0] for place in path] == pytest.approx([0.0, 1.0, 2.0])


def test_the_map_comes_once_and_with_the_sweep_that_follows_it(chunks):
    assert column(chunks, "/world/map", "class_ids") == [[small.ROAD, small.POLE]]


def test_images_and_their_labels_are_all_there(chunks):
    image = "/world/cameras/front_optical/image"
    assert len(column(chunks, image, "blob")) == small.SWEEPS
    assert len(column(chunks, f"{image}/labels", "buffer")) == small.SWEEPS


def test_a_saved_map_becomes_a_recording(tmp_path, chunks):
    import numpy as np
    from rerun.chunk import RrdReader

    from seg_perception.scene.map_files import save_map
    from seg_perception.scene.voxel_map import MapCloud

    one = np.ones(1, np.float32)
    saved, out = tmp_path / "m.npz", tmp_path / "m.rrd"
    save_map(MapCloud(np.zeros((1, 3), np.float32), np.zeros(1, np.uint8), one, one), saved, small.CITYSCAPES.colors)
    assert main(["view", str(saved), "--rerun", str(out)]) == 0
    assert "/world/map" in {chunk.entity_path for chunk in RrdReader(out).stream()}
