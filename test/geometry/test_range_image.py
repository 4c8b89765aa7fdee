import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_perception.geometry.range_image import RangeImage, _angle

COLUMN_DEG, ROW_DEG = 0.2, 0.5
COLUMNS, ROWS = 9, 7
MIDDLE = ROWS // 2 * COLUMNS + COLUMNS // 2


def looking_at(distance: np.ndarray, ahead_deg: float = 0.0) -> RangeImage:
    """Ranges (ROWS, COLUMNS) around a heading; a NaN is no return."""
    azimuth = np.radians(ahead_deg + (np.arange(COLUMNS) - COLUMNS // 2 + 0.5) * COLUMN_DEG)
    elevation = np.radians((np.arange(ROWS) - ROWS // 2) * ROW_DEG)
    a, e = (angles.ravel() for angles in np.meshgrid(azimuth, elevation))
    points = np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], axis=1) * distance.reshape(-1, 1)
    return RangeImage(points.astype(np.float32), COLUMN_DEG, ROW_DEG)


def recedes(image: RangeImage, m: int = MIDDLE) -> tuple[float, float]:
    return image.across.ravel()[image.cell[m]], image.along.ravel()[image.cell[m]]


def test_a_sphere_around_the_lidar_does_not_recede():
    assert recedes(looking_at(np.full((ROWS, COLUMNS), 10.0))) == pytest.approx((0.0, 0.0), abs=1e-5)


@pytest.mark.parametrize("ahead_deg", [0.0, 90.0, 180.0, -135.0])
def test_a_slanted_plane_recedes_by_the_larger_of_its_steps(ahead_deg):
    inverse = 0.1 + 0.002 * np.arange(COLUMNS) + 0.005 * np.arange(ROWS)[:, None]
    distance = 1.0 / inverse
    across, along = recedes(looking_at(distance, ahead_deg))
    here = distance.ravel()[MIDDLE]
    assert across == pytest.approx(distance.ravel()[MIDDLE - 1] - here, rel=1e-3)
    assert along == pytest.approx(distance.ravel()[MIDDLE - COLUMNS] - here, rel=1e-3)


def test_a_pole_and_a_gap_are_no_slanted_surfaces():
    for beside in (30.0, 4.0):
        distance = np.full((ROWS, COLUMNS), beside)
        distance[:, COLUMNS // 2] = 10.0
        assert recedes(looking_at(distance)) == (0.0, 0.0)


def test_at_the_end_of_a_wall_its_own_step_counts_and_not_the_jump():
    distance = np.tile(10.0 - 0.1 * np.arange(COLUMNS), (ROWS, 1))
    distance[:, COLUMNS // 2 + 1 :] = 3.0
    across, _ = recedes(looking_at(distance))
    assert across == pytest.approx(0.1, abs=1e-4)


def test_a_lost_return_is_looked_past():
    distance = 1.0 / (0.1 + 0.002 * np.arange(COLUMNS) + np.zeros((ROWS, 1)))
    distance[ROWS // 2, COLUMNS // 2 + 1] = np.nan
    assert recedes(looking_at(distance))[0] > 0.1


@given(st.floats(-100, 100, width=32), st.floats(-100, 100, width=32))
@settings(max_examples=300, deadline=None)
def test_angles_are_those_of_atan2(y, x):
    if max(abs(x), abs(y)) > 1e-20:
        off = abs(float(_angle(np.float32(y), np.float32(x))) - math.atan2(y, x))
        assert min(off, abs(off - 2 * math.pi)) < 3e-5


@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.floats(0.05, 3.0), st.floats(0.05, 3.0))
@settings(max_examples=60, deadline=None)
def test_whatever_the_points_every_cell_and_its_neighbours_lie_in_the_image(seed, count, column_deg, row_deg):
    points = np.random.default_rng(seed).normal(0, 20, (count, 3)).astype(np.float32)
    image = RangeImage(points, column_deg, row_deg)
    reach = 2 * image.rows + 2
    assert ((image.cell >= reach) & (image.cell < image.cells.size - reach)).all()
    nearest = image.cells.ravel()[image.cell]
    assert (nearest >= 0).all()
    assert (image.range[nearest] <= image.range).all()
