"""sensor_msgs/PointCloud2 to records and back, in any layout a sender may choose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.config import PairingConfig
from seg_perception.datatypes import POINT_FIELD_DTYPES, LidarScan, PointCloud, PointField, SemanticCloud
from seg_perception.errors import MessageError
from seg_perception.messages.cdr import CloudMessage
from seg_perception.messages.header import as_bytes, stamp_ns
from seg_perception.messages.point_layout import PointLayout, check_fields, check_positions, layout_of
from seg_perception.messages.point_times import Times, ends_ns, point_stamps_ns, read_times

_CODE_OF_DTYPE = {np.dtype(name): code for code, name in POINT_FIELD_DTYPES.items()}
_ASKED = np.arange(128) * 0.618034 % 1.0  # where in a cloud lie the points that tell when the middle of a sweep was
_TELLING = 32  # of those: where fewer are returns, all points are looked at
_WITHIN = 0.75  # of the window; the rest is for the jitter of what is taken at the stamp
_IN_THE_MIDDLE = 0.1  # of a sweep's length: a stamp so near to its middle is meant to be there


def decode_cloud(msg: Any, *, positions: bool = True) -> PointCloud:
    """A PointCloud2 as a record; its data are shared, not copied, unless its rows are padded.

    Raises StampError for stamp 0; MessageError, with the numbers, for sizes that contradict each other or the length of
    the data, unknown datatypes, fields beyond the point, names given twice, and, unless `positions` are not needed, x,
    y, z missing, not float or overlapped.
    """
    what = f"cloud in frame '{msg.header.frame_id}'"
    stamp = stamp_ns(msg.header, "cloud")
    width, height, point_step, row_step = int(msg.width), int(msg.height), int(msg.point_step), int(msg.row_step)
    data = as_bytes(msg.data)
    if row_step < width * point_step:
        raise MessageError(
            f"{what}: row_step is {row_step}, at least {width * point_step} wanted for {width} points of {point_step} "
            "bytes"
        )
    if len(data) != row_step * height:
        raise MessageError(
            f"{what}: {len(data)} bytes of data seen, {row_step * height} wanted for {height} rows of {row_step}"
        )
    fields = (
        msg.fields
        if isinstance(msg, CloudMessage)
        else tuple(PointField(f.name, int(f.offset), int(f.datatype), int(f.count) or 1) for f in msg.fields)
    )
    try:
        check_fields(fields, point_step)
        if positions:
            check_positions(fields)
    except MessageError as error:
        raise MessageError(f"{what}: {error}") from None
    rows = data.reshape(height, row_step)[:, : width * point_step]
    points = np.ascontiguousarray(rows).reshape(height * width, point_step)
    return PointCloud(
        msg.header.frame_id, stamp, width, height, fields, points, bool(msg.is_bigendian), bool(msg.is_dense)
    )


def decode_scan(msg: Any) -> tuple[LidarScan, str]:
    """A sweep from a PointCloud2; and why its per-point times were not used, empty where nothing was wrong with them.

    A point at exactly (0, 0, 0), which is how some drivers write "no return", becomes NaN in `points`; `cloud` keeps
    the sender's bytes. Times: see `point_times`. Raises as `decode_cloud`.
    """
    return scan_from_cloud(decode_cloud(msg))


def scan_from_cloud(cloud: PointCloud) -> tuple[LidarScan, str]:
    """As `decode_scan`, from a record that has x, y and z."""
    layout = layout_of(cloud)
    points, times = _read_points(cloud, layout, cloud.data)
    stamps, note = None, layout.time_note
    if layout.time is not None:
        stamps, note = point_stamps_ns(cloud, layout.time, times)
    return LidarScan(cloud.frame_id, cloud.stamp_ns, points, stamps, cloud), note


def middle_ns(cloud: PointCloud, config: PairingConfig) -> int:
    """The instant in the middle of a sweep, with which images are paired: drivers stamp where a turn begins (Ouster),
    ends (Velodyne) or where it looks ahead. The stamp itself where points tell no times that can be used, or tell that
    it is about there. Within three quarters of the window from the stamp: what a camera took at about the stamp, as the
    LiDAR triggers it, stays in the window. cloud: with x, y and z.

    As a few points have it that are spread over rows and columns: quick, and to a few hundredths of the sweep's length.
    """
    layout = layout_of(cloud)
    if layout.time is None or len(cloud) == 0:
        return cloud.stamp_ns
    _, times = _read_points(cloud, layout, cloud.data[(_ASKED * len(cloud)).astype(np.int64)])
    if np.count_nonzero(times.usable) < _TELLING:
        _, times = _read_points(cloud, layout, cloud.data)
    ends = ends_ns(cloud, layout.time, times) if times.low <= times.high else None
    if ends is None:
        return cloud.stamp_ns
    first, last = ends
    ahead = (first + last) // 2 - cloud.stamp_ns
    if abs(ahead) <= _IN_THE_MIDDLE * (last - first):
        return cloud.stamp_ns
    most = round(_WITHIN * config.window_ms * 1e6)
    return max(cloud.stamp_ns + min(max(ahead, -most), most), 1)


def cloud_fields(cloud: PointCloud) -> dict[str, Any]:
    """The fields of a PointCloud2, header excepted. `fields`: PointField records; `data`: (N,) uint8, shared."""
    return {
        "height": cloud.height,
        "width": cloud.width,
        "fields": cloud.fields,
        "is_bigendian": cloud.is_bigendian,
        "point_step": cloud.point_step,
        "row_step": cloud.point_step * cloud.width,
        "data": np.ascontiguousarray(cloud.data).reshape(-1),
        "is_dense": cloud.is_dense,
    }


def cloud_from_columns(frame_id: str, stamp_ns: int, columns: Mapping[str, NDArray]) -> PointCloud:
    """Pack columns (N,), or (N, count), into an unorganised cloud, in their order; each keeps its numpy type.

    Raises MessageError for a type that PointField cannot name (64-bit integers, bool, half) and for unequal lengths.
    """
    fields, offset = [], 0
    length = len(next(iter(columns.values()), ()))
    for name, column in columns.items():
        code = _CODE_OF_DTYPE.get(column.dtype.newbyteorder("="))
        if code is None:
            wanted = ", ".join(str(dtype) for dtype in _CODE_OF_DTYPE)
            raise MessageError(f"cloud column '{name}': one of {wanted} wanted, {column.dtype} seen")
        if len(column) != length or column.ndim not in (1, 2):
            raise MessageError(f"cloud column '{name}': {length} values wanted, shape {column.shape} seen")
        fields.append(PointField(name, offset, code, 1 if column.ndim == 1 else column.shape[1]))
        offset += fields[-1].nbytes
    data = np.zeros((length, offset), np.uint8)
    cloud = PointCloud(frame_id, stamp_ns, length, 1, tuple(fields), data, is_dense=_is_dense(columns))
    for name, column in columns.items():
        cloud.field(name)[:] = column
    return cloud


def encode_semantic_cloud(
    semantic: SemanticCloud,
    colors: NDArray[np.uint8],
    room: Callable[[tuple[int, int]], NDArray[np.uint8]] | None = None,
) -> PointCloud:
    """The input cloud, every field where it was, with the labels added to each point.

    rgb: FLOAT32 whose bits are 0x00RRGGBB, from `colors` (256, 3) uint8 by class_id; class_id: UINT8; probability:
    FLOAT32; instance_id: UINT16. A field that the input has already, of the same name and type, is overwritten in
    place; one of another type is taken off the list of fields. room: gives memory for the points, of a shape.
    """
    source = semantic.scan.cloud
    layout = layout_of(source)
    shape, start = (len(source), layout.labelled_step), layout.labels_at
    data = room(shape) if room else np.empty(shape, np.uint8)
    cloud = PointCloud(
        source.frame_id,
        source.stamp_ns,
        source.width,
        source.height,
        layout.labelled,
        data,
        source.is_bigendian,
        source.is_dense,
    )
    order = ">" if source.is_bigendian else "<"
    rgb_of_class = _rgb_of_class(colors.tobytes(), order)
    if layout.labels_apart:
        words = data.view(np.uint32)
        points = source.data.view(np.uint32) if _in_words(source.data) else words[:, :0]
        if not points.size:
            _copy_points(source, data, start)
        probability, instance_id = (
            values.astype(f"{order}{kind}", copy=False)
            for values, kind in ((semantic.probability, "f4"), (semantic.instance_id, "u2"))
        )
        labels = semantic.class_id, probability.view("u4"), instance_id.view("u2")
        _write(words, points, start // 4, rgb_of_class.view("u4"), *labels)
        return cloud
    _copy_points(source, data, start)
    data[:, start:] = 0
    cloud.field("rgb").view(rgb_of_class.dtype)[:] = rgb_of_class[semantic.class_id]
    cloud.field("class_id")[:] = semantic.class_id
    cloud.field("probability")[:] = semantic.probability
    cloud.field("instance_id")[:] = semantic.instance_id
    return cloud


def _copy_points(source: PointCloud, target: NDArray[np.uint8], start: int) -> None:
    """Each point's bytes to the beginning of a longer one, zeros behind them up to `start`."""
    whole = np.dtype((np.void, source.point_step))  # as things of that size, twice as fast as byte by byte
    longer = np.dtype({"names": ["whole"], "formats": [whole], "itemsize": target.shape[1]})
    target.view(longer)["whole"] = np.ascontiguousarray(source.data).view(whole)
    target[:, source.point_step : start] = 0  # padding is published too: the same bytes for the same labels


