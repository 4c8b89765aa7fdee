"""A whole label image on the GPU: one kernel that up-samples class scores, takes the best class and its confidence.

It computes what `sampling.label_picture` computes, in the same order and without fused multiply-add, so that labels do
not depend on who made them. A C++ compiler takes the same text, which is how it is tested where there is no GPU.
"""

from __future__ import annotations

import ctypes
import dataclasses
import logging
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_perception.inference.contract import Alignment
from seg_perception.inference.cuda_runtime import Cuda, CudaError, Memory
from seg_perception.inference.panoptic_merging import ImageThings
from seg_perception.inference.segmenter import LogitsSegmentation

log = logging.getLogger(__name__)

NAME = "label_picture"
BLOCK = (32, 8)

SOURCE = r"""
// First sample, second sample and weight of the second, for a pixel along one axis of `length` samples.
__device__ void tap(double pixel, double scale, double offset, int length, int *first, int *second, float *weight) {
    double place = scale * pixel + offset;
    place = place < 0.0 ? 0.0 : place > length - 1.0 ? length - 1.0 : place;
    int last_first = length > 2 ? length - 2 : 0;
    *first = (int)place < last_first ? (int)place : last_first;
    *second = *first + 1 < length - 1 ? *first + 1 : length - 1;
    *weight = (float)(place - *first);
}

// scores: (height, width, classes). labels: (out_height, out_width); 255 where all scores are NaN.
// confidence: as labels, or null: softmax of the best class, or its blended score where `are_logits` is 0.
extern "C" __global__ void label_picture(
    const float *scores, int height, int width, int classes, double scale_u, double offset_u, double scale_v,
    double offset_v, int are_logits, unsigned char *labels, float *confidence, int out_height, int out_width) {
    int u = blockIdx.x * blockDim.x + threadIdx.x;
    int v = blockIdx.y * blockDim.y + threadIdx.y;
    if (u >= out_width || v >= out_height) return;
    int left, right, top, bottom;
    float weight_u, weight_v;
    tap((double)u, scale_u, offset_u, width, &left, &right, &weight_u);
    tap((double)v, scale_v, offset_v, height, &top, &bottom, &weight_v);
    const float *top_left = scores + ((size_t)top * width + left) * classes;
    const float *top_right = scores + ((size_t)top * width + right) * classes;
    const float *bottom_left = scores + ((size_t)bottom * width + left) * classes;
    const float *bottom_right = scores + ((size_t)bottom * width + right) * classes;
    int best = 255;
    float best_score = -INFINITY, total = 0.0f;
    for (int c = 0; c < classes; ++c) {
        float at_left = top_left[c] + (bottom_left[c] - top_left[c]) * weight_v;
        float at_right = top_right[c] + (bottom_right[c] - top_right[c]) * weight_v;
        float score = at_left + (at_right - at_left) * weight_u;
        if (score > best_score) {  // the sum of exponentials so far, relative to the new best
            total = best == 255 ? 1.0f : total * expf(best_score - score) + 1.0f;
            best = c;
            best_score = score;
        } else if (score == score) {
            total += expf(score - best_score);
        }
    }
    size_t at = (size_t)v * out_width + u;
    labels[at] = (unsigned char)best;
    if (confidence) confidence[at] = best == 255 ? 0.0f : are_logits ? 1.0f / total : best_score;
}
"""
# NVRTC has neither headers nor INFINITY.
_PREAMBLE = "typedef decltype(sizeof(0)) size_t;\n#define INFINITY __int_as_float(0x7f800000)\n"


