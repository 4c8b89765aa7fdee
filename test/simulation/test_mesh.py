import math

import numpy as np
import pytest

from seg_perception.labels import Taxonomy
from seg_perception.simulation import mesh
from seg_perception.simulation.classes import C


def area(shape: mesh.Mesh) -> float:
    a, b = shape.corners[:, 1] - shape.corners[:, 0], shape.corners[:, 2] - shape.corners[:, 0]
    return float(0.5 * np.linalg.norm(np.cross(a, b), axis=1).sum())


def test_class_numbers_are_the_train_ids_of_the_taxonomy():
    assert [member.name.lower().replace("_", " ") for member in C] == list(Taxonomy.load("cityscapes").names)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (mesh.box((1.0, 2.0, 3.0), (5.0, 0.0, 0.0), 0), 22.0),
        (mesh.boxes(np.zeros((2, 3)), np.array([[1.0, 2.0, 3.0], [1.0, 1.0, 1.0]]), 0), 28.0),
        (mesh.disc(1.0, (0, 0, 0), 1, 0, segments=200), math.pi),
        (mesh.ellipsoid((1.0, 1.0, 1.0), (0, 0, 0), 0, segments=80), 4.0 * math.pi),
        (mesh.tube([(0, 0, 0), (0, 0, 2.0)], 0.5, 0, segments=200), 2.5 * math.pi),
    ],
)
def test_shapes_have_the_area_of_their_formula(shape, expected):
    assert area(shape) == pytest.approx(expected, rel=5e-3)


def test_normals_of_a_ball_point_along_its_radius():
    ball = mesh.ellipsoid((2.0, 2.0, 2.0), (1.0, 0.0, 0.0), 0, segments=40)
    outward = ball.corners - [1.0, 0.0, 0.0]
    outward /= np.linalg.norm(outward, axis=2, keepdims=True)
    a, b = ball.corners[:, 1] - ball.corners[:, 0], ball.corners[:, 2] - ball.corners[:, 0]
    used = np.linalg.norm(np.cross(a, b), axis=1) > 1e-9  # those at the poles have no area
    assert np.abs(np.einsum("tci,tci->tc", outward, ball.normals))[used].min() > 0.995


def test_moving_keeps_normals_perpendicular_under_stretching():
    shape = mesh.box((1.0, 1.0, 1.0), (0, 0, 0), 0).moved(
        mesh.pose(1.0, 2.0, 3.0, 0.7, 0.2) @ np.diag([1.0, 4.0, 0.5, 1.0])
    )
    edge = shape.corners[:, 1] - shape.corners[:, 0]
    assert np.abs(np.einsum("ti,ti->t", edge, shape.normals[:, 0])).max() < 1e-5


def test_merging_keeps_every_triangle_with_its_label():
    both = mesh.merge(
        [mesh.box((1, 1, 1), (0, 0, 0), 0).labelled(C.CAR, 7), mesh.box((1, 1, 1), (3, 0, 0), 1).labelled(C.BUS)]
    )
    assert len(both) == 24
    assert both.class_id.tolist() == [C.CAR] * 12 + [C.BUS] * 12
    assert set(both.instance[:12]) == {7} and set(both.instance[12:]) == {0}
