"""Lens models against OpenCV, against their own formulas, and against being walked ray by ray."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from numba import njit

from seg_perception.geometry import lens

COUNTS = [4, 5, 8, 12, 14]
IDENTITY = np.eye(3)


def packed(model: str, coefficients: list[float] | np.ndarray) -> lens.CameraParams:
    return lens.pack(model, coefficients, IDENTITY, 640, 480)


def random_coefficients(rng: np.random.Generator, count: int) -> np.ndarray:
    """Coefficients of the size that real calibrations have: k1 k2 p1 p2 k3 | k4 k5 k6 | s1 s2 s3 s4 | tau_x tau_y."""
    spread = [0.4, 0.2, 5e-3, 5e-3, 0.08, 0.3, 0.1, 0.03, 5e-3, 2e-3, 5e-3, 2e-3, 0.05, 0.05]
    return rng.uniform(-1.0, 1.0, count) * spread[:count]


def polynomial(count: int) -> str:
    return "plumb_bob" if count <= 5 else "rational_polynomial"


def distorted(params: lens.CameraParams, rays: np.ndarray) -> np.ndarray:
    return np.array([lens.distort(params, *ray) for ray in rays])


def undistorted(params: lens.CameraParams, points: np.ndarray) -> np.ndarray:
    return np.array([lens.undistort(params, *point) for point in points])


def rays_within(rng: np.random.Generator, angle: float, count: int) -> np.ndarray:
    theta, azimuth = angle * np.sqrt(rng.random(count)), rng.uniform(-math.pi, math.pi, count)
    side = np.sin(theta)
    return np.column_stack([side * np.cos(azimuth), side * np.sin(azimuth), np.cos(theta)])


@pytest.mark.parametrize("count", COUNTS)
def test_polynomials_agree_with_opencv_everywhere_within_the_valid_angle(count: int) -> None:
    rng = np.random.default_rng(count)
    for _ in range(40):
        coefficients = random_coefficients(rng, count)
        params = packed(polynomial(count), coefficients)
        rays = rays_within(rng, min(lens.valid_angle(params), math.radians(75.0)) * 0.999, 100)
        theirs, _ = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), IDENTITY, coefficients)
        np.testing.assert_allclose(distorted(params, rays), theirs.reshape(-1, 2), rtol=1e-9, atol=1e-9)


def test_equidistant_follows_its_formula_to_160_degrees_off_axis() -> None:
    k1, k2, k3, k4 = 0.02, 0.01, -0.001, 0.0002
    params = packed("equidistant", [k1, k2, k3, k4])
    for theta in np.radians([0.0, 1e-7, 1.0, 45.0, 89.999, 90.0, 90.001, 120.0, 160.0]):
        for azimuth in np.radians([0.0, 77.0, 180.0, 250.0]):
            ray = (math.sin(theta) * math.cos(azimuth), math.sin(theta) * math.sin(azimuth), math.cos(theta))
            theta_d = theta + k1 * theta**3 + k2 * theta**5 + k3 * theta**7 + k4 * theta**9
            wanted = (theta_d * math.cos(azimuth), theta_d * math.sin(azimuth))
            assert lens.distort(params, *ray) == pytest.approx(wanted, abs=1e-12)


def test_equidistant_agrees_with_opencv_in_front() -> None:
    rng = np.random.default_rng(1)
    for _ in range(40):
        coefficients = rng.uniform(-1.0, 1.0, 4) * [0.1, 0.03, 0.01, 0.003]
        params = packed("equidistant", coefficients)
        rays = rays_within(rng, min(lens.valid_angle(params), math.radians(85.0)), 50) * rng.uniform(0.5, 90.0, (50, 1))
        theirs, _ = cv2.fisheye.projectPoints(rays.reshape(-1, 1, 3), np.zeros(3), np.zeros(3), IDENTITY, coefficients)
        np.testing.assert_allclose(distorted(params, rays), theirs.reshape(-1, 2), atol=1e-9)


def test_barrel_lens_ends_where_its_radius_stops_growing() -> None:
    # r (1 + k1 r^2) grows up to r^2 = -1 / (3 k1)
    assert packed("plumb_bob", [-0.3, 0, 0, 0]).limit == pytest.approx(1.0 / 0.9, rel=1e-9)


def test_rational_lens_ends_at_the_first_pole() -> None:
    # r / (1 - r^2 / 2) grows on both sides of its pole at r^2 = 2
    assert packed("rational_polynomial", [0, 0, 0, 0, 0, -0.5, 0, 0]).limit == pytest.approx(2.0, rel=1e-9)


def test_pincushion_lens_is_valid_to_90_degrees() -> None:
    assert lens.valid_angle(packed("plumb_bob", [0.3, 0.1, 0, 0])) == pytest.approx(math.pi / 2, abs=2e-6)


def test_equidistant_lens_ends_where_its_angle_stops_growing_and_at_180_degrees_otherwise() -> None:
    # theta (1 + k1 theta^2) grows up to theta^2 = -1 / (3 k1): 104.6 degrees, beyond the half-space
    assert packed("equidistant", [-0.1, 0, 0, 0]).limit == pytest.approx(math.sqrt(1.0 / 0.3), rel=1e-9)
    assert packed("equidistant", [0, 0, 0, 0]).limit == pytest.approx(math.pi, rel=1e-6)


def test_tilted_sensor_ends_at_its_horizon() -> None:
    # An untwisted lens on a sensor tilted by tau_y: z = sin(tau_y) x + cos(tau_y) vanishes at x = -1 / tan(tau_y).
    params = packed("rational_polynomial", [0.0] * 12 + [0.0, 0.5])
    assert math.sqrt(params.limit) == pytest.approx(1.0 / math.tan(0.5), rel=1e-6)


@pytest.mark.parametrize("count", COUNTS)
def test_limit_is_where_opencv_first_folds_on_some_ray(count: int) -> None:
    """Walk OpenCV's own projection outwards: area shrinks to nothing at our limit and nowhere before."""
    rng = np.random.default_rng(100 + count)
    folds = 0
    for _ in range(15):
        coefficients = random_coefficients(rng, count)
        params = packed(polynomial(count), coefficients)
        r_max = math.sqrt(params.limit)
        if r_max > 5.0:
            continue
        folds += 1
        areas = opencv_areas(coefficients, np.linspace(0.01, 0.998, 200) * r_max)
        assert areas.min() > 0.0
        assert opencv_areas(coefficients, np.array([1.0 + 1e-3]) * r_max).min() < 0.0
    assert folds >= 3


