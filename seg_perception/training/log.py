"""What a training says while it runs, in a file of JSON lines and for TensorBoard."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

LOG = "log.jsonl"


class TrainingLog:
    """Lines of JSON, and TensorBoard's files where it is installed. What a killed run wrote too much is dropped."""

    def __init__(self, folder: Path, iteration: int, tensorboard: bool) -> None:
        """iteration: that the training goes on from."""
        self._path = folder / LOG
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.is_file() else []
        kept = [line for line in lines if _iteration_of(line) <= iteration] if iteration else []
        self._path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        self._writer = None
        self._start = time.monotonic()
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                return
            self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=iteration)

    def write(self, iteration: int, values: Mapping[str, float | None], **more: Any) -> None:
        """One line."""
        entry = {"iteration": iteration, "elapsed_s": round(time.monotonic() - self._start, 3), **values, **more}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        if self._writer is not None:
            for name, value in values.items():
                if value is not None:
                    self._writer.add_scalar(name, value, iteration)

    def close(self) -> None:
        """Write out what TensorBoard has not got yet."""
        if self._writer is not None:
            self._writer.close()


def _iteration_of(line: str) -> float:
    """Of one line of the log; a line cut short counts as beyond the end."""
    try:
        return float(json.loads(line)["iteration"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def number_or_none(value: float) -> float | None:
    """JSON knows no NaN."""
    return None if np.isnan(value) else float(value)
