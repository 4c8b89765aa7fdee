import threading
from dataclasses import replace

import numpy as np
import pytest
import small_world as world
import yaml
from small_world import CAR, MS, ROAD, T0

from seg_perception import pipeline as module
from seg_perception.datatypes import UNKNOWN
from seg_perception.errors import BackendLostError, ModelError, UnknownFrameError
from seg_perception.geometry.movers import Movers
from seg_perception.geometry.transform_tree import TransformTree
from seg_perception.geometry.transforms import transform_points
from seg_perception.geometry.visibility import hiding, range_image
from seg_perception.pipeline import Pipeline, warm_up


def pipeline(**settings: object) -> Pipeline:
    result = Pipeline(world.config(**settings), world.LeftRightSegmenter(), world.tree())
    result.set_camera("front", world.camera())
    return result


def test_each_point_gets_the_label_of_its_pixel():
    result = pipeline().process(world.scan(), {"front": world.image()})
    assert result.cloud.class_id.tolist() == [ROAD, CAR, UNKNOWN, UNKNOWN]
    view = result.report.views["front"]
    assert (view.in_view, view.visible, view.painted, view.skipped) == (2, 2, 2, "")
    assert set(result.report.stage_seconds) == {"move", "segment", "project", "sample", "hide", "paint"}


def from_the_left(speed: float = 20.0) -> Movers:
    """A box 10 m ahead that goes to the right."""
    number, yaw, known = np.zeros(1, np.int32), np.zeros(1), np.zeros(1, bool)
    return Movers(number, np.array([[10.0, 0.5, 0.0]]), np.full((1, 3), 3.0), yaw, np.array([[0.0, -speed]]), known)


def with_odometry() -> Pipeline:
    tree = world.tree()
    for stamp_ns in (T0 - 1000 * MS, T0 + 1000 * MS):
        tree.insert("odom", "base_link", stamp_ns, np.eye(4))
    line = Pipeline(world.config(), world.LeftRightSegmenter(), tree)
    line.set_camera("front", world.camera())
    return line


def test_points_of_what_moves_get_the_label_of_where_they_are_when_the_image_is_taken():
    thing = np.array([[10.0, y, z] for y in (0.3, 0.5, 0.7) for z in (-0.5, 0.0, 0.5)])  # left of the middle
    post = np.array([[10.0, 0.6, 3.0]])  # above the box
    came = [np.vstack([thing + np.array([0.0, 2.0, 0.0]), post]), np.vstack([thing, post])]
    for movers, label, carried in ((None, ROAD, 0), (from_the_left(), CAR, 9)):
        line = with_odometry()
        line.process(world.scan(T0 - 100 * MS, came[0].astype(np.float32)), {})
        result = line.process(world.scan(T0, came[1].astype(np.float32)), {"front": world.image(T0 + 50 * MS)}, movers)
        assert result.cloud.class_id.tolist() == [label] * 9 + [ROAD]
        assert result.report.carried == carried
        assert np.array_equal(result.sweep.points, came[1].astype(np.float32))
    assert (result.visible["front"].uv[:9, 0] > world.WIDTH / 2).all()
    assert result.measured is not None
    assert result.measured.velocity[0] == pytest.approx([0.0, -20.0], abs=1.0)


@pytest.mark.parametrize("before", ["none", "too old", "of another LiDAR", "later"])
def test_without_the_sweep_before_nothing_is_carried(before):
    line, points = with_odometry(), np.array([[10.0, y, 0.0] for y in np.linspace(0.2, 0.8, 9)])
    earlier = world.scan(
        T0 + {"too old": -500, "later": 100}.get(before, -100) * MS, (points + np.array([0, 2, 0])).astype(np.float32)
    )
    if before != "none":
        line.process(replace(earlier, lidar="other" if before == "of another LiDAR" else ""), {})
    result = line.process(world.scan(xyz=points.astype(np.float32)), {"front": world.image()}, from_the_left())
    assert (result.report.carried, result.measured) == (0, None)


def test_without_odometry_nothing_is_carried():
    line = pipeline()
    results = [
        line.process(world.scan(stamp), {"front": world.image(stamp)}, from_the_left()) for stamp in (T0, T0 + 100 * MS)
    ]
    assert results[0].cloud.class_id.tolist() == results[1].cloud.class_id.tolist()
    assert results[1].report.carried == 0


