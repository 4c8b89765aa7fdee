"""The environment in which large messages travel well; for a process that starts, or for this one."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping
from pathlib import Path

# Repeated allocations of several megabytes stay on the heap, instead of a fresh mmap, and its page faults, for each.
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "4294967295",
    "MALLOC_TOP_PAD_": "268435456",
}
_MALLOPT = {"MALLOC_MMAP_THRESHOLD_": -3, "MALLOC_TRIM_THRESHOLD_": -1, "MALLOC_TOP_PAD_": -2}  # malloc.h
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


def shipped_file(name: str) -> Path | None:
    """A file that comes with the package: beside a checkout's package, or in the share folder of an installed one."""
    in_checkout = Path(__file__).resolve().parents[2] / name
    if in_checkout.is_file():
        return in_checkout
    try:
        from ament_index_python.packages import get_package_share_directory

        installed = Path(get_package_share_directory("seg_perception")) / name
    except (ImportError, LookupError):  # no ROS; or a ROS that knows nothing of the package
        installed = Path(sys.prefix) / "share" / "seg_perception" / name  # where pip puts it
    return installed if installed.is_file() else None


def profile() -> Path | None:
    """Our `config/fastdds.xml`."""
    return shipped_file("config/fastdds.xml")


def environment(present: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What to add to a child's environment: our Fast DDS profile and the malloc thresholds, unless `present`."""
    wanted = dict(MALLOC)
    path = profile()
    if path is not None and not any(name in present for name in PROFILE_VARIABLES):
        wanted.update(dict.fromkeys(PROFILE_VARIABLES, str(path)))
    return {name: value for name, value in wanted.items() if name not in present}


def prepare() -> None:
    """Give this process what `environment` gives a child, before its first participant and its first large message."""
    added = environment()
    os.environ.update({name: value for name, value in added.items() if name in PROFILE_VARIABLES})
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # a C library other than glibc may have none
    if mallopt is not None:  # the variables themselves count only where a process has them from its start on
        for name in MALLOC.keys() & added.keys():
            mallopt(_MALLOPT[name], min(int(added[name]), 2**31 - 1))
