"""Heads: DeepLabV3 (Chen et al. 2017, arXiv 1706.05587), DeepLabV3+ (Chen et al. 2018, arXiv 1802.02611), FCN."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from seg_perception.models.layers import ConvNormAct, conv_block, resized

LOW_LEVEL_CHANNELS = 48  # DeepLabV3+, section 4.1: the best of 8 to 64


class Aspp(nn.Module):
    """Atrous spatial pyramid pooling: 1x1, three dilated 3x3 and the mean of the whole map, side by side, then 1x1."""

    def __init__(
        self, channels_in: int, channels: int, dilations: tuple[int, int, int], *, separable: bool, dropout: float
    ) -> None:
        super().__init__()
        dilated = [conv_block(channels_in, channels, dilation=rate, separable=separable) for rate in dilations]
        self.branches = nn.ModuleList([ConvNormAct(channels_in, channels, 1), *dilated])
        self.pooled = ConvNormAct(channels_in, channels, 1)
        self.project = ConvNormAct(5 * channels, channels, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, maps: Tensor) -> Tensor:
        mean = self.pooled(functional.adaptive_avg_pool2d(maps, 1))
        everywhere = mean.expand(-1, -1, maps.shape[-2], maps.shape[-1])
        return self.dropout(self.project(torch.cat([*(branch(maps) for branch in self.branches), everywhere], dim=1)))


class DeepLabV3Head(nn.Module):
    """ASPP, one 3x3 convolution, class scores at the backbone's stride."""

    def __init__(self, channels_in: int, classes: int, aspp: Aspp, channels: int, *, separable: bool) -> None:
        super().__init__()
        self.aspp = aspp
        self.refine = nn.Sequential(conv_block(channels, channels, separable=separable))
        self.scores = nn.Conv2d(channels, classes, 1)

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        return self.scores(self.refine(self.aspp(pyramid[-1])))


class DeepLabV3PlusHead(nn.Module):
    """ASPP up-sampled to stride 4, joined with the map of that stride, refined there."""

    def __init__(
        self, channels: tuple[int, ...], classes: int, aspp: Aspp, width: int, decoder: int, convs: int, separable: bool
    ) -> None:
        super().__init__()
        self.aspp = aspp
        self.low = ConvNormAct(channels[1], LOW_LEVEL_CHANNELS, 1)
        self.refine = nn.Sequential(
            *(
                conv_block(width + LOW_LEVEL_CHANNELS if k == 0 else decoder, decoder, separable=separable)
                for k in range(convs)
            )
        )
        self.scores = nn.Conv2d(decoder, classes, 1)

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        low = self.low(pyramid[1])
        high = resized(self.aspp(pyramid[-1]), (low.shape[-2], low.shape[-1]))
        return self.scores(self.refine(torch.cat([low, high], dim=1)))


class FcnHead(nn.Module):
    """One 3x3 convolution to a quarter of the channels, class scores (Long et al. 2015 on a dilated backbone)."""

    def __init__(self, channels_in: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.refine = ConvNormAct(channels_in, channels_in // 4)
        self.dropout = nn.Dropout(dropout)
        self.scores = nn.Conv2d(channels_in // 4, classes, 1)

    def forward(self, maps: Tensor) -> Tensor:
        return self.scores(self.dropout(self.refine(maps)))
