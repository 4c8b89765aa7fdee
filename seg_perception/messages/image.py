"""sensor_msgs/Image and CompressedImage to RGB pixels and back.

Every picture becomes (H, W, 3) uint8 RGB, contiguous; one that is so already shares the memory of its message. Of
16-bit samples the upper 8 are taken of the bits that the camera uses. YUV is BT.601 video range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.datatypes import CameraImage
from seg_perception.errors import MessageError
from seg_perception.messages.compressed import compressed_size
from seg_perception.messages.header import as_bytes, stamp_ns

MAX_PIXELS = 1 << 26  # 67 million; a compressed picture that claims more is refused before it is decoded


@dataclass(frozen=True, slots=True)
class _Layout:
    """Samples of one pixel, bytes of one sample, and the OpenCV conversion to RGB (None: RGB already).

    rows_of_two: rows of data for two of the picture; more than two where colours follow in rows of their own.
    shared: pixels side by side share their colour, so that there are pairs of them, and of rows where colours have rows
    of their own. OpenCV 4.5 does not ask, and writes beyond the picture.
    """

    channels: int
    sample_bytes: int
    to_rgb: int | None
    rows_of_two: int = 2
    shared: bool = False


# OpenCV names a Bayer pattern by the second and third pixel of the second row: what ROS calls RGGB is its BG.
_BAYER = {
    "bayer_rggb": cv2.COLOR_BayerBG2RGB,
    "bayer_bggr": cv2.COLOR_BayerRG2RGB,
    "bayer_gbrg": cv2.COLOR_BayerGR2RGB,
    "bayer_grbg": cv2.COLOR_BayerGB2RGB,
}
_COLOR = {
    "rgb": (3, None),
    "bgr": (3, cv2.COLOR_BGR2RGB),
    "rgba": (4, cv2.COLOR_RGBA2RGB),
    "bgra": (4, cv2.COLOR_BGRA2RGB),
    "mono": (1, cv2.COLOR_GRAY2RGB),
}
_LAYOUTS = {
    **{f"{name}{8 * size}": _Layout(count, size, code) for name, (count, code) in _COLOR.items() for size in (1, 2)},
    **{f"{name}{8 * size}": _Layout(1, size, code) for name, code in _BAYER.items() for size in (1, 2)},
    # OpenCV's own names say nothing of the colours; cameras that use them send what OpenCV would.
    "8UC1": _Layout(1, 1, cv2.COLOR_GRAY2RGB),
    "8UC3": _Layout(3, 1, cv2.COLOR_BGR2RGB),
    "8UC4": _Layout(4, 1, cv2.COLOR_BGRA2RGB),
    "16UC1": _Layout(1, 2, cv2.COLOR_GRAY2RGB),
    **dict.fromkeys(("yuv422", "uyvy"), _Layout(2, 1, cv2.COLOR_YUV2RGB_UYVY, shared=True)),
    **dict.fromkeys(("yuv422_yuy2", "yuyv"), _Layout(2, 1, cv2.COLOR_YUV2RGB_YUYV, shared=True)),
    "nv12": _Layout(1, 1, cv2.COLOR_YUV2RGB_NV12, 3, shared=True),  # as a Jetson's own cameras and decoders have it
    "nv21": _Layout(1, 1, cv2.COLOR_YUV2RGB_NV21, 3, shared=True),
}
ENCODINGS = tuple(_LAYOUTS)


def decode(msg: Any, camera: str, frame_id: str = "", bits: int = 16) -> CameraImage:
    """One picture from an Image or a CompressedImage. frame_id: replaces the message's where not empty. bits: that are
    used of 16-bit samples, the lower ones.

    Raises StampError for stamp 0, MessageError for anything else that cannot be read.
    """
    return (decode_compressed if hasattr(msg, "format") else decode_image)(msg, camera, frame_id, bits)


def leaves_bits_unused(msg: Any, image: CameraImage) -> bool:
    """Whether the samples of a message have 16 bits, and of those said to be used the upper two are used nowhere."""
    return "16" in getattr(msg, "encoding", getattr(msg, "format", "")) and int(image.pixels.max()) < 64


def decode_image(msg: Any, camera: str, frame_id: str = "", bits: int = 16) -> CameraImage:
    """One picture from a sensor_msgs/Image of any of `ENCODINGS`, rows padded or not. Raises as `decode`."""
    stamp = stamp_ns(msg.header, f"image of {camera}")
    width, height, step = int(msg.width), int(msg.height), int(msg.step)
    layout = _LAYOUTS.get(msg.encoding)
    if layout is None:
        raise MessageError(f"image of {camera}: encoding is '{msg.encoding}', one of {', '.join(ENCODINGS)} wanted")
    if width <= 0 or height <= 0:
        raise MessageError(f"image of {camera}: size is {width} x {height}, a width and height above 0 wanted")
    if layout.shared and (width % 2 or (height % 2 and layout.rows_of_two > 2)):
        raise MessageError(
            f"image of {camera} ({msg.encoding}): {width} x {height} pixels cannot be converted to RGB: as they share "
            f"colours, an even width{' and height' * (layout.rows_of_two > 2)} wanted"
        )
    row_bytes = width * layout.channels * layout.sample_bytes
    if step < row_bytes:
        raise MessageError(
            f"image of {camera}: step is {step}, at least {row_bytes} wanted for {width} pixels of {msg.encoding}"
        )
    data = as_bytes(msg.data)
    lines = height * layout.rows_of_two // 2
    if len(data) != step * lines:
        raise MessageError(
            f"image of {camera}: {len(data)} bytes of data seen, {step * lines} wanted for {lines} rows of {step}"
        )
    rows = data.reshape(lines, step)[:, :row_bytes]
    if layout.sample_bytes == 2 and bits == 16:
        rows = rows[:, 0::2] if msg.is_bigendian else rows[:, 1::2]
    elif layout.sample_bytes == 2:
        rows = _upper_8(np.ascontiguousarray(rows).view(">u2" if msg.is_bigendian else "<u2"), bits)
    samples = np.ascontiguousarray(rows).reshape(lines, width, layout.channels)
    pixels = _to_rgb(samples, layout.to_rgb, f"image of {camera} ({msg.encoding})")
    return CameraImage(camera, frame_id or msg.header.frame_id, stamp, pixels)


def decode_compressed(msg: Any, camera: str, frame_id: str = "", bits: int = 16) -> CameraImage:
    """One picture from a sensor_msgs/CompressedImage holding a JPEG or a PNG; its own bytes say which.

    Raises as `decode`. A picture cut short is refused, and so is a PNG with a wrong checksum. Damage inside a JPEG's
    entropy-coded data, which has no checksum, may pass for a picture. An orientation tag is ignored: a calibration is
    of the pixels as they are stored.
    """
    stamp = stamp_ns(msg.header, f"image of {camera}")
    what = f"image of {camera} ('{msg.format}')"
    data = as_bytes(msg.data)
    width, height = compressed_size(data, what)
    if width <= 0 or height <= 0 or width * height > MAX_PIXELS:
        raise MessageError(f"{what}: size is {width} x {height}, 1 to {MAX_PIXELS} pixels wanted")
    bayer = _BAYER.get(msg.format.split(";")[0].strip()[: len("bayer_rggb")])
    flags = cv2.IMREAD_GRAYSCALE if bayer is not None else cv2.IMREAD_COLOR
    flags |= cv2.IMREAD_ANYDEPTH if bits < 16 else 0
    try:
        samples = cv2.imdecode(data, flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise MessageError(f"{what}: OpenCV cannot decode it: {error.err}") from error
    if samples is None or samples.shape[:2] != (height, width):
        raise MessageError(f"{what}: corrupt, OpenCV cannot decode its {len(data)} bytes as {width} x {height} pixels")
    if samples.dtype == np.uint16:
        samples = _upper_8(samples, bits)
    pixels = _to_rgb(samples.reshape(height, width, -1), cv2.COLOR_BGR2RGB if bayer is None else bayer, what)
    return CameraImage(camera, frame_id or msg.header.frame_id, stamp, pixels)


def image_fields(pixels: NDArray[np.uint8], encoding: str) -> dict[str, Any]:
    """The fields of a sensor_msgs/Image, header excepted. `data`: (N,) uint8, a view of `pixels` where possible.

    pixels: (H, W) uint8 for mono8; (H, W, 3) uint8 for rgb8 and bgr8, in that order already.
    """
    channels = {"mono8": 1, "rgb8": 3, "bgr8": 3}.get(encoding)
    if channels is None:
        raise MessageError(f"image to encode: encoding is '{encoding}', one of mono8, rgb8, bgr8 wanted")
    _check_pixels(pixels, channels)
    height, width = pixels.shape[:2]
    return {
        "height": height,
        "width": width,
        "encoding": encoding,
        "is_bigendian": 0,
        "step": width * channels,
        "data": np.ascontiguousarray(pixels).reshape(-1),
    }


def compressed_fields(pixels: NDArray[np.uint8], kind: str = "jpeg", quality: int = 95) -> dict[str, Any]:
    """The fields of a sensor_msgs/CompressedImage, header excepted. kind: "jpeg", at `quality`, or "png", lossless.

    pixels: (H, W, 3) uint8 RGB, or (H, W) uint8.
    """
    if kind not in ("jpeg", "png"):
        raise MessageError(f"image to encode: format is '{kind}', one of jpeg, png wanted")
    channels = 1 if pixels.ndim == 2 else 3
    _check_pixels(pixels, channels)
    samples = np.ascontiguousarray(pixels)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if kind == "jpeg" else []
    _, data = cv2.imencode(f".{kind}", samples if channels == 1 else cv2.cvtColor(samples, cv2.COLOR_RGB2BGR), options)
    encoding, stored = ("mono8", "mono8") if channels == 1 else ("rgb8", "bgr8")
    return {"format": f"{encoding}; {kind} compressed {stored}", "data": data.reshape(-1)}


def _check_pixels(pixels: NDArray, channels: int) -> None:
    shape = pixels.shape if channels == 1 else pixels.shape[:2]
    if pixels.dtype != np.uint8 or len(shape) != 2 or (channels > 1 and pixels.shape[2:] != (channels,)):
        raise MessageError(
            f"image to encode: uint8 with {channels} channel(s) wanted, {pixels.dtype} of shape {pixels.shape} seen"
        )
    if 0 in shape:
        raise MessageError(f"image to encode: shape is {pixels.shape}, a width and height above 0 wanted")


def _upper_8(samples: NDArray, bits: int) -> NDArray[np.uint8]:
    """The upper 8 of the lower `bits` of each sample; what needs more bits is as bright as can be."""
    return np.minimum(samples >> (bits - 8), 255).astype(np.uint8)


def _to_rgb(samples: NDArray, code: int | None, what: str) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of (H, W, channels); the samples themselves where they are RGB already."""
    if code is None:
        return samples
    try:
        return np.asarray(cv2.cvtColor(samples, code), np.uint8)
    except cv2.error as error:
        size = f"{samples.shape[1]} x {samples.shape[0]}"
        raise MessageError(f"{what}: {size} pixels cannot be converted to RGB: {error.err}") from error
