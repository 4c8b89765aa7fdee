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

from collections.abc import Sequence
from dataclasses import dataclass

import numba
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


@dataclass(frozen=True, slots=True, eq=False)
class Times:
    """What a time field holds. values: (N,) float64, which holds every type of the table exactly; usable: (N,) finite,
    and of a return; low, high: the extremes of those, infinite where there are none."""

    values: NDArray[np.float64]
    usable: NDArray[np.bool_]
    low: float
    high: float


def time_field(fields: Sequence[PointField]) -> tuple[PointField | None, str]:
    """The field that says when a point was measured, None where none can; and why, empty where there is no such field
    at all."""
    named = {field.name: field for field in fields}
    field = next((named[name] for name in TIME_FIELDS if name in named), None)
    if field is None or (field.count == 1 and field.datatype in (*_INTEGERS, *_FLOATS)):
        return field, ""
    return (
        None,
        f"time field '{field.name}' is {field.count} x {field.dtype.name}, one 32-bit integer or float wanted",
    )


def read_times(values: NDArray, valid: NDArray[np.bool_]) -> Times:
    """values: (N,) of any type of the table. valid: (N,) which points are returns."""
    with np.errstate(invalid="ignore"):  # of a signalling NaN, which is no time, and becomes a quiet one
        values = values.astype(np.float64)
    usable = valid & np.isfinite(values)
    used = values[usable]
    return Times(values, usable, float(used.min(initial=np.inf)), float(used.max(initial=-np.inf)))


def point_stamps_ns(cloud: PointCloud, field: PointField, times: Times) -> tuple[NDArray[np.int64] | None, str]:
    """(N,) int64 nanoseconds, or None where they cannot be told, and why. field: that `times` were read from."""
    scale = _scale(field, times, cloud.stamp_ns)
    if scale is None:
        whole_numbers = field.datatype in _INTEGERS
        low, high = (int(value) if whole_numbers else value for value in (times.low, times.high))
        return None, (
            f"time field '{field.name}' ({field.dtype.name}) runs from {low!r} to {high!r}: neither an offset of at "
            f"most 1 s nor within 1 s of the stamp {cloud.stamp_ns} ns"
        )
    return _stamps(times.values, times.usable, cloud.stamp_ns, *scale), ""


def ends_ns(cloud: PointCloud, field: PointField, times: Times) -> tuple[int, int] | None:
    """The first and the last of `point_stamps_ns`, of points that have a time; None where they cannot be told."""
    scale = _scale(field, times, cloud.stamp_ns)
    if scale is None:
        return None
    whole, unit_ns, rest_ns = scale
    first, last = (cloud.stamp_ns - rest_ns + round((value - whole) * unit_ns) for value in (times.low, times.high))
    return first, last


def _scale(field: PointField, times: Times, stamp_ns: int) -> tuple[float, float, int] | None:
    """What to subtract of a value first, what to multiply it with then, and what nanoseconds to subtract of the
    rounded product, so that these count from the stamp; None where no row of the table fits.

    Instants have the stamp subtracted before they are scaled, so that no digit is lost.
    """
    low, high = times.low, times.high
    unit_ns = 1 if field.datatype in _INTEGERS else NS_PER_S
    if max(-low, high) * unit_ns <= MAX_OFFSET_NS:
        return 0.0, float(unit_ns), 0
    for unit_ns in _NS_OF_UNIT if field.datatype == _FLOATS[1] else ():
        if all(abs(value * unit_ns - stamp_ns) <= MAX_OFFSET_NS for value in (low, high)):
            whole, rest_ns = divmod(stamp_ns, unit_ns)
            return float(whole), float(unit_ns), rest_ns
    return None


@numba.njit(cache=True, nogil=True)
def _stamps(values, usable, stamp_ns, whole, unit_ns, rest_ns):  # type: ignore[no-untyped-def]
    """(N,) int64: the stamp where a value is not usable."""
    stamps = np.empty(values.shape[0], np.int64)
    for i in range(values.shape[0]):
        offset_ns = np.rint((values[i] - whole) * unit_ns) if usable[i] else np.float64(rest_ns)
        stamps[i] = stamp_ns - rest_ns + np.int64(offset_ns)
    return stamps
