"""What a training minimises, from the maps of a network and the truth of a batch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from seg_perception.models.layers import resized
from seg_perception.training.config import LossConfig
from seg_perception.training.datasets import VOID

OVERLAP_STRIDE = 3
"""The overlap's loss looks at every third pixel of every third row: it sorts them once a class."""


class SegmentationLoss(nn.Module):
    """Sum of the losses of a network's outputs, each weighted as configured.

    class_weights: (C,) for the cross entropy; None: all 1.
    """

    class_weights: Tensor | None

    def __init__(self, config: LossConfig, class_weights: Tensor | None = None) -> None:
        super().__init__()
        self._config = config
        self.register_buffer("class_weights", class_weights)

    def forward(self, maps: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """maps: of `SegmentationNetwork.maps`. batch: `labels` (N, H, W) int64 and, where the network has a branch for
        things, `centre`, `offset`, `known`, `things` of `InstanceTargets`, stacked."""
        labels = batch["labels"]
        size = (labels.shape[-2], labels.shape[-1])
        loss = self._semantic(resized(maps["logits"].float(), size), labels)
        if "auxiliary" in maps:
            loss = loss + self._config.auxiliary * self._semantic(resized(maps["auxiliary"].float(), size), labels)
        if "centre" in maps:
            centre, offset = resized(maps["centre"].float(), size)[:, 0], resized(maps["offset"].float(), size)
            squared = (centre - batch["centre"]) ** 2
            absolute = (offset - batch["offset"]).abs().sum(dim=1)
            loss = loss + self._config.centre * _mean_where(squared, batch["known"])
            loss = loss + self._config.offset * _mean_where(absolute, batch["things"])
        return loss

    def _semantic(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy, weighted by class, void left out, of the hardest pixels, and the overlap's, as configured."""
        losses = functional.cross_entropy(logits, labels, self.class_weights, ignore_index=VOID, reduction="none")
        known = labels != VOID
        weights = known.float()
        if self.class_weights is not None:
            weights = weights * self.class_weights[torch.where(known, labels, 0)]
        if self._config.hardest < 1.0:
            kept = max(1, int(self._config.hardest * int(known.sum())))
            threshold = losses.flatten().topk(kept).values[-1].detach()
            weights = weights * (losses >= threshold)
            losses = losses * (losses >= threshold)
        loss = losses.sum() / weights.sum().clamp(min=1e-6)
        if self._config.overlap > 0.0:
            sparse = slice(OVERLAP_STRIDE // 2, None, OVERLAP_STRIDE)
            loss = loss + self._config.overlap * lovasz_softmax(logits[:, :, sparse, sparse], labels[:, sparse, sparse])
        return loss


def lovasz_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the classes in `labels` of the Lovász extension of 1 - IoU (Berman et al., arXiv 1705.08790, eq. 11).

    logits: (N, C, H, W) float. labels: (N, H, W) int64; `VOID` has no part. No class in them: 0.
    """
    known = labels != VOID
    truth = functional.one_hot(labels[known], logits.shape[1]).T.to(logits.dtype)
    present = truth.any(dim=1)
    if not bool(present.any()):
        return logits.sum() * 0.0
    truth = truth[present]
    probabilities = logits.softmax(dim=1).movedim(1, 0)[:, known][present]
    errors, order = (truth - probabilities).abs().sort(dim=1, descending=True)
    wrong = truth.gather(1, order)  # the pixels of the class, from the worst on
    total = wrong.sum(dim=1, keepdim=True)
    loss = 1 - (total - wrong.cumsum(1)) / (total + (1 - wrong).cumsum(1))  # 1 - IoU with the first k pixels mistaken
    steps = torch.diff(loss, dim=1, prepend=torch.zeros_like(total))
    return (errors * steps).sum(dim=1).mean()


def log_class_weights(pixels: Tensor) -> Tensor:
    """(C,) weights from (C,) counts of pixels: 1 / ln(1.02 + share) (Paszke et al. 2016, arXiv 1606.02147), mean 1.

    Classes that never occur have no part in the mean and weigh as much as the rarest.
    """
    share = pixels.double() / pixels.sum().clamp(min=1)
    weights = 1 / torch.log(1.02 + share)
    return (weights / weights[pixels > 0].mean()).float()


def _mean_where(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over a mask, 0 where it is empty."""
    return (values * mask).sum() / mask.sum().clamp(min=1)
