"""The page and the figures of `make gpu-check`, on disk after each row."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Callable
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from gpu_kernels import CAMERAS

from seg_perception.inference.cuda_device import CudaDevice

OVERHEAD_WANTED = 0.10


class Report:
    """All that is known so far, on disk after each row. folder: docs/gpu. resume: go on from what is there."""

    def __init__(self, folder: Path, device: CudaDevice, *, resume: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        stem = re.sub(r"[^a-z0-9]+", "-", device.name.lower()).strip("-")
        self.path = folder / f"{stem}.json"
        self._device = device
        self.rows: dict[str, list[dict[str, Any]]] = {"kernels": [], "engines": [], "torch": []}
        if resume and self.path.exists():
            self.rows.update(json.loads(self.path.read_text(encoding="utf-8"))["rows"])
        self.failures: list[str] = []
        self.finished = False

    def has(self, kind: str, **what: str) -> bool:
        """Whether there is such a row already."""
        return any(all(row[name] == value for name, value in what.items()) for row in self.rows[kind])

    def add(self, kind: str, row: dict[str, Any]) -> None:
        """Keep a row, on disk."""
        self.rows[kind].append(row)
        print(f"gpu-check: {kind}: " + ", ".join(f"{name} {_short(value)}" for name, value in row.items()), flush=True)
        self.write()

    def fail(self, what: str, error: Exception) -> None:
        """Say what could not be done, on disk."""
        self.failures.append(f"{what}: {error}")
        print(f"gpu-check: failed: {what}: {error}", flush=True)
        self.write()

    def write(self) -> None:
        """The figures and the page, each whole or not at all."""
        content = {"device": asdict(self._device), "finished": self.finished, "rows": self.rows}
        _replace(self.path, json.dumps({**content, "failures": self.failures}, indent=2) + "\n")
        _replace(self.path.with_suffix(".md"), self._page())

    @property
    def low(self) -> list[str]:
        """Whose labels differ by more than allowed."""
        return [
            f"{row['network']} {row['precision']}: {row['agreement']:.3%} of labels, {row['wanted']:.1%} wanted"
            for row in self.rows["engines"]
            if row["agreement"] is not None and row["agreement"] < row["wanted"]
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
        lines += [f"- failed: {failure}" for failure in self.failures]
        return "\n".join(lines).rstrip() + "\n"


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _ms(*names: str) -> Callable[[dict[str, Any]], str]:
    return lambda row: ", ".join("-" if row[name] is None else f"{row[name]:.3g}" for name in names)


def _less_than_all(row: dict[str, Any]) -> str:
    """What a kernel gave otherwise than the CPU; empty where nothing differs."""
    shares = {what: row.get(f"{what}_equal") for what in ("points", "pixels", "things")}
    return ", ".join(f"{share:.4%} of {what}" for what, share in shares.items() if share is not None and share < 1.0)


def _shares(*names: str) -> Callable[[dict[str, Any]], str]:
    return lambda row: ", ".join("-" if row[name] is None else f"{row[name]:.4%}" for name in names)


def _overhead(row: dict[str, Any]) -> str:
    """Everything that is not the network and does not hide behind it, as a share of the network."""
    shares = [row[f"stream_{where}_ms"] / row["network_ms"] - 1.0 for where in ("cpu", "gpu")]
    return ", ".join(f"{share:.0%}" for share in shares) + (
        " (more than wanted)" if min(shares) > OVERHEAD_WANTED else ""
    )


def _verdict(rows: list[dict[str, Any]]) -> list[str]:
    """Which is fastest, by network."""
    lines = []
    for row in rows:
        found = {
            name: row[f"points_{name}_ms"] for name in ("cpu", "gpu", "batch") if row[f"points_{name}_ms"] is not None
        }
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
        "Picture": lambda row: row["picture"],
        "Labels as ONNX Runtime (wanted)": lambda row: (
            "-" if row["agreement"] is None else f"{row['agreement']:.3%} ({row['wanted']:.1%})"
        ),
        "Network alone": _ms("network_ms"),
        "In six": _ms("batch_network_ms"),
        "One picture: median, p99": _ms("latency_median_ms", "latency_p99_ms"),
        "48 in a row, scores on CPU, GPU": _ms("stream_cpu_ms", "stream_gpu_ms"),
        "Of them a core of the CPU": _ms("core_cpu_ms", "core_gpu_ms"),
        "Overhead": _overhead,
        "Frames/s": lambda row: f"{1e3 / min(row['stream_cpu_ms'], row['stream_gpu_ms']):.0f}",
        "With points: CPU, GPU, in one call": _ms("points_cpu_ms", "points_gpu_ms", "points_batch_ms"),
        "Load": lambda row: f"{row['load_s']:.1f} s",
    },
    "torch": {
        "Network": lambda row: row["network"],
        "Precision": lambda row: row["precision"],
        "Network alone": _ms("network_ms"),
        "In six": _ms("batch_network_ms"),
        "Frames/s": lambda row: f"{1e3 / min(row['network_ms'], row['batch_network_ms']):.0f}",
        "Points equal to the CPU's": _shares("points_equal"),
        "Points: GPU, CPU": _ms("sample_gpu_ms", "sample_cpu_ms"),
    },
}
