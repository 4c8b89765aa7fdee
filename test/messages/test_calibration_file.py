"""Calibration files: what camera_calibration writes is the camera that its CameraInfo would be."""

import pytest
import yaml

from seg_perception.config import CameraConfig
from seg_perception.errors import CalibrationError
from seg_perception.messages.calibration_file import calibration_of, load_calibration

WRITTEN = """\
image_width: 640
image_height: 480
camera_name: narrow_stereo
camera_matrix:
  rows: 3
  cols: 3
  data: [500.5, 0, 319.5, 0, 501.5, 239.5, 0, 0, 1]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [-0.3, 0.1, 0.001, -0.002, 0]
rectification_matrix:
  rows: 3
  cols: 3
  data: [1, 0, 0, 0, 1, 0, 0, 0, 1]
projection_matrix:
  rows: 3
  cols: 4
  data: [480.0, 0, 320.5, 0, 0, 481.0, 240.5, 0, 0, 0, 1, 0]
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "camera.yaml"

    def write(**change):
        content = {**yaml.safe_load(WRITTEN), **change}
        path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
        return path

    return write


def test_a_calibration_file_is_read_as_the_camera_it_describes(tmp_path):
    path = tmp_path / "camera.yaml"
    path.write_text(WRITTEN)
    raw = calibration_of(CameraConfig("front", calibration=str(path)))
    assert (raw.width, raw.height, raw.model) == (640, 480, "plumb_bob")
    assert raw.K.diagonal().tolist() == [500.5, 501.5, 1.0]
    assert raw.D.tolist() == [-0.3, 0.1, 0.001, -0.002, 0.0]
    rectified = calibration_of(CameraConfig("front", calibration=str(path), rectified=True))
    assert rectified.K.diagonal().tolist() == [480.0, 481.0, 1.0]


def test_no_file_is_no_calibration():
    assert calibration_of(CameraConfig("front")) is None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"image_width": None}, "image_width"),
        ({"image_height": "480"}, "image_height"),
        ({"distortion_model": None}, "distortion_model"),
        ({"camera_matrix": [500.0] * 9}, "camera_matrix"),
        ({"camera_matrix": {"data": [500.0] * 8}}, "9 numbers wanted, 8 seen"),
        ({"projection_matrix": {"data": ["a"] * 12}}, "projection_matrix"),
    ],
)
def test_what_is_missing_or_wrong_is_named(file, change, named):
    with pytest.raises(CalibrationError, match=named):
        load_calibration(file(**change))


def test_a_lens_that_cannot_be_names_the_camera_and_the_file(file):
    path = file(distortion_model="crystal_ball")
    with pytest.raises(CalibrationError, match=r"camera 'front'.*camera.yaml"):
        calibration_of(CameraConfig("front", calibration=str(path)))


@pytest.mark.parametrize("content", [None, "[1, 2]", "{"])
def test_a_file_that_is_not_there_or_none_is_refused(tmp_path, content):
    path = tmp_path / "camera.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CalibrationError, match=r"camera.yaml"):
        load_calibration(path)
