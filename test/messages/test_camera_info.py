"""A CameraInfo becomes a record that says whether the camera changed, and the camera itself."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from seg_perception.errors import CalibrationError
from seg_perception.messages.camera_info import camera_info_fields, camera_model, decode_camera_info

K = (500.0, 0.0, 320.0, 0.0, 510.0, 240.0, 0.0, 0.0, 1.0)
P = (400.0, 0.0, 300.0, -40.0, 0.0, 400.0, 200.0, 0.0, 0.0, 0.0, 1.0, 0.0)
AHEAD = np.array([[0.0, 0.0, 10.0]])


@pytest.fixture
def info_msg(header) -> Callable[..., SimpleNamespace]:
    """info_msg(**changes) -> sensor_msgs/CameraInfo of a 640 x 480 camera."""

    def make(**changes: Any) -> SimpleNamespace:
        fields = {
            "header": header(5, "front_optical"),
            "width": 640,
            "height": 480,
            "distortion_model": "plumb_bob",
            "d": [0.0] * 5,
            "k": np.array(K),
            "r": np.eye(3).reshape(-1),
            "p": np.array(P),
            "binning_x": 0,
            "binning_y": 0,
            "roi": SimpleNamespace(x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
        }
        return SimpleNamespace(**{**fields, **changes})

    return make


def test_fields_are_kept(info_msg) -> None:
    record = decode_camera_info(info_msg(d=[0.1, 0.2, 0.0, 0.0, 0.5], binning_x=2))
    assert (record.frame_id, record.stamp_ns) == ("front_optical", 5)
    assert (record.width, record.height, record.binning_x, record.binning_y) == (640, 480, 2, 0)
    assert record.d == (0.1, 0.2, 0.0, 0.0, 0.5)
    assert record.k == K
    assert record.p == P


def test_calibration_without_a_stamp_is_read(info_msg, header) -> None:
    assert decode_camera_info(info_msg(header=header(0))).stamp_ns == 0


def test_camera_is_the_same_while_only_the_stamp_differs(info_msg, header) -> None:
    record = decode_camera_info(info_msg())
    assert decode_camera_info(info_msg(header=header(9, "front_optical"), k=list(K))).same_camera(record)
    assert not record.same_camera(None)


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 641},
        {"k": np.array(K) + 1e-9},
        {"d": [0.0] * 4},
        {"distortion_model": "equidistant"},
        {"binning_y": 2},
        {"roi": SimpleNamespace(x_offset=1, y_offset=0, height=0, width=0, do_rectify=False)},
    ],
)
def test_camera_is_another_when_anything_else_differs(info_msg, changes: dict) -> None:
    assert not decode_camera_info(info_msg(**changes)).same_camera(decode_camera_info(info_msg()))


def test_raw_image_is_projected_by_k_and_rectified_by_p(info_msg) -> None:
    record = decode_camera_info(info_msg())
    raw, _ = camera_model(record, rectified=False).project(AHEAD)
    rectified, _ = camera_model(record, rectified=True).project(AHEAD)
    assert raw[0].tolist() == [320.0, 240.0]
    assert rectified[0].tolist() == [296.0, 200.0]


def test_region_of_interest_and_binning_reach_the_camera(info_msg) -> None:
    roi = SimpleNamespace(x_offset=100, y_offset=40, height=400, width=400, do_rectify=False)
    model = camera_model(decode_camera_info(info_msg(roi=roi, binning_x=2, binning_y=2)), rectified=False)
    assert (model.width, model.height) == (200, 200)


def test_image_of_another_size_is_refused(info_msg) -> None:
    record = decode_camera_info(info_msg())
    camera_model(record, rectified=False, image_size=(640, 480))
    with pytest.raises(CalibrationError, match="1280 x 720"):
        camera_model(record, rectified=False, image_size=(1280, 720))


def test_uncalibrated_camera_is_refused_by_name(info_msg) -> None:
    with pytest.raises(CalibrationError, match="CameraInfo of front"):
        camera_model(decode_camera_info(info_msg(k=np.zeros(9))), rectified=False, name="front")


def test_fields_written_are_the_fields_read(info_msg) -> None:
    record = decode_camera_info(info_msg(d=[0.1, 0.2, 0.0, 0.0, 0.5]))
    fields = camera_info_fields(record)
    header = SimpleNamespace(stamp=SimpleNamespace(**fields["header"]["stamp"]), frame_id=fields["header"]["frame_id"])
    again = SimpleNamespace(**{**fields, "header": header, "roi": SimpleNamespace(**fields["roi"])})
    assert decode_camera_info(again) == record
