"""Is there an NVIDIA GPU that works? Asked of its driver, before anything of TensorRT exists.

TensorRT must not be the first to find out: without a driver some versions end the process instead of raising. Here a
missing or broken piece ends in one sentence that names the piece and the remedy.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from seg_perception.errors import ModelError

DRIVER_LIBRARY = "libcuda.so.1"

# CUdevice_attribute, https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__TYPES.html
_SM_COUNT, _INTEGRATED, _CAPABILITY_MAJOR, _CAPABILITY_MINOR = 16, 18, 75, 76

# CUresult of cuInit -> what to do about it.
_REMEDIES = {
    34: "a stub of libcuda comes first on the library path; take CUDA's `lib64/stubs` off LD_LIBRARY_PATH",
    100: "no GPU is visible; look at `nvidia-smi`, at CUDA_VISIBLE_DEVICES, and start a container with `--gpus all`",
    802: "the GPU is not ready; is nvidia-fabricmanager running?",
    803: "the kernel module and libcuda are of different versions; reboot after a driver update, and in a container "
    "let the NVIDIA container toolkit bring libcuda",
    804: "libcuda is newer than the kernel module can serve; remove the cuda-compat package or update the driver",
}
_OTHERWISE = "look at `nvidia-smi` and at the kernel log (`dmesg | grep -i nvrm`)"


@dataclass(frozen=True, slots=True)
class CudaDevice:
    """One GPU, as its driver describes it.

    compute_capability: (major, minor). cuda_version: (major, minor), the newest CUDA that the driver serves. driver:
    version of the kernel module, empty where the system does not tell. integrated: shares its memory with the CPU, as
    on Jetson.
    """

    index: int
    name: str
    compute_capability: tuple[int, int]
    sm_count: int
    memory_bytes: int
    cuda_version: tuple[int, int]
    driver: str
    integrated: bool

    @property
    def architecture(self) -> str:
        """As compilers call it: sm_87."""
        return f"sm_{self.compute_capability[0]}{self.compute_capability[1]}"

    def __str__(self) -> str:
        major, minor = self.cuda_version
        return (
            f"{self.name} ({self.architecture}, {self.sm_count} SMs, {self.memory_bytes / 2**30:.1f} GiB, "
            f"CUDA {major}.{minor}, driver {self.driver or 'unknown'})"
        )


def probe(index: int = 0, library: str = DRIVER_LIBRARY) -> CudaDevice:
    """GPU number `index`, found through the driver `library`. Raises ModelError where no GPU can be used.

    Initialises the driver in this process, and nothing else: no context is made, no memory of the GPU taken.
    """
    driver = _Driver(library)
    driver.init()
    count = driver.integer("cuDeviceGetCount")
    if not 0 <= index < count:
        raise ModelError(f"GPU {index}: the driver shows {count} GPU(s), numbered from 0; {_REMEDIES[100]}")
    device = driver.integer("cuDeviceGet", ctypes.c_int(index))
    version = driver.integer("cuDriverGetVersion")
    capability = driver.attribute(_CAPABILITY_MAJOR, device), driver.attribute(_CAPABILITY_MINOR, device)
    return CudaDevice(
        index=index,
        name=driver.name(device),
        compute_capability=capability,
        sm_count=driver.attribute(_SM_COUNT, device),
        memory_bytes=driver.memory(device),
        cuda_version=(version // 1000, version % 1000 // 10),
        driver=kernel_module_version(),
        integrated=bool(driver.attribute(_INTEGRATED, device)),
    )


def kernel_module_version(root: Path = Path("/")) -> str:
    """Version of NVIDIA's kernel module, or of the Jetson Linux it belongs to; empty where neither says."""
    try:
        found = re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)", (root / "proc/driver/nvidia/version").read_text())
        if found:
            return found[1]
    except OSError:
        pass
    try:
        release = re.search(r"R(\d+).*?REVISION:\s*([\d.]+)", (root / "etc/nv_tegra_release").read_text())
        return f"L4T {release[1]}.{release[2]}" if release else ""
    except OSError:
        return ""


class _Driver:
    """libcuda, called through ctypes; every status is looked at."""

    def __init__(self, library: str) -> None:
        try:
            self._library = ctypes.CDLL(library)
        except OSError as error:
            raise ModelError(
                f"no NVIDIA driver: {library} cannot be loaded ({error}); install the driver, "
                "and start a container with `--gpus all` (Jetson: `--runtime nvidia`)"
            ) from error

    def init(self) -> None:
        """cuInit, with a remedy for each way in which it is known to fail."""
        status = self._function("cuInit")(ctypes.c_uint(0))
        if status:
            raise ModelError(f"cuInit failed: {self._error_name(status)}; {_REMEDIES.get(status, _OTHERWISE)}")

    def integer(self, name: str, *arguments: ctypes.c_int) -> int:
        """A function that gives one int through its first argument."""
        value = ctypes.c_int()
        self._call(name, ctypes.byref(value), *arguments)
        return value.value

    def attribute(self, attribute: int, device: int) -> int:
        """cuDeviceGetAttribute."""
        return self.integer("cuDeviceGetAttribute", ctypes.c_int(attribute), ctypes.c_int(device))

    def name(self, device: int) -> str:
        """cuDeviceGetName."""
        buffer = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", buffer, ctypes.c_int(len(buffer)), ctypes.c_int(device))
        return buffer.value.decode(errors="replace")

    def memory(self, device: int) -> int:
        """cuDeviceTotalMem, bytes."""
        value = ctypes.c_size_t()
        self._call("cuDeviceTotalMem_v2", ctypes.byref(value), ctypes.c_int(device))
        return value.value

    def _call(self, name: str, *arguments: object) -> None:
        status = self._function(name)(*arguments)
        if status:
            raise ModelError(f"{name} failed: {self._error_name(status)}; {_OTHERWISE}")

    def _function(self, name: str) -> Callable[..., int]:
        try:
            return getattr(self._library, name)
        except AttributeError as error:
            raise ModelError(f"the NVIDIA driver has no {name}; update the driver") from error

    def _error_name(self, status: int) -> str:
        text = ctypes.c_char_p()
        known = self._function("cuGetErrorName")(ctypes.c_int(status), ctypes.byref(text)) == 0 and text.value
        return f"{text.value.decode()} ({status})" if known and text.value else f"CUDA error {status}"
