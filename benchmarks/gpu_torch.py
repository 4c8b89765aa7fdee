"""What PyTorch alone can show of a GPU: the speed of the networks, and the package's kernels on what they give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import torch
from gpu_kernels import CAMERAS, STREAM, Picture, compare_kernels, cuda_of, noise, times_ms
from gpu_networks import BACKBONES, SIZES
from gpu_report import Report
from numpy.typing import NDArray
from torch import Tensor

from seg_perception.errors import ModelError
from seg_perception.inference.cuda_device import CudaDevice
from seg_perception.inference.cuda_runtime import Memory
from seg_perception.inference.score_kernels import DeviceScores, ScoreKernels
from seg_perception.inference.tensorrt_segmenter import LANES
from seg_perception.models.build import SegmentationNetwork, build_model
from seg_perception.models.config import NetworkConfig

PRECISIONS = {"tf32": torch.float32, "fp16": torch.float16}
DEVICE = "cuda"


def check_torch(report: Report, device: CudaDevice, seconds: float) -> None:
    """Every network at every size, one picture and six at once."""
    if DEVICE == "cuda" and "PyTorch" not in report.failures:
        with report.attempt("PyTorch"):
            if not torch.cuda.is_available():
                raise ModelError(f"a build for CUDA that sees the GPU wanted, {torch.__version__} seen")
    if "PyTorch" in report.failures:
        return
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    cuda = cuda_of(device)
    kernels = None if "kernels" in report.failures else ScoreKernels(cuda)
    for backbone in BACKBONES:
        for size in SIZES:
            for precision, dtype in PRECISIONS.items():
                network = f"deeplabv3plus_{backbone}_{size[0]}x{size[1]}"
                what = {"network": network, "precision": precision, "library": f"torch {torch.__version__}"}
                report.measure("torch", what, measure(backbone, size, dtype, kernels, seconds))
    cuda.close()


def measure(
    backbone: str, size: tuple[int, int], dtype: torch.dtype, kernels: ScoreKernels | None, seconds: float
) -> Iterator[dict[str, Any]]:
    """One picture, six at once, the points of what the first gave, and pictures in a row with all their copies."""
    torch.manual_seed(0)
    model = build_model(NetworkConfig(backbone=backbone, num_classes=19)).eval()
    model = model.to(DEVICE, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.inference_mode():
        network_ms, scores = timed(model, pictures(1, size, dtype), seconds)
    yield {"network_ms": network_ms}
    with torch.inference_mode():
        batch_ms, _ = timed(model, pictures(CAMERAS, size, dtype), seconds)
    yield {"batch_network_ms": batch_ms / CAMERAS}
    if kernels is not None:
        planes = scores[0].contiguous()
        here = planes.cpu().numpy()  # waits for PyTorch's stream, which the kernels' own does not
        there = DeviceScores(memory_of(planes), here.shape, here.dtype, planes=True, owner=planes)
        yield from compare_kernels(there, here, kernels, seconds)
    with torch.inference_mode():
        lanes = [Lane(model, size, dtype) for _ in range(LANES)]
        picture = noise(size)
        yield {"stream_ms": median(times_ms(lambda: in_a_row(lanes, picture), seconds)) / STREAM}


def pictures(count: int, size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """Normalised noise, as the networks take it."""
    made = torch.randn(count, 3, size[1], size[0], generator=torch.Generator().manual_seed(1))
    return made.to(DEVICE, dtype, memory_format=torch.channels_last)


def timed(model: SegmentationNetwork, images: Tensor, seconds: float) -> tuple[float, Tensor]:
    """Milliseconds of the network alone, by the GPU's own clock, as a CUDA graph; and its scores, (N, C, h, w)."""
    replay, scores = captured(lambda: model.maps(images, auxiliary=False)["logits"])
    if DEVICE == "cpu":
        return median(times_ms(replay, seconds)), scores
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

    def run() -> None:
        replay()
        torch.cuda.synchronize()

    repeats = max(5, int(1e3 * seconds / median(times_ms(run, 0.0))))
    start.record()
    for _ in range(repeats):
        replay()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / repeats, scores


def captured(network: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
    """The network as a CUDA graph, to be started on whichever stream is the current one; and where its answer lies."""
    if DEVICE == "cpu":  # the rehearsal
        return network, network()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # libraries choose their kernels here, which a capture must not see
        for _ in range(3):
            network()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side):  # what libraries keep for a stream is no other graph's then
        scores = network()
    return graph.replay, scores


class Lane:
    """One picture in flight, as the engine's lanes have it: upload, network and download on a stream of its own."""

    def __init__(self, model: SegmentationNetwork, size: tuple[int, int], dtype: torch.dtype) -> None:
        self._stream = torch.cuda.Stream() if DEVICE == "cuda" else None  # None: no stream of CUDA's
        self._pixels = torch.zeros(size[1], size[0], 3, dtype=torch.uint8, pin_memory=self._stream is not None)
        there = self._there = self._pixels.to(DEVICE, copy=True)

        def network() -> Tensor:
            images = there.permute(2, 0, 1)[None].to(dtype) / 128 - 1  # (1, 3, h, w), its channels last
            return model.maps(images, auxiliary=False)["logits"]

        self._replay, self._scores = captured(network)
        self._out = torch.empty_like(self._scores, device="cpu", pin_memory=self._stream is not None)

    def submit(self, picture: Picture) -> None:
        """Start; `result` has to follow before the next picture."""
        self._pixels.numpy()[:] = picture
        with torch.cuda.stream(self._stream):
            self._there.copy_(self._pixels, non_blocking=True)
            self._replay()
            self._out.copy_(self._scores, non_blocking=True)

    def result(self) -> NDArray[Any]:
        """Wait; a copy, as the next picture overwrites it."""
        if self._stream is not None:
            self._stream.synchronize()
        return self._out.numpy().copy()


def in_a_row(lanes: list[Lane], picture: Picture) -> None:
    """Pictures one after the other, the upload of each while the one before it is in the network."""
    for k in range(STREAM + len(lanes)):
        lane = lanes[k % len(lanes)]
        if k >= len(lanes):
            lane.result()
        if k < STREAM:
            lane.submit(picture)


def memory_of(tensor: Tensor) -> Memory:
    """A tensor's memory, as the kernels take it."""
    return Memory(tensor.numel() * tensor.element_size(), tensor.data_ptr(), 0, None)
