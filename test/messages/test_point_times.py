"""Each driver's way of saying when a point was measured gives the same instants; what cannot be told is not guessed."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from seg_perception.config import PairingConfig
from seg_perception.messages.pointcloud import (
    cloud_from_columns,
    decode_cloud,
    decode_scan,
    middle_ns,
    scan_from_cloud,
)

STAMP_NS = 1_700_000_000_123_456_789
MS = 1_000_000
OFFSETS_NS = np.array([0, 25_000_000, 50_000_000, 99_900_000])


def _points(name: str, values: np.ndarray) -> np.ndarray:
    dtype = np.dtype([("x", "f4"), ("y", "f4"), ("z", "f4"), (name, values.dtype)])
    points = np.ones(len(values), dtype)
    points[name] = values
    return points


def _offsets(cloud_msg, name: str, values: np.ndarray, stamp_ns: int = STAMP_NS) -> np.ndarray:
    scan, note = decode_scan(cloud_msg(_points(name, values), stamp_ns=stamp_ns))
    assert note == ""
    assert scan.stamps_ns.dtype == np.int64
    return scan.stamps_ns - stamp_ns


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", ["t", "time_stamp", "offset_time", "time_offset", "time_offset_ns", "timestamp"])
def test_whole_numbers_are_nanoseconds_after_the_stamp(cloud_msg, name: str, order: str) -> None:
    for kind in ("u4", "i4"):
        assert (_offsets(cloud_msg, name, OFFSETS_NS.astype(order + kind)) == OFFSETS_NS).all()


def test_whole_numbers_may_be_negative(cloud_msg) -> None:
    assert (_offsets(cloud_msg, "t", -OFFSETS_NS.astype("i4")) == -OFFSETS_NS).all()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("kind", "precision_ns"), [("f4", 4), ("f8", 0)])
def test_small_floats_are_seconds_after_the_stamp(cloud_msg, kind: str, precision_ns: int, sign: int) -> None:
    offsets = _offsets(cloud_msg, "time", (sign * OFFSETS_NS * 1e-9).astype(kind))
    np.testing.assert_allclose(offsets, sign * OFFSETS_NS, rtol=0, atol=precision_ns)


@pytest.mark.parametrize(("unit_ns", "precision_ns"), [(10**9, 240), (10**6, 240), (10**3, 240), (1, 256)])
def test_large_floats_are_instants_in_the_unit_that_meets_the_stamp(cloud_msg, unit_ns: int, precision_ns: int) -> None:
    values = (STAMP_NS + OFFSETS_NS) / unit_ns
    np.testing.assert_allclose(_offsets(cloud_msg, "timestamp", values), OFFSETS_NS, rtol=0, atol=precision_ns)


def test_instants_since_the_start_of_a_simulation_are_instants(cloud_msg) -> None:
    stamp_ns = 42 * 10**9
    offsets = _offsets(cloud_msg, "timestamp", (stamp_ns + OFFSETS_NS) * 1e-9, stamp_ns)
    np.testing.assert_allclose(offsets, OFFSETS_NS, rtol=0, atol=10)


def test_no_time_field_is_no_times_and_nothing_wrong(cloud_msg) -> None:
    scan, note = decode_scan(cloud_msg(_points("intensity", OFFSETS_NS.astype("f4"))))
    assert scan.stamps_ns is None
    assert note == ""


@pytest.mark.parametrize(
    ("name", "values", "seen"),
    [
        ("t", np.array([0, 1_000_000_001, 5, 6], "u4"), r"'t' \(uint32\) runs from 0 to 1000000001"),
        ("time", np.array([0, 1.5, 0, 0], "f4"), r"'time' \(float32\) runs from 0.0 to 1.5"),
        ("time", np.array([1.7e9] * 4, "f4"), "neither an offset of at most 1 s nor within 1 s of the stamp"),
        ("timestamp", np.array([1_700_000_002.0] * 4), "runs from 1700000002.0 to 1700000002.0"),
        ("timestamp", np.array([0.0, 1_700_000_000.0, 1_700_000_000.1, 1_700_000_000.1]), "runs from 0.0 to"),
        ("time", np.array([1, 2, 3, 4], "u2"), "'time' is 1 x uint16, one 32-bit integer or float wanted"),
    ],
)
def test_implausible_times_are_not_used_and_the_note_says_why(cloud_msg, name: str, values, seen: str) -> None:
    scan, note = decode_scan(cloud_msg(_points(name, values)))
    assert scan.stamps_ns is None
    assert re.search(seen, note)


def test_time_of_a_point_without_return_does_not_count(cloud_msg) -> None:
    points = _points("timestamp", (STAMP_NS + OFFSETS_NS) * 1e-9)
    points["timestamp"][1] = 0.0
    points["x"][1] = np.nan
    scan, note = decode_scan(cloud_msg(points))
    assert note == ""
    assert scan.stamps_ns[1] == STAMP_NS
    np.testing.assert_allclose(scan.stamps_ns[[0, 2, 3]] - STAMP_NS, OFFSETS_NS[[0, 2, 3]], rtol=0, atol=240)


def test_point_without_a_finite_time_gets_that_of_the_header(cloud_msg) -> None:
    offsets = _offsets(cloud_msg, "time", np.array([0.01, np.nan, np.inf, 0.02], "f4"))
    np.testing.assert_allclose(offsets, [10_000_000, 0, 0, 20_000_000], rtol=0, atol=2)


@pytest.mark.filterwarnings("error")
def test_a_signalling_nan_is_no_time_and_raises_no_warning(cloud_msg) -> None:
    times = np.array([0x7F800001, 0x7F800001, 0, 0], np.uint32).view(np.float32)
    assert (_offsets(cloud_msg, "t", times) == 0).all()


def test_cloud_of_nothing_but_nan_gets_the_time_of_the_header(cloud_msg) -> None:
    points = _points("time", np.array([0.01, 0.02], "f4"))
    points["x"] = np.nan
    scan, note = decode_scan(cloud_msg(points))
    assert note == ""
    assert (scan.stamps_ns == STAMP_NS).all()


def test_first_name_of_the_list_is_read_where_there_are_two(cloud_msg) -> None:
    dtype = np.dtype([("x", "f4"), ("y", "f4"), ("z", "f4"), ("timestamp", "f8"), ("t", "u4")])
    points = np.ones(2, dtype)
    points["t"] = [5, 6]
    scan, _ = decode_scan(cloud_msg(points))
    assert (scan.stamps_ns - STAMP_NS).tolist() == [5, 6]


def _turn(begins_ms: float, returns: float = 1.0, columns: int = 1024, beams: int = 16) -> np.ndarray:
    """A turn of 100 ms, row by row as Ouster's driver has it, of which this share of the firings found something."""
    points = _points("time", np.tile(begins_ms + 100.0 * np.arange(columns) / columns, beams).astype("f4") * 1e-3)
    empty = np.random.default_rng(3).random(len(points)) >= returns
    for axis in "xyz":
        points[axis][empty] = 0.0
    return points


