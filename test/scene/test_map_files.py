"""Maps as files: what is none is refused with a sentence."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path

import numpy as np
import pytest

from seg_perception.errors import MessageError
from seg_perception.scene.map_files import load_map, save_map
from seg_perception.scene.voxel_map import MapCloud

START = "ply\nformat binary_little_endian 1.0\n"
ONE = "property float x\n"


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ("", "little-endian PLY file wanted"),
        ("\n", "little-endian PLY file wanted"),
        (START, "one element, vertex"),
        (f"{START}element vertex\n{ONE}", "one element, vertex"),
        (f"{START}element vertex 1\n{ONE}{ONE}", "each once"),
        (f"{START}element vertex 2\n{ONE}", "4 bytes of data seen, 8 wanted"),
        (f"{START}element vertex 1\n{ONE}", r"has \['x'\]"),
    ],
)
def test_a_ply_that_is_no_map_is_refused(tmp_path: Path, header: str, sentence: str) -> None:
    path = tmp_path / "map.ply"
    path.write_bytes(f"{header}end_header\n".encode() + bytes(4))
    with pytest.raises(MessageError, match=sentence):
        load_map(path)


@contextlib.contextmanager
def room_for_10_kb():
    """Any file may be so large, as if the disk were full then. Also the one that pytest itself writes to: be short."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("suffix", [".ply", ".pcd", ".npz"])
def test_where_the_disk_is_full_the_map_of_before_stays_and_the_file_is_named(tmp_path, suffix):
    path = tmp_path / f"map{suffix}"
    path.write_bytes(b"of before")
    points = np.random.default_rng(0).uniform(-50.0, 50.0, (20_000, 3))
    ones = np.ones(len(points), np.float32)
    voxels = MapCloud(points, np.zeros(len(points), np.uint8), ones, ones)
    with pytest.raises(OSError, match=f"File too large: .*map{suffix}"), room_for_10_kb():
        save_map(voxels, path, np.zeros((256, 3), np.uint8))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"of before"
