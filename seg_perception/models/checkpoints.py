"""Weights from files: our own checkpoints, and published ones whose names are translated to ours.

Files are read with `weights_only=True`: a checkpoint holds data, never code. What does not fit is named key by key.
"""

from __future__ import annotations

import dataclasses
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seg_perception.errors import ConfigError, ModelError
from seg_perception.models.build import SegmentationNetwork, build_model
from seg_perception.models.config import NetworkConfig, Preprocessing

FORMAT = "seg_perception checkpoint 1"
_WRAPPERS = ("model_state", "state_dict", "model", "state")  # under which training scripts put the weights
_THINGS = ("head.instance.", "head.centre.", "head.offset.")  # what Panoptic-DeepLab has for things
_KEYS_NAMED = 8  # of a mismatch; the rest is counted

Renames = tuple[tuple[str, str], ...]

_ASPP: Renames = (
    (r"convs\.([0-3])\.([01])\.", r"branches.\1.\2."),
    (r"convs\.4\.1\.", r"pooled.0."),
    (r"convs\.4\.2\.", r"pooled.1."),
    (r"project\.([01])\.", r"project.\1."),
)
_RESNET: Renames = ((r"backbone\.(conv1|bn1|layer[1-4])\.", r"backbone.\1."),)
_MOBILENET_V3: Renames = (
    (r"backbone\.(\d+)\.block\.(\d)\.", r"backbone.blocks.\1.body.\2."),
    (r"backbone\.(\d+)\.([01])\.", r"backbone.blocks.\1.\2."),
)


def _mobilenet_v2(prefix: str) -> Renames:
    """torchvision's names of MobileNetV2 behind `prefix`: block 0 is a convolution, block 1 does not expand."""
    return (
        (rf"{prefix}\.0\.([01])\.", r"backbone.blocks.0.\1."),
        (rf"{prefix}\.1\.conv\.0\.([01])\.", r"backbone.blocks.1.body.0.\1."),
        (rf"{prefix}\.1\.conv\.1\.", r"backbone.blocks.1.body.1.0."),
        (rf"{prefix}\.1\.conv\.2\.", r"backbone.blocks.1.body.1.1."),
        (rf"{prefix}\.(\d+)\.conv\.([01])\.([01])\.", r"backbone.blocks.\1.body.\2.\3."),
        (rf"{prefix}\.(\d+)\.conv\.2\.", r"backbone.blocks.\1.body.2.0."),
        (rf"{prefix}\.(\d+)\.conv\.3\.", r"backbone.blocks.\1.body.2.1."),
    )


def _nested(before: str, after: str, renames: Renames) -> Renames:
    return tuple((before + pattern, after + replacement) for pattern, replacement in renames)


_AUXILIARY: Renames = (
    (r"aux_classifier\.([01])\.", r"auxiliary.refine.\1."),
    (r"aux_classifier\.4\.", r"auxiliary.scores."),
)
_TORCHVISION_DEEPLAB: Renames = (
    *_nested(r"classifier\.0\.", "head.aspp.", _ASPP),
    (r"classifier\.1\.", r"head.refine.0.0."),
    (r"classifier\.2\.", r"head.refine.0.1."),
    (r"classifier\.4\.", r"head.scores."),
    *_AUXILIARY,
)
_TORCHVISION_FCN: Renames = (
    (r"classifier\.([01])\.", r"head.refine.\1."),
    (r"classifier\.4\.", r"head.scores."),
    *_AUXILIARY,
)
_VAINF_PLUS: Renames = (
    *_nested(r"classifier\.aspp\.", "head.aspp.", _ASPP),
    (r"classifier\.project\.([01])\.", r"head.low.\1."),
    (r"classifier\.classifier\.([01])\.", r"head.refine.0.\1."),
    (r"classifier\.classifier\.3\.", r"head.scores."),
)


@dataclass(frozen=True, slots=True)
class Published:
    """A published network: its configuration, and how its names become ours. scores: its last weight, one row a class.

    All of them read RGB normalised as for ImageNet.
    """

    network: NetworkConfig
    renames: Renames
    scores: str = "classifier.4.weight"
    preprocessing: Preprocessing = field(default_factory=Preprocessing)


def _torchvision(architecture: str, backbone: str, renames: Renames, **settings: Any) -> Published:
    network = NetworkConfig(architecture, backbone, 21, auxiliary=True, **settings)
    return Published(network, renames)


def _vainf(backbone: str, renames: Renames, output_stride: int, **settings: Any) -> Published:
    network = NetworkConfig("deeplabv3plus", backbone, 19, output_stride, decoder_convs=1, **settings)
    return Published(network, (*_VAINF_PLUS, *renames), "classifier.classifier.3.weight")


