"""Objects keep their identity."""

from __future__ import annotations

import math

import numpy as np
import pytest

from seg_perception.config import TrackingConfig
from seg_perception.geometry.movers import Measured
from seg_perception.labels import Taxonomy
from seg_perception.scene.objects import Objects
from seg_perception.scene.tracking import NO_TRACK, Tracker

CITYSCAPES = Taxonomy.load("cityscapes")
PERSON, RIDER, CAR, TRUCK, BICYCLE = 11, 12, 13, 14, 18
LIDAR = np.zeros(3)
MS = 1_000_000
T0 = 1_700_000_000_000 * MS
CAR_SIZE, PERSON_SIZE = (4.3, 1.8, 1.5), (0.6, 0.6, 1.7)


def objects(
    *things: tuple[int, float, float, float, tuple[float, float, float]], expected: tuple[int, ...] | None = None
) -> Objects:
    """Each thing: class, x, y, yaw, size. expected: the track in whose box each lies."""
    count = len(things)
    return Objects(
        np.array([thing[0] for thing in things], np.uint8),
        np.full(count, 0.9, np.float32),
        np.full(count, 50, np.int32),
        np.array([(thing[1], thing[2], 0.5 * thing[4][2]) for thing in things]).reshape(count, 3),
        np.array([thing[1:3] for thing in things], float).reshape(count, 2),
        np.array([thing[4] for thing in things], float).reshape(count, 3),
        np.array([thing[3] for thing in things], float),
        np.zeros(0, np.int32),
        np.array(expected or [NO_TRACK] * count, np.int32),
    )


def person(x: float, y: float, label: int = PERSON):
    return (label, x, y, 0.0, PERSON_SIZE)


def car(x: float, y: float, yaw: float = 0.0, size=CAR_SIZE, label: int = CAR):
    return (label, x, y, yaw, size)


def follow(*sweeps: Objects, tracker: Tracker | None = None, start: int = 0, lidar=LIDAR, **settings):
    """What a tracker says after each sweep, ten a second."""
    tracker = tracker or Tracker(CITYSCAPES, TrackingConfig(**settings))
    return [
        tracker.update(sweep, np.asarray(lidar, float), T0 + (start + k) * 100 * MS) for k, sweep in enumerate(sweeps)
    ]


def id_of(tracks, k: int = 0) -> int:
    return int(tracks.track_id[tracks.of_object[k]])


def test_walker_keeps_one_identity_and_gets_a_velocity():
    told = follow(*[objects(person(10 + 0.14 * k, 3.0)) for k in range(30)])
    assert {id_of(tracks) for tracks in told} == {1}
    assert told[-1].velocity[0] == pytest.approx([1.4, 0.0], abs=0.05)
    assert told[-1].yaw[0] == pytest.approx(0.0, abs=0.05)


def test_two_who_pass_each_other_keep_their_own_identities():
    told = follow(*[objects(person(10 + 0.15 * k, 3.0), person(16 - 0.15 * k, 3.6)) for k in range(40)])
    assert {id_of(tracks, 0) for tracks in told} == {1}
    assert {id_of(tracks, 1) for tracks in told} == {2}


@pytest.mark.parametrize("thing", [person, car])
def test_identity_outlives_an_occlusion_of_a_second(thing):
    seen = [objects(thing(10 + 0.5 * k, 6.0)) for k in range(15)]
    hidden = [objects() for _ in range(10)]
    again = [objects(thing(10 + 0.5 * k, 6.0)) for k in range(25, 30)]
    told = follow(*seen, *hidden, *again)
    assert id_of(told[-1]) == id_of(told[14]) == 1
    assert told[24].coasting_s[0] == pytest.approx(1.0)
    assert told[24].centre[0, :2] == pytest.approx([10 + 0.5 * 24, 6.0], abs=0.5)
    assert told[-1].coasting_s[0] == 0.0


def test_track_dies_when_it_is_not_seen_for_longer_than_it_may_coast():
    seen = [objects(car(10.0, 6.0)) for _ in range(5)]
    told = follow(*seen, *[objects() for _ in range(16)], coast_s=1.5)
    assert [len(tracks) for tracks in told[-2:]] == [1, 0]
    again = follow(objects(car(10.0, 6.0)))
    assert len(again[0]) == 1


def test_false_alarm_of_one_sweep_is_never_told_of_as_confirmed():
    told = follow(objects(person(10, 3)), objects(), objects(), objects(), confirm_hits=3)
    assert not any(tracks.confirmed.any() for tracks in told)
    assert len(told[-1]) == 0


