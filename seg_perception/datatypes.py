"""The immutable records that travel between rooms. Shapes are checked here, once; the mathematics below trusts them.

Stamps are integer nanoseconds. Arrays are shared, not copied: treat them as read-only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import MessageError

UNKNOWN = 255  # class_id of a point that no camera labelled; the UNLABELED of vision_msgs
NO_INSTANCE = 0
NO_CAMERA = 255

# sensor_msgs/PointField datatype codes and the numpy types they name.
POINT_FIELD_DTYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
_BYTES = {code: int(name[1]) for code, name in POINT_FIELD_DTYPES.items()}  # asked of every field of every sweep


def _check_shape(owner: str, name: str, array: NDArray, shape: tuple[int | None, ...], dtype: str) -> None:
    """Refuse an array that is not `shape` (None: any length) or not `dtype`."""
    fits = array.ndim == len(shape) and array.dtype == dtype
    for length, seen in zip(shape, array.shape, strict=False):
        fits = fits and length in (None, seen)
    if not fits:
        want = "x".join("N" if side is None else str(side) for side in shape)
        raise MessageError(f"{owner}.{name}: {dtype} of shape {want} wanted, {array.dtype} of shape {array.shape} seen")


@dataclass(frozen=True, slots=True, eq=False)
class CameraImage:
    """One picture of one camera.

    pixels: (H, W, 3) uint8, RGB. frame_id: the optical frame (z forward, x right, y down).
    """

    camera: str
    frame_id: str
    stamp_ns: int
    pixels: NDArray[np.uint8]

    def __post_init__(self) -> None:
        _check_shape("CameraImage", "pixels", self.pixels, (None, None, 3), "uint8")

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]


class PointField(NamedTuple):
    """One field of a point: byte `offset` in it, `datatype` code of sensor_msgs/PointField, `count` values.

    A tuple, as layouts of points are looked up with each sweep and a tuple is compared in a tenth of the time.
    """

    name: str
    offset: int
    datatype: int
    count: int = 1  # type: ignore[assignment]  # by that name in ROS; a tuple's own is not wanted

    @property
    def dtype(self) -> np.dtype:
        """Little-endian numpy type of one value."""
        return np.dtype("<" + POINT_FIELD_DTYPES[self.datatype])

    @property
    def nbytes(self) -> int:
        """Bytes that the field takes in each point."""
        return _BYTES[self.datatype] * self.count


@dataclass(frozen=True, slots=True, eq=False)
class PointCloud:
    """A point cloud as its sender laid it out: every field, every byte.

    data: (height * width, point_step) uint8, row padding removed. `height` > 1: organised, row-major.
    """

    frame_id: str
    stamp_ns: int
    width: int
    height: int
    fields: tuple[PointField, ...]
    data: NDArray[np.uint8]
    is_bigendian: bool = False
    is_dense: bool = False

    def __post_init__(self) -> None:
        _check_shape("PointCloud", "data", self.data, (self.width * self.height, None), "uint8")
        for point_field in self.fields:
            if point_field.offset + point_field.nbytes > self.point_step:
                raise MessageError(
                    f"PointCloud field '{point_field.name}' ends at byte {point_field.offset + point_field.nbytes}, "
                    f"beyond point_step {self.point_step}"
                )

    def __len__(self) -> int:
        return self.width * self.height

    @property
    def point_step(self) -> int:
        """Bytes a point."""
        return self.data.shape[1]

    def select(self, mask: NDArray[np.bool_]) -> PointCloud:
        """The points where mask (N,) is True, every field of theirs, no longer organised."""
        data = self.data[mask]
        return replace(self, width=len(data), height=1, data=data)

    def has(self, name: str) -> bool:
        """Whether a field of that name is there."""
        return any(point_field.name == name for point_field in self.fields)

    def field(self, name: str) -> NDArray:
        """A view of one field: (N,) or, for count > 1, (N, count); in the sender's byte order, nothing copied."""
        for point_field in self.fields:
            if point_field.name == name:
                break
        else:
            raise MessageError(f"PointCloud has no field '{name}'; it has {[f.name for f in self.fields]}")
        dtype = point_field.dtype.newbyteorder(">" if self.is_bigendian else "<")
        count = point_field.count
        if len(self) == 0:  # numpy lays no strides over an empty buffer
            return np.empty((0,) if count == 1 else (0, count), dtype)
        view = np.ndarray(
            (len(self), count), dtype, self.data, point_field.offset, (self.data.strides[0], dtype.itemsize)
        )
        return view[:, 0] if count == 1 else view


