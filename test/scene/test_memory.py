"""The whole scene step, and maps as files."""

from __future__ import annotations

import dataclasses
import sys
import time
import tracemalloc

import numpy as np
import pytest
import small_world as world

from seg_perception.config import BevConfig, Config, ObjectsConfig, VoxelMapConfig
from seg_perception.datatypes import NO_INSTANCE, SemanticCloud
from seg_perception.errors import MessageError
from seg_perception.labels import Taxonomy
from seg_perception.pcd import read_pcd
from seg_perception.scene.map_files import load_map, save_map
from seg_perception.scene.memory import SceneMemory
from seg_perception.scene.voxel_map import MapCloud

CITYSCAPES = Taxonomy.load("cityscapes")
ROAD, BUILDING, CAR = 0, 2, 13
SMALL = Config(voxel_map=VoxelMapConfig(capacity=1 << 14, radius_m=20.0), bev=BevConfig(side_m=40.0))


def labelled(points: np.ndarray, class_id: np.ndarray, stamp_ns: int = world.T0) -> SemanticCloud:
    count = len(points)
    return SemanticCloud(
        world.scan(stamp_ns, points.astype(np.float32)),
        class_id.astype(np.uint8),
        np.full(count, 0.9, np.float32),
        np.zeros(count, np.uint16),
        np.zeros(count, np.uint8),
        ("front",),
    )


