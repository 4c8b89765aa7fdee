"""What the node says of itself: problems once with a throttle, levels by what happened lately, figures to read back."""

import logging

import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticStatus

from seg_perception.config import DiagnosticsConfig
from seg_perception.datatypes import ViewReport
from seg_perception.inference.nvml import GpuState
from seg_perception.ros.diagnostics import CameraState, InputState, Observation, figures, flatten, statuses, unflatten
from seg_perception.ros.problems import SILENCE_S, THROTTLE_S, ProblemLog, SilenceLog
from seg_perception.statistics import RunStatistics

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


def observation(at_s=0.0, sweeps_in=0, labelled=0, causes=None, images=0, infos=1, last=None, **more):
    statistics = RunStatistics()
    statistics.sweeps_in, statistics.sweeps_out, statistics.sweeps_labelled = sweeps_in, labelled, labelled
    statistics.causes.update(causes or {})
    cameras = {"front": CameraState(images, infos, last)}
    more.setdefault("transforms", {"lidar": "base_link -> lidar: static"})
    return Observation(at_s, statistics.summary(()), cameras, **more)


def levels(before, now):
    return {status.name.partition(": ")[2]: status.level for status in statuses("node", before, now)}


def test_all_is_well_while_sweeps_come_and_are_labelled():
    now = observation(1.0, sweeps_in=10, labelled=10, images=10, last=ViewReport(offset_ns=-3_000_000))
    assert set(levels(observation(), now).values()) == {OK}
    sweeps, camera, *_ = statuses("node", observation(), now)
    assert sweeps.message == "10 sweeps labelled"
    assert {"images_in_hz": "10.000", "offset_ms": "-3.000"}.items() <= {v.key: v.value for v in camera.values}.items()


def test_what_each_camera_sees_and_what_hid_the_rest_is_told():
    counts = {"in_view": 90, "behind_windows": 8, "near_outlines": 30, "doubted": 6, "visible": 70, "painted": 60}
    _, camera, *_ = statuses("node", observation(), observation(1.0, images=10, last=ViewReport(**counts)))
    assert counts.items() <= {v.key: int(v.value) for v in camera.values if v.value.isdecimal()}.items()


def test_nothing_coming_in_is_a_warning():
    assert levels(observation(), observation(1.0)) == {
        "sweeps": WARN,
        "camera front": WARN,
        "transforms": OK,
        "inference": OK,
        "inputs": OK,
    }


def test_sweeps_without_any_label_are_an_error_that_names_the_causes():
    now = observation(1.0, sweeps_in=10, causes={"tf_unknown_frame/front": 10}, images=10)
    sweeps, camera, transforms, *_ = statuses("node", observation(), now)
    assert sweeps.level == ERROR
    assert "tf_unknown_frame/front 10" in sweeps.message
    assert camera.level == WARN
    assert "tf_unknown_frame 10" in camera.message
    assert transforms.level == WARN


def test_some_drops_are_a_warning_and_past_ones_are_forgiven():
    before = observation(0.0, causes={"bad_message": 3})
    now = observation(1.0, sweeps_in=10, labelled=9, causes={"bad_message": 4}, images=10)
    later = observation(2.0, sweeps_in=20, labelled=19, causes={"bad_message": 4}, images=20)
    assert levels(before, now)["sweeps"] == WARN
    assert levels(now, later)["sweeps"] == OK


def test_an_image_that_no_sweep_needed_is_counted_and_no_warning():
    now = observation(1.0, sweeps_in=10, labelled=10, causes={"image_unused": 20}, images=30)
    assert levels(observation(), now)["sweeps"] == OK


def test_assuming_that_nothing_moved_shows_in_the_transforms():
    now = observation(1.0, sweeps_in=1, labelled=1, images=1, motion="static", motion_fallback="no odom")
    assert levels(observation(), now)["transforms"] == WARN


def test_a_camera_without_calibration_says_so():
    _, camera, *_ = statuses("node", observation(infos=0), observation(1.0, images=10, infos=0))
    assert (camera.level, camera.message) == (WARN, "no CameraInfo came")


def judged(now, **limits):
    """Part → level and message, under these limits."""
    found = statuses("node", observation(), now, DiagnosticsConfig(**limits))
    return {status.name.partition(": ")[2]: (status.level, status.message) for status in found}


def test_an_input_that_fell_silent_is_named_with_its_age():
    ages = {"/points": (7.0, "lidar"), "/front/image_raw": (2.0, "image"), "/camera_info": (60.0, "")}
    inputs = {topic: InputState(age_s, kind=kind) for topic, (age_s, kind) in ages.items()}
    level, message = judged(observation(1.0, inputs=inputs), input_age_warn_s=1.0, input_age_error_s=5.0)["inputs"]
    assert level == ERROR
    assert message == "age_s of /points is 7, below 5 wanted; age_s of /front/image_raw is 2, below 1 wanted"
    assert judged(observation(1.0, inputs=inputs), input_age_warn_s=0.0, input_age_error_s=0.0)["inputs"][0] == OK


def test_stamps_far_from_those_of_the_lidar_are_named_wherever_the_clock_of_the_node_stands():
    for clock_s in (0.0, -1e8):
        ahead = {"/points": clock_s, "/front/image_raw": clock_s + 3600.0, "/rear/image_raw": clock_s - 0.1}
        inputs = {topic: InputState(0.0, s, "lidar" if topic == "/points" else "image") for topic, s in ahead.items()}
        level, message = judged(observation(1.0, inputs=inputs))["inputs"]
        assert level == ERROR
        assert message.startswith("stamp of /front/image_raw, seconds from the LiDAR's, is 3600")
        assert "rear" not in message


