"""perception_node, which notes what memory it uses: `python noted_node.py ...`, a line every few seconds to $NOTES.

What a process holds (RSS) grows to the most that it ever needed at once, and stays there: what is freed is room that
malloc uses again. What is in use of that room tells a leak from it.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import threading
import time
from pathlib import Path

EVERY_S = 5.0
_FIELDS = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"


class _MallInfo2(ctypes.Structure):
    """struct mallinfo2 of malloc.h, since glibc 2.33."""

    _fields_ = [(name, ctypes.c_size_t) for name in _FIELDS.split()]


def note(path: Path) -> None:
    """Until the process ends."""
    library = ctypes.CDLL(None)
    library.mallinfo2.restype = _MallInfo2
    while True:
        time.sleep(EVERY_S)
        in_use_mib, blocks = library.mallinfo2().uordblks / 2**20, sys.getallocatedblocks()
        with path.open("a", encoding="utf-8") as notes:
            notes.write(json.dumps({"at_s": time.monotonic(), "in_use_mib": in_use_mib, "blocks": blocks}) + "\n")


if __name__ == "__main__":
    from seg_perception.ros.start import main

    threading.Thread(target=note, args=(Path(os.environ["NOTES"]),), daemon=True).start()
    sys.exit(main())
