"""`seg-perception map`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from seg_perception.bags import BagWriter
from seg_perception.cli.main import main
from seg_perception.messages.pointcloud import cloud_from_columns
from seg_perception.messages.transforms import StampedTransform
from seg_perception.scene.map_files import load_map

ROAD, POLE = 0, 5
MS = 1_000_000
T0 = 1_700_000_000_000 * MS


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three labelled sweeps of a pole at (20, 0) of odom, each point measured at a time of its own while the vehicle
    drives 1 m a sweep; the last sweep has no /tf.
    """
    path = tmp_path_factory.mktemp("map") / "drive.mcap"
    with BagWriter(path) as writer:
        writer.write_tf("/tf_static", [StampedTransform("base_link", "lidar", T0, np.eye(4))], T0)
        for k in range(3):
            T = np.eye(4)
            T[0, 3] = k
            stamp = T0 + k * 100 * MS
            writer.write_tf("/tf", [StampedTransform("odom", "base_link", stamp, T)], stamp)
        for k in (0, 1, 9):
            time = np.linspace(0.0, 0.099, 40).astype(np.float32)
            x = (20.1 - k - 10.0 * time).astype(np.float32)
            columns = {"x": x, "y": np.full(40, 0.1, np.float32), "z": np.linspace(-0.95, 0.95, 40, dtype=np.float32)}
            labels = {"time": time, "class_id": np.full(40, POLE, np.uint8)}
            stamp = T0 + k * 100 * MS
            writer.write_cloud("/truth/points", cloud_from_columns("lidar", stamp, columns | labels), stamp + 100 * MS)
            writer.write_cloud("/points", cloud_from_columns("lidar", stamp, columns), stamp + 100 * MS)
    settings = {"/**": {"ros__parameters": {"motion": {"fixed_frame": "odom"}}}}
    path.with_suffix(".param.yaml").write_text(yaml.safe_dump(settings))
    return path


def test_labelled_sweeps_make_one_sharp_pole_in_the_fixed_frame(bag, tmp_path, capsys):
    out = tmp_path / "scene.ply"
    assert main(["map", str(bag), "--labelled", "/truth/points", "--out", str(out)]) == 0
    scene = load_map(out)
    assert set(scene.class_id) == {POLE}
    assert scene.points[:, :2] == pytest.approx(np.tile([20.1, 0.1], (len(scene), 1)), abs=0.11)
    assert sorted(scene.points[:, 2]) == pytest.approx(np.arange(-0.9, 1.0, 0.2), abs=0.11)
    said = capsys.readouterr().out
    assert "2 in the map, 1 without a transform" in said
    assert "80 labelled" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--labelled", "/nothing"], "no cloud on /nothing"),
        (["--labelled", "/points"], "no field 'class_id'"),
        (["--labelled", "/tf"], "no cloud on /tf"),
        ([], "cameras: at least one camera name wanted"),
    ],
)
def test_what_cannot_be_mapped_is_told_in_a_sentence(bag, tmp_path, capsys, arguments, sentence):
    assert main(["map", str(bag), "--out", str(tmp_path / "scene.ply"), *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_other_kind_of_file_is_refused_before_any_work(bag, tmp_path, capsys):
    assert main(["map", str(bag), "--out", str(tmp_path / "scene.las")]) == 2
    assert ".ply, .pcd, .npz" in capsys.readouterr().err


def test_the_clouds_that_the_node_made_of_several_lidars_are_one_map(tmp_path, capsys):
    drive = tmp_path / "drive.mcap"
    labels = {"class_id": np.full(1, POLE, np.uint8)}
    with BagWriter(drive) as writer:
        for child, x in (("top", 0.0), ("left", 5.0)):
            T = np.eye(4)
            T[0, 3] = x
            writer.write_tf("/tf_static", [StampedTransform("odom", child, T0, T)], T0)
            point = {axis: np.full(1, value, np.float32) for axis, value in zip("xyz", (20.1, 0.1, 0.1), strict=True)}
            cloud = cloud_from_columns(child, T0, point | labels)
            writer.write_cloud(f"/perception_node/{child}/points", cloud, T0)
    settings = {"lidars": ["top", "left"], "motion": {"fixed_frame": "odom"}}
    drive.with_suffix(".param.yaml").write_text(yaml.safe_dump(settings))
    assert main(["map", str(drive), "--out", str(tmp_path / "scene.ply")]) == 0
    assert sorted(load_map(tmp_path / "scene.ply").points[:, 0]) == pytest.approx([20.1, 25.1], abs=0.11)
    assert "2 in the map" in capsys.readouterr().out
