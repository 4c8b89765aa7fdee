"""The tables of `make accuracy-labels` say what the figures say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def accuracy_labels(project_root: Path) -> ModuleType:
    path = project_root / "benchmarks" / "accuracy_labels.py"
    spec = importlib.util.spec_from_file_location("accuracy_labels", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_figure_has_its_place_in_a_table(
    accuracy_labels: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    means = {"mean_iou": 0.5, "coverage": 0.75}
    speed = {"ONNX Runtime": {"ratio": 2.96}, "OpenVINO": {"refused": "model x: OpenVINO cannot compile it"}}
    figures = {
        "model": "street.onnx",
        "bytes": 11_400_000,
        "simulator": {"size": "1024x512", "cpu_s": 1.25},
        "unseen": {"pictures": 64, "semantic": {**means, "pixel_accuracy": 0.9, "classes": {"car": {"iou": 0.8}}}},
        "points": {
            "data": "a/drive.mcap",
            "sweeps": 50,
            "visible": {**means, "point_accuracy": 0.6, "classes": {"car": {"iou": None}}},
        },
        "int8": {"cpu": {"bytes": 3e6, "mean_iou": 0.5, "mean_iou_int8": 0.49, "agreement": 0.98, "speed": speed}},
        "export": {"pictures": 8, "difference": 2e-6, "agreement": 0.99999},
        "real": {"pjlab": {"pictures": 2, "agreement": 0.7, "iou": {"road": 0.9}}},
    }
    tables = accuracy_labels.tables(figures)
    assert "| car | 80.0 % | - |" in tables["labels unseen"]
    assert "`street.onnx`, 11.4 MB. Pixels: 64 pictures of 1024x512" in tables["labels unseen"]
    assert "Drawing a picture took 1.2 s of CPU time" in tables["labels unseen"]
    row = "| cpu | 3.0 MB | 50.0 % | 49.0 % | 1.00 points | 98.0 % | ONNX Runtime 3.0x, OpenVINO refuses it |"
    assert row in tables["labels int8"]
    assert "2.0e-06 of the largest, and 99.9990% of the labels" in tables["labels export"]
    assert "| pjlab (2) | 70.0 % | road 90.0 % |" in tables["labels real"]

    page = tmp_path / "accuracy.md"
    page.write_text("before\n<!-- labels real -->\nNot measured yet.\n<!-- end -->\nafter\n")
    monkeypatch.setattr(accuracy_labels, "PAGE", page)
    accuracy_labels.write_block("labels real", tables["labels real"])
    assert page.read_text().startswith("before\n<!-- labels real -->\n| pictures |")
    assert page.read_text().endswith("|\n<!-- end -->\nafter\n")


def test_the_page_has_a_place_for_every_table(accuracy_labels: ModuleType, project_root: Path) -> None:
    page = (project_root / "docs" / "accuracy.md").read_text(encoding="utf-8")
    for name in ("unseen", "int8", "export", "real"):
        assert f"<!-- labels {name} -->" in page
