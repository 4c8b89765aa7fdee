"""The one door to TensorRT and to TensorRT-RTX: which is installed, what generation of the API it speaks, its messages.

Versions 8.5 to 11.4 differ in names, and the numbers behind the names shift: everything is asked for by name. The GPU
must have been probed before (`cuda_device.probe`), as objects made without a driver may end the process; TensorRT-RTX
alone builds without one.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from seg_perception.errors import ModelError
from seg_perception.inference.cuda_device import CudaDevice

log = logging.getLogger(__name__)

# Name here -> modules that hold it, the one with the libraries first.
_MODULES = {
    "tensorrt": ("tensorrt", "tensorrt_bindings"),
    "tensorrt_rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
_REMEDIES = {
    "tensorrt": "install it (JetPack: `apt install tensorrt python3-libnvinfer`; x86: `pip install tensorrt-cu12` or "
    "`-cu13`, by the CUDA of the driver), or use backend: onnxruntime",
    "tensorrt_rtx": "`pip install tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings`, or use backend: onnxruntime",
}
LIBRARIES = tuple(_MODULES)
_OLDEST = (8, 5)


@dataclass(frozen=True, slots=True)
class TensorRT:
    """An installed TensorRT. name: one of LIBRARIES. module: its Python API. version: in full."""

    name: str
    module: Any
    version: str

    @property
    def is_rtx(self) -> bool:
        """TensorRT for RTX: its builder needs no GPU."""
        return self.name == "tensorrt_rtx"

    @property
    def has_precision_flags(self) -> bool:
        """Before 11 there are builder flags for FP16 and INT8."""
        return hasattr(self.module.BuilderFlag, "FP16")

    def has_strong_types(self, dla: bool) -> bool:
        """Whether networks are computed in the types of their ONNX file: from 10 on, but for 10 on a DLA."""
        return not self.has_precision_flags or not (dla or self.is_generation_8)

    def network_flags(self, dla: bool) -> int:
        """For `create_network`: an explicit batch on 8.x, strong types on 10. From 11 on both are the only way."""
        names = self.module.NetworkDefinitionCreationFlag
        if self.is_generation_8:
            return 1 << int(names.EXPLICIT_BATCH)
        return 1 << int(names.STRONGLY_TYPED) if self.has_precision_flags and self.has_strong_types(dla) else 0

    @property
    def is_generation_8(self) -> bool:
        """8.5 and 8.6: the last with the bindings API, and without strong types."""
        return hasattr(self.module.ICudaEngine, "num_bindings")

    def execution_context(self, engine: Any) -> Any:
        """A context of an engine; None where the library cannot make one.

        TensorRT-RTX would run pictures of a size that it meets for the first time by kernels for any size, while it
        compiles better ones; a CUDA graph would keep the first for good. So it is told to compile before.
        """
        strategies = getattr(self.module, "DynamicShapesKernelSpecializationStrategy", None)
        if strategies is None:
            return engine.create_execution_context()
        config = engine.create_runtime_config()
        config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
        return engine.create_execution_context(config)

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def load(name: str, device: CudaDevice | None = None) -> TensorRT:
    """Import `tensorrt` or `tensorrt_rtx`, to be used on this GPU, or on none.

    Raises ModelError, naming the remedy, where it is missing, broken, or made for a newer CUDA than the driver serves.
    """
    module, missing = None, ""
    for candidate in _MODULES[name]:
        try:
            module = importlib.import_module(candidate)
            break
        except (ImportError, OSError, RuntimeError) as error:  # a library it needs that is missing is an OSError
            missing = missing or str(error).strip().split("\n", 1)[0]
    if module is None:
        raise ModelError(f"{name} cannot be imported ({missing}); {_REMEDIES[name]}")
    version = str(getattr(module, "__version__", "0"))
    if not hasattr(module, "ICudaEngine"):
        raise ModelError(
            f"{name}: the module at {getattr(module, '__file__', None)} is not TensorRT; {_REMEDIES[name]}"
        )
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if name == "tensorrt" and numbers < _OLDEST:
        raise ModelError(f"tensorrt {version} seen, 8.5 or newer wanted; {_REMEDIES[name]}")
    _check_cuda(name, version, device)
    return TensorRT(name, module, version)


def _check_cuda(name: str, version: str, device: CudaDevice | None) -> None:
    """On a driver of an older CUDA TensorRT may end the process. NVIDIA's wheels tell theirs by their names alone."""
    if device is None:
        return
    served = device.cuda_version[0]
    for newer in range(served + 1, served + 4):
        with contextlib.suppress(metadata.PackageNotFoundError):
            if metadata.version(f"{name}-cu{newer}-bindings") == version:
                raise ModelError(
                    f"{name} {version} of CUDA {newer} seen, CUDA {served} wanted, which is what the driver serves; "
                    f"install the wheels whose names end in -cu{served} in its place, or update the driver"
                )


def make_logger(library: TensorRT) -> Any:
    """An `ILogger` of this library that writes to `logging` and keeps its errors in the list `errors`."""
    base: Any = library.module.ILogger

    class Logger(base):
        """TensorRT calls `log`, from any thread; nothing may be raised into it."""

        def __init__(self) -> None:
            base.__init__(self)
            self.errors: list[str] = []
            severity = base.Severity
            self._levels = {
                severity.INTERNAL_ERROR: logging.ERROR,
                severity.ERROR: logging.ERROR,
                severity.WARNING: logging.WARNING,
                severity.INFO: logging.DEBUG,
                severity.VERBOSE: logging.DEBUG - 1,
            }

        def log(self, severity: Any, message: str) -> None:
            level = self._levels.get(severity, logging.WARNING)
            if level >= logging.ERROR:
                self.errors.append(message.strip())
                del self.errors[:-20]
                level = logging.INFO  # what failed is raised, with these words in it
            log.log(level, "%s: %s", library.name, message.strip())

        def last_words(self) -> str:
            """The newest error, for the sentence that names what failed."""
            return self.errors[-1] if self.errors else "the library gave no reason"

    return Logger()
