"""Metrics as a table for people and as a mapping for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_perception.evaluation.metrics import ConfusionMatrix, PanopticScores


def semantic_report(matrix: ConfusionMatrix, names: Sequence[str]) -> dict[str, Any]:
    """Everything that a confusion matrix tells, fit for JSON: None where there is no number."""
    return {
        "mean_iou": _number(matrix.mean_iou),
        "pixel_accuracy": _number(matrix.pixel_accuracy),
        "coverage": _number(matrix.coverage),
        "pixels": int(matrix.counts.sum()),
        "classes": {
            name: {
                "iou": _number(matrix.iou[k]),
                "recall": _number(matrix.recall[k]),
                "precision": _number(matrix.precision[k]),
                "pixels": int(matrix.counts[k].sum()),
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
            group: dict(zip(("pq", "sq", "rq"), map(_number, scores.mean(chosen)), strict=True))
            for group, chosen in groups.items()
        },
        "classes": {
            name: {"pq": _number(scores.pq[k]), "sq": _number(scores.sq[k]), "rq": _number(scores.rq[k])}
            for k, name in enumerate(names)
        },
    }


def semantic_lines(report: dict[str, Any]) -> list[str]:
    """A table, one line a class."""
    lines = [f"{'class':<16}{'IoU':>8}{'recall':>8}{'precision':>11}{'pixels':>13}"]
    for name, entry in report["classes"].items():
        values = f"{_percent(entry['iou']):>8}{_percent(entry['recall']):>8}{_percent(entry['precision']):>11}"
        lines.append(f"{name:<16}{values}{entry['pixels']:>13,}")
    lines.append(
        f"mean IoU {_percent(report['mean_iou'])}, pixel accuracy {_percent(report['pixel_accuracy'])}, "
        f"labelled {_percent(report['coverage'])} of {report['pixels']:,} pixels"
    )
    return lines


def panoptic_lines(report: dict[str, Any]) -> list[str]:
    """One line for all, things and stuff."""
    return [
        f"{group:<16}PQ {_percent(entry['pq'])}, SQ {_percent(entry['sq'])}, RQ {_percent(entry['rq'])}"
        for group, entry in report.items()
        if group != "classes"
    ]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
