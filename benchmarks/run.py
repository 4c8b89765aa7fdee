"""`make bench`: every benchmark once; a table to read, and the figures as JSON in bench_out/."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import projection

OUT = Path("bench_out")
REFERENCE = "naive numpy: no lens, no occlusion"


def main() -> None:
    """Run, print, write."""
    figures = {}
    print(
        f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}; medians of {projection.RUNS}"
    )
    for count in (120_000, 260_000):
        medians = projection.measure(count)
        medians["ours: all of it"] = sum(value for name, value in medians.items() if name.startswith("ours"))
        figures[str(count)] = medians
        print(f"\n{count} points, one 1920x1080 camera{'ms':>26}{'naive / this':>16}")
        for name, milliseconds in medians.items():
            print(f"  {name:<48}{milliseconds:>10.2f}{medians[REFERENCE] / milliseconds:>15.1f}x")
    OUT.mkdir(exist_ok=True)
    (OUT / "projection.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
