"""The CUDA kernels as a C++ compiler makes them, for the GPU of host memory: one grid of blocks, thread by thread."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seg_perception.inference.score_kernels import NAMES, SOURCE

SHIM = r"""
#include <cmath>
#include <cstddef>
#include <cstring>
struct Index { int x, y, z; };
static Index blockIdx, blockDim, threadIdx;
static float __uint_as_float(unsigned bits) { float value; std::memcpy(&value, &bits, 4); return value; }
#define __device__ static
#define __global__
%s
template <typename Kernel, typename... Arguments>
static void each_thread(int gx, int gy, int bx, int by, Kernel kernel, Arguments... arguments) {
    blockDim = {bx, by, 1};
    for (int y = 0; y < gy; ++y) for (int x = 0; x < gx; ++x)
        for (int j = 0; j < by; ++j) for (int i = 0; i < bx; ++i) {
            blockIdx = {x, y, 0}; threadIdx = {i, j, 0};
            kernel(arguments...);
        }
}
#define SCORES const void *values, int is_half, int classes, int height, int width, int cs, int rs, int ls, \
    double su, double ou, double sv, double ov, int are_logits
#define GIVEN values, is_half, classes, height, width, cs, rs, ls, su, ou, sv, ov, are_logits
extern "C" void run_label_picture(int gx, int gy, int gz, int bx, int by, int bz, SCORES, unsigned char *labels,
                                  float *confidence, int out_height, int out_width) {
    each_thread(gx, gy, bx, by, label_picture, GIVEN, labels, confidence, out_height, out_width);
}
extern "C" void run_sample_points(int gx, int gy, int gz, int bx, int by, int bz, SCORES, int image_width,
                                  int image_height, const double *uv, unsigned char *out, int count) {
    each_thread(gx, gy, bx, by, sample_points, GIVEN, image_width, image_height, uv, out, count);
}
typedef unsigned long long Bits;
extern "C" void run_mark_things(int gx, int gy, int gz, int bx, int by, int bz, const void *values, int is_half,
                                int classes, int height, int width, int cs, int rs, int ls, Bits a, Bits b, Bits c,
                                Bits d, unsigned char *out) {
    each_thread(gx, gy, bx, by, mark_things, values, is_half, classes, height, width, cs, rs, ls, a, b, c, d, out);
}
"""


def compile_kernels(folder: Path) -> Callable[[str], Any]:
    """The kernels by name, as `FakeDriver.kernels` takes them. Skips the test where there is no compiler."""
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    (folder / "kernels.cpp").write_text(SHIM % SOURCE)
    library = folder / "kernels.so"
    options = ["-O1", "-ffp-contract=off", "-shared", "-fPIC", "-o", str(library)]
    subprocess.run([compiler, *options, str(folder / "kernels.cpp")], check=True)
    loaded = ctypes.CDLL(str(library))
    runs = {name: getattr(loaded, f"run_{name}") for name in NAMES}
    return runs.__getitem__
