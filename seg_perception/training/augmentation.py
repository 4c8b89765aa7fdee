"""Varying a picture and its truth together. NumPy and OpenCV, no torch. The same generator gives the same result."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.training.config import AugmentationConfig
from seg_perception.training.datasets import VOID, Sample

PADDING_COLOUR = (124, 116, 104)  # the mean that networks subtract
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def augment(sample: Sample, config: AugmentationConfig, rng: np.random.Generator) -> Sample:
    """A crop of `crop_width` x `crop_height` at a random scale, perhaps mirrored, its colours changed.

    Beyond the picture's border pixels are grey and labels void.
    """
    scale = float(np.exp(rng.uniform(np.log(config.min_scale), np.log(config.max_scale))))
    size = (config.crop_width, config.crop_height)
    window = (max(1, round(size[0] / scale)), max(1, round(size[1] / scale)))
    left, top = _corner(sample.labels, window, config.rare_crop, rng)
    shrinks = window[0] > size[0]
    pixels = _cut(sample.pixels, left, top, window, PADDING_COLOUR)
    pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    labels = _nearest(_cut(sample.labels, left, top, window, VOID), size)
    instances = None
    if sample.instances is not None:
        instances = _nearest(_cut(sample.instances, left, top, window, 0), size)
    if rng.random() < config.flip:
        pixels, labels = pixels[:, ::-1], labels[:, ::-1]
        instances = None if instances is None else instances[:, ::-1]
    pixels = _recoloured(np.asarray(pixels), config, rng)
    return Sample(sample.name, pixels, np.ascontiguousarray(labels), instances)


def _corner(
    labels: NDArray[np.uint8], window: tuple[int, int], rare: float, rng: np.random.Generator
) -> tuple[int, int]:
    """Left and top of the window: anywhere, or over a pixel of a class that is drawn first."""
    height, width = labels.shape
    left, top = _somewhere(width, window[0], rng), _somewhere(height, window[1], rng)
    if rng.random() >= rare:
        return left, top
    present = np.flatnonzero(np.bincount(labels.ravel(), minlength=256)[:VOID])
    if not len(present):
        return left, top
    places = np.flatnonzero(labels.ravel() == rng.choice(present))
    v, u = divmod(int(rng.choice(places)), width)
    return _around(u, width, window[0], rng), _around(v, height, window[1], rng)


def _somewhere(side: int, window: int, rng: np.random.Generator) -> int:
    low, high = sorted((0, side - window))
    return int(rng.integers(low, high + 1))


def _around(place: int, side: int, window: int, rng: np.random.Generator) -> int:
    """A window that contains `place` and, where it can, lies within the picture."""
    low, high = sorted((0, side - window))
    return int(np.clip(place - rng.integers(0, window), low, high))


def _cut(
    picture: NDArray, left: int, top: int, window: tuple[int, int], padding: int | tuple[int, int, int]
) -> NDArray:
    """The window of a picture, filled up where it reaches beyond."""
    height, width = picture.shape[:2]
    right, bottom = left + window[0], top + window[1]
    inside = picture[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    if inside.shape[:2] == (window[1], window[0]):
        return np.ascontiguousarray(inside)
    out = np.empty((window[1], window[0], *picture.shape[2:]), picture.dtype)
    out[...] = padding
    v, u = max(-top, 0), max(-left, 0)
    out[v : v + inside.shape[0], u : u + inside.shape[1]] = inside
    return out


def _nearest(picture: NDArray, size: tuple[int, int]) -> NDArray:
    """Resized without blending, by the pixel centres that linear interpolation uses: cv2.INTER_NEAREST shifts."""
    height, width = picture.shape
    rows = ((np.arange(size[1]) + 0.5) * height / size[1]).astype(np.intp)
    columns = ((np.arange(size[0]) + 0.5) * width / size[0]).astype(np.intp)
    return picture[rows[:, None], columns[None, :]]


def _recoloured(pixels: NDArray[np.uint8], config: AugmentationConfig, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Contrast, brightness, saturation and white balance, in one linear map of RGB; then blur and noise."""
    strength = config.colour
    contrast, saturation = 1 + rng.uniform(-strength, strength, 2)
    balance = 1 + rng.uniform(-strength, strength, 3) / 4
    brightness = 128 * rng.uniform(-strength, strength) / 2
    mix = saturation * np.eye(3, dtype=np.float32) + (1 - saturation) * np.tile(_GREY, (3, 1))
    mix = (contrast * balance)[:, None] * mix
    shift = 128 * (1 - contrast) + brightness
    out = np.ascontiguousarray(pixels)
    if strength:
        out = np.asarray(cv2.transform(out, np.column_stack([mix, np.full(3, shift)]).astype(np.float32)))
    if rng.random() < config.blur:
        out = np.asarray(cv2.GaussianBlur(out, (0, 0), float(rng.uniform(0.3, 1.5))))
    sigma = rng.uniform(0, config.noise)
    if sigma >= 0.5:
        noise = rng.standard_normal(out.shape, np.float32) * np.float32(sigma)
        out = np.clip(out + noise, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(out)
