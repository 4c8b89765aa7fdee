"""A GPU made of host memory, behind the real names of TensorRT and cuda.bindings.

It answers to no name, and to no argument name, that the recorded API of the version does not have
(test/inference/api_names.json). What is put on a stream happens when somebody waits for it, not before; an engine runs
its ONNX file in ONNX Runtime, on the bytes at the addresses it was given; a kernel runs as the C++ it is written in.
"""

from __future__ import annotations

import ctypes
import enum
import json
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from seg_perception.inference import cuda_device, tensorrt_library, tensorrt_segmenter
from seg_perception.inference.cuda_device import CudaDevice
from seg_perception.inference.cuda_runtime import Cuda
from seg_perception.inference.tensorrt_library import TensorRT

NAMES = json.loads((Path(__file__).parent / "inference" / "api_names.json").read_text())
RTX = "tensorrt_rtx 1.7.1.116"
GENERATIONS = ("tensorrt 10.3.0", "tensorrt 10.16.1.11", "tensorrt 11.4.0.106", "tensorrt 8.6.1", RTX)
ENUMS = (
    "BuilderFlag",
    "DataType",
    "DeviceType",
    "DynamicShapesKernelSpecializationStrategy",
    "LayerInformationFormat",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "PreviewFeature",
    "ProfilingVerbosity",
    "TacticSource",
    "TensorIOMode",
)
BINDINGS = ("cuda.bindings 12.9", "cuda.bindings 13.5")

DESKTOP = CudaDevice(0, "Fake GPU", (8, 9), 58, 12 << 30, (12, 8), "570.1", False)
JETSON = CudaDevice(0, "Fake Orin", (8, 7), 16, 32 << 30, (12, 6), "L4T 36.4.3", True)


