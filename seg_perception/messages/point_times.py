"""When each point of a sweep was measured, from whichever field the driver puts that in.

| type of field    | value                             | read as                 | for example                       |
|------------------|-----------------------------------|-------------------------|-----------------------------------|
| int32, uint32    | at most 1e9 in size               | ns after header.stamp   | Ouster `t`, Livox `offset_time`,  |
|                  |                                   |                         | Autoware `time_stamp`,            |
|                  |                                   |                         | Aeva `time_offset_ns`             |
| float32, float64 | at most 1 in size                 | s after header.stamp    | Velodyne `time` (it is negative)  |
| float64          | within 1 s of header.stamp, as s, | that instant            | Hesai, RoboSense `timestamp` (s), |
|                  | ms, µs or ns                      |                         | Livox `timestamp` (ns)            |

The first field present of `TIME_FIELDS` is read. Only points with a return are looked at; the others get the header's
stamp, as does a point whose own time is not finite. What is outside the table is not guessed at: the sweep then has no
per-point times, and a sentence says why. In the first two seconds of simulated time the second row goes before the
third.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from seg_perception.datatypes import PointCloud, PointField
from seg_perception.messages.header import NS_PER_S

TIME_FIELDS = (
    *("t", "time", "timestamp", "time_stamp", "offset_time", "time_offset", "time_offset_ns"),
    *("timeStamp", "stamp", "ts"),
)
MAX_OFFSET_NS = NS_PER_S
"""A point measured further than this from the header's stamp is not of this sweep."""

_INTEGERS = (5, 6)
_FLOATS = (7, 8)
_NS_OF_UNIT = (1_000_000_000, 1_000_000, 1_000, 1)


def point_stamps_ns(cloud: PointCloud, valid: NDArray[np.bool_]) -> tuple[NDArray[np.int64] | None, str]:
    """(N,) int64 nanoseconds, or None where the cloud says nothing usable; and why, empty where it has no such field.

    valid: (N,) which points are returns.
    """
    field = _time_field(cloud)
    if field is None:
        return None, ""
    values = cloud.field(field.name)
    if field.count != 1 or field.datatype not in (*_INTEGERS, *_FLOATS):
        return (
            None,
            f"time field '{field.name}' is {field.count} x {field.dtype.name}, one 32-bit integer or float wanted",
        )
    with np.errstate(invalid="ignore"):  # of a signalling NaN, which is no time, and becomes a quiet one
        values = values.astype(np.int64 if field.datatype in _INTEGERS else np.float64)  # side by side: quick
    usable = valid if field.datatype in _INTEGERS else valid & np.isfinite(values)
    used = values if usable.all() else values[usable]
    if used.size == 0:
        return np.full(len(cloud), cloud.stamp_ns, np.int64), ""
    low, high = used.min().item(), used.max().item()
    offsets = _offsets_ns(used, field, low, high, cloud.stamp_ns)
    if offsets is None:
        return None, (
            f"time field '{field.name}' ({field.dtype.name}) runs from {low!r} to {high!r}: neither an offset of at "
            f"most 1 s nor within 1 s of the stamp {cloud.stamp_ns} ns"
        )
    if used is values:
        return offsets + cloud.stamp_ns, ""
    stamps = np.full(len(cloud), cloud.stamp_ns, np.int64)
    stamps[usable] += offsets
    return stamps, ""


def _time_field(cloud: PointCloud) -> PointField | None:
    named = {field.name: field for field in cloud.fields}
    return next((named[name] for name in TIME_FIELDS if name in named), None)


def _offsets_ns(values: NDArray, field: PointField, low: float, high: float, stamp_ns: int) -> NDArray[np.int64] | None:
    """(N,) int64 nanoseconds after the stamp; None where no row of the table fits.

    values: (N,) int64 or float64; low, high: their extremes.
    """
    if field.datatype in _INTEGERS:
        return values if max(-low, high) <= MAX_OFFSET_NS else None
    if max(-low, high) * NS_PER_S <= MAX_OFFSET_NS:
        return np.rint(values * NS_PER_S).astype(np.int64)
    if field.dtype.itemsize == 8:
        for unit_ns in _NS_OF_UNIT:
            if all(abs(value * unit_ns - stamp_ns) <= MAX_OFFSET_NS for value in (low, high)):
                return _since(values, stamp_ns, unit_ns)
    return None


def _since(values: NDArray, stamp_ns: int, unit_ns: int) -> NDArray[np.int64]:
    """Instants in units of `unit_ns` less the stamp, subtracted before they are scaled so that no digit is lost."""
    whole, rest_ns = divmod(stamp_ns, unit_ns)
    return np.rint((values - whole) * unit_ns).astype(np.int64) - rest_ns
