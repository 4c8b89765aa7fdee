import numpy as np

from seg_perception.geometry.columns import BLOCK, bounds_of, by_axis


def test_bounds_hold_every_number_of_a_block_and_none_of_another():
    points = np.random.default_rng(0).normal(0, 20, (3 * BLOCK + 7, 3)).astype(np.float32)
    points[5] = np.nan
    points[BLOCK + 6, 1], points[BLOCK + 7, 2], points[BLOCK + 8, 0] = np.inf, -np.inf, -0.0
    points[2 * BLOCK : 3 * BLOCK] = np.nan
    bounds = bounds_of(points)
    assert bounds.shape == (4, 2, 3)
    for block, (low, high) in enumerate(bounds):
        some = points[block * BLOCK : (block + 1) * BLOCK]
        assert np.array_equal(low, np.where(np.isnan(some), np.inf, some).min(axis=0))
        assert np.array_equal(high, np.where(np.isnan(some), -np.inf, some).max(axis=0))


def test_columns_of_columns_are_themselves():
    points = np.random.default_rng(1).normal(0, 5, (100, 3)).astype(np.float32)
    columns = by_axis(points)
    assert np.array_equal(columns.T, points)
    assert np.shares_memory(by_axis(columns.T), columns)
