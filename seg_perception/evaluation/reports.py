"""Metrics as a table for people and as a mapping for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_perception.evaluation.metrics import ConfusionMatrix, PanopticScores


def semantic_report(matrix: ConfusionMatrix, names: Sequence[str], unit: str = "pixels") -> dict[str, Any]:
    """Everything that a confusion matrix tells, fit for JSON: None where there is no number. unit: what was counted."""
    return {
        "unit": unit,
        "mean_iou": number(matrix.mean_iou),
        f"{unit[:-1]}_accuracy": number(matrix.pixel_accuracy),
        "coverage": number(matrix.coverage),
        unit: int(matrix.counts.sum()),
        "classes": {
            name: {
                "iou": number(matrix.iou[k]),
                "recall": number(matrix.recall[k]),
                "precision": number(matrix.precision[k]),
                unit: int(matrix.counts[k].sum()),
            }
            for k, name in enumerate(names)
        },
        "confusion": matrix.counts.tolist(),
    }


def panoptic_report(scores: PanopticScores, names: Sequence[str], is_thing: NDArray[np.bool_]) -> dict[str, Any]:
    """PQ, SQ and RQ of all classes, of things, of stuff, and of each class."""
    things = np.asarray(is_thing, bool)[: len(names)]
    groups = {"all": np.ones(len(names), bool), "things": things, "stuff": ~things}
    return {
        **{
            group: dict(zip(("pq", "sq", "rq"), map(number, scores.mean(chosen)), strict=True))
            for group, chosen in groups.items()
        },
        "classes": {
            name: {"pq": number(scores.pq[k]), "sq": number(scores.sq[k]), "rq": number(scores.rq[k])}
            for k, name in enumerate(names)
        },
    }


def semantic_lines(report: dict[str, Any]) -> list[str]:
    """A table, one line a class."""
    unit = report["unit"]
    lines = [f"{'class':<16}{'IoU':>8}{'recall':>8}{'precision':>11}{unit:>13}"]
    for name, entry in report["classes"].items():
        values = f"{percent(entry['iou']):>8}{percent(entry['recall']):>8}{percent(entry['precision']):>11}"
        lines.append(f"{name:<16}{values}{entry[unit]:>13,}")
    return [*lines, mean_line(report)]


def mean_line(report: dict[str, Any]) -> str:
    """What a semantic report says of all classes together."""
    unit = report["unit"]
    return (
        f"mean IoU {percent(report['mean_iou'])}, {unit[:-1]} accuracy {percent(report[f'{unit[:-1]}_accuracy'])}, "
        f"labelled {percent(report['coverage'])} of {report[unit]:,} {unit}"
    )


def point_lines(report: dict[str, Any]) -> list[str]:
    """The report of `PointScores`: a table of the visible points, or of all where none are known to be visible."""
    headline = "visible" if "visible" in report else "all"
    lines = [f"{headline} points of {report['sweeps']} sweeps", *semantic_lines(report[headline])]
    lines += [f"{part} points: {mean_line(report[part])}" for part in ("labelled", "all") if part != headline]
    if "geometry" in report:
        geometry = report["geometry"]
        lines.append(
            f"of hidden points in view {percent(geometry['false_share'])} labelled all the same, "
            f"{percent(geometry['wrong_share'])} wrongly, of visible ones {percent(geometry['lost_share'])} not; "
            f"precision of things {percent(geometry['thing_precision'])}"
        )
    return lines + (panoptic_lines(report["panoptic"]) if "panoptic" in report else [])


def panoptic_lines(report: dict[str, Any]) -> list[str]:
    """One line for all, things and stuff."""
    return [
        f"{group:<16}PQ {percent(entry['pq'])}, SQ {percent(entry['sq'])}, RQ {percent(entry['rq'])}"
        for group, entry in report.items()
        if group in ("all", "things", "stuff")
    ]


def percent(value: float | None) -> str:
    """With one decimal; a dash where there is no number."""
    return "-" if value is None else f"{100 * value:.1f} %"


def number(value: float) -> float | None:
    """As JSON knows it: None for NaN."""
    return None if np.isnan(value) else float(value)
