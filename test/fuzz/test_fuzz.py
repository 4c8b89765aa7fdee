"""A short run of the fuzzer; `make fuzz` is the long one, with every array access of compiled loops checked."""

import json
import subprocess
import sys


def test_spoilt_messages_of_every_kind_do_no_harm(project_root):
    command = [sys.executable, "test/fuzz/run.py", "--cases", "300", "--seed", "7"]
    done = subprocess.run(command, cwd=project_root, capture_output=True, text=True)
    assert done.returncode in (0, 1), f"the process died with {done.returncode}: {done.stderr[-2000:]}"
    report = json.loads(done.stdout)
    assert not report["findings"]
    assert min(report["cases"].values()) > 35
    assert report["outcomes"]["taken as it is"] > 15
    assert report["said"]["bad_message"] > 25
