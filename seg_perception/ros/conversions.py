"""From the core's records to ROS messages. The other way, decoding, is `messages/` and needs no ROS.

Bytes go in as `array.array('B')`: rclpy takes that as it is, while it checks every element of anything else.
"""

from __future__ import annotations

import array
import importlib
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import sensor_msgs.msg
import vision_msgs.msg
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from std_msgs.msg import Float64MultiArray, Header, MultiArrayDimension, MultiArrayLayout

from seg_perception.datatypes import PointCloud
from seg_perception.labels import Taxonomy
from seg_perception.messages.header import time_fields
from seg_perception.messages.image import compressed_fields, image_fields
from seg_perception.messages.labels import label_info_fields
from seg_perception.messages.pointcloud import cloud_fields


def header(frame_id: str, stamp_ns: int) -> Header:
    """std_msgs/Header."""
    sec, nanosec = time_fields(stamp_ns)
    return Header(stamp=Time(sec=sec, nanosec=nanosec), frame_id=frame_id)


def point_cloud(cloud: PointCloud) -> sensor_msgs.msg.PointCloud2:
    """sensor_msgs/PointCloud2, every byte of `cloud`, under its own stamp and frame."""
    fields = cloud_fields(cloud)
    fields["fields"] = [
        sensor_msgs.msg.PointField(name=field.name, offset=field.offset, datatype=field.datatype, count=field.count)
        for field in cloud.fields
    ]
    fields["data"] = _bytes(fields["data"])
    return sensor_msgs.msg.PointCloud2(header=header(cloud.frame_id, cloud.stamp_ns), **fields)


def image(pixels: NDArray[np.uint8], encoding: str, frame_id: str, stamp_ns: int) -> sensor_msgs.msg.Image:
    """sensor_msgs/Image of (H, W) uint8 as mono8, or (H, W, 3) uint8 as rgb8 or bgr8."""
    fields = image_fields(pixels, encoding)
    fields["data"] = _bytes(fields["data"])
    return sensor_msgs.msg.Image(header=header(frame_id, stamp_ns), **fields)


def compressed_image(
    pixels: NDArray[np.uint8], kind: str, quality: int, frame_id: str, stamp_ns: int
) -> sensor_msgs.msg.CompressedImage:
    """sensor_msgs/CompressedImage of (H, W) or (H, W, 3) RGB uint8. kind: "png", or "jpeg" at `quality` 1..100."""
    fields = compressed_fields(pixels, kind, quality)
    return sensor_msgs.msg.CompressedImage(
        header=header(frame_id, stamp_ns), format=fields["format"], data=_bytes(fields["data"])
    )


def label_info(taxonomy: Taxonomy, stamp_ns: int) -> vision_msgs.msg.LabelInfo:
    """vision_msgs/LabelInfo: the name of each class id."""
    fields = label_info_fields(taxonomy)
    classes = [
        vision_msgs.msg.VisionClass(class_id=class_id, class_name=name) for class_id, name in fields["class_map"]
    ]
    return vision_msgs.msg.LabelInfo(header=header("", stamp_ns), class_map=classes, threshold=fields["threshold"])


def named_numbers(numbers: Mapping[str, float]) -> Float64MultiArray:
    """std_msgs/Float64MultiArray: `layout.dim[i].label` names `data[i]`."""
    dimensions = [MultiArrayDimension(label=name, size=1, stride=1) for name in numbers]
    return Float64MultiArray(layout=MultiArrayLayout(dim=dimensions), data=list(numbers.values()))


def message_type(name: str) -> type:
    """The class of a message by its name, as "nav_msgs/msg/OccupancyGrid"."""
    package, *_, kind = name.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), kind)


def message(name: str, fields: Mapping[str, Any]) -> Any:
    """A message of that name from its fields, a mapping nested as the message is; what is left out keeps its default.

    Numbers in sequences are numpy arrays of the very type.
    """
    return _filled(message_type(name), fields)


def _filled(kind: type, fields: Mapping[str, Any]) -> Any:
    built = kind()
    for name, value in fields.items():
        if isinstance(value, Mapping):
            value = _filled(type(getattr(built, name)), value)
        elif isinstance(value, np.ndarray) and isinstance(getattr(built, name), array.array):
            value = array.array(getattr(built, name).typecode, value.tobytes())
        elif isinstance(value, list) and value:
            inner = _type_of_entries(kind, name)
            value = [_filled(inner, entry) for entry in value]
        setattr(built, name, value)
    return built


@cache
def _type_of_entries(kind: Any, name: str) -> type:
    """The class of the messages in a sequence that is the field `name` of another."""
    return message_type(kind.get_fields_and_field_types()[name].removeprefix("sequence<").removesuffix(">"))


def _bytes(data: NDArray[np.uint8]) -> array.array:
    content = array.array("B")
    content.frombytes(memoryview(data))  # type: ignore[arg-type]
    return content