@dataclass(frozen=True, slots=True, eq=False)
class LidarScan:
    """One sweep of one LiDAR.

    points: (N, 3) float32, metres, in `frame_id`; a point with any non-finite coordinate is no return.
    stamps_ns: (N,) int64, the instant each point was measured; None where the sender does not say, and then
    `stamp_ns` stands for all. cloud: the message it came from, in the same order, every field kept. lidar: its name,
    where there are several. middle_ns: the instant that images were paired with, where not `stamp_ns`.
    """

    frame_id: str
    stamp_ns: int
    points: NDArray[np.float32]
    stamps_ns: NDArray[np.int64] | None
    cloud: PointCloud
    lidar: str = ""
    middle_ns: int | None = None

    def __post_init__(self) -> None:
        _check_shape("LidarScan", "points", self.points, (None, 3), "float32")
        if self.stamps_ns is not None:
            _check_shape("LidarScan", "stamps_ns", self.stamps_ns, (len(self.points),), "int64")
        if len(self.cloud) != len(self.points):
            raise MessageError(f"LidarScan: {len(self.points)} points beside a cloud of {len(self.cloud)}")

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True, slots=True, eq=False)
class PointLabels:
    """What an image says at N places.

    class_id: (N,) uint8 train ids, UNKNOWN where the image has nothing to say. probability: (N,) float32 of that class.
    margin: (N,) float32, probability of the best class minus that of the second: small near a label boundary.
    instance_id: (N,) uint16, which thing of the image, NO_INSTANCE for none; None where it does not tell things apart.
    """

    class_id: NDArray[np.uint8]
    probability: NDArray[np.float32]
    margin: NDArray[np.float32]
    instance_id: NDArray[np.uint16] | None = None

    def __post_init__(self) -> None:
        _check_shape("PointLabels", "class_id", self.class_id, (None,), "uint8")
        _check_shape("PointLabels", "probability", self.probability, self.class_id.shape, "float32")
        _check_shape("PointLabels", "margin", self.margin, self.class_id.shape, "float32")
        if self.instance_id is not None:
            _check_shape("PointLabels", "instance_id", self.instance_id, self.class_id.shape, "uint16")


@dataclass(frozen=True, slots=True, eq=False)
class SemanticCloud:
    """A sweep with a label on each point.

    class_id: (N,) uint8 train ids, UNKNOWN where no camera saw the point. probability: (N,) float32, 0 where unknown.
    instance_id: (N,) uint16, NO_INSTANCE where none. camera: (N,) uint8 index into `cameras`, NO_CAMERA where none.
    """

    scan: LidarScan
    class_id: NDArray[np.uint8]
    probability: NDArray[np.float32]
    instance_id: NDArray[np.uint16]
    camera: NDArray[np.uint8]
    cameras: tuple[str, ...]

    def __post_init__(self) -> None:
        count = len(self.scan)
        _check_shape("SemanticCloud", "class_id", self.class_id, (count,), "uint8")
        _check_shape("SemanticCloud", "probability", self.probability, (count,), "float32")
        _check_shape("SemanticCloud", "instance_id", self.instance_id, (count,), "uint16")
        _check_shape("SemanticCloud", "camera", self.camera, (count,), "uint8")

    def __len__(self) -> int:
        return len(self.scan)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """(N,) True where a camera labelled the point."""
        return self.class_id != UNKNOWN


@dataclass(frozen=True, slots=True)
class ViewReport:
    """What one camera gave to one sweep.

    offset_ns: image stamp minus the instant of the sweep that it was paired with. Of the points in view:
    behind_windows, those that the LiDAR saw through a vehicle's window and nothing else hides; near_outlines, those of
    which the network of `visibility.method: learned` decided, and doubted, those of them that it left unknown; visible,
    those that the camera sees, whoever decided.
    skipped: why it gave nothing (an error's cause), or empty; detail: the sentence that goes with it.
    """

    stamp_ns: int | None = None
    offset_ns: int | None = None
    in_view: int = 0
    behind_windows: int = 0
    near_outlines: int = 0
    doubted: int = 0
    visible: int = 0
    painted: int = 0
    skipped: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class SweepReport:
    """How one sweep went: what each camera gave, and seconds on a steady clock for each stage.

    motion: how points were moved: "per_point", "per_sweep" or "static". motion_fallback: why not better, or empty.
    carried: points that went on with the thing that they lie on, to the instant of each image.
    """

    views: Mapping[str, ViewReport]
    stage_seconds: Mapping[str, float]
    motion: str
    motion_fallback: str = ""
    carried: int = 0
