"""The scene behind the intake: after the labels, never instead of them."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import small_world as world
from small_world import CAR, MS, ROAD, T0
from test_intake import Drive, cloud_message, image_message, tf_message

from seg_perception.datatypes import UNKNOWN
from seg_perception.errors import ConfigError, MessageError
from seg_perception.scene_step import FAULT, JUMP, LATE, MAP_FULL, WITHOUT_ODOMETRY

SCENE = {
    "objects": {"enabled": True, "min_points": 3},
    "tracking": {"confirm_hits": 2},
    "voxel_map": {"enabled": True, "capacity": 1 << 12},
    "bev": {"enabled": True, "side_m": 40.0},
}


def thing() -> np.ndarray:
    """A wall of points ahead to the right, which the network calls car, and a few of road to the left."""
    y, z = np.meshgrid(np.linspace(-4.0, -2.5, 8), np.linspace(-0.5, 0.5, 5))
    car = np.column_stack([np.full(y.size, 10.0), y.ravel(), z.ravel()])
    road = np.column_stack([np.full(9, 10.0), np.linspace(2.0, 4.0, 9), np.zeros(9)])
    return np.vstack([car, road]).astype(np.float32)


class Ride(Drive):
    """A drive of one sweep after another, with odometry."""

    def __init__(self, odometry: bool = True, **settings: object) -> None:
        super().__init__(**{**SCENE, **settings})
        self.odometry = odometry
        self.odometry_x = 0.0

    def sweep(self, stamp_ns: int, points: np.ndarray | None = None, lidar: str = ""):
        """The result of a sweep, and the same when it was remembered."""
        self.hand_in(stamp_ns, points, lidar)
        result = self.intake.next_result(0.0)
        assert result is not None
        return result, self.intake.remember(result)

    def hand_in(self, stamp_ns: int, points: np.ndarray | None = None, lidar: str = "") -> None:
        T_odom_base = np.eye(4)
        T_odom_base[0, 3] = self.odometry_x
        self.intake.image("front", image_message(stamp_ns))
        self.intake.cloud(cloud_message(stamp_ns, thing() if points is None else points), 0.0, lidar)
        if self.odometry:
            self.intake.transforms(tf_message(("odom", "base_link", T_odom_base), stamp_ns=stamp_ns), static=False)


def test_odometry_that_jumps_is_told_and_a_vehicle_that_brakes_hard_is_not():
    ride = Ride()
    for k, x in enumerate([0.0, 2.0, 4.0, 5.9, 7.7, 9.4, 11.0]):  # from 20 m/s, by 10 m/s2
        ride.odometry_x = x
        ride.sweep(T0 + k * 100 * MS)
    assert JUMP not in ride.causes
    for k, x in enumerate([12.5 + 2.0, 13.9 + 2.0], 7):
        ride.odometry_x = x
        ride.sweep(T0 + k * 100 * MS)
    assert ride.causes[JUMP] == 1
    assert "'odom' jumped by 1.9 m" in ride.said[JUMP]


def test_the_cloud_tells_the_track_of_each_point_and_the_map_grows_only_when_it_is_remembered():
    ride = Ride()
    first, _ = ride.sweep(T0)
    held = ride.intake.scene.memory.voxel_map.state.voxels
    second, done = ride.sweep(T0 + 100 * MS)
    assert second.cloud.class_id.tolist() == [CAR] * 40 + [ROAD] * 9
    assert first.cloud.instance_id.tolist() == second.cloud.instance_id.tolist() == [1] * 40 + [0] * 9
    assert done.scene.tracks.confirmed.tolist() == [True]
    assert held > 0
    assert ride.causes == {}
    assert {"objects", "tracking", "map_insert", "grid_insert", "scene"} <= set(ride.intake.statistics.latency_ms())


def test_a_cloud_that_does_not_wait_for_objects_comes_without_them():
    ride = Ride(objects={**SCENE["objects"], "in_cloud": False})
    result, done = ride.sweep(T0)
    assert result.scene is None
    assert not result.cloud.instance_id.any()
    assert not done.cloud.instance_id.any()  # which a replay writes: what the live node has published
    assert done.scene.cloud.instance_id.tolist() == [1] * 40 + [0] * 9


def test_the_scene_that_is_switched_off_costs_nothing_and_says_nothing():
    ride = Ride(odometry=False, motion={"mode": "static"}, **world.SCENE_OFF)
    _, done = ride.sweep(T0)
    assert ride.intake.scene.memory is None
    assert done.scene is None
    assert ride.causes == {}
    assert "scene" not in ride.intake.statistics.latency_ms()


def test_without_odometry_there_are_labels_and_no_scene_and_it_is_said():
    ride = Ride(odometry=False)
    result, done = ride.sweep(T0)
    assert (result.cloud.class_id != UNKNOWN).all()
    assert done.scene is None
    assert ride.causes == {WITHOUT_ODOMETRY: 1, "motion_assumed_static": 1}
    assert "odom" in ride.said[WITHOUT_ODOMETRY]


@pytest.mark.parametrize("half", ["recognise", "remember"])
def test_a_fault_in_the_scene_costs_the_sweep_its_scene_and_not_its_labels(monkeypatch, half):
    ride = Ride()

    def fail(*_):
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr(ride.intake.scene.memory, half, fail)
    result, _ = ride.sweep(T0)
    assert (result.cloud.class_id != UNKNOWN).all()
    assert ride.causes == {FAULT: 1}
    assert "a mistake" in ride.said[FAULT]
    monkeypatch.undo()
    assert ride.sweep(T0 + 100 * MS)[1].scene is not None


def test_a_saved_map_is_in_another_memory_with_its_next_sweep(tmp_path):
    ride, other = Ride(), Ride()
    ride.sweep(T0)
    said = ride.intake.scene.save_map(tmp_path / "map.npz")
    held = ride.intake.scene.memory.voxel_map.state.voxels
    assert said == f"{held} voxels written to {tmp_path}/map.npz"
    assert [entry.name for entry in tmp_path.iterdir()] == ["map.npz"]
    other.odometry = False  # its own sweep leaves nothing
    other.intake.scene.load_map(tmp_path / "map.npz")
    other.sweep(T0)
    assert other.intake.scene.state["voxels"] == 0
    other.odometry = True
    other.sweep(T0 + 100 * MS)
    assert other.intake.scene.state["voxels"] == held
    found = other.intake.scene.memory.voxel_map.cloud()
    assert set(found.class_id) == {ROAD, CAR}


def test_a_map_that_cannot_be_written_or_is_not_there_is_refused(tmp_path):
    scene = Ride().intake.scene
    with pytest.raises(MessageError, match=r"\.ply, \.pcd, \.npz"):
        scene.save_map(tmp_path / "map.las")
    with pytest.raises(OSError, match="nowhere"):
        scene.save_map(tmp_path / "nowhere" / "map.ply")
    with pytest.raises(OSError, match=r"none\.ply"):
        scene.load_map(tmp_path / "none.ply")
    with pytest.raises(ConfigError, match="there is no map"):
        Ride(voxel_map={"enabled": False}).intake.scene.save_map(tmp_path / "map.ply")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_archive_is_refused_whatever_byte_is_wrong(tmp_path):
    ride = Ride()
    ride.sweep(T0)
    file = tmp_path / "map.npz"
    ride.intake.scene.save_map(file)
    good = file.read_bytes()
    for place in range(0, len(good), 3):
        file.write_bytes(good[:place] + bytes([good[place] ^ 0x5A]) + good[place + 1 :])
        with contextlib.suppress(MessageError, OSError):
            ride.intake.scene.load_map(file)
    with file.open("wb") as out:
        np.save(out, np.zeros(3))
    with pytest.raises(MessageError, match=r"no \.npz file"):
        ride.intake.scene.load_map(file)


def test_a_full_map_is_counted_and_says_what_to_change():
    ride = Ride(voxel_map={"enabled": True, "capacity": 1 << 10, "voxel_m": 0.02})
    y, z = np.meshgrid(np.linspace(-4.0, -2.5, 50), np.linspace(-0.5, 0.5, 40))
    ride.sweep(T0, np.column_stack([np.full(y.size, 10.0), y.ravel(), z.ravel()]).astype(np.float32))
    assert ride.causes == {MAP_FULL: 1}
    assert "raise voxel_map.capacity (1024)" in ride.said[MAP_FULL]
    state = ride.intake.scene.state
    assert state["voxels"] == state["voxels_at_most"] == 819
    assert state["points_without_room"] > 500


def test_stamps_that_jump_back_empty_the_scene():
    ride = Ride()
    for k in range(3):
        ride.sweep(T0 + k * 100 * MS)
    memory = ride.intake.scene.memory
    stamp = T0 - 60_000 * MS
    ride.hand_in(stamp)
    result, _ = ride.sweep(stamp + 100 * MS)  # which bears the one before it out, and that goes first
    assert result.cloud.scan.stamp_ns == stamp
    assert ride.causes["time_jump"] == 1
    assert WITHOUT_ODOMETRY not in ride.causes
    assert ride.intake.scene.memory is not memory
    assert set(result.cloud.instance_id) == {0, 1}
    assert result.scene.tracks.age_s.tolist() == [0.0]


def test_sweeps_of_two_lidars_out_of_order_are_one_scene_in_which_time_does_not_run_back():
    ride = Ride(lidars=["top", "left"])
    stamps = []
    for k in range(4):
        for lidar, late_ms in (("top", 0), ("left", 60)):
            _, done = ride.sweep(T0 + (k * 100 - late_ms) * MS, lidar=lidar)
            stamps.append(done.scene.stamp_ns)
            assert set(done.cloud.instance_id) == {0, 1}
    assert stamps == [T0 + k * 100 * MS for k in range(4) for _ in range(2)]
    assert len(done.scene.tracks) == 1
    assert done.scene.tracks.age_s.tolist() == [pytest.approx(0.3)]
    assert ride.causes.keys() <= {"image_unused"}


def test_a_lidar_whose_clock_is_behind_is_labelled_and_left_out_of_the_scene():
    ride = Ride(lidars=["top", "left"])
    ride.sweep(T0, lidar="top")
    held = ride.intake.scene.memory
    result, done = ride.sweep(T0 - 700 * MS, lidar="left")
    assert (result.cloud.class_id != UNKNOWN).all()
    assert done.scene is None
    assert ride.causes[LATE] == 1
    assert "LiDAR 'left'" in ride.said[LATE]
    assert ride.sweep(T0 + 100 * MS, lidar="top")[1].scene.tracks.age_s.tolist() == [pytest.approx(0.1)]
    assert ride.intake.scene.memory is held


@pytest.mark.parametrize(("off_s", "cause"), [(3600, "sweep_far_ahead"), (-60, "sweep_far_behind")])
def test_one_sweep_stamped_far_off_costs_itself_and_neither_map_nor_odometry(off_s, cause):
    ride = Ride()
    for k in range(3):
        ride.sweep(T0 + k * 100 * MS)
    memory = ride.intake.scene.memory
    ride.intake.cloud(cloud_message(T0 + off_s * 1000 * MS), 0.0)
    assert ride.intake.next_result(9.0) is None  # the next one tells what it is, not the deadline
    result, done = ride.sweep(T0 + 300 * MS)
    assert ride.causes == {cause: 1}
    assert ride.intake.scene.memory is memory
    assert (result.cloud.class_id != UNKNOWN).all()
    assert done.scene.tracks.age_s.tolist() == pytest.approx([0.3])


def passing(k: int) -> np.ndarray:
    """The side of a car that drives away to the right at 12 m/s, seen every 100 ms, and a few points of road."""
    y, z = np.meshgrid(np.linspace(-2.5, 0.0, 15), np.linspace(-0.6, 0.6, 7))
    car = np.column_stack([np.full(y.size, 15.0), y.ravel() - 1.5 - 1.2 * k, z.ravel()])
    road = np.column_stack([np.full(9, 15.0), np.linspace(2.0, 4.0, 9), np.full(9, -0.8)])
    return np.vstack([car, road]).astype(np.float32)


@pytest.mark.parametrize("settings", [{}, {"tracking": {"carry": False}}, {"objects": {"enabled": False}}])
def test_points_of_a_tracked_car_are_carried_until_the_clock_jumps_unless_that_is_switched_off(settings):
    ride = Ride(**settings)
    counts = [ride.sweep(T0 + 100 * MS * k, passing(k))[0].report.carried for k in range(8)]
    assert counts[:2] == [0, 0]
    assert (80 <= counts[-1] <= 105) is (not settings)
    assert ride.intake.statistics.summary(())["points_carried"] == sum(counts)
    if not settings:
        tracked = ride.intake.scene.movers(T0 + 800 * MS)
        assert tracked is not None
        assert tracked.known.tolist() == [True]  # its points told the track
        for k in range(2):  # a clock that jumps back is believed when the next one agrees
            ride.hand_in(T0 - 10_000 * MS + 100 * MS * k, passing(8))
        again = ride.intake.next_result(0.0)
        assert again is not None
        assert again.report.carried == 0