def test_what_every_fourth_sweep_looks_at_is_told_of_where_sweeps_are_quarters_of_a_turn():
    tracker = Tracker(CITYSCAPES, TrackingConfig())
    for k in range(12):
        seen = objects(car(10.0, 0.0)) if k % 4 == 0 else objects()
        tracks = tracker.update(seen, LIDAR, T0 + k * 25 * MS)
    assert tracks.track_id.tolist() == [1]
    assert tracks.confirmed.all()


def test_identities_are_never_given_again():
    tracker = Tracker(CITYSCAPES, TrackingConfig())
    follow(*[objects(person(10, 3)) for _ in range(4)], tracker=tracker)
    follow(*[objects() for _ in range(30)], tracker=tracker, start=4)
    assert id_of(follow(objects(person(10, 3)), tracker=tracker, start=34)[0]) == 2


def test_turning_car_is_followed_with_its_turn_rate():
    speed, turn = 8.0, 0.35
    sweeps = []
    for k in range(40):
        yaw = turn * 0.1 * k
        x, y = 12 + speed / turn * math.sin(yaw), 10 + speed / turn * (1 - math.cos(yaw))
        folded = (yaw + math.pi / 2) % math.pi - math.pi / 2  # a box does not know its front
        sweeps.append(objects(car(x, y, folded)))
    told = follow(*sweeps)
    assert {id_of(tracks) for tracks in told} == {1}
    last = told[-1]
    assert np.hypot(*last.velocity[0]) == pytest.approx(speed, abs=0.3)
    assert last.turn_rate[0] == pytest.approx(turn, abs=0.06)
    assert last.yaw[0] == pytest.approx(turn * 3.9, abs=0.06)


def test_a_standing_car_whose_box_jumps_at_first_is_not_told_to_drive():
    told = follow(*[objects(car(10.0 + jump, 3.0)) for jump in (0.0, 0.4, 0.3, 0.4)])
    assert np.hypot(*told[1].velocity[0]) < 0.5  # of 4 m/s between the two boxes
    drives = follow(*[objects(car(10.0 + 1.2 * k, 3.0)) for k in range(4)])
    assert drives[3].velocity[0] == pytest.approx([12.0, 0.0], abs=1.0)


def test_car_that_drives_towards_us_turns_its_yaw_along_its_velocity():
    told = follow(*[objects(car(40 - 0.8 * k, 2.0, 0.0)) for k in range(20)])
    assert told[-1].velocity[0] == pytest.approx([-8.0, 0.0], abs=0.3)
    assert abs(told[-1].yaw[0]) == pytest.approx(math.pi, abs=0.05)


def test_parked_car_of_which_more_and_more_comes_into_view_stands_still():
    """Its rear, at x = 10, is always seen; the far end appears bit by bit."""
    long = (5.0, 1.8, 1.5)
    whole = [objects(car(12.5, 4.0, 0.0, long)) for _ in range(10)]
    parts = [objects(car(10 + 0.5 * length, 4.0, 0.0, (length, 1.8, 1.5))) for length in np.linspace(4.0, 5.0, 20)]
    told = follow(*whole, *parts)
    assert {id_of(tracks) for tracks in told} == {1}
    assert max(np.hypot(*tracks.velocity[0]) for tracks in told[12:]) < 0.6
    assert told[-1].centre[0, 0] == pytest.approx(12.5, abs=0.25)


def test_class_is_smoothed_over_a_wrong_sweep():
    labels = [CAR] * 6 + [TRUCK] + [CAR] * 2
    told = follow(*[objects(car(15, 4, label=label)) for label in labels])
    assert {id_of(tracks) for tracks in told} == {1}
    assert {int(tracks.class_id[0]) for tracks in told} == {CAR}
    assert told[6].probability[0] < told[5].probability[0]


def test_person_never_becomes_a_car():
    told = follow(*[objects(person(10, 3)) for _ in range(5)], objects(car(10, 3)))
    assert id_of(told[-1]) != id_of(told[-2])


def test_rider_never_becomes_the_bicycle_beneath():
    told = follow(
        *[objects((RIDER, 10, 3, 0.0, PERSON_SIZE)) for _ in range(5)], objects((BICYCLE, 10, 3, 0.0, (1.7, 0.5, 1.0)))
    )
    assert id_of(told[-1]) != id_of(told[-2])


def test_parked_car_whose_box_jumps_keeps_its_identity_and_its_place_where_its_points_lie_in_it():
    steady = [objects(car(15, 4)) for _ in range(20)]
    known, new = (follow(*steady, objects(car(17.2, 4.5, 0.3), expected=(track,)))[-1] for track in (1, NO_TRACK))
    assert id_of(known) == 1
    assert known.centre[0, :2] == pytest.approx([15.0, 4.0], abs=0.35)
    assert id_of(new) == 2


