"""The map remembers what was seen, forgets what moved, and never grows."""

from __future__ import annotations

import numpy as np
import pytest

from seg_perception.config import VoxelMapConfig
from seg_perception.datatypes import UNKNOWN
from seg_perception.errors import ConfigError
from seg_perception.labels import Taxonomy
from seg_perception.scene.free_space import depths_of
from seg_perception.scene.map_files import load_map, save_map
from seg_perception.scene.voxel_map import VoxelMap

CITYSCAPES = Taxonomy.load("cityscapes")
ROAD, BUILDING, VEGETATION, PERSON, CAR = 0, 2, 8, 11, 13
HERE = np.zeros(3)
S = 1_000_000_000
T0 = 1_700_000_000 * S


def a_map(**settings) -> VoxelMap:
    return VoxelMap(CITYSCAPES, VoxelMapConfig(**{"capacity": 1 << 12, **settings}))


def xyz(*points) -> np.ndarray:
    return np.array(points, np.float32).reshape(-1, 3)


def put(voxels: VoxelMap, points: np.ndarray, label: int, weight: float = 0.8, at: int = T0, origin=HERE) -> int:
    count = len(points)
    return voxels.insert(points, origin, np.full(count, label, np.uint8), np.full(count, weight, np.float32), at)


def test_voxel_takes_the_class_with_the_most_confidence_not_with_the_most_points():
    voxels = a_map()
    put(voxels, xyz((1, 1, 1), (1.01, 1, 1), (1.02, 1, 1)), BUILDING, 0.2)
    put(voxels, xyz((1, 1, 1)), ROAD, 0.9)
    class_id, probability = voxels.label(xyz((1.05, 1.1, 1.1)), HERE)
    assert class_id[0] == ROAD
    assert probability[0] == pytest.approx((0.9 + 1 / 19) / (1.5 + 1))


def test_place_that_was_never_seen_is_unknown():
    voxels = a_map()
    put(voxels, xyz((1, 1, 1)), ROAD)
    class_id, probability = voxels.label(xyz((5, 5, 5), (np.nan, 0, 0)), HERE)
    assert (list(class_id), list(probability)) == ([UNKNOWN] * 2, [0.0] * 2)


def test_points_unknown_not_finite_or_below_the_least_probability_leave_nothing():
    voxels = a_map(min_probability=0.5)
    put(voxels, xyz((1, 1, 1)), UNKNOWN)
    put(voxels, xyz((np.nan, 1, 1), (np.inf, 1, 1)), ROAD)
    put(voxels, xyz((1, 1, 1)), ROAD, 0.4)
    put(voxels, xyz((1, 1, 1)), ROAD, np.nan)
    assert voxels.state.voxels == 0


@pytest.mark.parametrize("origin", [(0, 0, 0), (-3000.1, 250_000.3, -12.7), (5e6, -5e6, 0.0)])
def test_cloud_gives_each_voxel_once_at_its_middle_wherever_on_earth(origin):
    voxels, origin = a_map(), np.array(origin, float)
    rng = np.random.default_rng(0)
    points = rng.uniform(-20, 20, (800, 3)).astype(np.float32)
    put(voxels, points, ROAD, origin=origin)
    voxels.forget(origin, T0)
    cloud = voxels.cloud()
    want = np.unique(np.floor((points + origin) / 0.2).astype(np.int64), axis=0)
    got = np.unique(
        np.floor(cloud.points.astype(float) / 0.2 + (0.01 if abs(origin).max() < 1e5 else 0)).astype(np.int64), axis=0
    )
    assert len(cloud) == len(want) == voxels.state.voxels
    if abs(origin).max() < 1e5:  # float32 of the cloud tells single voxels apart
        assert np.array_equal(got, want)


def test_votes_for_what_moves_fade_and_others_stay():
    voxels = a_map(movable_decay_s=1.0)
    put(voxels, xyz((1, 1, 1)), BUILDING, 0.3)
    put(voxels, xyz((1, 1, 1), (1, 1, 1)), CAR, 0.9)
    assert voxels.label(xyz((1, 1, 1)), HERE)[0][0] == CAR
    for k in range(4):
        voxels.forget(HERE, T0 + 3 * S + k)
    assert voxels.label(xyz((1, 1, 1)), HERE)[0][0] == BUILDING


