"""The whole way of a user: train, evaluate the checkpoint, export, evaluate what was deployed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("torch")

from seg_perception.cli import evaluate, export, train

pytestmark = pytest.mark.torch


def command(*words: object) -> int:
    top = argparse.ArgumentParser()
    subparsers = top.add_subparsers()
    for module in (train, evaluate, export):
        module.add_parser(subparsers)
    args = top.parse_args([str(word) for word in words])
    return args.run(args)


def test_train_evaluate_export_evaluate(
    settings: Callable, street_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = settings(schedule={"iterations": 20}, network={"base_channels": 8})
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(content))
    assert command("train", "--config", tmp_path / "train.yaml", "--out", tmp_path / "run", "--no-progress") == 0
    best, deployed = tmp_path / "run" / "best.pt", tmp_path / "net.onnx"
    data = ("--data", street_folder, "--split", "val")
    assert command("evaluate", best, *data, "--json", tmp_path / "torch.json") == 0
    picture = street_folder / "val" / "images" / "006.png"
    assert command("export", best, deployed, "--network-size", "96x64", "--picture", picture) == 0
    data = (*data, "--taxonomy", content["taxonomy"])
    assert command("evaluate", deployed, *data, "--json", tmp_path / "onnx.json") == 0
    reports = [json.loads((tmp_path / name).read_text()) for name in ("torch.json", "onnx.json")]
    assert reports[0]["pictures"] == 2 and reports[0]["semantic"]["pixels"] == 2 * (96 * 64 - 16)
    ious = [report["semantic"]["mean_iou"] for report in reports]
    assert ious[0] == pytest.approx(ious[1], abs=1e-3) and ious[0] > 0.3
    said = capsys.readouterr().out
    assert f"mean IoU {100 * ious[0]:.1f} %" in said and "best.pt: 20 steps" in said


def test_panoptic_checkpoint_is_measured_by_its_instances_too(
    settings: Callable, street_folder: Path, tmp_path: Path
) -> None:
    network = {"architecture": "panoptic_deeplab", "aspp_channels": 16}
    content = settings(network=network, schedule={"iterations": 1}, validation=[])
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(content))
    command("train", "--config", tmp_path / "train.yaml", "--out", tmp_path / "run", "--no-progress")
    best = tmp_path / "run" / "best.pt"
    command("evaluate", best, "--data", street_folder, "--split", "val", "--json", tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report["panoptic"]) == {"all", "things", "stuff", "classes"}
    assert set(report["panoptic"]["classes"]) == {"road", "plants", "car"}


def test_shipped_configurations_can_be_read(project_root: Path) -> None:
    from seg_perception.training.config import TrainConfig

    paths = sorted((project_root / "config" / "training").glob("*.yaml"))
    assert paths
    networks = {path.stem: TrainConfig.load(path).network for path in paths}
    ships = networks["deeplabv3plus_mobilenet"]
    assert (ships.architecture, ships.backbone, ships.separable) == ("deeplabv3plus", "mobilenet_v2", True)


def test_a_table_tells_every_class_and_the_means() -> None:
    from seg_perception.evaluation.metrics import ConfusionMatrix, PanopticQuality
    from seg_perception.evaluation.reports import panoptic_lines, panoptic_report, semantic_lines, semantic_report

    matrix = ConfusionMatrix(2)
    truth = np.array([0, 0, 0, 0], np.uint8)
    matrix.update(truth, np.array([0, 0, 0, 255], np.uint8))
    lines = semantic_lines(semantic_report(matrix, ["road", "car"]))
    assert lines[1].split() == ["road", "75.0", "%", "75.0", "%", "100.0", "%", "4"]
    assert lines[2].split() == ["car", "-", "-", "-", "0"]
    assert lines[3] == "mean IoU 75.0 %, pixel accuracy 75.0 %, labelled 75.0 % of 4 pixels"
    quality = PanopticQuality([False, True])
    quality.update(truth, truth, truth, truth)
    report = panoptic_report(quality.scores, ["road", "car"], np.array([False, True]))
    assert panoptic_lines(report)[0].split() == ["all", "PQ", "100.0", "%,", "SQ", "100.0", "%,", "RQ", "100.0", "%"]
    assert report["things"]["pq"] is None
