import numpy as np
import pytest

from seg_perception.datatypes import UNKNOWN
from seg_perception.evaluation.geometry import GeometryScore, score_labels

ROAD, CAR = 0, 13
IS_THING = np.zeros(256, bool)
IS_THING[CAR] = True


def test_every_kind_of_point_is_counted_once_where_it_belongs():
    truth = np.array([CAR, CAR, ROAD, ROAD, CAR, ROAD], np.uint8)
    class_id = np.array([CAR, UNKNOWN, CAR, ROAD, UNKNOWN, UNKNOWN], np.uint8)
    in_view = np.array([[1, 1, 1, 1, 1, 0]], bool)
    visible = np.array([[1, 1, 0, 1, 0, 0]], bool)
    score = score_labels(class_id, truth, in_view, visible, IS_THING)
    assert score == GeometryScore(3, 2, 2, 1, 3, 1, 2, 1, hidden_wrong=1)
    assert score.correct_share == pytest.approx(2 / 3)
    assert (score.false_share, score.wrong_share, score.thing_precision) == (0.5, 0.5, 0.5)
    assert score.lost_share == pytest.approx(1 / 3)


def test_a_point_that_any_camera_sees_is_visible():
    in_view, visible = np.array([[1], [1]], bool), np.array([[0], [1]], bool)
    score = score_labels(np.array([UNKNOWN], np.uint8), np.array([CAR], np.uint8), in_view, visible, IS_THING)
    assert (score.hidden, score.visible, score.visible_unknown) == (0, 1, 1)


def test_a_hidden_point_painted_with_its_own_label_is_not_painted_wrongly():
    nobody = np.zeros((1, 1), bool)
    score = score_labels(np.array([CAR], np.uint8), np.array([CAR], np.uint8), ~nobody, nobody, IS_THING)
    assert (score.false_share, score.wrong_share) == (1.0, 0.0)


def test_scores_add_up_and_nothing_counted_is_nan():
    assert GeometryScore(painted=3, correct=1) + GeometryScore(painted=1, correct=1) == GeometryScore(4, 2)
    assert np.isnan(GeometryScore().lost_share)
