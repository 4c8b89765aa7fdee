"""Keeps `make gpu-check` going: what ends the process, or hangs, costs one part of it; and it ends when it has to."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

# Exit codes: something failed; nothing can be measured; stopped; a part failed, go on with the rest.
FAILED, IMPOSSIBLE, OUT_OF_TIME, ANEW = 1, 2, 3, 4
FINISHED = (0, FAILED, IMPOSSIBLE)


def supervise(command: Sequence[str], known: Callable[[], object], *, minutes: float, patience_s: float) -> int:
    """Run `command`, and again with `--after REASON` for as long as it ends before its end. Returns the exit code.

    What it says is passed on. It is killed when the minutes are over, which is the end, and when it has said nothing
    for `patience_s`. known: what is written down so far. A process that ends before its end and has added nothing to
    that, as where the driver ends whoever loads it, is the last.
    """
    deadline_s = time.monotonic() + 60.0 * minutes
    after: list[str] = []
    while True:
        before = known()
        code, reason = _run([*command, *after], deadline_s, patience_s)
        if code in FINISHED:
            return code
        if time.monotonic() >= deadline_s:
            print(f"gpu-check: stopped after {minutes:g} minutes; `--resume` goes on from here", flush=True)
            return OUT_OF_TIME
        if known() == before:
            print(f"gpu-check: failed: something outside all parts {reason}; nothing came of it", flush=True)
            return FAILED
        after = ["--after", reason]


def _run(command: Sequence[str], deadline_s: float, patience_s: float) -> tuple[int, str]:
    """The exit code, negative for a signal, and in words why it ended."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    silent = False
    with process, selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        try:
            while True:
                left_s = deadline_s - time.monotonic()
                if left_s <= 0.0 or silent:
                    process.kill()
                    break
                if not selector.select(min(left_s, patience_s)):
                    silent = deadline_s > time.monotonic()
                    continue
                said = os.read(process.stdout.fileno(), 1 << 16)
                if not said:
                    break
                sys.stdout.buffer.write(said)
                sys.stdout.flush()
        except BaseException:
            process.kill()
            raise
    code = process.wait()
    if silent:
        return code, f"said nothing for {patience_s:g} s, and was killed"
    return code, f"ended the process by {signal.Signals(-code).name}" if code < 0 else f"ended the process ({code})"
