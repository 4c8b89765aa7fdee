"""What one call of an engine in flight needs: an execution context, a stream, buffers, and a CUDA graph of it all."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import ModelError
from seg_perception.inference.calls import Pictures
from seg_perception.inference.contract import INPUT_NAME
from seg_perception.inference.cuda_runtime import Cuda, CudaError, Memory
from seg_perception.inference.device_segmentation import MemoryPool
from seg_perception.inference.panoptic_merging import THINGS
from seg_perception.inference.score_kernels import DeviceScores, ScoreKernels

log = logging.getLogger(__name__)

LOGITS = "logits"


class Lane:
    """One call in flight, for pictures of one size, (width, height).

    context: of the engine, for this lane alone; None where it could not be made. outputs: names and types. count:
    pictures in the call; None: one, and the network has no axis of pictures. resident: class scores stay on the GPU,
    where these kernels read them, and mark the samples of the classes `things`; None: all outputs come back. Raises
    CudaError where the GPU refuses, ModelError where the engine was not built for such pictures.
    """

    def __init__(
        self,
        cuda: Cuda,
        context: Any,
        outputs: dict[str, np.dtype],
        logger: Any,
        size: tuple[int, int],
        *,
        count: int | None = None,
        resident: ScoreKernels | None = None,
        things: Sequence[int] = (),
    ) -> None:
        self.busy = False
        self._cuda = cuda
        self._logger = logger
        self._context = context
        if context is None:
            raise CudaError(f"no execution context ({logger.last_words()}); is the memory of the GPU full?")
        self._shape = (count or 1, size[1], size[0], 3)
        if not self._context.set_input_shape(INPUT_NAME, self._shape[count is None :]):
            raise ModelError(
                f"the engine was not built for pictures of {size[0]}x{size[1]} ({logger.last_words()}); "
                "raise inference.max_image_size"
            )
        self._stream, self._done = cuda.stream(), cuda.event()
        self._input = self._bound(INPUT_NAME, math.prod(self._shape))
        assert self._input.host is not None
        self._pixels = self._input.host.reshape(self._shape)
        self._outputs: dict[str, tuple[_Buffer, np.dtype, tuple[int, ...]]] = {}
        for name, dtype in outputs.items():
            shape = tuple(self._context.get_tensor_shape(name))
            stays = resident is not None and name == LOGITS
            buffer = self._bound(name, math.prod(shape) * dtype.itemsize, host=not stays)
            self._outputs[name] = buffer, dtype, (1, *shape) if count is None else shape
        self._kernels, self._things = resident, tuple(things)
        self._pool = MemoryPool(cuda, self._outputs[LOGITS][0].memory.nbytes) if resident else None
        self._kept: list[DeviceScores] = []
        if resident and things:
            pictures, _, *sides = self._outputs[LOGITS][2]
            shape = (pictures, *sides)
            self._outputs[THINGS] = _Buffer(cuda, math.prod(shape)), np.dtype(np.uint8), shape
        self._pixels[:] = 0
        self._enqueue()  # the first run sets the context up, which a capture must not see
        cuda.wait_for_stream(self._stream)
        self._graph = self._captured()

    def submit(self, pictures: Pictures) -> None:
        """Copy the pictures, as many as there are to a call, and start. `result` has to follow before the next ones."""
        for place, pixels in zip(self._pixels, pictures, strict=True):
            place[:] = pixels
        if self._graph is None:
            self._enqueue()
        else:
            self._cuda.launch_graph(self._graph, self._stream)
        if self._pool is not None:  # what the next picture would overwrite is copied, within the GPU
            lent = self._pool.take()
            self._cuda.copy(self._outputs[LOGITS][0].memory, lent.memory, self._stream)
            self._kept = self._scores_in(lent.memory, lent)
        self._cuda.record(self._done, self._stream)
        self.busy = True

    def result(self) -> list[dict[str, Any]]:
        """Wait. The outputs of each picture, copied, as the next ones overwrite them: arrays; where the class scores
        stay, these as DeviceScores, and THINGS beside them where there are things."""
        self._cuda.wait(self._done)
        self.busy = False
        copies: dict[str, Any] = {
            name: buffer.host.view(dtype).reshape(shape).copy()
            for name, (buffer, dtype, shape) in self._outputs.items()
            if buffer.host is not None
        }
        if self._pool is not None:
            copies[LOGITS], self._kept = self._kept, []
        return [{name: values[k] for name, values in copies.items()} for k in range(self._shape[0])]

    def time_network(self, repeats: int) -> float:
        """Milliseconds of one run without copies, the mean of `repeats` in a row after as many that do not count. In a
        CUDA graph where the lane has one: else a small network would wait for the CPU to start its kernels."""
        start, end = self._cuda.event(), self._cuda.event()
        graph = None if self._graph is None else self._cuda.capture(self._stream, self._start_network)
        for begins in (start, end):
            for _ in range(repeats):
                if graph is None:
                    self._start_network()
                else:
                    self._cuda.launch_graph(graph, self._stream)
            self._cuda.record(begins, self._stream)
        self._cuda.wait(end)
        return self._cuda.milliseconds(start, end) / repeats

    def _bound(self, name: str, nbytes: int, host: bool = True) -> _Buffer:
        """Memory for one input or output of the engine, which knows of it."""
        buffer = _Buffer(self._cuda, nbytes, host)
        if not self._context.set_tensor_address(name, buffer.memory.address):
            raise ModelError(f"the engine has no tensor '{name}'; delete it to have it built again")
        return buffer

    def _scores_in(self, memory: Memory, owner: object = None) -> list[DeviceScores]:
        """Those of each picture, in memory that holds those of all."""
        _, dtype, (count, *shape) = self._outputs[LOGITS]
        nbytes = memory.nbytes // count
        parts = (memory.part(k * nbytes, nbytes) for k in range(count))
        return [DeviceScores(part, tuple(shape), dtype, planes=True, owner=owner) for part in parts]

    def _start_network(self) -> None:
        if not self._context.execute_async_v3(int(self._stream)):
            raise CudaError(f"the engine could not be started ({self._logger.last_words()})")

    def _enqueue(self) -> None:
        """Upload, network, marks of things, download, in this order on the lane's stream."""
        self._input.upload(self._stream)
        self._start_network()
        if self._kernels is not None and THINGS in self._outputs:
            marks, _, (_, *sides) = self._outputs[THINGS]
            nbytes = math.prod(sides)
            for k, scores in enumerate(self._scores_in(self._outputs[LOGITS][0].memory)):
                self._kernels.mark_things(scores, self._things, marks.memory.part(k * nbytes, nbytes), self._stream)
        for buffer, _, _ in self._outputs.values():
            buffer.download(self._stream)

    def _captured(self) -> Any:
        """The same as a graph; None where the engine cannot be captured."""
        capturable = getattr(self._context, "is_stream_capturable", None)
        if capturable is not None and not capturable(int(self._stream)):
            log.info("the engine cannot be captured in a CUDA graph; it is started kernel by kernel")
            return None
        try:
            return self._cuda.capture(self._stream, self._enqueue)
        except CudaError as error:
            log.info("no CUDA graph (%s); the engine is started kernel by kernel", error)
            return None


class _Buffer:
    """One input or output: memory of the GPU beside page-locked memory; or, on a Jetson, one for both; or, of what
    stays there, the GPU's alone."""

    def __init__(self, cuda: Cuda, nbytes: int, host: bool = True) -> None:
        self._cuda = cuda
        mapped = host and cuda.device.integrated
        self._host: Memory | None = cuda.host_memory(nbytes, mapped=mapped) if host else None
        self._device: Memory | None = None if mapped else cuda.device_memory(nbytes)

    @property
    def host(self) -> NDArray[np.uint8] | None:
        """The bytes as the CPU sees them; None of what stays on the GPU."""
        return None if self._host is None else self._host.host

    @property
    def memory(self) -> Memory:
        """As the GPU sees it."""
        memory = self._device or self._host
        assert memory is not None
        return memory

    def upload(self, stream: Any) -> None:
        """Queue the copy to the GPU, where one is needed."""
        if self._device is not None and self._host is not None:
            self._cuda.upload(self._host, self._device, stream)

    def download(self, stream: Any) -> None:
        """Queue the copy from the GPU, where one is needed."""
        if self._device is not None and self._host is not None:
            self._cuda.download(self._device, self._host, stream)
