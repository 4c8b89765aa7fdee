import math
import time

import numpy as np
import pytest

from seg_perception.geometry.camera import CameraModel
from seg_perception.geometry.occlusion import FEATURES, Doubts, chance_hidden, doubts, fitted_weights
from seg_perception.geometry.projection import project
from seg_perception.geometry.range_image import RangeImage

SPACING_DEG = 0.4, 0.8
CAMERA = CameraModel(960, 540, np.array([[570.0, 0, 479.5], [0, 570.0, 269.5], [0, 0, 1]]))
T_CAM_LIDAR = np.array([[0, -1, 0, 0.3], [0, 0, -1, -0.2], [1, 0, 0, 0.6], [0, 0, 0, 1.0]])
"""The camera stands behind the LiDAR and beside it: so a spacing never looks larger to it."""
FREE = np.isin(np.arange(256), [1, 3])


def cloud(count: int, seed: int = 0) -> np.ndarray:
    """(count, 3) leaves between 4 and 30 m ahead."""
    rng = np.random.default_rng(seed)
    ahead = rng.uniform(4.0, 30.0, count)
    return np.stack([ahead, ahead * rng.uniform(-0.7, 0.7, count), ahead * rng.uniform(-0.4, 0.4, count)], 1).astype(
        np.float32
    )


def doubted(points: np.ndarray, class_id: np.ndarray) -> tuple[Doubts, np.ndarray]:
    in_view = project(points, T_CAM_LIDAR, CAMERA)
    sweep = RangeImage(points, *SPACING_DEG)
    return doubts(in_view, sweep, CAMERA, SPACING_DEG, class_id[in_view.index], FREE), in_view.index


def classes(count: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 4, count).astype(np.uint8)


def test_neighbours_are_those_of_a_search_among_all():
    points = cloud(4000)
    found, _ = doubted(points, classes(4000))
    in_view, sweep = project(points, T_CAM_LIDAR, CAMERA), RangeImage(points, *SPACING_DEG)
    angle = np.radians(SPACING_DEG)
    slant = (sweep.across.ravel() + sweep.along.ravel())[sweep.cell[in_view.index]]
    size = in_view.distance / sweep.range[in_view.index]
    expected = {}
    for m in range(len(in_view.index)):
        away = (in_view.uv - in_view.uv[m]) / (angle * 570.0) * size[:, None]
        apart = np.hypot(*away.T)
        before = in_view.distance + slant * np.maximum(apart, 0.5) < in_view.distance[m] - 0.08
        weight = np.maximum(1.0 - apart**2 / 4.0, 0.0)[before] ** 2
        if weight.sum() > 0.3:
            expected[m] = int(np.flatnonzero(before)[np.argmin(apart[before])])
    assert len(expected) > 300
    assert dict(zip(found.which.tolist(), found.nearest.tolist(), strict=True)) == expected


def test_what_is_told_of_a_point_is_what_stands_before_it():
    points = np.array([[20.0, 0.0, 0.0], [10.0, 0.05, 0.0], [10.0, -0.05, 0.0]], np.float32)
    T = T_CAM_LIDAR.copy()
    T[:3, 3] = 0.0  # where the LiDAR stands: no parallax
    in_view, sweep = project(points, T, CAMERA), RangeImage(points, *SPACING_DEG)
    found = doubts(in_view, sweep, CAMERA, SPACING_DEG, np.array([1, 1, 0], np.uint8), FREE)
    assert found.which.tolist() == [0]
    told = dict(zip(FEATURES, found.features[0].tolist(), strict=True))
    apart = 0.005 / math.radians(0.4)  # spacings
    weight = 2.0 * (1.0 - apart**2 / 4.0) ** 2
    assert told["nearest: how far away in the picture the closest of the nearer points lies"] == pytest.approx(
        apart / 2.0, abs=1e-3
    )
    assert told["nearest: metres it stands before the point, beyond its slant"] == pytest.approx(10 / 11, abs=1e-4)
    assert told["nearest: how far apart the LiDAR sees the two, less how far apart the camera does"] == pytest.approx(
        0.0, abs=2e-3
    )
    assert told["nearer points within 2 spacings, close ones for more"] == pytest.approx(
        weight / (1 + weight), abs=1e-4
    )
    assert told["same label, of those within 2"] == pytest.approx(0.5, abs=1e-3)
    assert told["free standing, of those within 2"] == pytest.approx(0.5, abs=1e-3)
    assert told["how far to one side they lie on average"] == pytest.approx(0.0, abs=1e-3)
    assert told["the point stands free by its own label"] == 1.0


def test_what_the_network_is_given_is_bounded_whatever_the_points():
    points = cloud(3000)
    points[:5] = [[1e-9, 0, 0], [0, 0, 0], [3e38, 1e37, 0], [0.01, 0.001, 0], [1e10, 0, 0]]
    found, _ = doubted(points, classes(3000))
    assert len(found.which) > 100
    assert np.isfinite(found.features).all()
    assert np.abs(found.features).max() < 1.00001


def test_the_order_of_the_points_does_not_matter():
    points, said = cloud(3000), classes(3000)
    order = np.random.default_rng(1).permutation(3000)
    one, index = doubted(points, said)
    other, shuffled = doubted(points[order], said[order])
    assert dict(zip(index[one.which], index[one.nearest], strict=True)) == dict(
        zip(order[shuffled[other.which]], order[shuffled[other.nearest]], strict=True)
    )
    places = np.argsort(index[one.which]), np.argsort(order[shuffled[other.which]])
    np.testing.assert_allclose(one.features[places[0]], other.features[places[1]], atol=1e-4)


def test_a_cloud_on_one_spot_does_not_take_for_ever():
    points, said = cloud(60_000), classes(60_000)
    doubted(points[:9], said[:9])  # compiled
    points[:] = 10.0, 0.5, 0.0
    started = time.thread_time()
    found, index = doubted(points, said)
    assert time.thread_time() - started < 0.7  # each against each takes more
    assert (len(index), len(found.which)) == (60_000, 0)


@pytest.mark.parametrize("count", [0, 1, 127, 128, 300])
def test_the_network_is_its_matrices(count):
    features = np.random.default_rng(2).uniform(-1, 1, (count, len(FEATURES))).astype(np.float32)
    first, first_bias, second, second_bias, last, last_bias = fitted_weights()
    one = np.maximum(features @ first + first_bias, 0.0)
    two = np.maximum(one @ second + second_bias, 0.0)
    expected = 1.0 / (1.0 + np.exp(-(two @ last + last_bias)[:, 0]))
    np.testing.assert_allclose(chance_hidden(features), expected, atol=1e-5)


def test_the_fitted_weights_fit_what_is_told():
    assert fitted_weights()[0].shape[0] == len(FEATURES)
    assert all(matrix.shape[0] % 4 == 0 for matrix in fitted_weights()[::2])
