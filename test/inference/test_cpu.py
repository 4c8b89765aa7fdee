"""How many threads a network gets where nothing is said: cores that may be used, and no more than there is time for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from seg_perception.inference.cpu import cpu_name, usable_cores

CORES = len(os.sched_getaffinity(0))


def machine(root: Path, group: str, limit: str | None) -> Path:
    """A root with the files that the kernel of a process in that cgroup shows."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(f"4:memory:/elsewhere\n0::/{group}\n")
    folder = root / "sys/fs/cgroup" / group
    folder.mkdir(parents=True)
    if limit is not None:
        (folder / "cpu.max").write_text(limit)
    return root


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("100000 100000\n", 1),
        ("50000 100000\n", 1),
        ("110000 100000\n", min(2, CORES)),
        ("99900000 100000\n", CORES),
        ("max 100000\n", CORES),
        ("nonsense\n", CORES),
        (None, CORES),
    ],
)
@pytest.mark.parametrize("group", ["", "system.slice/perception.service"])
def test_threads_stay_within_the_quota_of_the_cgroup(tmp_path: Path, group: str, limit: str | None, cores: int) -> None:
    assert usable_cores(machine(tmp_path, group, limit)) == cores


def test_of_this_machine_both_can_be_told() -> None:
    assert 1 <= usable_cores() <= CORES
    assert cpu_name()
