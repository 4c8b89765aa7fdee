"""sensor_msgs/PointCloud2 to records and back, in any layout a sender may choose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.config import PairingConfig
from seg_perception.datatypes import POINT_FIELD_DTYPES, LidarScan, PointCloud, PointField, SemanticCloud
from seg_perception.errors import MessageError
from seg_perception.messages.header import as_bytes, stamp_ns
from seg_perception.messages.point_times import Times, point_stamps_ns, read_times, time_field

_CODE_OF_DTYPE = {np.dtype(name): code for code, name in POINT_FIELD_DTYPES.items()}
_FLOATS = (7, 8)
_ASKED = np.arange(128) * 0.618034 % 1.0  # where in a cloud lie the points that tell when the middle of a sweep was
_TELLING = 32  # of those: where fewer are returns, all points are looked at
_WITHIN = 0.75  # of the window; the rest is for the jitter of what is taken at the stamp
_IN_THE_MIDDLE = 0.1  # of a sweep's length: a stamp so near to its middle is meant to be there

# What a semantic cloud adds to each point: offset within the added bytes, and PointField code. The widest come first,
# so that each value lies on a multiple of its size.
_LABEL_FIELDS = {"rgb": (0, 7), "class_id": (10, 2), "probability": (4, 7), "instance_id": (8, 4)}
_LABEL_BYTES = 12


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
    fields = tuple(PointField(f.name, int(f.offset), int(f.datatype), int(f.count) or 1) for f in msg.fields)
    _check_fields(fields, point_step, what)
    if positions:
        _check_positions(fields, what)
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
    field, note = time_field(cloud)
    points, times = _read_points(cloud, field)
    stamps = None
    if field is not None:
        stamps, note = point_stamps_ns(cloud, field, times)
    return LidarScan(cloud.frame_id, cloud.stamp_ns, points, stamps, cloud), note


def middle_ns(cloud: PointCloud, config: PairingConfig) -> int:
    """The instant in the middle of a sweep, with which images are paired: drivers stamp where a turn begins (Ouster),
    ends (Velodyne) or where it looks ahead. The stamp itself where points tell no times that can be used, or tell that
    it is about there. Within three quarters of the window from the stamp: what a camera took at about the stamp, as the
    LiDAR triggers it, stays in the window. cloud: with x, y and z.

    As a few points have it that are spread over rows and columns: quick, and to a few hundredths of the sweep's length.
    """
    field, _ = time_field(cloud)
    if field is None or len(cloud) == 0:
        return cloud.stamp_ns
    rows = (_ASKED * len(cloud)).astype(np.int64)
    some = replace(cloud, width=len(rows), height=1, data=cloud.data[rows])
    _, times = _read_points(some, field)
    if np.count_nonzero(times.usable) < _TELLING:
        _, times = _read_points(cloud, field)
    ends = point_stamps_ns(cloud, field, times.ends())[0] if times.low <= times.high else None
    if ends is None:
        return cloud.stamp_ns
    first, last = ends.tolist()
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
    kept = tuple(field for field in source.fields if field.name not in _LABEL_FIELDS or _is_label_field(field))
    taken = {field.name for field in kept}
    start = -(-source.point_step // 4) * 4
    added = [PointField(name, start + at, code) for name, (at, code) in _LABEL_FIELDS.items() if name not in taken]
    point_step = start + _LABEL_BYTES if added else source.point_step
    shape = len(source), point_step
    data = room(shape) if room else np.empty(shape, np.uint8)
    cloud = PointCloud(
        source.frame_id,
        source.stamp_ns,
        source.width,
        source.height,
        (*kept, *added),
        data,
        source.is_bigendian,
        source.is_dense,
    )
    order = ">" if source.is_bigendian else "<"
    rgb_of_class = packed_colors(colors).astype(f"{order}u4")
    if len(added) == len(_LABEL_FIELDS):
        words = data.view(np.uint32)
        points = source.data.view(np.uint32) if _in_words(source.data) else words[:, :0]
        if not points.size:
            _copy_points(source, data, start)
        probability, instance_id = semantic.probability.astype(f"{order}f4"), semantic.instance_id.astype(f"{order}u2")
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


def packed_colors(colors: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """(256,) uint32 0x00RRGGBB of (256, 3) RGB: the bits of the float field `rgb`, as RViz and PCL read it."""
    red, green, blue = colors.astype(np.uint32).T
    return red << 16 | green << 8 | blue


def labels_from_cloud(cloud: PointCloud) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint16]]:
    """class_id, probability, instance_id, (N,) each, of a cloud that `encode_semantic_cloud` made. Or MessageError."""
    class_id, probability, instance_id = (cloud.field(name) for name in ("class_id", "probability", "instance_id"))
    return class_id.astype(np.uint8), probability.astype(np.float32), instance_id.astype(np.uint16)


def _check_fields(fields: tuple[PointField, ...], point_step: int, what: str) -> None:
    """Refuse fields that cannot be read from a point of `point_step` bytes."""
    named: dict[str, PointField] = {}
    for field in fields:
        if field.datatype not in POINT_FIELD_DTYPES:
            raise MessageError(f"{what}: field '{field.name}' has datatype {field.datatype}, 1 to 8 wanted")
        if field.offset + field.nbytes > point_step:
            raise MessageError(
                f"{what}: field '{field.name}' ends at byte {field.offset + field.nbytes}, point_step is {point_step}"
            )
        if field.name in named:
            raise MessageError(
                f"{what}: field '{field.name}' is there twice, at {named[field.name].offset} and {field.offset}"
            )
        if field.name.strip("_"):  # padding may have no name, or several times the same
            named[field.name] = field


def _check_positions(fields: tuple[PointField, ...], what: str) -> None:
    """Refuse fields that do not hold x, y, z, each for itself."""
    named = {field.name: field for field in fields}
    for axis in ("x", "y", "z"):
        found = named.get(axis)
        if found is None:
            raise MessageError(f"{what}: no field '{axis}' among {[field.name for field in fields]}")
        if found.datatype not in _FLOATS or found.count != 1:
            raise MessageError(
                f"{what}: field '{axis}' has datatype {found.datatype} and count {found.count}, "
                "one FLOAT32 (7) or FLOAT64 (8) wanted"
            )
        for other in fields:
            if (
                other is not found
                and found.offset < other.offset + other.nbytes
                and other.offset < found.offset + found.nbytes
            ):
                raise MessageError(
                    f"{what}: field '{axis}' at byte {found.offset} overlaps '{other.name}' at {other.offset}"
                )


def _read_points(cloud: PointCloud, time: PointField | None) -> tuple[NDArray[np.float32], Times]:
    """(N, 3) float32, a copy, where one at exactly (0, 0, 0) becomes NaN; and what the field `time` holds."""
    named = {field.name: field for field in cloud.fields}
    fields = [named[axis] for axis in "xyz"]
    in_words = (
        _in_words(cloud.data) and not cloud.is_bigendian and all(field.datatype == _FLOATS[0] for field in fields)
    )
    places = [field.offset for field in (*fields, time) if field is not None]
    if in_words and not any(place % 4 for place in places):
        x, y, z, *t = (place // 4 for place in places)
        kind = time.datatype if time else 0
        points, *times = _gather(cloud.data.view(np.uint32), x, y, z, t[0] if t else 0, kind)
        return points, Times(*times)
    points = np.empty((len(cloud), 3), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # a FLOAT64 that no float32 holds becomes infinite: no return
        for column, axis in enumerate("xyz"):  # by columns: twice as fast as three in a row
            points[:, column] = cloud.field(axis)
    valid = _returns(points)
    return points, read_times(cloud.field(time.name) if time else np.zeros(len(cloud)), valid)


@numba.njit(cache=True, nogil=True)
def _gather(words, x, y, z, t, kind):  # type: ignore[no-untyped-def]
    """What `_read_points` wants, of words (N, M) uint32, touching each point once. x, y, z, t: the word where each
    begins, three float32 and a PointField of datatype `kind`, 0 for none."""
    count = words.shape[0]
    points, floats = np.empty((count, 3), np.float32), words.view(np.float32)
    values, usable = np.empty(count if kind else 0, np.float64), np.empty(count if kind else 0, np.bool_)
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
    return points, values, usable, low, high


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


def _is_label_field(field: PointField) -> bool:
    return field.datatype == _LABEL_FIELDS[field.name][1] and field.count == 1


def _is_dense(columns: Mapping[str, NDArray]) -> bool:
    return all(bool(np.isfinite(columns[axis]).all()) for axis in ("x", "y", "z") if axis in columns)