def street(x: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A road, a wall, and a car that drives ahead, seen from 1.8 m above the road at x; and the classes."""
    road = np.column_stack([rng.uniform(-15, 15, 3000), rng.uniform(-4, 4, 3000), np.full(3000, -1.8)])
    wall = np.column_stack([rng.uniform(-15, 15, 1000), np.full(1000, 6.0), rng.uniform(-1.8, 2.0, 1000)])
    rear = np.column_stack([np.full(200, 8.0), rng.uniform(-0.9, 0.9, 200), rng.uniform(-1.5, -0.3, 200)])
    lost = np.full((5, 3), np.nan)
    labels = np.repeat([ROAD, BUILDING, CAR, CAR], [3000, 1000, 200, 5])
    return np.vstack([road, wall, rear, lost]), labels


def T_fixed(x: float) -> np.ndarray:
    """The LiDAR looks along the fixed frame's -y, so that turning matters."""
    T = np.array([[0.0, 1.0, 0, 0], [-1.0, 0, 0, 0], [0, 0, 1.0, 1.8], [0, 0, 0, 1.0]])
    T[1, 3] = -x
    return T


def drive(memory: SceneMemory, sweeps: int, step: float = 1.0, start: int = 0):
    rng = np.random.default_rng(start)
    for k in range(start, start + sweeps):
        points, labels = street(step * k, rng)
        cloud = labelled(points, labels, world.T0 + k * 100 * world.MS)
        yield memory.update(cloud, cloud.scan.points, T_fixed(step * k)), labels


def test_one_step_gives_objects_tracks_map_and_grid():
    memory = SceneMemory(SMALL, CITYSCAPES)
    for update, labels in drive(memory, 8):
        car = update.cloud.instance_id[labels == CAR][:200]
        assert set(car) == {1}
        assert (update.cloud.instance_id[labels != CAR] == NO_INSTANCE).all()
    assert list(update.tracks.class_id) == [CAR]
    assert update.tracks.velocity[0] == pytest.approx([0.0, -10.0], abs=0.8)
    stamp = world.T0 + 700 * world.MS
    occupancy = memory.grid.layers(stamp, update.objects).occupancy()
    assert set(np.unique(occupancy)) == {-1, 0, 100}
    found = memory.voxel_map.cloud()
    assert {ROAD, BUILDING, CAR} >= set(found.class_id) >= {ROAD, BUILDING}
    assert found.points[found.class_id == BUILDING, 0] == pytest.approx(6.0, abs=0.11)


def test_at_utm_coordinates_everything_is_where_it_is_at_the_origin():
    far, found = np.array([500_000.0, 5_000_000.0, 0.0]), []
    for shift in (np.zeros(3), far):
        still = dataclasses.replace(SMALL.voxel_map, clearing=False, radius_m=60.0)  # keys decide which is tended first
        memory = SceneMemory(dataclasses.replace(SMALL, voxel_map=still), CITYSCAPES)
        rng = np.random.default_rng(0)
        for k in range(8):
            points, labels = street(float(k), rng)
            cloud, T = labelled(points, labels, world.T0 + k * 100 * world.MS), T_fixed(float(k))
            T[:3, 3] += shift + np.array([0.03, 0.05, 0.07])  # no plane lies on a border of voxels
            update = memory.update(cloud, cloud.scan.points, T)
        layers = memory.grid.layers(cloud.scan.stamp_ns, update.objects)
        row, column = np.nonzero(layers.occupancy() == 0)
        drivable = np.array(layers.corner)[None] + 0.2 * np.column_stack([column, row])
        voxels = memory.voxel_map.cloud().points
        places = [update.objects.centre - shift, update.tracks.centre - shift, voxels - shift, drivable - shift[:2]]
        found.append([np.sort(place, axis=0) for place in places] + [update.tracks.velocity])
    for here, there in zip(*found, strict=True):
        assert there == pytest.approx(here, abs=0.005)


def test_parts_that_are_switched_off_are_not_there():
    config = Config(
        objects=ObjectsConfig(enabled=False), voxel_map=VoxelMapConfig(enabled=False), bev=BevConfig(enabled=False)
    )
    memory = SceneMemory(config, CITYSCAPES)
    update, _ = next(iter(drive(memory, 1)))
    assert (update.objects, update.tracks, memory.voxel_map, memory.grid) == (None, None, None, None)


def test_an_empty_sweep_is_taken_in():
    memory = SceneMemory(SMALL, CITYSCAPES)
    empty = np.zeros((0, 3), np.float32)
    cloud = dataclasses.replace(labelled(np.zeros((0, 3)), np.zeros(0)))
    update = memory.update(cloud, empty, np.eye(4))
    assert len(update.objects) == len(update.tracks) == 0


def grown(memory: SceneMemory, sweeps: int) -> None:
    """Drive on and on; after the first round nothing may grow: neither memory, nor what the map holds, nor time."""
    for _ in drive(memory, 60):
        pass
    held = memory.voxel_map.state
    seconds = []
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    start = time.thread_time()
    for _ in drive(memory, sweeps, start=60):
        seconds.append(time.thread_time() - start)
        start = time.thread_time()
    after = tracemalloc.get_traced_memory()[0] - sys.getsizeof(seconds) - 24 * sweeps
    tracemalloc.stop()
    now = memory.voxel_map.state
    assert now.nbytes == held.nbytes
    assert now.voxels < 1.3 * held.voxels
    assert now.refused == 0
    assert after - before < 1_000_000
    quarter = sweeps // 4
    assert np.median(seconds[-quarter:]) < 2.0 * np.median(seconds[:quarter])


def test_memory_stays_flat_on_a_long_drive():
    grown(SceneMemory(SMALL, CITYSCAPES), 200)


@pytest.mark.soak
def test_memory_stays_flat_on_a_drive_of_an_hour():
    grown(SceneMemory(SMALL, CITYSCAPES), 36_000)


def a_cloud() -> MapCloud:
    rng = np.random.default_rng(0)
    return MapCloud(
        rng.uniform(-50, 50, (200, 3)).astype(np.float32).astype(float),
        rng.integers(0, 19, 200).astype(np.uint8),
        rng.random(200).astype(np.float32),
        rng.random(200).astype(np.float32),
        CITYSCAPES.names,
    )


@pytest.mark.parametrize("suffix", [".ply", ".pcd", ".npz"])
def test_map_comes_back_from_its_file_to_the_last_bit(tmp_path, suffix):
    cloud, path = a_cloud(), tmp_path / f"map{suffix}"
    save_map(cloud, path, CITYSCAPES.colors)
    again = load_map(path)
    for name in ("points", "class_id", "probability", "weight"):
        assert np.array_equal(getattr(again, name), getattr(cloud, name)), name
    assert again.classes == CITYSCAPES.names
    assert load_map(path, CITYSCAPES).classes == CITYSCAPES.names


@pytest.mark.parametrize("suffix", [".ply", ".pcd", ".npz"])
def test_map_of_another_taxonomy_is_refused_and_one_that_names_no_classes_is_believed(tmp_path, suffix):
    path, other = tmp_path / f"map{suffix}", (*CITYSCAPES.names[:18], "traffic cone")
    save_map(dataclasses.replace(a_cloud(), classes=other), path, CITYSCAPES.colors)
    with pytest.raises(MessageError, match="traffic cone"):
        load_map(path, CITYSCAPES)
    save_map(dataclasses.replace(a_cloud(), classes=()), path, CITYSCAPES.colors)
    assert len(load_map(path, CITYSCAPES)) == 200


@pytest.mark.parametrize("suffix", [".ply", ".pcd", ".npz"])
def test_empty_map_comes_back_empty(tmp_path, suffix):
    none = np.zeros(0, np.float32)
    save_map(
        MapCloud(np.zeros((0, 3), np.float32), np.zeros(0, np.uint8), none, none),
        tmp_path / f"m{suffix}",
        CITYSCAPES.colors,
    )
    assert len(load_map(tmp_path / f"m{suffix}")) == 0


def test_pcd_holds_the_colour_as_pcl_packs_it(tmp_path):
    cloud = a_cloud()
    save_map(cloud, tmp_path / "map.pcd", CITYSCAPES.colors)
    bits = read_pcd(tmp_path / "map.pcd")["rgb"].view(np.uint32)
    rgb = CITYSCAPES.colors[cloud.class_id].astype(np.uint32)
    assert np.array_equal(bits, rgb[:, 0] << 16 | rgb[:, 1] << 8 | rgb[:, 2])


@pytest.mark.open3d
@pytest.mark.parametrize("suffix", [".ply", ".pcd"])
def test_open3d_reads_points_and_colours(tmp_path, suffix):
    import open3d

    cloud, path = a_cloud(), tmp_path / f"map{suffix}"
    save_map(cloud, path, CITYSCAPES.colors)
    read = open3d.io.read_point_cloud(str(path))
    assert np.asarray(read.points).astype(np.float32) == pytest.approx(cloud.points)
    assert np.asarray(read.colors) * 255 == pytest.approx(CITYSCAPES.colors[cloud.class_id], abs=0.5)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", b""),
        ("a.ply", b"solid"),
        ("a.ply", b"ply\nformat ascii 1.0\nend_header\n"),
        ("a.ply", b"ply\nformat binary_little_endian 1.0\nelement vertex 9\nproperty float x\nend_header\n"),
        ("a.npz", b"no zip"),
        ("a.pcd", b"VERSION 0.7\nFIELDS x\nSIZE 4\nTYPE F\nWIDTH 0\nHEIGHT 1\nDATA binary\n"),
    ],
)
def test_what_is_no_map_is_refused_with_its_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MessageError, match=name):
        load_map(tmp_path / name)
