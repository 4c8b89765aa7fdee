"""What the fields of a cloud tell of its points: found out once, as the sweeps of a LiDAR have all the same ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar, cast

from seg_perception.datatypes import POINT_FIELD_DTYPES, PointCloud, PointField
from seg_perception.errors import MessageError
from seg_perception.messages.point_times import time_field

FLOAT32, FLOAT64 = 7, 8
_FIELDS_REMEMBERED = 64  # a cloud with more of them is looked at anew each time: what is remembered stays small

# What a semantic cloud adds to each point: offset within the added bytes, and PointField code. The widest come first,
# so that each value lies on a multiple of its size.
LABEL_FIELDS = {"rgb": (0, 7), "class_id": (10, 2), "probability": (4, 7), "instance_id": (8, 4)}
_LABEL_BYTES = 12

Asked = TypeVar("Asked", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class PointLayout:
    """time: the field that says when a point was measured, and time_note, as `point_times.time_field` has them.

    words: where x, y, z and the time (0 without) begin, in words of four bytes; None where they do not begin at such,
    are not FLOAT32, or lie in another order of bytes. labelled: the fields of the semantic cloud; labels_at: the byte
    at which those that are added begin; labels_apart: whether they are all added; labelled_step: bytes a point.
    """

    time: PointField | None
    time_note: str
    words: tuple[int, int, int, int] | None
    labelled: tuple[PointField, ...]
    labels_at: int
    labels_apart: bool
    labelled_step: int


def _remembered(ask: Asked) -> Asked:
    """The answers for the last lists of fields, unless these are endless. ask: given the fields first."""
    known = lru_cache(maxsize=16)(ask)

    def answer(fields: tuple[PointField, ...], *more: Any) -> Any:
        return (known if len(fields) <= _FIELDS_REMEMBERED else ask)(fields, *more)

    return cast(Asked, answer)


def layout_of(cloud: PointCloud) -> PointLayout:
    """Of a cloud whose fields were checked."""
    return _layout(cloud.fields, cloud.point_step, cloud.is_bigendian)


@_remembered
def _layout(fields: tuple[PointField, ...], point_step: int, is_bigendian: bool) -> PointLayout:
    time, time_note = time_field(fields)
    kept = tuple(field for field in fields if field.name not in LABEL_FIELDS or _is_label_field(field))
    taken = {field.name for field in kept}
    start = -(-point_step // 4) * 4
    added = [PointField(name, start + at, code) for name, (at, code) in LABEL_FIELDS.items() if name not in taken]
    return PointLayout(
        time,
        time_note,
        None if is_bigendian else _words(fields, point_step, time),
        (*kept, *added),
        start,
        len(added) == len(LABEL_FIELDS),
        start + _LABEL_BYTES if added else point_step,
    )


def _words(
    fields: tuple[PointField, ...], point_step: int, time: PointField | None
) -> tuple[int, int, int, int] | None:
    named = {field.name: field for field in fields}
    axes = [named[axis] for axis in "xyz" if axis in named]
    places = [*(field.offset for field in axes), time.offset if time else 0]
    if len(axes) < 3 or any(field.datatype != FLOAT32 for field in axes) or any(at % 4 for at in (*places, point_step)):
        return None
    x, y, z, t = (place // 4 for place in places)
    return x, y, z, t


def _is_label_field(field: PointField) -> bool:
    return field.datatype == LABEL_FIELDS[field.name][1] and field.count == 1


@_remembered
def check_fields(fields: tuple[PointField, ...], point_step: int) -> None:
    """Raise MessageError for fields that cannot be read from a point of `point_step` bytes."""
    named: dict[str, PointField] = {}
    for field in fields:
        if field.datatype not in POINT_FIELD_DTYPES:
            raise MessageError(f"field '{field.name}' has datatype {field.datatype}, 1 to 8 wanted")
        if field.offset + field.nbytes > point_step:
            raise MessageError(
                f"field '{field.name}' ends at byte {field.offset + field.nbytes}, point_step is {point_step}"
            )
        if field.name in named:
            raise MessageError(f"field '{field.name}' is there twice, at {named[field.name].offset} and {field.offset}")
        if field.name.strip("_"):  # padding may have no name, or several times the same
            named[field.name] = field


@_remembered
def check_positions(fields: tuple[PointField, ...]) -> None:
    """Raise MessageError for fields that do not hold x, y, z, each for itself."""
    named = {field.name: field for field in fields}
    for axis in ("x", "y", "z"):
        found = named.get(axis)
        if found is None:
            raise MessageError(f"no field '{axis}' among {[field.name for field in fields]}")
        if found.datatype not in (FLOAT32, FLOAT64) or found.count != 1:
            raise MessageError(
                f"field '{axis}' has datatype {found.datatype} and count {found.count}, "
                "one FLOAT32 (7) or FLOAT64 (8) wanted"
            )
        for other in fields:
            if (
                other is not found
                and found.offset < other.offset + other.nbytes
                and other.offset < found.offset + found.nbytes
            ):
                raise MessageError(f"field '{axis}' at byte {found.offset} overlaps '{other.name}' at {other.offset}")
