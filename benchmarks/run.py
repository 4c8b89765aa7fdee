"""`make bench`: every benchmark once; tables to read, figures as JSON in bench_out/, the page's table and picture."""

from __future__ import annotations

import json
import os
import platform
import re
from pathlib import Path

for library in ("OPENBLAS", "OMP", "MKL"):  # before NumPy is imported
    os.environ[f"{library}_NUM_THREADS"] = "1"

import plots  # noqa: E402
import projection  # noqa: E402

from seg_perception.ros import dds  # noqa: E402

OUT, PAGE = Path("bench_out"), Path("docs/performance.md")
CASES = ((120_000, 1), (120_000, 6), (260_000, 1), (260_000, 6))
GROWTH = ((60_000, 1), (120_000, 1), (240_000, 1), (480_000, 1), (960_000, 1), (120_000, 2), (120_000, 4), (120_000, 8))
SHARED = ((120_000, 6), (260_000, 6))


def main() -> None:
    """Run, print, write."""
    dds.prepare()  # malloc as the node has it
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, one thread"
    print(f"{machine}; medians of {projection.RUNS}")
    cases = {f"{count} points, {cameras} camera(s)": projection.measure(count, cameras) for count, cameras in CASES}
    names = list(next(iter(cases.values())))
    lines = [
        f"{machine}; milliseconds, and how many times faster than naive numpy with malloc as it comes, and with malloc "
        f"as our node sets it; medians of {projection.RUNS} runs.",
        "",
    ]
    lines += ["| | " + " | ".join(cases) + " |", "|---" * (len(cases) + 1) + "|"]
    for name in names:
        cells = (f"{case[name]:.2f} ({_times(case, name)})" for case in cases.values())
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    print("\n".join(lines), flush=True)
    growth = {f"{count} x {cameras}": projection.measure_whole(count, cameras) for count, cameras in GROWTH}
    lines += ["", "Everything on, by points x cameras, milliseconds: "]
    lines[-1] += ", ".join(f"{case} {value:.1f}" for case, value in growth.items()) + "."
    print(lines[-1])
    threads = {f"{count} x {cameras}": projection.measure_threads(count, cameras) for count, cameras in SHARED}
    lines += ["", "Cameras side by side, milliseconds that pass (the table has those of the CPU); medians.", ""]
    columns = [(case, count) for case, found in threads.items() for count in found]
    lines += ["| | " + " | ".join(f"{case}, {count}" for case, count in columns) + " |"]
    lines += ["|---" * (len(columns) + 1) + "|"]
    for name in projection.OURS:
        lines.append(f"| {name} | " + " | ".join(f"{threads[case][count][name]:.2f}" for case, count in columns) + " |")
    print("\n".join(lines[-len(projection.OURS) - 4 :]))
    OUT.mkdir(exist_ok=True)
    figures = {"machine": machine, "cases": cases, "growth": growth, "threads": threads}
    (OUT / "projection.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if PAGE.is_file():
        block = "<!-- projection -->\n" + "\n".join(lines) + "\n<!-- end -->"
        page = PAGE.read_text(encoding="utf-8")
        page = re.sub(r"<!-- projection -->.*?<!-- end -->", lambda _: block, page, flags=re.DOTALL)
        PAGE.write_text(page, encoding="utf-8")
    plots.draw("performance.svg")


def _times(case: dict[str, float], name: str) -> str:
    return ", ".join(f"{case[reference] / case[name]:.1f}x" for reference in (projection.TYPICAL, projection.NAIVE))


if __name__ == "__main__":
    main()
