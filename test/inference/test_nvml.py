"""GPU figures of the driver: nothing where there is no driver, and what is read can be true."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from seg_perception.inference import nvml

COMPILER = shutil.which("cc") or shutil.which("gcc")
SOURCE = r"""
#include <string.h>
typedef struct { unsigned long long total, free, used; } Memory;  /* nvmlMemory_t of nvml.h */
static char gpus[2];
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = gpus + index; return 0; }
int nvmlDeviceGetName(void *device, char *name, unsigned length) {
    if (length < 96) return 7;
    strcpy(name, device == gpus ? "First" : "Second");
    return 0;
}
int nvmlDeviceGetMemoryInfo(void *device, Memory *memory) {
    if (device != gpus) return 3;  /* not supported */
    memory->total = 5ull << 32; memory->free = 3ull << 32; memory->used = 2ull << 32;
    return 0;
}
#ifndef NEWER
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *celsius) {
    *celsius = 41;
    return device == gpus && sensor == 0 ? 0 : 3;
}
#endif
"""


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Puts a library of two GPUs in the place of the driver's."""

    def build(*options: str) -> None:
        if COMPILER is None:
            pytest.skip("no C compiler")
        (tmp_path / "nvml.c").write_text(SOURCE)
        path = str(tmp_path / "libnvidia-ml.so.1")
        subprocess.run([COMPILER, "-shared", "-fPIC", *options, "-o", path, str(tmp_path / "nvml.c")], check=True)
        monkeypatch.setattr(nvml, "_LIBRARY", path)

    nvml._nvml.cache_clear()
    yield build
    nvml._nvml.cache_clear()


def test_each_gpu_tells_what_it_can(library: Callable[..., None]) -> None:
    library()
    assert nvml.gpu_states() == [
        nvml.GpuState("First", 2 << 32, 5 << 32, 41),
        nvml.GpuState("Second", None, None, None),
    ]


def test_a_driver_without_the_deprecated_temperature_tells_the_rest(library: Callable[..., None]) -> None:
    library("-DNEWER")
    assert nvml.gpu_states()[0] == nvml.GpuState("First", 2 << 32, 5 << 32, None)


def test_without_a_driver_there_are_no_gpus(library: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "_LIBRARY", "libno-such-driver.so.1")
    assert nvml.gpu_states() == []


def test_what_is_read_can_be_true() -> None:
    for gpu in nvml.gpu_states():
        assert gpu.name
        assert gpu.memory_used is None or 0 <= gpu.memory_used <= gpu.memory_total
        assert gpu.temperature_c is None or 0 <= gpu.temperature_c < 150
