import numpy as np
import pytest

from seg_perception.config import VisibilityConfig
from seg_perception.fusion.glass import hide_behind_glass
from seg_perception.geometry.visibility import range_image
from seg_perception.geometry.workspace import Workspace

ROAD, HOUSE, CAR = 0, 2, 13
GLAZED = np.arange(256) == CAR
CONFIG = VisibilityConfig(spacing_deg=0.4, beam_spacing_deg=0.6)
AZIMUTH, ELEVATION = np.radians(np.arange(-14, 14, 0.4) + 0.2), np.radians(np.arange(-15, 6, 0.6))


def street(*things: tuple[float, float, float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 3) of a house 25 m ahead with things before it, a window in none; and which of these each lies on,
    -1 for the house. A thing: metres ahead, from and to metres to the left, from and to metres up."""
    a, e = (angles.ravel() for angles in np.meshgrid(AZIMUTH, ELEVATION))
    rays = np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], axis=1)
    distance, of = 25.0 / rays[:, 0], np.full(len(rays), -1)
    for k, (ahead, right, left, low, high) in enumerate(things):
        hit = rays / rays[:, :1] * ahead
        on = (hit[:, 1] > right) & (hit[:, 1] < left) & (hit[:, 2] > low) & (hit[:, 2] < high)
        on &= ahead / rays[:, 0] < distance
        distance, of = np.where(on, ahead / rays[:, 0], distance), np.where(on, k, of)
    return (rays * distance[:, None]).astype(np.float32), of


DOOR, ROOF = (8.0, -0.9, 0.9, -1.6, -0.6), (8.0, -0.9, 0.9, 0.0, 0.25)
PILLARS = (8.0, -0.9, -0.45, -0.6, 0.0), (8.0, 0.45, 0.9, -0.6, 0.0)


def seen_through(points: np.ndarray, picture: np.ndarray, hidden: np.ndarray | None = None, **settings) -> np.ndarray:
    """(N,) the class of what hides each point; picture: its label. All are in view."""
    config = VisibilityConfig(**{"spacing_deg": 0.4, "beam_spacing_deg": 0.6, **settings})
    hider = np.full(len(points), -1, np.int16)
    if hidden is not None:
        hider[hidden] = HOUSE
    index = np.arange(len(points), dtype=np.int32)
    sweep = range_image(points, config)
    before = np.count_nonzero(hider >= 0)
    found = hide_behind_glass(picture.astype(np.uint8), hider, index, sweep, GLAZED, config, Workspace())
    assert found == np.count_nonzero(hider >= 0) - before
    return hider


def window(points: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Points of the house that lie behind the windows of the car 8 m ahead."""
    hit = points / points[:, :1] * 8.0
    return (of < 0) & (np.abs(hit[:, 1]) < 0.9) & (hit[:, 2] < 0.0) & (hit[:, 2] > -0.6)


@pytest.mark.parametrize("frame", [(DOOR, ROOF), (DOOR, *PILLARS)], ids=["door and roof", "door and pillars"])
def test_what_a_car_frames_was_seen_through_its_window(frame):
    points, of = street(*frame)
    through = window(points, of)
    picture = np.where((of >= 0) | through, CAR, HOUSE)
    hider = seen_through(points, picture)
    assert through.sum() > 50
    assert (hider[through] == CAR).all()
    assert (hider[~through] < 0).all()


def test_a_car_over_the_bonnet_of_a_nearer_one_is_no_window():
    points, of = street((8.0, -1.0, 1.0, -1.6, -0.6), (14.0, -3.0, 3.0, -1.7, 0.2))
    assert (of == 1).sum() > 300
    assert (seen_through(points, np.where(of >= 0, CAR, HOUSE)) < 0).all()


def test_a_car_between_two_nearer_ones_is_no_window():
    points, of = street((8.0, -2.5, -0.6, -1.6, 0.2), (8.0, 0.6, 2.5, -1.6, 0.2), (14.0, -3.0, 3.0, -1.7, 0.2))
    assert (of == 2).sum() > 100
    assert (seen_through(points, np.where(of >= 0, CAR, HOUSE)) < 0).all()


def test_a_seat_is_part_of_the_car():
    points, of = street(DOOR, ROOF, (9.5, -0.6, 0.6, -1.0, -0.1))
    inside = of == 2
    assert inside.sum() > 20
    picture = np.where((of >= 0) | window(points, of), CAR, HOUSE)
    assert (seen_through(points, picture)[inside] < 0).all()
    assert (seen_through(points, picture, glass_m=1.0)[inside] == CAR).all()


def test_labels_of_other_classes_are_left_alone():
    points, of = street(DOOR, ROOF)
    through = window(points, of)
    picture = np.where(of >= 0, CAR, HOUSE)  # a picture whose network looks through windows as well
    assert (seen_through(points, picture)[through] < 0).all()


def test_what_is_hidden_frames_nothing_and_keeps_its_hider():
    points, of = street(DOOR, ROOF)
    through = window(points, of)
    picture = np.where((of >= 0) | through, CAR, HOUSE)
    hidden = of == 1
    hider = seen_through(points, picture, hidden)
    assert (hider[hidden] == HOUSE).all()
    assert (seen_through(*(rows[~hidden] for rows in (points, picture)))[through[~hidden]] == hider[through]).all()


def test_points_in_any_order_and_none_at_all():
    points, of = street(DOOR, ROOF, *PILLARS)
    picture = np.where((of >= 0) | window(points, of), CAR, HOUSE)
    order = np.random.default_rng(0).permutation(len(points))
    np.testing.assert_array_equal(seen_through(points[order], picture[order]), seen_through(points, picture)[order])
    assert len(seen_through(points[:0], picture[:0])) == 0
    assert (seen_through(points, np.full(len(points), ROAD)) < 0).all()
