"""`seg-perception play` ends in order when it is told to, however often."""

import subprocess
import sys

import pytest
from viewing import small_bag as small

pytestmark = pytest.mark.ros

TOLD = """
import os, signal, sys
from seg_perception.cli.main import main
from seg_perception.ros import player

def told(*_):
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)

if {while_it_plays}:
    player._sleep_until = told
code = main(["play", {bag!r}, "--wait-for-subscribers", "0", "--no-progress"])
told()
sys.exit(code)
"""


@pytest.mark.parametrize("while_it_plays", [True, False], ids=["while it plays", "as it ends"])
def test_two_signals_end_it_with_its_report_and_exit_code_0(tmp_path, while_it_plays):
    script = TOLD.format(bag=str(small.write_bag(tmp_path / "drive.mcap")), while_it_plays=while_it_plays)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "latest message" in done.stdout
