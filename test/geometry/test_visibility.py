import numpy as np
import pytest

from seg_perception.config import VisibilityConfig
from seg_perception.geometry.camera import CameraModel
from seg_perception.geometry.projection import Projection, project
from seg_perception.geometry.range_image import RangeImage
from seg_perception.geometry.visibility import hiding, range_image, visible

CAMERA = CameraModel(960, 540, np.array([[570.0, 0, 479.5], [0, 570.0, 269.5], [0, 0, 1]]))
T_CAM_LIDAR = np.array([[0, -1, 0, 0.0], [0, 0, -1, -0.5], [1, 0, 0, -0.8], [0, 0, 0, 1.0]])
"""The camera stands 0.5 m below the LiDAR and 0.8 m ahead of it."""

AZIMUTH, ELEVATION = np.radians(np.arange(-30, 30, 0.2)), np.radians(np.arange(-24.5, 6.0, 0.49))

RAYS = np.stack(
    [
        np.cos(ELEVATION) * np.cos(AZIMUTH)[:, None],
        np.cos(ELEVATION) * np.sin(AZIMUTH)[:, None],
        np.broadcast_to(np.sin(ELEVATION), (AZIMUTH.size, ELEVATION.size)),
    ],
    axis=2,
).reshape(-1, 3)


def wall(ahead: float, low: float, high: float, right: float, left: float, turned: float = 0.0) -> np.ndarray:
    """(N,) metres to an upright wall along each ray, inf where missed; `turned`: ahead grows by it leftwards."""
    distance = ahead / (RAYS[:, 0] - turned * RAYS[:, 1])
    y, z = distance * RAYS[:, 1], distance * RAYS[:, 2]
    hit = (distance > 0) & (y > right) & (y < left) & (z > low) & (z < high)
    return np.where(hit, distance, np.inf)


def ground(height: float = 1.8) -> np.ndarray:
    """(N,) metres to a flat road below the LiDAR."""
    return np.where(RAYS[:, 2] < -0.01, height / np.maximum(-RAYS[:, 2], 0.01), np.inf)


def measured(*surfaces: np.ndarray, noise: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 3) float32 that a LiDAR gives of the nearest surface on each ray, and which surface each lies on."""
    distance = np.min(surfaces, axis=0)
    back = np.isfinite(distance) & (distance < 80.0)
    jitter = np.random.default_rng(0).normal(0.0, noise, back.sum())
    points = RAYS[back] * (distance[back] + jitter)[:, None]
    return points.astype(np.float32), np.argmin(surfaces, axis=0)[back]


def in_view(points: np.ndarray) -> Projection:
    return project(points, T_CAM_LIDAR, CAMERA)


def looks_past(points: np.ndarray, edge_y: float, ahead: float, top: float) -> np.ndarray:
    """Whether the camera's line of sight to each point misses a wall `ahead`, left of edge_y and up to `top`."""
    camera = np.array([0.8, 0.0, -0.5])
    t = (ahead - camera[0]) / (points[:, 0] - camera[0])
    crossing = camera + t[:, None] * (points - camera)
    return (crossing[:, 1] < edge_y) | (crossing[:, 2] > top) | (t > 1.0)


def test_a_wall_hides_what_the_camera_cannot_see_behind_it():
    points, surface = measured(wall(8, -1.8, 0.2, -1.0, 1.0), wall(25, -1.8, 3.0, -12, 12), ground())
    projection = in_view(points)
    seen = visible(projection, CAMERA, VisibilityConfig())
    far = surface[projection.index] == 1
    past = looks_past(points[projection.index], -1.0, 8.0, 0.2)
    hidden = far & ~past & (points[projection.index, 1] < 2.5)
    assert hidden.sum() > 50
    assert seen[hidden].mean() < 0.1
    assert seen[surface[projection.index] == 0].mean() > 0.99