PUBLISHED: Mapping[str, Published] = {
    "torchvision/deeplabv3_resnet50": _torchvision(
        "deeplabv3", "resnet50", (*_RESNET, *_TORCHVISION_DEEPLAB), output_stride=8
    ),
    "torchvision/deeplabv3_resnet101": _torchvision(
        "deeplabv3", "resnet101", (*_RESNET, *_TORCHVISION_DEEPLAB), output_stride=8
    ),
    "torchvision/deeplabv3_mobilenet_v3_large": _torchvision(
        "deeplabv3", "mobilenet_v3_large", (*_MOBILENET_V3, *_TORCHVISION_DEEPLAB), aspp_rates="12,24,36"
    ),
    "torchvision/fcn_resnet50": _torchvision("fcn", "resnet50", (*_RESNET, *_TORCHVISION_FCN), output_stride=8),
    "torchvision/fcn_resnet101": _torchvision("fcn", "resnet101", (*_RESNET, *_TORCHVISION_FCN), output_stride=8),
    "vainf/deeplabv3plus_mobilenet": _vainf(
        "mobilenet_v2", _mobilenet_v2(r"backbone\.(?:low|high)_level_features"), 16, padding="block"
    ),
    "vainf/deeplabv3plus_resnet50": _vainf("resnet50", _RESNET, 16),
    "vainf/deeplabv3plus_resnet101": _vainf("resnet101", _RESNET, 16),
}
"""What `load_published` understands: torchvision's DeepLabV3 and FCN, VainF/DeepLabV3Plus-Pytorch's DeepLabV3+."""

CLASSIFIERS: Mapping[str, Renames] = {
    "resnet50": ((r"(conv1|bn1|layer[1-4])\.", r"backbone.\1."),),
    "resnet101": ((r"(conv1|bn1|layer[1-4])\.", r"backbone.\1."),),
    "mobilenet_v2": _mobilenet_v2("features"),
    "mobilenet_v3_large": _nested("features.", "backbone.", tuple((p[10:], r[9:]) for p, r in _MOBILENET_V3)),
}
"""torchvision's image classifiers, which a training may start its backbone from."""


@dataclass(frozen=True, slots=True, eq=False)
class LoadedNetwork:
    """A network with its weights, and what it was trained for."""

    model: SegmentationNetwork
    taxonomy: str
    preprocessing: Preprocessing


def load_published(name: str, path: str | Path) -> SegmentationNetwork:
    """One of `PUBLISHED` with the weights of a file; classes and auxiliary head as the file has them.

    Raises ModelError where name or file are unknown, or keys and shapes do not fit; then it names them.
    """
    if name not in PUBLISHED:
        raise ModelError(f"published network '{name}': one of {sorted(PUBLISHED)} wanted")
    published, state = PUBLISHED[name], read_weights(path)
    scores = state.get(published.scores)
    network = published.network
    if scores is not None:
        network = dataclasses.replace(network, num_classes=scores.shape[0])
    if network.auxiliary and not any(key.startswith("aux_classifier.") for key in state):
        network = dataclasses.replace(network, auxiliary=False)
    model = build_model(network)
    _load(model, state, published.renames, f"{path} as {name}")
    return model.eval()


