import numpy as np

from seg_perception.fusion.image_queue import RateLimit

MS = 1_000_000


def test_a_rate_limit_keeps_the_rate_on_average_whatever_the_jitter():
    limit = RateLimit(10.0)
    jitter = np.random.default_rng(1).normal(0.0, 4e6, 3000)
    stamps = (np.arange(3000) / 30 * 1e9 + jitter).astype(np.int64) + 10**12
    kept = [stamp for stamp in stamps.tolist() if limit.admits(stamp)]
    assert 950 <= len(kept) <= 1000
    assert min(np.diff(kept)) > 50 * MS


def test_a_rate_limit_lets_all_through_that_is_slower_and_starts_anew_after_a_jump_back():
    limit = RateLimit(10.0)
    assert all(limit.admits(10**12 + i * 101 * MS) for i in range(10))
    assert limit.admits(10**12 - 10**9)
    assert not limit.admits(10**12 - 10**9 + 50 * MS)
