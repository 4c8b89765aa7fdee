"""What the tests' own conftest.py does with a live test that fails."""

import subprocess
import sys

import pytest

SHAKY = """
import pytest

failures = {"of the fixture": 1, "of the test": 1, "for good": 2, "of the others": 1}

def fail(what):
    failures[what] -= 1
    assert failures[what] < 0, f"the first failure {what}"

@pytest.fixture(scope="module")
def node():
    fail("of the fixture")
    return "node"

@pytest.mark.ros
def test_fixture(node):
    assert node == "node"

@pytest.mark.ros
def test_live(node):
    fail("of the test")

@pytest.mark.ros
def test_broken():
    fail("for good")

def test_other():
    fail("of the others")
"""


def test_a_live_test_that_fails_is_run_once_more_and_the_summary_tells_why_it_failed_at_first(tmp_path, project_root):
    pytest.importorskip("pytest_rerunfailures")
    pytest.importorskip("rclpy")  # without it no live test runs, so none fails
    (tmp_path / "conftest.py").write_text((project_root / "test" / "conftest.py").read_text())
    (tmp_path / "test_shaky.py").write_text(SHAKY)
    command = [sys.executable, "-m", "pytest", "-c", project_root / "pyproject.toml", "-p", "no:cacheprovider"]
    done = subprocess.run([*map(str, command), str(tmp_path)], cwd=tmp_path, capture_output=True, text=True)
    assert "2 failed, 2 passed, 3 rerun" in done.stdout, done.stdout + done.stderr
    for test, phase, cause in (("fixture", "setup", "of the fixture"), ("live", "call", "of the test")):
        told = done.stdout.partition(f"failed at first, in its {phase}: test_shaky.py::test_{test} ")[2]
        assert f"AssertionError: the first failure {cause}" in told
    for test in ("broken", "other"):
        assert f"::test_{test} - AssertionError" in done.stdout
