import numpy as np
import pytest

from seg_perception.simulation.ground import markings
from seg_perception.simulation.materials import Kind, Materials, linear
from seg_perception.simulation.noise import fractal, noise
from seg_perception.simulation.plan import draw_plan
from seg_perception.simulation.textures import MARK_COLUMNS, albedo

NO_MARKS = np.zeros((0, MARK_COLUMNS))


def picture(kind: Kind, footprint: float, marks: np.ndarray = NO_MARKS, **values: float) -> np.ndarray:
    materials = Materials()
    materials.add(kind, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), p0=values.pop("p0", 1.2), p1=1.5, **values)
    row = materials.table()[0]
    places = np.random.default_rng(0).uniform(0.0, 1.0, (400, 2))
    return np.array([albedo(row, u, v, footprint, marks) for u, v in places])


@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.name)
def test_every_texture_reflects_some_light_and_no_more_than_it_gets(kind):
    colors = picture(kind, 0.001)
    assert np.isfinite(colors).all()
    assert colors.min() >= 0.0 and colors.max() <= 1.0 and colors.mean() > 0.005


@pytest.mark.parametrize("kind", [Kind.ASPHALT, Kind.PAVING, Kind.BRICK, Kind.GRASS, Kind.TILES], ids=lambda k: k.name)
def test_patterns_finer_than_a_pixel_fade(kind):
    assert picture(kind, 3.0).std(axis=0).max() < 0.5 * picture(kind, 0.001).std(axis=0).max()


def test_noise_is_continuous_and_within_its_range():
    x = np.linspace(-3.0, 3.0, 5000)
    values = np.array([noise(v, 0.37, 5) for v in x])
    assert values.min() >= 0.0 and values.max() < 1.0
    assert np.abs(np.diff(values)).max() < 0.005
    assert max(abs(fractal(v, 0.1, 3, 4, 0.0)) for v in x) <= 0.5


def test_srgb_ends_and_its_middle():
    assert linear((0.0, 0.5, 1.0)) == pytest.approx([0.0, 0.21404, 1.0], abs=1e-5)


def test_a_crossing_is_painted_in_stripes_across_the_road(small_config):
    plan = draw_plan(small_config, np.random.default_rng(1))
    materials = Materials()
    materials.add(Kind.ASPHALT, (0.3, 0.3, 0.3))
    row = materials.table()[0]
    s = plan.crossings[0] - 6.9  # in the middle of the stripes
    across = np.linspace(-plan.kerb + 0.4, plan.kerb - 0.4, 400)
    tone = np.array([albedo(row, s, d, 0.001, markings(plan))[0] for d in across])
    bright = tone > 0.25
    assert 0.4 < bright.mean() < 0.6
    assert np.count_nonzero(np.diff(bright.astype(int)) == 1) >= int(2.0 * plan.kerb) - 2
