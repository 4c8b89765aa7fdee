"""The pictures of docs/accuracy.md and docs/performance.md, drawn from the figures that the benchmarks leave.

`make accuracy-geometry` and `make bench` draw them with their tables; `python benchmarks/plots.py` draws them again
from bench_out/.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

OUT, DOCS = Path("bench_out"), Path("docs")
GOAL = "#dcefdd"
NAIVE = "naive numpy: no lens, motion, occlusion"
Figures = dict[str, Any]
matplotlib.rcParams.update({"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "seg_perception"})  # text as text


def accuracy(figures: Figures) -> Figure:
    """What each method leaves wrong against what it leaves out, of `accuracy_geometry.json`."""
    figure = Figure(figsize=(10, 5.2), layout="constrained")
    hidden, wrong = figure.subplots(1, 2)
    _goal(hidden, "hidden points painted, %", 2.0, lowest=1.0)
    _goal(wrong, "points painted as things that are none, %", 1.0, lowest=0.1)
    for number, (name, row) in enumerate(figures["static"].items(), 1):
        lost = 100.0 * row["visible_unknown"] / row["visible"]
        painted = 100.0 * row["hidden_painted"] / row["hidden"]
        of_things = 100.0 * (1.0 - row["things_correct"] / row["things"])
        for axes, error in ((hidden, painted), (wrong, of_things)):
            axes.plot(lost, error, "o", markersize=12, label=f"{number}  {name}")
            axes.annotate(str(number), (lost, error), color="white", ha="center", va="center")
    figure.legend(*hidden.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def _goal(axes: Axes, title: str, goal: float, lowest: float) -> None:
    """Diagram of an error on a logarithmic scale against visible points lost, of which 2 % are allowed."""
    axes.set(title=title, xlabel="visible points left unknown, %", yscale="log", ylim=(lowest, 120.0), xlim=(0.0, 5.0))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.fill_between((0.0, 2.0), lowest, goal, color=GOAL)
    axes.annotate("goal", (1.95, lowest * 1.1), ha="right")
    axes.grid(alpha=0.4)


def performance(figures: Figures) -> Figure:
    """Cost against points and cameras, of `projection.json`: what was measured, and the line nearest to it."""
    growth = {tuple(map(int, case.split(" x "))): ms for case, ms in figures["growth"].items()}
    naive = {
        tuple(map(int, re.findall(r"\d+", case)[:2])): methods[NAIVE] for case, methods in figures["cases"].items()
    }
    count = max(points for points, cameras in growth if cameras > 1)
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    by_points, by_cameras = figure.subplots(1, 2)
    by_points.set(title="milliseconds, one camera", xlabel="thousand points")
    by_cameras.set(title=f"milliseconds, {count:,} points", xlabel="cameras")
    for times, sign, name in ((growth, "C0o", "everything"), (naive, "C7s", NAIVE)):
        ours = sorted((points / 1000.0, ms) for (points, cameras), ms in times.items() if cameras == 1)
        of_cameras = sorted((cameras, ms) for (points, cameras), ms in times.items() if points == count)
        for axes, places in ((by_points, ours), (by_cameras, of_cameras)):
            axes.plot(*zip(*places, strict=True), sign, label=name)
            if times is growth:
                _line(axes, places)
    for axes in (by_points, by_cameras):
        axes.set(xlim=(0.0, None), ylim=(0.0, None))
        axes.grid(alpha=0.4)
    figure.legend(*by_points.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _line(axes: Axes, places: Sequence[tuple[float, float]]) -> None:
    """The line nearest to these, from where it begins to cost."""
    x, y = np.array(places).T
    slope, start = np.polyfit(x, y, 1)
    ends = np.array([max(0.0, -start / slope), x.max() * 1.05])
    axes.plot(ends, start + slope * ends, "C0-", linewidth=1, label="its line")


PLOTS: dict[str, tuple[str, Callable[[Figures], Figure]]] = {
    "accuracy.svg": ("accuracy_geometry.json", accuracy),
    "performance.svg": ("projection.json", performance),
}


def draw(name: str, out: Path = OUT, docs: Path = DOCS) -> None:
    """Draw one of PLOTS from the figures in `out`; nothing where there is no folder of pages."""
    source, plot = PLOTS[name]
    if docs.is_dir():
        figure = plot(json.loads((out / source).read_text(encoding="utf-8")))
        figure.savefig(docs / name, metadata={"Date": None})


if __name__ == "__main__":
    for name, (source, _) in PLOTS.items():
        if (OUT / source).is_file():
            draw(name)
        else:
            print(f"{DOCS / name}: no {OUT / source} to draw it from", file=sys.stderr)
