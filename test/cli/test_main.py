"""The command line as a whole."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from seg_perception.cli.main import COMMANDS, parser


def commands_of(top: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (found,) = (action.choices for action in top._actions if isinstance(action, argparse._SubParsersAction))
    return dict(found)


def test_every_command_is_there_under_its_name():
    assert [*commands_of(parser())] == [*COMMANDS]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_by_itself_takes_what_it_takes_among_all(name):
    alone = commands_of(parser(name))
    assert [*alone] == [name]
    assert alone[name].format_help() == commands_of(parser())[name].format_help()


def test_a_command_does_not_wait_for_what_others_import():
    script = (
        "import sys; from seg_perception.cli.main import main; main(['models', 'list']); "
        "sys.exit(', '.join({'numba', 'cv2', 'scipy'} & {*sys.modules}) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