def opencv_areas(coefficients: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Signed area, by differences of cv2.projectPoints, that a small square at each radius and azimuth is given."""
    azimuth = np.radians(np.arange(0, 360, 3))
    at = np.stack(np.broadcast_arrays(radii[:, None] * np.cos(azimuth), radii[:, None] * np.sin(azimuth), 1.0), axis=-1)
    h = 1e-6
    steps = np.array([[h, 0, 0], [-h, 0, 0], [0, h, 0], [0, -h, 0]])
    points = (at.reshape(-1, 1, 3) + steps).reshape(-1, 3)
    image, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), IDENTITY, coefficients)
    right, left, down, up = np.moveaxis(image.reshape(-1, 4, 2), 1, 0)
    dx, dy = (right - left) / (2 * h), (down - up) / (2 * h)
    return dx[:, 0] * dy[:, 1] - dx[:, 1] * dy[:, 0]


@pytest.mark.parametrize("count", [*COUNTS, "equidistant"])
def test_every_valid_ray_comes_back_from_where_it_went(count: int | str) -> None:
    """The inverse finds one ray for each place, so no two valid rays can share a place in the image."""
    rng = np.random.default_rng(7)
    for _ in range(40):
        if count == "equidistant":
            params = packed("equidistant", rng.uniform(-1.0, 1.0, 4) * [0.1, 0.03, 0.01, 0.003])
        else:
            params = packed(polynomial(count), random_coefficients(rng, count))
        rays = rays_within(rng, lens.valid_angle(params) * 0.999, 100)
        np.testing.assert_allclose(undistorted(params, distorted(params, rays)), rays, atol=1e-7)


def test_place_beyond_the_fold_has_no_ray() -> None:
    params = packed("plumb_bob", [-0.3, 0, 0, 0])
    r_max = math.sqrt(params.limit)
    furthest = r_max * (1.0 - 0.3 * r_max**2)
    assert not np.isnan(undistorted(params, [[furthest * 0.9999, 0.0]])).any()
    assert np.isnan(undistorted(params, [[furthest * 1.0001, 0.0], [2.0, 2.0]])).all()
    assert np.isnan(lens.undistort(packed("equidistant", [-0.1, 0, 0, 0]), 1.3, 0.0)).all()


@pytest.mark.parametrize("model", ["none", "plumb_bob", "equidistant"])
@pytest.mark.parametrize(
    "ray", [(0.0, 0.0, 0.0), (math.nan, 0.0, 1.0), (0.0, 0.0, math.nan), (math.inf, 0.0, 1.0), (1.0, 1.0, math.inf)]
)
def test_ray_that_is_no_direction_goes_nowhere(model: str, ray: tuple[float, float, float]) -> None:
    params = packed(model, [] if model == "none" else [0.1, 0.0, 0.0, 0.0])
    assert np.isnan(lens.distort(params, *ray)).all()


@pytest.mark.parametrize("model", ["none", "plumb_bob"])
def test_point_behind_or_beside_the_camera_goes_nowhere(model: str) -> None:
    params = packed(model, [] if model == "none" else [0.1, 0.0, 0.0, 0.0])
    assert np.isnan(lens.distort(params, 0.1, 0.1, -1.0)).all()
    assert np.isnan(lens.distort(params, 1.0, 0.0, 0.0)).all()


def test_axis_stays_on_the_axis() -> None:
    for model in ("none", "plumb_bob", "rational_polynomial", "equidistant"):
        params = packed(model, [] if model == "none" else [0.1, 0.01, 0.0, 0.0])
        assert lens.distort(params, 0.0, 0.0, 2.0) == (0.0, 0.0)
        assert lens.undistort(params, 0.0, 0.0) == (0.0, 0.0, 1.0)


def test_compiled_kernel_elsewhere_can_project_point_by_point() -> None:
    @njit
    def count_on_image(params, points):
        count = 0
        for i in range(points.shape[0]):
            u, v = lens.project_point(params, points[i, 0], points[i, 1], points[i, 2])
            count += lens.in_image(params, u, v)
        return count

    K = np.array([[100.0, 0.0, 49.5], [0.0, 100.0, 24.5], [0.0, 0.0, 1.0]])
    params = lens.pack("plumb_bob", [-0.1, 0.0, 0.0, 0.0], K, 100, 50)
    points = np.array([[0.0, 0.0, 5.0], [0.0, 0.0, -5.0], [5.0, 0.0, 5.0], [np.nan, 0.0, 1.0], [2.0, -1.0, 5.0]])
    assert count_on_image(params, points) == 2


def test_pixel_centres_are_integers_for_compiled_code_too() -> None:
    params = lens.pack("none", [], IDENTITY, 100, 50)
    on = [(-0.5, -0.5), (99.49, 49.49), (50.0, 25.0)]
    off = [(-0.51, 0.0), (0.0, -0.51), (99.5, 0.0), (0.0, 49.5), (math.nan, 0.0), (0.0, math.nan)]
    assert [lens.in_image(params, u, v) for u, v in [*on, *off]] == [True] * 3 + [False] * 6
