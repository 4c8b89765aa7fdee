import math

import numpy as np
import pytest

from seg_perception.geometry.transforms import is_rigid
from seg_perception.simulation.paths import Bend, Centreline, CrossPath, EgoPath, LanePath, Progress, WalkPath

LINE = Centreline(-50.0, 300.0, (Bend(0.0, 80.0, 0.6), Bend(120.0, 90.0, -0.9)), (0.8, 200.0, 0.3))


def test_centreline_runs_one_metre_a_metre_along_its_heading():
    s = np.linspace(-40.0, 290.0, 777)
    step = 1e-4
    way = (LINE.points(s + step, 0.0) - LINE.points(s - step, 0.0))[:, :2] / (2.0 * step)
    expected = np.stack([np.cos(LINE.heading(s)), np.sin(LINE.heading(s))], axis=1)
    assert np.abs(way - expected).max() < 1e-6


def test_centreline_has_turned_by_the_angle_of_each_bend():
    assert LINE.heading(np.array([-1.0, 81.0, 211.0])) == pytest.approx([0.0, 0.6, -0.3])


def test_points_beside_the_line_are_at_their_distance_on_the_left():
    s = np.linspace(0.0, 200.0, 50)
    across = LINE.points(s, 3.0) - LINE.points(s, 0.0)
    assert np.linalg.norm(across, axis=1) == pytest.approx(3.0)
    left = np.stack([-np.sin(LINE.heading(s)), np.cos(LINE.heading(s))], axis=1)
    assert np.einsum("ij,ij->i", across[:, :2], left) == pytest.approx(3.0)


def test_beyond_its_ends_the_line_goes_on_straight():
    ahead = LINE.points(np.array([300.0, 310.0, 320.0]), 0.0)[:, :2]
    assert np.diff(ahead, axis=0)[0] == pytest.approx(np.diff(ahead, axis=0)[1])


def test_braking_ends_at_the_end_speed_and_never_goes_back():
    progress = Progress(5.0, 20.0, brake_at=2.0, brake_for=4.0, end_speed=0.0)
    t = np.linspace(0.0, 12.0, 5000)
    speed = np.gradient(progress.position(t), t)
    assert progress.position(0.0) == pytest.approx(5.0)
    assert speed[0] == pytest.approx(20.0) and speed[-1] == pytest.approx(0.0, abs=1e-9)
    assert speed.min() > -1e-6
    assert np.gradient(speed, t)[5:-5] == pytest.approx(progress.acceleration(t)[5:-5], abs=0.02)


@pytest.mark.parametrize(
    "path",
    [
        EgoPath(LINE, Progress(0.0, 20.0), -1.7, (0.1, 0.2, 0.3)),
        LanePath(LINE, Progress(90.0, -12.0), 1.7, math.pi, sway=(0.1, 0.4)),
        WalkPath(LINE, 30.0, 1.4, -6.0, 0.0, 0.14, (33.0,), 4.0),
        CrossPath(LINE, 40.0, 5.0, -5.0, -1.4),
    ],
)
def test_poses_are_rigid_and_move_smoothly(path):
    t = np.linspace(0.0, 4.0, 4001)
    T = path.poses(t)
    assert is_rigid(T)
    jumps = np.linalg.norm(np.diff(T[:, :3, 3], axis=0), axis=1)
    assert jumps.max() < 0.03
    assert np.abs(np.diff(T[:, :3, :3], axis=0)).max() < 0.002
    assert path.poses(t[7]) == pytest.approx(T[7])


def test_vehicles_look_where_they_go():
    for path in (LanePath(LINE, Progress(0.0, 15.0), -1.7), LanePath(LINE, Progress(90.0, -12.0), 1.7, math.pi)):
        t = np.linspace(0.5, 3.0, 20)
        way = path.poses(t + 1e-4)[:, :3, 3] - path.poses(t - 1e-4)[:, :3, 3]
        way /= np.linalg.norm(way, axis=1, keepdims=True)
        assert np.einsum("ij,ij->i", way, path.poses(t)[:, :3, 0]).min() > 0.9999


def test_what_is_frozen_stands_where_it_was_at_the_start():
    path = LanePath(LINE, Progress(10.0, 15.0), 1.0, frozen=True)
    assert path.poses(np.array([0.0, 3.0]))[1] == pytest.approx(path.poses(0.0))


def test_walkers_step_down_from_the_kerb_where_a_side_street_joins():
    path = WalkPath(Centreline(0.0, 100.0), 0.0, 1.0, -6.0, 0.0, 0.14, (50.0,), 4.0)
    assert path.poses(np.array([20.0, 50.0, 80.0]))[:, 2, 3] == pytest.approx([0.14, 0.0, 0.14])
