"""The package's kernels on a real GPU, against the CPU; and what the other parts of `make gpu-check` measure with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.inference.contract import Alignment
from seg_perception.inference.cuda_device import CudaDevice
from seg_perception.inference.cuda_runtime import Cuda
from seg_perception.inference.device_segmentation import MemoryPool, ResidentSegmentation
from seg_perception.inference.panoptic_merging import thing_samples
from seg_perception.inference.score_kernels import DeviceScores, ScoreKernels
from seg_perception.inference.segmenter import LogitsSegmentation

if TYPE_CHECKING:
    from gpu_report import Report

CAMERAS = 6
STREAM = 48  # pictures in a row: throughput
POINTS = 31_000
SCORES = ((19, 128, 256), (19, 256, 512))  # stride 4 of 1024 x 512 and of 2048 x 1024
THINGS = range(11, 19)  # of Cityscapes
Picture = NDArray[np.uint8]


def cuda_of(device: CudaDevice) -> Cuda:
    """The GPU, to run kernels on."""
    return Cuda(device)


def check_kernels(report: Report, device: CudaDevice, seconds: float) -> None:
    """Points, label images and samples of things of made-up class scores, on the GPU and on the CPU."""
    if "kernels" in report.failures:
        return
    with report.attempt("kernels"):
        cuda = cuda_of(device)
        kernels = ScoreKernels(cuda)
    for shape in SCORES:
        name = f"{'x'.join(map(str, shape))} float16"
        report.measure("kernels", {"scores": name}, _compared(cuda, kernels, shape, seconds))
    kernels.close()


def _compared(
    cuda: Cuda, kernels: ScoreKernels, shape: tuple[int, int, int], seconds: float
) -> Iterator[dict[str, Any]]:
    coarse = np.random.default_rng(0).normal(0.0, 3.0, (shape[1] // 8, shape[2] // 8, shape[0])).astype(np.float32)
    smooth = np.stack(
        [cv2.resize(coarse[..., c], shape[:0:-1], interpolation=cv2.INTER_CUBIC) for c in range(shape[0])]
    )
    scores = np.ascontiguousarray(smooth, np.float16)
    there = on_the_gpu(cuda, scores)
    yield {"things_equal": float((things_there(cuda, kernels, there) == thing_samples(scores, THINGS)).mean())}
    yield from compare_kernels(there, scores, kernels, seconds)


def on_the_gpu(cuda: Cuda, scores: NDArray[Any]) -> DeviceScores:
    """A copy of (C, h, w) scores there."""
    memory, stream, host = MemoryPool(cuda, scores.nbytes).take(), cuda.stream(), cuda.host_memory(scores.nbytes)
    assert host.host is not None
    host.host[:] = scores.reshape(-1).view(np.uint8)
    cuda.upload(host, memory.memory, stream)
    cuda.wait_for_stream(stream)
    return DeviceScores(memory.memory, scores.shape, scores.dtype, planes=True, owner=memory)


def things_there(cuda: Cuda, kernels: ScoreKernels, there: DeviceScores) -> NDArray[np.uint8]:
    """(h, w): the samples of THINGS, as the GPU marks them."""
    _, height, width = there.shape
    marks, host, stream = cuda.device_memory(height * width), cuda.host_memory(height * width), cuda.stream()
    kernels.mark_things(there, THINGS, marks, stream)
    cuda.download(marks, host, stream)
    cuda.wait_for_stream(stream)
    assert host.host is not None
    return host.host.reshape(height, width)


def compare_kernels(
    there: DeviceScores, here: NDArray[Any], kernels: ScoreKernels, seconds: float
) -> Iterator[dict[str, Any]]:
    """The same (C, h, w) scores asked on the GPU and on the CPU, for a camera image of four times their size."""
    size = (4 * here.shape[2], 4 * here.shape[1])
    alignment = Alignment.of_resize(size, (here.shape[2], here.shape[1]))
    on_gpu = ResidentSegmentation(there, alignment, size, are_logits=True, kernels=kernels)
    on_cpu = LogitsSegmentation(here, alignment, size)
    uv = places(size)
    yield {"points_equal": float((on_gpu.sample(uv).class_id == on_cpu.sample(uv).class_id).mean())}
    yield {"pixels_equal": float((on_gpu.label_image() == on_cpu.label_image()).mean())}
    yield {
        "sample_gpu_ms": median(times_ms(lambda: on_gpu.sample(uv), seconds)),
        "sample_cpu_ms": median(times_ms(lambda: LogitsSegmentation(here, alignment, size).sample(uv), seconds)),
    }
    yield {
        "label_gpu_ms": median(times_ms(on_gpu.label_image, seconds)),
        "label_cpu_ms": median(times_ms(on_cpu.label_image, seconds)),
    }


def noise(size: tuple[int, int]) -> Picture:
    """Any picture."""
    return np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


def places(size: tuple[int, int]) -> NDArray[np.float64]:
    """As many points as a sweep has."""
    return np.random.default_rng(2).uniform(0.0, (size[0] - 1.0, size[1] - 1.0), (POINTS, 2))


def times_ms(work: Callable[[], object], seconds: float) -> list[float]:
    """As often as fits, after three runs that are not counted."""
    for _ in range(3):
        work()
    times: list[float] = []
    end_s = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end_s:
        started_s = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - started_s))
    return times
