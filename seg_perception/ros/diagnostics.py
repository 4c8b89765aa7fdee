"""diagnostic_msgs on /diagnostics: what came in, what went out, what was dropped and why, and how long it took.

The first status carries the whole summary of the run (`RunStatistics.summary`) as flat key-value pairs, so that a
program reads back what a person sees: `flatten` and `unflatten`. Counts are since activation; levels are about the
time since the last report.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from seg_perception.config import DiagnosticsConfig
from seg_perception.datatypes import ViewReport
from seg_perception.inference.nvml import GpuState
from seg_perception.ros.problems import INTERNAL, QUIET
from seg_perception.ros.wake_latency import AS_IT_IS, WakeLatency
from seg_perception.scene_step import FAULT, MAP_FULL, WITHOUT_ODOMETRY

SUMMARY = "sweeps"
SCENE_CAUSES = (FAULT, WITHOUT_ODOMETRY, MAP_FULL)
OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
DEFAULT_LIMITS = DiagnosticsConfig()


@dataclass(frozen=True, slots=True)
class CameraState:
    """One camera since activation. last: what it gave to the last sweep that it was paired with; calibration: the file
    that stands for its CameraInfo, if any."""

    images_in: int = 0
    infos_in: int = 0
    last: ViewReport | None = None
    calibration: str = ""


@dataclass(frozen=True, slots=True)
class InputState:
    """One topic that is listened to. age_s: since its last message came, or since activation; stamp_ahead_s: how far
    the stamp of that message was ahead of the node's clock; None where it has none, or none came. kind: only of "image"
    and "lidar" is it known that messages keep coming, and when they were measured; the rest is told and not judged.
    offset_s: what the settings add to those stamps (`offset_ms`), before they are compared with the LiDAR's.
    overwritten: how many messages nobody took before newer ones came, or why they are not counted."""

    age_s: float
    stamp_ahead_s: float | None = None
    kind: str = ""
    offset_s: float = 0.0
    overwritten: str = "0"


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
    inputs: Mapping[str, InputState] = field(default_factory=dict)
    gpus: Sequence[GpuState] = ()
    scene: Mapping[str, Any] = field(default_factory=dict)
    awake: WakeLatency | None = None


def statuses(
    node: str, before: Observation, now: Observation, limits: DiagnosticsConfig = DEFAULT_LIMITS
) -> list[DiagnosticStatus]:
    """The statuses of an active node, judged by what happened between two observations."""
    return [
        _sweeps(node, before, now, limits),
        *(_camera(node, name, before, now, limits) for name in now.cameras),
        _transforms(node, before, now),
        _inference(node, now, limits),
        _inputs(node, now, limits),
        *([_scene(node, before, now)] if now.scene else []),
        *([_machine(node, now.awake)] if now.awake and now.awake.us != AS_IT_IS else []),
    ]


def figures(before: Observation, now: Observation) -> dict[str, float]:
    """What can be plotted of the time between two observations, by name; counts are since activation."""
    flat = flatten({**now.summary, **_rates(before, now)})
    for topic, state in now.inputs.items():
        flat[f"age_s{topic}"] = str(state.age_s)
    for name, camera in now.cameras.items():
        if camera.last is not None and camera.last.offset_ns is not None:
            flat[f"residual_ms.{name}"] = str(camera.last.offset_ns * 1e-6)
    return {name: float(value) for name, value in sorted(flat.items())}


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

    A class name may hold a dot: only `latency_ms` and `points_of_camera` have a third level, and there the last dot
    divides.
    """
    summary: dict[str, Any] = {"points_by_class": {}, "points_of_camera": {}, "causes": {}, "latency_ms": {}}
    for pair in values:
        section, _, rest = pair.key.partition(".")
        if section == "latency_ms":
            stage, _, figure = rest.rpartition(".")
            summary[section].setdefault(stage, {})[figure] = float(pair.value)
        elif section == "points_of_camera":
            camera, _, count = rest.rpartition(".")
            summary[section].setdefault(camera, {})[count] = int(pair.value)
        elif section in ("points_by_class", "causes"):
            summary[section][rest] = int(pair.value)
        elif not rest and pair.value.isdecimal():
            summary[section] = int(pair.value)
    return summary


class Verdict:
    """The worst level of several figures, and a word on each that is not as it should be."""

    def __init__(self, level: bytes = OK, message: str = "") -> None:
        self.level = level
        self._words = [message] if message else []

    def above(self, what: str, value: float, warn: float, error: float) -> None:
        """Judge a figure that should stay below its limits; a limit of 0 is none."""
        self._judge(what, value, bool(warn and value >= warn), bool(error and value >= error), warn, error, "below")

    def below(self, what: str, value: float, warn: float, error: float) -> None:
        """Judge a figure that should not fall below its limits."""
        self._judge(what, value, value < warn, value < error, warn, error, "at least")

    def _judge(self, what: str, value: float, warns: bool, errs: bool, warn: float, error: float, side: str) -> None:
        if warns or errs:
            self.level = max(self.level, ERROR if errs else WARN)
            self._words.append(f"{what} is {value:.4g}, {side} {error if errs else warn:g} wanted")

    def message(self, otherwise: str = "") -> str:
        """All that was found; `otherwise` where nothing was."""
        return "; ".join(self._words) or otherwise


def _rates(before: Observation, now: Observation) -> dict[str, float]:
    """Of the time between two observations: sweeps a second in and out, and the share of the points with a label."""
    seconds = max(now.at_s - before.at_s, 1e-9)
    came, went, points, labelled = (
        now.summary[key] - before.summary[key] for key in ("sweeps_in", "sweeps_out", "points", "points_labelled")
    )
    rates = {"sweeps_in_hz": came / seconds, "sweeps_out_hz": went / seconds}
    return {**rates, "coverage": labelled / points} if points else rates


