import numpy as np
import pytest

from seg_perception.config import VisibilityConfig
from seg_perception.geometry.camera import CameraModel
from seg_perception.geometry.projection import project
from seg_perception.geometry.visibility import visible

CAMERA = CameraModel(640, 480, np.array([[500.0, 0, 319.5], [0, 500.0, 239.5], [0, 0, 1]]))


def plane(depth: float, half: float, step_deg: float = 0.3) -> np.ndarray:
    """Points of a wall across the optical axis, as a LiDAR beside the camera would sample it."""
    tangents = np.tan(np.radians(np.arange(-25, 25, step_deg))) * depth
    x, y = np.meshgrid(tangents[np.abs(tangents) < half], tangents[np.abs(tangents) < half])
    return np.column_stack([x.ravel(), y.ravel(), np.full(x.size, depth)])


def seen(points: np.ndarray, **settings: object) -> np.ndarray:
    """(N,) bool over all points; each of them has to be in view."""
    projection = project(points.astype(np.float32), np.eye(4), CAMERA)
    assert len(projection.index) == len(points)
    return visible(projection, CAMERA, VisibilityConfig(**settings))


def test_near_pole_hides_the_wall_behind_it():
    pole = np.column_stack([np.zeros(20), np.linspace(-1, 1, 20), np.full(20, 5.0)])
    behind, beside = np.array([[0.02, 0.3, 20.0]]), np.array([[1.5, 0.3, 20.0]])
    assert seen(np.concatenate([pole, behind, beside])).tolist() == [True] * 20 + [False, True]


def test_wall_shines_not_through_between_the_returns_of_a_car():
    car = plane(depth=8.0, half=1.0)
    wall = plane(depth=25.0, half=2.5)  # within the car's outline
    result = seen(np.concatenate([car, wall]))
    assert result[: len(car)].all()
    assert not result[len(car) :].any()


def test_a_wall_alone_hides_nothing_of_itself():
    assert seen(plane(depth=15.0, half=5.0)).all()


def test_road_hides_little_of_itself_at_any_distance():
    """A LiDAR 0.4 m above the camera, 64 beams of 0.4 degrees, sees a flat road from 4 to 60 m."""
    elevation = np.radians(np.arange(1.9, 24.8, 0.4))
    azimuth = np.radians(np.arange(-25, 25, 0.2))
    reach = np.tan(np.pi / 2 - elevation)[:, None] * 2.0
    x, z = reach * np.sin(azimuth), reach * np.cos(azimuth)
    road = np.column_stack([x.ravel(), np.full(x.size, 1.6), z.ravel()])
    projection = project(road.astype(np.float32), np.eye(4), CAMERA)
    result = visible(projection, CAMERA, VisibilityConfig())
    for near, far in ((4, 10), (10, 20), (20, 30), (30, 60)):
        within = (projection.distance >= near) & (projection.distance < far)
        assert within.sum() > 200
        assert result[within].mean() > 0.95, (near, far)


def test_a_little_behind_is_still_the_same_surface():
    """Half a metre at any distance, a tenth of it far away: leaves, slanted walls, a car's roof behind its boot."""
    for near, far, is_seen in ((2.0, 2.6, True), (2.0, 2.8, False), (40.0, 44.3, True), (40.0, 44.7, False)):
        assert seen(np.array([[0.0, 0.0, near], [0.0, 0.0, far]])).tolist() == [True, is_seen]


def test_a_rectified_camera_beside_its_frame_projects_from_its_own_centre():
    T_lens_cam = np.eye(4)
    T_lens_cam[0, 3] = -0.5  # the lens stands 0.5 m to the right of the frame the points are in
    beside = CameraModel(640, 480, CAMERA.K, T_lens_cam=T_lens_cam)
    projection = project(np.array([[0.5, 0.0, 5.0]], np.float32), np.eye(4), beside)
    assert projection.uv.tolist() == [[319.5, 239.5]]
    assert projection.distance.tolist() == [5.0]


def test_method_none_sees_everything_in_view():
    pole_and_wall = np.array([[0.0, 0.0, 5.0], [0.0, 0.0, 20.0]])
    assert seen(pole_and_wall).tolist() == [True, False]
    assert seen(pole_and_wall, method="none").tolist() == [True, True]


@pytest.mark.parametrize("count", [0, 1])
def test_few_points_are_no_trouble(count):
    assert seen(np.full((count, 3), [0.0, 0.0, 3.0])).tolist() == [True] * count


def test_points_on_the_outermost_pixels_are_kept():
    corners = CAMERA.unproject(np.array([[-0.499, -0.499], [639.49, 479.49], [-0.499, 479.49], [639.49, -0.499]]))
    assert seen(corners * 10.0).all()


def test_points_behind_the_camera_or_not_finite_are_not_in_view():
    points = np.array([[0, 0, -5.0], [np.nan, 0, 5.0], [0, np.inf, 5.0], [0, 0, 5.0], [50, 0, 5.0]], np.float32)
    projection = project(points, np.eye(4), CAMERA)
    assert projection.index.tolist() == [3]
    assert projection.uv.tolist() == [[319.5, 239.5]]
    assert projection.distance.tolist() == [5.0]
