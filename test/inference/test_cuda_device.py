"""What the driver is asked, and what is said where it does not answer, through a libcuda compiled for the purpose."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fake_driver import driver

from seg_perception.errors import ModelError
from seg_perception.inference.cuda_device import kernel_module_version, probe


def test_a_gpu_is_described_as_its_driver_describes_it(tmp_path: Path) -> None:
    device = probe(1, driver(tmp_path))
    assert device.name == "Orin 41"
    assert (device.index, device.compute_capability, device.sm_count, device.integrated) == (1, (8, 7), 16, True)
    assert device.memory_bytes == 7 << 32
    assert device.cuda_version == (12, 6)
    assert device.architecture == "sm_87"
    assert "Orin 41 (sm_87, 16 SMs, 28.0 GiB, CUDA 12.6" in str(device)


def test_without_a_driver_the_sentence_names_libcuda_and_the_remedy() -> None:
    with pytest.raises(ModelError, match=r"no NVIDIA driver: libabsent\.so\.1 cannot be loaded.*--gpus all"):
        probe(library="libabsent.so.1")


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (803, r"cuInit failed: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH \(803\); .*reboot"),
        (100, r"cuInit failed: CUDA error 100; no GPU is visible; .*CUDA_VISIBLE_DEVICES"),
        (34, "LD_LIBRARY_PATH"),
        (999, "nvidia-smi"),
    ],
)
def test_a_driver_that_does_not_start_is_told_with_its_remedy(tmp_path: Path, status: int, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        probe(library=driver(tmp_path, INIT=status))


@pytest.mark.parametrize(("count", "index"), [(0, 0), (2, 2), (2, -1)])
def test_a_gpu_that_is_not_there_is_refused_with_the_number_of_those_that_are(
    tmp_path: Path, count: int, index: int
) -> None:
    with pytest.raises(ModelError, match=rf"GPU {index}: the driver shows {count} GPU\(s\)"):
        probe(index, driver(tmp_path, COUNT=count))


def test_a_driver_too_old_to_have_a_function_is_refused_by_the_function(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no cuDeviceTotalMem_v2; update the driver"):
        probe(0, driver(tmp_path, OLD=1))


def test_the_version_of_the_kernel_module_is_read_where_the_system_tells_it(tmp_path: Path) -> None:
    assert kernel_module_version(tmp_path) == ""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic")
    assert kernel_module_version(tmp_path) == "L4T 36.4.3"
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    for line, version in (
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024", "535.183.01"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build", "580.65.06"),
    ):
        (tmp_path / "proc/driver/nvidia/version").write_text(f"{line}\nGCC version: gcc 13\n")
        assert kernel_module_version(tmp_path) == version


def test_asking_imports_nothing_of_tensorrt_or_cuda() -> None:
    script = (
        "import sys; from seg_perception.inference.cuda_device import probe\n"
        "try: probe()\nexcept Exception as error: print(error)\n"
        "assert not {'tensorrt', 'cuda', 'torch', 'cupy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2])
