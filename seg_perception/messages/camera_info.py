"""sensor_msgs/CameraInfo to a record that compares cheaply, and from there to a camera."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from seg_perception.geometry.camera import CameraModel
from seg_perception.messages.header import header_fields, time_ns


@dataclass(frozen=True, slots=True)
class Roi:
    """sensor_msgs/RegionOfInterest: full-resolution pixels, all zero for the whole image."""

    x_offset: int = 0
    y_offset: int = 0
    height: int = 0
    width: int = 0
    do_rectify: bool = False


@dataclass(frozen=True, slots=True)
class CameraInfoRecord:
    """One CameraInfo. k, r: 9 values and p: 12, row by row. stamp_ns may be 0: a calibration has no time of its own."""

    frame_id: str
    stamp_ns: int
    width: int
    height: int
    distortion_model: str
    d: tuple[float, ...]
    k: tuple[float, ...]
    r: tuple[float, ...]
    p: tuple[float, ...]
    binning_x: int = 0
    binning_y: int = 0
    roi: Roi = Roi()

    def same_camera(self, other: CameraInfoRecord | None) -> bool:
        """Whether nothing but the stamp differs: the camera built from one then serves the other."""
        return other is not None and replace(self, stamp_ns=other.stamp_ns) == other


def record_of(model: CameraModel, frame_id: str, stamp_ns: int) -> CameraInfoRecord:
    """The CameraInfo that `camera_model` reads as this camera."""
    fields = model.to_camera_info_fields()
    fields.update({name: tuple(fields[name]) for name in ("d", "k", "r", "p")})
    return CameraInfoRecord(frame_id, stamp_ns, **fields)


def decode_camera_info(msg: Any) -> CameraInfoRecord:
    """Copy the fields of a CameraInfo. What they say is checked by `camera_model`."""
    return CameraInfoRecord(
        frame_id=msg.header.frame_id,
        stamp_ns=time_ns(msg.header.stamp),
        width=int(msg.width),
        height=int(msg.height),
        distortion_model=msg.distortion_model,
        d=_floats(msg.d),
        k=_floats(msg.k),
        r=_floats(msg.r),
        p=_floats(msg.p),
        binning_x=int(msg.binning_x),
        binning_y=int(msg.binning_y),
        roi=Roi(
            int(msg.roi.x_offset),
            int(msg.roi.y_offset),
            int(msg.roi.height),
            int(msg.roi.width),
            bool(msg.roi.do_rectify),
        ),
    )


def camera_info_fields(record: CameraInfoRecord) -> dict[str, Any]:
    """The fields of a CameraInfo, header and all."""
    content = asdict(record)
    return {"header": header_fields(content.pop("stamp_ns"), content.pop("frame_id")), **content}


def camera_model(
    record: CameraInfoRecord, *, rectified: bool, image_size: tuple[int, int] | None = None, name: str = "camera"
) -> CameraModel:
    """The camera of the raw image, or of the rectified one. Raises CalibrationError.

    image_size: (width, height) of the image it will be used with; refused where the calibration is of another size.
    """
    model = CameraModel.from_camera_info(
        width=record.width,
        height=record.height,
        distortion_model=record.distortion_model,
        d=record.d,
        k=record.k,
        r=record.r,
        p=record.p,
        binning_x=record.binning_x,
        binning_y=record.binning_y,
        roi=record.roi,  # type: ignore[arg-type]  # frozen, and only read there
        rectified=rectified,
        name=name,
    )
    if image_size is not None:
        model.require_image_size(*image_size)
    return model


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(values.tolist() if hasattr(values, "tolist") else map(float, values))