class Status(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_INVALID_CONTEXT = 201
    CUDA_ERROR_LAUNCH_FAILED = 719
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900


class Handle:
    """What the bindings give for streams, events and so on: an object that is also an address."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.operations: list[Callable[[], Status]] = []
        self.live = True

    def __int__(self) -> int:
        return id(self)


class FakeDriver:
    """`cuda.bindings.driver`. calls: every call by name, in order. fail: name -> statuses to answer with, in order.
    is_lost: asked at each call; once it says so, every call fails, as after a kernel that broke the context."""

    CUstream_flags = SimpleNamespace(CU_STREAM_NON_BLOCKING=1)
    CUctx_flags = SimpleNamespace(CU_CTX_SCHED_AUTO=0, CU_CTX_SCHED_SPIN=1, CU_CTX_SCHED_BLOCKING_SYNC=4)
    CUevent_flags = SimpleNamespace(CU_EVENT_DEFAULT=0, CU_EVENT_BLOCKING_SYNC=1)
    CUstreamCaptureMode = SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL="thread local")
    CU_MEMHOSTALLOC_PORTABLE = 1
    CU_MEMHOSTALLOC_DEVICEMAP = 2

    def __init__(self, bindings: str = BINDINGS[1]) -> None:
        self._signatures = NAMES[bindings]["driver"]
        self.calls: list[str] = []
        self.fail: dict[str, list[Status]] = {}
        self.is_lost: Callable[[], bool] = lambda: False
        self.memory: dict[int, tuple[str, Any]] = {}  # address -> kind, bytes
        self.live: Counter[str] = Counter()
        self.kernels: Callable[[str], Callable[..., None]] | None = None  # by name
        self.schedule = -1  # of the context
        self.event_flags: set[int] = set()
        self.priorities: list[int] = []  # of the streams
        self._current = threading.local()
        self._capturing: dict[int, Handle] = {}
        self._streams: dict[int, Handle] = {}

    def __getattr__(self, name: str) -> Callable[..., tuple]:
        if name not in self._signatures:
            raise AttributeError(f"cuda.bindings.driver has no {name}")

        def call(*arguments: Any) -> tuple:
            wanted = self._signatures[name]
            if len(arguments) != len(wanted):
                raise TypeError(f"{name}{tuple(wanted)}: {len(arguments)} arguments seen")
            self.calls.append(name)
            if self.is_lost():
                return (Status.CUDA_ERROR_LAUNCH_FAILED, None)
            if self.fail.get(name):
                if name == "cuStreamEndCapture":  # the capture has ended all the same
                    self._capturing.pop(int(arguments[0]))
                return (self.fail[name].pop(0), None)
            free = name in ("cuInit", "cuDeviceGet") or name.startswith("cuDevicePrimaryCtx")
            if not free and name != "cuCtxSetCurrent" and not getattr(self._current, "context", None):
                return (Status.CUDA_ERROR_INVALID_CONTEXT, None)
            result = getattr(self, f"_{name}")(**dict(zip(wanted, arguments, strict=True)))
            return result if isinstance(result, tuple) else (Status.CUDA_SUCCESS, result)

        return call

    def stream_of(self, address: int) -> Handle:
        return self._streams[address]

    def put(self, stream: Handle, operation: Callable[[], Status]) -> None:
        """On the stream, or into the graph that is being captured from it."""
        assert stream.kind == "stream" and stream.live
        (self._capturing.get(int(stream)) or stream).operations.append(operation)

    def bytes_at(self, address: int, kinds: tuple[str, ...]) -> Any:
        """What lies from an address on, within one piece of memory."""
        start = max((known for known in self.memory if known <= address), default=0)
        kind, content = self.memory[start]
        assert kind in kinds, f"{kind} memory seen, {kinds} wanted"
        assert address < start + len(content)
        return (
            content if address == start else (ctypes.c_uint8 * (start + len(content) - address)).from_address(address)
        )

    def _new(self, kind: str) -> Handle:
        self.live[kind] += 1
        return Handle(kind)

    def _end(self, handle: Handle, kind: str) -> None:
        assert handle.kind == kind and handle.live, f"{kind} freed twice or as another"
        handle.live = False
        self.live[kind] -= 1

    def _drain(self, stream: Handle) -> Status:
        while stream.operations:
            status = stream.operations.pop(0)()
            if status:
                return status
        return Status.CUDA_SUCCESS

    def _allocate(self, kind: str, nbytes: int) -> int:
        content = (ctypes.c_uint8 * nbytes)(*([0xAB] * min(nbytes, 64)))
        address = ctypes.addressof(content)
        self.memory[address] = (kind, content)
        self.live["memory"] += 1
        return address

    def _free(self, address: int) -> None:
        del self.memory[address]
        self.live["memory"] -= 1

    def _cuInit(self, Flags: int) -> None: ...

    def _cuDeviceGet(self, ordinal: int) -> int:
        return ordinal

    def _cuDevicePrimaryCtxRetain(self, dev: int) -> Handle:
        return self._new("context")

    def _cuDevicePrimaryCtxSetFlags(self, dev: int, flags: int) -> None:
        assert not self.live["context"]  # it has to be known when the context is made
        self.schedule = flags

    def _cuDevicePrimaryCtxRelease(self, dev: int) -> None:
        self.live["context"] -= 1

    def _cuCtxSetCurrent(self, ctx: Handle) -> None:
        self._current.context = ctx

    def _cuStreamCreateWithPriority(self, flags: int, priority: int) -> Handle:
        assert flags == 1
        stream = self._new("stream")
        self.priorities.append(priority)
        self._streams[int(stream)] = stream
        return stream

    def _cuStreamDestroy(self, hStream: Handle) -> None:
        self._end(hStream, "stream")

    def _cuStreamSynchronize(self, hStream: Handle) -> tuple:
        return (self._drain(hStream),)

    def _cuEventCreate(self, Flags: int) -> Handle:
        self.event_flags.add(Flags)
        return self._new("event")

    def _cuEventDestroy(self, hEvent: Handle) -> None:
        self._end(hEvent, "event")

    def _cuEventRecord(self, hEvent: Handle, hStream: Handle) -> None:
        hEvent.operations = [lambda: self._drain(hStream)]

    def _cuEventSynchronize(self, hEvent: Handle) -> tuple:
        return (hEvent.operations[0](),)

    def _cuEventElapsedTime(self, hStart: Handle, hEnd: Handle) -> float:
        assert hStart.operations and hEnd.operations
        return 12.0

    def _cuMemAlloc(self, bytesize: int) -> int:
        return self._allocate("device", bytesize)

    def _cuMemFree(self, dptr: int) -> None:
        self.bytes_at(dptr, ("device",))
        self._free(dptr)

    def _cuMemHostAlloc(self, bytesize: int, Flags: int) -> int:
        return self._allocate("mapped" if Flags & 2 else "host", bytesize)

    def _cuMemFreeHost(self, p: int) -> None:
        self.bytes_at(p, ("host", "mapped"))
        self._free(p)

    def _cuMemHostGetDevicePointer(self, p: int, Flags: int) -> int:
        self.bytes_at(p, ("mapped",))
        return p

    def _cuMemcpyHtoDAsync(self, dstDevice: int, srcHost: int, ByteCount: int, hStream: Handle) -> None:
        self._copy(dstDevice, ("device",), srcHost, ("host",), ByteCount, hStream)

    def _cuMemcpyDtoHAsync(self, dstHost: int, srcDevice: int, ByteCount: int, hStream: Handle) -> None:
        self._copy(dstHost, ("host",), srcDevice, ("device",), ByteCount, hStream)

    def _cuMemcpyDtoDAsync(self, dstDevice: int, srcDevice: int, ByteCount: int, hStream: Handle) -> None:
        kinds = ("device", "mapped")
        self._copy(dstDevice, kinds, srcDevice, kinds, ByteCount, hStream)

    def _copy(self, to: int, to_kind: tuple, source: int, source_kind: tuple, count: int, stream: Handle) -> None:
        def copy() -> Status:
            ctypes.memmove(self.bytes_at(to, to_kind), self.bytes_at(source, source_kind), count)
            return Status.CUDA_SUCCESS

        assert count <= min(len(self.bytes_at(to, to_kind)), len(self.bytes_at(source, source_kind)))
        self.put(stream, copy)

    def _cuStreamBeginCapture(self, hStream: Handle, mode: str) -> None:
        assert mode == "thread local" and not hStream.operations
        self._capturing[int(hStream)] = self._new("graph")

    def _cuStreamEndCapture(self, hStream: Handle) -> Handle:
        return self._capturing.pop(int(hStream))

    def _cuGraphInstantiate(self, hGraph: Handle, flags: int) -> Handle:
        executable = self._new("executable graph")
        executable.operations = list(hGraph.operations)
        return executable

    def _cuGraphDestroy(self, hGraph: Handle) -> None:
        self._end(hGraph, "graph")

    def _cuGraphExecDestroy(self, hGraphExec: Handle) -> None:
        self._end(hGraphExec, "executable graph")

    def _cuGraphLaunch(self, hGraphExec: Handle, hStream: Handle) -> None:
        assert hGraphExec.live
        for operation in hGraphExec.operations:
            self.put(hStream, operation)

    def _cuModuleLoadData(self, image: bytes) -> Handle:
        assert image == b"cubin"
        return self._new("module")

    def _cuModuleGetFunction(self, hmod: Handle, name: bytes) -> bytes:
        assert isinstance(name, bytes)
        return name

    def _cuModuleUnload(self, hmod: Handle) -> None:
        self._end(hmod, "module")

    def _cuLaunchKernel(self, f: bytes, hStream: Handle, kernelParams: tuple, extra: int, **grid: int) -> None:
        values, types = kernelParams
        assert len(values) == len(types) and extra == 0
        shape = [grid[f"{what}Dim{axis}"] for what in ("grid", "block") for axis in "XYZ"]

        def run() -> Status:
            for value, kind in zip(values, types, strict=True):
                assert kind is not ctypes.c_void_p or not value or self.bytes_at(value, ("device", "mapped"))
            assert self.kernels is not None
            self.kernels(f.decode())(*shape, *(kind(value) for value, kind in zip(values, types, strict=True)))
            return Status.CUDA_SUCCESS

        self.put(hStream, run)


class FakeNvrtc:
    """`cuda.bindings.nvrtc`, which compiles everything to the same bytes. source, options: what it was given."""

    def __init__(self, bindings: str = BINDINGS[1]) -> None:
        self._signatures = NAMES[bindings]["nvrtc"]
        self.source, self.options = b"", [b""]

    def __getattr__(self, name: str) -> Callable[..., tuple]:
        if name not in self._signatures:
            raise AttributeError(f"cuda.bindings.nvrtc has no {name}")

        def call(*arguments: Any) -> tuple:
            if len(arguments) != len(self._signatures[name]):
                raise TypeError(f"{name}{tuple(self._signatures[name])}: {len(arguments)} arguments seen")
            return (Status.CUDA_SUCCESS, getattr(self, f"_{name}", lambda *_: None)(*arguments))

        return call

    def _nvrtcCreateProgram(self, source: bytes, *_: Any) -> Handle:
        self.source = source
        return Handle("program")

    def _nvrtcCompileProgram(self, program: Handle, count: int, options: list[bytes]) -> None:
        assert count == len(options)
        self.options = options

    def _nvrtcGetCUBINSize(self, program: Handle) -> int:
        return 5

    def _nvrtcGetCUBIN(self, program: Handle, out: bytearray) -> None:
        out[:] = b"cubin"


def _check_names(members: Mapping[str, Any], cls: type, where: str) -> None:
    for name in vars(cls):
        if not name.startswith("_") and name not in members:
            raise AssertionError(f"{where} has no {name}")


class FakeTensorRT:
    """The module `tensorrt` of one version. built: how many engines. executions: what each run saw, in order.

    refuse: makes the named call give None or False, in order of the list.
    """

    def __init__(self, version: str, driver: FakeDriver) -> None:
        self.recorded = NAMES[version]
        self.__version__ = version.split()[1]
        self.driver = driver
        self.built = 0
        self.executions = 0
        self.refuse: dict[str, list[bool]] = {}
        self.live: Counter[str] = Counter()
        self.order: list[str] = []
        self.configs: list[dict[str, Any]] = []
        self.runtime_configs: list[Any] = []  # one for each context
        self.dla_core = -1  # of the engine that was loaded last
        for name in self.recorded.keys() & ENUMS:
            members = sorted(member for member in self.recorded[name] if member.isupper() or member[0].isupper())
            setattr(self, name, enum.IntEnum(name, {member: value + 3 for value, member in enumerate(members)}))
        for cls in _classes(self):
            if cls.__name__ not in self.recorded:
                continue
            members = self.recorded[cls.__name__]
            _check_names(members, cls, f"{version} {cls.__name__}")
            setattr(self, cls.__name__, cls)

    def refused(self, what: str) -> bool:
        return bool(self.refuse.get(what)) and self.refuse[what].pop(0)


def _classes(trt: FakeTensorRT) -> list[type]:
    """The classes of one version, in one closure over it. Argument names are those of the real signatures."""
    driver = trt.driver

    class Counted:
        def __init__(self) -> None:
            name = type(self).__name__
            trt.live[name] += 1
            trt.order.append(f"+{name}")

        def __del__(self) -> None:
            name = type(self).__name__
            trt.live[name] -= 1
            trt.order.append(f"-{name}")

    class ILogger:
        Severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2, INFO=3, VERBOSE=4)

    class IProgressMonitor: ...

    class INetworkDefinition:
        def __init__(self) -> None:
            self._path = ""

        @property
        def num_inputs(self) -> int:
            return 1

        @property
        def num_outputs(self) -> int:
            return 0

        @property
        def num_layers(self) -> int:
            return 0

        def get_input(self, index: int) -> Any:
            entry = _session(self._path).get_inputs()[index]
            shape = tuple(side if isinstance(side, int) else -1 for side in entry.shape)
            return SimpleNamespace(name=entry.name, shape=shape, dtype=trt.DataType.UINT8)

        def get_output(self, index: int) -> Any:
            raise AssertionError(index)

        def get_layer(self, index: int) -> Any:
            raise AssertionError(index)

    class OnnxParser:
        def __init__(self, network: Any, logger: Any) -> None:
            self._network = network

        def parse_from_file(self, model: str) -> bool:
            self._network._path = model
            return not trt.refused("parse")

        @property
        def num_errors(self) -> int:
            return 1

        def get_error(self, index: int) -> Any:
            return SimpleNamespace(desc=lambda: "no importer", node_name=lambda: "/a", node_operator=lambda: "Det")

    class IBuilderConfig:
        def __init__(self) -> None:
            object.__setattr__(self, "_set", {"flags": []})
            trt.configs.append(self._set)

        def __setattr__(self, name: str, value: Any) -> None:
            if name not in trt.recorded["IBuilderConfig"]:
                raise AttributeError(f"IBuilderConfig has no {name}")
            self._set[name] = value

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_") or name not in trt.recorded["IBuilderConfig"]:
                raise AttributeError(name)
            return self._set.get(name)

        def set_flag(self, flag: Any) -> None:
            self._set["flags"].append(flag.name)

        def clear_flag(self, flag: Any) -> None:
            self._set["flags"].append(f"not {flag.name}")

        def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
            self._set[pool.name] = pool_size

        def set_preview_feature(self, feature: Any, enable: bool) -> None:
            self._set[feature.name] = enable

        def set_tactic_sources(self, tactic_sources: int) -> bool:
            self._set["tactic_sources"] = {source.name for source in trt.TacticSource if tactic_sources >> source & 1}
            return True

        def add_optimization_profile(self, profile: Any) -> int:
            self._set["profile"] = profile._shapes
            return 0

        def create_timing_cache(self, serialized_timing_cache: bytes) -> Any:
            return serialized_timing_cache

        def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
            return not trt.refused("timing cache")

        def get_timing_cache(self) -> Any:
            return SimpleNamespace(serialize=lambda: b"timings")

    class IOptimizationProfile:
        def __init__(self) -> None:
            self._shapes: dict[str, tuple] = {}

        def set_shape(self, input: str, min: tuple, opt: tuple, max: tuple) -> None:
            self._shapes[input] = (min, opt, max)

    class Builder:
        def __init__(self, logger: ILogger) -> None:
            assert isinstance(logger, ILogger)

        def create_network(self, flags: int) -> INetworkDefinition:
            trt.configs.append({"network_flags": flags})
            return INetworkDefinition()

        def create_builder_config(self) -> IBuilderConfig:
            return IBuilderConfig()

        def create_optimization_profile(self) -> IOptimizationProfile:
            return IOptimizationProfile()

        @property
        def num_DLA_cores(self) -> int:
            return 2

        def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> bytes | None:
            if trt.refused("build"):
                return None
            trt.built += 1
            monitor = config._set.get("progress_monitor")
            if monitor is not None:
                monitor.phase_start("Building", None, 2)
                assert monitor.step_complete("Building", 0) is True
                monitor.phase_finish("Building")
            shared = not hasattr(ICudaEngine, "num_bindings") or config._set.get("PROFILE_SHARING_0806", False)
            plan = {"path": network._path, "profile": config._set.get("profile"), "shared": shared}
            return json.dumps(plan).encode()

    class Runtime(Counted):
        def __init__(self, logger: ILogger) -> None:
            super().__init__()
            assert isinstance(logger, ILogger) and "cuCtxSetCurrent" in driver.calls
            if trt.refused("runtime"):
                raise TypeError("pybind11::init(): factory function returned nullptr")

        DLA_core = -1

        def deserialize_cuda_engine(self, plan: bytes) -> Any:
            trt.dla_core = self.DLA_core
            return None if trt.refused("deserialize") else ICudaEngine(json.loads(plan))

    class ICudaEngine(Counted):
        def __init__(self, plan: dict) -> None:
            super().__init__()
            self._plan = plan
            self._session = _session(plan["path"])
            self._tensors = {entry.name: entry for entry in self._session.get_inputs() + self._session.get_outputs()}

        @property
        def num_io_tensors(self) -> int:
            return len(self._tensors)

        def get_tensor_name(self, index: int) -> str:
            return list(self._tensors)[index]

        def get_tensor_mode(self, name: str) -> Any:
            return trt.TensorIOMode.INPUT if name == "pixels" else trt.TensorIOMode.OUTPUT

        def get_tensor_dtype(self, name: str) -> Any:
            kinds = {"tensor(uint8)": "UINT8", "tensor(float)": "FLOAT", "tensor(float16)": "HALF"}
            return trt.DataType[kinds[self._tensors[name].type]]

        @property
        def num_layers(self) -> int:
            return 3

        def create_engine_inspector(self) -> Any:
            return EngineInspector()

        def create_execution_context(self, runtime_config: Any = None) -> Any:
            trt.runtime_configs.append(runtime_config)
            return None if trt.refused("context") else IExecutionContext(self)

    class EngineInspector:
        def get_engine_information(self, format: Any) -> str:
            return f"layers as {format.name}"

    class IExecutionContext(Counted):
        def __init__(self, engine: ICudaEngine) -> None:
            super().__init__()
            self._engine = engine
            self._shape: tuple[int, ...] = ()
            self._addresses: dict[str, int] = {}

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            profile = self._engine._plan["profile"]
            if profile and not self._engine._plan["shared"] and trt.live["IExecutionContext"] > 1:
                return False  # another context has the profile
            smallest, _, largest = profile[name] if profile else (shape, shape, shape)
            self._shape = tuple(shape)
            return all(low <= side <= high for low, side, high in zip(smallest, shape, largest, strict=True))

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            assert self._shape
            shape = self._engine._tensors[name].shape
            return tuple(side if isinstance(side, int) else self._shape[0] for side in shape)  # pictures, where open

        def set_tensor_address(self, name: str, memory: int) -> bool:
            driver.bytes_at(memory, ("device", "mapped"))
            self._addresses[name] = memory
            return name in self._engine._tensors

        def execute_async_v3(self, stream_handle: int) -> bool:
            assert set(self._addresses) == set(self._engine._tensors) and isinstance(stream_handle, int)
            alive = weakref.ref(self)  # a stream or a graph keeps no context alive

            def run() -> Status:
                context = alive()
                assert context is not None, "a graph was launched after its context was freed"
                return context._run()

            driver.put(driver.stream_of(stream_handle), run)
            return not trt.refused("execute")

        def _run(self) -> Status:
            trt.executions += 1
            if trt.refused("run"):
                return Status.CUDA_ERROR_LAUNCH_FAILED
            kinds = ("device", "mapped")
            pixels = np.ctypeslib.as_array(driver.bytes_at(self._addresses["pixels"], kinds)).reshape(self._shape)
            names = [entry.name for entry in self._engine._session.get_outputs()]
            for name, value in zip(names, self._engine._session.run(names, {"pixels": pixels}), strict=True):
                out = np.ctypeslib.as_array(driver.bytes_at(self._addresses[name], kinds))
                out[:] = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
            return Status.CUDA_SUCCESS

    class IRuntimeConfig:
        def __setattr__(self, name: str, value: Any) -> None:
            if name not in trt.recorded["IRuntimeConfig"]:
                raise AttributeError(f"IRuntimeConfig has no {name}")
            object.__setattr__(self, name, value)

    if "create_runtime_config" in trt.recorded["ICudaEngine"]:
        ICudaEngine.create_runtime_config = lambda self: IRuntimeConfig()  # type: ignore[attr-defined]
    if "is_stream_capturable" in trt.recorded["IExecutionContext"]:
        IExecutionContext.is_stream_capturable = lambda self, stream: not trt.refused("capture")  # type: ignore[attr-defined]
    if "num_bindings" in trt.recorded["ICudaEngine"]:
        ICudaEngine.num_bindings = property(lambda self: len(self._tensors))  # type: ignore[attr-defined]
    for name in ("device_memory_size", "device_memory_size_v2"):
        if name in trt.recorded["ICudaEngine"]:
            setattr(ICudaEngine, name, 1 << 20)
    return [EngineInspector, ILogger, IProgressMonitor, INetworkDefinition, OnnxParser, IBuilderConfig,
            IOptimizationProfile, Builder, Runtime, ICudaEngine, IExecutionContext]  # fmt: skip


def _session(path: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class FakeGpu:
    """All of it together, as `TensorRtSegmenter` takes it."""

    def __init__(
        self, version: str = GENERATIONS[1], bindings: str = BINDINGS[1], device: CudaDevice = DESKTOP
    ) -> None:
        self.driver = FakeDriver(bindings)
        self.nvrtc = FakeNvrtc(bindings)
        self.trt = FakeTensorRT(version, self.driver)
        self.library = TensorRT(version.split()[0], self.trt, self.trt.__version__)
        self.device = device

    @property
    def arguments(self) -> dict[str, Any]:
        return {"device": self.device, "loaded": self.library, "driver": self.driver, "nvrtc": self.nvrtc}

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """From now on it is this machine's GPU, with its TensorRT and its cuda.bindings."""
        monkeypatch.setattr(cuda_device, "probe", lambda: self.device)
        monkeypatch.setattr(tensorrt_library, "load", lambda name, device=None: self.library)
        make = partial(Cuda, driver=self.driver, nvrtc=self.nvrtc)
        monkeypatch.setattr(tensorrt_segmenter, "Cuda", lambda device, *_, **more: make(device, **more))
