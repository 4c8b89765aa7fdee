"""The networks that `make gpu-check` measures: made with PyTorch here, or beforehand and elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from gpu_kernels import CAMERAS, noise

from seg_perception.export.batch import to_batch
from seg_perception.inference.onnx_file import OnnxFile

BACKBONES = ("mobilenet_v2", "resnet50", "resnet101")
SIZES = ((1024, 512), (2048, 1024))
BATCHED_BYTES = 40e6  # of larger networks no form for six pictures is made: the CPU would run it for minutes
log = logging.getLogger("gpu-check")


def batch_of(path: Path, scratch: Path) -> Path | None:
    """The form for six pictures: made beforehand, or now; None of a large network."""
    made = path.with_suffix(f".batch{CAMERAS}.onnx")
    if made.exists():
        return made
    if path.stat().st_size > BATCHED_BYTES:
        return None
    made = scratch / made.name
    to_batch(path, made, CAMERAS)
    return made


def made_networks(folder: Path) -> Iterator[Path]:
    """DeepLabV3+ of the three backbones at both sizes, random weights, 19 classes: in float16, for six, in float32.
    What is there already is not made again."""
    import torch

    from seg_perception.export.from_torch import export_network
    from seg_perception.export.half import to_half
    from seg_perception.models.build import build_model
    from seg_perception.models.checkpoints import LoadedNetwork
    from seg_perception.models.config import NetworkConfig, Preprocessing

    for backbone in BACKBONES:
        for width, height in SIZES:
            torch.manual_seed(0)
            model = build_model(NetworkConfig(backbone=backbone, num_classes=19)).eval()
            path = folder / f"deeplabv3plus_{backbone}_{width}x{height}.onnx"
            half = path.with_suffix(".fp16.onnx")
            if path.exists() and half.exists():
                yield half
                yield path
                continue
            export_network(
                LoadedNetwork(model, "cityscapes", Preprocessing()), path, (width, height), [noise((width, height))]
            )
            to_half(path, half, min_agreement=0.0)
            if batch_of(half, folder) is not None:
                log.info("%s: and for %d pictures", half.name, CAMERAS)
            yield half
            yield path


def found_networks(folder: Path) -> Iterator[Path]:
    """What `made_networks` left in a folder, the smallest backbone first."""
    for backbone in BACKBONES:
        for path in sorted(folder.glob(f"*{backbone}*.onnx"), key=lambda path: (path.stat().st_size, path.name)):
            if f".batch{CAMERAS}" not in path.name:
                yield path


def with_half(paths: list[Path], folder: Path) -> Iterator[Path]:
    """Each file and, of a float32 one, its float16 form."""
    from seg_perception.export.half import to_half

    for path in paths:
        yield path
        if OnnxFile.read(path).precision == "fp32":
            half = folder / f"{path.stem}.fp16.onnx"
            to_half(path, half, min_agreement=0.0)
            yield half
