"""What PyTorch alone can show of a GPU: the speed of the networks, and the package's kernels on what they give."""

from __future__ import annotations

from statistics import median
from typing import Any

import torch
from gpu_kernels import CAMERAS, compare_kernels, times_ms
from gpu_networks import BACKBONES, SIZES
from gpu_report import Report
from torch import Tensor

from seg_perception.errors import ModelError
from seg_perception.inference.cuda_runtime import Cuda, Memory
from seg_perception.inference.score_kernels import DeviceScores, ScoreKernels
from seg_perception.models.build import SegmentationNetwork, build_model
from seg_perception.models.config import NetworkConfig

PRECISIONS = {"tf32": torch.float32, "fp16": torch.float16}
DEVICE = "cuda"


def check_torch(report: Report, cuda: Cuda, seconds: float) -> None:
    """Every network at every size, one picture and six at once."""
    if DEVICE == "cuda" and not torch.cuda.is_available():
        report.fail("PyTorch", ModelError(f"a build for CUDA that sees the GPU wanted, {torch.__version__} seen"))
        return
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    try:
        kernels: ScoreKernels | None = ScoreKernels(cuda)
    except ModelError as error:
        report.fail("kernels", error)
        kernels = None
    for backbone in BACKBONES:
        for width, height in SIZES:
            name = f"deeplabv3plus_{backbone}_{width}x{height}"
            for precision, dtype in PRECISIONS.items():
                what = {"network": name, "precision": precision, "library": f"torch {torch.__version__}"}
                if report.has("torch", **what):
                    continue
                torch.manual_seed(0)
                model = build_model(NetworkConfig(backbone=backbone, num_classes=19)).eval()
                model = model.to(DEVICE, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
                try:
                    report.add("torch", {**what, **measure(model, (width, height), dtype, kernels, seconds)})
                except RuntimeError as error:  # the GPU's memory is full, say
                    report.fail(f"{name} {precision} in PyTorch", error)
                del model
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
    cuda.close()


@torch.inference_mode()
def measure(
    model: SegmentationNetwork, size: tuple[int, int], dtype: torch.dtype, kernels: ScoreKernels | None, seconds: float
) -> dict[str, Any]:
    """One picture, six at once, and the points of what the first gave."""
    one, six = (pictures(count, size, dtype) for count in (1, CAMERAS))
    network_ms, scores = timed(model, one, seconds)
    batch_ms, _ = timed(model, six, seconds)
    row = {"network_ms": network_ms, "batch_network_ms": batch_ms / CAMERAS}
    if kernels is None:
        return row | dict.fromkeys(("points_equal", "pixels_equal", "sample_gpu_ms", "sample_cpu_ms"))
    planes = scores[0].contiguous()
    here = planes.cpu().numpy()  # waits for PyTorch's stream, which the kernels' own does not
    there = DeviceScores(memory_of(planes), here.shape, here.dtype, planes=True, owner=planes)
    return row | compare_kernels(there, here, kernels, seconds)


def pictures(count: int, size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """Normalised noise, as the networks take it."""
    made = torch.randn(count, 3, size[1], size[0], generator=torch.Generator().manual_seed(1))
    return made.to(DEVICE, dtype, memory_format=torch.channels_last)


def timed(model: SegmentationNetwork, images: Tensor, seconds: float) -> tuple[float, Tensor]:
    """Milliseconds of the network alone, by the GPU's own clock, as a CUDA graph; and its scores, (N, C, h, w)."""

    def network() -> Tensor:
        return model.maps(images, auxiliary=False)["logits"]

    if DEVICE == "cpu":  # the rehearsal
        return median(times_ms(network, seconds)), network()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # libraries choose their kernels here, which a capture must not see
        for _ in range(3):
            network()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        scores = network()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

    def run() -> None:
        graph.replay()
        torch.cuda.synchronize()

    repeats = max(5, int(1e3 * seconds / median(times_ms(run, 0.0))))
    start.record()
    for _ in range(repeats):
        graph.replay()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / repeats, scores


def memory_of(tensor: Tensor) -> Memory:
    """A tensor's memory, as the kernels take it."""
    return Memory(tensor.numel() * tensor.element_size(), tensor.data_ptr(), 0, None)
