"""A network learns a tiny set by heart, and a killed training ends where it would have ended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch")

from seg_perception.errors import ConfigError, ModelError  # noqa: E402
from seg_perception.evaluation.metrics import ConfusionMatrix, PanopticQuality  # noqa: E402
from seg_perception.models.checkpoints import load_checkpoint, read_checkpoint  # noqa: E402
from seg_perception.training.config import ScheduleConfig, TrainConfig  # noqa: E402
from seg_perception.training.loop import rate_factor, train  # noqa: E402

pytestmark = pytest.mark.torch


def run(content: dict, folder: Path):
    return train(TrainConfig.from_mapping(content), folder, ConfusionMatrix, device="cpu", progress=False)


def log_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def same_weights(a: Path, b: Path) -> bool:
    first, second = read_checkpoint(a)["state"], read_checkpoint(b)["state"]
    return all(torch.equal(first[key], second[key]) for key in first)


class KilledError(Exception):
    pass


def kill_at(iteration: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the training die before it takes this step, nothing saved."""
    from seg_perception.training import loop

    real = loop._Training._step

    def step(self, batch):
        if self._iteration == iteration:
            raise KilledError
        return real(self, batch)

    monkeypatch.setattr(loop._Training, "_step", step)


@pytest.mark.parametrize(
    "network",
    [
        {"architecture": "unet", "base_channels": 8},
        {
            "architecture": "deeplabv3plus",
            "separable": True,
            "aspp_channels": 32,
            "decoder_channels": 32,
            "dropout": 0.0,
            "output_stride": 8,
        },
    ],
    ids=lambda network: network["architecture"],
)
def test_a_tiny_set_is_learnt_by_heart(settings: Callable, tmp_path: Path, network: dict) -> None:
    content = settings(network=network, schedule={"iterations": 60, "batch_size": 3}, run={"log_every": 1})
    result = run({**content, "validation": content["train"]}, tmp_path / "out")
    assert result.iteration == 60
    assert result.best > 0.8
    assert load_checkpoint(result.checkpoint).model.config.architecture == network["architecture"]
    losses = [entry["loss"] for entry in log_of(tmp_path / "out") if "loss" in entry]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("averaging", [0.0, 0.5])
def test_a_killed_training_ends_where_it_would_have_ended(
    settings: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, averaging: float
) -> None:
    network = {"architecture": "deeplabv3plus", "aspp_channels": 16, "decoder_channels": 16, "dropout": 0.5}
    run_settings = {"checkpoint_every": 2, "validate_every": 3, "log_every": 1}
    content = settings(network=network, schedule={"averaging": averaging}, run=run_settings)
    whole = run(content, tmp_path / "whole")
    with monkeypatch.context() as patch:
        kill_at(5, patch)
        with pytest.raises(KilledError):
            run(content, tmp_path / "parts")
    assert read_checkpoint(tmp_path / "parts" / "last.pt")["training"]["iteration"] == 4
    parts = run(content, tmp_path / "parts")
    assert parts.best == whole.best
    assert same_weights(tmp_path / "parts" / "last.pt", tmp_path / "whole" / "last.pt")
    assert same_weights(tmp_path / "parts" / "best.pt", tmp_path / "whole" / "best.pt")
    without_time = [
        [{k: v for k, v in entry.items() if k != "elapsed_s"} for entry in log_of(tmp_path / name)]
        for name in ("whole", "parts")
    ]
    assert without_time[0] == without_time[1]


def test_the_running_mean_of_the_weights_is_what_is_kept(settings: Callable, tmp_path: Path) -> None:
    content = settings(schedule={"iterations": 3, "averaging": 0.1}, run={"checkpoint_every": 1})
    states = []
    for steps in (1, 2):
        with pytest.MonkeyPatch.context() as patch:
            kill_at(steps, patch)
            with pytest.raises(KilledError):
                run(content, tmp_path / "out")
        states.append(read_checkpoint(tmp_path / "out" / "last.pt"))
    run(content, tmp_path / "out")
    states.append(read_checkpoint(tmp_path / "out" / "last.pt"))
    expected = states[0]["training"]["average"]
    for state in states[1:]:
        expected = {key: 0.1 * mean + 0.9 * state["state"][key] for key, mean in expected.items()}
    kept = read_checkpoint(tmp_path / "out" / "best.pt")["state"]
    for key, value in kept.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, expected[key])


