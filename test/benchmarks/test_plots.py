"""The pictures of the pages, drawn from figures that a benchmark may leave."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

COUNTS = {"hidden": 100, "visible": 1000, "things": 200}
STATIC = {
    "naive": {**COUNTS, "hidden_painted": 100, "visible_unknown": 40, "things_correct": 130},
    "ours & its edges": {**COUNTS, "hidden_painted": 8, "visible_unknown": 19, "things_correct": 199},
}
CASES = {
    "120000 points, 1 camera(s)": {"copy": 0.1, "naive numpy: no lens, motion, occlusion": 6.0},
    "120000 points, 6 camera(s)": {"copy": 0.1, "naive numpy: no lens, motion, occlusion": 15.0},
    "260000 points, 1 camera(s)": {"copy": 0.2, "naive numpy: no lens, motion, occlusion": 9.0},
}
GROWTH = {"60000 x 1": 1.0, "120000 x 1": 2.0, "960000 x 1": 16.0, "120000 x 2": 3.0, "120000 x 8": 9.0}


@pytest.fixture
def plots(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(project_root / "benchmarks")
    return importlib.import_module("plots")


def test_every_method_lies_where_its_shares_are_and_has_a_row_of_the_legend(plots):
    figure = plots.accuracy({"static": STATIC})
    hidden, wrong = ([line.get_xydata()[0].tolist() for line in axes.lines] for axes in figure.axes)
    assert hidden == [pytest.approx([4.0, 100.0]), pytest.approx([1.9, 8.0])]
    assert wrong == [pytest.approx([4.0, 35.0]), pytest.approx([1.9, 0.5])]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["1  naive", "2  ours & its edges"]


def test_the_line_goes_through_costs_that_grow_evenly(plots):
    figure = plots.performance({"cases": CASES, "growth": GROWTH})
    by_points, by_cameras = ({line.get_label(): line.get_xydata() for line in axes.lines} for axes in figure.axes)
    assert by_points["its line"][0] == pytest.approx((0.0, 0.0))  # nothing for no points
    assert by_cameras["its line"][0] == pytest.approx((0.0, 1.0))  # 1 ms before the first camera
    assert by_points["naive numpy: no lens, motion, occlusion"].tolist() == [[120.0, 6.0], [260.0, 9.0]]
    assert figure.axes[1].get_title() == "milliseconds, 120,000 points"


def test_every_mark_lies_in_its_diagram(plots):
    for figure in (plots.performance({"cases": CASES, "growth": GROWTH}), plots.accuracy({"static": STATIC})):
        for axes in figure.axes:
            for line in axes.lines:
                x, y = line.get_xydata().T
                assert axes.get_xlim()[0] <= min(x) and max(x) <= axes.get_xlim()[1]
                assert axes.get_ylim()[0] <= min(y) and max(y) <= axes.get_ylim()[1]


def test_the_picture_is_drawn_from_the_figures_that_the_command_left(plots, tmp_path: Path):
    docs = tmp_path / "docs"
    (tmp_path / "projection.json").write_text(json.dumps({"cases": CASES, "growth": GROWTH}), encoding="utf-8")
    plots.draw("performance.svg", tmp_path, docs)
    assert not docs.exists()  # as where the package is run without its pages
    docs.mkdir()
    plots.draw("performance.svg", tmp_path, docs)
    first = (docs / "performance.svg").read_bytes()
    plots.draw("performance.svg", tmp_path, docs)
    assert first == (docs / "performance.svg").read_bytes() and b"<svg" in first
