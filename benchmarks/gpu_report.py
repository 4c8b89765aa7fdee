"""The page and the figures of `make gpu-check`, on disk after each row."""

from __future__ import annotations

import json
import platform
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from gpu_kernels import CAMERAS

from seg_perception.errors import SegPerceptionError
from seg_perception.inference.cuda_device import CudaDevice

OVERHEAD_WANTED = 0.10


class BrokenOffError(Exception):
    """A part failed and is written down. Whatever it left in the GPU and in this process, a new process is rid of."""


class Report:
    """All that is known so far, on disk after each step of a row. folder: docs/gpu. resume: go on from what is there.

    after: why the process that was at it before ended, where this one takes its place: the part that was under way then
    has failed, and what has failed is not tried again.
    """

    def __init__(self, folder: Path, device: CudaDevice, *, resume: bool, after: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        stem = re.sub(r"[^a-z0-9]+", "-", device.name.lower()).strip("-")
        self.path = folder / f"{stem}.json"
        self._device = device
        self.rows: dict[str, list[dict[str, Any]]] = {"kernels": [], "engines": [], "torch": []}
        self.failures: dict[str, str] = {}
        self.finished = False
        self._under_way = ""
        if (resume or after) and self.path.exists():
            before = json.loads(self.path.read_text(encoding="utf-8"))
            self.rows.update(before["rows"])
            if after:
                self.failures = before["failures"]
                if before["under_way"]:
                    self._fail(before["under_way"], after)

    def measure(self, kind: str, what: dict[str, str], figures: Iterator[dict[str, Any]]) -> None:
        """One row, on disk after each part of its figures. `what` it is of tells it from the others: one that is there
        in full, or that has failed, is left out.

        Raises BrokenOffError once it has failed.
        """
        name, rows = " ".join((kind, *what.values())), self.rows[kind]
        known = next((row for row in rows if what.items() <= row.items()), None)
        if name in self.failures or (known is not None and known["complete"]):
            return
        row: dict[str, Any] = {**what, "complete": False}
        with self.attempt(name):
            for part in figures:
                if known is not row:  # which an earlier run began, and left
                    rows[:] = [*(other for other in rows if other is not known), row]
                    known = row
                row.update(part)
                shown = ", ".join(f"{figure} {_short(value)}" for figure, value in part.items())
                print(f"gpu-check: {name}: {shown}", flush=True)
                self.write()
            row["complete"] = True

    @contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        """What fails within is written down. Raises BrokenOffError then."""
        self._under_way = name
        self.write()
        try:
            yield
        except Exception as error:  # of three libraries that have not met this GPU before
            traceback.print_exc()
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = "" if isinstance(error, SegPerceptionError) else f", {Path(place.filename).name}:{place.lineno}"
            self._fail(name, f"{error} ({type(error).__name__}{where})")
            raise BrokenOffError(name) from error
        self._under_way = ""
        self.write()

    def _fail(self, name: str, reason: str) -> None:
        self.failures[name] = reason
        self._under_way = ""
        print(f"gpu-check: failed: {name}: {reason}", flush=True)
        self.write()

    def write(self) -> None:
        """The figures and the page, each whole or not at all."""
        state = {"finished": self.finished, "under_way": self._under_way, "failures": self.failures}
        content = {"device": asdict(self._device), **state, "rows": self.rows}
        _replace(self.path, json.dumps(content, indent=2) + "\n")
        _replace(self.path.with_suffix(".md"), self._page())

    @property
    def low(self) -> list[str]:
        """Whose labels differ by more than allowed."""
        return [
            f"{row['network']} {row['precision']}: {row['agreement']:.3%} of labels, {row['wanted']:.1%} wanted"
            for row in self.rows["engines"]
            if row.get("agreement") is not None and row["agreement"] < row["wanted"]
        ] + [
            f"kernels on scores of {row.get('scores') or row['network']}: {equal} are as on the CPU, all wanted"
            for row in (*self.rows["kernels"], *self.rows["torch"])
            if (equal := _less_than_all(row))
        ]

    def _page(self) -> str:
        python = f"{platform.machine()}, Python {platform.python_version()}; {date.today().isoformat()}"
        lines = [
            f"# {self._device.name}",
            "",
            f"{self._device}; {python}.",
            "Written by `make gpu-check`; milliseconds.",
        ]
        if not self.finished:
            lines += ["", "**Unfinished**: the run was stopped, or is still going on."]
        for kind, columns in COLUMNS.items():
            if self.rows[kind]:
                lines += ["", *TITLES[kind], "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
                lines += [f"| {' | '.join(text(row) for text in columns.values())} |" for row in self.rows[kind]]
        lines += ["", *_verdict(self.rows["engines"]), *(f"- too few equal: {each}" for each in self.low)]
        lines += [f"- failed: {name}: {reason}" for name, reason in self.failures.items()]
        return "\n".join(lines).rstrip() + "\n"


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _ms(*names: str) -> Callable[[dict[str, Any]], str]:
    return lambda row: ", ".join("-" if row.get(name) is None else f"{row[name]:.3g}" for name in names)


def _less_than_all(row: dict[str, Any]) -> str:
    """What a kernel gave otherwise than the CPU; empty where nothing differs."""
    shares = {what: row.get(f"{what}_equal") for what in ("points", "pixels", "things")}
    return ", ".join(f"{share:.4%} of {what}" for what, share in shares.items() if share is not None and share < 1.0)


def _shares(*names: str) -> Callable[[dict[str, Any]], str]:
    return lambda row: ", ".join("-" if row.get(name) is None else f"{row[name]:.4%}" for name in names)


def _overhead(row: dict[str, Any]) -> str:
    """Everything that is not the network and does not hide behind it, as a share of the network."""
    shares = [row[name] / row["network_ms"] - 1.0 for name in ("stream_cpu_ms", "stream_gpu_ms") if name in row]
    return (
        ", ".join(f"{share:.0%}" for share in shares) + " (more than wanted)" * (min(shares) > OVERHEAD_WANTED)
        if shares
        else "-"
    )


def _frames_a_second(*names: str) -> Callable[[dict[str, Any]], str]:
    def text(row: dict[str, Any]) -> str:
        known = [row[name] for name in names if row.get(name)]
        return f"{1e3 / min(known):.0f}" if known else "-"

    return text


def _verdict(rows: list[dict[str, Any]]) -> list[str]:
    """Which is fastest, by network."""
    lines = []
    for row in rows:
        found = {name: row[f"points_{name}_ms"] for name in ("cpu", "gpu", "batch") if f"points_{name}_ms" in row}
        if not found:
            continue
        best = min(found, key=found.__getitem__)
        says = {
            "cpu": "`sample_on: cpu`",
            "gpu": "`sample_on: gpu`",
            "batch": f"`sample_on: gpu` with a batch of {CAMERAS}",
        }
        figures = ", ".join(f"{name} {value:.3g}" for name, value in found.items())
        lines.append(f"- {row['network']} {row['precision']}, six cameras and points: {says[best]} ({figures})")
    return lines


TITLES = {
    "kernels": ("## Kernels of the package", "", "31,000 points and a label image, from (C, h, w) scores."),
    "engines": ("## Engines", "", "A picture; with points: of six cameras, 31,000 points each."),
    "torch": ("## The same networks in PyTorch", "", "A picture, in a CUDA graph; random weights."),
}  # fmt: skip
COLUMNS: dict[str, dict[str, Callable[[dict[str, Any]], str]]] = {
    "kernels": {
        "Scores": lambda row: row["scores"],
        "Equal: points, pixels, samples of things": _shares("points_equal", "pixels_equal", "things_equal"),
        "Points: GPU, CPU": _ms("sample_gpu_ms", "sample_cpu_ms"),
        "Label image: GPU, CPU": _ms("label_gpu_ms", "label_cpu_ms"),
    },
    "engines": {
        "Network": lambda row: row["network"],
        "Library": lambda row: row["library"],
        "Precision": lambda row: row["precision"],
        "Picture": lambda row: row.get("picture", "-"),
        "Labels as ONNX Runtime (wanted)": lambda row: (
            "-" if row.get("agreement") is None else f"{row['agreement']:.3%} ({row['wanted']:.1%})"
        ),
        "Network alone": _ms("network_ms"),
        "In six": _ms("batch_network_ms"),
        "One picture: median, p99; `gpu_wait: block`": _ms("latency_median_ms", "latency_p99_ms", "latency_block_ms"),
        "48 in a row, scores on CPU, GPU; `block`": _ms("stream_cpu_ms", "stream_gpu_ms", "stream_block_ms"),
        "Of them a core of the CPU": _ms("core_cpu_ms", "core_gpu_ms", "core_block_ms"),
        "Overhead": _overhead,
        "Frames/s": _frames_a_second("stream_cpu_ms", "stream_gpu_ms"),
        "With points: CPU, GPU, in one call": _ms("points_cpu_ms", "points_gpu_ms", "points_batch_ms"),
        "Load, s": _ms("load_s"),
    },
    "torch": {
        "Network": lambda row: row["network"],
        "Precision": lambda row: row["precision"],
        "Network alone": _ms("network_ms"),
        "In six": _ms("batch_network_ms"),
        "48 in a row, with copies": _ms("stream_ms"),
        "Frames/s": _frames_a_second("stream_ms"),
        "Points equal to the CPU's": _shares("points_equal"),
        "Points: GPU, CPU": _ms("sample_gpu_ms", "sample_cpu_ms"),
    },
}
