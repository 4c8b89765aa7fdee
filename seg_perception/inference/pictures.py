"""What every backend asks of a picture, and the resize in front of those that run on the CPU."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import ModelError


def check_picture(pixels: NDArray[np.uint8]) -> tuple[int, int]:
    """(width, height) of a picture. Raises ModelError where it is not (H, W, 3) uint8."""
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or pixels.size == 0:
        raise ModelError(f"picture: uint8 of shape (H, W, 3) wanted, {pixels.dtype} of shape {pixels.shape} seen")
    return pixels.shape[1], pixels.shape[0]


def resized(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The same view at `size` = (width, height), by the rule of the Resize in the graph (linear, half-pixel).

    OpenCV rounds to whole grey levels, which the graph does not; labels differ by less than one in a thousand.
    """
    if (pixels.shape[1], pixels.shape[0]) == size:
        return np.ascontiguousarray(pixels)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR), np.uint8)
