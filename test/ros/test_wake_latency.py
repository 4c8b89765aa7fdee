"""What the node asks of the kernel's idle states: held while it is active, never a reason to fail."""

import os
import stat
import struct
from pathlib import Path

import live_node as live
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticStatus

from seg_perception.doctor.machine import wake_latency
from seg_perception.ros.diagnostics import Observation, statuses
from seg_perception.ros.wake_latency import AS_IT_IS, CAUSE, DEVICE, WakeLatency, refusal
from seg_perception.statistics import RunStatistics

UNUSED = Path("/dev/null")  # a device that takes any number


def handles(device):
    """How many this process has of a device."""
    return sum(Path(entry).resolve() == device for entry in Path("/proc/self/fd").iterdir())


@pytest.fixture(params=["missing", "folder", "file", "forbidden"])
def unusable(request, tmp_path):
    """What may stand in place of the device, by its path."""
    path = tmp_path / request.param
    if request.param == "folder":
        path.mkdir()
    elif request.param == "file":
        path.touch()
    elif request.param == "forbidden":
        if os.geteuid() == 0:
            pytest.skip("to root nothing is forbidden")
        path.touch(mode=0)
    return path


def test_what_cannot_be_asked_is_a_sentence_with_its_remedy_and_no_failure(unusable):
    with WakeLatency(0, unusable) as awake:
        assert str(unusable) in awake.refusal.seen
        assert awake.refusal.remedy
    assert refusal(unusable) == awake.refusal


def test_nothing_is_opened_where_nothing_is_asked(unusable):
    with WakeLatency(AS_IT_IS, unusable) as awake:
        assert awake.refusal is None


def test_a_refused_permission_is_told_with_the_rule_that_gives_it(tmp_path, monkeypatch):
    def deny(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", deny)
    found = refusal(tmp_path / "device")
    assert "Permission denied" in found.seen
    assert "udev" in found.remedy


def test_a_request_is_held_until_the_end_of_the_block_however_it_ends():
    before = handles(UNUSED)
    with pytest.raises(RuntimeError), WakeLatency(20, UNUSED) as awake:
        assert awake.refusal is None
        assert handles(UNUSED) == before + 1
        raise RuntimeError
    assert handles(UNUSED) == before
    with awake:
        assert handles(UNUSED) == before + 1


@pytest.mark.skipif(refusal() is not None, reason=f"not without {DEVICE}")
def test_the_kernel_keeps_to_it():
    assert stat.S_ISCHR(DEVICE.stat().st_mode)
    with WakeLatency(3, DEVICE):
        assert struct.unpack("=i", DEVICE.read_bytes()[:4])[0] <= 3


def machine_status(awake):
    """The one of the machine, if there is one."""
    now = Observation(0.0, RunStatistics().summary(()), awake=awake)
    return [status for status in statuses("node", now, now) if status.name == "node: machine"]


def test_diagnostics_tell_whether_it_is_held_and_nothing_where_it_is_not_asked(tmp_path):
    with WakeLatency(20, UNUSED) as held, WakeLatency(0, tmp_path) as refused:
        assert [(s.level, s.message) for s in machine_status(held)] == [(DiagnosticStatus.OK, "CPUs wake within 20 us")]
        (status,) = machine_status(refused)
    assert status.level == DiagnosticStatus.WARN
    assert str(refused.refusal) in status.message
    assert {(v.key, v.value) for v in status.values} == {("wake_latency_us", "0"), ("wake_latency_held", "false")}
    assert machine_status(WakeLatency(AS_IT_IS)) == machine_status(None) == []


def test_the_doctor_warns_only_where_it_is_asked_for(tmp_path):
    assert wake_latency(device=tmp_path).level == wake_latency(device=UNUSED).level == "ok"
    assert "could not" in wake_latency(device=tmp_path).seen
    assert wake_latency(0, UNUSED).level == "ok"
    assert (wake_latency(0, tmp_path).level, wake_latency(0, tmp_path).remedy) == ("warn", refusal(tmp_path).remedy)


@pytest.mark.ros
def test_the_node_asks_while_it_is_active_and_labels_where_it_may_not(tmp_path, model, peer):
    with live.running(peer, tmp_path, live.parameters(model, node={"wake_latency_us": 500})) as node:
        assert peer.labels_of(peer.send_good())
        (status,) = [s for name, s in peer.statuses.items() if name.endswith(": machine")]
        held = [entry for entry in Path(f"/proc/{node.pid}/fd").iterdir() if entry.readlink() == DEVICE]
        assert bool(held) == (refusal() is None) == (status.level == DiagnosticStatus.OK)
        assert (CAUSE in peer.causes()) == (refusal() is not None)
