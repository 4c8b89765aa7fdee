"""What a user may mistake: every command ends in one sentence that names it, and exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seg_perception.cli.main import main
from seg_perception.shipped import DRIVE, MODEL

ADD = ("models", "add", "mine", "https://localhost/x.onnx", "--layout", "onnx", "--list")
HERE = {"DRIVE": str(DRIVE), "MODEL": str(MODEL)}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("bytes.yaml", "bytes.mcap", "bytes.onnx", "bytes.json"):
        (tmp_path / name).write_bytes(bytes(range(256)))
    (tmp_path / "cut.mcap").write_bytes(DRIVE.read_bytes()[:50_000])
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (("layout", "bytes.yaml", "--out", "views"), "config bytes.yaml"),
        (("replay", "DRIVE", "--out", "out.mcap", "--config", "bytes.yaml"), "config bytes.yaml"),
        (("view", "DRIVE", "--out", "out.png", "--config", "folder"), "folder"),
        (("layout", "file", "--out", "file"), "file: File exists"),
        (("layout", "file", "--out", "/dev/null/views"), "/dev/null/views: Not a directory"),
        (("layout", "file", "--out", "views", "--namespace", "no name"), "'no name'"),
        ((*ADD, "folder"), "folder: Is a directory"),
        ((*ADD, "/dev/null/list.yaml"), "/dev/null: File exists"),
        (("models", "list", "--list", "missing.yaml"), "missing.yaml"),
        (("check-calibration", "cut.mcap", "--out", "out", "--config", "file"), "was the recording cut short?"),
        (("check-model", "bytes.onnx", "--rules-only"), "model bytes.onnx"),
        (("evaluate", "MODEL", "--data", "DRIVE", "--kind", "points", "--every", "0"), "--every: at least 1"),
        (("evaluate", "MODEL", "--data", "DRIVE", "--kind", "bag", "--json", "none/of.json"), "none/of.json"),
        (("quantize", "MODEL", "q.onnx", "--target", "cpu", "--calibration", "DRIVE", "--pictures", "0"), "at least 1"),
        (("simulate", "--out", "s.mcap", "--field-of-view", "0"), "above 0 and below 180 degrees wanted, 0.0 seen"),
    ],
)  # fmt: skip
def test_ends_in_a_sentence(command: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([HERE.get(word, word) for word in command]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith(f"seg-perception {command[0]}: ")
    assert named in sentence


@pytest.mark.torch
def test_training_on_a_device_that_is_none(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "train.yaml").write_text("train: [{kind: folder, path: folder}]\nnetwork: {num_classes: 19}\n")
    assert main(["train", "--config", "train.yaml", "--out", "run", "--device", "abacus"]) == 2
    assert "device 'abacus': " in capsys.readouterr().err


def test_a_reader_that_has_enough_ends_it_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "seg_perception.cli.main", "models", "list"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")
