"""What ends a process of `make gpu-check`, or hangs it, costs a part; real processes that do."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

# Does a part a line, which says how; of those that ended a process before, the file tells.
WORKER = """
import os, sys, time
from pathlib import Path
done = Path(sys.argv[1])
for part in sys.argv[2].split():
    if part in done.read_text().split():
        continue
    with done.open("a") as file:
        print(part, file=file, flush=True)
    print("part", part, *sys.argv[3:], flush=True)
    if part == "abort":
        os.abort()
    if part == "hang":
        time.sleep(600)
    if part.startswith("exit"):
        sys.exit(int(part[4:]))
"""


@pytest.fixture
def supervisor(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(project_root / "benchmarks")
    return importlib.import_module("gpu_supervisor")


@pytest.fixture
def supervise(supervisor: ModuleType, tmp_path: Path) -> Callable[..., int]:
    (tmp_path / "done").touch()

    def go(parts: str, minutes: float = float("inf"), patience_s: float = 600.0) -> int:
        command = [sys.executable, "-c", WORKER, str(tmp_path / "done"), parts]
        known = (tmp_path / "done").read_text
        return int(supervisor.supervise(command, known, minutes=minutes, patience_s=patience_s))

    return go


def test_what_ends_the_process_is_told_to_the_next_which_goes_on(
    supervise: Callable[..., int], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert supervise("first abort exit4 last") == 0
    assert capfd.readouterr().out.splitlines() == [
        "part first",
        "part abort",
        "part exit4 --after ended the process by SIGABRT",
        "part last --after ended the process (4)",
    ]


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_process_that_came_to_its_end_is_the_last(supervise: Callable[..., int], tmp_path: Path, code: int) -> None:
    assert supervise(f"exit{code} more") == code
    assert (tmp_path / "done").read_text().split() == [f"exit{code}"]


def test_one_that_ends_without_having_added_anything_is_the_last(
    supervisor: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    ends = [sys.executable, "-c", "import os; os.abort()"]
    assert supervisor.supervise(ends, dict, minutes=1.0, patience_s=60.0) == supervisor.FAILED
    assert "something outside all parts ended the process by SIGABRT" in capfd.readouterr().out


def test_one_that_falls_silent_is_killed_and_another_goes_on(
    supervise: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    assert supervise("hang last", patience_s=5.0) == 0
    assert "part last --after said nothing for 5 s, and was killed" in capfd.readouterr().out


def test_the_minutes_end_it_whatever_it_does(
    supervise: Callable[..., int], supervisor: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    assert supervise("hang last", minutes=0.05) == supervisor.OUT_OF_TIME
    out = capfd.readouterr().out
    assert "stopped after 0.05 minutes; `--resume` goes on from here" in out
    assert "last" not in out