def test_stamps_that_the_cameras_offset_puts_right_are_no_fault():
    inputs = {"/points": InputState(0.0, 0.0, "lidar"), "/front/image_raw": InputState(0.0, -2.0, "image", 2.0)}
    assert judged(observation(1.0, inputs=inputs))["inputs"] == (OK, "all heard")


def test_figures_beyond_their_limits_raise_the_level():
    last = ViewReport(offset_ns=-30_000_000)
    now = observation(1.0, sweeps_in=10, labelled=10, images=10, last=last)
    now.summary["latency_ms"]["total"] = {"median": 40.0, "p99": 90.0}
    now.summary.update(points=100, points_labelled=30)
    found = judged(now, residual_warn_ms=20.0, residual_error_ms=50.0)
    assert found["camera front"] == (WARN, "offset_ms is 30, below 20 wanted")
    assert judged(now)["sweeps"][0] == OK
    assert judged(now, latency_warn_ms=50.0, latency_error_ms=80.0)["sweeps"][0] == ERROR
    assert judged(now, coverage_warn=0.5, coverage_error=0.2)["sweeps"][0] == WARN
    level, message = judged(now, rate_warn_hz=20.0, rate_error_hz=15.0)["sweeps"]
    assert (level, message) == (ERROR, "10 sweeps labelled; sweeps_out_hz is 10, at least 15 wanted")


def test_a_hot_or_full_gpu_is_told_and_what_cannot_be_read_is_left_out():
    gpus = [GpuState("H", 95 << 20, 100 << 20, 96), GpuState("Orin", None, None, None)]
    level, message = judged(observation(1.0, gpus=gpus))["inference"]
    assert level == ERROR
    assert (
        message
        == "gpu0.temperature_c is 96, below 95 wanted; gpu0 memory in use, as a share, is 0.95, below 0.9 wanted"
    )
    values = {v.key: v.value for v in statuses("node", observation(), observation(1.0, gpus=gpus))[3].values}
    assert values == {
        "gpu0.name": "H",
        "gpu0.temperature_c": "96",
        "gpu0.memory_used_mib": "95",
        "gpu0.memory_total_mib": "100",
        "gpu1.name": "Orin",
    }


def test_what_can_be_plotted_is_numbers_by_name():
    inputs = {"/points": InputState(0.25)}
    now = observation(2.0, sweeps_in=10, labelled=10, last=ViewReport(offset_ns=-3_000_000), inputs=inputs)
    numbers = figures(observation(), now)
    assert numbers["sweeps_in_hz"] == 5.0
    assert numbers["age_s/points"] == 0.25
    assert numbers["residual_ms.front"] == -3.0
    assert list(numbers) == sorted(numbers)


def test_the_summary_reads_back_as_it_was():
    statistics = RunStatistics()
    statistics.sweeps_in = 7
    statistics.count("bad_message/front", 3)
    statistics.points_by_class[:2] = 5, 6
    statistics.add_seconds("paint", 0.25)
    statistics.points_of_camera["front"]["in_view"] = 4
    summary = statistics.summary(("road", "traffic. light"))
    status = statuses("node", observation(), Observation(1.0, summary, {}, {"bad_message/front": "why"}))[0]
    read = unflatten(status.values)
    assert {key: read[key] for key in summary} == summary


def test_flat_keys_are_what_a_person_reads():
    assert flatten({"latency_ms": {"paint": {"p99": 1.5}}, "points": 3}) == {
        "latency_ms.paint.p99": "1.500",
        "points": "3",
    }


def test_a_problem_is_said_once_in_a_while_and_the_rest_is_counted(caplog):
    now = [0.0]
    problems = ProblemLog(lambda: now[0])
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            problems("bad_message", "image: no such encoding")
        problems("bad_stamp", "cloud: stamp 0")
        now[0] = THROTTLE_S
        problems("bad_message", "image: too short")
    assert caplog.messages == [
        "bad_message: image: no such encoding",
        "bad_stamp: cloud: stamp 0",
        "bad_message: image: too short (2 more since this was last said)",
    ]
    assert problems.last_words == {"bad_message": "image: too short", "bad_stamp": "cloud: stamp 0"}


def test_what_is_only_counted_is_said_when_the_count_rises(caplog):
    problems = ProblemLog(lambda: 0.0)
    with caplog.at_level(logging.WARNING):
        problems.risen({"sweep_overload": 1}, {"sweep_overload": 1, "image_unused": 5})
        assert caplog.messages == []
        problems.risen({}, {"sweep_overload": 1})
    assert caplog.messages[0].startswith("sweep_overload: sweeps come faster")


def test_a_topic_that_falls_silent_is_named_once_and_again_when_it_is_heard(caplog):
    now = [0.0]
    silences = SilenceLog(lambda: now[0])
    silences.expect("/points")
    silences.expect("/image")
    silences.heard("/tf_static")  # said once and for all: nobody expects it to go on
    with caplog.at_level(logging.INFO):
        for now[0] in (SILENCE_S - 0.1, SILENCE_S, 2 * SILENCE_S):
            silences.heard("/image")
            silences.check(lambda topic: 0)
        assert caplog.messages == ["/points: no message for 5 s; nobody publishes it; is the topic right?"]
        silences.heard("/points")
    assert caplog.messages[1:] == ["/points: messages come again"]
