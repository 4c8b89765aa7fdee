"""The training itself. Killed and started again it goes on from its last checkpoint, and ends where it would have."""

from __future__ import annotations

import copy
import dataclasses
import logging
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from seg_perception.errors import ConfigError
from seg_perception.labels import Taxonomy
from seg_perception.models.build import SegmentationNetwork, build_model
from seg_perception.models.checkpoints import load_backbone, load_weights, read_checkpoint, save_checkpoint
from seg_perception.models.config import Preprocessing
from seg_perception.training.config import ScheduleConfig, TrainConfig
from seg_perception.training.datasets import open_sources
from seg_perception.training.log import TrainingLog, number_or_none
from seg_perception.training.losses import SegmentationLoss, log_class_weights
from seg_perception.training.stream import Pictures, SampleStream, batches, count_pixels, one_by_one
from seg_perception.training.validation import Confusion, Quality, normalised, validate

LAST, BEST = "last.pt", "best.pt"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainResult:
    """Where a training ended. best: on the validation pictures, NaN where there are none; measure: of what."""

    iteration: int
    best: float
    measure: str
    checkpoint: Path


def train(
    config: TrainConfig,
    folder: str | Path,
    new_confusion: Callable[[int], Confusion],
    *,
    new_quality: Callable[[NDArray[np.bool_]], Quality] | None = None,
    device: str = "",
    progress: bool = True,
) -> TrainResult:
    """Train, or go on where `folder` holds an unfinished training of the same configuration.

    Writes there `last.pt`, `best.pt` (by mean IoU on the validation pictures; without any, the last) and `log.jsonl`.
    new_confusion: makes an empty confusion matrix for so many classes. new_quality: makes empty counts of panoptic
    quality for classes that are things or not; given that, a network that tells things apart and validation pictures
    (the first of them is asked) that do, best.pt goes by PQ.
    device: as torch names it; empty: a GPU where there is one. SIGTERM and Ctrl-C leave a checkpoint behind. Raises
    ConfigError where data or settings do not fit, or the device is none that works here.
    """
    return _Training(config, Path(folder), new_confusion, new_quality, _device(device or _best_device())).run(progress)


