"""What the figures of recorded drives count, on a handful of points."""

from __future__ import annotations

import sys

import numpy as np
import pytest

ROAD, CAR, PERSON, UNKNOWN = 0, 13, 11, 255


@pytest.fixture
def bench(project_root, monkeypatch):
    monkeypatch.syspath_prepend(str(project_root / "benchmarks"))
    monkeypatch.delitem(sys.modules, "real_drives", raising=False)
    import real_drives

    return real_drives


@pytest.fixture
def sweep(bench):
    def make(points, class_id, places, distance):
        index = np.arange(len(points), dtype=np.int32)
        seen = [(index, np.asarray(places, float), np.asarray(distance, np.float32))]
        return bench.Sweep(np.asarray(points, float), np.asarray(class_id, np.uint8), seen, 0.0)

    return make


def test_a_car_seen_through_a_car_is_counted_and_its_own_length_is_not(bench, sweep):
    points = [[5, 0, 0], [6.5, 0, 0], [30, 0, 0], [5, 3, 0]]
    places = [(2.2, 2.2), (2.4, 2.3), (2.6, 2.6), (40.0, 2.0)]
    seen = sweep(points, [CAR] * 4, places, [5, 6.5, 30, 6])
    figures = bench.measure([seen], [seen])
    assert figures["behind"] == pytest.approx(1 / 4)


def test_a_point_behind_another_may_stay_unknown_and_one_before_all_may_not(bench, sweep):
    points, places, distance = [[5, 0, 0], [30, 0, 0], [8, 8, 0]], [(2.2, 2.2), (2.6, 2.6), (40.0, 2.0)], [5, 30, 11]
    in_view = sweep(points, [CAR] * 3, places, distance)
    assert bench.measure([sweep(points, [CAR, UNKNOWN, CAR], places, distance)], [in_view])["unknown"] == 0.0
    assert bench.measure([sweep(points, [CAR, UNKNOWN, UNKNOWN], places, distance)], [in_view])["unknown"] == 0.5


def test_labels_that_flicker_are_told_and_what_is_far_is_not_compared(bench, sweep):
    points, places, distance = [[5, 0, 0], [5, 0.05, 0], [9, 0, 0]], [(1.0, 1.0), (9.0, 1.0), (20.0, 1.0)], [5, 5, 9]
    one, two = (sweep(points, labels, places, distance) for labels in ([CAR, CAR, ROAD], [CAR, PERSON, UNKNOWN]))
    figures = bench.measure([one, two], [one, two])
    assert figures["again"] == pytest.approx(1 / 2)
    assert figures["beside"] == pytest.approx(2 / 4)
    assert figures["map"] == pytest.approx(1 / 5)


def test_without_the_recordings_it_says_so(bench, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["real_drives.py"])
    bench.main()
    assert "does not exist" in capsys.readouterr().out