def test_a_training_starts_from_the_weights_of_another(settings: Callable, tmp_path: Path) -> None:
    run(settings(schedule={"iterations": 2}), tmp_path / "first")
    still = {"iterations": 1, "learning_rate": 0.0}
    run(settings(schedule=still, start_from=str(tmp_path / "first" / "last.pt")), tmp_path / "second")
    first, second = (read_checkpoint(tmp_path / name / "last.pt")["state"] for name in ("first", "second"))
    assert all(torch.equal(first[key], second[key]) for key in first if "running" not in key and "num_" not in key)
    with pytest.raises(ModelError, match=r"of another shape"):
        network = {"base_channels": 8}
        run(settings(network=network, start_from=str(tmp_path / "first" / "last.pt")), tmp_path / "third")


def test_workers_do_not_change_the_result(settings: Callable, tmp_path: Path) -> None:
    run(settings(schedule={"iterations": 3}), tmp_path / "none")
    run(settings(schedule={"iterations": 3}, run={"workers": 1}), tmp_path / "one")
    assert same_weights(tmp_path / "none" / "last.pt", tmp_path / "one" / "last.pt")


def test_sigterm_leaves_a_checkpoint_to_go_on_from(settings: Callable, tmp_path: Path) -> None:
    content = settings(schedule={"iterations": 100_000}, run={"log_every": 1, "workers": 1})
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(content))
    program = (
        "import sys; from pathlib import Path; from seg_perception.evaluation.metrics import ConfusionMatrix;"
        "from seg_perception.training.config import TrainConfig; from seg_perception.training.loop import train;"
        "train(TrainConfig.load(sys.argv[1]), Path(sys.argv[2]), ConfusionMatrix, device='cpu', progress=False)"
    )
    out = tmp_path / "out"
    command = [sys.executable, "-c", program, str(tmp_path / "train.yaml"), str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    log, deadline = out / "log.jsonl", time.monotonic() + 300
    while not (log.is_file() and log.read_text().count("\n") > 2) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGTERM)  # its worker too, as a shell or a container does
    _, said = process.communicate(timeout=300)
    assert "KeyboardInterrupt" in said
    assert read_checkpoint(out / "last.pt")["training"]["iteration"] >= 2


def test_another_configuration_does_not_go_on_with_a_training(settings: Callable, tmp_path: Path) -> None:
    run(settings(schedule={"iterations": 1}), tmp_path / "out")
    with pytest.raises(ConfigError, match=r"schedule\.learning_rate differ.*start_from: .*best\.pt"):
        run(settings(schedule={"iterations": 1, "learning_rate": 0.5}), tmp_path / "out")
    run(settings(schedule={"iterations": 1}, run={"log_every": 7}), tmp_path / "out")  # which changes nothing


def test_panoptic_deeplab_learns_where_things_are(settings: Callable, tmp_path: Path) -> None:
    network = {
        "architecture": "panoptic_deeplab",
        "aspp_channels": 16,
        "dropout": 0.0,
        "base_channels": 64,
    }
    content = settings(network=network, schedule={"iterations": 12}, run={"log_every": 1})
    run(content, tmp_path / "out")
    losses = [entry["loss"] for entry in log_of(tmp_path / "out") if "loss" in entry]
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:4])


