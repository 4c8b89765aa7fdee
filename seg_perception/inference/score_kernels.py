"""What a GPU makes of a map of class scores: labels at given places, a whole label image, or where its things are.

The kernels compute what `sampling` computes on the CPU, in the same order and without fused multiply-add, so that
labels do not depend on who made them. A C++ compiler takes the same text, which is how it is tested where there is no
GPU.
"""

from __future__ import annotations

import ctypes
import dataclasses
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_perception.datatypes import PointLabels
from seg_perception.inference.contract import Alignment
from seg_perception.inference.cuda_runtime import Cuda, Memory

NAMES = ("label_picture", "sample_points", "mark_things")
PICTURE_BLOCK, POINT_BLOCK = (32, 8), (128, 1)

SOURCE = r"""
// Class scores in memory, float or half. Steps are in values: from class to class, row to row, column to column.
struct Scores { const void *values; int is_half, classes, height, width, class_step, row_step, column_step; };

// The four samples around a place, and how they are blended.
struct Cell { size_t top_left, top_right, bottom_left, bottom_right; float weight_u, weight_v; };

__device__ float score_at(const Scores *scores, size_t at) {
    if (!scores->is_half) return ((const float *)scores->values)[at];
    unsigned bits = ((const unsigned short *)scores->values)[at];
    float size = __uint_as_float((bits & 0x7fff) << 13) * __uint_as_float(0x77800000);  // times 2^112
    if ((bits & 0x7c00) == 0x7c00) size = __uint_as_float(0x7f800000 | (bits & 0x3ff) << 13);
    return bits & 0x8000 ? -size : size;
}

// First sample, second sample and weight of the second, for a pixel along one axis of `length` samples.
__device__ void tap(double pixel, double scale, double offset, int length, int *first, int *second, float *weight) {
    double place = scale * pixel + offset;
    place = place < 0.0 ? 0.0 : place > length - 1.0 ? length - 1.0 : place;
    int last_first = length > 2 ? length - 2 : 0;
    *first = (int)place < last_first ? (int)place : last_first;
    *second = *first + 1 < length - 1 ? *first + 1 : length - 1;
    *weight = (float)(place - *first);
}

__device__ Cell cell_at(const Scores *scores, double u, double v, double scale_u, double offset_u, double scale_v,
                        double offset_v) {
    Cell cell;
    int left, right, top, bottom;
    tap(u, scale_u, offset_u, scores->width, &left, &right, &cell.weight_u);
    tap(v, scale_v, offset_v, scores->height, &top, &bottom, &cell.weight_v);
    cell.top_left = (size_t)top * scores->row_step + (size_t)left * scores->column_step;
    cell.top_right = (size_t)top * scores->row_step + (size_t)right * scores->column_step;
    cell.bottom_left = (size_t)bottom * scores->row_step + (size_t)left * scores->column_step;
    cell.bottom_right = (size_t)bottom * scores->row_step + (size_t)right * scores->column_step;
    return cell;
}

// The best class of a cell, 255 where all scores are NaN; its score, that of the second, and the sum of exponentials of
// all scores relative to the best.
__device__ int best_class(const Scores *scores, const Cell *cell, float *best_score, float *second_score, float *sum) {
    int best = 255;
    float first = -INFINITY, second = -INFINITY, total = 0.0f;
    for (int c = 0; c < scores->classes; ++c) {
        size_t base = (size_t)c * scores->class_step;
        float top_left = score_at(scores, base + cell->top_left), top_right = score_at(scores, base + cell->top_right);
        float at_left = top_left + (score_at(scores, base + cell->bottom_left) - top_left) * cell->weight_v;
        float at_right = top_right + (score_at(scores, base + cell->bottom_right) - top_right) * cell->weight_v;
        float score = at_left + (at_right - at_left) * cell->weight_u;
        if (score > first) {
            total = best == 255 ? 1.0f : total * expf(first - score) + 1.0f;
            second = first;
            first = score;
            best = c;
        } else if (score == score) {
            total += expf(score - first);
            second = score > second ? score : second;
        }
    }
    *best_score = first;
    *second_score = second;
    *sum = total;
    return best;
}

// labels: (out_height, out_width); 255 where all scores are NaN. confidence: as labels, or null: softmax of the best
// class, or its blended score where `are_logits` is 0.
extern "C" __global__ void label_picture(
    const void *values, int is_half, int classes, int height, int width, int class_step, int row_step, int column_step,
    double scale_u, double offset_u, double scale_v, double offset_v, int are_logits, unsigned char *labels,
    float *confidence, int out_height, int out_width) {
    int u = blockIdx.x * blockDim.x + threadIdx.x;
    int v = blockIdx.y * blockDim.y + threadIdx.y;
    if (u >= out_width || v >= out_height) return;
    Scores scores = {values, is_half, classes, height, width, class_step, row_step, column_step};
    Cell cell = cell_at(&scores, u, v, scale_u, offset_u, scale_v, offset_v);
    float best_score, second_score, total;
    int best = best_class(&scores, &cell, &best_score, &second_score, &total);
    size_t at = (size_t)v * out_width + u;
    labels[at] = (unsigned char)best;
    if (confidence) confidence[at] = best == 255 ? 0.0f : are_logits ? 1.0f / total : best_score;
}

// uv: (count, 2). out: probability and margin, each (count,) float, then class, (count,) bytes; 0, 0 and 255 for a
// place that is NaN or outside the image, or where all scores are NaN.
extern "C" __global__ void sample_points(
    const void *values, int is_half, int classes, int height, int width, int class_step, int row_step, int column_step,
    double scale_u, double offset_u, double scale_v, double offset_v, int are_logits, int image_width, int image_height,
    const double *uv, unsigned char *out, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    float *probability = (float *)out, *margin = probability + count;
    unsigned char *class_id = (unsigned char *)(margin + count);
    probability[i] = margin[i] = 0.0f;
    class_id[i] = 255;
    double u = uv[2 * (size_t)i], v = uv[2 * (size_t)i + 1];
    if (!(-0.5 <= u && u < image_width - 0.5 && -0.5 <= v && v < image_height - 0.5)) return;
    Scores scores = {values, is_half, classes, height, width, class_step, row_step, column_step};
    Cell cell = cell_at(&scores, u, v, scale_u, offset_u, scale_v, offset_v);
    float best_score, second_score, total;
    int best = best_class(&scores, &cell, &best_score, &second_score, &total);
    if (best == 255) return;
    class_id[i] = (unsigned char)best;
    probability[i] = are_logits ? 1.0f / total : best_score;
    margin[i] = are_logits ? (1.0f - expf(second_score - best_score)) / total : best_score - second_score;
}

// out: (height, width); 1 where the best score of a thing's class is at least that of every other class, else 0, also
// where a score is NaN. things0..3: the classes of things, 64 bits each.
extern "C" __global__ void mark_things(
    const void *values, int is_half, int classes, int height, int width, int class_step, int row_step, int column_step,
    unsigned long long things0, unsigned long long things1, unsigned long long things2, unsigned long long things3,
    unsigned char *out) {
    int u = blockIdx.x * blockDim.x + threadIdx.x;
    int v = blockIdx.y * blockDim.y + threadIdx.y;
    if (u >= width || v >= height) return;
    Scores scores = {values, is_half, classes, height, width, class_step, row_step, column_step};
    unsigned long long things[4] = {things0, things1, things2, things3};
    size_t at = (size_t)v * row_step + (size_t)u * column_step;
    float of_things = -INFINITY, of_others = -INFINITY;
    bool is_known = true;
    for (int c = 0; c < classes; ++c) {
        float score = score_at(&scores, (size_t)c * class_step + at);
        float *best = things[c >> 6] >> (c & 63) & 1 ? &of_things : &of_others;
        *best = score > *best ? score : *best;
        is_known = is_known && score == score;
    }
    out[(size_t)v * width + u] = is_known && of_things >= of_others;
}
"""
# NVRTC has neither headers nor INFINITY.
PREAMBLE = "typedef decltype(sizeof(0)) size_t;\n#define INFINITY __int_as_float(0x7f800000)\n"


