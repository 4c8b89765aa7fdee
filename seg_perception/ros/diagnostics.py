"""diagnostic_msgs on /diagnostics: what came in, what went out, what was dropped and why, and how long it took.

The first status carries the whole summary of the run (`RunStatistics.summary`) as flat key-value pairs, so that a
program reads back what a person sees: `flatten` and `unflatten`. Counts are since activation; levels are about the
time since the last report.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from seg_perception.datatypes import ViewReport
from seg_perception.ros.problems import INTERNAL, QUIET

SUMMARY = "sweeps"
OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


@dataclass(frozen=True, slots=True)
class CameraState:
    """One camera since activation. last: what it gave to the last sweep that it was paired with; calibration: the file
    that stands for its CameraInfo, if any."""

    images_in: int = 0
    infos_in: int = 0
    last: ViewReport | None = None
    calibration: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of the running node at one instant of the steady clock."""

    at_s: float
    summary: Mapping[str, Any]
    cameras: Mapping[str, CameraState] = field(default_factory=dict)
    last_words: Mapping[str, str] = field(default_factory=dict)
    motion: str = ""
    motion_fallback: str = ""
    transforms: Mapping[str, str] = field(default_factory=dict)
    inference: Mapping[str, str] = field(default_factory=dict)


def statuses(node: str, before: Observation, now: Observation) -> list[DiagnosticStatus]:
    """The statuses of an active node, judged by what happened between two observations."""
    return [
        _sweeps(node, before, now),
        *(_camera(node, name, before, now) for name in now.cameras),
        _transforms(node, before, now),
        status(node, "inference", OK, "running", now.inference),
    ]


def status(node: str, part: str, level: bytes, message: str, values: Mapping[str, Any]) -> DiagnosticStatus:
    """One DiagnosticStatus, named `<node>: <part>`."""
    pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return DiagnosticStatus(level=level, name=f"{node}: {part}", message=message, hardware_id="", values=pairs)


def flatten(summary: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """`{"latency_ms": {"paint": {"p99": 1.5}}}` as `{"latency_ms.paint.p99": "1.500"}`."""
    flat: dict[str, str] = {}
    for key, value in summary.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = f"{value:.3f}" if isinstance(value, float) else str(value)
    return flat


def unflatten(values: Iterable[KeyValue]) -> dict[str, Any]:
    """What `flatten` was given, from the pairs of a status; keys that say something else (`last_words.…`) are left out.

    A class name may hold a dot: only `latency_ms` has a third level, and there the last dot divides.
    """
    summary: dict[str, Any] = {"points_by_class": {}, "causes": {}, "latency_ms": {}}
    for pair in values:
        section, _, rest = pair.key.partition(".")
        if section == "latency_ms":
            stage, _, figure = rest.rpartition(".")
            summary[section].setdefault(stage, {})[figure] = float(pair.value)
        elif section in ("points_by_class", "causes"):
            summary[section][rest] = int(pair.value)
        elif not rest and pair.value.isdecimal():
            summary[section] = int(pair.value)
    return summary


def _sweeps(node: str, before: Observation, now: Observation) -> DiagnosticStatus:
    came = now.summary["sweeps_in"] - before.summary["sweeps_in"]
    labelled = now.summary["sweeps_labelled"] - before.summary["sweeps_labelled"]
    went = now.summary["sweeps_out"] - before.summary["sweeps_out"]
    causes = _risen(before, now)
    seconds = max(now.at_s - before.at_s, 1e-9)
    if INTERNAL in causes:
        level, message = ERROR, f"an internal error, please report it: {now.last_words.get(INTERNAL, '')}"
    elif not came and not went:
        level, message = WARN, "no sweep came"
    elif not labelled and (went or causes):
        level, message = ERROR, f"{came} sweeps came, none was labelled{_because(causes)}"
    elif not labelled:
        level, message = WARN, f"{came} sweeps came and wait for their images"
    elif causes:
        level, message = WARN, f"{labelled} sweeps labelled{_because(causes)}"
    else:
        level, message = OK, f"{labelled} sweeps labelled"
    rates = {"sweeps_in_hz": came / seconds, "sweeps_out_hz": went / seconds}
    words = _prefixed("last_words", {c: now.last_words[c] for c in now.summary["causes"] if c in now.last_words})
    return status(node, SUMMARY, level, message, {**flatten({**now.summary, **rates}), **words})


def _camera(node: str, name: str, before: Observation, now: Observation) -> DiagnosticStatus:
    state = now.cameras[name]
    earlier = before.cameras.get(name, CameraState())
    images = state.images_in - earlier.images_in
    seconds = max(now.at_s - before.at_s, 1e-9)
    causes = {
        cause.removesuffix(f"/{name}"): count
        for cause, count in _risen(before, now).items()
        if cause.endswith(f"/{name}")
    }
    values: dict[str, Any] = {
        "images_in": state.images_in,
        "images_in_hz": f"{images / seconds:.3f}",
        "camera_infos_in": state.infos_in,
    }
    if state.last is not None:
        values["in_view"], values["visible"] = state.last.in_view, state.last.visible
        values["painted"] = state.last.painted
        if state.last.offset_ns is not None:
            values["offset_ms"] = f"{state.last.offset_ns * 1e-6:.3f}"
    if not images:
        return status(node, f"camera {name}", WARN, "no image came" + _because(causes), values)
    if not state.infos_in and not state.calibration:
        return status(node, f"camera {name}", WARN, "no CameraInfo came", values)
    if causes:
        return status(node, f"camera {name}", WARN, "skipped" + _because(causes), values)
    return status(node, f"camera {name}", OK, "used", values)


def _transforms(node: str, before: Observation, now: Observation) -> DiagnosticStatus:
    values = {"motion": now.motion, "motion_fallback": now.motion_fallback, **_prefixed("edge", now.transforms)}
    causes = {cause: count for cause, count in _risen(before, now).items() if cause.startswith("tf")}
    if not now.transforms:
        return status(node, "transforms", WARN, "no transform came", values)
    if causes:
        return status(node, "transforms", WARN, "transforms refused or missing" + _because(causes), values)
    if now.motion_fallback:
        return status(node, "transforms", WARN, "points are taken as if nothing moved", values)
    return status(node, "transforms", OK, f"{len(now.transforms)} transforms known", values)


def _risen(before: Observation, now: Observation) -> dict[str, int]:
    """Causes counted since, those left out that are no reason to worry."""
    earlier = before.summary["causes"]
    return {
        cause: count - earlier.get(cause, 0)
        for cause, count in now.summary["causes"].items()
        if count > earlier.get(cause, 0) and cause not in QUIET
    }


def _because(causes: Mapping[str, int]) -> str:
    return "; " + ", ".join(f"{cause} {count}" for cause, count in causes.items()) if causes else ""


def _prefixed(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}.{key}": value for key, value in values.items()}
