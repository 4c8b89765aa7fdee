"""Running a network in torch over pictures with truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from seg_perception.inference.panoptic_merging import MERGING, MergingConfig, PanopticLabels, merge
from seg_perception.models.build import SegmentationNetwork
from seg_perception.models.config import Preprocessing
from seg_perception.models.layers import resized
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


class Quality(Protocol):
    """What matched, missed and invented segments are counted in: `evaluation.metrics.PanopticQuality`."""

    def update(self, truth: Any, truth_instance: Any, prediction: Any, prediction_instance: Any) -> None:
        """One picture: (H, W) train ids and instance numbers of truth and prediction."""
        ...

    @property
    def scores(self) -> Any:
        """With `mean(classes)`: PQ, SQ, RQ."""
        ...


def normalised(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """(N, 3, H, W) uint8 RGB -> float32, as the network reads it."""
    mean = torch.tensor(preprocessing.mean, device=pixels.device).view(1, 3, 1, 1)
    scale = torch.tensor(preprocessing.scale, device=pixels.device).view(1, 3, 1, 1)
    return (pixels.float() - mean) * scale


def validate(
    model: SegmentationNetwork,
    pictures: DataLoader,
    preprocessing: Preprocessing,
    confusion: Confusion,
    device: torch.device,
    quality: Quality | None,
    is_thing: NDArray[np.bool_],
) -> None:
    """Label every picture at its own size in evaluation mode and add the counts; the mode is as before afterwards.

    pictures: of `stream.one_by_one`. quality: of a network that tells things apart; only pictures that do count in it.
    is_thing: by train id.
    """
    training = model.training
    model.eval()
    with torch.inference_mode():
        for batch in pictures:
            labels = batch["labels"].to(device).long()
            size = (labels.shape[-2], labels.shape[-1])
            maps = model.maps(normalised(batch["pixels"].to(device), preprocessing), auxiliary=False)
            whole = {name: resized(value.float(), size) for name, value in maps.items()}
            confusion.add(_counts(labels, whole["logits"].argmax(dim=1), whole["logits"].shape[1]))
            if quality is not None and "instances" in batch:
                said = panoptic_labels({name: value[0] for name, value in whole.items()}, is_thing)
                quality.update(labels[0].cpu().numpy(), batch["instances"][0].numpy(), said.class_id, said.instance)
    model.train(training)


def panoptic_labels(
    maps: Mapping[str, Tensor], is_thing: NDArray[np.bool_], merging: MergingConfig = MERGING
) -> PanopticLabels:
    """Merged `logits` (C, H, W), `centre` (1, H, W) and `offset` (2, H, W) of one picture."""
    labels = maps["logits"].argmax(dim=0).byte().cpu().numpy()
    return merge(labels, maps["centre"][0].cpu().numpy(), maps["offset"].cpu().numpy(), is_thing, merging)


def _counts(truth: Tensor, prediction: Tensor, classes: int) -> NDArray[np.int64]:
    known = truth != VOID
    index = truth[known] * (classes + 1) + prediction[known]
    counts = torch.bincount(index, minlength=classes * (classes + 1))
    return counts.view(classes, classes + 1).cpu().numpy()
