"""Every driver call goes through the real cuda.bindings and arrives in C as it was meant, in a libcuda of host memory.

Runs where `cuda-bindings` is installed, as after `make trt-check`. NVRTC stays out of it: it would take our libcuda for
the real one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPT = """
import numpy as np
from seg_perception.inference import cuda_runtime, score_kernels
from seg_perception.inference.contract import Alignment
from seg_perception.inference.cuda_device import CudaDevice

cuda_runtime.compile_cubin = lambda *_: b"cubin and more"
cuda = cuda_runtime.Cuda(CudaDevice(0, "C", (9, 0), 132, 1 << 33, (13, 0), "", False), wait="block")
stream = cuda.stream()
sent, there, back = cuda.host_memory(1000), cuda.device_memory(1000), cuda.host_memory(1000)
sent.host[:] = np.arange(1000) % 251
cuda.upload(sent, there, stream)
cuda.download(there, back, stream)
assert (sent.host == back.host).all()
mapped = cuda.host_memory(8, mapped=True)
assert mapped.address == mapped.host_address == mapped.host.ctypes.data
cuda.launch_graph(cuda.capture(stream, lambda: cuda.upload(sent, there, stream)), stream)
start, end = cuda.event(), cuda.event()
cuda.record(start, stream)
cuda.record(end, stream)
cuda.wait(end)
assert cuda.milliseconds(start, end) == 12.5
cuda.wait_for_stream(stream)
try:
    cuda.device_memory(1 << 21)
except cuda_runtime.CudaError as error:
    print(error)
there_too = cuda.device_memory(1000)
cuda.copy(there, there_too, stream)
cuda.download(there_too, back, stream, 500)
kernels = score_kernels.ScoreKernels(cuda)
scores, alignment = np.full((10, 16, 19), 3.5, np.float32), Alignment(0.1, 0.2, 0.3, 0.4)
labels, _ = kernels.label_picture_of(scores, True, alignment, (96, 60))
assert labels.shape == (60, 96)
assert (labels == 19).all()
_, confidence = kernels.label_picture_of(scores, True, alignment, (96, 60), confidence=True)
assert (confidence == np.float32(0.4)).all()
half = score_kernels.DeviceScores(there, (2, 3, 4), np.dtype(np.float16), planes=True)
points = kernels.sample(half, False, alignment, (96, 60), np.array([[5.0, 6.0], [7.0, 8.0]]))
assert points.probability.tolist() == [5.0, 7.0]
assert points.margin.tolist() == [6.0, 8.0]
assert points.class_id.tolist() == [2, 2]
marks = cuda.device_memory(12)
kernels.mark_things(half, [1, 63, 64, 254], marks, stream)
cuda.download(marks, back, stream)
assert back.host[0] == 1
cuda.close()
"""


def test_every_call_arrives_as_it_was_meant(tmp_path: Path) -> None:
    if find_spec("cuda") is None or find_spec("cuda.bindings") is None:
        pytest.skip("cuda-bindings not installed")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    library = tmp_path / "libcuda.so.1"
    source = Path(__file__).with_name("libcuda.c")
    command = [compiler, "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    out = done.stdout
    assert "cuMemAlloc failed on C: CUDA_ERROR_OUT_OF_MEMORY (2)" in out
    assert "schedule 4\n" in out  # CU_CTX_SCHED_BLOCKING_SYNC
    assert "event 1\n" in out  # CU_EVENT_BLOCKING_SYNC
    assert "stream of priority 0\n" in out
    assert "stream of priority -1000\n" in out
    assert "host memory 1000, flags 1" in out  # portable
    assert "host memory 8, flags 3" in out  # portable and mapped
    assert "graph" in out
    assert "picture 3x8x1 of 32x8x1, half 0, 19x10x16 steps 1, 304, 19, first 3.5, logits 1, no confidence" in out
    assert "points 1x1x1 of 128x1x1, half 1, 2x3x4 steps 12, 4, 1, logits 0, image 96x60" in out
    marks = "marks 1x1x1 of 32x8x1, half 1, 2x3x4 steps 12, 4, 1, things 8000000000000002 1 0 4000000000000000"
    assert marks in out
    assert "release 0" in out
