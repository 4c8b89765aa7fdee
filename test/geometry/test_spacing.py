import numpy as np
import pytest

from seg_perception.config import VisibilityConfig
from seg_perception.geometry.spacing import measured_spacing, with_spacing


def sweep(columns: int, elevation_deg: np.ndarray, lost: float = 0.3, seed: int = 0) -> np.ndarray:
    """(N, 3) float32: a turn between walls, from which a share of the rays does not return, in no order."""
    rng = np.random.default_rng(seed)
    azimuth, elevation = np.meshgrid(np.arange(columns) / columns * 2 * np.pi, np.radians(elevation_deg))
    distance = rng.uniform(10.0, 60.0, azimuth.shape)
    points = np.stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], axis=-1
    )
    points = (points * distance[..., None]).reshape(-1, 3)
    return rng.permutation(points[rng.random(len(points)) > lost]).astype(np.float32)


@pytest.mark.parametrize(
    ("columns", "beams", "lowest", "highest"),
    [(1800, 64, -24.8, 6.0), (1024, 32, -30.67, 10.67), (1800, 16, -15.0, 15.0), (3600, 128, -25.0, 15.0)],
)
def test_both_spacings_are_read_from_the_points_alone(columns, beams, lowest, highest):
    elevation = np.linspace(lowest, highest, beams)
    column, beam = measured_spacing(sweep(columns, elevation))
    assert column == pytest.approx(360.0 / columns, rel=0.02)
    assert beam == pytest.approx((highest - lowest) / (beams - 1), rel=0.02)


def test_of_uneven_beams_one_of_their_spacings_is_told():
    elevation = np.concatenate([np.arange(-24.0, -8.0, 0.5), np.arange(-8.0, 3.0, 1 / 3)])
    assert 0.3 < measured_spacing(sweep(2000, elevation))[1] < 0.51


def test_points_without_a_return_do_not_disturb():
    points = sweep(1800, np.linspace(-24.8, 6.0, 64))
    points[::7] = np.nan
    points[::11] = 0.0
    assert measured_spacing(points) == pytest.approx((0.2, 30.8 / 63), rel=0.02)


@pytest.mark.parametrize("count", [0, 1, 400])
def test_of_few_points_nothing_is_said(count):
    points = np.random.default_rng(0).normal(0.0, 20.0, (count, 3)).astype(np.float32)
    assert measured_spacing(points) is None
    assert with_spacing(VisibilityConfig(), points) == VisibilityConfig()


def test_what_is_set_by_hand_stays():
    points = sweep(1800, np.linspace(-24.8, 6.0, 64))
    by_hand = VisibilityConfig(spacing_deg=0.4, beam_spacing_deg=1.0)
    assert with_spacing(by_hand, points) == by_hand
    measured = with_spacing(VisibilityConfig(beam_spacing_deg=1.0), points)
    assert (measured.spacing_deg, measured.beam_spacing_deg) == (0.2, 1.0)


def test_the_real_lidar_of_nuscenes_has_32_beams_a_degree_and_a_third_apart(shared_data):
    path = next(shared_data.glob("nuscenes/*.pcd.bin"))
    points = np.fromfile(path, np.float32).reshape(-1, 5)[:, :3]
    assert measured_spacing(points) == pytest.approx((0.335, 1.34), abs=0.01)


def test_points_in_no_order_do_not_tell_and_cost_no_sweep():
    points = np.random.default_rng(1).uniform((5.0, -4.0, 0.0), (9.0, 4.0, 1.0), (2000, 3)).astype(np.float32)
    assert max(measured_spacing(points)) > 5.0
    assert with_spacing(VisibilityConfig(), points) == VisibilityConfig()


@pytest.mark.filterwarnings("error")
def test_a_signalling_nan_is_no_return_and_raises_no_warning():
    points = np.full((10, 3), 0x7F800001, np.uint32).view(np.float32)
    assert measured_spacing(points) is None