def test_the_best_of_a_network_for_things_is_that_of_the_best_panoptic_quality(
    settings: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seg_perception.training import loop

    network = {"architecture": "panoptic_deeplab", "aspp_channels": 16, "dropout": 0.0}
    content = settings(network=network, schedule={"iterations": 3}, run={"validate_every": 1, "log_every": 1})
    made: list[PanopticQuality] = []
    wanted = iter([0.2, 0.6, 0.4])

    def validate(*arguments) -> None:  # the real one, then figures of our own
        loop_validate(*arguments)
        made.append(arguments[5])
        arguments[5].matched[:], arguments[5].matched_iou[:] = 1, next(wanted)
        arguments[5].missed[:] = arguments[5].false_alarms[:] = 0

    loop_validate = loop.validate
    monkeypatch.setattr(loop, "validate", validate)
    result = train(
        TrainConfig.from_mapping(content), tmp_path / "out", ConfusionMatrix, new_quality=PanopticQuality, device="cpu",
        progress=False,
    )  # fmt: skip
    assert len(made) == 3 and (result.best, result.measure) == (pytest.approx(0.6), "PQ")
    assert read_checkpoint(result.checkpoint)["training"]["iteration"] == 2
    assert [entry["pq_things"] for entry in log_of(tmp_path / "out") if "pq" in entry] == pytest.approx([0.2, 0.6, 0.4])


def test_validation_counts_the_segments_of_pictures_that_tell_things_apart(settings: Callable, tmp_path: Path) -> None:
    network = {"architecture": "panoptic_deeplab", "aspp_channels": 16, "dropout": 0.0}
    content = settings(network=network, schedule={"iterations": 1})
    config = TrainConfig.from_mapping(content)
    train(config, tmp_path / "out", ConfusionMatrix, new_quality=PanopticQuality, device="cpu", progress=False)
    (values,) = [entry for entry in log_of(tmp_path / "out") if "pq" in entry]
    assert 0.0 <= values["pq"] <= 1.0 and values["pq_things"] is not None  # both pictures hold cars


def test_the_best_goes_by_mean_iou_where_no_validation_picture_tells_things_apart(
    settings: Callable, tmp_path: Path
) -> None:
    network = {"architecture": "panoptic_deeplab", "aspp_channels": 16, "dropout": 0.0}
    content = settings(network=network, schedule={"iterations": 1})
    shutil.copytree(content["validation"][0]["path"], tmp_path / "semantic", ignore=shutil.ignore_patterns("instances"))
    config = TrainConfig.from_mapping({**content, "validation": [{"path": str(tmp_path / "semantic"), "split": "val"}]})
    result = train(config, tmp_path / "out", ConfusionMatrix, new_quality=PanopticQuality, device="cpu", progress=False)
    assert result.measure == "mean IoU" and result.best >= 0.0


def test_auxiliary_head_and_hardest_pixels_train(settings: Callable, tmp_path: Path) -> None:
    network = {"architecture": "fcn", "backbone": "mobilenet_v3_large", "auxiliary": True, "output_stride": 16}
    content = settings(network=network, loss={"hardest": 0.3}, schedule={"iterations": 2, "optimiser": "sgd"})
    content["network"].pop("base_channels")
    assert run(content, tmp_path / "out").iteration == 2


def test_a_training_that_diverges_says_so(settings: Callable, tmp_path: Path) -> None:
    content = settings(schedule={"learning_rate": 1e30, "optimiser": "sgd"}, run={"log_every": 1})
    with pytest.raises(ConfigError, match="smaller learning_rate"):
        run(content, tmp_path / "out")


def test_pictures_that_are_void_throughout_teach_nothing_and_are_refused(
    settings: Callable, street_folder: Path, tmp_path: Path
) -> None:
    for path in (street_folder / "train/labels").iterdir():
        cv2.imwrite(str(path), np.full((64, 96), 255, np.uint8))
    with pytest.raises(ConfigError, match="not one of the 6 label pictures has a pixel that is not void"):
        run(settings(), tmp_path / "out")


def test_classes_of_network_and_taxonomy_have_to_agree(settings: Callable, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="3 of taxonomy 'three' wanted, 19 seen"):
        run(settings(network={"num_classes": 19}), tmp_path / "out")


def test_learning_rate_rises_then_falls_to_nothing() -> None:
    schedule = ScheduleConfig(iterations=100, warmup=9, power=0.9)
    assert rate_factor(schedule, 0) == pytest.approx(0.1)
    assert rate_factor(schedule, 50) == pytest.approx(0.5**0.9)
    assert rate_factor(schedule, 99) == pytest.approx(0.01**0.9)
