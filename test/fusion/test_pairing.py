import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from seg_perception.config import PairingConfig
from seg_perception.fusion.pairing import Pairer

MS = 1_000_000
S = 1_000 * MS


def pairer(*cameras: str, **settings: float) -> Pairer:
    return Pairer(cameras or ("front",), PairingConfig(**settings))


def test_sweep_waits_until_an_image_at_or_after_it_has_come():
    p = pairer()
    p.add_image("front", 1 * S - 20 * MS, "before")
    p.add_sweep(1 * S, "sweep", now_s=0.0)
    assert p.next_ready(0.0) is None
    p.add_image("front", 1 * S + 10 * MS, "after")
    pairing = p.next_ready(0.0)
    assert pairing.images == {"front": "after"}
    assert pairing.missing == {}


def test_where_the_camera_keeps_a_rhythm_the_sweep_does_not_wait_for_an_image_that_cannot_be_nearer():
    p = pairer()
    for at in (0, 34, 67, 100, 134):
        p.add_image("front", 1 * S + at * MS, at)
    p.add_sweep(1 * S + 145 * MS, "soon after an image", now_s=0.0)
    assert p.next_ready(0.0).images == {"front": 134}
    p.add_sweep(1 * S + 155 * MS, "before the next", now_s=0.0)
    assert p.next_ready(0.0) is None
    p.add_image("front", 1 * S + 165 * MS, 165)
    assert p.next_ready(0.0).images == {"front": 165}


def test_of_images_about_half_a_turn_away_on_either_side_each_sweep_has_the_earlier_and_waits_for_none():
    p, rng = pairer(), np.random.default_rng(0)
    for turn in range(40):
        p.add_image("front", S + turn * 100 * MS + int(rng.normal(0.0, 0.3) * MS), turn)
        if turn >= 5:
            p.add_sweep(S + turn * 100 * MS + 50 * MS + int(rng.normal(0.0, 0.3) * MS), turn, now_s=0.0)
            assert p.next_ready(0.0).images == {"front": turn}


def test_the_earlier_of_two_about_equally_near_is_not_taken_where_it_is_outside_the_window():
    p = pairer(window_ms=50.0)
    for at in (0, 100):
        p.add_image("front", S + at * MS, at)
    p.add_sweep(S + 51 * MS, "sweep", now_s=0.0)
    assert p.next_ready(0.0).images == {"front": 100}


def test_a_sweep_too_far_from_a_slow_camera_either_way_does_not_wait_for_it():
    p = pairer()
    for at in range(0, 2000, 400):
        p.add_image("front", S + at * MS, at)
    p.add_sweep(S + 1700 * MS, "sweep", now_s=0.0)
    assert p.next_ready(0.0).missing


def test_a_sweep_waits_for_the_next_image_of_a_camera_without_a_rhythm():
    p = pairer()
    for at in (0, 90, 95, 190):  # its images may follow one another by 5 ms
        p.add_image("front", 1 * S + at * MS, at)
    p.add_sweep(1 * S + 193 * MS, "sweep", now_s=0.0)
    assert p.next_ready(0.0) is None


def foreseen(camera_ms: list[int], sweeps_ms: list[int], **settings: float) -> list[int]:
    """The images of these that are foreseen when they come, each sweep 40 ms after its stamp."""
    p, found = pairer(**settings), []
    come = sorted([(at, 0, at) for at in camera_ms] + [(at + 40, 1, at) for at in sweeps_ms])
    for _, is_sweep, at in come:
        if is_sweep:
            p.add_sweep(1 * S + at * MS, at, now_s=at * 1e-3)
            p.next_ready(math.inf)
        else:
            p.add_image("front", 1 * S + at * MS, at)
            if p.foresees("front", 1 * S + at * MS):
                found.append(at)
    return found


TENTHS = list(range(0, 1000, 100))


def test_once_the_rhythm_is_known_the_images_nearest_to_the_sweeps_to_come_are_foreseen():
    assert foreseen(list(range(8, 1000, 20)), TENTHS) == [408, 508, 608, 708, 808, 908]
    assert foreseen(list(range(8, 1000, 33)), TENTHS) == [404, 503, 602, 701, 800, 899, 998]
    assert foreseen(list(range(10, 1000, 20)), TENTHS) == [390, 490, 590, 690, 790, 890, 990]  # the earlier of two


