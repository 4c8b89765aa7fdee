"""Memory and temperature of this machine's NVIDIA GPUs, from the driver's own library (NVML), where there is one.

Called through ctypes: the library comes with every driver and needs no package. A Jetson's has no temperature, and what
cannot be read is left out, never guessed.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass

_LIBRARY = "libnvidia-ml.so.1"
_TEMPERATURE_GPU = 0  # NVML_TEMPERATURE_GPU
_NAME_BYTES = 96  # NVML_DEVICE_NAME_V2_BUFFER_SIZE


@dataclass(frozen=True, slots=True)
class GpuState:
    """One GPU now. Memory in bytes, of the whole GPU, whoever uses it; None where it cannot be read."""

    name: str
    memory_used: int | None
    memory_total: int | None
    temperature_c: int | None


class _Memory(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]


def gpu_states() -> list[GpuState]:
    """Every GPU that the driver shows, in its order; empty where there is no driver."""
    nvml = _nvml()
    count = ctypes.c_uint()
    if nvml is None or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        return []
    return [state for index in range(count.value) if (state := _state(nvml, index)) is not None]


def _state(nvml: ctypes.CDLL, index: int) -> GpuState | None:
    device = ctypes.c_void_p()
    if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)):
        return None
    name, memory, celsius = ctypes.create_string_buffer(_NAME_BYTES), _Memory(), ctypes.c_uint()
    nvml.nvmlDeviceGetName(device, name, _NAME_BYTES)
    has_memory = not nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory))
    temperature = getattr(nvml, "nvmlDeviceGetTemperature", None)  # deprecated: a later driver may be without it
    has_temperature = temperature is not None and not temperature(device, _TEMPERATURE_GPU, ctypes.byref(celsius))
    return GpuState(
        name.value.decode(errors="replace"),
        memory.used if has_memory else None,
        memory.total if has_memory else None,
        celsius.value if has_temperature else None,
    )


@functools.cache
def _nvml() -> ctypes.CDLL | None:
    """The library, initialised once for the life of the process; None where there is none or it refuses."""
    try:
        nvml = ctypes.CDLL(_LIBRARY)
    except OSError:
        return None
    return None if nvml.nvmlInit_v2() else nvml
