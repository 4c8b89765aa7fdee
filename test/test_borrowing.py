"""Arrays that compiled code has without counting them are the same arrays."""

from __future__ import annotations

import sys

import numba
import numpy as np

from seg_perception.borrowing import borrowed


@numba.njit
def _double(columns, of):
    (first, others), of = borrowed((columns, of))
    for k in range(of[0]):
        first[k:][0] *= 2
        others[0][k:][0] *= 2
    return of[1]


def test_what_is_borrowed_is_written_to_where_it_lies_and_stays_its_owners():
    first, other, text = np.arange(4.0), np.arange(4, dtype=np.int32), "as it " + str(sys.maxsize)
    owners = sys.getrefcount(first), sys.getrefcount(text)
    assert _double((first, (other,)), (3, text)) == text
    assert {_double((first[:0], (other[:0],)), (0, text)) for _ in range(99)} == {text}
    assert first.tolist() == [0.0, 2.0, 4.0, 3.0]
    assert other.tolist() == [0, 2, 4, 3]
    assert (sys.getrefcount(first), sys.getrefcount(text)) == owners
