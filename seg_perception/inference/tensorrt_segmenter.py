"""The TensorRT backend: a deployed network as an engine, one CUDA graph for each size of picture.

A lane is what one picture in flight needs: an execution context, a stream, page-locked buffers, and a graph that holds
upload, network and download. Two lanes for each size let the upload of one camera overlap the network of another. The
network's own small map of scores comes back, not a label image; or it stays on the GPU, and only what is asked of it
comes back. The same code runs TensorRT-RTX.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import BackendLostError, ModelError
from seg_perception.inference import cuda_device, tensorrt_library
from seg_perception.inference.calls import Pictures, calls_of
from seg_perception.inference.contract import INPUT_NAME, ModelContract
from seg_perception.inference.cuda_device import CudaDevice
from seg_perception.inference.cuda_runtime import Cuda, CudaError
from seg_perception.inference.device_segmentation import DeviceSegmentation, ResidentSegmentation
from seg_perception.inference.engine_build import BuildOptions, EngineSource, Progress, load_engine
from seg_perception.inference.engine_cache import EngineCache, default_directory
from seg_perception.inference.engine_lane import LOGITS, Lane
from seg_perception.inference.onnx_file import OnnxFile
from seg_perception.inference.panoptic_merging import image_things
from seg_perception.inference.score_kernels import ScoreKernels
from seg_perception.inference.segmenter import Segmentation, segmentation_of
from seg_perception.inference.tensorrt_library import TensorRT

log = logging.getLogger(__name__)

MOST_SIZES = 8  # each holds memory of the GPU for good
LANES = 2
SETTINGS = frozenset(
    {
        "max_image_size",
        "engine_cache",
        "workspace_mib",
        "optimization_level",
        "dla_core",
        "tf32",
        "sample_on",
        "gpu_wait",
    }
)
_TYPES = {"FLOAT": np.float32, "HALF": np.float16, "UINT8": np.uint8}  # `nptype` of 8.x wants a NumPy before 1.24


class EngineLostError(BackendLostError, CudaError):
    """The engine failed, and failed again when started anew."""


class TensorRtSegmenter:
    """Runs a deployed ONNX file as an engine. May be called from any thread; calls wait for each other.

    library: `tensorrt` or `tensorrt_rtx`. cache: folder of engines; None: this user's. sample_on_gpu: class scores stay
    on the GPU, where the network gives any. wait: see `Cuda`. A call that fails is repeated once with everything
    started anew; after that every call raises EngineLostError. Raises ModelError where driver, TensorRT, bindings or
    engine are missing or unfit, each in a sentence with its remedy.

    device, loaded, driver, nvrtc: found by themselves; given by tests.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        library: str = "tensorrt",
        options: BuildOptions | None = None,
        cache: str | Path | None = None,
        lanes: int = LANES,
        sample_on_gpu: bool = False,
        wait: str = "auto",
        on_progress: Progress | None = None,
        device: CudaDevice | None = None,
        loaded: TensorRT | None = None,
        driver: Any = None,
        nvrtc: Any = None,
    ) -> None:
        model = OnnxFile.read(path)
        self._contract = ModelContract.from_metadata(model.metadata, str(path))
        device = device or cuda_device.probe()  # before anything of TensorRT: without a driver it may crash
        self._device = device
        self._source = EngineSource(
            model,
            loaded or tensorrt_library.load(library, device),
            device,
            options or BuildOptions(),
            EngineCache(cache or default_directory()),
        )
        self._open: Callable[[Progress | None], _Running] = lambda progress: _Running(
            self._source, self._contract, lanes, sample_on_gpu, progress, lambda: Cuda(device, driver, nvrtc, wait=wait)
        )
        self._lock = threading.Lock()
        self._lost = ""
        self._running: _Running | None = self._open(on_progress)
        self._cannot_stay = self._running.why_not_resident()
        if sample_on_gpu and self._cannot_stay:
            log.warning("points are sampled on the CPU, not on the GPU as wanted: %s", self._cannot_stay)
        width, height = self._contract.image_size or self._contract.network_size
        try:
            self.segment_all([np.zeros((height, width, 3), np.uint8)] * self._contract.batch)
        except BaseException:  # Ctrl-C too
            self.close()
            raise

    @property
    def contract(self) -> ModelContract:
        """What the network expects and gives."""
        return self._contract

    @property
    def backend(self) -> str:
        """What runs it, for logs and diagnostics."""
        return f"{self._source.library} on {self._device.name}"

    @property
    def heeds(self) -> frozenset[str]:
        """See `Segmenter`: what an engine is built with; `sample_on` where the network's scores can stay on the GPU."""
        idle = {"max_image_size"} if self._contract.image_size else set()
        return SETTINGS - idle - ({"sample_on"} if self._cannot_stay else set())

    def segment(self, pixels: NDArray[np.uint8]) -> Segmentation:
        """See `Segmenter.segment`."""
        return self.segment_all([pixels])[0]

    def segment_all(self, pictures: Pictures) -> list[Segmentation]:
        """All of them, in order; the upload of one call overlaps the network of the one before."""
        calls_of(pictures, self._contract)  # what is no picture is refused before the GPU hears of it
        with self._lock:
            if self._lost:
                raise EngineLostError(self._lost)
            if self._running is None:
                raise ModelError(f"model '{self._contract.source_name}' is closed")
            try:
                return self._running.segment_all(pictures)
            except CudaError as error:
                failure = str(error)
            # Out here nothing holds on to what failed: an exception keeps every frame that it passed alive.
            log.warning("%s: %s; starting it anew", self.backend, failure)
            return self._again(pictures, failure)

    def time_network(self, size: tuple[int, int], repeats: int = 50) -> float:
        """Milliseconds of the network alone, for a picture of `size`, without copies, one run after the other, each of
        as many pictures as it takes.

        The GPU's own clock; the best that overlapping everything else could reach with one stream.
        """
        with self._lock:
            if self._running is None:
                raise ModelError(f"model '{self._contract.source_name}' is closed")
            return self._running.time_network(size, repeats)

    def close(self) -> None:
        """Free the network."""
        with self._lock:
            self._stop()

    def _again(self, pictures: Pictures, first: str) -> list[Segmentation]:
        self._stop()
        try:
            self._running = self._open(None)
            return self._running.segment_all(pictures)
        except ModelError as error:
            self._stop()
            self._lost = f"{self.backend} is lost: {first}; started anew: {error}"
            raise EngineLostError(self._lost) from error

    def _stop(self) -> None:
        if self._running is not None:
            self._running.close()
        self._running = None