def test_a_hidden_point_gets_no_label():
    xyz = np.array([[5.0, -1.0, 0.0], [19.1, -4.0, 0.6]], np.float32)  # on one ray of the camera
    result = pipeline().process(world.scan(xyz=xyz), {"front": world.image()})
    assert result.cloud.class_id.tolist() == [CAR, UNKNOWN]
    view = result.report.views["front"]
    assert (view.behind_windows, view.near_outlines, view.doubted, view.visible) == (0, 1, 1, 1)
    assert pipeline(visibility={"method": "none"}).process(
        world.scan(xyz=xyz), {"front": world.image()}
    ).cloud.class_id.tolist() == [CAR, CAR]


def test_where_the_points_lie_that_a_camera_sees_is_told_after_later_sweeps_too():
    xyz = np.array([[19.1, -4.0, 0.6], [5.0, -1.0, 0.0], [8.0, 2.0, 0.1]], np.float32)  # the first one is hidden
    line = pipeline()
    result = line.process(world.scan(xyz=xyz), {"front": world.image()})
    line.process(world.scan(T0 + MS, xyz[::-1] * 0.9), {"front": world.image(T0 + MS)})
    assert list(result.visible) == ["front"]
    seen = result.visible["front"]
    assert seen.index.tolist() == [1, 2]
    T_cam_lidar = world.tree().T("front_optical", "lidar", T0)
    uv, _ = world.camera().project(transform_points(T_cam_lidar, xyz[1:]))
    assert np.allclose(seen.uv, uv)
    assert seen.points is result.sweep.points


def test_how_hidden_points_are_found_may_change_between_sweeps():
    xyz = np.array([[5.0, -1.0, 0.0], [19.1, -4.0, 0.6]], np.float32)
    line = pipeline()
    labels = []
    for visibility in ({}, {"method": "none"}, {"depth_tolerance_m": 50.0}, {}):
        line.config = world.config(visibility=visibility)
        labels.append(line.process(world.scan(xyz=xyz), {"front": world.image()}).cloud.class_id.tolist())
    assert labels == [[CAR, UNKNOWN], [CAR, CAR], [CAR, CAR], [CAR, UNKNOWN]]


def test_a_camera_whose_place_is_not_known_yet_still_tells_what_its_picture_shows():
    line = Pipeline(world.config(), world.LeftRightSegmenter(), TransformTree())
    without_calibration = line.process(world.scan(), {"front": world.image()})
    line.set_camera("front", world.camera())
    result = line.process(world.scan(T0 + MS), {"front": world.image(T0 + MS)})
    assert result.report.views["front"].skipped == "tf_unknown_frame"
    assert (result.segmentations["front"].label_image()[:, 0] == ROAD).all()
    assert not without_calibration.segmentations


def test_without_images_every_point_is_unknown():
    result = pipeline().process(world.scan(), {})
    assert result.cloud.class_id.tolist() == [UNKNOWN] * 4


@pytest.mark.parametrize("xyz", [np.zeros((0, 3), np.float32), np.full((5, 3), np.nan, np.float32)])
def test_empty_and_nan_only_clouds_pass_through(xyz):
    result = pipeline().process(world.scan(xyz=xyz), {"front": world.image()})
    assert len(result.cloud) == len(xyz)
    assert not result.cloud.labelled.any()


def test_a_camera_without_calibration_is_skipped_and_said():
    bare = Pipeline(world.config(), world.LeftRightSegmenter(), world.tree())
    view = bare.process(world.scan(), {"front": world.image()}).report.views["front"]
    assert view.skipped == "calibration"
    assert "no usable CameraInfo" in view.detail


def test_an_image_of_another_size_than_its_calibration_is_skipped_and_said():
    view = pipeline().process(world.scan(), {"front": world.image(width=320)}).report.views["front"]
    assert view.skipped == "calibration"
    assert "320" in view.detail
    assert "200" in view.detail


