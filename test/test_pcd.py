"""PCD files of each kind give the same columns; what is cut short or contradicts itself is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seg_perception.errors import MessageError
from seg_perception.pcd import read_pcd

POINTS = np.zeros(
    3, np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("ring", "<u2"), ("timestamp", "<f8"), ("normal", "<f4", 3)])
)
POINTS["x"], POINTS["y"], POINTS["z"] = [1.5, -2.25, np.nan], [3, 4, 5], [6, 7, 8]
POINTS["ring"], POINTS["timestamp"] = [0, 7, 65535], [1678066887.5, 1678066887.6, 1678066887.7]
POINTS["normal"] = np.arange(9).reshape(3, 3)

HEADER = """# .PCD v0.7 - Point Cloud Data file format
VERSION 0.7
FIELDS x y z ring timestamp normal
SIZE 4 4 4 2 8 4
TYPE F F F U F F
COUNT 1 1 1 1 1 3
WIDTH {width}
HEIGHT {height}
VIEWPOINT 0 0 0 1 0 0 0
POINTS 3
DATA {data}
"""


def _ascii() -> bytes:
    rows = [" ".join(map(repr, (*scalars, *np.asarray(normal).tolist()))) for *scalars, normal in POINTS.tolist()]
    return "\n".join(rows).encode() + b"\n"


def _lzf_literals(data: bytes) -> bytes:
    """LZF data that repeats nothing."""
    chunks = [data[at : at + 32] for at in range(0, len(data), 32)]
    return b"".join(bytes([len(chunk) - 1]) + chunk for chunk in chunks)


def _compressed(packed: bytes | None = None) -> bytes:
    plain = b"".join(np.ascontiguousarray(POINTS[name]).tobytes() for name in POINTS.dtype.names or ())
    packed = _lzf_literals(plain) if packed is None else packed
    return np.array([len(packed), len(plain)], "<u4").tobytes() + packed


def _write(path: Path, data: str, body: bytes, header: str = HEADER) -> Path:
    path.write_bytes(header.format(data=data, width=3, height=1).encode() + body)
    return path


@pytest.mark.parametrize(
    ("data", "body"), [("ascii", _ascii()), ("binary", POINTS.tobytes()), ("binary_compressed", _compressed())]
)
def test_each_kind_of_file_gives_the_same_columns(tmp_path: Path, data: str, body: bytes) -> None:
    columns = read_pcd(_write(tmp_path / "a.pcd", data, body))
    assert list(columns) == list(POINTS.dtype.names or ())
    for name, column in columns.items():
        assert column.dtype == POINTS[name].dtype
        np.testing.assert_array_equal(column, POINTS[name])


@pytest.mark.parametrize(
    ("packed", "plain"),
    [
        (b"\x02abc" + b"\x20\x02", b"abcabc"),  # three bytes, from three back
        (b"\x00a" + b"\xe0\x02\x00", b"a" * 12),  # overlapping its own output; 7 + 2 + 2 bytes, from one back
        (b"\x1f" + bytes(range(32)) + b"\x40\x1f", bytes(range(32)) + bytes(range(4))),
    ],
)
def test_repeats_of_earlier_bytes_are_unpacked(tmp_path: Path, packed: bytes, plain: bytes) -> None:
    header = f"FIELDS x\nSIZE 1\nTYPE U\nWIDTH {len(plain)}\nHEIGHT 1\nPOINTS {len(plain)}\nDATA binary_compressed\n"
    body = np.array([len(packed), len(plain)], "<u4").tobytes() + packed
    (tmp_path / "a.pcd").write_bytes(header.encode() + body)
    assert read_pcd(tmp_path / "a.pcd")["x"].tobytes() == plain


def test_padding_is_left_out(tmp_path: Path) -> None:
    header = "FIELDS x _ y _\nSIZE 4 1 4 1\nTYPE F U F U\nCOUNT 1 4 1 2\nWIDTH 2\nHEIGHT 1\nPOINTS 2\nDATA binary\n"
    points = np.zeros(2, [("x", "<f4"), ("a", "V4"), ("y", "<f4"), ("b", "V2")])
    points["x"], points["y"] = [1, 2], [3, 4]
    (tmp_path / "a.pcd").write_bytes(header.encode() + points.tobytes())
    columns = read_pcd(tmp_path / "a.pcd")
    assert {name: column.tolist() for name, column in columns.items()} == {"x": [1, 2], "y": [3, 4]}


def test_organised_file_is_read_row_by_row(tmp_path: Path) -> None:
    header = "FIELDS x\nSIZE 4\nTYPE F\nCOUNT 1\nWIDTH 2\nHEIGHT 2\nPOINTS 4\nDATA ascii\n"
    (tmp_path / "a.pcd").write_text(header + "1\n2\n3\n4\n")
    assert read_pcd(tmp_path / "a.pcd")["x"].tolist() == [1, 2, 3, 4]


def test_empty_cloud_has_empty_columns(tmp_path: Path) -> None:
    for data in ("ascii", "binary"):
        header = f"FIELDS x\nSIZE 4\nTYPE F\nCOUNT 1\nWIDTH 0\nHEIGHT 1\nPOINTS 0\nDATA {data}\n"
        (tmp_path / "a.pcd").write_text(header)
        assert read_pcd(tmp_path / "a.pcd")["x"].shape == (0,)


@pytest.mark.parametrize(
    ("data", "body", "sentence"),
    [
        ("binary", POINTS.tobytes()[:-1], "101 bytes of data seen, 102 wanted for 3 points"),
        ("ascii", _ascii()[:-5], "seen, 24 wanted for 3 points"),
        ("ascii", _ascii().replace(b"65535", b"many"), "field 'ring' is not all uint16"),
        ("binary_compressed", _compressed()[:-1], "102 wanted for 3 points"),
        ("binary_compressed", b"", "of 0 that hold 0 seen, 102 wanted"),
        ("binary_compressed", _compressed(b"\x20\x7f" * 34), "its compressed data are corrupt"),
        ("binary_compressed", _compressed(b"\x1f"), "its compressed data are corrupt"),
        ("binary_zipped", b"", "DATA is 'binary_zipped', one of ascii, binary, binary_compressed wanted"),
    ],
)
def test_body_that_does_not_fit_its_header_is_refused(tmp_path: Path, data: str, body: bytes, sentence: str) -> None:
    with pytest.raises(MessageError, match=sentence):
        read_pcd(_write(tmp_path / "a.pcd", data, body))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("POINTS 3", "POINTS 4", "POINTS is 4, 3 x 1 wanted"),
        ("TYPE F F F U F F", "TYPE F F F U F", "6 FIELDS, 6 SIZE, 5 TYPE, 6 COUNT seen"),
        ("SIZE 4 4 4 2 8 4", "SIZE 4 4 4 2 3 4", "field 'timestamp' is 1 of TYPE F and SIZE 3"),
        ("SIZE 4 4 4 2 8 4\n", "", "its header cannot be read: KeyError"),
        ("WIDTH {width}", "WIDTH many", "its header cannot be read"),
        ("DATA {data}\n", "", "no DATA line"),
    ],
)
def test_header_that_contradicts_itself_is_refused(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    assert old in HEADER
    with pytest.raises(MessageError, match=sentence):
        read_pcd(_write(tmp_path / "a.pcd", "binary", POINTS.tobytes(), HEADER.replace(old, new)))


def test_file_that_claims_more_than_it_could_hold_is_refused_at_once(tmp_path: Path) -> None:
    header = (
        "FIELDS x\nSIZE 8\nTYPE F\nCOUNT 1\nWIDTH 1000000000\nHEIGHT 1\nPOINTS 1000000000\nDATA binary_compressed\n"
    )
    (tmp_path / "a.pcd").write_bytes(header.encode() + np.array([0, 3_705_032_704], "<u4").tobytes())
    with pytest.raises(MessageError, match="4 GiB at most wanted"):
        read_pcd(tmp_path / "a.pcd")


def test_picture_is_no_pcd_file(tmp_path: Path) -> None:
    (tmp_path / "a.pcd").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(10_000))
    with pytest.raises(MessageError, match="no PCD file"):
        read_pcd(tmp_path / "a.pcd")


def test_recorded_ascii_sweep_is_a_sweep(shared_data: Path) -> None:
    columns = read_pcd(shared_data / "pjlab" / "manual" / "0.pcd")
    assert list(columns) == ["x", "y", "z", "intensity"]
    assert columns["x"].shape == (78238,)
    first = np.array([columns[name][0] for name in columns])
    np.testing.assert_array_equal(first, np.array([21.647913, 0.19822195, -1.8524752, 11], np.float32))


def test_recorded_compressed_sweep_has_rings_and_a_tenth_of_a_second(shared_data: Path) -> None:
    columns = read_pcd(shared_data / "pjlab" / "v2_ours1" / "calib.pcd")
    assert {name: column.dtype.str for name, column in columns.items()} == {
        **dict.fromkeys(("x", "y", "z", "intensity"), "<f4"),
        "ring": "<u2",
        "timestamp": "<f8",
    }
    assert columns["ring"].max() == 63
    assert 0.09 < np.ptp(columns["timestamp"]) < 0.11
    assert np.abs(np.column_stack([columns[axis] for axis in "xyz"])).max() < 250.0
