"""A node that is told to stop before it listens does so at once, and in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import live_node as live
import pytest

pytestmark = pytest.mark.ros


def test_without_ros_the_program_says_what_is_missing():
    blocked = "import sys; sys.modules['rclpy'] = None; from seg_perception.ros.start import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, timeout=live.START_S)
    assert done.returncode == 1
    assert done.stderr == "perception_node: no rclpy: source a ROS 2, or take the environment of `make venv`\n"


def catches(pid: int, number: int) -> bool:
    """Whether the process has a handler of its own for this signal; Linux tells in /proc."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (caught,) = (line.split()[1] for line in lines if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (number - 1) & 1)


def wait_until(condition):
    give_up_s = time.monotonic() + live.START_S
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.005)


IMPORTS_FOR_LONG = """
import sys, time
from seg_perception.ros import start

class Slow:
    def find_spec(name, path=None, target=None):
        if name == "seg_perception.pipeline":
            print("importing", flush=True)
            time.sleep(600.0)

sys.meta_path.insert(0, Slow)
sys.exit(start.main(sys.argv))
"""
CONFIGURES_FOR_LONG = """
import sys, time
from seg_perception.ros import node, start

node.warm_up = lambda *_: time.sleep(600.0)
sys.exit(start.main(sys.argv))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_imports_ends_it_with_exit_code_0_and_no_word(tmp_path, model, number):
    node = live.NodeProcess(tmp_path, live.parameters(model), ("-c", IMPORTS_FOR_LONG))
    wait_until(lambda: "importing" in node.log)
    assert node.stop(number) == 0
    assert node.log.splitlines() == ["importing"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_soon_after_its_first_line_ends_it_with_exit_code_0(tmp_path, model, number):
    node = live.NodeProcess(tmp_path, live.parameters(model))
    wait_until(lambda: catches(node.pid, signal.SIGTERM))  # Python itself leaves SIGTERM alone
    assert node.stop(number) == 0
    assert "Traceback" not in node.log


def test_a_signal_while_it_is_configured_ends_it_there(tmp_path, model):
    node = live.NodeProcess(tmp_path, live.parameters(model), ("-c", CONFIGURES_FOR_LONG))
    wait_until(lambda: "configuring" in node.log)
    assert node.stop() == 0
    assert "told to stop while configuring" in node.log
    assert "configured in" not in node.log
    assert "Traceback" not in node.log


TELLS_ITS_THREADS = """
import os, sys
from pathlib import Path
from seg_perception.ros import start

code = start.main(sys.argv)
print("left:", *{name.read_text().strip() for name in Path("/proc/self/task").glob("*/comm")}, flush=True)
sys.exit(code)
"""


@pytest.mark.parametrize("starts", [True, False], ids=["told to stop", "failed"])
def test_no_thread_of_dds_outlives_the_node(tmp_path, model, starts):
    """But that which watches the shared memory, of which a process has one until it ends."""
    params = live.parameters(model) if starts else live.parameters(tmp_path / "none.onnx")
    node = live.NodeProcess(tmp_path, params, ("-c", TELLS_ITS_THREADS))
    if starts:
        wait_until(lambda: "active: listening" in node.log)
        assert node.stop() == 0
    assert node.wait() == (0 if starts else 1)
    left = node.log.split("left:")[1].split()
    assert [name for name in left if name.startswith("dds") and name != "dds.shm.wdog"] == []


LAST = """
import os, signal

class Last:
    def __del__(self, kill=os.kill, pid=os.getpid(), number=signal.SIGINT, write=os.write):
        write(1, b"the last")
        kill(pid, number)

def run(args, stop):
    return 0
"""
TOLD_AGAIN_AT_THE_END = f"""
import sys
from seg_perception.ros import node, start

apart = {{}}  # what refers to this module would outlive it
exec({LAST!r}, apart)
node.main, last = apart["run"], apart["Last"]()  # which goes when Python has given up its handlers of signals
sys.exit(start.main([]))
"""


OPENS_A_FILE = """
import os, sys
from seg_perception.ros import node, start

node.main = lambda args, stop: os.open(os.devnull, os.O_RDONLY) in (0, 1, 2)
sys.exit(start.main([]))
"""


@pytest.mark.parametrize("closed", [(1,), (0, 1, 2)], ids=["stdout", "all"])
def test_no_file_takes_the_number_of_a_standard_stream_that_is_closed(closed):
    def close():
        for number in closed:
            os.close(number)

    assert subprocess.run([sys.executable, "-c", OPENS_A_FILE], preexec_fn=close).returncode == 0


def test_a_second_signal_as_it_ends_is_not_its_exit_code():
    done = subprocess.run([sys.executable, "-c", TOLD_AGAIN_AT_THE_END], capture_output=True, text=True)
    assert done.stdout == "the last"
    assert done.returncode == 0, done.stderr
