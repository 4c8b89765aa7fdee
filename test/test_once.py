import threading

import pytest

from seg_perception.once import Once


def test_who_asks_first_makes_it_and_the_others_get_what_was_made() -> None:
    once: Once[int] = Once()
    made: list[int] = []

    def make() -> int:
        made.append(1)
        return 7

    got: list[int] = []
    threads = [threading.Thread(target=lambda: got.append(once.get(make))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (got, made) == ([7] * 8, [1])


def test_an_error_is_what_everybody_gets() -> None:
    once: Once[int] = Once()

    def fail() -> int:
        raise KeyError("gone")

    for make in (fail, lambda: 1):
        with pytest.raises(KeyError, match="gone"):
            once.get(make)


def test_what_is_claimed_is_made_by_who_claimed_it() -> None:
    once: Once[int] = Once()
    assert once.claim()
    assert not once.claim()
    threading.Timer(0.02, once.settle, [lambda: 3]).start()
    assert once.get(lambda: 4) == 3


def test_nobody_waits_for_what_was_interrupted() -> None:
    """As by Ctrl-C in a replay, while another thread waits for the same."""
    once: Once[int] = Once()

    def interrupted() -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        once.get(interrupted)

    def ask() -> None:
        with pytest.raises(KeyboardInterrupt):
            once.get(lambda: 1)

    others = threading.Thread(target=ask, daemon=True)
    others.start()
    others.join(10.0)
    assert not others.is_alive()