@pytest.mark.parametrize(
    "surface",
    [
        wall(15, -1.8, 4, -8, 8),
        wall(15, -1.8, 4, -8, 8, turned=3.0),
        ground(),
        np.minimum(ground(), wall(30, -2, 3, -9, 9)),
    ],
    ids=["wall", "slanted wall", "road", "road before a wall"],
)
def test_a_surface_hides_nothing_of_itself(surface):
    points, _ = measured(surface)
    assert visible(in_view(points), CAMERA, VisibilityConfig()).mean() > 0.985


def test_a_pole_hides_the_wall_behind_it():
    pole = wall(6, -1.8, 3.0, -0.05, 0.05)
    points, surface = measured(pole, wall(20, -1.8, 3.0, -8, 8))
    behind = np.array([[20.0, 0.0, 0.0], [20.0, 0.05, 0.4]], np.float32)  # measured a moment later, from elsewhere
    projection = in_view(np.concatenate([points, behind]))
    sweep, kind = range_image(projection.points, VisibilityConfig()), np.append(surface, [7, 7]).astype(np.uint8)
    classes = kind[projection.index], np.zeros(256, bool)
    hider = hiding(projection, sweep, CAMERA, VisibilityConfig(), classes=classes)
    last = np.searchsorted(projection.index, [len(points), len(points) + 1])
    assert (hider[last] == 0).all()


def test_what_grows_hides_further_beside_it():
    near, spacing = [10.0, 0.0, 0.0], np.radians(0.2)
    behind = [20.0, 0.0, 0.5]  # on one line of sight with it, but for what is added
    behind[1] = 19.2 * 1.1 * spacing
    projection = in_view(np.array([near, behind], np.float32))
    sweep = range_image(projection.points, VisibilityConfig())
    config = VisibilityConfig(method="patches", freestanding_cover=2.0)
    grown = [
        (hiding(projection, sweep, CAMERA, config, classes=(np.zeros(2, np.uint8), free)) >= 0).tolist()
        for free in (np.zeros(256, bool), np.ones(256, bool))
    ]
    assert grown == [[False, False], [False, True]]


def hidden_one_by_one(
    projection: Projection, sweep: RangeImage, config: VisibilityConfig, cell_px: tuple[float, float]
) -> list[int]:
    """The class of what hides each point in view, a patch at a time; all stand free, their classes go round by tens."""
    slack = config.depth_tolerance_m + (sweep.across + sweep.along).ravel()[sweep.cell[projection.index]]
    place = (projection.uv + 0.5) / cell_px
    pixel_angle = np.radians([config.spacing_deg, config.beam_spacing_deg]) * np.diag(CAMERA.K)[:2] / cell_px
    half = pixel_angle * [config.cover, config.beam_cover] * config.freestanding_cover
    scale = np.minimum(sweep.range[projection.index] / projection.distance, 3.0)
    first = np.floor(np.maximum(place - half * scale[:, None] + 0.5, 0.0))
    last = np.floor(place + half * scale[:, None] + 0.5)
    own, hider = np.floor(place), []
    for m, away in enumerate(projection.distance):
        over = ((own[m] >= first) & (own[m] < last)).all(axis=1)
        near = int(np.argmin(np.where(over, projection.distance + slack, np.inf)))
        hider.append(near % 10 if away > projection.distance[near] + slack[near] else -1)
    return hider


@pytest.mark.parametrize(
    ("spacing", "tall"), [((0.2, 0.49), 2.0), ((0.8, 1.2), 2.0), ((0.1, 2.0), 2.0), ((1.0, 0.22), 0.7 * 2.1886)]
)
def test_patches_of_any_size_hide_what_they_cover(spacing, tall):
    points, _ = measured(wall(8, -1.8, 0.2, -1.0, 1.0), wall(25, -1.8, 3.0, -12, 12), ground())
    projection, config = in_view(points[::3]), VisibilityConfig("patches", 0.1, *spacing)
    sweep, classes = range_image(projection.points, config), np.arange(len(projection.index)) % 10
    hider = hiding(projection, sweep, CAMERA, config, classes=(classes.astype(np.uint8), np.ones(256, bool)))
    expected = np.array(hidden_one_by_one(projection, sweep, config, (2.0, tall)))
    assert ((hider >= 0) == (expected >= 0)).mean() > 0.996
    assert (hider == expected).mean() > 0.995
    assert 0.01 < (hider >= 0).mean() < 0.5