class _Training:
    """Everything that changes while training."""

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        new_confusion: Callable[[int], Confusion],
        new_quality: Callable[[NDArray[np.bool_]], Quality] | None,
        device: torch.device,
    ) -> None:
        self._config, self._folder, self._device = config, folder, device
        self._new_confusion = new_confusion
        self._things = config.network.architecture == "panoptic_deeplab"
        self._taxonomy = Taxonomy.load(config.taxonomy)
        self._check_classes()
        folder.mkdir(parents=True, exist_ok=True)
        self._data = open_sources(config.train, self._taxonomy, folder / "data")
        held_out = Pictures(open_sources(config.validation, self._taxonomy, folder / "data"))
        self._pictures = one_by_one(held_out, config.run.workers)
        told_apart = self._things and len(held_out) > 0 and "instances" in held_out[0]
        self._new_quality = new_quality if told_apart else None
        self._preprocessing = Preprocessing()
        torch.manual_seed(config.seed)
        self._model = build_model(config.network)
        self._iteration, self._best = 0, float("nan")
        saved = self._saved()
        if saved is None and config.backbone_weights:
            load_backbone(self._model, config.backbone_weights)
        if saved is None and config.start_from:
            _log.info("start_from %s", load_weights(self._model, config.start_from))
        # The order that tensor cores like, and a CPU that computes in bfloat16.
        self._model.to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self._average = copy.deepcopy(self._model) if config.schedule.averaging else None
        self._loss = SegmentationLoss(config.loss, self._class_weights(saved)).to(device)
        self._optimiser = _optimiser(self._model, config.schedule)
        self._amp = _amp_type(config, device)
        self._scaler = torch.amp.GradScaler(device.type, enabled=self._amp == torch.float16)
        if saved is not None:
            self._restore(saved)
        self._logger = TrainingLog(folder, self._iteration, config.run.tensorboard)

    def run(self, progress: bool) -> TrainResult:
        """To the last iteration."""
        config, total = self._config.run, self._config.schedule.iterations
        things = self._taxonomy.is_thing if self._things else None
        stream = SampleStream(self._data, self._config, things)
        bar = tqdm(total=total, initial=self._iteration, unit="step", disable=not progress)
        with bar, _deferred_signals() as stopped:
            for batch in batches(stream, self._config, self._iteration):
                loss = self._step(batch)
                bar.update()
                if self._iteration % config.log_every == 0 or self._iteration == total:
                    self._report(bar, float(loss))
                if self._iteration % config.validate_every == 0 or self._iteration == total:
                    self._validate(bar)
                if self._iteration % config.checkpoint_every == 0 or self._iteration == total or stopped:
                    self._save(LAST)
                if stopped:
                    raise KeyboardInterrupt
        self._logger.close()
        if not len(self._pictures):
            self._save(BEST)
        return TrainResult(self._iteration, self._best, self._measure, self._folder / BEST)

    def _step(self, batch: Mapping[str, Tensor]) -> Tensor:
        """One step of the optimiser. Drop-out draws from the iteration's own seed."""
        schedule = self._config.schedule
        torch.manual_seed(self._config.seed * 1_000_003 + self._iteration)
        factor = rate_factor(schedule, self._iteration)
        for group in self._optimiser.param_groups:
            group["lr"] = group["initial_lr"] * factor
        batch = {name: tensor.to(self._device, non_blocking=True) for name, tensor in batch.items()}
        images = normalised(batch.pop("pixels"), self._preprocessing).contiguous(memory_format=torch.channels_last)
        batch["labels"] = batch["labels"].long()
        with torch.autocast(self._device.type, self._amp or torch.bfloat16, enabled=self._amp is not None):
            maps = self._model.maps(images)
        loss = self._loss(maps, batch)
        self._optimiser.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()
        if schedule.clip_norm:
            self._scaler.unscale_(self._optimiser)
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), schedule.clip_norm)
        self._scaler.step(self._optimiser)
        self._scaler.update()
        self._iteration += 1
        if self._average is not None:
            # So early, the past is only the random start.
            past = min(schedule.averaging, (1 + self._iteration) / (10 + self._iteration))
            _average_into(self._average, self._model, past)
        return loss.detach()

    @property
    def _kept(self) -> SegmentationNetwork:
        """What is validated, and best.pt: the running mean where there is one."""
        return self._model if self._average is None else self._average

    @property
    def _measure(self) -> str:
        return "mean IoU" if self._new_quality is None else "PQ"

    def _validate(self, bar: tqdm) -> None:
        if not len(self._pictures):
            return
        classes = self._config.network.num_classes
        confusion, is_thing = self._new_confusion(classes), self._taxonomy.is_thing
        quality = self._new_quality and self._new_quality(is_thing[:classes])
        validate(self._kept, self._pictures, self._preprocessing, confusion, self._device, quality, is_thing)
        mean = confusion.mean_iou
        iou = {name: number_or_none(value) for name, value in zip(self._taxonomy.names, confusion.iou, strict=True)}
        values, score = {"mean_iou": number_or_none(mean)}, mean
        if quality is not None:
            score = quality.scores.mean()[0]
            values |= {
                "pq": number_or_none(score),
                "pq_things": number_or_none(quality.scores.mean(is_thing[:classes])[0]),
            }
        self._logger.write(self._iteration, values, iou=iou)
        if not self._best >= score:
            self._best = score
            self._save(BEST)
        if not bar.disable:
            said = ", ".join(f"{name} {value:.2%}" for name, value in values.items() if value is not None)
            bar.write(f"step {self._iteration}: {said}; best {self._measure} {self._best:.2%}")

    def _report(self, bar: tqdm, loss: float) -> None:
        if not np.isfinite(loss):
            raise ConfigError(f"training: loss {loss} at step {self._iteration}; a smaller learning_rate or clip_norm")
        bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        rate = self._optimiser.param_groups[0]["lr"]
        self._logger.write(self._iteration, {"loss": loss, "learning_rate": rate})

    def _save(self, name: str) -> None:
        training: dict[str, Any] = {
            "config": dataclasses.asdict(self._config),
            "iteration": self._iteration,
            "best": self._best,
        }
        if name == LAST:
            weights = self._loss.class_weights
            training |= {
                "optimiser": self._optimiser.state_dict(),
                "scaler": self._scaler.state_dict(),
                "class_weights": None if weights is None else weights.cpu(),
                "average": None if self._average is None else self._average.state_dict(),
            }
        model = self._model if name == LAST else self._kept
        save_checkpoint(self._folder / name, model, self._config.taxonomy, self._preprocessing, training)

    def _saved(self) -> dict[str, Any] | None:
        path = self._folder / LAST
        if not path.is_file():
            return None
        saved = read_checkpoint(path)
        differences = self._config.differences(saved["training"]["config"])
        if differences:
            raise ConfigError(
                f"training {self._folder}: holds another training; {', '.join(differences)} differ; take another "
                f"folder, with start_from: {self._folder / BEST} to go on from its weights"
            )
        return saved

    def _restore(self, saved: Mapping[str, Any]) -> None:
        training = saved["training"]
        self._model.load_state_dict(saved["state"])
        if self._average is not None:
            self._average.load_state_dict(training["average"])
        self._optimiser.load_state_dict(training["optimiser"])
        self._scaler.load_state_dict(training["scaler"])
        self._iteration, self._best = training["iteration"], training["best"]
        _log.info("going on with %s at step %d", self._folder, self._iteration)

    def _class_weights(self, saved: Mapping[str, Any] | None) -> Tensor | None:
        if self._config.loss.balancing == "none":
            return None
        if saved is not None:
            return saved["training"]["class_weights"]
        pixels = count_pixels(self._data, self._config.network.num_classes)
        if not pixels.any():
            raise ConfigError(f"train: not one of the {len(self._data)} label pictures has a pixel that is not void")
        return log_class_weights(pixels)

    def _check_classes(self) -> None:
        seen, wanted = self._config.network.num_classes, len(self._taxonomy.trained)
        if seen != wanted:
            raise ConfigError(f"network.num_classes: {wanted} of taxonomy '{self._taxonomy.name}' wanted, {seen} seen")


