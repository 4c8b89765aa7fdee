"""The OpenVINO backend: a deployed network on the CPU; in bfloat16, where the CPU has it, faster than any float32."""

from __future__ import annotations

import functools
import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import ModelError
from seg_perception.inference.calls import Pictures, segment_in_calls
from seg_perception.inference.contract import INPUT_NAME, ModelContract
from seg_perception.inference.cpu import usable_cores
from seg_perception.inference.onnx_file import OnnxFile
from seg_perception.inference.segmenter import Segmentation

log = logging.getLogger(__name__)

MOST_SIZES = 8  # a compiled network each, or two where it takes several pictures
_HINTS = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoSegmenter:
    """Runs a deployed ONNX file. May be called from any thread; calls wait for each other.

    threads: CPU threads; 0: as many as this process may use. precision: fp32, or bf16 on CPUs with AVX512-BF16 or AMX.
    The network is compiled for each size of picture that it meets. Raises ModelError.
    """

    heeds = frozenset({"threads", "cpu_precision"})

    def __init__(self, path: str | Path, *, threads: int = 0, precision: str = "fp32") -> None:
        openvino, self._core = _library()
        self._contract = ModelContract.from_metadata(OnnxFile.read(path).metadata, str(path))
        if precision not in _HINTS:
            raise ModelError(f"precision: one of {tuple(_HINTS)} wanted, '{precision}' seen")
        if precision == "bf16" and "BF16" not in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise ModelError("precision bf16: this CPU has neither AVX512-BF16 nor AMX; use fp32")
        self._path = path
        self._properties = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": threads or usable_cores(),
            # The cores belong to projection and transport as well.
            "ENABLE_CPU_PINNING": False,
        }
        self._lock = threading.Lock()
        self._requests: dict[tuple[int, ...], Any] | None = {}  # by the shape of the pixels
        self.backend = f"OpenVINO {openvino.__version__.split('-')[0]} on the CPU, {precision}"
        width, height = self._contract.image_size or self._contract.network_size
        self.segment_all([np.zeros((height, width, 3), np.uint8)] * self._contract.batch)

    @property
    def contract(self) -> ModelContract:
        """What the network expects and gives."""
        return self._contract

    @property
    def overlaps(self) -> bool:
        """Whether several pictures gain by going together."""
        return self._contract.batch > 1

    def segment(self, pixels: NDArray[np.uint8]) -> Segmentation:
        """See `Segmenter.segment`."""
        return self.segment_all([pixels])[0]

    def segment_all(self, pictures: Pictures) -> list[Segmentation]:
        """See `Segmenter`: several in one call, where the network takes several."""
        return segment_in_calls(pictures, self._contract, self._run)

    def _run(self, pixels: NDArray[np.uint8]) -> dict[str, NDArray]:
        with self._lock:
            if self._requests is None:
                raise ModelError(f"model '{self._contract.source_name}' is closed")
            request = self._requests.get(pixels.shape) or self._compiled(pixels.shape, self._requests)
            try:
                results = request.infer({INPUT_NAME: pixels}, share_inputs=True, share_outputs=True)
            except Exception as error:  # the library raises RuntimeError and its own
                name, shape = self._contract.source_name, pixels.shape
                raise ModelError(f"model '{name}' failed on pixels of shape {shape} ({_first_line(error)})") from error
            # The request owns its outputs; the next picture overwrites them.
            copies = [(port.get_names(), np.array(value)) for port, value in results.items()]
        return {name: value for names, value in copies for name in names}  # of a tensor that has several, by each

    def close(self) -> None:
        """Free the network."""
        with self._lock:
            self._requests = None

    def _compiled(self, shape: tuple[int, ...], requests: dict[tuple[int, ...], Any]) -> Any:
        """A request for pixels of one shape."""
        sizes = {(known[-2], known[-3]) for known in requests}  # (width, height)
        width, height = size = (shape[-2], shape[-3])
        if size not in sizes and len(sizes) >= MOST_SIZES:
            seen = ", ".join(f"{known[0]}x{known[1]}" for known in sorted(sizes))
            raise ModelError(f"pictures of at most {MOST_SIZES} sizes wanted, {width}x{height} seen after {seen}")
        try:
            model = self._core.read_model(str(self._path))
            model.reshape({INPUT_NAME: list(shape)})
            requests[shape] = self._core.compile_model(model, "CPU", self._properties).create_infer_request()
        except Exception as error:  # the library raises RuntimeError and its own
            raise ModelError(f"model {self._path}: OpenVINO cannot compile it ({_first_line(error)})") from error
        return requests[shape]


@functools.cache
def _library() -> tuple[Any, Any]:
    """The module and its core, one a process that is never let go. Raises ModelError.

    The CPU plugin (2026.4) gives the thread that loads it a stack for signals, and frees that memory in whatever thread
    the core is let go: the next signal that the first thread handles in Python would end the process.
    """
    try:
        import openvino
    except ImportError as error:
        raise ModelError(
            f"OpenVINO cannot be imported ({error}); `pip install openvino`, or use backend: onnxruntime"
        ) from error
    return openvino, openvino.Core()


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__).strip()