def test_a_little_behind_is_still_the_same_surface():
    for behind, is_seen in ((0.1, True), (0.4, False)):
        points = np.array([[10.0, 0.0, 0.0], [10.0 + behind, 0.0, -0.02]], np.float32)
        assert visible(in_view(points), CAMERA, VisibilityConfig()).tolist() == [True, is_seen]


def test_neither_order_nor_points_without_a_return_matter():
    points, _ = measured(wall(8, -1.8, 0.2, -1, 1), wall(25, -1.8, 3.0, -12, 12), ground())
    order = np.random.default_rng(1).permutation(len(points))
    with_gaps = np.insert(points[order], [0, 100, 5000], np.nan, axis=0)
    straight, shuffled = in_view(points), in_view(with_gaps)
    seen = set(map(tuple, points[straight.index[visible(straight, CAMERA, VisibilityConfig())]].tolist()))
    other = set(map(tuple, with_gaps[shuffled.index[visible(shuffled, CAMERA, VisibilityConfig())]].tolist()))
    assert seen == other


def test_a_rectified_camera_beside_its_frame_projects_from_its_own_centre():
    T_lens_cam = np.eye(4)
    T_lens_cam[0, 3] = -0.5  # the lens stands 0.5 m to the right of the frame the points are in
    beside = CameraModel(960, 540, CAMERA.K, T_lens_cam=T_lens_cam)
    projection = project(np.array([[0.5, 0.0, 5.0]], np.float32), np.eye(4), beside)
    assert projection.uv.tolist() == [[479.5, 269.5]]
    assert projection.distance.tolist() == [5.0]


def test_method_none_sees_everything_in_view():
    points = np.array([[10.0, 0.0, 0.0], [20.0, 0.0, 0.5]], np.float32)
    points[1] = [0.8 + 2 * 9.2, 0.0, -0.5 + 2 * 0.5]  # on one line of sight
    assert visible(in_view(points), CAMERA, VisibilityConfig()).tolist() == [True, False]
    assert visible(in_view(points), CAMERA, VisibilityConfig(method="none")).tolist() == [True, True]


@pytest.mark.parametrize("count", [0, 1])
def test_few_points_are_no_trouble(count):
    points = np.full((count, 3), [9.0, 0.0, 0.0], np.float32)
    assert visible(in_view(points), CAMERA, VisibilityConfig()).tolist() == [True] * count


def test_points_on_the_outermost_pixels_are_kept():
    corners = CAMERA.unproject(np.array([[-0.499, -0.499], [959.49, 539.49], [-0.499, 539.49], [959.49, -0.499]]))
    points = (corners * 10.0 - T_CAM_LIDAR[:3, 3]) @ T_CAM_LIDAR[:3, :3]
    assert visible(in_view(points.astype(np.float32)), CAMERA, VisibilityConfig()).tolist() == [True] * 4


def test_points_behind_the_camera_or_not_finite_are_not_in_view():
    points = np.array([[0, 0, -5.0], [np.nan, 0, 5.0], [0, np.inf, 5.0], [0, 0, 5.0], [50, 0, 5.0]], np.float32)
    projection = project(points, np.eye(4), CAMERA)
    assert projection.index.tolist() == [3]
    assert projection.uv.tolist() == [[479.5, 269.5]]
    assert projection.distance.tolist() == [5.0]


@pytest.mark.parametrize("far", [3e5, 1e10, 3e38])
def test_a_point_that_cannot_be_hides_nothing_before_it(far):
    camera, direction = np.array([0.8, 0.0, -0.5]), np.array([1.0, 0.01, 0.01])
    points = np.array([camera + 10.0 * direction, camera + far * direction], np.float32)
    projection = in_view(points)
    assert projection.index.tolist() == [0, 1]
    assert visible(projection, CAMERA, VisibilityConfig(spacing_deg=2.0, beam_spacing_deg=2.0))[0]