def test_each_image_of_a_camera_as_slow_as_the_lidar_is_foreseen_if_it_is_within_the_window():
    assert foreseen([at + 48 for at in TENTHS], TENTHS) == [348, 448, 548, 648, 748, 848, 948]
    assert foreseen([at + 48 for at in TENTHS], TENTHS, window_ms=40.0) == []


def test_no_image_is_foreseen_while_sweeps_are_dropped_until_none_waits_behind_another():
    p = pairer(sweep_queue=2)
    for at in TENTHS[:6]:
        p.add_sweep(1 * S + at * MS, at, now_s=at * 1e-3)
        p.add_image("front", 1 * S + at * MS, at)
    assert not p.foresees("front", 1 * S + 600 * MS)
    p.next_ready(1.0)
    assert p.foresees("front", 1 * S + 600 * MS)


def test_no_image_is_foreseen_of_which_no_sweep_is_known_to_come():
    assert foreseen(list(range(8, 1000, 20)), TENTHS[:3]) == []
    assert foreseen(list(range(8, 2000, 20)), TENTHS)[-1] == 1108  # two sweeps after the last that came


def test_nearest_image_wins_on_either_side():
    p = pairer()
    p.add_image("front", 1 * S - 5 * MS, "before")
    p.add_image("front", 1 * S + 10 * MS, "after")
    p.add_sweep(1 * S, "sweep", now_s=0.0)
    assert p.next_ready(0.0).images == {"front": "before"}


def test_deadline_lets_a_sweep_go_with_what_is_there():
    p = pairer("front", "rear", deadline_ms=100.0)
    p.add_image("front", 1 * S, "front")
    p.add_sweep(1 * S, "sweep", now_s=5.0)
    assert p.next_ready(5.09) is None
    pairing = p.next_ready(5.1)
    assert pairing.images == {"front": "front"}
    assert pairing.missing["rear"].cause == "no_image"


def test_image_outside_the_window_is_not_used():
    p = pairer(window_ms=50.0)
    p.add_image("front", 1 * S + 51 * MS, "late")
    p.add_sweep(1 * S, "sweep", now_s=0.0)
    missing = p.next_ready(0.0).missing["front"]
    assert missing.cause == "no_image_in_window"
    assert "51.0 ms after" in missing.sentence
    assert "at most 50 ms" in missing.sentence


def test_where_a_camera_is_too_slow_for_the_window_that_is_the_remedy():
    p = pairer(window_ms=80.0)
    for turn in range(8):
        p.add_image("front", S + turn * 200 * MS, turn)
    p.add_sweep(S + 1300 * MS, "between", now_s=0.0)
    assert "every 200 ms" in p.next_ready(0.0).missing["front"].sentence


def test_one_image_serves_two_sweeps():
    p = pairer()
    p.add_sweep(1 * S, "first", now_s=0.0)
    p.add_sweep(1 * S + 20 * MS, "second", now_s=0.0)
    p.add_image("front", 1 * S + 30 * MS, "shared")
    assert p.next_ready(0.0).images == {"front": "shared"}
    assert p.next_ready(0.0).images == {"front": "shared"}


def test_order_of_arrival_does_not_matter():
    early, late = (1 * S - 10 * MS, "early"), (1 * S + 30 * MS, "late")
    for order in ((early, late), (late, early)):
        p = pairer()
        p.add_sweep(1 * S, "sweep", now_s=0.0)
        for stamp, item in order:
            p.add_image("front", stamp, item)
        assert p.next_ready(0.0).images == {"front": "early"}


