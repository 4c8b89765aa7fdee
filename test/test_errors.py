"""What is done with errors that a block may have."""

import gc
import weakref

import numpy as np
import pytest

from seg_perception.errors import BackendLostError, CalibrationError, ErrorsTo, ModelError
from seg_perception.statistics import StageTimer


def test_errors_of_ours_go_to_whoever_handles_them_and_others_go_on():
    handled = []
    for error in (CalibrationError("no lens"), ModelError("no network")):
        with ErrorsTo(handled.append, but=BackendLostError):
            raise error
    assert [str(error) for error in handled] == ["no lens", "no network"]
    for other in (BackendLostError("gone"), ValueError("a mistake")):
        with pytest.raises(type(other)), ErrorsTo(handled.append, but=BackendLostError):
            raise other
    assert len(handled) == 2


def test_an_error_that_was_handled_keeps_nothing_alive():
    def sweep():
        points = np.zeros(3)
        with ErrorsTo(lambda error: None), StageTimer().stage("move"):
            raise CalibrationError("no lens")
        return weakref.ref(points)

    gc.disable()
    try:
        assert sweep()() is None
    finally:
        gc.enable()
