"""docs/interfaces.md says what the code does."""

import live_node as live
import pytest

pytest.importorskip("rclpy")

from seg_perception.ros.params import Setting, settings
from seg_perception.ros.problems import INTERNAL, QUIET, SENTENCES

PAGE = (live.ROOT / "docs" / "interfaces.md").read_text(encoding="utf-8")


def row(setting: Setting) -> str:
    default = str(setting.default).lower() if setting.type is bool else str(setting.default)
    shown = f"`{default}`" if default else ""
    return f"| `{setting.name}` | {setting.type.__name__} | {shown} | {limits(setting)} | {setting.description} |"


def limits(setting: Setting) -> str:
    if "choices" in setting.limits:
        return ", ".join(f"`{choice}`" for choice in setting.limits["choices"])
    low, high = setting.limits.get("minimum"), setting.limits.get("maximum")
    if low is None and high is None:
        return ""
    return f"{low} or more" if high is None else f"{low} to {high}"


def test_the_table_of_parameters_is_that_of_the_code():
    wanted = [row(setting) for setting in settings(["<name>"])]
    table = PAGE.partition("## Parameters")[2].splitlines()
    assert [line for line in table if line.startswith("| `")] == wanted, "the table should be:\n" + "\n".join(wanted)


@pytest.mark.parametrize("cause", sorted({*SENTENCES, *QUIET, INTERNAL, "bad_message", "bad_stamp", "calibration"}))
def test_every_cause_is_explained(cause):
    assert f"`{cause}`" in PAGE
