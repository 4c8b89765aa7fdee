"""The pictures of docs/accuracy.md and docs/performance.md, drawn from the figures that the benchmarks leave.

`make accuracy-geometry` and `make bench` draw them with their tables; `python benchmarks/plots.py` draws them again
from bench_out/. They are SVG, written here: no plotting library is needed, and a change of figures is a small one.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

OUT, DOCS = Path("bench_out"), Path("docs")
COLORS = ("#1f6fb2", "#d1622b", "#3a8f4d", "#8d55b0", "#b03a4a", "#6b6f76", "#b59a1c", "#2aa1a1", "#5b3f2b", "#e07ab0")
INK, PALE, GOAL, GOAL_INK = "#33363b", "#d5d8dc", "#dcefdd", "#3a7f3d"
WIDTH, HEIGHT, LEFT, TOP, BOTTOM, GAP = 380, 250, 56, 34, 46, 74
LEGEND_ROW = 17
Place = tuple[float, float]
Figures = dict[str, Any]


@dataclass
class Panel:
    """One diagram. Ranges are (lowest, highest); logarithmic up if asked for. goal: (x, y) up to which all is well."""

    title: str
    x_label: str
    x_range: Place
    y_range: Place
    y_log: bool = False
    goal: Place | None = None
    marks: list[tuple[str, str, Sequence[Place]]] = field(default_factory=list)  # text within, colour, places
    lines: list[tuple[str, Sequence[Place]]] = field(default_factory=list)

    def at(self, place: Place) -> Place:
        """Where it lies in the panel, pixels from its upper left corner."""
        (x, y), (x_low, x_high), (y_low, y_high) = place, self.x_range, self.y_range
        if self.y_log:
            y, y_low, y_high = math.log(max(y, y_low)), math.log(y_low), math.log(y_high)
        return WIDTH * (x - x_low) / (x_high - x_low), HEIGHT * (1.0 - (y - y_low) / (y_high - y_low))

    def svg(self) -> str:
        """Its own part of the picture."""
        parts = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="{INK}"/>']
        if self.goal is not None:
            x, y = self.at(self.goal)
            parts.insert(0, f'<rect y="{y:.1f}" width="{x:.1f}" height="{HEIGHT - y:.1f}" fill="{GOAL}"/>')
            parts.append(_text(x - 5, HEIGHT - 6, "goal", "end", GOAL_INK))
        for value in _ticks(self.x_range):
            x, _ = self.at((value, self.y_range[0]))
            parts.append(f'<path d="M{x:.1f} {HEIGHT}v-{HEIGHT}" stroke="{PALE}" stroke-width="0.6"/>')
            parts.append(_text(x, HEIGHT + 16, f"{value:,.10g}", "middle"))
        for value in _decades(self.y_range) if self.y_log else _ticks(self.y_range):
            _, y = self.at((self.x_range[0], value))
            parts.append(f'<path d="M0 {y:.1f}h{WIDTH}" stroke="{PALE}" stroke-width="0.6"/>')
            parts.append(_text(-6, y + 4, f"{value:,.10g}", "end"))
        parts += [_text(WIDTH / 2, -12, self.title, "middle"), _text(WIDTH / 2, HEIGHT + 36, self.x_label, "middle")]
        for color, way in self.lines:
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(self.at, way))
            parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.3"/>')
        for text, color, places in self.marks:
            for x, y in map(self.at, places):
                parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{8 if text else 4}" fill="{color}"/>')
                parts.append(_text(x, y + 4, text, "middle", "#ffffff") if text else "")
        return "\n".join(filter(None, parts))


def picture(panels: Sequence[Panel], legend: Sequence[tuple[str, str, str]]) -> str:
    """Panels side by side over a legend: for each row its sign's text, its colour and what it says."""
    width = LEFT + len(panels) * (WIDTH + GAP) - GAP + 20
    height = TOP + HEIGHT + BOTTOM + LEGEND_ROW * len(legend) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'font-family="sans-serif" font-size="12" fill="{INK}">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for k, panel in enumerate(panels):
        parts.append(f'<g transform="translate({LEFT + k * (WIDTH + GAP)},{TOP})">\n{panel.svg()}\n</g>')
    for row, (sign, color, text) in enumerate(legend):
        y = TOP + HEIGHT + BOTTOM + LEGEND_ROW * row + 12
        parts.append(f'<circle cx="{LEFT + 8}" cy="{y - 4}" r="{8 if sign else 4}" fill="{color}"/>')
        parts += [_text(LEFT + 8, y, sign, "middle", "#ffffff") if sign else "", _text(LEFT + 24, y, text)]
    return "\n".join(filter(None, [*parts, "</svg>"])) + "\n"