def _sweeps(node: str, before: Observation, now: Observation, limits: DiagnosticsConfig) -> DiagnosticStatus:
    came = now.summary["sweeps_in"] - before.summary["sweeps_in"]
    labelled = now.summary["sweeps_labelled"] - before.summary["sweeps_labelled"]
    went = now.summary["sweeps_out"] - before.summary["sweeps_out"]
    causes = _risen(before, now)
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
    rates = _rates(before, now)
    verdict = Verdict(level, message)
    verdict.below("sweeps_out_hz", rates["sweeps_out_hz"], limits.rate_warn_hz, limits.rate_error_hz)
    if "coverage" in rates:
        verdict.below("coverage", rates["coverage"], limits.coverage_warn, limits.coverage_error)
    p99 = now.summary["latency_ms"].get("total", {}).get("p99", 0.0)
    verdict.above("latency_ms.total.p99", p99, limits.latency_warn_ms, limits.latency_error_ms)
    words = _prefixed("last_words", {c: now.last_words[c] for c in now.summary["causes"] if c in now.last_words})
    return status(node, SUMMARY, verdict.level, verdict.message(), {**flatten({**now.summary, **rates}), **words})


def _inputs(node: str, now: Observation, limits: DiagnosticsConfig) -> DiagnosticStatus:
    verdict, values = Verdict(), {}
    of_lidar = next(
        (s.stamp_ahead_s for s in now.inputs.values() if s.kind == "lidar" and s.stamp_ahead_s is not None), None
    )
    for topic, state in now.inputs.items():
        values[f"{topic}.age_s"] = f"{state.age_s:.3f}"
        values[f"{topic}.overwritten_unread"] = state.overwritten
        if state.stamp_ahead_s is not None:
            values[f"{topic}.stamp_ahead_of_clock_s"] = f"{state.stamp_ahead_s:.3f}"
        if not state.kind:
            continue
        verdict.above(f"age_s of {topic}", state.age_s, limits.input_age_warn_s, limits.input_age_error_s)
        if of_lidar is not None and state.stamp_ahead_s is not None:
            off_s = abs(state.stamp_ahead_s + state.offset_s - of_lidar)
            offset = limits.stamp_offset_warn_s, limits.stamp_offset_error_s
            verdict.above(f"stamp of {topic}, seconds from the LiDAR's,", off_s, *offset)
    return status(node, "inputs", verdict.level, verdict.message("all heard"), values)


def _inference(node: str, now: Observation, limits: DiagnosticsConfig) -> DiagnosticStatus:
    verdict, values = Verdict(), dict(now.inference)
    for index, gpu in enumerate(now.gpus):
        values[f"gpu{index}.name"] = gpu.name
        if gpu.temperature_c is not None:
            values[f"gpu{index}.temperature_c"] = str(gpu.temperature_c)
            hot = limits.gpu_temperature_warn_c, limits.gpu_temperature_error_c
            verdict.above(f"gpu{index}.temperature_c", gpu.temperature_c, *hot)
        if gpu.memory_used is not None and gpu.memory_total:
            values[f"gpu{index}.memory_used_mib"] = str(gpu.memory_used >> 20)
            values[f"gpu{index}.memory_total_mib"] = str(gpu.memory_total >> 20)
            share = gpu.memory_used / gpu.memory_total
            verdict.above(
                f"gpu{index} memory in use, as a share,", share, limits.gpu_memory_warn, limits.gpu_memory_error
            )
    return status(node, "inference", verdict.level, verdict.message("running"), values)


def _camera(node: str, name: str, before: Observation, now: Observation, limits: DiagnosticsConfig) -> DiagnosticStatus:
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
        for count in ("in_view", "behind_windows", "near_outlines", "doubted", "visible", "painted"):
            values[count] = getattr(state.last, count)
        if state.last.offset_ns is not None:
            values["offset_ms"] = f"{state.last.offset_ns * 1e-6:.3f}"
    if not images:
        return status(node, f"camera {name}", WARN, "no image came" + _because(causes), values)
    if not state.infos_in and not state.calibration:
        return status(node, f"camera {name}", WARN, "no CameraInfo came", values)
    verdict = Verdict(WARN, "skipped" + _because(causes)) if causes else Verdict()
    if state.last is not None and state.last.offset_ns is not None:
        residual_ms = abs(state.last.offset_ns * 1e-6)
        verdict.above("offset_ms", residual_ms, limits.residual_warn_ms, limits.residual_error_ms)
    return status(node, f"camera {name}", verdict.level, verdict.message("used"), values)


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


def _scene(node: str, before: Observation, now: Observation) -> DiagnosticStatus:
    causes = {cause: count for cause, count in _risen(before, now).items() if cause in SCENE_CAUSES}
    if FAULT in causes:
        return status(node, "scene", ERROR, "sweeps are missing from the scene" + _because(causes), now.scene)
    if causes:
        return status(node, "scene", WARN, "not all of the sweeps is in the scene" + _because(causes), now.scene)
    return status(node, "scene", OK, "remembered", now.scene)


def _machine(node: str, awake: WakeLatency) -> DiagnosticStatus:
    """What was asked of it, and is held."""
    values = {"wake_latency_us": awake.us, "wake_latency_held": str(awake.refusal is None).lower()}
    if awake.refusal is not None:
        return status(node, "machine", WARN, f"CPUs wake as slowly as the kernel lets them: {awake.refusal}", values)
    return status(node, "machine", OK, f"CPUs wake within {awake.us} us", values)


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
