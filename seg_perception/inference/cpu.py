"""What the CPU is called, and how much of it this process may use."""

from __future__ import annotations

import math
import os
import platform
import re
from pathlib import Path


def cpu_name() -> str:
    """What the CPU calls itself."""
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def usable_cores(root: Path = Path("/")) -> int:
    """Cores that this process may run on, and has the time for: many threads beyond a container's quota (`docker
    --cpus`) use it up early, and then all of them stand still to the end of its period, of 100 ms mostly.

    root: of /proc and /sys. The quota is that of cgroup v2,
    https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        group = re.search(r"^0::/(.*)$", (root / "proc/self/cgroup").read_text(), re.MULTILINE)
        quota, period = (root / "sys/fs/cgroup" / (group[1] if group else "") / "cpu.max").read_text().split()
        return cores if quota == "max" else max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):
        return cores