def accuracy(figures: Figures) -> str:
    """What each method leaves wrong against what it leaves out, of `accuracy_geometry.json`."""
    rows = figures["static"]
    lost = {name: 100.0 * row["visible_unknown"] / row["visible"] for name, row in rows.items()}
    reach = (0.0, math.ceil(max(lost.values()) + 0.3))
    label = "visible points left unknown, %"
    hidden = Panel("hidden points painted, %", label, reach, (1.0, 100.0), True, (2.0, 2.0))
    wrong = Panel("points painted as things that are none, %", label, reach, (0.1, 100.0), True, (2.0, 1.0))
    legend = []
    for number, (name, row) in enumerate(rows.items()):
        sign, color = str(number + 1), COLORS[number % len(COLORS)]
        hidden.marks.append((sign, color, [(lost[name], 100.0 * row["hidden_painted"] / row["hidden"])]))
        wrong.marks.append((sign, color, [(lost[name], 100.0 * (1.0 - row["things_correct"] / row["things"]))]))
        legend.append((sign, color, name))
    return picture([hidden, wrong], legend)


def performance(figures: Figures) -> str:
    """Cost against points and cameras, of `projection.json`: what was measured, and the line nearest to it."""
    growth = {tuple(map(int, case.split(" x "))): ms for case, ms in figures["growth"].items()}
    by_points = sorted((count / 1000.0, ms) for (count, cameras), ms in growth.items() if cameras == 1)
    count = max((count for count, cameras in growth if cameras > 1), default=0)
    by_cameras = sorted((float(cameras), ms) for (points, cameras), ms in growth.items() if points == count)
    naive: dict[str, list[Place]] = {"points": [], "cameras": []}
    for case, methods in figures["cases"].items():
        points, cameras = map(int, re.findall(r"\d+", case)[:2])
        ms = next(value for name, value in methods.items() if name.startswith("naive numpy"))
        if cameras == 1:
            naive["points"].append((points / 1000.0, ms))
        if points == count:
            naive["cameras"].append((float(cameras), ms))
    panels = []
    for title, label, ours, others in (
        ("milliseconds, one camera", "thousand points", by_points, naive["points"]),
        (f"milliseconds, {count:,} points", "cameras", by_cameras, naive["cameras"]),
    ):
        x, y = np.array(ours).T
        slope, start = np.polyfit(x, y, 1)
        end = float(x.max()) * 1.05
        top = _rounded(max(ms for _, ms in [*ours, *others]) * 1.05)
        panel = Panel(title, label, (0.0, _rounded(end)), (0.0, top))
        first = max(0.0, -start / slope)
        panel.lines.append((COLORS[0], [(first, start + slope * first), (end, start + slope * end)]))
        panel.marks += [("", COLORS[5], others), ("", COLORS[0], ours)]
        panels.append(panel)
    legend = [
        (
            "",
            COLORS[0],
            "everything: motion, lens, occlusion, edges, labels of an image, cameras weighed; and its line",
        ),
        ("", COLORS[5], "naive numpy: no lens, motion, occlusion"),
    ]
    return picture(panels, legend)


def _text(x: float, y: float, text: str, anchor: str = "start", color: str = INK) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}">{escape(text)}</text>'


def _rounded(value: float) -> float:
    """The next of 1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return power * next(step for step in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if step * power >= value)


def _ticks(reach: Place) -> list[float]:
    low, high = reach
    step = 10.0 ** math.floor(math.log10((high - low) / 4.0))
    step *= next(many for many in (1, 2, 5, 10) if (high - low) / (many * step) <= 6.0)
    return [low + step * k for k in range(int((high - low) / step + 1e-9) + 1)]


def _decades(reach: Place) -> list[float]:
    low, high = (math.log10(value) for value in reach)
    values = [many * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for many in (1, 2, 5)]
    return [value for value in values if reach[0] <= value * (1 + 1e-9) and value <= reach[1] * (1 + 1e-9)]


PLOTS: dict[str, tuple[str, Callable[[Figures], str]]] = {
    "accuracy.svg": ("accuracy_geometry.json", accuracy),
    "performance.svg": ("projection.json", performance),
}


def draw(name: str, out: Path = OUT, docs: Path = DOCS) -> None:
    """Draw one of PLOTS from the figures in `out`; nothing where there is no folder of pages."""
    source, plot = PLOTS[name]
    if docs.is_dir():
        figures = json.loads((out / source).read_text(encoding="utf-8"))
        (docs / name).write_text(plot(figures), encoding="utf-8")


if __name__ == "__main__":
    for name, (source, _) in PLOTS.items():
        if (OUT / source).is_file():
            draw(name)
        else:
            print(f"{DOCS / name}: no {OUT / source} to draw it from", file=sys.stderr)