class _Running:
    """A loaded engine with all that belongs to it on the GPU."""

    def __init__(
        self,
        source: EngineSource,
        contract: ModelContract,
        lanes: int,
        sample_on_gpu: bool,
        on_progress: Progress | None,
        make_cuda: Callable[[], Cuda],
    ) -> None:
        self._contract = contract
        self._library = source.library
        self._lanes_wanted = lanes
        self._lanes: dict[tuple[tuple[int, int], int], deque[Lane]] = {}  # by size and pictures in a call
        self._kernels: ScoreKernels | None = None
        self.cuda = make_cuda()
        try:
            plan = source.obtain(on_progress)
            self._logger = tensorrt_library.make_logger(source.library)
            self._runtime, self.engine = load_engine(source.library, plan, source.options, self._logger)
            self.outputs = _outputs(source.library, self.engine, plan.path)
            self._kernels = self._compiled()
            self._resident = sample_on_gpu and not self.why_not_resident()
        except BaseException:
            self.close()
            raise

    def segment_all(self, pictures: Pictures) -> list[Segmentation]:
        """Keep every lane busy; take results in the order of the pictures."""
        self.cuda.make_current()
        answers: dict[int, Segmentation] = {}
        waiting: deque[tuple[Lane, list[int]]] = deque()

        def collect() -> None:
            lane, indices = waiting.popleft()
            for index, outputs in zip(indices, lane.result(), strict=True):
                answers[index] = self._segmentation(outputs, _size(pictures[index]))

        try:
            for indices in calls_of(pictures, self._contract):
                lanes = self._lanes_of(_size(pictures[indices[0]]), len(indices))
                lane = lanes[0]
                lanes.rotate(-1)
                while lane.busy:
                    collect()
                lane.submit([pictures[index] for index in indices])
                waiting.append((lane, indices))
            while waiting:
                collect()
        finally:
            for lane, _ in waiting:  # only where something failed, and then the lanes go too
                lane.busy = False
        return [answers[index] for index in range(len(pictures))]

    def why_not_resident(self) -> str:
        """What keeps class scores from staying on the GPU; empty where they can."""
        if self._kernels is None:
            return "the kernel for it could not be compiled"
        return "" if LOGITS in self.outputs else f"the network gives {', '.join(self.outputs)}, not class scores"

    def time_network(self, size: tuple[int, int], repeats: int) -> float:
        """See `TensorRtSegmenter.time_network`."""
        self.cuda.make_current()
        count = self._contract.batch
        return self._lanes_of(size, count)[0].time_network(repeats) / count

    def close(self) -> None:
        """Free contexts before the engine, the engine before the runtime, memory last."""
        self._lanes.clear()
        self.engine = None
        self._runtime = None
        (self._kernels or self.cuda).close()

    def _segmentation(self, outputs: dict[str, Any], size: tuple[int, int]) -> Segmentation:
        if self._kernels is None or self._contract.output == "labels":
            return segmentation_of(outputs, self._contract, size)
        kind = ResidentSegmentation if self._resident else DeviceSegmentation
        return kind(
            outputs[LOGITS],
            self._contract.alignment(size),
            size,
            are_logits=self._contract.output == "logits",
            kernels=self._kernels,
            things=image_things(outputs, self._contract),
        )

    def _lanes_of(self, size: tuple[int, int], count: int) -> deque[Lane]:
        lanes = self._lanes.get((size, count))
        if lanes is None:
            sizes = dict.fromkeys(known for known, _ in self._lanes)
            if size not in sizes and len(sizes) >= MOST_SIZES:
                seen = ", ".join(f"{width}x{height}" for width, height in sizes)
                raise ModelError(
                    f"pictures of at most {MOST_SIZES} sizes wanted, {size[0]}x{size[1]} seen after {seen}"
                )
            lanes = deque(
                Lane(
                    self.cuda,
                    self._library.execution_context(self.engine),
                    self.outputs,
                    self._logger,
                    size,
                    count=None if self._contract.batch == 1 else count,
                    resident=self._kernels if self._resident else None,
                    things=self._contract.things,
                )
                for _ in range(self._lanes_wanted)
            )
            self._lanes[size, count] = lanes
        return lanes

    def _compiled(self) -> ScoreKernels | None:
        try:
            return ScoreKernels(self.cuda)
        except ModelError as error:
            log.info("label images will be made on the CPU: %s", error)
            return None


def _size(pixels: NDArray[np.uint8]) -> tuple[int, int]:
    return pixels.shape[1], pixels.shape[0]


def _outputs(library: TensorRT, engine: Any, path: Path) -> dict[str, np.dtype]:
    """Names and types of the outputs. Raises ModelError where the one input is not a picture, and for other types than
    a deployed network has."""
    trt = library.module
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    if inputs != [INPUT_NAME] or engine.get_tensor_dtype(INPUT_NAME) != trt.DataType.UINT8:
        raise ModelError(f"engine {path}: one uint8 input '{INPUT_NAME}' wanted, {inputs} seen; deploy the model again")
    types = {name: engine.get_tensor_dtype(name).name for name in names if name not in inputs}
    strange = {name: kind for name, kind in types.items() if kind not in _TYPES}
    if strange:
        raise ModelError(f"engine {path}: outputs of {tuple(_TYPES)} wanted, {strange} seen; deploy the model again")
    return {name: np.dtype(_TYPES[kind]) for name, kind in types.items()}
