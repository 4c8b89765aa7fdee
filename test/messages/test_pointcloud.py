"""Any layout of a point cloud gives the same points, and every byte of it goes out again."""

from __future__ import annotations

import array
import warnings
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_perception.datatypes import NO_CAMERA, POINT_FIELD_DTYPES, UNKNOWN, PointCloud, SemanticCloud
from seg_perception.errors import MessageError, StampError
from seg_perception.messages.pointcloud import (
    cloud_fields,
    cloud_from_columns,
    decode_cloud,
    decode_scan,
    encode_semantic_cloud,
    labels_from_cloud,
    scan_from_cloud,
)

XYZ = np.array([[1.0, 2.0, 3.0], [-4.0, 5.5, -6.25], [7.0, -8.0, 9.0], [0.5, 0.25, 0.125]], np.float32)
COLORS = np.zeros((256, 3), np.uint8)
COLORS[13], COLORS[UNKNOWN] = (0x12, 0x34, 0x56), (90, 90, 90)


def _points(names_types: list[tuple[str, str]], offsets: list[int] | None = None, itemsize: int = 0) -> np.ndarray:
    """Four points that hold XYZ, and 1, 2, 3, 4 in every other field."""
    layout: dict = {"names": [name for name, _ in names_types], "formats": [kind for _, kind in names_types]}
    if offsets:
        layout.update(offsets=offsets, itemsize=itemsize)
    points = np.zeros(4, np.dtype(layout))
    for name, _ in names_types:
        points[name] = XYZ[:, "xyz".index(name)] if name in "xyz" else np.arange(1, 5)
    return points


@st.composite
def _layouts(draw: st.DrawFn) -> np.ndarray:
    """x, y, z and others in any order, types, gaps and byte order."""
    others = draw(st.lists(st.sampled_from(["intensity", "ring", "line", "tag", "_"]), unique=True))
    order = draw(st.sampled_from("<>"))
    names = draw(st.permutations(["x", "y", "z", *others]))
    offsets, formats, at = [], [], 0
    for name in names:
        code = draw(st.sampled_from(["f4", "f8"] if name in "xyz" else list(POINT_FIELD_DTYPES.values())))
        at += draw(st.integers(0, 3))
        offsets.append(at)
        formats.append(order + code)
        at += np.dtype(code).itemsize
    return _points(list(zip(names, formats, strict=True)), offsets, at + draw(st.integers(0, 5)))


