import pytest

pytest.importorskip("rclpy")

from seg_perception.ros.gaps import Gaps


def taken(gaps: Gaps, *numbers: int | None) -> Gaps:
    for number in numbers:
        gaps.took(number)
    return gaps


def test_numbers_that_are_missing_were_overwritten_and_are_told_once() -> None:
    gaps = taken(Gaps(), 7, 8, 12, 13)
    assert [gaps.overwritten(1), gaps.overwritten(1)] == [3, 0]
    assert taken(gaps, 15).overwritten(1) == 1


def test_what_was_lost_on_its_way_was_not_overwritten_whichever_is_known_first() -> None:
    gaps = taken(Gaps(), 1)
    gaps.lost(2)
    assert gaps.overwritten(1) == 0
    assert taken(gaps, 5).overwritten(1) == 1


def test_the_first_number_says_nothing() -> None:
    assert taken(Gaps(), 1000, 1001).overwritten(1) == 0


def test_where_several_publish_or_one_starts_over_nothing_is_missing() -> None:
    assert taken(Gaps(), 100, 5, 101, 6).overwritten(2) == 0
    gaps = taken(Gaps(), 100, 1, 2)
    assert gaps.overwritten(1) == 0
    assert taken(gaps, 5).overwritten(1) == 2
    gaps = taken(Gaps(), 10, 900)  # another one has come and gone
    assert gaps.overwritten(0) == 0
    assert taken(gaps, 50).overwritten(1) == 0


@pytest.mark.parametrize("number", [None, 2**64 - 1])
def test_a_middleware_without_numbers_counts_nothing_and_says_so(number) -> None:
    gaps = taken(Gaps(), number, number)
    assert gaps.overwritten(1) == 0
    assert gaps.state.startswith("not counted: this middleware")


def test_what_is_not_counted_at_present_is_no_zero() -> None:
    gaps = taken(Gaps(), 7, 12)
    assert gaps.overwritten(1) == 4
    assert gaps.state == "4"
    taken(gaps, 3, 13).overwritten(2)
    assert gaps.state.startswith("not counted: 2 nodes publish it")
    taken(gaps, 14, 16).overwritten(1)
    assert gaps.overwritten(0) == 0
    assert gaps.state == "4"