def load_backbone(model: SegmentationNetwork, path: str | Path) -> None:
    """Give the backbone the weights of torchvision's classifier of the same name, or those of a checkpoint of ours.

    What belongs to the classifier, or to the head of our network, is left out. Raises ModelError naming the keys that
    do not fit.
    """
    if model.config.architecture == "unet":
        raise ModelError(f"backbone weights {path}: U-Net has no backbone")
    content = _read(path)
    if isinstance(content, dict) and content.get("format") == FORMAT:
        state = {key: value for key, value in content["state"].items() if key.startswith("backbone.")}
        _load(model.backbone, state, (), f"{path} as {model.config.backbone}", prefix="backbone.")
        return
    state = _unwrapped(content, path)
    renames = CLASSIFIERS[model.config.backbone]
    unused = ("fc.", "classifier.", *(["features.18."] if model.config.backbone == "mobilenet_v2" else []))
    state = {key: value for key, value in state.items() if not key.startswith(unused)}
    _load(model.backbone, state, renames, f"{path} as {model.config.backbone}", prefix="backbone.")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Names and tensors of a checkpoint, whatever a training script wrapped them in. Raises ModelError."""
    return _unwrapped(_read(path), path)


def _unwrapped(content: Any, path: str | Path) -> dict[str, Tensor]:
    for name in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
            break
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ModelError(f"checkpoint {path}: a mapping of names to tensors wanted, under {_WRAPPERS} or by itself")
    return {key.removeprefix("module."): value for key, value in content.items()}


def save_checkpoint(
    path: str | Path,
    model: SegmentationNetwork,
    taxonomy: str,
    preprocessing: Preprocessing,
    training: Mapping[str, Any] | None = None,
) -> None:
    """Write a network so that `load_checkpoint` needs nothing else. The file appears when it is complete."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "format": FORMAT,
        "network": dataclasses.asdict(model.config),
        "taxonomy": taxonomy,
        "preprocessing": dataclasses.asdict(preprocessing),
        "state": model.state_dict(),
        "training": dict(training or {}),
    }
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        part = Path(file.name)
    try:
        torch.save(content, part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def load_checkpoint(path: str | Path) -> LoadedNetwork:
    """The network that `save_checkpoint` wrote, in evaluation mode, on the CPU. Raises ModelError."""
    content = read_checkpoint(path)
    try:
        network = NetworkConfig.from_mapping(content["network"], f"checkpoint {path}")
    except ConfigError as error:
        raise ModelError(str(error)) from error
    model = build_model(network)
    _load(model, content["state"], (), str(path))
    given = content["preprocessing"]
    return LoadedNetwork(model.eval(), content["taxonomy"], Preprocessing(tuple(given["mean"]), tuple(given["scale"])))


def load_weights(model: SegmentationNetwork, path: str | Path) -> str:
    """Let `model` have the weights of a checkpoint of ours; returns a sentence on what it took and what stays new.

    A Panoptic-DeepLab whose `semantic_decoder` is that of DeepLabV3+ takes all of such a network: its ASPP serves both
    halves, and only the decoder of things stays as it was initialised. Raises ModelError naming the keys that do not
    fit.
    """
    content = read_checkpoint(path)
    state, from_plus = content["state"], content["network"]["architecture"] == "deeplabv3plus"
    new: list[str] = []
    if model.config.semantic_decoder == "deeplabv3plus" and from_plus:
        state = {re.sub(r"^head\.", "head.semantic.", key): value for key, value in state.items()}
        prefix = "head.semantic.aspp."
        aspp = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        state |= {f"head.instance.aspp.{key}": value for key, value in aspp.items()}
        own = model.state_dict()
        new = [key for key in own if key.startswith(_THINGS) and key not in state]
        state |= {key: own[key] for key in new}
    _load(model, state, (), str(path))
    return f"{path}: {len(state) - len(new)} tensors taken, {len(new)} new" + (f": {_listed(new)}" if new else "")


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Everything in a checkpoint of ours. Raises ModelError where the file is none."""
    content = _read(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelError(f"checkpoint {path}: '{FORMAT}' wanted; for published weights name their layout")
    return content


def translated(state: Iterable[str], renames: Renames) -> dict[str, str]:
    """Our name for every name of a published checkpoint; names that no rule knows stay as they are."""
    rules = [(re.compile(pattern), replacement) for pattern, replacement in renames]
    names = {}
    for name in state:
        names[name] = name
        for pattern, replacement in rules:
            match = pattern.match(name)
            if match:
                names[name] = match.expand(replacement) + name[match.end() :]
                break
    return names


def _load(model: nn.Module, state: Mapping[str, Tensor], renames: Renames, where: str, prefix: str = "") -> None:
    names = translated(state, renames)
    wanted = {prefix + key: value for key, value in model.state_dict().items()}
    ours = {names[key]: value for key, value in state.items()}
    problems = {
        "missing": [key for key in wanted if key not in ours and not key.endswith("num_batches_tracked")],
        "unexpected": [key for key, own in names.items() if own not in wanted],
        "of another shape": [
            f"{key} {tuple(value.shape)} instead of {tuple(wanted[names[key]].shape)}"
            for key, value in state.items()
            if names[key] in wanted and value.shape != wanted[names[key]].shape
        ],
    }
    if any(problems.values()):
        sentence = "; ".join(f"{len(keys)} {kind}: {_listed(keys)}" for kind, keys in problems.items() if keys)
        raise ModelError(f"checkpoint {where}: {sentence}")
    model.load_state_dict({key.removeprefix(prefix): value for key, value in {**wanted, **ours}.items()})


def _listed(keys: list[str]) -> str:
    rest = len(keys) - _KEYS_NAMED
    return ", ".join(keys[:_KEYS_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _read(path: str | Path) -> Any:
    if not Path(path).is_file():
        raise ModelError(f"checkpoint {path}: no such file")
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # truncated and foreign files raise a dozen unrelated classes
        sentence = str(error).strip().split("\n", 1)[0]
        raise ModelError(f"checkpoint {path}: PyTorch cannot read it ({sentence})") from error


def _numpy_scalars() -> list[Any]:
    """What a best score kept as a NumPy number needs: widely used training scripts save one beside the weights."""
    scalar = np.float64(0).__reduce__()[0]
    return [
        np.dtype,
        *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8")),
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
    ]