@settings(deadline=None)  # the first time, it compiles
@given(points=_layouts(), rows=st.sampled_from([1, 2, 4]), pad=st.integers(0, 9))
def test_every_layout_gives_the_same_points_and_fields(cloud_msg, points: np.ndarray, rows: int, pad: int) -> None:
    scan, note = decode_scan(cloud_msg(points, rows, pad))
    assert note == ""
    assert scan.stamps_ns is None
    assert scan.points.dtype == np.float32
    assert scan.points.flags.c_contiguous
    np.testing.assert_array_equal(scan.points, XYZ)
    assert (scan.cloud.height, scan.cloud.width) == (rows, 4 // rows)
    for name in points.dtype.names or ():
        np.testing.assert_array_equal(scan.cloud.field(name), points[name])


@settings(deadline=None)  # the first time, it compiles
@given(points=_layouts(), rows=st.sampled_from([1, 2]), pad=st.integers(0, 9))
def test_labels_are_added_and_no_other_byte_changes(cloud_msg, points: np.ndarray, rows: int, pad: int) -> None:
    cloud = encode_semantic_cloud(_semantic(decode_scan(cloud_msg(points, rows, pad))[0]), COLORS)
    assert (cloud.data[:, : points.dtype.itemsize] == points.view(np.uint8).reshape(4, -1)).all()
    for name in points.dtype.names or ():
        np.testing.assert_array_equal(cloud.field(name), points[name])
    assert [f.name for f in cloud.fields[-4:]] == ["rgb", "class_id", "probability", "instance_id"]
    assert all(f.offset % f.dtype.itemsize == 0 for f in cloud.fields[-4:])
    class_id, probability, instance_id = labels_from_cloud(cloud)
    assert class_id.tolist() == [13, UNKNOWN, 13, UNKNOWN]
    assert probability.tolist() == [0.5, 0.0, 1.0, 0.0]
    assert instance_id.tolist() == [7, 0, 65535, 0]


@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8"])
@pytest.mark.parametrize("more", [[], [("ring", "<u2")]], ids=["words", "odd"])
def test_it_is_all_the_same_whether_the_messages_memory_may_be_written_to(cloud_msg, kind: str, more: list) -> None:
    points = np.tile(_points([(name, kind) for name in "xyz"] + [(n, kind[0] + k[1:]) for n, k in more]), 3)
    points["x"][:6] = np.nan, np.inf, 0.0, 0.0, -0.0, 3.0
    points["y"][2:5] = points["z"][3:5] = 0.0
    found = []
    for hold in (bytes, bytearray):
        msg = cloud_msg(points)
        scan, _ = decode_scan(SimpleNamespace(**{**vars(msg), "data": hold(msg.data)}))
        assert scan.cloud.data.flags.writeable == (hold is bytearray)
        labels = [np.tile(column, 3) for column in _labels()]
        semantic = SemanticCloud(scan, *labels, ("front",))
        found.append((scan.points.tobytes(), encode_semantic_cloud(semantic, COLORS).data.tobytes()))
    assert found[0] == found[1]
    returns = np.isfinite(np.frombuffer(found[0][0], np.float32).reshape(-1, 3)).all(axis=1)
    assert returns.tolist() == [False, False, True, False, False] + [True] * 7


def _semantic(scan) -> SemanticCloud:
    return SemanticCloud(scan, *_labels(), ("front",))


def _labels() -> tuple[np.ndarray, ...]:
    """class_id, probability, instance_id and camera of four points."""
    class_id = np.array([13, UNKNOWN, 13, UNKNOWN], np.uint8)
    camera = np.where(class_id == UNKNOWN, NO_CAMERA, 0).astype(np.uint8)
    probability = np.array([0.5, 0.0, 1.0, 0.0], np.float32)
    instance_id = np.array([7, 0, 65535, 0], np.uint16)
    return class_id, probability, instance_id, camera


FLOAT_XYZ = [("x", "<f4"), ("y", "<f4"), ("z", "<f4")]


@pytest.mark.parametrize("order", ["<", ">"])
def test_rgb_is_a_float_whose_bits_are_red_green_blue(cloud_msg, order: str) -> None:
    points = _points([(name, f"{order}f4") for name in "xyz"])
    cloud = encode_semantic_cloud(_semantic(decode_scan(cloud_msg(points))[0]), COLORS)
    at = next(f.offset for f in cloud.fields if f.name == "rgb")
    packed = np.frombuffer(cloud.data[:, at : at + 4].tobytes(), f"{order}u4")
    assert [hex(value) for value in packed] == ["0x123456", "0x5a5a5a", "0x123456", "0x5a5a5a"]
    assert next(f.datatype for f in cloud.fields if f.name == "rgb") == 7


def test_cloud_that_was_labelled_before_is_labelled_in_place(cloud_msg) -> None:
    once = encode_semantic_cloud(_semantic(decode_scan(cloud_msg(_points(FLOAT_XYZ)))[0]), COLORS)
    twice = encode_semantic_cloud(_semantic(scan_from_cloud(once)[0]), COLORS)
    assert twice.fields == once.fields
    assert (twice.data == once.data).all()


def test_cloud_that_has_some_of_the_labels_gets_the_others_and_zeros_between_them(cloud_msg) -> None:
    points = _points([*FLOAT_XYZ, ("class_id", "u1"), ("probability", "<f4")])
    cloud = encode_semantic_cloud(_semantic(decode_scan(cloud_msg(points))[0]), COLORS)
    class_id, probability, instance_id = labels_from_cloud(cloud)
    assert (class_id.tolist(), probability.tolist()) == ([13, UNKNOWN, 13, UNKNOWN], [0.5, 0.0, 1.0, 0.0])
    assert instance_id.tolist() == [7, 0, 65535, 0]
    assert cloud.field("rgb").view("u4").tolist() == [0x123456, 0x5A5A5A, 0x123456, 0x5A5A5A]
    assert not cloud.data[:, [17, 18, 19, *range(24, 28), *range(30, 32)]].any()


def test_field_of_a_labels_name_and_another_type_is_replaced(cloud_msg) -> None:
    points = _points([*FLOAT_XYZ, ("class_id", "<i4"), ("rgb", "<u4")])
    cloud = encode_semantic_cloud(_semantic(decode_scan(cloud_msg(points))[0]), COLORS)
    names = [f.name for f in cloud.fields]
    assert sorted(names) == sorted({"x", "y", "z", "rgb", "class_id", "probability", "instance_id"})
    assert labels_from_cloud(cloud)[0].tolist() == [13, UNKNOWN, 13, UNKNOWN]
    assert next(f.datatype for f in cloud.fields if f.name == "class_id") == 2


def test_bytes_between_the_fields_added_are_zero(cloud_msg) -> None:
    points = _points([*FLOAT_XYZ, ("tag", "u1")])
    cloud = encode_semantic_cloud(_semantic(decode_scan(cloud_msg(points))[0]), COLORS)
    used = {at for field in cloud.fields for at in range(field.offset, field.offset + field.nbytes)}
    between = sorted(set(range(cloud.point_step)) - used)
    assert between == [13, 14, 15, 27]
    assert not cloud.data[:, between].any()


def test_organised_cloud_stays_organised(cloud_msg) -> None:
    cloud = encode_semantic_cloud(_semantic(decode_scan(cloud_msg(_points(FLOAT_XYZ), rows=2, pad=6))[0]), COLORS)
    fields = cloud_fields(cloud)
    assert (fields["height"], fields["width"]) == (2, 2)
    assert fields["row_step"] == 2 * fields["point_step"]
    assert len(fields["data"]) == 4 * fields["point_step"]


def test_points_keep_the_order_of_the_message_row_by_row(cloud_msg) -> None:
    cloud = decode_cloud(cloud_msg(_points([*FLOAT_XYZ, ("ring", "<u2")]), rows=2, pad=3))
    assert cloud.field("ring").tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("hold", [bytes, bytearray, partial(array.array, "B"), partial(np.frombuffer, dtype=np.uint8)])
def test_cloud_without_row_padding_shares_the_memory_of_the_message(cloud_msg, hold) -> None:
    data = hold(_points(FLOAT_XYZ).tobytes())
    cloud = decode_cloud(cloud_msg(_points(FLOAT_XYZ), data=data))
    assert np.shares_memory(cloud.data, np.frombuffer(data, np.uint8))


def test_point_with_nan_stays_a_point_with_nan(cloud_msg) -> None:
    points = _points(FLOAT_XYZ)
    points["y"][1] = np.nan
    scan, _ = decode_scan(cloud_msg(points))
    assert np.isnan(scan.points).tolist() == [[False] * 3, [False, True, False], [False] * 3, [False] * 3]


def test_point_at_the_origin_is_no_return_but_its_bytes_are_kept(cloud_msg) -> None:
    points = _points(FLOAT_XYZ)
    for axis in "xyz":
        points[axis][2] = 0.0
    points["x"][3] = 0.0
    scan, _ = decode_scan(cloud_msg(points))
    assert np.isnan(scan.points[2]).all()
    assert scan.points[3].tolist() == [0.0, 0.25, 0.125]
    assert scan.cloud.field("x")[2] == 0.0


def test_empty_cloud_is_an_empty_scan(cloud_msg) -> None:
    for msg in (cloud_msg(_points(FLOAT_XYZ)[:0]), cloud_msg(_points(FLOAT_XYZ)[:0], height=0)):
        scan, note = decode_scan(msg)
        assert len(scan) == 0
        assert note == ""


def test_count_zero_means_one_as_old_senders_write_it(cloud_msg) -> None:
    msg = cloud_msg(_points(FLOAT_XYZ))
    msg.fields[0].count = 0
    np.testing.assert_array_equal(decode_scan(msg)[0].points, XYZ)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"data": bytes(47)}, "cloud in frame 'lidar': 47 bytes of data seen, 48 wanted for 1 rows of 48"),
        ({"data": bytes(60)}, "60 bytes of data seen, 48 wanted"),
        ({"row_step": 47}, "row_step is 47, at least 48 wanted for 4 points of 12 bytes"),
        ({"height": 2}, "48 bytes of data seen, 96 wanted"),
        ({"point_step": 8, "row_step": 48}, "field 'z' ends at byte 12, point_step is 8"),
        ({"point_step": 0}, "ends at byte 4, point_step is 0"),
        ({"fields": []}, r"no field 'x' among \[\]"),
    ],
)
def test_contradictions_are_refused_with_the_numbers(cloud_msg, changes: dict, sentence: str) -> None:
    with pytest.raises(MessageError, match=sentence):
        decode_cloud(cloud_msg(_points(FLOAT_XYZ), **changes))