def test_voxel_of_which_nothing_is_left_is_taken_out():
    voxels = a_map(movable_decay_s=1.0)
    put(voxels, xyz((1, 1, 1), (2, 2, 2)), CAR)
    for k in range(4):
        voxels.forget(HERE, T0 + 60 * S + k)
    assert voxels.state.voxels == len(voxels.cloud()) == 0


def test_map_rolls_with_the_vehicle():
    voxels = a_map(radius_m=50.0)
    put(voxels, xyz((1, 0, 0), (45, 0, 0)), ROAD)
    for _ in range(4):
        voxels.forget(np.array([60.0, 0, 0]), T0)
    assert voxels.cloud().points[:, 0] == pytest.approx([45.1], abs=0.11)


def wall(x: float, half: float = 3.0) -> np.ndarray:
    """A wall across, as densely measured as a LiDAR does."""
    y, z = np.meshgrid(np.arange(-half, half, 0.04), np.arange(-half / 2, half / 2, 0.04))
    return xyz(*np.column_stack([np.full(y.size, x), y.ravel(), z.ravel()]))


def test_moving_thing_that_is_looked_through_is_gone_at_once():
    voxels = a_map()
    put(voxels, xyz((10, 0, 0), (10, 0.5, 0)), PERSON)
    put(voxels, xyz((10, 0, 0.5)), BUILDING)
    cleared = sum(voxels.clear(depths_of(wall(20.0)), HERE) for _ in range(4))
    assert cleared == 2
    assert list(voxels.label(xyz((10, 0, 0), (10, 0, 0.5)), HERE)[0]) == [UNKNOWN, BUILDING]


def test_moving_thing_behind_or_beside_what_is_measured_stays():
    voxels = a_map()
    put(voxels, xyz((10, 0, 0), (-10, 0, 0), (19.9, 0, 0), (10, 8, 0), (0, 0, 5)), PERSON)
    assert sum(voxels.clear(depths_of(wall(9.0)), HERE) for _ in range(4)) == 0
    assert sum(voxels.clear(depths_of(xyz((10, 0, np.nan))), HERE) for _ in range(4)) == 0


def test_full_map_refuses_and_says_so_and_keeps_what_it_has():
    voxels = a_map(capacity=1 << 10)
    line = xyz(*[(0.2 * k + 0.1, y, 0) for k in range(-150, 150) for y in (0, 5, 9)])
    refused = put(voxels, line, ROAD)
    state = voxels.state
    assert state.voxels == int(0.8 * 1024)
    assert refused == state.refused == 900 - state.voxels
    assert len(voxels.cloud()) == state.voxels


def test_taking_out_keeps_every_other_voxel_findable():
    """Against a dictionary, through thousands of insertions and removals."""
    voxels = a_map(capacity=1 << 10, radius_m=6.0, movable_decay_s=3600.0)
    rng = np.random.default_rng(3)
    for step in range(60):
        centre = np.array([0.5 * step, 0.0, 0.0])
        points = (rng.uniform(-3, 3, (40, 3)) * [1, 1, 0.2]).astype(np.float32)
        put(voxels, points, BUILDING, at=T0 + step, origin=centre)
        voxels.forget(centre, T0 + step)
        assert (voxels.label(points, centre)[0] == BUILDING).all()
    cloud = voxels.cloud()
    assert len(cloud) == voxels.state.voxels
    assert (voxels.label(cloud.points, HERE)[0] == BUILDING).all()
    assert voxels.state.refused == 0


def test_saved_cloud_put_into_a_new_map_labels_as_before():
    voxels, again = a_map(), a_map()
    rng = np.random.default_rng(1)
    points = rng.uniform(-5, 5, (300, 3)).astype(np.float32)
    labels = rng.integers(0, 19, 300).astype(np.uint8)
    voxels.insert(points, HERE, labels, rng.uniform(0.3, 1.0, 300).astype(np.float32), T0)
    cloud = voxels.cloud()
    assert again.add(cloud, T0) == 0
    assert np.array_equal(again.label(points, HERE)[0], voxels.label(points, HERE)[0])


def test_capacity_that_is_no_power_of_two_is_refused():
    with pytest.raises(ConfigError, match="a power of two wanted, 3000 seen"):
        a_map(capacity=3000)


