"""Running a network as it was given, outside any deployed graph, to compare labels with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from seg_perception.errors import ModelError
from seg_perception.export.graph import read_model, run, session_of
from seg_perception.export.head import Head, MapTaps
from seg_perception.inference.contract import INPUT_NAME, Alignment
from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter


@dataclass(frozen=True, slots=True, eq=False)
class SourceNetwork:
    """A network as it was given, at one input size, and what has to be done to a picture before it.

    size: (width, height). mean, scale: see `DeploySpec`.
    """

    model: ModelProto
    input: str
    layout: str
    dtype: np.dtype
    size: tuple[int, int]
    channel_order: str
    mean: tuple[float, float, float]
    scale: tuple[float, float, float]

    def feed(self, picture: NDArray[np.uint8]) -> dict[str, NDArray]:
        """The input made of a (H, W, 3) uint8 RGB picture by OpenCV and NumPy: resized in float, then normalised."""
        pixels: NDArray = cv2.resize(picture.astype(np.float32), self.size, interpolation=cv2.INTER_LINEAR)
        pixels = (pixels - np.array(self.mean, np.float32)) * np.array(self.scale, np.float32)
        if self.channel_order == "bgr":
            pixels = pixels[..., ::-1]
        if self.dtype == np.uint8:
            pixels = np.rint(pixels)
        if self.layout == "NCHW":
            pixels = np.moveaxis(pixels, 2, 0)
        return {self.input: np.ascontiguousarray(pixels[None], dtype=self.dtype)}


def source_labels(network: SourceNetwork, head: Head, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w) labels read from the network's own output, at its own size."""
    value = run(session_of(network.model), network.feed(picture))[head.output]
    if head.output_is_labels:
        tap = head.scores or head.labels
        assert tap is not None
        return value.reshape(tap.size[1], tap.size[0]).astype(np.uint8)
    planes = _planes_last(value, head.output_layout)
    if head.channels == 1:
        return (planes[0] > (0.5 if head.output_is_probability else 0.0)).astype(np.uint8)
    return planes.argmax(axis=0).astype(np.uint8)


def label_agreement(network: SourceNetwork, head: Head, deployed: Path, picture: NDArray[np.uint8]) -> float:
    """Share of the source's labels that the deployed network gives too, at the places of the source's own samples."""
    segmenter = OnnxRuntimeSegmenter(deployed)
    size = segmenter.contract.image_size
    if size is not None and size != (picture.shape[1], picture.shape[0]):
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    try:
        sampled = segmenter.segment(picture).sample(_places(network, head, picture)).class_id
    finally:
        segmenter.close()
    return float((sampled == source_labels(network, head, picture).ravel()).mean())


def map_difference(
    network: SourceNetwork, maps: Mapping[str, MapTaps], deployed: Path, picture: NDArray[np.uint8]
) -> float:
    """How far the deployed network's centres and offsets, blended at the places of the source's own samples, are from
    the source's, at most, as a share of the source's largest where that is above 1. 0 where there are none."""
    if not maps:
        return 0.0
    session = session_of(read_model(deployed))
    height, width, _ = session.get_inputs()[0].shape
    if isinstance(width, int):
        picture = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    wanted, seen = run(session_of(network.model), network.feed(picture)), run(session, {INPUT_NAME: picture})
    worst = 0.0
    for name, taps in maps.items():
        whole = taps.whole
        value = _planes_last(wanted[whole.tensor], whole.layout).astype(np.float64)
        blended = _blended(seen[name].reshape(-1, taps.own.size[1], taps.own.size[0]), taps)
        scale = max(1.0, float(np.abs(value).max()))
        worst = max(worst, float(np.abs(blended - value).max()) / scale)
    return worst


def synthetic_picture(size: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: soft and hard edges at every scale, the same picture each time. No substitute for a real one."""
    rng = np.random.default_rng(0)
    width, height = size
    picture = np.zeros((height, width, 3), np.float32)
    for cells, weight in ((2, 90.0), (8, 60.0), (32, 30.0)):
        noise = rng.uniform(0.0, 1.0, (cells, 2 * cells, 3)).astype(np.float32)
        picture += weight * cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC)
    for _ in range(24):
        left, top = rng.integers(0, width), rng.integers(0, height)
        picture[top : top + height // 6, left : left + width // 8] = rng.uniform(0.0, 255.0, 3)
    return np.clip(picture, 0, 255).astype(np.uint8)


def read_picture(path: str | Path) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB from a picture file. Raises ModelError."""
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)  # BGR
    if pixels is None:
        raise ModelError(f"picture {path}: no readable picture")
    return np.ascontiguousarray(pixels[..., ::-1])


def _planes_last(value: NDArray, layout: str) -> NDArray:
    """A network's output as (C, h, w)."""
    planes = np.transpose(value, [layout.index(letter) for letter in layout if letter not in "CHW"]
                          + [layout.index(letter) for letter in "CHW"])  # fmt: skip
    return planes.reshape(planes.shape[-3:])


def _blended(planes: NDArray, taps: MapTaps) -> NDArray[np.float64]:
    """(C, h, w) at the network's stride -> blended bilinearly at the samples of the source's own output."""
    whole, own = taps.whole, taps.own
    for axis, scales, offsets in (
        (1, (whole.alignment.scale_v, own.alignment.scale_v), (whole.alignment.offset_v, own.alignment.offset_v)),
        (2, (whole.alignment.scale_u, own.alignment.scale_u), (whole.alignment.offset_u, own.alignment.offset_u)),
    ):
        last = planes.shape[axis] - 1
        pixels = (np.arange(whole.size[2 - axis]) - offsets[0]) / scales[0]
        places = np.clip(scales[1] * pixels + offsets[1], 0, last)
        first = np.minimum(places.astype(np.intp), max(last - 1, 0))
        weight = (places - first).reshape(-1, *[1] * (2 - axis))
        before, after = planes.take(first, axis), planes.take(np.minimum(first + 1, last), axis)
        planes = before + (after - before) * weight
    return planes


def _places(network: SourceNetwork, head: Head, picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(N, 2) uv in the picture of each sample of the network's own output, row by row."""
    tap = head.scores or head.labels
    assert tap is not None
    camera = tap.alignment.after(Alignment.of_resize((picture.shape[1], picture.shape[0]), network.size))
    u = (np.arange(tap.size[0]) - camera.offset_u) / camera.scale_u
    v = (np.arange(tap.size[1]) - camera.offset_v) / camera.scale_v
    return np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 2)
