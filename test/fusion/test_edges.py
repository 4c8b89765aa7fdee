import itertools

import numpy as np
import pytest

from seg_perception.config import EdgesConfig, VisibilityConfig
from seg_perception.datatypes import UNKNOWN
from seg_perception.fusion.edges import Surfaces
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
NOBODY = np.full(ROWS * COLUMNS, -1, np.int16)


def at(row: int, column: int) -> int:
    return row * COLUMNS + column


def test_labels_that_agree_with_their_surface_are_taken():
    sweep = grid()
    assert Surfaces(sweep, EdgesConfig()).settle(labels(), NOBODY, EVERYONE).all()


def test_a_mask_that_bleeds_onto_the_surface_behind_is_left_out():
    """The car's mask is one column too wide: the house's first column is called car."""
    sweep = grid()
    kept = Surfaces(sweep, EdgesConfig()).settle(labels(near_columns=11), NOBODY, EVERYONE)
    bled = np.tile(np.arange(COLUMNS) == 10, ROWS)
    assert not kept[bled].any()
    assert kept[~bled].all()
    assert Surfaces(sweep, EdgesConfig(method="none")).settle(labels(near_columns=11), NOBODY, EVERYONE).all()


def test_a_border_painted_on_one_surface_stays():
    """No depth step, two labels, half and half: road and sidewalk."""
    sweep = grid(near=20.0)
    assert Surfaces(sweep, EdgesConfig()).settle(labels(), NOBODY, EVERYONE).mean() > 0.9


def test_the_picture_shows_a_point_past_the_border_of_something_nearer():
    """Geometry hides a house point behind a car point; the picture says house there, as the house's other points do."""
    sweep = grid()
    hider = NOBODY.copy()
    hider[at(3, 10)] = CAR
    assert Surfaces(sweep, EdgesConfig()).settle(labels(), hider, EVERYONE)[at(3, 10)]
    covered = labels()
    covered[at(3, 10)] = CAR
    assert not Surfaces(sweep, EdgesConfig()).settle(covered, hider, EVERYONE)[at(3, 10)]


def test_a_hidden_point_among_its_equals_stays_hidden():
    sweep = grid()
    hider = NOBODY.copy()
    hider[at(3, 15)] = HOUSE
    assert not Surfaces(sweep, EdgesConfig()).settle(labels(), hider, EVERYONE)[at(3, 15)]


def test_a_point_alone_keeps_its_label_and_unknown_asks_nobody():
    surfaces = Surfaces(range_image(np.array([[9.0, 0.0, 0.0]], np.float32), VisibilityConfig()), EdgesConfig())
    for label in (CAR, UNKNOWN):
        assert surfaces.settle(np.array([label], np.uint8), NOBODY[:1], EVERYONE[:1]).tolist() == [True]


def test_a_point_that_shines_through_a_gap_in_a_shadow_is_hidden_as_its_neighbours_are():
    """A tree hides the house behind it but for one point, at which the picture shows the tree as well."""
    sweep, said, hider = grid(), labels(), NOBODY.copy()
    shadow = [at(row, column) for row in (2, 3, 4) for column in range(13, 18)]
    hider[shadow], said[shadow] = CAR, CAR
    hider[at(3, 15)] = -1
    assert not Surfaces(sweep, EdgesConfig()).settle(said, hider, EVERYONE)[at(3, 15)]
    hider[shadow[:10]] = -1  # most of its neighbours are seen
    said[:] = HOUSE
    assert Surfaces(sweep, EdgesConfig()).settle(said, hider, EVERYONE)[at(3, 15)]


def commonest(votes: list[int]) -> int:
    """The label that more than half of the votes are for, if one is; else some other."""
    leading, lead = UNKNOWN, 0
    for vote in votes:
        leading = vote if lead == 0 else leading
        lead += 1 if vote == leading else -1
    return leading


