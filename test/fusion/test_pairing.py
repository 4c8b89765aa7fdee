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
    assert p.next_deadline_s == 5.1
    assert p.next_ready(5.09) is None
    pairing = p.next_ready(5.1)
    assert pairing.images == {"front": "front"}
    assert pairing.missing == {"rear": "no_image"}


def test_image_outside_the_window_is_not_used():
    p = pairer(window_ms=50.0)
    p.add_image("front", 1 * S + 51 * MS, "late")
    p.add_sweep(1 * S, "sweep", now_s=0.0)
    assert p.next_ready(0.0).missing == {"front": "no_image_in_window"}


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


def test_jump_of_the_clock_is_recognised_and_clearing_starts_over():
    p = pairer()
    p.add_sweep(100 * S, "sweep", now_s=0.0)
    assert p.jumps_back(90 * S)
    assert not p.jumps_back(100 * S - 100 * MS)
    p.clear()
    assert p.counts["sweep_cleared"] == 1
    p.add_sweep(90 * S, "again", now_s=0.0)
    p.add_image("front", 90 * S, "image")
    assert p.next_ready(0.0).sweep == "again"


def test_repeated_image_stamp_is_counted_and_the_first_kept():
    p = pairer()
    p.add_image("front", S, "first")
    p.add_image("front", S, "second")
    p.add_sweep(S, "sweep", now_s=0.0)
    assert p.next_ready(0.0).images == {"front": "first"}
    assert p.counts["image_repeated_stamp"] == 1


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