def _in_words(data: NDArray[np.uint8]) -> bool:
    """Whether points (N, point_step) can be read four bytes at a time by what is compiled beforehand."""
    flags = data.flags
    return data.shape[1] % 4 == 0 and data.ctypes.data % 4 == 0 and flags.writeable and flags.c_contiguous


@numba.njit(cache=True, nogil=True)
def _write(words, points, start, rgb_of_class, class_id, probability, instance_id):  # type: ignore[no-untyped-def]
    """The points and, from word `start` on, all of `_LABEL_FIELDS` into words (N, M); each value's bytes are in the
    cloud's order already. points: (N, any number) words, or none of a point where they lie there."""
    for i in range(words.shape[0]):
        for k in range(points.shape[1]):
            words[i, k] = points[i, k]
        words[i, start] = rgb_of_class[class_id[i]]
        words[i, start + 1] = probability[i]
        words[i, start + 2] = np.uint32(instance_id[i]) | np.uint32(class_id[i]) << np.uint32(16)


@lru_cache(maxsize=16)
def _rgb_of_class(colors: bytes, order: str) -> NDArray[np.uint32]:
    return packed_colors(np.frombuffer(colors, np.uint8).reshape(-1, 3)).astype(f"{order}u4")


def packed_colors(colors: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """(256,) uint32 0x00RRGGBB of (256, 3) RGB: the bits of the float field `rgb`, as RViz and PCL read it."""
    red, green, blue = colors.astype(np.uint32).T
    return red << 16 | green << 8 | blue


def labels_from_cloud(cloud: PointCloud) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint16]]:
    """class_id, probability, instance_id, (N,) each, of a cloud that `encode_semantic_cloud` made. Or MessageError."""
    class_id, probability, instance_id = (cloud.field(name) for name in ("class_id", "probability", "instance_id"))
    return class_id.astype(np.uint8), probability.astype(np.float32), instance_id.astype(np.uint16)