def settled_one_by_one(said: np.ndarray, hider: np.ndarray, sweep: RangeImage, config: EdgesConfig) -> list[bool]:
    """What `Surfaces.settle` is to answer for a sweep of which every point is in view, a point at a time."""
    seen = {int(cell): m for cell, m in enumerate(sweep.cells.ravel()) if m >= 0}
    labels = {cell: 254 if hider[m] >= 0 else int(said[m]) for cell, m in seen.items()}
    labels = {cell: label for cell, label in labels.items() if label != UNKNOWN}
    nearest, across, along = (array.ravel() for array in (sweep.nearest, sweep.across, sweep.along))
    kept = []
    for m, label in enumerate(said):
        at, free, votes = int(sweep.cell[m]), bool(hider[m] < 0), []
        beside = [labels.get(at + step, label) for step in (-sweep.rows, sweep.rows, -1, 1)]
        if label == UNKNOWN or (set(beside) == {label} if free else hider[m] == label):
            kept.append(free)
            continue
        for right, up in itertools.product((-2, -1, 0, 1, 2), (-1, 0, 1)):
            place = at + right * sweep.rows + up
            reach = config.step_m + 0.01 * sweep.range[m] + across[at] * abs(right) + along[at] * abs(up)
            if place in labels and seen[place] != m and abs(nearest[place] - sweep.range[m]) <= reach:
                votes.append(labels[place])
        asked = [vote for vote in votes if vote != 254]
        same, leading = asked.count(label), commonest(asked)
        agrees = (same > 0 and 2 * same >= len(asked)) or leading == label
        dark = len(votes) >= 3 and len(votes) - len(asked) > 0.6 * len(votes)
        doubted = len(asked) >= 2 and asked.count(leading) >= config.agreement * len(asked)
        kept.append(agrees if not free else not dark and (agrees or not doubted))
    return kept


def whirl(rng: np.random.Generator) -> RangeImage:
    """6,000 points all around, in the rows of a LiDAR, on surfaces of which some lie close behind another."""
    azimuth, elevation = rng.uniform(-np.pi, np.pi, 6000), np.radians(rng.integers(-8, 8, 6000) * 0.49)
    distance = np.where(np.sin(7.0 * azimuth) > 0.0, 9.0, 9.0 + 0.3 * rng.integers(0, 3, 6000))
    flat = np.cos(elevation)
    directions = np.column_stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])
    config = VisibilityConfig(spacing_deg=0.8, beam_spacing_deg=0.49)
    return range_image((directions * distance[:, None]).astype(np.float32), config)


@pytest.mark.parametrize("seed", range(8))
def test_many_points_at_once_are_settled_as_one_by_one(seed):
    rng = np.random.default_rng(seed)
    sweep = whirl(rng)
    said = rng.choice([CAR, HOUSE, HOUSE, 7, UNKNOWN], 6000).astype(np.uint8)
    hider = np.where(rng.random(6000) < 0.2, rng.choice(said, 6000).astype(np.int16), np.int16(-1))
    settle = EdgesConfig(agreement=float(rng.choice([0.5, 0.75])))
    kept = Surfaces(sweep, settle).settle(said, hider, np.arange(6000))
    assert kept.tolist() == settled_one_by_one(said, hider, sweep, settle)
    assert 0.05 < kept.mean() < 0.95


def test_cameras_that_look_elsewhere_settle_as_if_each_were_alone():
    """Neighbours are looked for where the first camera looks, and then where the others do."""
    rng, config = np.random.default_rng(9), EdgesConfig()
    sweep = whirl(rng)
    shared = Surfaces(sweep, config)
    for low, high in ((-1.0, 0.5), (0.3, 2.0), (-3.2, 3.2)):
        index = np.flatnonzero((sweep.azimuth > low) & (sweep.azimuth < high)).astype(np.int32)
        said = rng.choice([CAR, HOUSE, HOUSE], len(index)).astype(np.uint8)
        hider = np.where(rng.random(len(index)) < 0.2, np.int16(CAR), np.int16(-1))
        kept = shared.settle(said, hider, index).tolist()
        assert kept == Surfaces(sweep, config).settle(said, hider, index).tolist()
        assert 0.05 < np.mean(kept) < 0.95
