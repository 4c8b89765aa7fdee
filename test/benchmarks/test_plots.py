"""The pictures of the pages, drawn from figures that a benchmark may leave."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

SVG = "{http://www.w3.org/2000/svg}"
COUNTS = {"hidden": 100, "visible": 1000, "things": 200}
STATIC = {
    "naive": {**COUNTS, "hidden_painted": 100, "visible_unknown": 40, "things_correct": 130},
    "ours & its edges": {**COUNTS, "hidden_painted": 8, "visible_unknown": 19, "things_correct": 199},
}
CASES = {
    "120000 points, 1 camera(s)": {"copy": 0.1, "naive numpy: no lens": 6.0},
    "120000 points, 6 camera(s)": {"copy": 0.1, "naive numpy: no lens": 15.0},
    "260000 points, 1 camera(s)": {"copy": 0.2, "naive numpy: no lens": 9.0},
}
GROWTH = {"60000 x 1": 1.0, "120000 x 1": 2.0, "960000 x 1": 16.0, "120000 x 2": 3.0, "120000 x 8": 9.0}


@pytest.fixture
def plots(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(project_root / "benchmarks")
    return importlib.import_module("plots")


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_every_method_has_its_mark_in_both_diagrams_and_a_row_of_the_legend(plots):
    svg = plots.accuracy({"static": STATIC})
    assert [text for text in texts(svg) if text in STATIC] == [*STATIC]
    assert texts(svg).count("1") >= 3 and texts(svg).count("2") >= 3
    assert len(list(ElementTree.fromstring(svg).iter(f"{SVG}circle"))) == 3 * len(STATIC)


@pytest.mark.parametrize(("place", "at"), [((0.0, 1.0), (0.0, 250.0)), ((5.0, 10.0), (190.0, 125.0))])
def test_a_logarithmic_axis_gives_each_decade_as_much_room(plots, place, at):
    panel = plots.Panel("", "", (0.0, 10.0), (1.0, 100.0), y_log=True)
    assert panel.at(place) == pytest.approx(at)


def test_the_line_goes_through_costs_that_grow_evenly(plots):
    svg = plots.performance({"cases": CASES, "growth": GROWTH})
    by_points, by_cameras = (
        [tuple(map(float, place.split(","))) for place in line.attrib["points"].split()]
        for line in ElementTree.fromstring(svg).iter(f"{SVG}polyline")
    )
    assert by_points[0] == pytest.approx((0.0, plots.HEIGHT))  # nothing for no points
    assert by_cameras[0][1] == pytest.approx(plots.HEIGHT * (1.0 - 1.0 / 20.0))  # 1 ms before the first camera
    assert "milliseconds, 120,000 points" in texts(svg)


def test_every_mark_lies_in_its_diagram(plots):
    for svg in (plots.performance({"cases": CASES, "growth": GROWTH}), plots.accuracy({"static": STATIC})):
        for group in ElementTree.fromstring(svg).iter(f"{SVG}g"):
            for circle in group.iter(f"{SVG}circle"):
                assert 0.0 <= float(circle.attrib["cx"]) <= plots.WIDTH
                assert 0.0 <= float(circle.attrib["cy"]) <= plots.HEIGHT


def test_the_picture_is_drawn_from_the_figures_that_the_command_left(plots, tmp_path: Path):
    docs = tmp_path / "docs"
    (tmp_path / "projection.json").write_text(json.dumps({"cases": CASES, "growth": GROWTH}), encoding="utf-8")
    plots.draw("performance.svg", tmp_path, docs)
    assert not docs.exists()  # as where the package is run without its pages
    docs.mkdir()
    plots.draw("performance.svg", tmp_path, docs)
    assert ElementTree.parse(docs / "performance.svg").getroot().tag == f"{SVG}svg"
