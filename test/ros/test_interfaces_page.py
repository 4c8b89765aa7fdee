"""docs/interfaces.md says what the code does."""

import live_node as live
import pytest

pytest.importorskip("rclpy")

from seg_perception.errors import BackendLostError, CalibrationError, MessageError, ModelError, StampError
from seg_perception.inference.cuda_runtime import CudaError
from seg_perception.ros.params import settings
from seg_perception.ros.problems import INTERNAL, QUIET, SENTENCES

PAGE = (live.ROOT / "docs" / "interfaces.md").read_text(encoding="utf-8")


def test_every_parameter_of_the_node_is_in_the_table_in_that_order():
    rows = [row.split("`")[1] for row in PAGE.partition("## Parameters")[2].splitlines() if row.startswith("| `")]
    assert rows == [setting.name for setting in settings(["<name>"], ["<name>"])]


OF_ERRORS = {
    error.cause for error in (BackendLostError, CalibrationError, CudaError, MessageError, ModelError, StampError)
}


@pytest.mark.parametrize("cause", sorted({*SENTENCES, *QUIET, INTERNAL, *OF_ERRORS}))
def test_every_cause_is_explained(cause):
    assert f"`{cause}`" in PAGE or f"`{cause}/<camera>`" in PAGE
