import array
import gc
import math
import threading
import weakref
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import small_world as world
import yaml
from small_world import CAR, HEIGHT, MS, ROAD, T0, WIDTH, header, message

from seg_perception.datatypes import UNKNOWN
from seg_perception.errors import ModelError
from seg_perception.intake import Intake
from seg_perception.pipeline import SweepResult
from seg_perception.statistics import summary_lines

S = 1_000 * MS


class Drive:
    """An intake with everything it needs but sweeps and images, and what it had to say."""

    def __init__(self, batch: int = 1, **settings: object) -> None:
        self.said: dict[str, str] = {}
        segmenter = world.LeftRightSegmenter()
        segmenter.contract = replace(segmenter.contract, batch=batch)
        self.intake = Intake(world.config(**settings), segmenter, self.said.__setitem__)
        self.intake.transforms(
            tf_message(("base_link", "lidar", np.eye(4)), ("lidar", "front_optical", world.T_LIDAR_CAMERA)), static=True
        )
        self.intake.camera_info("front", info_message())

    @property
    def causes(self) -> dict[str, int]:
        return dict(self.intake.statistics.causes)

    @property
    def network(self) -> world.LeftRightSegmenter:
        return self.intake.pipeline.networks["front"].segmenter

    def result(self, now_s: float = 0.0) -> SweepResult | None:
        result = self.intake.next_result(now_s)
        return None if result is None else self.intake.remember(result)

    def labels(self, now_s: float = 0.0) -> list[int] | None:
        result = self.result(now_s)
        return None if result is None else result.cloud.class_id.tolist()


def image_message(stamp_ns: int = T0, **change: object) -> object:
    fields = {
        "header": header(stamp_ns, "front_optical"),
        "height": HEIGHT,
        "width": WIDTH,
        "encoding": "rgb8",
        "is_bigendian": 0,
        "step": 3 * WIDTH,
        "data": array.array("B", bytes(3 * WIDTH * HEIGHT)),
    }
    return message(**{**fields, **change})


def cloud_message(stamp_ns: int = T0, xyz: np.ndarray | None = None, **change: object) -> object:
    xyz = world.points() if xyz is None else xyz
    fields = {
        "header": header(stamp_ns, "lidar"),
        "height": 1,
        "width": len(xyz),
        "fields": [message(name=name, offset=4 * i, datatype=7, count=1) for i, name in enumerate("xyz")],
        "is_bigendian": False,
        "point_step": 12,
        "row_step": 12 * len(xyz),
        "data": xyz.astype("<f4").tobytes(),
        "is_dense": False,
    }
    return message(**{**fields, **change})


