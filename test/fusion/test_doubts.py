from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from scipy.ndimage import minimum_filter

from seg_perception.config import EdgesConfig, VisibilityConfig
from seg_perception.datatypes import UNKNOWN
from seg_perception.fusion.doubts import FEATURES, Doubts, Said, View, fitted_weights
from seg_perception.fusion.edges import HIDDEN, Surfaces
from seg_perception.geometry.camera import CameraModel
from seg_perception.geometry.projection import Projection, project
from seg_perception.geometry.visibility import hiding, patches, range_image
from seg_perception.geometry.workspace import Workspace

CONFIG = VisibilityConfig(method="learned", spacing_deg=0.4, beam_spacing_deg=0.8)
CAMERA = CameraModel(960, 540, np.array([[570.0, 0, 479.5], [0, 570.0, 269.5], [0, 0, 1]]))
T_CAM_LIDAR = np.array([[0, -1, 0, 0.3], [0, 0, -1, -0.4], [1, 0, 0, -0.6], [0, 0, 0, 1.0]])
"""The camera stands ahead of the LiDAR, 0.4 m below it and 0.3 m to its left."""
FREE = np.isin(np.arange(256), [1, 3])
AZIMUTH, ELEVATION = np.radians(np.arange(-38, 38, 0.4)), np.radians(np.arange(-24.4, 6.0, 0.8))
RAYS = np.stack(
    [
        np.cos(ELEVATION) * np.cos(AZIMUTH)[:, None],
        np.cos(ELEVATION) * np.sin(AZIMUTH)[:, None],
        np.broadcast_to(np.sin(ELEVATION), (AZIMUTH.size, ELEVATION.size)),
    ],
    axis=2,
).reshape(-1, 3)


class Look:
    """What has been said of points of these classes in the picture, and what is doubtful of it."""

    def __init__(
        self,
        points: np.ndarray,
        class_id: np.ndarray,
        T_cam_lidar: np.ndarray = T_CAM_LIDAR,
        edges: str = "surface",
        margin: float = 1.0,
        config: VisibilityConfig = CONFIG,
    ) -> None:
        self.workspace = Workspace()
        self.view: Projection = project(points, T_cam_lidar, CAMERA)
        self.sweep = range_image(points, config)
        self.class_id = class_id[self.view.index].astype(np.uint8)
        classes = self.class_id, FREE
        self.hider = hiding(self.view, self.sweep, CAMERA, config, self.workspace, classes)
        surfaces = Surfaces(self.sweep, EdgesConfig(method=edges), self.workspace)
        told = self.class_id, self.hider, self.view.index
        self.kept = surfaces.settle(*told)
        margins = np.full(len(self.class_id), margin, np.float32)
        self.labels = surfaces.labels(*told)
        said = Said(self.class_id, margins, FREE, self.hider, self.kept, self.labels)
        self.doubts = Doubts(View(self.view, self.sweep, CAMERA, T_cam_lidar), said, config, self.workspace)

    def told(self, m: int) -> dict[str, float]:
        """What is told of the mth point in view."""
        row = self.doubts.which.tolist().index(m)
        return dict(zip(FEATURES, self.doubts.features()[row].tolist(), strict=True))


def leaves(count: int, seed: int = 0) -> np.ndarray:
    """(count, 3) between 4 and 30 m ahead."""
    rng = np.random.default_rng(seed)
    ahead = rng.uniform(4.0, 30.0, count)
    aside = ahead * rng.uniform(-0.7, 0.7, count), ahead * rng.uniform(-0.4, 0.4, count)
    return np.stack([ahead, *aside], 1).astype(np.float32)


def classes(count: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 4, count).astype(np.uint8)


