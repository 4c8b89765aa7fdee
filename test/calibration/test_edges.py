"""Silhouettes of sweeps, edges of pictures."""

from __future__ import annotations

import numpy as np

from seg_perception.calibration.edges import CHANNELS, image_edges, lidar_edges


def rays() -> np.ndarray:
    """(M, 3) unit directions ahead, 0.2 degrees apart across and 0.5 up and down."""
    azimuth, elevation = np.meshgrid(np.radians(np.arange(-15, 15, 0.2)), np.radians(np.arange(-12, -2, 0.5)))
    a, e = azimuth.ravel(), elevation.ravel()
    return np.column_stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])


def test_slanted_road_has_no_silhouette() -> None:
    directions = rays()
    points = directions * (-1.8 / directions[:, 2])[:, None]
    assert len(lidar_edges(points.astype(np.float32)).index) == 0


def test_box_before_a_wall_has_its_silhouette_at_its_sides_at_its_own_range() -> None:
    directions = rays()
    azimuth = np.degrees(np.arctan2(directions[:, 1], directions[:, 0]))
    points = directions * np.where(np.abs(azimuth) < 3.05, 10.0, 30.0)[:, None]
    edges = lidar_edges(points.astype(np.float32))
    assert len(edges.index) == 2 * 20
    np.testing.assert_allclose(np.linalg.norm(edges.middle, axis=1), 10.0, atol=1e-5)
    sides = np.degrees(np.arctan2(edges.middle[:, 1], edges.middle[:, 0]))
    np.testing.assert_allclose(np.abs(sides), 3.1, atol=0.11)


def test_leaves_have_no_silhouette() -> None:
    directions = rays()
    ranges = np.random.default_rng(0).uniform(8.0, 30.0, len(directions))
    edges = lidar_edges((directions * ranges[:, None]).astype(np.float32))
    assert len(edges.index) < 0.02 * len(directions)


def test_sweep_without_returns_has_no_silhouette() -> None:
    assert len(lidar_edges(np.full((50, 3), np.nan, np.float32)).index) == 0


def test_upright_edge_is_seen_across_and_not_along() -> None:
    pixels = np.full((80, 120, 3), 40, np.uint8)
    pixels[:, 60:] = 180
    edges = image_edges(pixels, 10.0)
    assert edges.shape == (CHANNELS, 80, 120)
    assert edges[0, 40, 59:61].min() > 3.0
    assert edges[CHANNELS // 2, 40, 59:61].max() < 0.1


def test_border_of_the_picture_is_no_edge() -> None:
    pixels = np.full((80, 120, 3), 180, np.uint8)
    pixels[:2] = 0
    assert image_edges(pixels, 10.0)[:, :5].max() == 0.0
