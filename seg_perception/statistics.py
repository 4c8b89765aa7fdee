"""What a run did, counted once for everybody who reports it: diagnostics, replay, demo."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict, deque

import numba
import numpy as np

from seg_perception.datatypes import UNKNOWN, SemanticCloud, SweepReport

_OF_VIEW = ("in_view", "visible", "behind_windows", "doubted", "painted")  # counts of a `ViewReport`


class StageTimer:
    """Seconds that each stage took, on a steady clock; a stage entered more than once adds up, in whichever threads."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    def stage(self, name: str) -> _Stage:
        """Time the block of a `with`."""
        return _Stage(self, name)

    def add(self, name: str, seconds: float) -> None:
        """So much more of a stage."""
        with self._lock:
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds


class _Stage:
    """A class, as contextlib's generator takes three times as long, a dozen times a sweep."""

    __slots__ = ("_name", "_start_s", "_timer")

    def __init__(self, timer: StageTimer, name: str) -> None:
        self._timer, self._name = timer, name

    def __enter__(self) -> None:
        self._start_s = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._timer.add(self._name, time.perf_counter() - self._start_s)


class RunStatistics:
    """Counters since the start, and the last `window` timings of every stage. Any thread may count, and any may ask.

    Whoever changes `causes` by itself holds `lock` while it does.
    """

    def __init__(self, window: int = 1000) -> None:
        self.lock = threading.RLock()
        self.sweeps_in = 0
        self.sweeps_out = 0
        self.sweeps_labelled = 0
        self.points = 0
        self.points_carried = 0
        self.points_by_class = np.zeros(256, np.int64)
        self.points_of_camera: dict[str, Counter[str]] = defaultdict(Counter)
        self.causes: Counter[str] = Counter()
        self._seconds: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=window))

    def count(self, cause: str, times: int = 1) -> None:
        """Something was dropped, skipped or went wrong."""
        with self.lock:
            self.causes[cause] += times

    def sweep_came(self) -> None:
        """A sweep has come in, whatever becomes of it."""
        with self.lock:
            self.sweeps_in += 1

    def add_sweep(self, cloud: SemanticCloud, report: SweepReport) -> None:
        """A sweep went through the pipeline. Labelled: at least one of its points got a label."""
        by_class, returns = _counts(cloud.class_id, cloud.scan.points)
        with self.lock:
            self.sweeps_out += 1
            self.sweeps_labelled += bool(by_class[:UNKNOWN].any())
            self.points += returns
            self.points_carried += report.carried
            self.points_by_class += by_class
            for camera, view in report.views.items():
                self.points_of_camera[camera].update({count: getattr(view, count) for count in _OF_VIEW})
            if report.motion_fallback:
                self.count("motion_assumed_static")
            for stage, seconds in report.stage_seconds.items():
                self.add_seconds(stage, seconds)

    def add_seconds(self, stage: str, seconds: float) -> None:
        """One more timing of a stage."""
        with self.lock:
            self._seconds[stage].append(seconds)

    def latency_ms(self) -> dict[str, dict[str, float]]:
        """Stage → median and 99th percentile, milliseconds."""
        with self.lock:
            seconds = {stage: np.array(values) for stage, values in self._seconds.items()}
        return {
            stage: {"median": float(np.median(values) * 1e3), "p99": float(np.percentile(values, 99) * 1e3)}
            for stage, values in seconds.items()
        }

    def summary(self, names: tuple[str, ...]) -> dict:
        """All of it as JSON can hold it. `names`: class names in the order of train ids."""
        latency_ms = self.latency_ms()
        with self.lock:
            return {
                "sweeps_in": self.sweeps_in,
                "sweeps_out": self.sweeps_out,
                "sweeps_labelled": self.sweeps_labelled,
                "points": self.points,
                "points_labelled": int(self.points_by_class[:UNKNOWN].sum()),
                "points_carried": self.points_carried,
                "points_by_class": {
                    name: int(count) for name, count in zip(names, self.points_by_class, strict=False) if count
                },
                "points_of_camera": {name: dict(counts) for name, counts in sorted(self.points_of_camera.items())},
                "causes": dict(sorted(self.causes.items())),
                "latency_ms": latency_ms,
            }


@numba.njit(cache=True, nogil=True)
def _counts(class_id, points):  # type: ignore[no-untyped-def]
    """How often each of 256 comes up in class_id (N,) uint8; numpy, which makes it int64 first, takes four times as
    long. And how many of points (N, 3) are returns."""
    counts, returns = np.zeros(256, np.int64), 0
    for i in range(class_id.shape[0]):
        counts[class_id[i]] += 1
        returns += np.isfinite(points[i, 0]) and np.isfinite(points[i, 1]) and np.isfinite(points[i, 2])
    return counts, returns


def summary_lines(summary: dict) -> list[str]:
    """A summary as a person reads it."""
    labelled = summary["points_labelled"]
    share = 100 * labelled / max(summary["points"], 1)
    lines = [
        f"sweeps     {summary['sweeps_in']} in, {summary['sweeps_out']} published, "
        f"{summary['sweeps_labelled']} with labels",
        f"points     {summary['points']}, of which {labelled} labelled ({share:.1f} %); "
        f"{summary['points_carried']} carried on with what moves",
    ]
    by_class = sorted(summary["points_by_class"].items(), key=lambda entry: -entry[1])
    lines += [f"           {name:<14}{count:>12}  {100 * count / max(labelled, 1):5.1f} %" for name, count in by_class]
    for camera, of in summary["points_of_camera"].items():
        seen, doubted, glass = (
            100 * of[key] / max(of["in_view"], 1) for key in ("visible", "doubted", "behind_windows")
        )
        lines.append(
            f"camera     {camera:<14}{of['in_view']:>12} points in view: {seen:.1f} % seen, {doubted:.1f} % doubted, "
            f"{glass:.1f} % behind windows; {of['painted']} painted"
        )
    lines += [f"latency    {stage:<14}median {v['median']:8.2f} ms   p99 {v['p99']:8.2f} ms"
              for stage, v in summary["latency_ms"].items()]  # fmt: skip
    lines += [f"count      {cause:<40}{count:>8}" for cause, count in summary["causes"].items()] or [
        "count      no drops"
    ]
    return lines