@pytest.mark.parametrize("returns", [1.0, 0.4, 0.01])
@pytest.mark.parametrize("begins_ms", [0.0, -100.0, 20.0])
def test_the_middle_of_a_sweep_is_where_its_points_have_it(cloud_msg, begins_ms: float, returns: float) -> None:
    middle = middle_ns(decode_cloud(cloud_msg(_turn(begins_ms, returns))), PairingConfig(window_ms=100.0))
    assert (middle - STAMP_NS) / MS == pytest.approx(begins_ms + 50.0, abs=3.0)


def test_an_image_at_about_the_stamp_stays_in_a_narrow_window(cloud_msg) -> None:
    narrow = PairingConfig(window_ms=20.0)
    for begins_ms, ahead_ms in ((0.0, 15), (-100.0, -15)):
        assert middle_ns(decode_cloud(cloud_msg(_turn(begins_ms))), narrow) == STAMP_NS + ahead_ms * MS


def test_a_stamp_about_in_the_middle_is_meant_to_be_there(cloud_msg) -> None:
    assert middle_ns(decode_cloud(cloud_msg(_turn(-47.0))), PairingConfig()) == STAMP_NS


def test_a_sweep_that_tells_no_usable_times_has_its_stamp_for_its_middle(cloud_msg) -> None:
    for points in (_turn(0.0)[["x", "y", "z"]], _turn(5000.0), _turn(0.0, returns=0.0), _turn(0.0)[:0]):
        assert middle_ns(decode_cloud(cloud_msg(np.ascontiguousarray(points))), PairingConfig()) == STAMP_NS


@pytest.mark.parametrize("kind", ["u4", "i4", "f4", "f8"])
def test_times_read_beside_the_points_are_those_read_by_themselves(kind: str) -> None:
    rng = np.random.default_rng(0)
    xyz = rng.normal(0.0, 20.0, (3, 4000)).astype(np.float32)
    xyz[:, ::7], xyz[1, ::11], xyz[2, ::13] = 0.0, np.nan, -np.inf
    times = rng.uniform(-9e8, 9e8, 4000) if kind == "i4" else rng.uniform(0.0, 9e8, 4000)
    values = (times * 1e-9 if kind[0] == "f" else times).astype(kind)
    if kind == "f8":
        values += STAMP_NS * 1e-9
    if kind[0] == "f":
        values[::17], values[::19] = np.nan, np.inf
    cloud = cloud_from_columns("lidar", STAMP_NS, {**dict(zip("xyz", xyz, strict=True)), "time": values})
    data = cloud.data.copy()
    data.flags.writeable = False
    (scan, note), (by_numpy, _) = scan_from_cloud(cloud), scan_from_cloud(replace(cloud, data=data))
    assert note == ""
    assert len(np.unique(scan.stamps_ns)) > 2000
    np.testing.assert_array_equal(scan.stamps_ns, by_numpy.stamps_ns)
    np.testing.assert_array_equal(scan.points, by_numpy.points)
