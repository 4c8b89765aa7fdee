"""What a training is: network, data, augmentation, loss, schedule. One YAML file, closed like every other."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from seg_perception.config import Section, as_mapping, build_section, setting
from seg_perception.errors import ConfigError
from seg_perception.models.config import NetworkConfig

KINDS = ("folder", "cityscapes", "camvid", "bag")


@dataclass(frozen=True, slots=True)
class SourceConfig(Section):
    """Pictures and their truth. See `datasets` for the layouts."""

    path: str
    kind: str = setting("folder", "layout of the data", choices=KINDS)
    split: str = setting("", "part of it, where the layout has parts: train, val, test")
    labels: str = setting(
        "auto",
        "what label pictures hold; auto: ids in the layout cityscapes, else train_ids",
        choices=("auto", "train_ids", "ids", "colors"),
    )
    every: int = setting(1, "take every so manieth picture", minimum=1)
    repeat: int = setting(1, "count each picture so often, to balance sources", minimum=1)


@dataclass(frozen=True, slots=True)
class AugmentationConfig(Section):
    """How a picture is varied each time it is seen."""

    crop_width: int = setting(768, "pixels", minimum=16)
    crop_height: int = setting(384, "pixels", minimum=16)
    min_scale: float = setting(0.5, "smallest factor the picture is resized by", minimum=0.05)
    max_scale: float = setting(2.0, "largest factor", minimum=0.05)
    flip: float = setting(0.5, "probability of mirroring left and right", minimum=0.0, maximum=1.0)
    colour: float = setting(0.4, "strength of changes in brightness, contrast, saturation", minimum=0.0, maximum=1.0)
    blur: float = setting(0.1, "probability of blurring", minimum=0.0, maximum=1.0)
    noise: float = setting(4.0, "largest standard deviation of added noise, grey values", minimum=0.0, maximum=64.0)
    rare_crop: float = setting(
        0.5, "probability that a crop is laid over a pixel of a class drawn evenly from those in the picture",
        minimum=0.0, maximum=1.0,
    )  # fmt: skip

    def __post_init__(self) -> None:
        Section.__post_init__(self)
        if self.min_scale > self.max_scale:
            raise ConfigError(f"AugmentationConfig: min_scale {self.min_scale} above max_scale {self.max_scale}")


@dataclass(frozen=True, slots=True)
class LossConfig(Section):
    """What is minimised."""

    balancing: str = setting("log", "weights of the classes: log is 1 / ln(1.02 + share)", choices=("none", "log"))
    hardest: float = setting(1.0, "share of pixels, those with the largest loss, that count", minimum=0.01, maximum=1.0)
    overlap: float = setting(
        0.0, "weight of the Lovász-softmax loss, which is the mean IoU's own; 0: none", minimum=0.0
    )
    auxiliary: float = setting(0.4, "weight of the auxiliary head's loss", minimum=0.0)
    centre: float = setting(200.0, "weight of Panoptic-DeepLab's centre loss (squared error)", minimum=0.0)
    offset: float = setting(0.01, "weight of Panoptic-DeepLab's offset loss (absolute error)", minimum=0.0)


@dataclass(frozen=True, slots=True)
class ScheduleConfig(Section):
    """How it is minimised. The learning rate falls as (1 - iteration / iterations) ** power."""

    iterations: int = setting(20000, "steps of the optimiser", minimum=1)
    batch_size: int = setting(8, "pictures a step", minimum=1)
    optimiser: str = setting("adamw", "what takes the steps", choices=("adamw", "sgd"))
    learning_rate: float = setting(1e-3, "at the start", minimum=0.0)
    backbone_rate: float = setting(1.0, "of the backbone, as a share of that", minimum=0.0)
    weight_decay: float = setting(1e-2, "of convolutions; biases and normalisation have none", minimum=0.0)
    momentum: float = setting(0.9, "of sgd", minimum=0.0, maximum=1.0)
    power: float = setting(0.9, "of the poly schedule", minimum=0.0)
    warmup: int = setting(0, "steps in which the rate rises from 0", minimum=0)
    clip_norm: float = setting(0.0, "largest norm of the gradient; 0: any", minimum=0.0)
    averaging: float = setting(
        0.0, "share of the past in a running mean of the weights, which is then what is validated and kept; 0: none",
        minimum=0.0, maximum=0.9999,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunConfig(Section):
    """How it is run. Nothing here changes the result, but for `amp`."""

    workers: int = setting(2, "processes that read and augment", minimum=0, maximum=256)
    amp: bool = setting(True, "mixed precision on a GPU, and on a CPU that computes in bfloat16")
    validate_every: int = setting(1000, "steps between validations", minimum=1)
    checkpoint_every: int = setting(200, "steps between checkpoints", minimum=1)
    log_every: int = setting(20, "steps between lines of the log", minimum=1)
    tensorboard: bool = setting(True, "also write TensorBoard's files where it is installed")


@dataclass(frozen=True, slots=True)
class TrainConfig(Section):
    """One training."""

    train: tuple[SourceConfig, ...]
    validation: tuple[SourceConfig, ...] = ()
    taxonomy: str = setting("cityscapes", "name of a shipped taxonomy or path of a YAML file")
    seed: int = setting(0, "of weights, order and augmentation", minimum=0)
    backbone_weights: str = setting("", "classifier of torchvision or checkpoint of ours for the backbone; empty: none")
    start_from: str = setting("", "checkpoint of another training of this network to go on from; empty: none")
    network: NetworkConfig = field(default_factory=NetworkConfig)
    augmentation: AugmentationConfig = AugmentationConfig()
    loss: LossConfig = LossConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    run: RunConfig = RunConfig()

    def __post_init__(self) -> None:
        Section.__post_init__(self)
        if self.backbone_weights and self.start_from:
            raise ConfigError("TrainConfig: backbone_weights and start_from seen, one of them wanted")
        if not self.train:
            raise ConfigError("TrainConfig.train: at least one source wanted, none seen")

    @classmethod
    def load(cls, path: str | Path) -> TrainConfig:
        """Read a YAML file. Raises ConfigError."""
        try:
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"config {path}: {error.strerror or error}") from error
        except (ValueError, yaml.YAMLError) as error:
            raise ConfigError(f"config {path}: {' '.join(str(error).split())}") from error
        return cls.from_mapping(as_mapping(content, str(path)), str(path))

    @classmethod
    def from_mapping(cls, content: Mapping[str, Any], where: str = "training") -> TrainConfig:
        """Build from a mapping as YAML gives it; unknown keys raise."""
        content = dict(content)
        for name in ("train", "validation"):
            sources = content.get(name, [])
            if not isinstance(sources, list | tuple):
                raise ConfigError(f"{where}: {name}: a list of sources wanted, {sources!r} seen")
            built = [
                build_section(SourceConfig, as_mapping(s, f"{where}: {name}"), f"{where}: {name}") for s in sources
            ]
            content[name] = tuple(built)
        return build_section(cls, content, where)

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """Settings that are not as in `other`, a mapping made by `dataclasses.asdict`; those of `run` do not matter."""
        mine, theirs = _flat(dataclasses.asdict(self)), _flat(dict(other))
        keys = sorted(mine.keys() | theirs.keys())
        return [key for key in keys if not key.startswith("run.") and mine.get(key) != theirs.get(key)]


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = [dict(item) for item in value] if isinstance(value, list | tuple) else value
    return flat
