"""Running a network in torch over pictures with truth."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from seg_perception.models.config import Preprocessing
from seg_perception.training.datasets import VOID


class Confusion(Protocol):
    """What counts are added up in: `evaluation.metrics.ConfusionMatrix`, which this room does not import."""

    def add(self, counts: NDArray[np.integer]) -> None:
        """counts: (C, C + 1), rows truth, columns prediction, the last one for no label."""
        ...

    @property
    def iou(self) -> NDArray[np.float64]: ...

    @property
    def mean_iou(self) -> float: ...


def normalised(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """(N, 3, H, W) uint8 RGB -> float32, as the network reads it."""
    mean = torch.tensor(preprocessing.mean, device=pixels.device).view(1, 3, 1, 1)
    scale = torch.tensor(preprocessing.scale, device=pixels.device).view(1, 3, 1, 1)
    return (pixels.float() - mean) * scale


def validate(
    model: nn.Module, pictures: DataLoader, preprocessing: Preprocessing, confusion: Confusion, device: torch.device
) -> None:
    """Label every picture at its own size in evaluation mode and add the counts; the mode is as before afterwards.

    pictures: of `stream.one_by_one`.
    """
    training = model.training
    model.eval()
    with torch.inference_mode():
        for batch in pictures:
            labels = batch["labels"].to(device).long()
            logits = model(normalised(batch["pixels"].to(device), preprocessing))
            confusion.add(_counts(labels, logits.argmax(dim=1), logits.shape[1]))
    model.train(training)


def _counts(truth: Tensor, prediction: Tensor, classes: int) -> NDArray[np.int64]:
    known = truth != VOID
    index = truth[known] * (classes + 1) + prediction[known]
    counts = torch.bincount(index, minlength=classes * (classes + 1))
    return counts.view(classes, classes + 1).cpu().numpy()