class LabelKernel:
    """The kernel on one GPU, with memory that grows to the largest picture asked for. Any thread may ask."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._lock = threading.Lock()
        self._kernel = cuda.compile(_PREAMBLE + SOURCE, NAME)
        self._stream = cuda.stream()
        self._memory: dict[str, tuple[Memory, Memory]] = {}

    def __call__(
        self, scores: NDArray[np.float32], alignment: Alignment, size: tuple[int, int], are_logits: bool
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """scores: (h, w, C). Returns labels (H, W) uint8 and confidence (H, W) float32 of a picture of `size`."""
        width, height = size
        pixels = width * height
        with self._lock:
            self._cuda.make_current()
            host_scores, device_scores = self._pair("scores", scores.nbytes)
            host_labels, device_labels = self._pair("labels", pixels)
            host_confidence, device_confidence = self._pair("confidence", 4 * pixels)
            _fill(host_scores, scores)
            self._cuda.upload(host_scores, device_scores, self._stream)
            self._launch(scores.shape, alignment, size, are_logits, (device_scores, device_labels, device_confidence))
            self._cuda.download(device_labels, host_labels, self._stream)
            self._cuda.download(device_confidence, host_confidence, self._stream)
            self._cuda.wait_for_stream(self._stream)
            return (
                _view(host_labels, pixels).reshape(height, width).copy(),
                _view(host_confidence, 4 * pixels).view(np.float32).reshape(height, width).copy(),
            )

    def _launch(
        self,
        shape: tuple[int, ...],
        alignment: Alignment,
        size: tuple[int, int],
        are_logits: bool,
        memory: tuple[Memory, Memory, Memory],
    ) -> None:
        (width, height), (scores, labels, confidence) = size, memory
        arguments: list[tuple[Any, Any]] = [
            (scores.address, ctypes.c_void_p),
            *((side, ctypes.c_int) for side in shape),
            *((value, ctypes.c_double) for value in dataclasses.astuple(alignment)),
            (int(are_logits), ctypes.c_int),
            (labels.address, ctypes.c_void_p),
            (confidence.address, ctypes.c_void_p),
            (height, ctypes.c_int),
            (width, ctypes.c_int),
        ]
        grid = (-(-width // BLOCK[0]), -(-height // BLOCK[1]))
        self._cuda.launch(self._kernel, grid, BLOCK, arguments, self._stream)

    def _pair(self, name: str, nbytes: int) -> tuple[Memory, Memory]:
        """Page-locked and GPU memory under a name, made anew where it is too small."""
        found = self._memory.get(name)
        if found is None or found[0].nbytes < nbytes:
            found = self._cuda.host_memory(nbytes), self._cuda.device_memory(nbytes)
            self._memory[name] = found
        return found


class DeviceSegmentation(LogitsSegmentation):
    """Class scores on the CPU, for points; a label image of them is made by the GPU."""

    __slots__ = ("_kernel",)

    def __init__(
        self,
        scores: NDArray[np.floating],
        alignment: Alignment,
        size: tuple[int, int],
        *,
        are_logits: bool,
        kernel: LabelKernel,
        things: ImageThings | None = None,
    ) -> None:
        super().__init__(scores, alignment, size, are_logits=are_logits, things=things)
        self._kernel = kernel

    def label_image(self, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """See `Segmentation.label_image`. Made on the CPU, of the same labels, where the GPU is gone by now."""
        try:
            return self.label_and_confidence_image(size)[0]
        except CudaError as error:
            log.debug("label image made on the CPU: %s", error)
            return super().label_image(size)

    def label_and_confidence_image(
        self, size: tuple[int, int] | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """The label image, and with it (H, W) float32: the probability of each label. Raises CudaError."""
        wanted = size or self.size
        alignment = self._alignment if wanted == self.size else self._alignment.after(
            Alignment.of_resize(wanted, self.size)
        )  # fmt: skip
        return self._kernel(self._scores, alignment, wanted, self._are_logits)


def _fill(memory: Memory, values: NDArray[Any]) -> None:
    assert memory.host is not None
    memory.host[: values.nbytes] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)


def _view(memory: Memory, nbytes: int) -> NDArray[np.uint8]:
    assert memory.host is not None
    return memory.host[:nbytes]
