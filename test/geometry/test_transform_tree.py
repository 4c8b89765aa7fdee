"""The transform tree: what the real tf2 answered, and facts of our own."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_perception.errors import (
    DisconnectedError,
    ExtrapolationError,
    FarStampError,
    MessageError,
    StampError,
    TransformLoopError,
    UnknownFrameError,
)
from seg_perception.geometry import transform_tree
from seg_perception.geometry.transform_edges import CONVINCED, MovingEdge, Query
from seg_perception.geometry.transform_tree import LATEST, TransformTree
from seg_perception.geometry.transforms import from_quat_translation, inverse, transform_points

S = 1_000_000_000
T0 = 1_700_000_000 * S
STILL = (0.0, 0.0, 0.0, 1.0)
KINDS = {
    "LookupException": UnknownFrameError,
    "ConnectivityException": DisconnectedError,
    "ExtrapolationException": ExtrapolationError,
}


def at(x: float, y: float = 0.0, yaw: float = 0.0) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return (x, y, 0.0), (0.0, 0.0, float(np.sin(yaw / 2)), float(np.cos(yaw / 2)))


def position(T: np.ndarray) -> list[float]:
    return np.round(T[..., :3, 3], 9).tolist()


@pytest.fixture
def car() -> TransformTree:
    """A car that drives along x of odom at 10 m/s, one sample in 100 ms; LiDAR 2 m above it, camera 1 m ahead."""
    tree = TransformTree()
    tree.insert("base", "lidar", 0, ((0.0, 0.0, 2.0), STILL), static=True)
    tree.insert("base", "camera", 0, ((1.0, 0.0, 0.0), STILL), static=True)
    for i in range(10):
        tree.insert("odom", "base", T0 + i * S // 10, at(float(i)))
    return tree


# --- the answers of the real tf2 ---


def recorded_cases(shared_data: Path) -> list[tuple[TransformTree, list[dict[str, Any]]]]:
    cases = []
    for case in json.loads((shared_data / "tf2_answers.json").read_text())["cases"]:
        tree = TransformTree(cache_ns=int(case["cache_s"]) * S)
        for edge in case["inserts"]:
            pose = (edge["translation"], edge["quat_xyzw"])
            tree.insert(edge["parent"], edge["child"], edge["stamp_ns"], pose, static=edge["static"])
        cases.append((tree, case["queries"]))
    return cases


def ask(tree: TransformTree, query: dict[str, Any]) -> np.ndarray:
    if "fixed" not in query:
        return tree.T(query["target"], query["source"], query["stamp_ns"])
    target, source = (query["target"], query["target_stamp_ns"]), (query["source"], query["source_stamp_ns"])
    return tree.T_fixed(*target, *source, query["fixed"])


def test_every_recorded_answer_of_tf2_is_given(shared_data: Path) -> None:
    answered = 0
    for tree, queries in recorded_cases(shared_data):
        for query in queries:
            answer = query["answer"]
            if "error" in answer:
                with pytest.raises(KINDS[answer["error"]]) as caught:
                    ask(tree, query)
                assert caught.type is KINDS[answer["error"]], query
            else:
                wanted = from_quat_translation(answer["quat_xyzw"], answer["translation"])
                np.testing.assert_allclose(ask(tree, query), wanted, rtol=0.0, atol=1e-9, err_msg=str(query))
            answered += 1
    assert answered == 1200


def test_latest_common_stamp_is_the_one_tf2_reports(shared_data: Path) -> None:
    compared = 0
    for tree, queries in recorded_cases(shared_data):
        for query in queries:
            asks_latest = query.get("stamp_ns") == LATEST and query["target"] != query["source"]
            if asks_latest and "error" not in query["answer"]:
                assert tree.latest_common_ns(query["target"], query["source"]) == query["answer"]["stamp_ns"]
                compared += 1
    assert compared > 20


def test_many_recorded_stamps_at_once_give_the_answers_of_each(shared_data: Path) -> None:
    compared = 0
    for tree, queries in recorded_cases(shared_data):
        asked: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for query in queries:
            if query.get("stamp_ns", LATEST) != LATEST and "error" not in query["answer"]:
                asked.setdefault((query["target"], query["source"]), []).append(query)
        for (target, source), group in asked.items():
            Ts = tree.T(target, source, np.array([query["stamp_ns"] for query in group]))
            for T, query in zip(Ts, group, strict=True):
                wanted = from_quat_translation(query["answer"]["quat_xyzw"], query["answer"]["translation"])
                np.testing.assert_allclose(T, wanted, rtol=0.0, atol=1e-9)
                compared += 1
    assert compared == 482


# --- chains and directions ---


def test_transform_carries_a_point_of_source_into_target(car: TransformTree) -> None:
    T_odom_lidar = car.T("odom", "lidar", T0 + S // 2)
    np.testing.assert_allclose(transform_points(T_odom_lidar, [[1.0, 0.0, 0.0]]), [[6.0, 0.0, 2.0]])
    np.testing.assert_allclose(car.T("lidar", "odom", T0 + S // 2), inverse(T_odom_lidar), atol=1e-15)


def test_static_frames_below_a_moving_one_know_each_other_at_any_stamp(car: TransformTree) -> None:
    assert position(car.T("camera", "lidar", T0 - 100 * S)) == [-1.0, 0.0, 2.0]
    assert position(car.T("camera", "lidar", LATEST)) == [-1.0, 0.0, 2.0]
    assert car.latest_common_ns("camera", "lidar") == 0


def test_frame_seen_from_itself_is_identity_even_where_nothing_is_known() -> None:
    tree = TransformTree()
    np.testing.assert_array_equal(tree.T("lidar", "lidar", T0), np.eye(4))
    np.testing.assert_array_equal(tree.T("lidar", "/lidar", np.array([T0, T0])), [np.eye(4)] * 2)


def test_point_seen_earlier_lies_behind_the_car_that_drove_on(car: TransformTree) -> None:
    T = car.T_fixed("base", T0 + S // 2, "base", T0 + S // 5, "odom")
    assert position(T) == [-3.0, 0.0, 0.0]


def test_fixed_frame_takes_a_stamp_for_each_point(car: TransformTree) -> None:
    stamps_ns = T0 + np.array([0, S // 20, S // 10])
    T = car.T_fixed("camera", T0, "lidar", stamps_ns, "odom")
    assert position(T) == [[-1.0, 0.0, 2.0], [-0.5, 0.0, 2.0], [0.0, 0.0, 2.0]]


def test_latest_common_stamp_is_that_of_the_slowest_edge(car: TransformTree) -> None:
    car.insert("map", "odom", T0 + S // 4, at(100.0))
    assert car.latest_common_ns("map", "lidar") == T0 + S // 4
    assert position(car.T("map", "lidar", T0 + S // 4)) == [102.5, 0.0, 2.0]
    np.testing.assert_array_equal(car.T("map", "lidar", LATEST), car.T("map", "lidar", T0 + S // 4))


def test_leading_slash_is_no_part_of_a_name(car: TransformTree) -> None:
    car.insert("/base", "/radar", 0, at(3.0), static=True)
    np.testing.assert_array_equal(car.T("/camera", "/radar", T0), car.T("camera", "radar", T0))
    assert car.frames() == ("base", "camera", "lidar", "odom", "radar")


def test_matrix_and_quaternion_say_the_same() -> None:
    pose = at(1.0, 2.0, yaw=2.5)
    by_matrix, by_quat = TransformTree(), TransformTree()
    by_matrix.insert("a", "b", T0, from_quat_translation(pose[1], pose[0]))
    by_quat.insert("a", "b", T0, pose)
    np.testing.assert_allclose(by_matrix.T("a", "b", T0), by_quat.T("a", "b", T0), atol=1e-15)


# --- time ---


def test_between_samples_the_way_is_straight_and_the_turn_even() -> None:
    tree = TransformTree()
    tree.insert("odom", "base", T0, at(0.0))
    tree.insert("odom", "base", T0 + S, at(4.0, 8.0, yaw=np.pi / 2))
    np.testing.assert_allclose(
        tree.T("odom", "base", T0 + S // 4), from_quat_translation(at(0, yaw=np.pi / 8)[1], (1.0, 2.0, 0.0)), atol=1e-15
    )


def test_order_of_insertion_does_not_matter() -> None:
    in_order, shuffled = TransformTree(), TransformTree()
    samples = [(T0 + i * S // 20, at(np.sin(i), np.cos(i), yaw=i / 7)) for i in range(100)]
    for i in range(100):
        in_order.insert("odom", "base", *samples[i])
        shuffled.insert("odom", "base", *samples[i * 37 % 100])
    stamps_ns = T0 + np.linspace(0, 99 * S // 20, 333).astype(np.int64)
    np.testing.assert_array_equal(shuffled.T("odom", "base", stamps_ns), in_order.T("odom", "base", stamps_ns))


def test_of_equal_stamps_the_last_counts_from_there_on() -> None:
    tree = TransformTree()
    for stamp_ns, x in [(T0, 0.0), (T0 + S, 10.0), (T0 + S, 15.0), (T0 + S, 20.0), (T0 + 2 * S, 30.0)]:
        tree.insert("odom", "base", stamp_ns, at(x))
    assert position(tree.T("odom", "base", T0 + S)) == [20.0, 0.0, 0.0]
    assert position(tree.T("odom", "base", T0 + 3 * S // 2)) == [25.0, 0.0, 0.0]
    assert position(tree.T("odom", "base", T0 + S // 2)) == [5.0, 0.0, 0.0]  # tf2 goes towards the first of them
    assert tree.edges()[0].samples == 4


def test_of_equal_stamps_the_last_counts_when_there_are_no_others() -> None:
    tree = TransformTree()
    tree.insert("odom", "base", T0, at(1.0))
    tree.insert("odom", "base", T0, at(2.0))
    assert position(tree.T("odom", "base", T0)) == [2.0, 0.0, 0.0]


def test_publisher_whose_clock_stands_still_takes_no_memory() -> None:
    tree = TransformTree()
    for x in range(1000):
        tree.insert("odom", "base", T0, at(float(x)))
    assert tree.edges()[0].samples == 2
    assert position(tree.T("odom", "base", T0)) == [999.0, 0.0, 0.0]


def test_stamp_outside_is_refused_with_frames_interval_and_distance(car: TransformTree) -> None:
    with pytest.raises(ExtrapolationError) as late:
        car.T("camera", "odom", T0 + S + 7)
    for part in ("'camera' <- 'odom'", "1700000001.000000007 s", "odom -> base", "1700000000.900000000 s"):
        assert part in str(late.value)
    assert "0.100000007 s after the newest" in str(late.value)
    with pytest.raises(ExtrapolationError, match=r"0\.000000001 s before the oldest"):
        car.T("camera", "odom", T0 - 1)


def test_one_stamp_outside_refuses_the_whole_array(car: TransformTree) -> None:
    with pytest.raises(ExtrapolationError, match=r"0\.050000000 s after the newest"):
        car.T("odom", "lidar", T0 + np.array([0, 950_000_000, 100]))


def test_single_sample_answers_for_its_own_stamp_only() -> None:
    tree = TransformTree()
    tree.insert("odom", "base", T0, at(5.0))
    assert position(tree.T("odom", "base", np.array([T0, T0]))) == [[5.0, 0.0, 0.0]] * 2
    with pytest.raises(ExtrapolationError):
        tree.T("odom", "base", T0 + 1)


def test_no_stamps_give_no_transforms(car: TransformTree) -> None:
    assert car.T("odom", "lidar", np.empty(0, np.int64)).shape == (0, 4, 4)
    assert car.T_fixed("odom", T0, "lidar", np.empty(0, np.int64), "odom").shape == (0, 4, 4)


def test_tolerance_lets_the_car_drive_on_at_its_last_speed_and_no_further() -> None:
    tree = TransformTree(tolerance_ns=S // 20)
    for i in range(10):
        tree.insert("odom", "base", T0 + i * S // 10, at(float(i)))
    newest_ns = T0 + 9 * S // 10
    assert position(tree.T("odom", "base", newest_ns + S // 20)) == [9.5, 0.0, 0.0]
    assert position(tree.T("odom", "base", np.array([T0 - S // 50, T0 + S // 20]))) == [[-0.2, 0.0, 0.0], [0.5, 0, 0]]
    with pytest.raises(ExtrapolationError, match=r"tolerance 0\.050000000 s"):
        tree.T("odom", "base", newest_ns + S // 20 + 1)


def test_two_samples_close_together_do_not_fling_the_car_away() -> None:
    tree = TransformTree(tolerance_ns=S // 10)
    tree.insert("odom", "base", T0, at(0.0))
    tree.insert("odom", "base", T0 + S, at(10.0))
    tree.insert("odom", "base", T0 + S + 1000, at(10.1))
    assert tree.T("odom", "base", T0 + S + S // 10)[0, 3] == pytest.approx(11.1, abs=0.01)
    tree.insert("odom", "base", T0 + 1000, at(0.1))
    assert tree.T("odom", "base", T0 - S // 10)[0, 3] == pytest.approx(-1.0, abs=0.01)


def test_history_shorter_than_the_tolerance_stands_still_outside() -> None:
    tree = TransformTree(tolerance_ns=S)
    tree.insert("odom", "base", T0, at(0.0))
    tree.insert("odom", "base", T0 + 1000, at(1.0))
    assert position(tree.T("odom", "base", T0 + S)) == [1.0, 0.0, 0.0]
    assert position(tree.T("odom", "base", T0 - S // 2)) == [0.0, 0.0, 0.0]


def test_cache_forgets_what_is_older_than_it_keeps() -> None:
    tree = TransformTree(cache_ns=S)
    for i in range(1000):
        tree.insert("odom", "base", T0 + i * S // 10, at(float(i)))
    (span,) = tree.edges()
    assert span.samples == 12
    assert span.newest_ns == T0 + 999 * S // 10
    assert span.oldest_ns == T0 + 988 * S // 10  # counted from the newest before the last one came, as in tf2
    with pytest.raises(StampError, match=r"1\.000000000 s are kept"):
        tree.insert("odom", "base", T0, at(0.0))


def test_tree_for_a_bag_keeps_everything() -> None:
    tree = TransformTree(cache_ns=None)
    for i in range(100):
        tree.insert("odom", "base", T0 + i * 60 * S, at(float(i)))
    assert position(tree.T("odom", "base", T0 + 30 * S)) == [0.5, 0.0, 0.0]


def test_after_clear_moving_edges_are_empty_and_static_ones_stand(car: TransformTree) -> None:
    car.clear()
    assert position(car.T("camera", "lidar", T0)) == [-1.0, 0.0, 2.0]
    with pytest.raises(ExtrapolationError, match="no sample since the last clear"):
        car.T("odom", "lidar", T0)
    with pytest.raises(DisconnectedError):
        car.T("odom", "lidar", LATEST)
    car.insert("odom", "base", T0 - 3600 * S, at(7.0))
    assert position(car.T("odom", "base", LATEST)) == [7.0, 0.0, 0.0]


stamps_within = st.lists(st.integers(0, 9 * S // 10), min_size=1, max_size=30)


@given(stamps_within, st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_many_stamps_at_once_are_the_same_as_one_by_one(offsets_ns: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    tree = TransformTree()
    tree.insert("base", "lidar", 0, (rng.normal(size=3), STILL), static=True)
    for parent, child in (("map", "odom"), ("odom", "base")):
        for stamp_ns in (0, *rng.integers(0, S, 20), S):
            quat_xyzw = rng.normal(size=4)
            tree.insert(parent, child, T0 + stamp_ns, (rng.normal(size=3), quat_xyzw / np.linalg.norm(quat_xyzw)))
    stamps_ns = T0 + np.array(offsets_ns)
    for target, source in (("map", "lidar"), ("lidar", "odom")):
        one_by_one = [tree.T(target, source, stamp_ns) for stamp_ns in stamps_ns.tolist()]
        np.testing.assert_allclose(tree.T(target, source, stamps_ns), one_by_one, rtol=0.0, atol=1e-12)


# --- what is refused ---


def test_unknown_frame_is_named_with_those_known(car: TransformTree) -> None:
    with pytest.raises(UnknownFrameError, match=r"'sonar'.*base, camera, lidar, odom"):
        car.T("base", "sonar", T0)
    with pytest.raises(UnknownFrameError):
        car.T_fixed("base", T0, "base", T0, "map")
    with pytest.raises(UnknownFrameError):
        car.latest_common_ns("sonar", "base")


def test_frames_of_two_trees_are_disconnected(car: TransformTree) -> None:
    car.insert("trailer", "hook", 0, at(1.0), static=True)
    with pytest.raises(DisconnectedError, match=r"'hook' is below 'trailer', 'lidar' below 'odom'"):
        car.T("lidar", "hook", T0)
    assert not car.can_transform("lidar", "hook", T0)
    assert car.can_transform("lidar", "camera", T0)


@pytest.mark.parametrize(
    ("parent", "child", "pose", "static"),
    [
        ("", "base", at(0.0), False),
        ("odom", "/", at(0.0), False),
        ("odom", "base", ((np.nan, 0.0, 0.0), STILL), False),
        ("odom", "base", ((0.0, 0.0, np.inf), STILL), True),
        ("odom", "base", ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0)), True),
        ("odom", "base", ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.01)), False),
        ("odom", "base", ((0.0, 0.0), STILL), False),
        ("odom", "base", np.diag([1.0, 1.0, -1.0, 1.0]), False),
        ("odom", "base", np.full((4, 4), np.nan), False),
        ("odom", "base", ((0.0, -1e9, 0.0), STILL), False),
    ],
    ids=["no parent", "no child", "nan", "inf", "zero quat", "long quat", "2d", "mirror", "nan matrix", "nowhere"],
)
def test_what_is_no_transform_is_refused_and_leaves_no_trace(parent: str, child: str, pose: Any, static: bool) -> None:
    tree = TransformTree()
    with pytest.raises(MessageError, match=r"transform '.*' -> '.*'"):
        tree.insert(parent, child, T0, pose, static=static)
    assert tree.frames() == ()
    assert tree.edges() == ()


def test_quaternion_within_what_tf2_accepts_is_brought_to_unit_length() -> None:
    tree = TransformTree()
    tree.insert("odom", "base", T0, ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.004)))
    tree.insert("odom", "base", T0 + S, ((0.0, 0.0, 0.0), (0.0, 0.0, 0.996, 0.0)))
    np.testing.assert_array_equal(tree.T("odom", "base", T0), np.eye(4))
    np.testing.assert_allclose(tree.T("odom", "base", T0 + S // 2)[:2, 0], [0.0, 1.0], atol=1e-15)


@pytest.mark.parametrize("stamp_ns", [0, -1])
def test_moving_transform_without_a_stamp_is_refused(stamp_ns: int) -> None:
    with pytest.raises(StampError, match="wanted the time of measurement"):
        TransformTree().insert("odom", "base", stamp_ns, at(0.0))


def test_stamps_that_are_no_instants_are_refused(car: TransformTree) -> None:
    with pytest.raises(StampError, match="2 of 3 are 0"):
        car.T("odom", "base", np.array([0, T0, 0]))
    with pytest.raises(StampError, match="float64"):
        car.T("odom", "base", np.array([T0 / 1.0]))


def test_frame_below_itself_is_refused(car: TransformTree) -> None:
    with pytest.raises(TransformLoopError, match="below itself"):
        car.insert("base", "/base", T0, at(0.0))


def test_edge_that_closes_a_loop_is_refused_and_leaves_the_tree_as_it_was(car: TransformTree) -> None:
    before = car.edges()
    with pytest.raises(TransformLoopError, match="odom below lidar below base below odom"):
        car.insert("lidar", "odom", T0 + S // 2, at(0.0))
    with pytest.raises(TransformLoopError):
        car.insert("camera", "odom", 0, at(0.0), static=True)
    assert car.edges() == before


@pytest.mark.parametrize("ahead_ns", [0, 5 * S])
def test_a_message_that_turned_the_tree_round_stands_against_right_ones_for_a_second(
    car: TransformTree, ahead_ns: int
) -> None:
    """One that names another parent of `base`, and `base` as the parent of `odom`."""
    car.insert("odo", "base", T0 + S, at(0.0))
    car.insert("base", "odom", T0 + S + ahead_ns, at(0.0))
    if not ahead_ns:
        with pytest.raises(TransformLoopError, match="base below odom below base"):
            car.insert("odom", "base", T0 + 2 * S, at(20.0))
    car.insert("odom", "base", T0 + 2 * S + 1, at(20.0))
    car.insert("odom", "base", T0 + 3 * S + 1, at(30.0))
    assert position(car.T("odom", "camera", T0 + 2 * S + S // 2 + 1)) == pytest.approx([26.0, 0.0, 0.0])


# --- frames that change parent, and kind ---


def test_frame_that_changes_parent_is_answered_by_the_parent_of_each_stamp() -> None:
    tree = TransformTree()
    tree.insert("map", "table", 0, at(100.0), static=True)
    tree.insert("map", "hand", 0, at(200.0), static=True)
    for offset_ns, parent, x in [(0, "table", 0.0), (S, "table", 1.0), (2 * S, "hand", 5.0), (3 * S, "hand", 7.0)]:
        tree.insert(parent, "cup", T0 + offset_ns, at(x))
    stamps_ns = T0 + np.array([3 * S, 0, S // 2, 3 * S // 2, 2 * S, 5 * S // 2])
    wanted_x = [207.0, 100.0, 100.5, 101.0, 205.0, 206.0]  # between the parents the older sample stands, as in tf2
    assert tree.T("map", "cup", stamps_ns)[:, 0, 3].tolist() == wanted_x
    assert [tree.T("map", "cup", stamp_ns)[0, 3] for stamp_ns in stamps_ns.tolist()] == wanted_x


def test_of_equal_stamps_below_two_parents_the_last_parent_counts() -> None:
    tree = TransformTree()
    tree.insert("map", "hand", 0, at(200.0), static=True)
    tree.insert("map", "cup", T0, at(1.0))
    tree.insert("hand", "cup", T0, at(2.0))
    tree.insert("hand", "cup", T0 + S, at(3.0))
    assert position(tree.T("map", "cup", T0 + np.array([0, S // 2]))) == [[202.0, 0.0, 0.0], [202.5, 0.0, 0.0]]


def test_newest_sample_counts_even_where_it_changed_the_parent() -> None:
    tree = TransformTree()
    tree.insert("map", "hand", 0, at(200.0), static=True)
    tree.insert("map", "cup", T0, at(1.0))
    tree.insert("hand", "cup", T0 + S, at(2.0))
    assert position(tree.T("map", "cup", T0 + np.array([0, S]))) == [[1.0, 0.0, 0.0], [202.0, 0.0, 0.0]]


def test_two_frames_may_swap_places_one_after_the_other() -> None:
    tree = TransformTree()
    tree.insert("a", "b", T0, at(1.0))
    tree.insert("map", "b", T0 + S, at(3.0))
    tree.insert("b", "a", T0 + 2 * S, at(1.0))
    tree.insert("map", "b", T0 + 2 * S, at(4.0))
    assert position(tree.T("map", "a", T0 + 2 * S)) == [5.0, 0.0, 0.0]
    with pytest.raises(TransformLoopError):
        tree.insert("a", "b", T0 + 3 * S, at(1.0))


def test_frame_that_just_changed_parent_stands_still_within_the_tolerance() -> None:
    tree = TransformTree(tolerance_ns=S // 10)
    tree.insert("map", "hand", 0, at(200.0), static=True)
    tree.insert("map", "cup", T0, at(1.0))
    tree.insert("hand", "cup", T0 + S, at(2.0))
    assert position(tree.T("map", "cup", T0 + S + S // 10)) == [202.0, 0.0, 0.0]


def test_static_edge_is_refused_where_it_closes_a_loop_at_any_stamp() -> None:
    once_above = TransformTree()
    once_above.insert("a", "b", T0, at(1.0))
    once_above.insert("map", "b", T0 + S, at(3.0))
    once_above.insert("b", "a", T0 + 2 * S, at(1.0))
    with pytest.raises(TransformLoopError):
        once_above.insert("a", "b", T0, at(1.0), static=True)
    by_now_below = TransformTree()
    by_now_below.insert("map", "a", T0, at(1.0))
    by_now_below.insert("b", "a", T0 + S, at(1.0))
    with pytest.raises(TransformLoopError):
        by_now_below.insert("a", "b", 0, at(1.0), static=True)


def test_loop_that_late_samples_closed_is_an_error_when_asked_for_and_no_endless_walk() -> None:
    tree = TransformTree()
    for parent, child, offset_ns in [("map", "a", 0), ("map", "b", 0), ("b", "a", 5 * S), ("a", "b", 3 * S)]:
        tree.insert(parent, child, T0 + offset_ns, at(1.0))
    with pytest.raises(TransformLoopError, match="at the latest stamps"):
        tree.T("map", "a", LATEST)
    tree.insert("map", "b", T0 + 6 * S, at(1.0))
    tree.insert("a", "c", T0 + 5 * S, at(1.0))
    with pytest.raises(TransformLoopError, match="at that instant"):
        tree.T("map", "c", T0 + 5 * S)
    assert position(tree.T("map", "a", T0)) == [1.0, 0.0, 0.0]


def test_static_edge_replaces_a_moving_one_and_the_other_way_round(car: TransformTree) -> None:
    car.insert("odom", "base", 0, at(42.0), static=True)
    assert position(car.T("odom", "base", T0 + 99 * S)) == [42.0, 0.0, 0.0]
    car.insert("odom", "base", T0, at(1.0))
    with pytest.raises(ExtrapolationError):
        car.T("odom", "base", T0 + 99 * S)


def test_edges_name_their_frames_and_the_time_that_they_cover(car: TransformTree) -> None:
    assert [str(edge) for edge in car.edges()] == [
        "odom -> base: 10 samples, 1700000000.000000000 .. 1700000000.900000000 s",
        "base -> camera: static",
        "base -> lidar: static",
    ]
    assert TransformTree().edges() == ()


# --- threads ---


def test_what_a_reader_took_stays_as_it_was_when_the_samples_move() -> None:
    edge = MovingEdge(cache_ns=None)
    for i in range(3):
        edge.insert(T0 + i * S, (float(i), 0.0, 0.0), STILL, "odom")
    query = Query("odom", "base", np.array([T0 + S // 2, T0 + 3 * S // 2]), tolerance_ns=0)
    link = edge.link(query)
    before = link.onto(np.eye(4), query)
    edge.insert(T0 - S, (99.0, 0.0, 0.0), STILL, "odom")
    np.testing.assert_array_equal(link.onto(np.eye(4), query), before)


def test_reader_sees_only_whole_samples_while_a_writer_inserts() -> None:
    forgetful, full = TransformTree(cache_ns=S), TransformTree(cache_ns=None)
    forgetful.insert("odom", "base", T0, at(0.0))
    full.insert("odom", "base", T0, at(0.0))
    done = threading.Event()

    def write() -> None:
        for i in range(1, 4000):
            jitter = (0, 0, -3, 0, 2)[i % 5]  # some late, so that the buffer is shifted under the reader
            for tree in (forgetful, full):
                tree.insert("odom", "base", T0 + (i + jitter) * S // 100, at((i + jitter) * 0.1, (i + jitter) * -0.2))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    try:
        while not done.is_set():
            x, y = forgetful.T("odom", "base", LATEST)[:2, 3]
            assert y == pytest.approx(-2.0 * x)
            newest_ns = full.latest_common_ns("odom", "base")
            stamps_ns = newest_ns - np.arange(0, 3 * S // 100, S // 1000)
            stamps_ns = stamps_ns[stamps_ns >= T0]
            x, y = full.T("odom", "base", stamps_ns)[:, :2, 3].T
            np.testing.assert_allclose(x, (stamps_ns - T0) / S * 10.0, atol=1e-6)
            np.testing.assert_allclose(y, -2.0 * x, atol=1e-6)
            reads += 1
    finally:
        writer.join()
    assert reads > 10


def test_a_sender_of_ever_new_names_is_refused_and_the_known_frames_go_on(monkeypatch):
    monkeypatch.setattr(transform_tree, "MAX_EDGES", 3)
    tree = TransformTree()
    for number in range(3):
        tree.insert("base", f"frame_{number}", 1, np.eye(4))
    with pytest.raises(MessageError, match="at most 3"):
        tree.insert("base", "frame_3", 2, np.eye(4))
    tree.insert("base", "frame_0", 2, np.eye(4))
    assert tree.frames() == ("base", "frame_0", "frame_1", "frame_2")


def wary_car() -> TransformTree:
    tree = TransformTree(wary=True)
    for i in range(10):
        tree.insert("odom", "base", T0 + i * S // 10, at(float(i)))
    return tree


@pytest.mark.parametrize("off_s", [3600, -3600])
def test_a_wary_tree_keeps_its_course_beside_a_sender_whose_clock_is_wrong(off_s: int) -> None:
    tree = wary_car()
    for i in range(10, 10 + 3 * CONVINCED):
        with pytest.raises(FarStampError, match=rf"'odom' -> 'base': .*{'ahead of' if off_s > 0 else 'behind'}"):
            tree.insert("odom", "base", T0 + off_s * S + i * S // 10, at(-5.0))
        tree.insert("odom", "base", T0 + i * S // 10, at(float(i)))
    assert position(tree.T("odom", "base", T0 + 15 * S // 10)) == [15.0, 0.0, 0.0]


@pytest.mark.parametrize("off_s", [3600, -3600])
def test_a_wary_tree_follows_where_the_time_has_really_changed(off_s: int) -> None:
    tree = wary_car()
    for i in range(CONVINCED + 1):
        stamp_ns = T0 + off_s * S + i * S // 10
        if i < CONVINCED - 1:
            with pytest.raises(FarStampError):
                tree.insert("odom", "base", stamp_ns, at(float(i)))
        else:
            tree.insert("odom", "base", stamp_ns, at(float(i)))
    assert position(tree.T("odom", "base", stamp_ns)) == [float(CONVINCED), 0.0, 0.0]
