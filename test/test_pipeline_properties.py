"""What holds of every sweep, however odd: found by hypothesis, with everything on that decides about a label."""

from __future__ import annotations

import numpy as np
import small_world as world
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_world import CAR, MS, ROAD, T0

from seg_perception.datatypes import UNKNOWN, SemanticCloud
from seg_perception.geometry.transforms import transform_points
from seg_perception.pipeline import Pipeline

UPSIDE_DOWN = world.T_LIDAR_CAMERA @ np.diag([-1.0, -1.0, 1.0, 1.0])  # calls road what the other calls car
TO_THE_LEFT = np.array([[1, 0, 0, 0.3], [0, 0, 1, 0.8], [0, -1, 0, 0.1], [0, 0, 0, 1]], float)
CAMERAS = {"front": world.T_LIDAR_CAMERA, "aft": UPSIDE_DOWN, "left": TO_THE_LEFT}

odd = st.floats(width=32) | st.sampled_from([0.0, np.nan, np.inf, -np.inf, 3.0e38, -3.0e38, 1e-38])


@st.composite
def clouds(draw: st.DrawFn) -> NDArray[np.float32]:
    """Up to 600 points before and beside the cameras, so many that they hide each other; and some anywhere, or nowhere.
    No two alike: of two on one place the range image keeps either."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    near = rng.uniform((-3, -6, -2), (20, 6, 3), (draw(st.integers(0, 600)), 3))
    far = np.array(draw(st.lists(st.tuples(odd, odd, odd), max_size=6)), np.float32).reshape(-1, 3)
    return rng.permutation(np.unique(np.concatenate([near.astype(np.float32), far]), axis=0))


COARSE = {"spacing_deg": 4.0, "beam_spacing_deg": 4.0}  # patches so large that points hide each other
methods = st.sampled_from(["patches", "learned", "none"])


def labelled(
    xyz: NDArray[np.float32], order: list[str], method: str, at_once: bool = False, pictures: list[str] | None = None
) -> SemanticCloud:
    """By cameras in that order in the settings, whose pictures come in another where it is given. at_once: they have
    one stamp, so that two of them may see a point equally well."""
    pipeline = Pipeline(
        world.config(cameras=order, visibility={"method": method, **COARSE}), world.LeftRightSegmenter(), world.tree()
    )
    for name in order:
        pipeline.set_camera(name, world.camera())
        if name != "front":
            pipeline._tree.insert("lidar", f"{name}_optical", 0, CAMERAS[name], static=True)
    late = dict(zip(CAMERAS, (0, 0, 0) if at_once else (0, 10 * MS, 20 * MS), strict=True))
    images = {name: world.image(T0 + late[name], name, f"{name}_optical") for name in pictures or order}
    return pipeline.process(world.scan(xyz=xyz), images).cloud


@given(clouds(), methods)
@settings(max_examples=60, deadline=None)
def test_a_label_is_that_of_the_pixel_a_finite_point_lies_on(xyz, method):
    cloud = labelled(xyz, ["front"], method)
    with np.errstate(all="ignore"):
        uv, depth = world.camera().project(transform_points(np.linalg.inv(world.T_LIDAR_CAMERA), xyz.astype(float)))
    painted = cloud.class_id != UNKNOWN
    assert np.isfinite(xyz[painted]).all() and (depth[painted] > 0.0).all()
    assert world.camera().in_view(uv[painted].round(3)).all()
    u = uv[painted, 0]
    clear = np.abs(u - 99.5) > 1e-3
    assert cloud.class_id[painted][clear].tolist() == np.where(u < 99.5, ROAD, CAR)[clear].tolist()
    assert (cloud.probability[painted] > 0.0).all() and (cloud.probability[~painted] == 0.0).all()


@given(clouds(), methods, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_the_points_does_not_matter(xyz, method, random):
    order = np.array(random.sample(range(len(xyz)), len(xyz)), np.int64)
    straight, shuffled = (labelled(each, [*CAMERAS], method) for each in (xyz, xyz[order]))
    assert shuffled.class_id.tolist() == straight.class_id[order].tolist()
    assert shuffled.camera.tolist() == straight.camera[order].tolist()


@given(clouds(), methods, st.booleans(), st.permutations([*CAMERAS]))
@settings(max_examples=40, deadline=None)
def test_the_order_in_which_pictures_come_does_not_matter(xyz, method, at_once, order):
    one = labelled(xyz, [*CAMERAS], method, at_once)
    other = labelled(xyz, [*CAMERAS], method, at_once, order)
    assert one.class_id.tolist() == other.class_id.tolist()
    assert one.camera.tolist() == other.camera.tolist()


@given(clouds(), methods, st.permutations([*CAMERAS]))
@settings(max_examples=40, deadline=None)
def test_the_order_of_the_cameras_in_the_settings_decides_between_equals_alone(xyz, method, order):
    one, other = labelled(xyz, [*CAMERAS], method), labelled(xyz, order, method)
    assert one.class_id.tolist() == other.class_id.tolist()
    assert one.probability.tolist() == other.probability.tolist()
