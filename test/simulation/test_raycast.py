import math
from dataclasses import dataclass

import numpy as np
import pytest

from seg_perception.simulation.actors import Actor, Hinge, Part
from seg_perception.simulation.classes import C
from seg_perception.simulation.mesh import box, pose
from seg_perception.simulation.paths import Centreline, LanePath, Progress
from seg_perception.simulation.raycast import NOTHING, World

pytestmark = pytest.mark.open3d

WALL = box((1.0, 20.0, 6.0), (30.0, 0.0, 0.0), 0).labelled(C.WALL)
CUBE = box((1.0, 1.0, 1.0), (0.0, 0.0, 0.5), 0).labelled(C.CAR)
LINE = Centreline(-10.0, 100.0)


@dataclass
class Still:
    """A path that stays where it is."""

    T_world_thing: np.ndarray

    def poses(self, times):
        return np.broadcast_to(self.T_world_thing, (*np.shape(times), 4, 4))


def world(speed: float = 10.0) -> World:
    """A wall 29.5 m ahead, and a cube whose near face is 9.5 m ahead at time 0 and moves away."""
    return World(WALL, [Actor(4, C.CAR, LanePath(LINE, Progress(10.0, speed), 0.0), (Part(CUBE),))])


def ahead(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.tile([0.0, 0.0, 0.5], (count, 1)), np.tile([1.0, 0.0, 0.0], (count, 1))


def test_each_ray_meets_moving_things_where_they_are_at_its_own_time():
    times = np.array([0.0, 0.5, 1.0, 1.9])
    hits = world().cast(*ahead(4), times)
    assert hits.distance == pytest.approx([9.5, 14.5, 19.5, 28.5], abs=1e-4)
    assert world().class_of(hits, C.SKY).tolist() == [C.CAR] * 4
    assert world().instance_of(hits).tolist() == [4] * 4


def test_what_stands_nearer_hides_what_moves_behind_it():
    hits = world(speed=40.0).cast(*ahead(1), 1.0)
    assert hits.distance == pytest.approx([29.5], abs=1e-4)
    assert hits.body.tolist() == [NOTHING]


def test_a_ray_into_the_open_meets_nothing():
    up = np.array([[0.0, 0.0, 1.0]])
    hits = world().cast(np.zeros((1, 3)), up, 0.0)
    assert np.isinf(hits.distance[0]) and hits.triangle[0] == NOTHING
    assert world().class_of(hits, C.SKY).tolist() == [C.SKY]


def test_occlusion_looks_no_further_than_asked():
    scene = world()
    assert scene.occluded(*ahead(1), 0.0, 9.4).tolist() == [False]
    assert scene.occluded(*ahead(1), 0.0, 9.6).tolist() == [True]
    assert scene.occluded(*ahead(1), 1.0, 9.6).tolist() == [False]


def test_points_are_carried_with_the_thing_they_lie_on():
    times = np.array([0.2, 0.3])
    points = np.array([[12.0, 0.5, 0.5], [29.5, 1.0, 1.0]])
    carried = world().carried(points, np.array([0, NOTHING]), times, 0.7)
    assert carried == pytest.approx(np.array([[17.0, 0.5, 0.5], [29.5, 1.0, 1.0]]))


def test_normals_turn_with_the_body():
    turned = Actor(1, C.CAR, Still(pose(10.0, yaw=math.radians(30.0))), (Part(CUBE),))
    scene = World(WALL, [turned])
    hits = scene.cast(*ahead(1), 0.0)
    normal = scene.corner_normals(hits, 0.0)[0, 0]
    expected = [math.cos(math.radians(30.0)), math.sin(math.radians(30.0)), 0.0]
    assert abs(normal @ expected) == pytest.approx(1.0, abs=1e-5)


def test_a_limb_swings_about_its_hinge():
    limb = box((0.1, 0.1, 1.0), (0.0, 0.0, 0.5), 0).labelled(C.PERSON)
    hinge = Hinge((0.0, 0.0, 1.0), 0.5, 1.0, 0.0)
    actor = Actor(1, C.PERSON, Still(np.eye(4)), (Part(limb, hinge),))
    foot = actor.part_poses(0, np.array([0.0, 0.25])) @ [0.0, 0.0, 0.0, 1.0]
    assert foot[0, :3] == pytest.approx([0.0, 0.0, 0.0], abs=1e-12)
    assert foot[1, :3] == pytest.approx([-math.sin(0.5), 0.0, 1.0 - math.cos(0.5)])
    assert World(WALL, [actor]).cast(np.array([[-5.0, 0.0, 0.1]]), np.array([[1.0, 0.0, 0.0]]), 0.0).distance < 5.0
