"""How long a sleeping CPU may take to wake: a request to the kernel, held as long as the node is active.

A sweep on its way from the sensors through the node to who listens wakes CPUs many times, and the deeper one sleeps the
longer each takes. Linux keeps to the shortest time that any process asks for, for as long as that process holds its
file open (Documentation/admin-guide/pm/cpuidle.rst, "Power Management Quality of Service for CPUs").
"""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

DEVICE = Path("/dev/cpu_dma_latency")
AS_IT_IS = -1
CAUSE = "wake_latency_refused"

_REMEDIES = {
    FileNotFoundError: "in a container: `--device {device}`; on the host: a kernel with CONFIG_CPU_IDLE",
    PermissionError: "a udev rule that gives {device} to a group of this user (docs/deployment.md)",
}
_OTHERWISE = "delete what is there and start udev again, or `--device {device}` in a container"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the kernel cannot be asked, and what to do about it."""

    seen: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.seen}; {self.remedy}"


class WakeLatency:
    """The request, while in the `with` block. It never fails: `refusal` tells why it is not held.

    us: microseconds; `AS_IT_IS` asks for nothing.
    """

    def __init__(self, us: int, device: Path = DEVICE) -> None:
        self.us, self._device = us, device
        self.refusal: Refusal | None = None
        self._handle: int | None = None

    def __enter__(self) -> WakeLatency:
        if self.us != AS_IT_IS:
            self._handle, self.refusal = _request(self._device, self.us)
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            os.close(self._handle)  # and the kernel forgets the request
            self._handle = None


def refusal(device: Path = DEVICE) -> Refusal | None:
    """Why a request would be refused here; None where it would not. Asks for nothing."""
    handle, found = _request(device, None)
    if handle is not None:
        os.close(handle)
    return found


def _request(device: Path, us: int | None) -> tuple[int | None, Refusal | None]:
    """The handle that holds the request, or why there is none. us: None opens alone."""
    handle = None
    try:
        handle = os.open(device, os.O_RDWR)
        if not stat.S_ISCHR(os.fstat(handle).st_mode):  # `echo 0 > /dev/cpu_dma_latency` makes a file where it was not
            raise OSError(f"{device} is an ordinary file")
        if us is not None:
            os.write(handle, struct.pack("=i", us))
    except OSError as error:
        if handle is not None:
            os.close(handle)
        remedy = _REMEDIES.get(type(error), _OTHERWISE).format(device=device)
        return None, Refusal(f"{device} cannot be used ({error.strerror or error})", remedy)
    return handle, None
