import json
import subprocess
import sys

import cv2
import pytest

from seg_perception.bags import BagReader
from seg_perception.offline import POINTS_TOPIC


def demo(*arguments, cwd):
    command = [sys.executable, "-m", "seg_perception.cli.main", "demo", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300)


@pytest.mark.ros
@pytest.mark.slow
def test_a_drive_of_200_sweeps_is_labelled_live_at_real_speed(shared_data, tmp_path):
    """The main job: a rosbag2 over DDS through the live node. The command fails below 95 % of the sweeps labelled."""
    done = demo("--out", tmp_path, "--data", shared_data, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["sweeps_sent"] == 200
    assert summary["sweeps_labelled"] >= 190
    assert summary["node_exit_code"] == 0
    assert summary["points_by_class"]["car"] > summary["points_by_class"]["building"]
    assert {"segment", "project", "total"} <= set(summary["latency_ms"])
    assert cv2.imread(str(tmp_path / "picture.png")).shape[1] == 1600
    with BagReader(tmp_path / "labelled.mcap") as bag:
        assert bag.counts[POINTS_TOPIC] == bag.counts["/velodyne/points"] == 10  # the first lap
    assert not list(tmp_path.glob("drive-*"))


@pytest.mark.ros
def test_missing_data_is_named_and_nothing_is_touched(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    done = demo("--out", tmp_path, "--data", tmp_path / "nothing", cwd=tmp_path)
    assert done.returncode == 2
    assert "deeplab_cityscapes" in done.stderr
    assert "--data" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
