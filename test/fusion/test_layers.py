"""A layer of a network for many points: the sums of a matrix product, rectified."""

from __future__ import annotations

import numpy as np
import pytest

from seg_perception.fusion.layers import OUTPUTS, POINTS, layer


@pytest.mark.parametrize(("inputs", "outputs", "points"), [(1, 1, 1), (26, 6, 2), (28, 3, 8), (0, 1, 1)])
def test_a_layer_is_a_matrix_product_rectified(inputs, outputs, points):
    rng = np.random.default_rng(inputs)
    given = rng.standard_normal((inputs, points * POINTS), np.float32)
    weights = rng.standard_normal((inputs, outputs * OUTPUTS), np.float32)
    bias = rng.standard_normal(outputs * OUTPUTS, np.float32)
    answer = np.full((outputs * OUTPUTS, points * POINTS), np.nan, np.float32)
    layer(given, weights, bias, answer)
    expected = np.maximum(weights.T.astype(np.float64) @ given + bias[:, None], 0.0)
    np.testing.assert_allclose(answer, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "weights", "bias", "answer"),
    [
        ((3, POINTS), (3, 5), (5,), (5, POINTS)),
        ((3, 40), (3, OUTPUTS), (OUTPUTS,), (OUTPUTS, 40)),
        ((3, POINTS), (2, OUTPUTS), (OUTPUTS,), (OUTPUTS, POINTS)),
        ((3, POINTS), (3, OUTPUTS), (1,), (OUTPUTS, POINTS)),
        ((3, 2 * POINTS), (3, OUTPUTS), (OUTPUTS,), (OUTPUTS, POINTS)),
    ],
)
def test_shapes_that_would_reach_beyond_an_array_are_refused(given, weights, bias, answer):
    with pytest.raises(ValueError, match="shapes"):
        layer(*(np.zeros(shape, np.float32) for shape in (given, weights, bias, answer)))