def _read_points(cloud: PointCloud, layout: PointLayout, data: NDArray[np.uint8]) -> tuple[NDArray[np.float32], Times]:
    """(N, 3) float32, a copy, where one at exactly (0, 0, 0) becomes NaN; and what the field of times holds. data:
    (N, point_step), points of this cloud."""
    time = layout.time
    if layout.words and _in_words(data):
        points, kind = np.empty((len(data), 3), np.float32), time.datatype if time else 0
        count = len(data) if kind else 0
        values, usable = np.empty(count, np.float64), np.empty(count, np.bool_)
        low, high = _gather(data.view(np.uint32), *layout.words, kind, points, values, usable)
        return points, Times(values, usable, low, high)
    cloud = replace(cloud, width=len(data), height=1, data=data)
    points = np.empty((len(cloud), 3), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # a FLOAT64 that no float32 holds becomes infinite: no return
        for column, axis in enumerate("xyz"):  # by columns: twice as fast as three in a row
            points[:, column] = cloud.field(axis)
    valid = _returns(points)
    return points, read_times(cloud.field(time.name) if time else np.zeros(len(cloud)), valid)


@numba.njit(cache=True, nogil=True)
def _gather(words, x, y, z, t, kind, points, values, usable):  # type: ignore[no-untyped-def]
    """Fill what `_read_points` gives, of words (N, M) uint32, touching each point once; returns the extremes. x, y, z,
    t: the word where each begins, three float32 and a PointField of datatype `kind`, 0 for none."""
    count, floats = words.shape[0], words.view(np.float32)
    low, high = np.inf, -np.inf
    for i in range(count):
        px, py, pz = floats[i, x], floats[i, y], floats[i, z]
        if px == 0 and py == 0 and pz == 0:
            px = py = pz = np.float32(np.nan)
        points[i, 0], points[i, 1], points[i, 2] = px, py, pz
        if kind == 0:
            continue
        if kind == 7:
            value = np.float64(floats[i, t])
        elif kind == 8:
            value = np.uint64(np.uint64(words[i, t]) | np.uint64(words[i, t + 1]) << np.uint64(32)).view(np.float64)
        elif kind == 6:
            value = np.float64(words[i, t])
        else:
            value = np.float64(np.int32(words[i, t]))
        good = np.isfinite(px) and np.isfinite(py) and np.isfinite(pz) and np.isfinite(value)
        values[i], usable[i] = value, good
        if good:
            low, high = min(low, value), max(high, value)
    return low, high


@numba.njit(cache=True, nogil=True)
def any_return(points):  # type: ignore[no-untyped-def]
    """Whether any of points (N, 3) float32 is a return; looks no further than the first."""
    for i in range(points.shape[0]):
        if np.isfinite(points[i, 0]) and np.isfinite(points[i, 1]) and np.isfinite(points[i, 2]):
            return True
    return False


@numba.njit(cache=True, nogil=True)
def _returns(points):  # type: ignore[no-untyped-def]
    """(N,) True where a point is a return; one at exactly (0, 0, 0) becomes NaN. points: (N, 3) float32."""
    valid = np.empty(points.shape[0], np.bool_)
    for i in range(points.shape[0]):
        x, y, z = points[i]
        if x == 0 and y == 0 and z == 0:
            points[i] = np.nan
            valid[i] = False
        else:
            valid[i] = np.isfinite(x) and np.isfinite(y) and np.isfinite(z)
    return valid


def _is_dense(columns: Mapping[str, NDArray]) -> bool:
    return all(bool(np.isfinite(columns[axis]).all()) for axis in ("x", "y", "z") if axis in columns)