def test_cars_are_expected_where_they_will_be_and_people_too():
    tracker = Tracker(CITYSCAPES, TrackingConfig())
    follow(*[objects(car(10 + 0.8 * k, 4.0), person(5.0, 3.0 + 0.14 * k)) for k in range(20)], tracker=tracker)
    expected = tracker.expected(T0 + 2400 * MS, late_s=0.1)
    assert list(expected.track_id) == [1, 2]
    assert list(expected.class_id) == [CAR, PERSON]
    assert expected.centre == pytest.approx(np.array([[10 + 0.8 * 23, 4.0], [5.0, 3.0 + 0.14 * 23]]), abs=0.15)
    assert expected.size == pytest.approx(np.array([CAR_SIZE[:2], PERSON_SIZE[:2]]))


def test_nothing_is_expected_before_the_first_sweep_after_a_jump_back_and_of_what_was_seen_but_once():
    tracker = Tracker(CITYSCAPES, TrackingConfig())
    assert tracker.expected(T0) is None
    follow(objects(car(10, 4)), tracker=tracker)
    assert len(tracker.expected(T0 + MS).track_id) == 0
    assert tracker.expected(T0 - MS) is None


def test_jump_back_in_time_starts_anew_and_sweeps_may_be_empty():
    tracker = Tracker(CITYSCAPES, TrackingConfig())
    assert len(follow(objects(), tracker=tracker)[0]) == 0
    follow(*[objects(car(10, 4)) for _ in range(4)], tracker=tracker, start=1)
    told = follow(objects(), tracker=tracker, start=-100)[0]
    assert len(told) == 0


def test_far_from_the_origin_of_odometry_nothing_is_lost():
    far = np.array([5e6, -3e6, 100.0])
    sweeps = [objects(car(far[0] + 10 + 0.8 * k, far[1] + 5)) for k in range(15)]
    told = follow(*sweeps, lidar=far)
    assert told[-1].velocity[0] == pytest.approx([8.0, 0.0], abs=0.2)
    assert told[-1].of_object[0] != NO_TRACK


def seen_by(tracker: Tracker, sensor: str, at_ms: int, *things, late_ms: int = 0):
    return tracker.update(objects(*things), LIDAR, T0 + at_ms * MS, sensor, late_ms * 1e-3)


def test_a_thing_that_two_lidars_see_in_turn_is_one_track():
    tracker = Tracker(CITYSCAPES, TrackingConfig())
    for k in range(20):
        tracks = seen_by(tracker, ("top", "left")[k % 2], 50 * k, car(10.0 + 0.5 * k, 3.0))
        assert id_of(tracks) == 1
        assert len(tracks) == 1
    assert tracks.velocity[0] == pytest.approx([10.0, 0.0], abs=0.5)


def test_what_one_of_three_lidars_sees_is_told_of_although_the_others_look_elsewhere():
    tracker = Tracker(CITYSCAPES, TrackingConfig())
    for k in range(3):
        tracks = seen_by(tracker, "top", 100 * k, person(5.0, 3.0))
        for sensor in ("left", "right"):
            seen_by(tracker, sensor, 100 * k + 30)
    assert tracks.confirmed.tolist() == [True]


def test_what_no_lidar_sees_again_dies_though_the_one_that_saw_it_has_stopped():
    tracker = Tracker(CITYSCAPES, TrackingConfig())
    seen_by(tracker, "top", 0, person(5.0, 3.0))
    told = [seen_by(tracker, "left", 100 * k) for k in range(1, 20)]
    assert [len(tracks) for tracks in told] == [1] * 15 + [0] * 4


def test_a_sweep_that_comes_late_counts_from_where_its_things_have_moved_to_since():
    """A car at 20 m/s: 80 ms are 1.6 m, and every sweep of `left` comes 80 ms after a newer one of `top`."""
    tracker = Tracker(CITYSCAPES, TrackingConfig())
    for k in range(30):
        now_ms = 100 * k
        top = seen_by(tracker, "top", now_ms, car(0.02 * now_ms, 3.0))
        left = seen_by(tracker, "left", now_ms, car(0.02 * (now_ms - 80), 3.0), late_ms=80)
        assert id_of(top) == id_of(left) == 1
    assert len(left) == 1
    assert left.centre[0, 0] == pytest.approx(0.02 * now_ms, abs=0.2)
    assert left.velocity[0] == pytest.approx([20.0, 0.0], abs=0.5)


def followed(*sweeps: Objects, **settings) -> Tracker:
    tracker = Tracker(CITYSCAPES, TrackingConfig(**settings))
    follow(*sweeps, tracker=tracker)
    return tracker


