import threading

import pytest

from seg_perception.crew import Crew


def test_every_piece_is_done_once_and_by_no_more_threads_than_hands():
    crew = Crew(["mine", "another's"])
    done, threads = [], {}

    def piece(number):
        def work(hand):
            done.append(number)
            threads.setdefault(hand, set()).add(threading.current_thread().name)

        return work

    for _ in range(50):
        crew.do([piece(number) for number in range(20)])
    assert sorted(done) == sorted(list(range(20)) * 50)
    assert all(len(names) == 1 for names in threads.values())
    assert threads["mine"] == {threading.current_thread().name}
    crew.close()


def test_one_hand_does_all_in_order_and_starts_no_thread():
    before, done = threading.active_count(), []
    Crew(["mine"]).do([lambda hand: done.append(1), lambda hand: done.append(2)])
    assert done == [1, 2]
    assert threading.active_count() == before


def test_a_helper_that_does_not_get_to_it_is_not_waited_for():
    """The only helper is still at a piece of somebody else's, as on a machine without a core to spare."""
    crew, may_go, begun = Crew(["mine", "another's"]), threading.Event(), threading.Event()
    crew.do([lambda hand: None, lambda hand: None])

    def dawdle():
        begun.set()
        may_go.wait(30.0)

    busy = crew._helpers.submit(dawdle)
    assert begun.wait(30.0)
    hands = []
    crew.do([hands.append] * 4)
    assert hands == ["mine"] * 4
    assert not busy.done()
    may_go.set()
    crew.close()
    assert hands == ["mine"] * 4


@pytest.mark.parametrize("by", ["mine", "another's"])
def test_what_a_piece_raises_is_raised_when_all_have_stopped_and_the_next_work_goes_well(by):
    crew, both, done = Crew(["mine", "another's"]), threading.Barrier(2, timeout=20.0), []

    def piece(hand):
        both.wait()
        if hand == by:
            raise ValueError(hand)
        done.append(hand)

    with pytest.raises(ValueError, match=by):
        crew.do([piece, piece])
    assert len(done) == 1
    done.clear()
    crew.do([done.append] * 3)
    assert len(done) == 3
    crew.close()