def test_a_camera_without_extrinsics_costs_only_its_own_view():
    both = pipeline(cameras=["front", "rear"])
    both.set_camera("rear", world.camera())
    images = {"front": world.image(), "rear": world.image(name="rear", frame_id="rear_optical")}
    result = both.process(world.scan(), images)
    assert result.cloud.class_id.tolist() == [ROAD, CAR, UNKNOWN, UNKNOWN]
    assert result.report.views["rear"].skipped == "tf_unknown_frame"
    assert "rear_optical" in result.report.views["rear"].detail


def test_missing_odometry_is_reported_in_auto_and_refuses_the_sweep_in_required():
    report = pipeline().process(world.scan(), {"front": world.image()}).report
    assert report.motion == "static"
    assert "odom" in report.motion_fallback
    with pytest.raises(UnknownFrameError, match="odom"):
        pipeline(motion={"mode": "required"}).process(world.scan(), {"front": world.image()})


def test_ego_motion_between_sweep_and_image_is_taken_out():
    """The vehicle turns left by 0.3 rad in the 100 ms before the image: a point ahead moves to the right."""
    turning = pipeline()
    turning._tree.insert("odom", "base_link", T0, np.eye(4))
    c, s = np.cos(0.3), np.sin(0.3)
    turned = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    turning._tree.insert("odom", "base_link", T0 + 100 * MS, turned)
    xyz = np.array([[10.0, 1.0, 0.0]], np.float32)  # left of the axis as measured, right of it as photographed
    assert turning.process(world.scan(xyz=xyz), {"front": world.image(T0 + 100 * MS)}).cloud.class_id.tolist() == [CAR]
    assert turning.process(world.scan(xyz=xyz), {"front": world.image(T0)}).cloud.class_id.tolist() == [ROAD]


def test_two_sweeps_that_share_an_image_segment_it_once():
    shared = pipeline()
    for stamp in (T0 - 20 * MS, T0 + 20 * MS):
        shared.process(world.scan(stamp), {"front": world.image()})
    assert shared.networks["front"].segmenter.calls == 1
    shared.process(world.scan(T0 + 100 * MS), {"front": world.image(T0 + 100 * MS)})
    assert shared.networks["front"].segmenter.calls == 2


def test_of_two_cameras_the_surer_one_wins_in_either_order():
    """`aft` is mounted upside down, so it calls road what `front` calls car; first of equally sure ones."""
    both = pipeline(cameras=["front", "aft"])
    both.set_camera("aft", world.camera())
    upside_down = world.T_LIDAR_CAMERA @ np.diag([-1.0, -1.0, 1.0, 1.0])
    both._tree.insert("lidar", "aft_optical", 0, upside_down, static=True)
    front, aft = world.image(), world.image(name="aft", frame_id="aft_optical")
    one = both.process(world.scan(), {"front": front, "aft": aft}).cloud
    other = both.process(world.scan(), {"aft": aft, "front": front}).cloud
    alone = both.process(world.scan(), {"front": front}).cloud
    assert one.class_id.tolist() == other.class_id.tolist() == [CAR, ROAD, UNKNOWN, UNKNOWN]
    assert [one.cameras[i] for i in one.camera[:2]] == [other.cameras[i] for i in other.camera[:2]] == ["aft", "aft"]
    assert alone.class_id.tolist() == [ROAD, CAR, UNKNOWN, UNKNOWN]


def test_a_network_of_another_taxonomy_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"7 classes of 'cityscapes'.*'cityscapes' with 19"):
        Pipeline(world.config(), world.LeftRightSegmenter(num_classes=7), world.tree())
    classes = [{"name": f"thing {i}", "train_id": i, "color": [i, i, i]} for i in range(19)]
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", "classes": classes}))
    with pytest.raises(ModelError, match=r"classes of 'cityscapes'.*'mine'"):
        Pipeline(world.config(taxonomy=str(path)), world.LeftRightSegmenter(), world.tree())


def test_a_lost_backend_ends_the_sweep_and_is_not_a_skipped_camera(monkeypatch):
    lost = pipeline()

    def fail(_pixels):
        raise BackendLostError("no GPU any more")

    monkeypatch.setattr(lost.networks["front"].segmenter, "segment", fail)
    with pytest.raises(BackendLostError):
        lost.process(world.scan(), {"front": world.image()})


