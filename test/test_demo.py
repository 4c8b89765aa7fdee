"""The main job, as a user starts it: a drive over DDS through the live node at real speed."""

import json
import subprocess
import sys

import cv2
import live_node as live
import pytest

from seg_perception.bags import BagReader
from seg_perception.export.deploy import DeploySpec, deploy
from seg_perception.importers.kitti import import_kitti
from seg_perception.offline import POINTS_TOPIC

pytestmark = pytest.mark.ros


def demo(*arguments, cwd):
    command = [sys.executable, "-m", "seg_perception.cli.main", "demo", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=3 * live.START_S)


def rate():
    """Real speed, where the machine has a processor for everybody."""
    return ("--rate", 1.0 / live.stretched(1.0))


@pytest.mark.slow
def test_what_is_shipped_labels_its_drive_live_and_mostly_right(tmp_path):
    """The command fails below 95 % of the sweeps labelled."""
    done = demo("--out", tmp_path, *rate(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["sweeps_sent"] == 50
    assert summary["sweeps_labelled"] >= 48
    assert summary["node_exit_code"] == 0
    assert {"segment", "project", "total"} <= set(summary["latency_ms"])
    assert summary["truth"]["labelled"]["point_accuracy"] > 0.85
    assert cv2.imread(str(tmp_path / "picture.png")).shape[1] == 1600
    with BagReader(tmp_path / "labelled.mcap") as bag:
        assert bag.counts[POINTS_TOPIC] == summary["clouds_received"]
        assert bag.counts["/points"] == 50


@pytest.mark.slow
def test_a_real_drive_of_200_sweeps_is_labelled_live(shared_data, tmp_path):
    recording = shared_data / "kitti_drive"
    timestamps = recording / "timestamps_drive_0001"
    drive = import_kitti(recording, recording / "calib", tmp_path / "kitti.mcap", timestamps=timestamps, loop=20)
    model = tmp_path / "model.onnx"
    spec = DeploySpec(mean=(128.0,) * 3, scale=(1 / 128,) * 3, network_size=(625, 193))
    deploy(next((shared_data / "deeplab_cityscapes").glob("*.onnx")), model, spec)
    done = demo("--out", tmp_path / "out", "--drive", drive.bag, "--model", model, *rate(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["sweeps_labelled"] >= 190
    assert summary["points_by_class"]["car"] > summary["points_by_class"]["building"]
    assert summary["truth"] == {}


def test_a_missing_drive_is_named_and_nothing_is_touched(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    done = demo("--out", tmp_path, "--drive", tmp_path / "nothing.mcap", cwd=tmp_path)
    assert done.returncode == 2
    assert "nothing.mcap" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_missing_model_is_named(tmp_path):
    done = demo("--out", tmp_path, "--model", tmp_path / "nothing.onnx", cwd=tmp_path)
    assert done.returncode == 2
    assert "nothing.onnx" in done.stderr
    assert not list(tmp_path.iterdir())
