"""The ONNX Runtime backend: a deployed network on the CPU (or on any provider of the installed ONNX Runtime)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import ModelError
from seg_perception.inference.calls import Pictures, segment_in_calls
from seg_perception.inference.contract import INPUT_NAME, ModelContract
from seg_perception.inference.cpu import usable_cores
from seg_perception.inference.segmenter import Segmentation

CPU_PROVIDER = "CPUExecutionProvider"


class OnnxRuntimeSegmenter:
    """Runs a deployed ONNX file. `segment` may be called from several threads at once.

    threads: CPU threads of one call; 0: as many as this process may use. providers: of ONNX Runtime, in order of
    preference; each has to be there and to work. Loading includes a first run, so that the first frame is as fast as
    the next. Raises ModelError.
    """

    heeds = frozenset({"threads", "providers"})

    def __init__(self, path: str | Path, *, threads: int = 0, providers: Sequence[str] = (CPU_PROVIDER,)) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ModelError("ONNX Runtime is not installed; `pip install onnxruntime`") from error
        if not Path(path).is_file():
            raise ModelError(f"model {path}: no such file")
        missing = [name for name in providers if name not in onnxruntime.get_available_providers()]
        if missing:
            raise ModelError(f"ONNX Runtime has no {missing}; it has {onnxruntime.get_available_providers()}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        options.log_severity_level = 3
        # Threads that spin between frames would take the cores from projection and from the transport.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=list(providers))
        except Exception as error:  # the library raises a dozen unrelated classes
            raise ModelError(f"model {path}: ONNX Runtime cannot load it ({_first_line(error)})") from error
        lost = [name for name in providers if name not in self._session.get_providers()]
        if lost:  # it goes on without those that it cannot start, with a line on stderr
            raise ModelError(
                f"ONNX Runtime cannot start {lost}, only {self._session.get_providers()}; are the libraries that it "
                "needs installed (CUDA, cuDNN), in the versions that it was built with?"
            )
        self._contract = ModelContract.from_metadata(self._session.get_modelmeta().custom_metadata_map, str(path))
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.backend = f"ONNX Runtime {onnxruntime.__version__} ({', '.join(providers)})"
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
        """See `Segmenter.segment`. Raises ModelError for a picture that the network was not deployed for."""
        return self.segment_all([pixels])[0]

    def segment_all(self, pictures: Pictures) -> list[Segmentation]:
        """See `Segmenter`: several in one call, where the network takes several."""
        return segment_in_calls(pictures, self._contract, self._run)

    def _run(self, pixels: NDArray[np.uint8]) -> dict[str, NDArray]:
        if self._session is None:
            raise ModelError(f"model '{self._contract.source_name}' is closed")
        try:
            values = self._session.run(self._outputs, {INPUT_NAME: pixels})
        except Exception as error:
            name = self._contract.source_name
            raise ModelError(
                f"model '{name}' failed on pixels of shape {pixels.shape} ({_first_line(error)})"
            ) from error
        return dict(zip(self._outputs, values, strict=True))

    def close(self) -> None:
        """Free the network."""
        self._session = None


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