def test_warm_up_runs_the_network_once():
    segmenter = world.LeftRightSegmenter()
    warm_up(world.config(), segmenter)
    assert segmenter.calls == 1


def test_warm_up_compiles_what_may_be_set_later(monkeypatch):
    asked = set()

    def noted(in_view, sweep, camera, config, *rest):
        asked.add(config.method)
        return hiding(in_view, sweep, camera, config, *rest)

    monkeypatch.setattr("seg_perception.fusion.seeing.hiding", noted)
    warm_up(world.config(visibility={"method": "learned"}), world.LeftRightSegmenter())
    assert asked == {"patches", "learned"}


class TogetherSegmenter(world.LeftRightSegmenter):
    """Takes all pictures in one call; none narrower than the world's, as an engine with fixed sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.together: list[int] = []

    def segment_all(self, pictures: list[np.ndarray]) -> list:
        self.together.append(len(pictures))
        if any(picture.shape[1] < world.WIDTH for picture in pictures):
            raise ModelError("too narrow")
        return [self.segment(picture) for picture in pictures]


def two_cameras(segmenter: world.LeftRightSegmenter, **settings: object) -> Pipeline:
    config = world.config(cameras=["front", "second"], **settings)
    result = Pipeline(config, segmenter, world.tree())
    result.set_camera("front", world.camera())
    result.set_camera("second", world.camera())
    return result


def test_a_backend_that_overlaps_pictures_gets_those_of_all_cameras_at_once_and_each_only_once():
    segmenter = TogetherSegmenter()
    both = two_cameras(segmenter)
    images = {"front": world.image(), "second": world.image(name="second")}
    first, second = (both.process(world.scan(), images).cloud for _ in range(2))
    alone = two_cameras(world.LeftRightSegmenter()).process(world.scan(), images).cloud
    assert segmenter.together == [2]
    assert segmenter.calls == 2
    assert first.class_id.tolist() == second.class_id.tolist() == alone.class_id.tolist()


def test_a_picture_that_cannot_go_with_the_others_costs_only_its_own_view():
    segmenter = TogetherSegmenter()
    images = {"front": world.image(), "second": world.image(name="second", width=100)}
    report = two_cameras(segmenter).process(world.scan(), images).report
    assert report.views["second"].skipped == "calibration"
    assert report.views["front"].painted == 2
    assert segmenter.together == [1]


def test_a_picture_that_the_network_refuses_leaves_the_others_to_be_asked_one_by_one():
    segmenter = TogetherSegmenter()
    both = two_cameras(segmenter)
    both.set_camera("second", world.camera().scaled(100, world.HEIGHT))
    images = {"front": world.image(), "second": world.image(name="second", width=100)}
    both.process(world.scan(), images)
    assert segmenter.together == [2]
    assert segmenter.calls == 2


def test_a_lidar_whose_points_lie_in_no_order_is_asked_for_its_spacing_ever_more_seldom(monkeypatch):
    asked = []
    line, sweeps = pipeline(), 20

    def count(config, points):
        asked.append(number)
        return config

    monkeypatch.setattr("seg_perception.pipeline.with_spacing", count)
    for number in range(1, sweeps + 1):
        line.process(world.scan(T0 + number), {})
    assert asked == [1, 2, 4, 8, 16]


def test_each_lidar_keeps_its_own_spacing(monkeypatch):
    def wall(step_deg: float) -> np.ndarray:
        azimuth, elevation = np.radians(np.meshgrid(np.arange(-30, 30, step_deg), np.arange(-10, 10, 2 * step_deg)))
        x = np.full(azimuth.size, 20.0)
        y, z = 20.0 * np.tan(azimuth).ravel(), 20.0 * (np.tan(elevation) / np.cos(azimuth)).ravel()
        return np.column_stack([x, y, z]).astype(np.float32)

    p = pipeline()
    used = []

    def spied(points, config, workspace):
        used.append(config)
        return range_image(points, config, workspace)

    monkeypatch.setattr(module, "range_image", spied)
    for k, (lidar, step_deg) in enumerate([("top", 0.4), ("left", 1.0)] * 2):
        p.process(replace(world.scan(T0 + k, wall(step_deg)), lidar=lidar), {"front": world.image()})
    assert [config.spacing_deg for config in used] == pytest.approx([0.4, 1.0, 0.4, 1.0], abs=0.02)
    assert [config.beam_spacing_deg for config in used] == pytest.approx([0.8, 2.0, 0.8, 2.0], abs=0.05)


ALL_AROUND = [f"camera_{k}" for k in range(5)]


def all_around(threads: int, segmenter: world.LeftRightSegmenter | None = None) -> Pipeline:
    """Five cameras, each turned a little from the one before it; the last has no place."""
    config = world.config(cameras=ALL_AROUND, painting={"threads": threads})
    result = Pipeline(config, segmenter or world.LeftRightSegmenter(), world.tree())
    for k, name in enumerate(ALL_AROUND):
        result.set_camera(name, world.camera())
        c, s = np.cos(0.4 * k), np.sin(0.4 * k)
        turned = world.T_LIDAR_CAMERA @ np.array([[c, 0, s, 0], [0, 1, 0, 0], [-s, 0, c, 0], [0, 0, 0, 1]])
        if k < 4:
            result._tree.insert("lidar", f"{name}_optical", 0, turned, static=True)
    return result


def images_all_around(stamp_ns: int = T0) -> dict:
    return {name: world.image(stamp_ns, name, f"{name}_optical") for name in reversed(ALL_AROUND)}


def many_points(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform([-20, -20, -2], [20, 20, 2], (5000, 3)).astype(np.float32)


@pytest.mark.parametrize("threads", [2, 3, 0])
def test_cameras_side_by_side_give_what_they_give_after_each_other(threads):
    one, several = all_around(1), all_around(threads)
    for number in range(5):
        stamp = T0 + 100 * MS * number
        scan, images = world.scan(stamp, many_points(number)), images_all_around(stamp)
        a, b = one.process(scan, images), several.process(scan, images)
        assert len(np.unique(a.cloud.camera)) > 3
        for of_points in ("class_id", "probability", "camera", "instance_id"):
            assert np.array_equal(getattr(a.cloud, of_points), getattr(b.cloud, of_points))
        assert a.report.views == b.report.views
        assert list(a.report.views) == list(b.report.views)
        assert list(a.segmentations) == list(b.segmentations) == ALL_AROUND
        assert list(a.visible) == list(b.visible) == ALL_AROUND[:4]
        for name in a.visible:
            assert np.array_equal(a.visible[name].index, b.visible[name].index)


def test_each_of_the_threads_that_label_a_sweep_takes_a_camera():
    """Two pictures of which each waits in the network for the other: one thread would wait for ever."""
    both = threading.Barrier(2, timeout=20.0)

    class Meeting(world.LeftRightSegmenter):
        def segment(self, pixels):
            both.wait()
            return super().segment(pixels)

    pair = all_around(2, Meeting())
    images = images_all_around()
    result = pair.process(world.scan(), {name: images[name] for name in ALL_AROUND[:2]})
    assert [view.skipped for view in result.report.views.values()] == ["", ""]


@pytest.mark.parametrize("lost", ALL_AROUND[:4])
def test_a_lost_backend_ends_the_sweep_in_whichever_thread_it_is_lost(lost, monkeypatch):
    several = all_around(2)
    network = several.networks[lost]

    def fail(_pixels):
        raise BackendLostError("no GPU any more")

    broken = world.LeftRightSegmenter()
    monkeypatch.setattr(broken, "segment", fail)
    several.networks[lost] = replace(network, segmenter=broken)
    with pytest.raises(BackendLostError):
        several.process(world.scan(), images_all_around())
    several.networks[lost] = network
    again = several.process(world.scan(T0 + MS), images_all_around(T0 + MS))
    assert again.report.views[lost].skipped == ""


def test_what_threads_it_has_end_when_it_is_closed_or_let_go():
    before = set(threading.enumerate())
    for end in (Pipeline.close, lambda line: None):
        several = all_around(3)
        several.process(world.scan(), images_all_around())
        assert set(threading.enumerate()) - before
        end(several)
        several.process(world.scan(), images_all_around())  # a sweep that comes after all
        helpers = set(threading.enumerate()) - before
        assert helpers
        del several
        for thread in helpers:
            thread.join(10.0)
            assert not thread.is_alive()
