"""U-Net (Ronneberger et al. 2015, arXiv 1505.04597) with padded convolutions and batch normalisation.

The paper's convolutions do not pad, so that its output is smaller than its input; padding is what nearly everyone since
has used. Any input size is taken: levels that do not halve evenly are brought to the size of their partner.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from seg_perception.models.layers import ConvNormAct, resized

LEVELS = 5


class UNet(nn.Module):
    """Five levels of two 3x3 convolutions down, four up again, each joined with its partner on the way down."""

    def __init__(self, classes: int, base: int) -> None:
        super().__init__()
        widths = [base * 2**level for level in range(LEVELS)]
        self.down = nn.ModuleList(_twice(before, width) for before, width in zip([3, *widths], widths, strict=False))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(width, width // 2, 2, 2) for width in reversed(widths[1:]))
        self.up = nn.ModuleList(_twice(width, width // 2) for width in reversed(widths[1:]))
        self.scores = nn.Conv2d(base, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        maps, partners = images, []
        for level, block in enumerate(self.down):
            maps = block(functional.max_pool2d(maps, 2) if level else maps)
            partners.append(maps)
        for grow, block, partner in zip(self.grow, self.up, reversed(partners[:-1]), strict=True):
            maps = resized(grow(maps), (partner.shape[-2], partner.shape[-1]))
            maps = block(torch.cat([partner, maps], dim=1))
        return self.scores(maps)


def _twice(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(ConvNormAct(channels_in, channels_out), ConvNormAct(channels_out, channels_out))