def test_overload_drops_the_oldest_sweep_and_counts_it():
    p = pairer(sweep_queue=2)
    for i in range(5):
        p.add_sweep((i + 1) * S // 10, i, now_s=0.0)
    assert p.counts["sweep_overload"] == 3
    assert [p.next_ready(9.0).sweep, p.next_ready(9.0).sweep] == [3, 4]
    assert p.next_ready(9.0) is None


def test_every_image_is_used_or_counted():
    p = pairer(image_queue=3)
    for i in range(30):
        p.add_image("front", S + i * 33 * MS, i)
    p.add_sweep(S + 29 * 33 * MS, "sweep", now_s=0.0)
    assert p.next_ready(0.0).images == {"front": 29}
    assert p.counts["image_unused"] == 29


def test_sweep_that_goes_back_in_time_is_dropped_and_counted():
    p = pairer()
    p.add_sweep(2 * S, "sweep", now_s=0.0)
    p.add_sweep(2 * S - 100 * MS, "older", now_s=0.0)
    assert p.counts["sweep_out_of_order"] == 1


def test_a_bag_that_starts_over_drops_what_waits_and_pairs_anew():
    for image_first in (True, False):
        p = pairer()
        p.add_image("front", 99 * S, "old image")
        p.add_sweep(100 * S, "old sweep", now_s=0.0)
        steps = [lambda p=p: p.add_image("front", 90 * S, "image"), lambda p=p: p.add_sweep(90 * S, "sweep", now_s=0.1)]
        for step in steps if image_first else reversed(steps):
            step()
        assert p.add_sweep(90 * S + 100 * MS, "next", now_s=0.2)
        pairing = p.next_ready(0.2)
        assert (pairing.sweep, pairing.images) == ("sweep", {"front": "image"})
        assert p.next_ready(9.0).sweep == "next"
        assert p.counts["time_jump"] == 1
        assert p.counts["sweep_cleared"] == 1


def test_one_sweep_stamped_far_from_those_around_it_costs_itself_alone():
    for off_s, cause in ((-3600, "sweep_far_behind"), (-1, "sweep_far_behind"), (1, "sweep_far_ahead")):
        p = pairer()
        went = []
        for i in range(6):
            now_s, stamp = 0.1 * i, 100 * S + i * 100 * MS
            p.add_image("front", stamp, i)
            assert not p.add_sweep(stamp + (off_s * S if i == 3 else 0), i, now_s)
            while (pairing := p.next_ready(now_s)) is not None:
                went.append((pairing.sweep, pairing.images["front"]))
        assert went == [(i, i) for i in (0, 1, 2, 4, 5)]
        assert p.counts == {cause: 1, "image_unused": 1}


def test_one_image_stamped_far_from_those_around_it_costs_itself_alone():
    for off_s, which in ((-3600, "behind"), (-1, "behind"), (1, "ahead"), (60, "ahead")):
        p = pairer("front", "rear")
        for i in range(6):
            stamp = 100 * S + i * 100 * MS
            if i == 3:  # while the images before it still wait for their sweeps
                p.add_image("front", stamp + off_s * S, "stray")
            p.add_image("front", stamp, i)
            p.add_image("rear", stamp, i)
        for i in range(6):
            assert not p.add_sweep(100 * S + i * 100 * MS, i, 0.0)
            assert p.next_ready(0.0).images == {"front": i, "rear": i}
        assert p.counts == {f"image_far_{which}/front": 1}


def test_a_stray_image_does_not_let_a_sweep_go_before_its_own_image_has_come():
    p = pairer()
    p.add_image("front", S, "before")
    p.add_image("front", 60 * S, "stray")
    p.add_sweep(S + 100 * MS, "sweep", now_s=0.0)
    assert p.next_ready(0.0) is None
    p.add_image("front", S + 110 * MS, "its own")
    assert p.next_ready(0.0).images == {"front": "its own"}


def test_a_camera_whose_clock_jumps_back_is_believed_with_its_second_image_and_loses_its_old_ones_alone():
    p = pairer("front", "rear")
    for i in range(4):
        p.add_image("front", 100 * S + i * 100 * MS - 7 * S * (i > 1), i)
        p.add_image("rear", 100 * S + i * 100 * MS, i)
    assert p.counts == {"image_time_jump/front": 1, "image_unused": 2}
    p.add_sweep(93 * S + 200 * MS, "sweep", now_s=0.0)
    assert p.next_ready(9.0).images == {"front": 2}


def test_a_camera_that_pauses_or_sends_less_than_two_images_a_second_loses_none():
    p = pairer()
    for stamp in (S, 8 * S, 9 * S, 10 * S, 10 * S + 33 * MS):
        p.add_sweep(stamp - 5 * MS, stamp, now_s=1e-9 * stamp)
        p.add_image("front", stamp, stamp)
        assert p.next_ready(1e-9 * stamp).images == {"front": stamp}
    assert not p.counts


def test_the_first_image_after_a_jump_of_all_clocks_is_paired_with_the_first_sweep():
    """Of a short bag that starts over, whose stamps come again before the sweeps have told."""
    p = pairer(image_queue=20)
    for start_s in range(2):
        for i in range(8):
            p.add_image("front", S + i * 100 * MS, (start_s, i))
            p.add_sweep(S + i * 100 * MS, (start_s, i), now_s=start_s + 0.1 * i)
    pairings = [p.next_ready(9.0) for _ in range(5)]
    assert [pairing.images["front"] for pairing in pairings] == [pairing.sweep for pairing in pairings]
    assert {start for start, _ in (pairing.sweep for pairing in pairings)} == {1}


def test_a_sweep_that_waits_longer_than_a_period_does_not_make_the_next_one_a_jump():
    """The one stamped ahead has no images, so that it would go at its deadline."""
    p = pairer(deadline_ms=50.0)
    for i in range(4):
        p.add_image("front", 100 * S + i * 100 * MS, i)
        assert not p.add_sweep(100 * S + i * 100 * MS + (5 * S if i == 2 else 0), i, 0.1 * i)
        assert (p.next_ready(0.1 * i + 0.09) is None) == (i == 2)
    assert p.counts["sweep_far_ahead"] == 1
    assert p.counts["time_jump"] == 0


def test_a_clock_that_jumps_ahead_and_a_lidar_that_paused_lose_nothing():
    p = pairer(sweep_queue=10)
    for i, (stamp_ms, now_s) in enumerate(
        [(0, 0.0), (100, 0.1), (5100, 5.1), (65100, 5.2), (65200, 5.3), (65300, 5.4)]
    ):
        assert not p.add_sweep(S + stamp_ms * MS, i, now_s)
    assert [p.next_ready(9.0).sweep for _ in range(6)] == list(range(6))
    assert not p.counts


def test_a_slow_lidar_played_fast_loses_nothing():
    p = pairer(sweep_queue=20)
    for i in range(11):
        p.add_sweep((i + 1) * S, i, 0.01 * i)
    assert [p.next_ready(9.0).sweep for _ in range(11)] == list(range(11))


def test_a_doubted_sweep_at_the_end_of_everything_is_counted():
    p = pairer()
    p.add_sweep(100 * S, "good", 0.0)
    p.add_sweep(90 * S, "doubted", 0.1)
    assert p.next_ready(math.inf).sweep == "good"
    assert p.next_ready(math.inf) is None
    assert p.counts == {"sweep_far_behind": 1}


def test_images_of_the_new_time_are_kept_while_the_first_sweep_of_it_is_doubted():
    p = pairer(deadline_ms=10.0)
    p.add_sweep(100 * S, "old", 0.0)
    p.add_image("front", 90 * S, "first")
    p.add_sweep(90 * S, "new", 0.05)
    p.add_image("front", 90 * S + 100 * MS, "second")
    assert p.next_ready(0.06).sweep == "old"
    assert p.add_sweep(90 * S + 100 * MS, "next", 0.15)
    assert [p.next_ready(0.16).images for _ in range(2)] == [{"front": "first"}, {"front": "second"}]


def test_a_camera_with_a_wrong_clock_costs_its_own_images_and_nothing_else():
    p = pairer("good", "ahead", "behind")
    for i in range(5):
        stamp = (i + 10) * 100 * MS
        p.add_image("good", stamp, f"good {i}")
        p.add_image("ahead", stamp + 600 * MS, f"ahead {i}")
        p.add_image("behind", stamp - 700 * MS, f"behind {i}")
        p.add_sweep(stamp, i, now_s=0.1 * i)
        pairing = p.next_ready(0.1 * i + 0.2)
        assert pairing.images == {"good": f"good {i}"}
        assert {missing.cause for missing in pairing.missing.values()} == {"no_image_in_window"}
        assert "00.0 ms after" in pairing.missing["ahead"].sentence
        assert "00.0 ms before" in pairing.missing["behind"].sentence
    assert not [cause for cause in p.counts if "jump" in cause or "far" in cause]


def test_images_that_all_come_before_their_sweeps_are_kept():
    p = pairer()
    for stamp in (1105, 1138, 1171):
        p.add_image("front", stamp * MS, stamp)
    p.add_sweep(1100 * MS, "first", now_s=0.0)
    p.add_sweep(1135 * MS, "second", now_s=0.0)
    assert p.next_ready(0.0).images == {"front": 1105}
    assert p.next_ready(0.0).images == {"front": 1138}


def test_a_queue_too_short_for_a_late_lidar_is_said():
    p = pairer(image_queue=3)
    for i in range(20):
        p.add_image("front", S + i * 33 * MS, i)
    p.add_sweep(S + 100 * MS, "late sweep", now_s=0.0)
    missing = p.next_ready(0.0).missing["front"]
    assert missing.cause == "no_image_in_window"
    p = pairer(image_queue=3)
    for i in range(6):
        p.add_image("front", S + i * 100 * MS, i)
    p.add_sweep(S + 200 * MS, "late sweep", now_s=0.0)
    missing = p.next_ready(0.0).missing["front"]
    assert missing.cause == "image_queue_too_short"
    assert "image_queue is 3" in missing.sentence


@given(
    images=st.lists(st.integers(0, 45), min_size=1, max_size=9, unique=True),
    sweeps=st.lists(st.integers(0, 45), min_size=1, max_size=5, unique=True),
)
def test_every_sweep_gets_the_nearest_image_whatever_the_order(images, sweeps):
    """Or the earlier of two about equally near. Against brute force, with room for all. Times in units of 10 ms."""
    p = pairer(window_ms=200.0)
    for image in images:
        p.add_image("front", S + image * 10 * MS, image)
    for sweep in sorted(sweeps):
        p.add_sweep(S + sweep * 10 * MS, sweep, now_s=0.0)
    while (pairing := p.next_ready(1e9)) is not None:
        off = min(abs(image - pairing.sweep) for image in images)
        if off > 20:
            assert "front" in pairing.missing
        else:
            assert off <= abs(pairing.images["front"] - pairing.sweep) <= off * 55 / 45


def test_repeated_image_stamp_is_counted_and_the_first_kept():
    p = pairer()
    p.add_image("front", S, "first")
    p.add_image("front", S, "second")
    p.add_sweep(S, "sweep", now_s=0.0)
    assert p.next_ready(0.0).images == {"front": "first"}
    assert p.counts["image_repeated_stamp/front"] == 1


def test_the_image_before_a_sweep_may_be_nearest_to_the_next_sweep_too():
    p = pairer()
    p.add_image("front", 1 * S, "shared")
    p.add_sweep(1 * S + 10 * MS, "first", now_s=0.0)
    p.add_sweep(1 * S + 20 * MS, "second", now_s=0.0)
    assert p.next_ready(9.0).images == {"front": "shared"}
    assert p.next_ready(9.0).images == {"front": "shared"}


def test_a_sweep_that_comes_twice_goes_out_once():
    p = pairer()
    p.add_sweep(2 * S, "sweep", now_s=0.0)
    p.add_sweep(2 * S, "again", now_s=0.0)
    assert p.counts["sweep_out_of_order"] == 1
    assert p.next_ready(9.0).sweep == "sweep"
    assert p.next_ready(9.0) is None


def test_an_image_that_was_used_does_not_count_as_unused():
    p = pairer(image_queue=1)
    p.add_image("front", 1 * S, "used")
    p.add_sweep(1 * S, "sweep", now_s=0.0)
    assert p.next_ready(0.0).images == {"front": "used"}
    p.add_image("front", 2 * S, "next")
    assert p.counts["image_unused"] == 0


def test_window_and_deadline_may_change_between_sweeps():
    p = pairer(window_ms=80.0, deadline_ms=100.0)
    p.add_image("front", 1 * S - 50 * MS, "image")
    p.add_sweep(1 * S, "first", now_s=0.0)
    p.reconfigure(PairingConfig(window_ms=10.0, deadline_ms=300.0))
    assert p.next_ready(0.15).missing.keys() == {"front"}
    p.add_sweep(2 * S, "second", now_s=1.0)
    assert p.next_ready(1.25) is None
    assert p.next_ready(1.35).sweep == "second"


def lidar_pairer(*lidars: str, **settings: float) -> Pairer:
    return Pairer(["front"], PairingConfig(**settings), lidars=lidars)


def test_each_of_two_lidars_gets_the_image_nearest_to_its_own_sweep():
    p = lidar_pairer("top", "left")
    for stamp in (1000, 1033, 1066):
        p.add_image("front", stamp * MS, stamp)
    p.add_sweep(1000 * MS, "top 1", 0.0, "top")
    p.add_sweep(1055 * MS, "left 1", 0.0, "left")
    pairings = [p.next_ready(0.0), p.next_ready(0.0)]
    assert [(q.lidar, q.sweep, q.images) for q in pairings] == [
        ("top", "top 1", {"front": 1000}),
        ("left", "left 1", {"front": 1066}),
    ]
    assert not p.counts


def test_an_image_stays_until_the_lidar_that_comes_last_has_asked():
    p = lidar_pairer("top", "left")
    for i in range(4):
        p.add_image("front", S + i * 100 * MS, i)
        p.add_sweep(S + i * 100 * MS, i, 0.0, "top")
        assert p.next_ready(0.0).images == {"front": i}
    for i in range(4):
        p.add_sweep(S + i * 100 * MS, i, 0.0, "left")
        assert p.next_ready(0.0).images == {"front": i}


def test_a_lidar_that_waits_or_comes_too_fast_costs_its_own_sweeps_and_no_other():
    p = lidar_pairer("top", "left", sweep_queue=2, deadline_ms=100.0)
    p.add_image("front", S, "image")
    for i in range(5):
        p.add_sweep(2 * S + i * MS, f"ahead {i}", 0.0, "left")
    p.add_sweep(S, "good", 0.0, "top")
    assert p.counts == {"sweep_overload/left": 3}
    assert p.next_ready(0.0).sweep == "good"
    assert p.next_ready(0.0) is None
    assert p.next_ready(0.1).sweep == "ahead 3"
    assert p.next_ready(0.1, without={"left"}) is None


def test_lidars_that_jump_back_together_jump_once():
    p = lidar_pairer("top", "left")
    for lidar in ("top", "left"):
        p.add_sweep(100 * S, "old", 0.0, lidar)
    for offset_ms, lidar in ((0, "top"), (-20, "left"), (80, "left"), (100, "top")):
        p.add_sweep(90 * S + offset_ms * MS, f"new {offset_ms}", 0.0, lidar)
    assert p.counts == {"time_jump": 1, "sweep_cleared": 2}
    assert [p.next_ready(9.0).sweep for _ in range(4)] == ["new -20", "new 0", "new 80", "new 100"]


def test_a_lidar_whose_clock_is_behind_is_no_jump_of_the_others():
    p = lidar_pairer("top", "left")
    for i in range(3):
        stamp = 100 * S + i * 100 * MS
        p.add_image("front", stamp, i)
        p.add_sweep(stamp, i, 0.0, "top")
        p.add_sweep(stamp - 10 * S, i, 0.0, "left")
        taken = {q.lidar: q for q in (p.next_ready(0.0), p.next_ready(0.0))}
        assert taken["top"].images == {"front": i}
        assert taken["left"].missing["front"].cause == "stamp_far_off"
    assert not p.counts


def test_images_that_keep_coming_with_stamps_far_off_are_named_and_a_camera_that_stopped_is_not():
    causes = []
    p = pairer("late", "stopped")
    p.add_image("stopped", S, "last")
    for i in range(20):
        stamp = S + i * 100 * MS
        p.add_image("late", stamp - 20 * S, i)
        p.add_sweep(stamp, i, now_s=0.1 * i)
        missing = p.next_ready(0.1 * i + 1.0).missing
        causes.append({camera: why.cause for camera, why in missing.items()})
    assert {cause["late"] for cause in causes} == {"stamp_far_off"}
    assert causes[0] == {"late": "stamp_far_off"}
    assert {cause["stopped"] for cause in causes[1:]} == {"no_image_in_window"}
    assert "20.0 s before" in missing["late"].sentence
