"""A libcuda compiled for a test, that answers what the probe of a GPU asks, or refuses."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

COMPILER = shutil.which("cc") or shutil.which("gcc")

# An Orin, as far as its driver can be asked: the calls and the attribute numbers are those of cuda.h.
SOURCE = r"""
#include <stdio.h>
#include <stddef.h>
#ifndef INIT
#define INIT 0
#endif
#ifndef COUNT
#define COUNT 2
#endif
int cuInit(unsigned flags) { return flags == 0 ? INIT : 1; }
int cuDeviceGetCount(int *count) { *count = COUNT; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 40 + ordinal; return 0; }
int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
int cuDeviceGetName(char *name, int length, int device) { snprintf(name, length, "Orin %d", device); return 0; }
#ifndef OLD
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 7ull << 32; return 0; }
#endif
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    if (device < 40) return 101;
    switch (attribute) {
        case 16: *value = 16; return 0;
        case 18: *value = 1; return 0;
        case 75: *value = 8; return 0;
        case 76: *value = 7; return 0;
    }
    return 1;
}
int cuGetErrorName(int status, const char **text) {
    if (status != 803) return 1;
    *text = "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH";
    return 0;
}
"""


def driver(folder: Path, **macros: int) -> str:
    """Path of its `libcuda.so.1` in a folder. INIT: what cuInit answers; COUNT: GPUs; OLD: without cuDeviceTotalMem_v2.
    Skips the test where there is no C compiler."""
    if COMPILER is None:
        pytest.skip("no C compiler")
    source, library = folder / "cuda.c", folder / "libcuda.so.1"
    source.write_text(SOURCE)
    defines = [f"-D{name}={value}" for name, value in macros.items()]
    subprocess.run([COMPILER, "-shared", "-fPIC", *defines, "-o", str(library), str(source)], check=True)
    return str(library)