def test_a_wall_that_stood_for_an_hour_gives_way_to_the_hedge_that_stands_there_now():
    voxels = a_map()
    for sweep in range(36_000):
        put(voxels, xyz((1, 1, 1)), BUILDING, 0.9, T0 + sweep * S // 10)
    for sweep in range(60):
        put(voxels, xyz((1, 1, 1)), VEGETATION, 0.9, T0 + 3600 * S + sweep * S // 10)
    assert voxels.label(xyz((1, 1, 1)), HERE)[0] == VEGETATION
    assert voxels.cloud().weight[0] < 80.0


def test_a_vote_of_any_weight_counts_as_what_a_voxel_holds_at_most():
    voxels = a_map()
    put(voxels, xyz((1, 1, 1)), BUILDING, 1e6)
    put(voxels, xyz(*[(1, 1, 1)] * 60), VEGETATION, 1.0)
    assert voxels.label(xyz((1, 1, 1)), HERE)[0] == VEGETATION


def look(voxels: VoxelMap, sweeps: int, *walls: np.ndarray) -> None:
    """Sweeps that measure walls, and vote for what they measure."""
    points = np.vstack(walls)
    for sweep in range(sweeps):
        stamp = T0 + (sweep + 1) * S // 10
        voxels.clear(depths_of(points), HERE)
        put(voxels, points, BUILDING, 0.9, stamp)
        voxels.forget(HERE, stamp)


def wall_at(x: float) -> np.ndarray:
    y, z = np.meshgrid(np.arange(-6, 6, 0.05), np.arange(-4, 4, 0.05))
    return np.column_stack([np.full(y.size, x), y.ravel(), z.ravel()]).astype(np.float32)


def test_a_fence_that_was_taken_away_is_forgotten_in_a_minute_and_what_stands_is_not():
    voxels = a_map(capacity=1 << 16)
    fence = wall_at(5.0)[::7]
    fence = fence[(abs(fence[:, 1:]) < 1.0).all(axis=1)]
    for _ in range(100):
        put(voxels, fence, BUILDING, 0.9)
    look(voxels, 20, wall_at(15.0))
    assert (voxels.label(fence, HERE)[0] == BUILDING).all()
    look(voxels, 600, wall_at(15.0))
    assert (voxels.label(fence, HERE)[0] == UNKNOWN).all()
    assert (voxels.label(wall_at(15.0), HERE)[0] == BUILDING).all()
    assert voxels.state.voxels == len(voxels.cloud())


def test_ground_between_the_beams_of_a_parked_vehicle_stays():
    height, voxels = 1.8, a_map(capacity=1 << 16)
    x, y = np.meshgrid(np.arange(-25, 25, 0.2), np.arange(-25, 25, 0.2))
    ground = np.column_stack([x.ravel(), y.ravel(), np.full(x.size, -height)]).astype(np.float32)
    for _ in range(10):
        put(voxels, ground, ROAD, 0.9)
    azimuth, down = np.meshgrid(np.radians(np.arange(0, 360, 0.3)), np.radians(np.arange(2.0, 25.0, 1.3)))
    beams = [np.cos(azimuth) / np.tan(down), np.sin(azimuth) / np.tan(down), np.full(down.shape, -1.0)]
    look(voxels, 600, height * np.stack(beams, -1).reshape(-1, 3).astype(np.float32))
    assert (voxels.label(ground, HERE)[0] != UNKNOWN).all()


def test_far_from_the_origin_a_map_keeps_centimetres_through_saving_and_loading(tmp_path):
    far = np.array([500_000.0, 5_000_000.0, 300.0])
    voxels, other = a_map(), a_map()
    put(voxels, xyz((1.03, -2.41, 0.5)), BUILDING, origin=far)
    voxels.forget(far, T0)
    expected = np.floor((far + np.array([1.03, -2.41, 0.5])) / 0.2) * 0.2 + 0.1
    for suffix in (".ply", ".pcd", ".npz"):
        save_map(voxels.cloud(), tmp_path / f"map{suffix}", CITYSCAPES.colors)
        assert load_map(tmp_path / f"map{suffix}").points[0] == pytest.approx(expected, abs=0.001)
        other.add(load_map(tmp_path / f"map{suffix}"), T0)
        assert other.label(xyz((1.03, -2.41, 0.5)), far)[0] == BUILDING
