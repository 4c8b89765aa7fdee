"""The GPU's kernels give the CPU's labels: their text compiled as C++, on a GPU made of host memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compiled_kernels import compile_kernels
from fake_gpu import DESKTOP, FakeGpu, Status

from seg_perception.errors import ModelError
from seg_perception.inference.contract import Alignment
from seg_perception.inference.cuda_runtime import Cuda, CudaError, compile_cubin
from seg_perception.inference.device_segmentation import DeviceSegmentation, MemoryPool, ResidentSegmentation
from seg_perception.inference.panoptic_merging import thing_samples
from seg_perception.inference.score_kernels import PREAMBLE, SOURCE, DeviceScores, ScoreKernels
from seg_perception.inference.segmenter import LogitsSegmentation

SIZE = (96, 60)
ALIGNMENT = Alignment.of_resize(SIZE, (16, 10))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    return compile_kernels(tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def gpu(compiled: Callable[[str], Any]) -> FakeGpu:
    gpu = FakeGpu()
    gpu.driver.kernels = compiled
    return gpu


@pytest.fixture
def cuda(gpu: FakeGpu) -> Cuda:
    return Cuda(gpu.device, gpu.driver, gpu.nvrtc)


def scores_of(output: str, dtype: type, seed: int = 3) -> np.ndarray:
    scores = np.random.default_rng(seed).normal(0, 2, (19, 10, 16)).astype(np.float32)
    if output == "probabilities":
        scores = np.exp(scores) / np.exp(scores).sum(axis=0)
    return scores.astype(dtype)


def resident(cuda: Cuda, kernels: ScoreKernels, scores: np.ndarray, are_logits: bool = True) -> ResidentSegmentation:
    lent, stream = MemoryPool(cuda, scores.nbytes).take(), cuda.stream()
    host = cuda.host_memory(scores.nbytes)
    assert host.host is not None
    host.host[:] = scores.reshape(-1).view(np.uint8)
    cuda.upload(host, lent.memory, stream)
    cuda.wait_for_stream(stream)
    there = DeviceScores(lent.memory, scores.shape, scores.dtype, planes=True, owner=lent)
    return ResidentSegmentation(there, ALIGNMENT, SIZE, are_logits=are_logits, kernels=kernels)


def places(count: int = 4000) -> np.ndarray:
    uv = np.random.default_rng(9).uniform(-3.0, 3.0 + np.array(SIZE), (count, 2))
    edges = [
        (-0.5, -0.5),
        (95.5, 10.0),
        (95.49999, 59.49999),
        (10.0, 59.5),
        (-0.50001, 0.0),
        (np.nan, 3.0),
        (3.0, np.inf),
    ]
    return np.concatenate([uv, edges, np.stack(np.meshgrid(np.arange(96.0), np.arange(60.0)), -1).reshape(-1, 2)])


def assert_same_labels(found: Any, wanted: Any) -> None:
    np.testing.assert_array_equal(found.class_id, wanted.class_id)
    np.testing.assert_allclose(found.probability, wanted.probability, atol=1e-5)
    np.testing.assert_allclose(found.margin, wanted.margin, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("output", ["logits", "probabilities"])
def test_points_sampled_on_the_gpu_have_the_cpus_labels(cuda: Cuda, dtype: type, output: str) -> None:
    scores, are_logits = scores_of(output, dtype), output == "logits"
    on_gpu = resident(cuda, ScoreKernels(cuda), scores, are_logits)
    on_cpu = LogitsSegmentation(scores, ALIGNMENT, SIZE, are_logits=are_logits)
    labels = on_gpu.sample(places())
    assert_same_labels(labels, on_cpu.sample(places()))
    assert (labels.class_id == 255).sum() > 100
    assert (labels.class_id.dtype, labels.probability.dtype, labels.margin.dtype) == (np.uint8, np.float32, np.float32)
    assert len(on_gpu.sample(np.empty((0, 2))).class_id) == 0
    with pytest.raises(ValueError, match=r"uv: shape \(N, 2\) wanted, \(3,\) seen"):
        on_gpu.sample(np.zeros(3))


@pytest.mark.parametrize("size", [None, (96, 60), (33, 17), (5, 3), (1, 1)])
@pytest.mark.parametrize("output", ["logits", "probabilities"])
def test_label_images_of_the_gpu_are_the_cpus_to_the_last_pixel(
    cuda: Cuda, size: tuple[int, int] | None, output: str
) -> None:
    scores, are_logits, kernels = scores_of(output, np.float32), output == "logits", ScoreKernels(cuda)
    wanted = LogitsSegmentation(scores, ALIGNMENT, SIZE, are_logits=are_logits).label_image(size)
    here = DeviceSegmentation(scores, ALIGNMENT, SIZE, are_logits=are_logits, kernels=kernels)
    np.testing.assert_array_equal(here.label_image(size), wanted)
    np.testing.assert_array_equal(resident(cuda, kernels, scores, are_logits).label_image(size), wanted)


def test_the_confidence_beside_a_label_image_is_that_of_a_sample(cuda: Cuda) -> None:
    scores = scores_of("logits", np.float32)
    there = resident(cuda, ScoreKernels(cuda), scores)
    labels, confidence = there._kernels.label_picture(there._scores, True, ALIGNMENT, SIZE, confidence=True)
    uv = np.stack(np.meshgrid(np.arange(96.0), np.arange(60.0)), -1).reshape(-1, 2)
    sampled = LogitsSegmentation(scores, ALIGNMENT, SIZE).sample(uv)
    assert confidence is not None
    np.testing.assert_array_equal(labels.ravel(), sampled.class_id)
    np.testing.assert_allclose(confidence.ravel(), sampled.probability, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_scores_that_are_no_numbers_are_treated_as_on_the_cpu(cuda: Cuda, dtype: type) -> None:
    scores = scores_of("logits", dtype)
    scores[:, 2:5, 3:6] = np.nan
    scores[4, 7:, :] = np.nan
    scores[6, :, 9:] = -np.inf
    wanted = LogitsSegmentation(scores, ALIGNMENT, SIZE)
    there = resident(cuda, ScoreKernels(cuda), scores)
    assert_same_labels(there.sample(places()), wanted.sample(places()))
    np.testing.assert_array_equal(there.label_image(), wanted.label_image())
    assert (there.label_image() == 255).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("things", [tuple(range(11, 19)), (0, 63, 64, 127, 128, 200, 253), (5,)])
def test_samples_of_things_are_marked_as_on_the_cpu(cuda: Cuda, dtype: type, things: tuple[int, ...]) -> None:
    classes = max(19, max(things) + 1)
    scores = np.round(np.random.default_rng(1).normal(0, 2, (classes, 10, 16))).astype(dtype)  # many equals
    scores[3, 4:6, 2:9] = np.nan
    scores[:, 7, 3] = -np.inf
    scores[max(things), 8, :5] = np.inf
    kernels, stream = ScoreKernels(cuda), cuda.stream()
    there = resident(cuda, kernels, scores)._scores
    marks, host = cuda.device_memory(160), cuda.host_memory(160)
    kernels.mark_things(there, things, marks, stream)
    cuda.download(marks, host, stream)
    cuda.wait_for_stream(stream)
    wanted = thing_samples(scores, things)
    np.testing.assert_array_equal(host.host.reshape(10, 16), wanted)  # type: ignore[union-attr]
    assert 0 < wanted.sum() < 160
    assert not wanted[4:6, 2:9].any()


def test_every_half_is_read_as_the_number_that_it_is(cuda: Cuda) -> None:
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(1, 1, -1)
    halves = np.where(np.isfinite(halves), halves, np.float16(0.0))
    scores = np.concatenate([halves, np.full_like(halves, -np.inf)])
    whole = Alignment()
    uv = np.stack([np.arange(1 << 16), np.zeros(1 << 16)], -1).astype(float)
    there = resident(cuda, ScoreKernels(cuda), scores)._scores
    found = ScoreKernels(cuda).sample(there, False, whole, (1 << 16, 1), uv).probability
    np.testing.assert_array_equal(found, halves.ravel().astype(np.float32))


def test_memory_of_a_segmentation_is_used_again_once_nobody_has_it(cuda: Cuda) -> None:
    pool = MemoryPool(cuda, 64)
    first, second = pool.take(), pool.take()
    assert first.memory.address != second.memory.address
    before = first.memory.address
    del first
    assert pool.take().memory.address == before


def test_a_label_image_is_made_on_the_cpu_where_the_gpu_fails(gpu: FakeGpu, cuda: Cuda) -> None:
    scores = scores_of("logits", np.float32)
    here = DeviceSegmentation(scores, ALIGNMENT, SIZE, are_logits=True, kernels=ScoreKernels(cuda))
    there = resident(cuda, here._kernels, scores)
    wanted = here.label_image()
    gpu.driver.fail["cuLaunchKernel"] = [Status.CUDA_ERROR_LAUNCH_FAILED] * 2
    np.testing.assert_array_equal(here.label_image(), wanted)
    with pytest.raises(CudaError, match="cuLaunchKernel failed on Fake GPU"):
        there.label_image()
    cuda.close()
    np.testing.assert_array_equal(here.label_image(), wanted)
    with pytest.raises(CudaError, match="Fake GPU was let go of"):
        there.sample(places())


def test_more_points_than_before_need_more_memory_and_fewer_do_not(gpu: FakeGpu, cuda: Cuda) -> None:
    there = resident(cuda, ScoreKernels(cuda), scores_of("logits", np.float32))
    there.sample(places(100))
    for count, allocations in ((90, 0), (20_000, 4), (15_000, 0)):
        gpu.driver.calls.clear()
        there.sample(places(count))
        assert sum(name in ("cuMemAlloc", "cuMemHostAlloc") for name in gpu.driver.calls) == allocations


@pytest.mark.parametrize("architecture", ["sm_75", "sm_87", "sm_90", "sm_120", "sm_121"])
def test_nvrtc_takes_the_kernels(architecture: str) -> None:
    try:
        cubin = compile_cubin(PREAMBLE + SOURCE, architecture)
    except CudaError:
        raise
    except ModelError as error:
        pytest.skip(str(error))
    assert cubin.startswith(b"\x7fELF")
    assert b"label_picture" in cubin
    assert b"sample_points" in cubin
    assert b"mark_things" in cubin


def test_the_kernels_are_compiled_for_the_gpu_at_hand_and_without_fused_arithmetic(gpu: FakeGpu, cuda: Cuda) -> None:
    ScoreKernels(cuda)
    assert gpu.nvrtc.options == [f"--gpu-architecture={DESKTOP.architecture}".encode(), b"--fmad=false"]