@pytest.mark.parametrize(
    ("field", "changes", "sentence"),
    [
        (1, {"datatype": 9}, "field 'y' has datatype 9, 1 to 8 wanted"),
        (1, {"datatype": 0}, "field 'y' has datatype 0"),
        (2, {"name": "depth"}, "no field 'z' among"),
        (2, {"name": "y"}, "field 'y' is there twice, at 4 and 8"),
        (1, {"offset": 2}, "field 'x' at byte 0 overlaps 'y' at 2"),
        (0, {"datatype": 5}, "field 'x' has datatype 5 and count 1, one FLOAT32"),
        (0, {"count": 2}, "field 'x' has datatype 7 and count 2, one FLOAT32"),
        (2, {"count": 2}, "field 'z' ends at byte 16, point_step is 12"),
    ],
)
def test_fields_that_cannot_be_read_are_refused(cloud_msg, field: int, changes: dict, sentence: str) -> None:
    msg = cloud_msg(_points(FLOAT_XYZ))
    vars(msg.fields[field]).update(changes)
    with pytest.raises(MessageError, match=sentence):
        decode_cloud(msg)


def test_padding_fields_may_share_a_name(cloud_msg) -> None:
    msg = cloud_msg(_points([*FLOAT_XYZ, ("_", "<u2"), ("__", "<u2")]))
    msg.fields[4].name = "_"
    assert len(decode_cloud(msg).fields) == 5


