"""The part of a camera's picture that the network is shown, which way up, and the part that is the vehicle itself.

All are said in pixels of the picture as it comes, so calibration and places (`uv`) stay those of the whole picture.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.config import CameraConfig
from seg_perception.datatypes import NO_INSTANCE, UNKNOWN, CameraImage, PointLabels
from seg_perception.errors import ConfigError, MessageError
from seg_perception.inference.segmenter import Segmentation

_CLOCKWISE = {1: cv2.ROTATE_90_CLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_COUNTERCLOCKWISE}


@dataclass(frozen=True, slots=True)
class Crop:
    """`width` x `height` pixels from pixel (x, y) on."""

    width: int
    height: int
    x: int
    y: int


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """How one camera is framed. crop: what the network is shown; None: all of it. own_body: (H, W), True where the
    picture shows the vehicle itself; None: nowhere. quarters: by so many quarter turns clockwise it is shown turned."""

    crop: Crop | None = None
    own_body: NDArray[np.bool_] | None = None
    quarters: int = 0

    @classmethod
    def of(cls, camera: CameraConfig) -> Frame:
        """As the settings have it. Raises ConfigError for a mask that cannot be read."""
        crop = Crop(*map(int, re.findall(r"\d+", camera.crop))) if camera.crop else None
        return cls(crop, _read_mask(camera) if camera.mask else None, camera.turn_deg // 90)

    def shown(self, image: CameraImage) -> NDArray[np.uint8]:
        """What the network is shown of the picture, (h, w, 3). Raises MessageError where the picture does not fit."""
        width, height = image.size
        if self.own_body is not None and self.own_body.shape != (height, width):
            mask_height, mask_width = self.own_body.shape
            raise MessageError(
                f"image of camera '{image.camera}' is {width} x {height}, its mask {mask_width} x {mask_height}"
            )
        crop, pixels = self.crop, image.pixels
        if crop is None:
            return _turned(pixels, self.quarters)
        if crop.x + crop.width > width or crop.y + crop.height > height:
            raise MessageError(
                f"image of camera '{image.camera}' is {width} x {height}, too small for its crop of "
                f"{crop.width} x {crop.height} at ({crop.x}, {crop.y})"
            )
        part = np.ascontiguousarray(pixels[crop.y : crop.y + crop.height, crop.x : crop.x + crop.width])
        return _turned(part, self.quarters)

    def whole(self, segmentation: Segmentation, image: CameraImage) -> Segmentation:
        """The answer for what was shown, as an answer for the whole picture."""
        if self.crop is None and self.own_body is None and not self.quarters:
            return segmentation
        return FramedSegmentation(segmentation, self, image.size)


class FramedSegmentation:
    """A segmentation that has nothing to say (UNKNOWN) beyond the crop, and of the vehicle's own body."""

    __slots__ = ("_frame", "_inner", "_origin", "_part", "size")

    def __init__(self, inner: Segmentation, frame: Frame, size: tuple[int, int]) -> None:
        self._inner, self._frame = inner, frame
        self._origin = (frame.crop.x, frame.crop.y) if frame.crop else (0, 0)
        self._part = (frame.crop.width, frame.crop.height) if frame.crop else size
        self.size = size

    def sample(self, uv: NDArray[np.floating]) -> PointLabels:
        """See `Segmentation.sample`."""
        places = uv - np.array(self._origin, np.float32)  # float32 stays that
        labels = self._inner.sample(_turned_places(places, self._part, self._frame.quarters))
        own_body = self._frame.own_body
        if own_body is not None:
            known = np.flatnonzero(labels.class_id != UNKNOWN)
            u, v = np.floor(uv[known] + 0.5).astype(np.intp).T
            masked = known[own_body[v, u]]
            labels.class_id[masked], labels.probability[masked], labels.margin[masked] = UNKNOWN, 0.0, 0.0
            if labels.instance_id is not None:
                labels.instance_id[masked] = NO_INSTANCE
        return labels

    def label_image(self, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """See `Segmentation.label_image`; at another size the nearest pixel of the whole image counts."""
        width, height = self.size
        picture = np.full((height, width), UNKNOWN, np.uint8)
        inner = _turned(self._inner.label_image(), -self._frame.quarters % 4)
        x, y = self._origin
        picture[y : y + inner.shape[0], x : x + inner.shape[1]] = inner
        if self._frame.own_body is not None:
            picture[self._frame.own_body] = UNKNOWN
        if size is None or size == self.size:
            return picture
        return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)


def _turned(picture: NDArray[np.uint8], quarters: int) -> NDArray[np.uint8]:
    """By quarter turns clockwise, 0 to 3; by none it is the picture itself."""
    return np.asarray(cv2.rotate(picture, _CLOCKWISE[quarters]), np.uint8) if quarters else picture


def _turned_places(uv: NDArray, size: tuple[int, int], quarters: int) -> NDArray:
    """Where places (N, 2) of a picture of this (width, height) lie once it is turned by quarter turns clockwise."""
    if quarters == 0:
        return uv
    (right, bottom), (u, v) = np.subtract(size, 1).tolist(), uv.T
    return np.column_stack({1: (bottom - v, u), 2: (right - u, bottom - v), 3: (v, right - u)}[quarters])


def _read_mask(camera: CameraConfig) -> NDArray[np.bool_]:
    path = Path(camera.mask)
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) if path.is_file() else None
    if mask is None:
        raise ConfigError(f"camera.{camera.name}.mask: a picture wanted, '{path}' cannot be read as one")
    if mask.all() or not mask.any():
        raise ConfigError(
            f"camera.{camera.name}.mask: black where the vehicle itself is, white elsewhere wanted; '{path}' is all "
            f"{'white' if mask.all() else 'black'}"
        )
    return mask == 0
