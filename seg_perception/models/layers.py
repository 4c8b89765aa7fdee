"""The few building blocks that all networks share."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

Size = tuple[int, int]  # (height, width)


@dataclass(frozen=True, slots=True)
class Norm:
    """Constants of batch normalisation."""

    eps: float = 1e-5
    momentum: float = 0.1


STANDARD_NORM = Norm()


class ConvNormAct(nn.Sequential):
    """Convolution without bias, batch normalisation, activation. The size is kept (divided by the stride) if padded."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        activation: type[nn.Module] | None = nn.ReLU,
        norm: Norm = STANDARD_NORM,
        padded: bool = True,
    ) -> None:
        padding = dilation * (kernel // 2) if padded else 0
        super().__init__(
            nn.Conv2d(channels_in, channels_out, kernel, stride, padding, dilation, groups, bias=False),
            nn.BatchNorm2d(channels_out, eps=norm.eps, momentum=norm.momentum),
            *([activation(inplace=True)] if activation else []),
        )


class SeparableConv(nn.Sequential):
    """A convolution a channel, then one across channels, each normalised and activated (DeepLabV3+, section 3.1)."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 3, *, dilation: int = 1) -> None:
        super().__init__(
            ConvNormAct(channels_in, channels_in, kernel, dilation=dilation, groups=channels_in),
            ConvNormAct(channels_in, channels_out, 1),
        )


def conv_block(channels_in: int, channels_out: int, *, dilation: int = 1, separable: bool = False) -> nn.Module:
    """A 3x3 ConvNormAct, or its separable form."""
    kind = SeparableConv if separable else ConvNormAct
    return kind(channels_in, channels_out, 3, dilation=dilation)


def resized(maps: Tensor, size: Size) -> Tensor:
    """(N, C, h, w) -> (N, C, *size), bilinear, half-pixel centres: what deployment can cut off and repeat exactly."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def initialise(module: nn.Module) -> None:
    """He initialisation of every convolution (fan out), ones and zeros for normalisation."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
