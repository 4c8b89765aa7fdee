"""PCD files (v0.6, v0.7) of the Point Cloud Library: ascii, binary and binary_compressed.

Sources: the page on the file format in PCL's documentation; the description of LZF's stream in LibLZF.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray

from seg_perception.errors import MessageError

_KINDS = {"I": "i", "U": "u", "F": "f"}
_SIZES = {"I": (1, 2, 4, 8), "U": (1, 2, 4, 8), "F": (4, 8)}
_MAX_BYTES = 1 << 32  # a file that claims more is not believed


@dataclass(frozen=True, slots=True)
class _Header:
    """What a PCD file says of itself."""

    fields: tuple[tuple[str, np.dtype, int], ...]  # name, type, count
    points: int
    data: str
    body_at: int

    @property
    def point_type(self) -> np.dtype:
        """One point as it lies in a binary file. A repeated name, as padding has, gets its position added."""
        names = [name for name, _, _ in self.fields]
        unique = [name if names.count(name) == 1 else f"{name}#{at}" for at, name in enumerate(names)]
        return np.dtype([(name, dtype, (count,)) for name, (_, dtype, count) in zip(unique, self.fields, strict=True)])


def read_pcd(path: str | Path) -> dict[str, NDArray]:
    """The columns of a PCD file by field name, in the file's order and types: (N,), or (N, count) where count > 1.

    Padding (fields named "_") is left out. Raises MessageError for what is not a PCD file, is cut short or contradicts
    itself; OSError where it cannot be opened.
    """
    content = Path(path).read_bytes()
    header = _parse_header(content, f"PCD {path}")
    readers = {"ascii": _read_ascii, "binary": _read_binary, "binary_compressed": _read_compressed}
    if header.data not in readers:
        raise MessageError(f"PCD {path}: DATA is '{header.data}', one of {', '.join(readers)} wanted")
    columns = readers[header.data](content[header.body_at :], header, f"PCD {path}")
    return {
        name: column[:, 0] if column.shape[1] == 1 else column
        for name, column in columns.items()
        if not name.startswith("_")
    }


def _parse_header(content: bytes, what: str) -> _Header:
    entries: dict[str, list[str]] = {}
    at = 0
    while "DATA" not in entries:
        end = content.find(b"\n", at, at + 4096)
        if end < 0:
            raise MessageError(f"{what}: no DATA line within its first lines, so it is no PCD file or is cut short")
        words = content[at:end].decode("latin-1").split("#")[0].split()
        if words:
            entries[words[0]] = words[1:]
        at = end + 1
    try:
        names, kinds = entries["FIELDS"], entries["TYPE"]
        sizes = [int(size) for size in entries["SIZE"]]
        counts = [int(count) for count in entries.get("COUNT", ["1"] * len(names))]
        width, height = int(entries["WIDTH"][0]), int(entries["HEIGHT"][0])
        points = int(entries.get("POINTS", [str(width * height)])[0])
        data = entries["DATA"][0]
    except (KeyError, ValueError, IndexError) as error:
        raise MessageError(f"{what}: its header cannot be read: {error!r}") from error
    if not len(names) == len(kinds) == len(sizes) == len(counts) > 0:
        raise MessageError(
            f"{what}: {len(names)} FIELDS, {len(sizes)} SIZE, {len(kinds)} TYPE, {len(counts)} COUNT seen, as many of "
            "each wanted"
        )
    for name, kind, size, count in zip(names, kinds, sizes, counts, strict=True):
        if size not in _SIZES.get(kind, ()) or count < 1:
            raise MessageError(f"{what}: field '{name}' is {count} of TYPE {kind} and SIZE {size}, which is no number")
    if points != width * height or width < 0 or height < 0:
        raise MessageError(f"{what}: POINTS is {points}, {width} x {height} wanted")
    fields = tuple(
        (name, np.dtype(f"<{_KINDS[kind]}{size}"), count)
        for name, kind, size, count in zip(names, kinds, sizes, counts, strict=True)
    )
    header = _Header(fields, points, data, at)
    if points * header.point_type.itemsize > _MAX_BYTES:
        raise MessageError(f"{what}: {points} points of {header.point_type.itemsize} bytes seen, 4 GiB at most wanted")
    return header


def _read_ascii(body: bytes, header: _Header, what: str) -> dict[str, NDArray]:
    """Values separated by blanks, point after point."""
    points = header.points
    words = np.array(body.split())
    per_point = sum(count for _, _, count in header.fields)
    if words.size != points * per_point:
        raise MessageError(f"{what}: {words.size} values seen, {points * per_point} wanted for {points} points")
    table = words.reshape(points, per_point)
    columns, at = {}, 0
    for name, (_, dtype, count) in zip(header.point_type.names or (), header.fields, strict=True):
        try:
            columns[name] = table[:, at : at + count].astype(dtype)
        except (ValueError, OverflowError) as error:
            raise MessageError(f"{what}: field '{name}' is not all {dtype.name}: {error}") from error
        at += count
    return columns


def _read_binary(body: bytes, header: _Header, what: str) -> dict[str, NDArray]:
    points, wanted = header.points, header.points * header.point_type.itemsize
    if len(body) < wanted:
        raise MessageError(f"{what}: {len(body)} bytes of data seen, {wanted} wanted for {points} points")
    table = np.frombuffer(body, header.point_type, points)
    return {name: np.ascontiguousarray(table[name]) for name in header.point_type.names or ()}


def _read_compressed(body: bytes, header: _Header, what: str) -> dict[str, NDArray]:
    """Two uint32, the sizes compressed and not, then LZF data in which one whole field follows the other."""
    points, wanted = header.points, header.points * header.point_type.itemsize
    packed, unpacked = (int(size) for size in np.frombuffer(body[:8].ljust(8, b"\0"), "<u4"))
    if unpacked != wanted or len(body) - 8 < packed:
        raise MessageError(
            f"{what}: {len(body) - 8} bytes of {packed} that hold {unpacked} seen, {wanted} wanted for {points} points"
        )
    plain = np.empty(unpacked, np.uint8)
    if _lzf_decompress(np.frombuffer(body, np.uint8, packed, 8), plain) != unpacked:
        raise MessageError(f"{what}: its compressed data are corrupt")
    columns, at = {}, 0
    for name, (_, dtype, count) in zip(header.point_type.names or (), header.fields, strict=True):
        size = points * dtype.itemsize * count
        columns[name] = plain[at : at + size].view(dtype).reshape(points, count)
        at += size
    return columns


@njit(cache=True)
def _lzf_decompress(packed: NDArray[np.uint8], plain: NDArray[np.uint8]) -> int:
    """Fill `plain` from LZF data; returns the bytes written, or -1 where the data point outside either array.

    A control byte below 32 copies that many bytes plus one. Any other repeats earlier output: its upper three bits are
    the length less two (7: the next byte is added), its lower five and the next byte the distance less one.
    """
    read, write = 0, 0
    while read < packed.size:
        control = int(packed[read])
        read += 1
        if control < 32:
            length = control + 1
            if read + length > packed.size or write + length > plain.size:
                return -1
            for _ in range(length):
                plain[write] = packed[read]
                read, write = read + 1, write + 1
            continue
        length = control >> 5
        if length == 7:
            if read >= packed.size:
                return -1
            length += int(packed[read])
            read += 1
        if read >= packed.size:
            return -1
        source = write - ((control & 31) << 8) - int(packed[read]) - 1
        read += 1
        if source < 0 or write + length + 2 > plain.size:
            return -1
        for _ in range(length + 2):
            plain[write] = plain[source]
            write, source = write + 1, source + 1
    return write
