"""`seg-perception view`."""

from __future__ import annotations

import re
import sys

import cv2
import numpy as np
import pytest
from viewing import small_bag as small

from seg_perception.bags import BagReader
from seg_perception.cli.main import main
from seg_perception.drawing import BACKGROUND
from seg_perception.scene.map_files import SUFFIXES, save_map
from seg_perception.scene.voxel_map import MapCloud
from seg_perception.viewing import open3d_window
from seg_perception.viewing.drives import LabelledDrive
from seg_perception.viewing.scenes import KEYS, Scene


def rgb(path):
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def without(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)


def test_a_bag_becomes_a_picture_with_its_boxes(bag, tmp_path, capsys):
    out = tmp_path / "p.png"
    assert main(["view", str(bag), "--out", str(out), "--size", "320x200", "--renderer", "numpy"]) == 0
    assert "drawn by NumPy" in capsys.readouterr().out
    picture = rgb(out)
    assert picture.shape == (200, 320, 3)
    assert (picture == small.CITYSCAPES.colors[small.CAR]).all(axis=2).sum() > 50
    assert (picture[0, 0] == BACKGROUND).all()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_saved_map_becomes_a_picture(suffix, tmp_path):
    x, y = (axis.reshape(-1) for axis in np.mgrid[0:10:0.2, 0:10:0.2])
    count = len(x)
    points = np.column_stack([x, y, np.zeros(count)]).astype(np.float32)
    path, out = tmp_path / f"m{suffix}", tmp_path / "p.png"
    ones = np.ones(count, np.float32)
    save_map(MapCloud(points, np.full(count, small.ROAD, np.uint8), ones, ones), path, small.CITYSCAPES.colors)
    assert main(["view", str(path), "--out", str(out), "--size", "160x120", "--renderer", "numpy"]) == 0
    assert (rgb(out)[60, 80] == small.CITYSCAPES.colors[small.ROAD]).all()


def test_from_moves_the_eye(bag, tmp_path):
    pictures = []
    for number, place in enumerate(("-11,0,7.5", "0,0,30")):
        out = tmp_path / f"{number}.png"
        assert main(["view", str(bag), "--out", str(out), f"--from={place}", "--renderer", "numpy"]) == 0
        pictures.append(rgb(out))
    assert (pictures[0] != pictures[1]).any()


def test_a_bag_that_does_not_move_says_in_which_frame_it_is_shown(still_bag, tmp_path, capsys):
    assert main(["view", str(still_bag), "--out", str(tmp_path / "p.png"), "--renderer", "numpy"]) == 0
    assert "frame     lidar: the bag does not say how it moves in 'odom'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{bag}", "--sweep", "9"], "--sweep 9: bag .* it has 3, counted from 0"),
        (["{bag}", "--topic", "/nowhere"], "no labelled cloud on /nowhere"),
        (["{bag}", "--out", "/nowhere/p.png"], "its folder does not exist"),
        (["/nowhere.mcap"], "no such file"),
        (["/nowhere.ply"], "no such file"),
        (["{bag}"], "no display, .* `--out PICTURE.png` needs none"),
    ],
)
def test_what_cannot_be_shown_ends_in_a_sentence(arguments, sentence, bag, capsys, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert main(["view", *(argument.format(bag=bag) for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert re.search(sentence, error), error


def test_without_open3d_the_picture_is_drawn_all_the_same_and_says_why(bag, tmp_path, capsys, monkeypatch):
    without(monkeypatch, "open3d")
    assert main(["view", str(bag), "--out", str(tmp_path / "p.png")]) == 0
    said = capsys.readouterr().out
    assert "drawn by NumPy, as Open3D wanted" in said
    assert "`pip install open3d`" in said
    assert main(["view", str(bag), "--out", str(tmp_path / "p.png"), "--renderer", "open3d"]) == 2


def test_without_rerun_the_package_is_named_and_nothing_is_left(bag, tmp_path, capsys, monkeypatch):
    without(monkeypatch, "rerun")
    assert main(["view", str(bag), "--rerun", str(tmp_path / "d.rrd")]) == 2
    assert "`pip install rerun-sdk`" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.open3d
def test_open3d_draws_what_numpy_draws(bag, tmp_path):
    """Their boxes cover the same part of the picture; where Open3D finds no driver there is nothing to compare."""
    from seg_perception.errors import ConfigError
    from seg_perception.viewing.splatting import splat

    size = (320, 200)
    with BagReader(bag) as reader:
        drawn, view = Scene(small.CITYSCAPES, LabelledDrive(reader, small.CITYSCAPES)).draw()
        try:
            theirs = open3d_window.render(drawn, view, size)
        except ConfigError as error:
            pytest.skip(f"Open3D cannot draw here: {error}")
    places = []
    for picture in (theirs, splat(drawn, view, size)):
        rows, cols = np.nonzero((picture == small.CITYSCAPES.colors[small.CAR]).all(axis=2))
        places.append([rows.min(), rows.max(), cols.min(), cols.max()])
    assert places[0] == pytest.approx(places[1], abs=4)


@pytest.mark.open3d
def test_keys_exchange_what_the_window_draws(bag):
    class Window:
        def __init__(self):
            self.updated = 0

        def update_geometry(self, _):
            self.updated += 1

    with BagReader(bag) as reader:
        scene = Scene(small.CITYSCAPES, LabelledDrive(reader, small.CITYSCAPES))
        geometries, window = open3d_window.geometries_of(*scene.draw()), Window()
        assert len(geometries[1].lines) == 12
        assert open3d_window.on_key(scene, KEYS["B"][1], geometries)(window)
        assert (len(geometries[1].lines), window.updated) == (0, 2)
        ahead_m = np.asarray(geometries[0].points)[0, 2]
        assert open3d_window.on_key(scene, KEYS["N"][1], geometries)(window)
        assert np.asarray(geometries[0].points)[0, 2] < ahead_m  # the eye has come nearer to the pole
