import numpy as np

from seg_perception.config import EdgesConfig, VisibilityConfig
from seg_perception.datatypes import UNKNOWN
from seg_perception.fusion.edges import settle
from seg_perception.geometry.range_image import RangeImage
from seg_perception.geometry.visibility import range_image

CAR, HOUSE = 13, 2
ROWS, COLUMNS = 7, 21


def grid(near_columns: int = 10, near: float = 8.0, far: float = 20.0) -> RangeImage:
    """A sweep of rows and columns around straight ahead: the first columns near, the others far; all in view."""
    config = VisibilityConfig(spacing_deg=0.2, beam_spacing_deg=0.49)
    azimuth = np.radians((np.arange(COLUMNS) - COLUMNS // 2) * -config.spacing_deg + 0.1)
    elevation = np.radians((np.arange(ROWS) - ROWS // 2) * config.beam_spacing_deg)
    a, e = (angles.ravel() for angles in np.meshgrid(azimuth, elevation))
    distance = np.where(np.tile(np.arange(COLUMNS) < near_columns, ROWS), near, far)
    points = np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], axis=1) * distance[:, None]
    return range_image(points.astype(np.float32), config)


def labels(near_columns: int = 10) -> np.ndarray:
    return np.tile(np.where(np.arange(COLUMNS) < near_columns, CAR, HOUSE), ROWS).astype(np.uint8)


EVERYONE = np.arange(ROWS * COLUMNS)
NOBODY = np.full(ROWS * COLUMNS, -1, np.int32)


def at(row: int, column: int) -> int:
    return row * COLUMNS + column


def test_labels_that_agree_with_their_surface_are_taken():
    sweep = grid()
    assert settle(labels(), NOBODY, EVERYONE, sweep, EdgesConfig()).all()


def test_a_mask_that_bleeds_onto_the_surface_behind_is_left_out():
    """The car's mask is one column too wide: the house's first column is called car."""
    sweep = grid()
    kept = settle(labels(near_columns=11), NOBODY, EVERYONE, sweep, EdgesConfig())
    bled = np.tile(np.arange(COLUMNS) == 10, ROWS)
    assert not kept[bled].any()
    assert kept[~bled].all()
    assert settle(labels(near_columns=11), NOBODY, EVERYONE, sweep, EdgesConfig(method="none")).all()


def test_a_border_painted_on_one_surface_stays():
    """No depth step, two labels, half and half: road and sidewalk."""
    sweep = grid(near=20.0)
    assert settle(labels(), NOBODY, EVERYONE, sweep, EdgesConfig()).mean() > 0.9


def test_the_picture_shows_a_point_past_the_border_of_something_nearer():
    """Geometry hides a house point behind a car point; the picture says house there, as the house's other points do."""
    sweep = grid()
    hider = NOBODY.copy()
    hider[at(3, 10)] = at(3, 9)
    assert settle(labels(), hider, EVERYONE, sweep, EdgesConfig())[at(3, 10)]
    covered = labels()
    covered[at(3, 10)] = CAR
    assert not settle(covered, hider, EVERYONE, sweep, EdgesConfig())[at(3, 10)]


def test_a_hidden_point_among_its_equals_stays_hidden():
    sweep = grid()
    hider = NOBODY.copy()
    hider[at(3, 15)] = at(3, 14)
    assert not settle(labels(), hider, EVERYONE, sweep, EdgesConfig())[at(3, 15)]


def test_a_point_alone_keeps_its_label_and_unknown_asks_nobody():
    one = np.array([[9.0, 0.0, 0.0]], np.float32)
    sweep = range_image(one, VisibilityConfig())
    assert settle(np.array([CAR], np.uint8), NOBODY[:1], EVERYONE[:1], sweep, EdgesConfig()).tolist() == [True]
    assert settle(np.array([UNKNOWN], np.uint8), NOBODY[:1], EVERYONE[:1], sweep, EdgesConfig()).tolist() == [True]


def test_a_point_that_shines_through_a_gap_in_a_shadow_is_hidden_as_its_neighbours_are():
    """A tree hides the house behind it but for one point, at which the picture shows the tree as well."""
    sweep, said, hider = grid(), labels(), NOBODY.copy()
    shadow = [at(row, column) for row in (2, 3, 4) for column in range(13, 18)]
    hider[shadow], said[shadow] = at(3, 9), CAR
    hider[at(3, 15)] = -1
    assert not settle(said, hider, EVERYONE, sweep, EdgesConfig())[at(3, 15)]
    hider[shadow[:10]] = -1  # most of its neighbours are seen
    said[:] = HOUSE
    assert settle(said, hider, EVERYONE, sweep, EdgesConfig())[at(3, 15)]