def info_message(**change: object) -> object:
    fields = {
        "header": header(T0, "front_optical"),
        "height": HEIGHT,
        "width": WIDTH,
        "distortion_model": "plumb_bob",
        "d": [0.0] * 5,
        "k": world.K.ravel().tolist(),
        "r": np.eye(3).ravel().tolist(),
        "p": np.hstack([world.K, np.zeros((3, 1))]).ravel().tolist(),
        "binning_x": 0,
        "binning_y": 0,
        "roi": message(x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
    }
    return message(**{**fields, **change})


def tf_message(*edges: tuple[str, str, np.ndarray], stamp_ns: int = 0) -> object:
    from seg_perception.geometry.transforms import quat_xyzw_from_matrix

    transforms = []
    for parent, child, T in edges:
        x, y, z, w = quat_xyzw_from_matrix(T)
        move = message(x=T[0, 3], y=T[1, 3], z=T[2, 3])
        turn = message(x=x, y=y, z=z, w=w)
        transforms.append(
            message(
                header=header(stamp_ns, parent),
                child_frame_id=child,
                transform=message(translation=move, rotation=turn),
            )
        )
    return message(transforms=transforms)


GOOD = [ROAD, CAR, UNKNOWN, UNKNOWN]


@pytest.mark.parametrize("begins_ms", [0, -100])
def test_a_sweep_goes_with_the_image_nearest_to_its_middle_wherever_its_driver_stamps_it(begins_ms):
    drive = Drive()
    middle = T0 + (begins_ms + 50) * MS
    for off_ms in (-60, 10):
        drive.intake.image("front", image_message(middle + off_ms * MS))
    xyz = np.tile(world.points()[:2], (50, 1)).astype("<f4")
    times = np.linspace(begins_ms, begins_ms + 100, len(xyz)) * 1e-3
    data = np.hstack([xyz, times.astype("<f4")[:, None]]).tobytes()
    fields = [message(name=name, offset=4 * i, datatype=7, count=1) for i, name in enumerate(["x", "y", "z", "time"])]
    drive.intake.cloud(cloud_message(xyz=xyz, data=data, point_step=16, row_step=16 * len(xyz), fields=fields), 0.0)
    result = drive.intake.next_result(math.inf)
    assert result.report.views["front"].offset_ns == pytest.approx(10 * MS, abs=2 * MS)
    assert result.cloud.scan.stamp_ns == T0


def test_messages_in_labels_out():
    drive = Drive()
    drive.intake.image("front", image_message())
    drive.intake.cloud(cloud_message(), now_s=0.0)
    assert drive.labels() == GOOD
    assert drive.labels() is None
    assert drive.intake.statistics.sweeps_labelled == 1


BAD_INPUT = {
    "truncated cloud": ("cloud", {"data": bytes(30)}, "bad_message"),
    "cloud without y": ("cloud", {"fields": [message(name="x", offset=0, datatype=7, count=1)]}, "bad_message"),
    "cloud with stamp 0": ("cloud", {"header": header(0, "lidar")}, "bad_stamp"),
    "unknown encoding": ("image", {"encoding": "rgb9"}, "bad_message"),
    "truncated image": ("image", {"data": bytes(10)}, "bad_message"),
    "image with stamp 0": ("image", {"header": header(0, "front_optical")}, "bad_stamp"),
    "zero K": ("info", {"k": [0.0] * 9}, "calibration"),
    "unknown lens": ("info", {"distortion_model": "crystal_ball"}, "calibration"),
    "NaN transform": ("tf", {}, "bad_message"),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_counted_and_said_and_the_next_sweep_is_labelled(name):
    what, change, cause = BAD_INPUT[name]
    drive = Drive()
    if what == "cloud":
        drive.intake.cloud(cloud_message(**change), now_s=0.0)
    elif what == "image":
        drive.intake.image("front", image_message(**change))
        drive.intake.cloud(cloud_message(), now_s=0.0)
    elif what == "info":
        drive.intake.camera_info("front", info_message(**change))
    else:
        drive.intake.transforms(tf_message(("odom", "base_link", np.full((4, 4), np.nan)), stamp_ns=T0), static=False)
    while drive.result(math.inf):
        pass
    assert drive.causes[cause] == 1
    assert len(drive.said[cause]) > 20
    drive.intake.image("front", image_message(T0 + S))
    drive.intake.cloud(cloud_message(T0 + S), now_s=1.0)
    assert drive.labels(1.0) == GOOD


def test_a_sweep_whose_image_cannot_be_decoded_is_published_unknown():
    drive = Drive()
    drive.intake.image("front", image_message(encoding="rgb9"))
    drive.intake.cloud(cloud_message(), now_s=0.0)
    assert drive.labels() == [UNKNOWN] * 4


@pytest.mark.parametrize("xyz", [np.zeros((0, 3)), np.full((3, 3), np.nan), np.zeros((3, 3))])
def test_a_cloud_without_points_is_published_and_said(xyz):
    drive = Drive()
    drive.intake.image("front", image_message())
    drive.intake.cloud(cloud_message(xyz=xyz), now_s=0.0)
    assert drive.labels() == [UNKNOWN] * len(xyz)
    assert drive.causes["cloud_without_points"] == 1


def test_a_stopped_camera_never_stops_the_output():
    drive = Drive(pairing={"deadline_ms": 100.0})
    drive.intake.cloud(cloud_message(), now_s=7.0)
    assert drive.labels(7.09) is None
    assert drive.labels(7.11) == [UNKNOWN] * 4
    assert drive.causes["no_image/front"] == 1


def test_a_sweep_waits_for_odometry_that_is_on_its_way_and_no_longer_than_its_deadline():
    for comes in (True, False):
        drive = Drive(pairing={"deadline_ms": 100.0})
        drive.intake.transforms(tf_message(("odom", "base_link", np.eye(4)), stamp_ns=T0 - 10 * MS), static=False)
        drive.intake.image("front", image_message())
        drive.intake.cloud(cloud_message(), now_s=0.0)
        assert drive.labels(0.05) is None
        if comes:
            drive.intake.transforms(tf_message(("odom", "base_link", np.eye(4)), stamp_ns=T0 + 10 * MS), static=False)
        assert drive.labels(0.06 if comes else 0.11) == GOOD
        assert drive.causes.get("motion_assumed_static", 0) == (0 if comes else 1)


def test_a_sweep_that_is_first_looked_at_after_its_deadline_still_gets_the_transform_that_is_about_to_come():
    """As under load: /tf has come to this machine, and waits behind other messages."""
    for comes in (True, False):
        drive = Drive(pairing={"deadline_ms": 100.0})
        drive.intake.transforms(tf_message(("odom", "base_link", np.eye(4)), stamp_ns=T0 - 10 * MS), static=False)
        drive.intake.image("front", image_message())
        drive.intake.cloud(cloud_message(), now_s=0.0)
        assert drive.labels(1.0) is None
        if comes:
            drive.intake.transforms(tf_message(("odom", "base_link", np.eye(4)), stamp_ns=T0 + 10 * MS), static=False)
        assert drive.labels(1.02 if comes else 1.051) == GOOD
        assert drive.causes == {"tf_awaited": 1, **({} if comes else {"motion_assumed_static": 1})}


def test_a_camera_without_a_place_yet_is_waited_for_at_first_and_later_costs_itself():
    drive = Drive(cameras=["front", "rear"])
    drive.intake.camera_info("rear", info_message(header=header(T0, "rear_optical")))
    rear = {"header": header(T0, "rear_optical")}
    drive.intake.image("front", image_message())
    drive.intake.image("rear", image_message(**rear))
    drive.intake.cloud(cloud_message(), now_s=0.0)
    assert drive.result(0.0) is None
    place = ("lidar", "rear_optical", world.T_LIDAR_CAMERA)
    drive.intake.transforms(tf_message(place), static=True)
    result = drive.result(0.1)
    assert result.report.views["rear"].painted + result.report.views["front"].painted == 2
    assert drive.causes == {"tf_awaited": 1, "motion_assumed_static": 1}
    for name in ("front", "rear"):
        drive.intake.image(name, image_message(T0 + 3 * S, header=header(T0 + 3 * S, "nowhere")))
    drive.intake.cloud(cloud_message(T0 + 3 * S), now_s=3.0)
    assert drive.labels(3.0) == [UNKNOWN] * 4
    assert drive.causes["tf_unknown_frame/rear"] == 1


def test_the_cameras_offset_shifts_pairing_and_projection():
    drive = Drive(camera={"front": {"offset_ms": 200.0}})
    drive.intake.image("front", image_message(T0 - 200 * MS))
    drive.intake.cloud(cloud_message(), now_s=0.0)
    result = drive.result(0.0)
    assert result.cloud.class_id.tolist() == GOOD
    assert result.report.views["front"].offset_ns == 0


def test_a_bag_that_starts_over_is_followed():
    """The first sweep of the second round waits for the second to bear it out."""
    drive, went = Drive(), []
    for i in range(6):
        stamp = T0 + i % 3 * S
        drive.intake.image("front", image_message(stamp))
        drive.intake.cloud(cloud_message(stamp), now_s=float(i))
        while (labels := drive.labels(float(i))) is not None:
            assert labels == GOOD
            went.append(i)
    assert went == [0, 1, 2, 4, 4, 5]
    assert drive.causes["time_jump"] == 1
    assert drive.intake.statistics.sweeps_labelled == 6


def test_a_bag_that_starts_over_forgets_the_transforms_and_the_sweep_of_its_first_run():
    drive = Drive(pairing={"deadline_ms": 100.0})
    drive.intake.transforms(tf_message(("odom", "base_link", np.eye(4)), stamp_ns=T0 + S), static=False)
    drive.intake.image("front", image_message(T0 + 2 * S))
    drive.intake.cloud(cloud_message(T0 + 2 * S), now_s=0.0)
    assert drive.labels(0.0) is None  # held, because its odometry is on the way
    for stamp in (T0, T0 + 100 * MS):
        drive.intake.image("front", image_message(stamp))
        drive.intake.cloud(cloud_message(stamp), now_s=0.0)
    assert drive.causes["time_jump"] == 1
    assert [edge.samples for edge in drive.intake.tree.edges() if not edge.static] == [0]
    result = drive.result(0.0)
    assert result.cloud.scan.stamp_ns == T0
    assert drive.causes["sweep_cleared"] == 1


def test_transforms_that_came_since_the_clock_jumped_back_hold_and_those_before_it_do_not():
    drive = Drive()

    def odometry(*stamps_ns):
        for stamp_ns in stamps_ns:
            edge = ("odom", "base_link", np.eye(4))
            drive.intake.transforms(tf_message(edge, stamp_ns=stamp_ns), static=False)

    far = 60 * S
    odometry(T0 + far, T0 + far + 100 * MS)
    drive.intake.cloud(cloud_message(T0 + far), now_s=0.0)
    odometry(T0, T0 + 50 * MS)
    drive.intake.cloud(cloud_message(T0), now_s=0.1)
    odometry(T0 + 100 * MS, T0 + 150 * MS)
    drive.intake.cloud(cloud_message(T0 + 100 * MS), now_s=0.2)
    assert drive.causes["time_jump"] == 1
    (span,) = [edge for edge in drive.intake.tree.edges() if not edge.static]
    assert (span.samples, span.oldest_ns, span.newest_ns) == (4, T0, T0 + 150 * MS)
    motions = [drive.result(9.0).report.motion for _ in range(2)]
    assert motions == ["per_sweep", "per_sweep"]


def test_a_camera_info_of_another_frame_than_its_images_is_said():
    drive = Drive()
    drive.intake.camera_info("front", info_message(header=header(T0, "other_optical")))
    drive.intake.image("front", image_message())
    drive.intake.cloud(cloud_message(), now_s=0.0)
    assert drive.labels() == GOOD
    assert "other_optical" in drive.said["frame_mismatch/front"]


def test_a_camera_that_sees_none_of_the_points_is_said():
    drive = Drive(camera={"front": {"frame_id": "lidar"}})  # not an optical frame: it looks at the sky
    drive.intake.image("front", image_message())
    drive.intake.cloud(cloud_message(), now_s=0.0)
    assert drive.labels() == [UNKNOWN] * 4
    assert "optical" in drive.said["nothing_in_view/front"]


def test_a_camera_that_part_of_a_turn_leaves_out_is_not_suspected():
    drive = Drive()
    behind = np.float32([[-10.0, y, 0.0] for y in range(4)])
    for k, xyz in enumerate([world.points(), behind, behind]):
        stamp_ns = T0 + k * 25 * MS
        drive.intake.image("front", image_message(stamp_ns))
        drive.intake.cloud(cloud_message(stamp_ns, xyz), now_s=0.0)
        drive.result()
    assert drive.intake.statistics.sweeps_out == 3
    assert "nothing_in_view/front" not in drive.causes


def test_a_repeated_camera_info_is_taken_once_and_a_changed_one_again():
    drive = Drive()
    first = drive.intake.pipeline._cameras["front"]
    drive.intake.camera_info("front", info_message(header=header(T0 + S, "front_optical")))
    assert drive.intake.pipeline._cameras["front"] is first
    drive.intake.camera_info("front", info_message(width=WIDTH + 1))
    assert drive.intake.pipeline._cameras["front"].width == WIDTH + 1


def test_every_image_is_segmented_without_waiting_for_a_sweep_and_once_only():
    drive = Drive(camera={"front": {"segment": "every"}})
    drive.intake.image("front", image_message(T0))
    picture = drive.intake.next_picture()
    assert (picture.image.camera, picture.image.stamp_ns) == ("front", T0)
    assert picture.segmentation.label_image()[50, 0] == ROAD
    assert drive.intake.next_picture() is None
    drive.intake.cloud(cloud_message(T0), now_s=0.0)
    assert drive.labels() == GOOD
    assert drive.intake.pipeline.networks["front"].segmenter.calls == 1
    assert "segment_image" in drive.intake.statistics.latency_ms()


def test_an_image_that_a_sweep_will_take_goes_through_the_network_before_the_sweep_comes():
    drive, ahead = Drive(), 0
    for i in range(8):
        stamp_ns = T0 + i * 100 * MS
        drive.intake.image("front", image_message(stamp_ns))
        drive.intake.image("front", image_message(stamp_ns + 50 * MS))  # which no sweep takes
        assert drive.intake.next_picture() is None  # it is nobody's to draw yet
        ahead = drive.network.calls
        drive.intake.cloud(cloud_message(stamp_ns), now_s=0.1 * i)
        assert drive.labels(0.1 * i) == GOOD
    assert ahead == drive.network.calls == 8
    assert len(drive.intake.statistics.latency_ms()["segment_image"]) == 2


def test_images_of_a_network_that_takes_several_wait_to_go_together():
    drive = Drive(batch=2)
    for i in range(8):
        drive.intake.image("front", image_message(T0 + i * 100 * MS))
        assert drive.intake.next_picture() is None
        assert drive.network.calls == i
        drive.intake.cloud(cloud_message(T0 + i * 100 * MS), now_s=0.1 * i)
        drive.labels(0.1 * i)


def test_an_image_of_the_sweep_at_hand_may_be_segmented_by_another_thread_meanwhile():
    drive = Drive()
    threads: list[str] = []
    segment = drive.network.segment

    def noted(pixels: np.ndarray) -> object:
        threads.append(threading.current_thread().name)
        return segment(pixels)

    drive.network.segment = noted

    def picture_due() -> None:
        pictures = threading.Thread(target=drive.intake.next_picture, name="pictures")
        pictures.start()
        pictures.join()

    drive.intake.on_picture_due = picture_due
    drive.intake.image("front", image_message())
    drive.intake.cloud(cloud_message(), now_s=0.0)
    assert drive.labels() == GOOD
    assert threads == ["pictures"]
    assert drive.intake.next_picture() is None


def test_an_image_seen_ahead_that_cannot_be_used_is_refused_then_and_once():
    drive = Drive()
    for i in range(8):
        stamp_ns = T0 + i * 100 * MS
        drive.intake.image("front", image_message(stamp_ns, encoding="rgb8" if i < 6 else "rgb9"))
        assert drive.intake.next_picture() is None
        assert drive.causes.get("bad_message", 0) == max(i - 5, 0)
        drive.intake.cloud(cloud_message(stamp_ns), now_s=0.1 * i)
        drive.labels(0.1 * i)
    assert drive.causes["bad_message"] == 2


def test_a_sweep_waits_for_a_picture_that_another_thread_has_in_hand_and_it_goes_through_once():
    drive = Drive(camera={"front": {"segment": "every"}})
    begun, may_end = threading.Event(), threading.Event()
    segment = drive.network.segment

    def slow(pixels: np.ndarray) -> object:
        begun.set()
        assert may_end.wait(10.0)
        return segment(pixels)

    drive.network.segment = slow
    drive.intake.image("front", image_message())
    pictures = threading.Thread(target=drive.intake.next_picture)
    pictures.start()
    assert begun.wait(10.0)
    drive.intake.cloud(cloud_message(), now_s=0.0)
    threading.Timer(0.05, may_end.set).start()
    assert drive.labels() == GOOD
    pictures.join()
    assert drive.network.calls == 1


def test_of_images_that_come_too_fast_the_newest_is_segmented_and_the_others_are_counted():
    drive = Drive(camera={"front": {"segment": "every"}})
    for i in range(3):
        drive.intake.image("front", image_message(T0 + i * 30 * MS))
    assert drive.intake.next_picture().image.stamp_ns == T0 + 60 * MS
    assert drive.intake.next_picture() is None
    assert drive.causes["image_overload"] == 2


def test_an_image_that_cannot_be_decoded_costs_itself():
    drive = Drive(camera={"front": {"segment": "every"}})
    drive.intake.image("front", image_message(encoding="rgb9"))
    assert drive.intake.next_picture() is None
    assert drive.causes["bad_message"] == 1
    drive.intake.cloud(cloud_message(), now_s=0.0)
    assert drive.labels(1.0) == [UNKNOWN] * 4
    assert drive.causes["bad_message"] == 1


@pytest.mark.parametrize("segment", ["every", "paired"])
def test_a_picture_that_the_network_cannot_take_is_counted_once(segment):
    drive = Drive(camera={"front": {"segment": segment}}, lidars=["top", "left"])

    def fail(_: np.ndarray) -> object:
        raise ModelError("no picture of mine")

    drive.network.segment = fail
    for i in range(3):
        stamp_ns = T0 + i * 100 * MS
        drive.intake.image("front", image_message(stamp_ns))
        assert drive.intake.next_picture() is None
        for lidar in ("top", "left"):
            drive.intake.cloud(cloud_message(stamp_ns), 0.1 * i, lidar)
            assert drive.labels(0.1 * i + 1.0) == [UNKNOWN] * 4
    assert {cause: count for cause, count in drive.causes.items() if "model" in cause} == {"model/front": 3}
    assert "no picture of mine" in drive.said["model/front"]


def test_images_wait_for_their_sweep_unless_told_otherwise():
    drive = Drive()
    drive.intake.image("front", image_message())
    assert drive.intake.next_picture() is None


def test_images_above_the_rate_are_used_for_nothing_and_counted():
    drive = Drive(camera={"front": {"segment": "max_rate", "max_rate_hz": 10.0}})
    taken = []
    for i in range(9):
        drive.intake.image("front", image_message(T0 + round(i * 1e9 / 30)))
        picture = drive.intake.next_picture()
        taken += [i] if picture else []
    assert taken == [0, 3, 6]
    assert drive.causes["image_over_rate"] == 6
    drive.intake.cloud(cloud_message(T0 + 34 * MS), now_s=0.0)
    assert drive.result(1.0).images["front"].stamp_ns == T0


def test_only_while_a_sweep_waits_can_a_message_make_one_ready():
    drive = Drive()
    drive.intake.image("front", image_message())
    assert not drive.intake.sweeps_wait
    drive.intake.cloud(cloud_message(T0 + 30 * MS), now_s=0.0)
    assert drive.result(0.0) is None  # a nearer image may come
    assert drive.intake.sweeps_wait
    assert drive.result(1.0) is not None
    assert drive.result(1.0) is None
    assert not drive.intake.sweeps_wait


def test_nobody_is_called_to_segment_what_went_through_the_network_already():
    drive, called = Drive(camera={"front": {"segment": "every"}}), []
    for stamp_ns, ahead in ((T0, True), (T0 + 100 * MS, False)):
        drive.intake.on_picture_due = lambda: None
        drive.intake.image("front", image_message(stamp_ns))
        if ahead:
            assert drive.intake.next_picture() is not None
        drive.intake.on_picture_due = partial(called.append, stamp_ns)
        drive.intake.cloud(cloud_message(stamp_ns), now_s=0.0)
        assert drive.labels() == GOOD
    assert called == [T0 + 100 * MS]


def test_a_calibration_file_stands_for_the_camera_info(tmp_path):
    path = tmp_path / "front.yaml"
    matrix = {"camera_matrix": world.K, "rectification_matrix": np.eye(3), "projection_matrix": np.eye(3, 4)}
    content = {name: {"data": value.ravel().tolist()} for name, value in matrix.items()}
    content |= {"image_width": WIDTH, "image_height": HEIGHT}
    content |= {"distortion_model": "plumb_bob", "distortion_coefficients": {"data": [0.0] * 5}}
    path.write_text(yaml.safe_dump(content))
    drive = Drive(camera={"front": {"calibration": str(path)}})
    drive.intake.camera_info("front", info_message(width=WIDTH + 1))
    drive.intake.image("front", image_message())
    drive.intake.cloud(cloud_message(), now_s=0.0)
    assert drive.labels() == GOOD


def test_a_picture_that_does_not_fit_its_crop_is_said_and_the_sweep_goes_on():
    drive = Drive(camera={"front": {"crop": "300x50+0+0"}})
    drive.intake.image("front", image_message())
    drive.intake.cloud(cloud_message(), now_s=0.0)
    assert drive.labels() == [UNKNOWN] * 4
    assert "too small for its crop" in drive.said["bad_message/front"]


def test_how_hidden_points_are_found_may_change_while_it_runs():
    drive, labels = Drive(), []
    one_ray = np.array([[5.0, -1.0, 0.0], [19.1, -4.0, 0.6]], np.float32)  # of the camera
    for k, method in enumerate(("patches", "none", "patches")):
        drive.intake.reconfigure(world.config(visibility={"method": method}))
        stamp = T0 + k * 100 * MS
        drive.intake.image("front", image_message(stamp))
        drive.intake.cloud(cloud_message(stamp, one_ray), now_s=0.1 * k)
        labels.append(drive.labels(0.1 * k))
    assert labels == [[CAR, UNKNOWN], [CAR, CAR], [CAR, UNKNOWN]]


def test_live_settings_count_from_the_next_sweep_on():
    drive = Drive()
    for stamp, window_ms, expected in ((T0, 10.0, [UNKNOWN] * 4), (T0 + S, 80.0, GOOD)):
        changed = world.config(pairing={"window_ms": window_ms})
        drive.intake.reconfigure(changed)
        drive.intake.image("front", image_message(stamp + 50 * MS))
        drive.intake.cloud(cloud_message(stamp), now_s=(stamp - T0) / S)
        assert drive.labels(1.0) == expected
        assert drive.intake.pipeline.config is changed


LIDARS = {"lidars": ["top", "left"]}


def test_each_lidar_is_labelled_by_itself_with_the_same_image():
    drive = Drive(motion={"mode": "static"}, **LIDARS)
    drive.intake.image("front", image_message())
    for lidar in ("top", "left"):
        drive.intake.cloud(cloud_message(), 0.0, lidar)
    results = [drive.result(0.0) for _ in range(2)]
    assert {result.cloud.scan.lidar for result in results} == {"top", "left"}
    assert [result.cloud.class_id.tolist() for result in results] == [GOOD, GOOD]
    assert drive.intake.statistics.sweeps_in == 2
    assert drive.causes == {}


def test_a_lidar_whose_sweep_waits_for_tf_holds_up_no_other():
    drive = Drive(**LIDARS)
    drive.intake.transforms(tf_message(("odom", "base_link", np.eye(4)), stamp_ns=T0 - S), static=False)
    drive.intake.transforms(tf_message(("odom", "base_link", np.eye(4)), stamp_ns=T0), static=False)
    for stamp in (T0, T0 + 100 * MS):
        drive.intake.image("front", image_message(stamp))
    drive.intake.cloud(cloud_message(T0 + S), 0.0, "left")
    assert drive.result(0.0) is None
    drive.intake.cloud(cloud_message(T0), 0.01, "top")
    assert drive.result(0.01).cloud.scan.lidar == "top"
    assert drive.result(0.01) is None
    assert drive.result(1.0) is None  # only now it is looked at, so /tf gets its grace
    assert drive.result(1.06).cloud.scan.lidar == "left"


def test_a_cloud_stamped_far_from_the_images_of_all_cameras_is_named():
    drive = Drive(cameras=["front", "rear"], **LIDARS)
    for camera in ("front", "rear"):
        drive.intake.image(camera, image_message())
    drive.intake.cloud(cloud_message(T0 - 5 * S), 0.0, "left")
    assert drive.labels(1.0) == [UNKNOWN] * 4
    assert drive.causes["cloud_stamp_far_off/left"] == 1
    assert "/left/points" in drive.said["cloud_stamp_far_off/left"]
    assert drive.causes["stamp_far_off/front"] == drive.causes["stamp_far_off/rear"] == 1
    assert "LiDAR 'left'" in drive.said["stamp_far_off/front"]


def test_an_intake_that_is_let_go_frees_its_scene_at_once():
    gc.collect()
    gc.disable()
    try:
        drive = Drive(voxel_map={"enabled": True, "capacity": 1 << 12})
        drive.intake.image("front", image_message())
        drive.intake.cloud(cloud_message(), now_s=0.0)
        assert drive.labels() == GOOD
        scene = weakref.ref(drive.intake.scene)
        del drive
        assert scene() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(("bits", "told"), [(16, 1), (12, 0)])
def test_a_picture_of_twelve_bits_in_sixteen_is_told_until_the_settings_say_so(bits, told):
    drive = Drive(camera={"front": {"sample_bits": bits}})
    samples = np.full(WIDTH * HEIGHT, 4000, "<u2").tobytes()
    drive.intake.image("front", image_message(encoding="mono16", step=2 * WIDTH, data=samples))
    drive.intake.cloud(cloud_message(), 0.0)
    result = drive.intake.next_result(math.inf)
    assert drive.causes.get("unused_bits/front", 0) == told
    assert int(result.images["front"].pixels[0, 0, 0]) == 4000 >> bits - 8
    assert ("camera.front.sample_bits" in drive.said.get("unused_bits/front", "")) == bool(told)


def test_shares_are_of_the_points_that_came_back():
    drive = Drive()
    drive.intake.image("front", image_message())
    drive.intake.cloud(cloud_message(), 0.0)
    assert len(drive.intake.remember(drive.intake.next_result(math.inf)).cloud) == 4
    summary = drive.intake.statistics.summary(())
    assert (summary["points"], summary["points_labelled"]) == (3, 2)
    assert summary["points_of_camera"]["front"] == {
        "in_view": 2, "visible": 2, "behind_windows": 0, "doubted": 0, "painted": 2
    }  # fmt: skip
    assert any("front" in line and "2 points in view: 100.0 % seen" in line for line in summary_lines(summary))
