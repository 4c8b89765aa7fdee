"""The few things of the CUDA driver that running an engine needs, through NVIDIA's `cuda.bindings`.

Every status is looked at. Whoever makes a `Cuda` closes it; what it made is freed with it. Calls act on the GPU's
primary context, the one that TensorRT uses, and may come from any thread that has called `make_current`.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import ModelError
from seg_perception.inference.cuda_device import CudaDevice

_REMEDY = "`pip install cuda-python` of the driver's CUDA major version (12 or 13), or use backend: onnxruntime"

_HIGHEST = -1000  # priority of a stream: clamped to the highest that the GPU has


class CudaError(ModelError):
    """A call that the GPU or its driver refused."""

    cause = "gpu"


@dataclass(frozen=True, slots=True)
class Memory:
    """A piece of memory that the GPU reaches. host: the same bytes as the CPU sees them, (nbytes,) uint8, or None.

    address: as the GPU sees it; 0 where it reaches it through copies alone.
    """

    nbytes: int
    address: int
    host_address: int
    host: NDArray[np.uint8] | None

    def part(self, start: int, nbytes: int) -> Memory:
        """Some of it, as the GPU sees it."""
        return Memory(nbytes, self.address + start, 0, None)


class Cuda:
    """One GPU's primary context. device: a probed one. driver, nvrtc: modules of `cuda.bindings`.

    wait: how a thread waits for the GPU: `spin` keeps a core busy, `block` sleeps and is woken later; `auto` blocks on
    a Jetson and leaves others to the driver, which spins there. Raises ModelError where the bindings are missing,
    CudaError where the GPU refuses.
    """

    def __init__(self, device: CudaDevice, driver: Any = None, nvrtc: Any = None, wait: str = "auto") -> None:
        self.device = device
        self._driver, self._nvrtc = driver, nvrtc
        if driver is None:
            self._driver = _bindings("driver")
        self._blocks = wait == "block" or (wait == "auto" and device.integrated)
        self._stack = contextlib.ExitStack()
        self._call("cuInit", 0)
        handle = self._call("cuDeviceGet", device.index)
        schedule = "BLOCKING_SYNC" if self._blocks else wait.upper()  # of streams; events are told so themselves
        flags = getattr(self._driver.CUctx_flags, f"CU_CTX_SCHED_{schedule}")
        self._call("cuDevicePrimaryCtxSetFlags", handle, int(flags))
        self._context = self._call("cuDevicePrimaryCtxRetain", handle)
        self._stack.callback(self._free, "cuDevicePrimaryCtxRelease", handle)
        self.make_current()

    def close(self) -> None:
        """Free all that was made here, newest first. On a lost GPU nothing can be freed, and nothing is raised."""
        if self._context is None:
            return
        with contextlib.suppress(CudaError):
            self.make_current()
        self._stack.close()
        self._context = None

    def make_current(self) -> None:
        """Let the calls of this thread act on this GPU. Raises CudaError once it is closed."""
        if self._context is None:
            raise CudaError(f"{self.device.name} was let go of")
        self._call("cuCtxSetCurrent", self._context)

    def stream(self, *, urgent: bool = False) -> Any:
        """A stream that does not wait for the default one. urgent: what is on it goes before what waits on others."""
        flags, priority = self._driver.CUstream_flags.CU_STREAM_NON_BLOCKING, _HIGHEST if urgent else 0
        return self._owned(self._call("cuStreamCreateWithPriority", int(flags), priority), "cuStreamDestroy")

    def event(self) -> Any:
        """An event that can be waited for, and that knows its time."""
        flags = self._driver.CUevent_flags
        flag = flags.CU_EVENT_BLOCKING_SYNC if self._blocks else flags.CU_EVENT_DEFAULT
        return self._owned(self._call("cuEventCreate", int(flag)), "cuEventDestroy")

    def device_memory(self, nbytes: int) -> Memory:
        """Memory of the GPU."""
        pointer = self._owned(self._call("cuMemAlloc", nbytes), "cuMemFree")
        return Memory(nbytes, int(pointer), 0, None)

    def host_memory(self, nbytes: int, mapped: bool = False) -> Memory:
        """Page-locked memory of the CPU: copies to and from it run beside everything else.

        mapped: the GPU reads and writes it in place, which on a Jetson, where both share one memory, saves the copies.
        """
        flags = self._driver.CU_MEMHOSTALLOC_PORTABLE
        if mapped:
            flags |= self._driver.CU_MEMHOSTALLOC_DEVICEMAP
        pointer = int(self._owned(self._call("cuMemHostAlloc", nbytes, flags), "cuMemFreeHost"))
        address = int(self._call("cuMemHostGetDevicePointer", pointer, 0)) if mapped else 0
        view = np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(pointer))
        return Memory(nbytes, address, pointer, view)

    def upload(self, source: Memory, target: Memory, stream: Any, nbytes: int | None = None) -> None:
        """Queue a copy of page-locked memory to the GPU: all that the target holds, or its first bytes."""
        count = target.nbytes if nbytes is None else nbytes
        self._call("cuMemcpyHtoDAsync", target.address, source.host_address, count, stream)

    def download(self, source: Memory, target: Memory, stream: Any, nbytes: int | None = None) -> None:
        """Queue a copy from the GPU to page-locked memory: all of the source, or its first bytes."""
        count = source.nbytes if nbytes is None else nbytes
        self._call("cuMemcpyDtoHAsync", target.host_address, source.address, count, stream)

    def copy(self, source: Memory, target: Memory, stream: Any) -> None:
        """Queue a copy of all of the source within the GPU."""
        self._call("cuMemcpyDtoDAsync", target.address, source.address, source.nbytes, stream)

    def capture(self, stream: Any, queue: Callable[[], None]) -> Any:
        """What `queue` puts on the stream, as a graph to be launched as often as wanted. Raises what `queue` raises."""
        mode = self._driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call("cuStreamBeginCapture", stream, mode)
        try:
            queue()
        except BaseException:
            with contextlib.suppress(CudaError):  # the capture has to end, whatever is in it
                self._call("cuStreamEndCapture", stream)
            raise
        graph = self._call("cuStreamEndCapture", stream)
        try:
            return self._owned(self._call("cuGraphInstantiate", graph, 0), "cuGraphExecDestroy")
        finally:
            self._call("cuGraphDestroy", graph)

    def launch_graph(self, graph: Any, stream: Any) -> None:
        """Queue a captured graph."""
        self._call("cuGraphLaunch", graph, stream)

    def record(self, event: Any, stream: Any) -> None:
        """The event happens once all that is on the stream now is done."""
        self._call("cuEventRecord", event, stream)

    def wait(self, event: Any) -> None:
        """Wait until it has happened. Raises CudaError where what came before it failed."""
        self._call("cuEventSynchronize", event)

    def milliseconds(self, start: Any, end: Any) -> float:
        """Between two events that have happened."""
        return float(self._call("cuEventElapsedTime", start, end))

    def wait_for_stream(self, stream: Any) -> None:
        """Wait until all on the stream is done."""
        self._call("cuStreamSynchronize", stream)

    def compile(self, source: str, *names: str) -> list[Any]:
        """Kernels from CUDA C++, compiled for this GPU by NVRTC; without fused multiply-add, as NumPy computes."""
        module = self._call("cuModuleLoadData", compile_cubin(source, self.device.architecture, self._nvrtc))
        self._owned(module, "cuModuleUnload")
        return [self._call("cuModuleGetFunction", module, name.encode()) for name in names]

    def launch(
        self,
        kernel: Any,
        grid: tuple[int, int],
        block: tuple[int, int],
        arguments: Sequence[tuple[Any, Any]],
        stream: Any,
    ) -> None:
        """Queue a kernel. arguments: (value, ctypes type), addresses as `ctypes.c_void_p`."""
        values = tuple(value for value, _ in arguments)
        types = tuple(kind for _, kind in arguments)
        self._call("cuLaunchKernel", kernel, *grid, 1, *block, 1, 0, stream, (values, types), 0)

    def _owned(self, handle: Any, free: str) -> Any:
        self._stack.callback(self._free, free, handle)
        return handle

    def _free(self, name: str, handle: Any) -> None:
        with contextlib.suppress(CudaError):
            self._call(name, handle)

    def _call(self, name: str, *arguments: Any) -> Any:
        """One driver call; its status goes, its one result comes back."""
        try:
            status, *results = getattr(self._driver, name)(*arguments)
        except RuntimeError as error:  # the bindings find no libcuda
            raise CudaError(f"{name}: {error}") from error
        if int(status) != 0:
            raise CudaError(f"{name} failed on {self.device.name}: {getattr(status, 'name', status)} ({int(status)})")
        return results[0] if results else None


def compile_cubin(source: str, architecture: str, nvrtc: Any = None) -> bytes:
    """Machine code for one architecture (sm_87) from CUDA C++. Needs NVRTC, but no GPU. Raises ModelError."""
    if nvrtc is None:
        nvrtc = _bindings("nvrtc")

    def call(name: str, *arguments: Any) -> Any:
        status, *results = getattr(nvrtc, name)(*arguments)
        if int(status) != 0:
            raise CudaError(f"{name} failed: {getattr(status, 'name', status)}")
        return results[0] if results else None

    try:
        with _program(call, source) as program:
            options = [f"--gpu-architecture={architecture}".encode(), b"--fmad=false"]
            try:
                call("nvrtcCompileProgram", program, len(options), options)
            except CudaError as error:
                words = bytearray(call("nvrtcGetProgramLogSize", program))
                call("nvrtcGetProgramLog", program, words)
                raise CudaError(f"kernel for {architecture}: {error}; {_text(words)}") from error
            cubin = bytearray(call("nvrtcGetCUBINSize", program))
            call("nvrtcGetCUBIN", program, cubin)
            return bytes(cubin)
    except RuntimeError as error:  # the bindings find no libnvrtc
        remedy = "`pip install nvidia-cuda-nvrtc` (of CUDA 12: nvidia-cuda-nvrtc-cu12)"
        raise ModelError(f"NVRTC cannot be loaded ({_first_line(error)}); {remedy}") from error


def _bindings(name: str) -> Any:
    """A module of cuda.bindings. Raises ModelError where it, or what it needs, is missing."""
    try:
        return importlib.import_module(f"cuda.bindings.{name}")
    except (ImportError, OSError) as error:
        raise ModelError(f"cuda.bindings cannot be imported ({error}); {_REMEDY}") from error


@contextlib.contextmanager
def _program(call: Callable[..., Any], source: str) -> Iterator[Any]:
    program = call("nvrtcCreateProgram", source.encode(), b"kernel.cu", 0, [], [])
    try:
        yield program
    finally:
        call("nvrtcDestroyProgram", program)


def _text(words: bytearray) -> str:
    return " ".join(bytes(words).rstrip(b"\0").decode(errors="replace").split())


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
