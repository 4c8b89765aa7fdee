"""Panoptic-DeepLab (Cheng et al. 2020, arXiv 1911.10194): two ASPPs, two decoders, three outputs.

Widths are the paper's: 5x5 depth-wise separable convolutions, skips from strides 8 and 4. The semantic half may be the
head of a DeepLabV3+ instead, so that a network that was trained on classes alone learns things without forgetting them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seg_perception.models.deeplab import Aspp, DeepLabV3PlusHead
from seg_perception.models.layers import ConvNormAct, SeparableConv, resized

SEMANTIC_WIDTH, SEMANTIC_SKIPS = 256, (64, 32)
INSTANCE_WIDTH, INSTANCE_SKIPS, INSTANCE_HEAD = 128, (32, 16), 32
SKIP_LEVELS = (2, 1)  # of the pyramid: strides 8 and 4


class _Decoder(nn.Module):
    """ASPP, then twice: up-sample, join with an earlier map, 5x5."""

    def __init__(self, channels: tuple[int, ...], aspp: Aspp, aspp_channels: int, width: int, skips: tuple[int, ...]):
        super().__init__()
        self.aspp = aspp
        self.skips = nn.ModuleList(
            ConvNormAct(channels[level], skip, 1) for level, skip in zip(SKIP_LEVELS, skips, strict=True)
        )
        self.fuse = nn.ModuleList(
            SeparableConv((aspp_channels if stage == 0 else width) + skip, width, 5) for stage, skip in enumerate(skips)
        )

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        maps = self.aspp(pyramid[-1])
        for level, skip, fuse in zip(SKIP_LEVELS, self.skips, self.fuse, strict=True):
            partner = skip(pyramid[level])
            maps = fuse(torch.cat([resized(maps, (partner.shape[-2], partner.shape[-1])), partner], dim=1))
        return maps


class _Branch(nn.Sequential):
    """5x5 and the output itself."""

    def __init__(self, channels_in: int, width: int, channels_out: int) -> None:
        super().__init__(SeparableConv(channels_in, width, 5), nn.Conv2d(width, channels_out, 1))


class PanopticDeepLabHead(nn.Module):
    """Gives, at stride 4: class scores `logits`; `centre` (N, 1, h, w), a heat map whose peaks are centres of things;
    `offset` (N, 2, h, w), from each pixel to the centre of its thing as (v, u), in pixels of the network's input.

    semantic: gives class scores in place of the paper's decoder; None: that decoder.
    """

    def __init__(
        self,
        channels: tuple[int, ...],
        classes: int,
        aspp_channels: int,
        dilations: tuple[int, int, int],
        separable: bool,
        dropout: float,
        semantic: DeepLabV3PlusHead | None = None,
    ) -> None:
        super().__init__()

        def decoder(width: int, skips: tuple[int, ...]) -> _Decoder:
            aspp = Aspp(channels[-1], aspp_channels, dilations, separable=separable, dropout=dropout)
            return _Decoder(channels, aspp, aspp_channels, width, skips)

        self.semantic = semantic or decoder(SEMANTIC_WIDTH, SEMANTIC_SKIPS)
        self.instance = decoder(INSTANCE_WIDTH, INSTANCE_SKIPS)
        self.scores = nn.Identity() if semantic else _Branch(SEMANTIC_WIDTH, SEMANTIC_WIDTH, classes)
        self.centre = _Branch(INSTANCE_WIDTH, INSTANCE_HEAD, 1)
        self.offset = _Branch(INSTANCE_WIDTH, INSTANCE_HEAD, 2)

    def begin_near_zero(self) -> None:
        """Let centre and offset begin near 0: a heat map that begins anywhere else costs thousands in its loss, which
        for a while is all that the backbone learns from."""
        for branch in (self.centre, self.offset):
            for parameter in branch[-1].parameters():
                nn.init.normal_(parameter, std=1e-3)

    def forward(self, pyramid: list[Tensor]) -> dict[str, Tensor]:
        instance = self.instance(pyramid)
        return {
            "logits": self.scores(self.semantic(pyramid)),
            "centre": self.centre(instance),
            "offset": self.offset(instance),
        }