def test_what_surely_drives_is_expected_where_it_will_be_in_a_box_around_it_above_the_ground():
    tracker = followed(*[objects(car(10 + 1.5 * k, 3.0)) for k in range(10)])
    movers = tracker.movers(T0 + 1000 * MS)
    assert len(movers) == 1
    assert movers.velocity[0] == pytest.approx([15.0, 0.0], abs=0.3)
    assert movers.centre[0, :2] == pytest.approx([25.0, 3.0], abs=0.2)
    low, high = (movers.centre[0] + side * 0.5 * movers.size[0] for side in (-1, 1))
    assert (low[:2] < [25.0 - 2.15, 3.0 - 0.9]).all()
    assert (high > [25.0 + 2.15, 3.0 + 0.9, 1.5]).all()
    assert 0.1 < low[2] < 0.4
    assert tracker.movers(T0 + 1000 * MS, late_s=0.1).centre[0, 0] == pytest.approx(movers.centre[0, 0] - 1.5, abs=0.1)


@pytest.mark.parametrize(
    ("sweeps", "why"),
    [
        ([objects(car(10.0, 3.0)) for _ in range(10)], "it stands"),
        ([objects(car(10.0 + 0.3 * (k % 2), 3.0)) for k in range(10)], "it is seen in ever other parts"),
        ([objects(person(10 + 0.1 * k, 3.0)) for k in range(10)], "it gets nowhere in the time of an image"),
        ([objects(car(10.0, 3.0))], "it was seen once"),
        ([*[objects(car(10 + 1.5 * k, 3.0)) for k in range(9)], objects(), objects()], "it was not seen lately"),
    ],
)
def test_what_may_stand_or_be_elsewhere_does_not_seem_to_move(sweeps, why):
    assert len(followed(*sweeps).movers(T0 + len(sweeps) * 100 * MS)) == 0, why


def test_the_box_of_what_moves_holds_all_of_the_box_that_was_seen_last():
    sweeps = [objects(car(10 + 1.5 * k, 3.0)) for k in range(8)]
    longer = objects(car(10 + 1.5 * 8 - 2.0, 3.3, yaw=0.2, size=(8.0, 2.6, 3.0)), expected=(1,))
    movers = followed(*sweeps, longer).movers(T0 + 800 * MS)
    ends = np.array([[a, b, 0.0] for a in (-4.0, 4.0) for b in (-1.3, 1.3)])
    turn = np.array([[math.cos(0.2), -math.sin(0.2), 0], [math.sin(0.2), math.cos(0.2), 0], [0, 0, 1]])
    corners = ends @ turn.T + np.array([10 + 1.5 * 8 - 2.0, 3.3, 1.5])
    cos, sin = math.cos(movers.yaw[0]), math.sin(movers.yaw[0])
    off = (corners - movers.centre[0]) @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    assert (abs(off) < 0.5 * movers.size[0]).all()


def test_points_tell_a_track_how_fast_it_is_and_for_a_second_that_it_moves():
    tracker = followed(*[objects(car(10 + 1.1 * k, 3.0)) for k in range(6)])
    number = tracker.movers(T0 + 600 * MS).number
    assert not tracker.movers(T0 + 600 * MS).known.any()
    for k in range(6, 9):
        measured = Measured(number, np.array([[15.0, 0.0]]), np.array([k == 6]))
        tracker.update(objects(car(10 + 1.1 * k, 3.0)), LIDAR, T0 + k * 100 * MS, measured=measured)
    movers = tracker.movers(T0 + 900 * MS)
    assert 13.0 < movers.velocity[0, 0] < 15.0  # its boxes say 11
    assert movers.known.all()
    for k in range(9, 20):
        tracker.update(objects(car(10 + 1.1 * k, 3.0)), LIDAR, T0 + k * 100 * MS)
    assert not tracker.movers(T0 + 2000 * MS).known.any()
    gone = Measured(np.array([99], np.int32), np.array([[15.0, 0.0]]), np.array([True]))
    tracker.update(objects(), LIDAR, T0 + 2000 * MS, measured=gone)  # of a track that is dead


def test_a_walker_is_told_its_velocity_too():
    tracker = followed(*[objects(person(10 + 0.3 * k, 3.0)) for k in range(6)])
    number = tracker.movers(T0 + 600 * MS).number
    told = tracker.update(
        objects(person(11.8, 3.0)),
        LIDAR,
        T0 + 600 * MS,
        measured=Measured(number, np.array([[4.0, 1.0]]), np.array([True])),
    )
    assert (told.velocity[0] > [3.1, 0.2]).all()


def test_nothing_is_known_to_move_before_the_first_sweep_and_after_a_jump_back():
    assert Tracker(CITYSCAPES, TrackingConfig()).movers(T0) is None
    tracker = followed(*[objects(car(10 + 1.5 * k, 3.0)) for k in range(10)])
    assert tracker.movers(T0 - 100 * MS) is None