def test_stamp_zero_is_refused_as_a_stamp(cloud_msg) -> None:
    with pytest.raises(StampError, match="cloud in frame 'lidar': stamp is 0"):
        decode_cloud(cloud_msg(_points(FLOAT_XYZ), stamp_ns=0))


def test_columns_keep_their_types_and_order() -> None:
    columns = {
        "x": XYZ[:, 0],
        "y": XYZ[:, 1].astype(np.float64),
        "z": XYZ[:, 2].astype(">f4"),
        "ring": np.arange(4, dtype=np.uint16),
        "normal": np.arange(12, dtype=np.float32).reshape(4, 3),
    }
    cloud = cloud_from_columns("lidar", 5, columns)
    assert [(f.name, f.offset, f.datatype, f.count) for f in cloud.fields] == [
        ("x", 0, 7, 1),
        ("y", 4, 8, 1),
        ("z", 12, 7, 1),
        ("ring", 16, 4, 1),
        ("normal", 18, 7, 3),
    ]
    for name, column in columns.items():
        np.testing.assert_array_equal(cloud.field(name), column)
    assert cloud.is_dense
    assert len(cloud) == 4


def test_columns_that_a_message_cannot_hold_are_refused() -> None:
    with pytest.raises(MessageError, match=r"'time': one of .* wanted, int64 seen"):
        cloud_from_columns("lidar", 5, {"time": np.arange(4)})
    with pytest.raises(MessageError, match=r"'y': 4 values wanted, shape \(3,\) seen"):
        cloud_from_columns("lidar", 5, {"x": XYZ[:, 0], "y": XYZ[:3, 1]})


def test_cloud_with_nan_is_not_dense() -> None:
    assert not cloud_from_columns("lidar", 5, {"x": np.array([np.nan], np.float32)}).is_dense


def test_labels_are_not_read_from_a_cloud_without_them() -> None:
    cloud: PointCloud = cloud_from_columns("lidar", 5, {"x": XYZ[:, 0]})
    with pytest.raises(MessageError, match="no field 'class_id'"):
        labels_from_cloud(cloud)


def test_a_coordinate_that_no_float32_holds_is_no_return_and_no_warning(cloud_msg) -> None:
    points = np.zeros(2, [("x", "f8"), ("y", "f8"), ("z", "f8")])
    points["x"] = 1e300, 5.0
    points["y"] = np.array([0x7FF0000000000001, 0], np.uint64).view(np.float64)  # a signalling NaN
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scan, _ = decode_scan(cloud_msg(points))
    assert np.isfinite(scan.points).all(axis=1).tolist() == [False, True]