def rate_factor(schedule: ScheduleConfig, iteration: int) -> float:
    """What the learning rate is multiplied with at an iteration: poly, after a linear rise."""
    rise = min(1.0, (iteration + 1) / (schedule.warmup + 1))
    return rise * (1 - iteration / schedule.iterations) ** schedule.power


@torch.no_grad()
def _average_into(average: SegmentationNetwork, model: SegmentationNetwork, past: float) -> None:
    """average = past * average + (1 - past) * model, of weights and running statistics; counters are copied."""
    for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1.0 - past)
        else:
            mean.copy_(value)


def _optimiser(model: SegmentationNetwork, schedule: ScheduleConfig) -> torch.optim.Optimizer:
    """Weights of convolutions decay, biases and normalisation do not; the backbone has its own rate."""
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        groups.setdefault((name.startswith("backbone."), parameter.dim() > 1), []).append(parameter)
    settings = []
    for (in_backbone, decays), parameters in sorted(groups.items(), key=lambda item: item[0]):
        rate = schedule.learning_rate * (schedule.backbone_rate if in_backbone else 1.0)
        decay = schedule.weight_decay if decays else 0.0
        settings.append({"params": parameters, "lr": rate, "initial_lr": rate, "weight_decay": decay})
    if schedule.optimiser == "sgd":
        return torch.optim.SGD(settings, lr=schedule.learning_rate, momentum=schedule.momentum)
    return torch.optim.AdamW(settings, lr=schedule.learning_rate)


def _best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _device(name: str) -> torch.device:
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # unknown to torch; not built for it; no driver
        raise ConfigError(f"device '{name}': {' '.join(str(error).split())}") from error


def _amp_type(config: TrainConfig, device: torch.device) -> torch.dtype | None:
    """What mixed precision computes in; None: not at all."""
    if not config.run.amp or device.type not in ("cuda", "cpu"):
        return None
    if device.type == "cpu":  # slower than float32 where the CPU has no instructions for it
        has_bfloat16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        return torch.bfloat16 if has_bfloat16() else None
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


@contextmanager
def _deferred_signals() -> Iterator[list[int]]:
    """SIGINT and SIGTERM fill the list that is given, instead of ending a step in its middle."""
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread, which alone may
        before = {}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