@dataclass(frozen=True, slots=True)
class DeviceScores:
    """Class scores in the GPU's memory.

    shape: (C, h, w), however they lie. planes: class after class, as a network gives them; else sample after sample.
    owner: what keeps the memory from being used for others.
    """

    memory: Memory
    shape: tuple[int, ...]
    dtype: np.dtype
    planes: bool
    owner: object = None

    @property
    def arguments(self) -> list[tuple[Any, Any]]:
        """The first arguments of every kernel."""
        classes, height, width = self.shape
        steps = (height * width, width, 1) if self.planes else (1, width * classes, classes)
        numbers = (int(self.dtype == np.float16), *self.shape, *steps)
        return [(self.memory.address, ctypes.c_void_p), *((number, ctypes.c_int) for number in numbers)]


class ScoreKernels:
    """The kernels on one GPU, with memory that grows to the largest task. Any thread may ask. Calls raise CudaError."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._lock = threading.RLock()
        self._label_picture, self._sample_points, self._mark_things = cuda.compile(PREAMBLE + SOURCE, *NAMES)
        self._stream = cuda.stream(urgent=True)  # short, and a sweep waits for it: before the next pictures' network
        self._memory: dict[str, tuple[Memory, Memory]] = {}

    def close(self) -> None:
        """Let go of the GPU, once whoever is being answered has the answer."""
        with self._lock:
            self._cuda.close()

    def mark_things(self, scores: DeviceScores, things: Sequence[int], out: Memory, stream: Any) -> None:
        """Queue `panoptic_merging.thing_samples` of one picture. things: their classes; out: (h, w) bytes."""
        _, height, width = scores.shape
        bits = sum(1 << c for c in things)
        arguments = [
            *scores.arguments,
            *((bits >> shift & (1 << 64) - 1, ctypes.c_uint64) for shift in (0, 64, 128, 192)),
            (out.address, ctypes.c_void_p),
        ]
        self._cuda.launch(self._mark_things, _picture_grid(width, height), PICTURE_BLOCK, arguments, stream)

    def label_picture(
        self,
        scores: DeviceScores,
        are_logits: bool,
        alignment: Alignment,
        size: tuple[int, int],
        *,
        confidence: bool = False,
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
        """Labels (H, W) uint8 of a picture of `size` and, where wanted, their probability (H, W) float32."""
        (width, height), pixels = size, size[0] * size[1]
        with self._lock:
            self._cuda.make_current()
            labels = self._pair("labels", pixels)
            sure = self._pair("confidence", 4 * pixels) if confidence else None
            arguments = [
                *_common(scores, are_logits, alignment),
                (labels[1].address, ctypes.c_void_p),
                (sure[1].address if sure else 0, ctypes.c_void_p),
                (height, ctypes.c_int),
                (width, ctypes.c_int),
            ]
            grid = _picture_grid(width, height)
            self._cuda.launch(self._label_picture, grid, PICTURE_BLOCK, arguments, self._stream)
            self._cuda.download(labels[1], labels[0], self._stream, pixels)
            if sure:
                self._cuda.download(sure[1], sure[0], self._stream, 4 * pixels)
            self._cuda.wait_for_stream(self._stream)
            return (
                _bytes(labels[0], pixels).reshape(height, width).copy(),
                _bytes(sure[0], 4 * pixels).view(np.float32).reshape(height, width).copy() if sure else None,
            )

    def label_picture_of(
        self,
        scores: NDArray[np.float32],
        are_logits: bool,
        alignment: Alignment,
        size: tuple[int, int],
        *,
        confidence: bool = False,
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
        """The same from scores (h, w, C) that the CPU holds."""
        height, width, classes = scores.shape
        with self._lock:
            self._cuda.make_current()
            host, device = self._pair("scores", scores.nbytes)
            _bytes(host, scores.nbytes)[:] = np.ascontiguousarray(scores).reshape(-1).view(np.uint8)
            self._cuda.upload(host, device, self._stream, scores.nbytes)
            there = DeviceScores(device, (classes, height, width), scores.dtype, planes=False)
            return self.label_picture(there, are_logits, alignment, size, confidence=confidence)

    def sample(
        self,
        scores: DeviceScores,
        are_logits: bool,
        alignment: Alignment,
        size: tuple[int, int],
        uv: NDArray[np.float64],
    ) -> PointLabels:
        """Labels of N places, (N, 2) and contiguous, of an image of `size`; see `Segmentation.sample`."""
        count = len(uv)
        if not count:
            return PointLabels(np.empty(0, np.uint8), np.empty(0, np.float32), np.empty(0, np.float32))
        with self._lock:
            self._cuda.make_current()
            host_uv, device_uv = self._pair("uv", uv.nbytes)
            host, device = self._pair("points", 9 * count)
            _bytes(host_uv, uv.nbytes)[:] = uv.reshape(-1).view(np.uint8)
            self._cuda.upload(host_uv, device_uv, self._stream, uv.nbytes)
            arguments = [
                *_common(scores, are_logits, alignment),
                (size[0], ctypes.c_int),
                (size[1], ctypes.c_int),
                (device_uv.address, ctypes.c_void_p),
                (device.address, ctypes.c_void_p),
                (count, ctypes.c_int),
            ]
            grid = (-(-count // POINT_BLOCK[0]), 1)
            self._cuda.launch(self._sample_points, grid, POINT_BLOCK, arguments, self._stream)
            self._cuda.download(device, host, self._stream, 9 * count)
            self._cuda.wait_for_stream(self._stream)
            out = _bytes(host, 9 * count).copy()
        probability, margin = out[: 8 * count].view(np.float32).reshape(2, count)
        return PointLabels(out[8 * count :], probability, margin)

    def _pair(self, name: str, nbytes: int) -> tuple[Memory, Memory]:
        """Page-locked and GPU memory under a name, made anew, and larger, where it is too small."""
        found = self._memory.get(name)
        if found is None or found[0].nbytes < nbytes:
            roomy = 1 << (nbytes - 1).bit_length()  # what it grows out of is freed with the GPU
            found = self._memory[name] = self._cuda.host_memory(roomy), self._cuda.device_memory(roomy)
        return found


def _common(scores: DeviceScores, are_logits: bool, alignment: Alignment) -> list[tuple[Any, Any]]:
    """The arguments that the kernels that blend begin with."""
    steps = ((value, ctypes.c_double) for value in dataclasses.astuple(alignment))
    return [*scores.arguments, *steps, (int(are_logits), ctypes.c_int)]


def _picture_grid(width: int, height: int) -> tuple[int, int]:
    return -(-width // PICTURE_BLOCK[0]), -(-height // PICTURE_BLOCK[1])


def _bytes(memory: Memory, nbytes: int) -> NDArray[np.uint8]:
    assert memory.host is not None
    return memory.host[:nbytes]