def walls(near_class: int = 3, turned: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (N, 3) on a wall 8 m ahead, on a house 25 m ahead and on a road; which each lies on (0, 1, 2); and their
    classes as the picture has them: where the wall hides the house, it shows the wall."""
    distances = []
    for ahead, low, high, right, left in ((8.0, -1.8, 0.2, -1.0, 1.0), (25.0, -1.8, 4.0, -25.0, 25.0)):
        distance = ahead / (RAYS[:, 0] - turned * RAYS[:, 1])
        y, z = distance * RAYS[:, 1], distance * RAYS[:, 2]
        hit = (distance > 0) & (y > right) & (y < left) & (z > low) & (z < high)
        distances.append(np.where(hit, distance, np.inf))
    distances.append(np.where(RAYS[:, 2] < -0.01, 1.8 / np.maximum(-RAYS[:, 2], 0.01), np.inf))
    surface, distance = np.argmin(distances, axis=0), np.min(distances, axis=0)
    back = distance < 80.0
    jitter = np.random.default_rng(0).normal(0.0, 0.02, back.sum())
    points, surface = (RAYS[back] * (distance[back] + jitter)[:, None]).astype(np.float32), surface[back]
    picture = np.array([near_class, 2, 0])[surface]
    picture[hidden_by_the_wall(points) & (surface > 0)] = near_class
    return points, surface, picture


def hidden_by_the_wall(points: np.ndarray) -> np.ndarray:
    """Whether the wall of `walls` stands between the camera and each point."""
    camera = -T_CAM_LIDAR[:3, :3].T @ T_CAM_LIDAR[:3, 3]
    t = (8.0 - camera[0]) / (points[:, 0] - camera[0])
    crossing = camera + t[:, None] * (points - camera)
    return (np.abs(crossing[:, 1]) < 1.0) & (crossing[:, 2] < 0.2) & (t > 0.0) & (t < 0.99)


def test_asked_is_about_all_points_that_something_around_them_hides():
    look = Look(leaves(4000), classes(4000))
    covered = patches(len(look.kept), CAMERA, CONFIG, look.workspace)
    wide, tall = covered.cell_px
    steps = np.radians([0.4, 0.8]) * 570.0 * [1.0, 0.8] / [wide, tall]
    columns, lines = max(1, round(steps[0])), max(1, round(steps[1] / 2))
    pairs = np.minimum(covered.buffer[:-1:2][: len(covered.buffer) // 2], covered.buffer[1::2])
    size = (2 * lines + 1, 2 * columns + 1)
    near = minimum_filter(pairs, size, mode="constant", cval=np.iinfo(np.int32).max)
    row, column = np.divmod(covered.own, covered.buffer.shape[1])
    line = np.minimum(row // 2, len(near) - 1)
    inside = (column >= columns) & (column < near.shape[1] - columns)
    inside &= (line >= lines) & (line < len(near) - lines)
    expected = (look.view.distance.view(np.int32) & -256 > near[line, column])[inside]
    asked = np.isin(np.arange(len(look.kept)), look.doubts.which)
    assert 300 < expected.sum() < len(expected) - 300
    np.testing.assert_array_equal(asked[inside], expected)
    assert asked[look.hider >= 0].all()


def test_what_is_told_of_a_point_is_what_stands_before_it():
    at = np.radians([0.2, 0.2, 0.6])  # in the middle of two columns
    points = (np.stack([np.cos(at), np.sin(at), 0.0 * at], 1) * [[20.0], [10.0], [20.3]]).astype(np.float32)
    T = T_CAM_LIDAR.copy()
    T[:3, 3] = 0.0  # where the LiDAR stands: no parallax
    look = Look(points, np.array([1, 1, 2]), T, margin=0.75)
    assert sorted(look.doubts.which.tolist()) == [0, 2]
    told = look.told(0)
    assert told["a patch hides it"] == 1.0
    assert told["stands free by its own label"] == 1.0
    assert told["how much larger a spacing is to the camera"] == pytest.approx(1 / 3, abs=1e-4)
    assert told["how sure the picture is of its label"] == 0.75
    assert told["range"] == pytest.approx(0.5, abs=1e-4)
    assert told["place (0, 0): metres before it"] == pytest.approx(9.8 / 10.8, abs=1e-3)  # 0.2 m are tolerated
    assert told["place (0, 0): same label"] == 1.0
    assert told["neighbour (-1, 0): metres behind it"] == pytest.approx(0.3 / 0.6, abs=0.02)  # to the left
    assert told["neighbour (-1, 0): hidden"] == 1.0  # by the patch as well
    assert told["neighbour (-1, 0): same label"] == 0.0
    assert told["neighbour (1, 0): metres behind it"] == told["neighbour (1, 0): same label"] == 0.0


def test_parallax_is_told_in_steps_whatever_its_side():
    at = np.radians([0.2, 0.2])
    points = (np.stack([np.cos(at), np.sin(at), 0.0 * at], 1) * [[20.0], [10.0]]).astype(np.float32)
    told = []
    for aside, down in ((0.0, 0.0), (0.02, 0.0), (-0.02, 0.0), (0.0, 0.05)):
        T = T_CAM_LIDAR.copy()
        T[:3, 3] = aside, down, 0.0
        look = Look(points, np.array([1, 1]), T)
        told.append([look.told(0)[f"steps {way} by which parallax moves it"] for way in ("aside", "up or down")])
    aside = 0.02 / (20.0 * np.radians(0.4))  # of 0.4 degrees each
    down = 0.05 / (20.0 * np.radians(0.8 * 0.8))
    expected = [[0.0, 0.0], [aside, 0.0], [aside, 0.0], [0.0, down]]
    np.testing.assert_allclose(told, [[steps / (1.0 + steps) for steps in row] for row in expected], atol=1e-3)


def test_the_surface_around_a_point_is_counted_neighbour_by_neighbour():
    points, _, picture = walls()
    look = Look(points, picture)
    sweep, labels = look.sweep, look.labels
    nearest, across, along = (plane.ravel() for plane in (sweep.nearest, sweep.across, sweep.along))
    expected = []
    for m in look.doubts.which:
        i = look.view.index[m]
        at, far, said = sweep.cell[i], sweep.range[i], []
        for right, up in product((-1, 0, 1), repeat=2):
            there, reach = (
                at + right * sweep.rows + up,
                0.3 + 0.01 * far + abs(right) * across[at] + abs(up) * along[at],
            )
            if (right, up) != (0, 0) and labels[there] != UNKNOWN and abs(nearest[there] - far) <= reach:
                said.append(labels[there])
        seen = [label for label in said if label != HIDDEN]
        of_all, of_seen = max(len(said), 1), max(len(seen), 1)
        expected.append([len(said) / 8, said.count(HIDDEN) / of_all, seen.count(look.class_id[m]) / of_seen])
    told = look.doubts.features()[:, FEATURES.index("how much of its surface lies around it") :][:, :3]
    assert all(column.std() > 0.1 for column in told.T)
    np.testing.assert_allclose(told, expected, atol=1e-6)


def test_what_the_network_is_given_is_bounded_whatever_the_points():
    points = leaves(3000)
    points[:5] = [[1e-9, 0, 0], [0, 0, 0], [3e38, 1e37, 0], [0.01, 0.001, 0], [1e10, 0, 0]]
    features = Look(points, classes(3000)).doubts.features()
    assert len(features) > 100
    assert np.isfinite(features).all()
    assert np.abs(features).max() <= 1.0


def test_the_order_of_the_points_does_not_matter():
    points, said = leaves(3000), classes(3000)
    order = np.random.default_rng(1).permutation(3000)
    one, other = Look(points, said), Look(points[order], said[order])
    where, there = one.view.index[one.doubts.which], order[other.view.index[other.doubts.which]]
    assert set(where) == set(there)
    features = one.doubts.features()[np.argsort(where)], other.doubts.features()[np.argsort(there)]
    np.testing.assert_allclose(*features, atol=1e-5)


def test_a_camera_on_the_other_side_is_told_the_same():
    points, _, picture = walls()
    mirrored, T = points * np.float32([1, -1, 1]), T_CAM_LIDAR.copy()
    T[0, 3] *= -1.0
    one, other = Look(points, picture), Look(mirrored, picture, T)
    asked = [look.view.index[look.doubts.which] for look in (one, other)]
    both = np.intersect1d(*asked)
    assert len(both) > 0.9 * max(map(len, asked))
    features = [look.doubts.features()[np.isin(index, both)] for look, index in zip((one, other), asked, strict=True)]
    assert (np.abs(features[0] - features[1]) < 0.05).mean() > 0.95  # cells do not lie alike


@pytest.mark.parametrize("count", [3, 400, 1200])
def test_the_network_is_its_matrices(count):
    look = Look(leaves(count), classes(count))
    features, kept = look.doubts.features(), look.kept.copy()
    first, first_bias, second, second_bias, last, last_bias = fitted_weights()
    one = np.maximum(features @ first + first_bias, 0.0)
    two = np.maximum(one @ second + second_bias, 0.0)
    chance = 1.0 / (1.0 + np.exp(-(two @ last + last_bias)[:, 0]))
    left = look.doubts.settle(0.3)
    assert left == np.count_nonzero(~look.kept[look.doubts.which])
    sure = np.abs(chance - 0.3) > 1e-5
    np.testing.assert_array_equal(look.kept[look.doubts.which][sure], chance[sure] < 0.3)
    kept[look.doubts.which] = look.kept[look.doubts.which]
    np.testing.assert_array_equal(look.kept, kept)  # the others stay what they were


def test_weights_for_other_numbers_than_are_told_are_refused():
    look = Look(leaves(400), classes(400))
    first, *others = fitted_weights()
    with pytest.raises(ValueError, match="shapes do not fit"):
        look.doubts.settle(0.3, (first[:-1].copy(), *others))


def test_the_fitted_weights_fit_what_is_told():
    assert fitted_weights()[0].shape[0] == len(FEATURES)
    assert all(bias.shape[0] % 4 == 0 for bias in fitted_weights()[1:4:2])


@pytest.mark.parametrize("edges", ["surface", "none"])
def test_a_wall_hides_what_the_camera_cannot_see_behind_it(edges):
    points, surface, picture = walls()
    look = Look(points, picture, edges=edges)
    surface, hidden = surface[look.view.index], hidden_by_the_wall(points[look.view.index])
    look.doubts.settle(0.1)
    assert (hidden & (surface == 1)).sum() > 50
    assert look.kept[hidden & (surface == 1)].mean() < 0.05
    assert look.kept[surface == 0].mean() > 0.99
    assert look.kept[~hidden & (surface == 1)].mean() > 0.95


def test_a_slanted_surface_hides_nothing_of_itself():
    points, _, _ = walls(turned=2.0)
    look = Look(points[points[:, 0] > 0.0], np.zeros(len(points)))
    road = Look(*(rows[walls()[1] == 2] for rows in walls()[::2]))
    for some in (look, road):
        some.doubts.settle(0.1)
    assert road.kept.mean() > 0.98


def test_the_more_doubt_is_allowed_the_fewer_points_are_hidden():
    points, _, picture = walls()
    allowed = []
    for doubt in (0.0, 0.01, 0.1, 0.5, 1.0):
        look = Look(points, picture)
        look.doubts.settle(doubt)
        allowed.append(look.kept[look.doubts.which].copy())
    assert all((fewer <= more).all() for fewer, more in pairwise(allowed))
    assert allowed[-1].all()
    assert not allowed[0].any()
    assert 0.2 < allowed[2].mean() < 0.8


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("size", "focal_px"), [((9, 7), 20.0), ((64, 2), 20.0), ((3, 200), 20.0), ((64, 48), 1e307)])
def test_a_picture_of_a_few_pixels_and_one_of_no_lens_is_asked_about_too(size, focal_px):
    points, _, picture = walls()
    points[0] = -np.linalg.inv(T_CAM_LIDAR)[:3, :3] @ T_CAM_LIDAR[:3, 3] + (9.0, 0.0, 0.0)  # on the optical axis
    small = CameraModel(*size, np.array([[focal_px, 0, size[0] / 2], [0, focal_px, size[1] / 2], [0, 0, 1]]))
    view, workspace = project(points, T_CAM_LIDAR, small), Workspace()
    sweep, config = range_image(points, CONFIG), replace(CONFIG, spacing_deg=5.0, beam_spacing_deg=5.0)
    said = picture[view.index].astype(np.uint8), FREE
    hider = hiding(view, sweep, small, config, workspace, said)
    surfaces = Surfaces(sweep, EdgesConfig(), workspace)
    told = said[0], hider, view.index
    sure = np.ones(len(hider), np.float32)
    opinions = Said(said[0], sure, FREE, hider, surfaces.settle(*told), surfaces.labels(*told))
    found = Doubts(View(view, sweep, small, T_CAM_LIDAR), opinions, config, workspace)
    assert np.isin(np.flatnonzero(hider >= 0), found.which).all()
    assert np.isfinite(found.features()).all()
