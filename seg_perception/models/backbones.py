"""Feature extractors: ResNet-50/101, MobileNetV2, MobileNetV3-Large, with dilation instead of the last strides.

Each returns one feature map for every stride 2, 4, 8, 16, 32 of the undilated network, coarsest last. Where a stride is
replaced by dilation, several of them have the same size.

Sources: He et al. 2015 (ResNet, with the stride in the 3x3 convolution as torchvision has it), Sandler et al. 2018
(MobileNetV2, table 2), Howard et al. 2019 (MobileNetV3, table 1), Chen et al. 2017 (dilation, section 3.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from seg_perception.models.config import NetworkConfig
from seg_perception.models.layers import STANDARD_NORM, ConvNormAct, Norm

BLOCKS_OF_RESNET = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}


class Backbone(nn.Module):
    """forward: images (N, 3, H, W) -> five maps. channels: of each of them."""

    channels: tuple[int, ...]

    def forward(self, images: Tensor) -> list[Tensor]:
        raise NotImplementedError


def build_backbone(config: NetworkConfig) -> Backbone:
    """The backbone that a configuration names."""
    if config.backbone in BLOCKS_OF_RESNET:
        return ResNet(BLOCKS_OF_RESNET[config.backbone], config.output_stride)
    if config.backbone == "mobilenet_v2":
        return MobileNetV2(config.output_stride, pad_blocks=config.padding == "block")
    return MobileNetV3Large(config.output_stride)


def dilated_strides(strides: tuple[int, ...], output_stride: int, start: int) -> Iterator[tuple[int, int, int]]:
    """For stage after stage: stride, dilation of its first block, dilation of the others.

    A stride that would exceed `output_stride` becomes a dilation, from the next block on.
    """
    reached, dilation = start, 1
    for stride in strides:
        first = dilation
        if reached * stride > output_stride:
            dilation *= stride
            stride = 1
        reached *= stride
        yield stride, first, dilation


class _Bottleneck(nn.Module):
    """1x1 to a quarter of the channels, 3x3, 1x1 back, around a shortcut."""

    def __init__(self, channels_in: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        channels_out = 4 * width
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels_out)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels_in != channels_out:
            self.downsample = ConvNormAct(channels_in, channels_out, 1, stride=stride, activation=None)

    def forward(self, maps: Tensor) -> Tensor:
        shortcut = maps if self.downsample is None else self.downsample(maps)
        maps = functional.relu(self.bn1(self.conv1(maps)))
        maps = functional.relu(self.bn2(self.conv2(maps)))
        return functional.relu(self.bn3(self.conv3(maps)) + shortcut)


class ResNet(Backbone):
    """ResNet of bottleneck blocks."""

    channels = (64, 256, 512, 1024, 2048)

    def __init__(self, blocks: tuple[int, ...], output_stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        stages = []
        channels, width = 64, 64
        for count, (stride, first, dilation) in zip(
            blocks, dilated_strides((1, 2, 2, 2), output_stride, 4), strict=True
        ):
            stage = [_Bottleneck(channels, width, stride, first)]
            channels = 4 * width
            stage += [_Bottleneck(channels, width, 1, dilation) for _ in range(count - 1)]
            stages.append(nn.Sequential(*stage))
            width *= 2
        self.layer1, self.layer2, self.layer3, self.layer4 = stages

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = [functional.relu(self.bn1(self.conv1(images)))]
        pooled = functional.max_pool2d(maps[0], 3, 2, 1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            maps.append(stage(maps[-1] if len(maps) > 1 else pooled))
        return maps


class _SqueezeExcite(nn.Module):
    """Scales each channel by what its mean over the map says (MobileNetV3, section 5.3)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        mean = functional.adaptive_avg_pool2d(maps, 1)
        return maps * functional.hardsigmoid(self.fc2(functional.relu(self.fc1(mean))))


@dataclass(frozen=True, slots=True)
class _Residual:
    """One inverted residual block: what it is made of."""

    channels_in: int
    expanded: int
    channels_out: int
    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    excite: bool = False
    activation: type[nn.Module] = nn.ReLU6
    norm: Norm = STANDARD_NORM
    pad_first: bool = False


class InvertedResidual(nn.Module):
    """1x1 to more channels, depth-wise convolution, 1x1 to few without activation; a shortcut around where it fits."""

    def __init__(self, spec: _Residual) -> None:
        super().__init__()
        body: list[nn.Module] = []
        if spec.expanded != spec.channels_in:
            body.append(ConvNormAct(spec.channels_in, spec.expanded, 1, activation=spec.activation, norm=spec.norm))
        body.append(
            ConvNormAct(
                spec.expanded,
                spec.expanded,
                spec.kernel,
                stride=spec.stride,
                dilation=spec.dilation,
                groups=spec.expanded,
                activation=spec.activation,
                padded=not spec.pad_first,
                norm=spec.norm,
            )
        )
        if spec.excite:
            body.append(_SqueezeExcite(spec.expanded, rounded_to_8(spec.expanded / 4)))
        body.append(ConvNormAct(spec.expanded, spec.channels_out, 1, activation=None, norm=spec.norm))
        self.body = nn.Sequential(*body)
        self._shortcut = spec.stride == 1 and spec.channels_in == spec.channels_out
        self._pad = spec.dilation * (spec.kernel // 2) if spec.pad_first else 0

    def forward(self, maps: Tensor) -> Tensor:
        padded = functional.pad(maps, [self._pad] * 4) if self._pad else maps
        out = self.body(padded)
        return maps + out if self._shortcut else out


class _Blocks(Backbone):
    """Blocks in a row, of which some put out a feature map."""

    def __init__(self, blocks: list[nn.Module], taps: tuple[int, ...]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self._taps = taps

    def forward(self, images: Tensor) -> list[Tensor]:
        maps, taps = images, []
        for number, block in enumerate(self.blocks):
            maps = block(maps)
            if number in self._taps:
                taps.append(maps)
        return taps


class MobileNetV2(_Blocks):
    """MobileNetV2 up to its last block; the 1x1 convolution to 1280 channels served classification only.

    pad_blocks: see `NetworkConfig.padding`.
    """

    channels = (16, 24, 32, 96, 320)
    STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    """Expansion, channels, blocks and stride of each stage."""

    def __init__(self, output_stride: int, *, pad_blocks: bool = False) -> None:
        blocks: list[nn.Module] = [ConvNormAct(3, 32, stride=2, activation=nn.ReLU6, padded=not pad_blocks)]
        channels = 32
        strides = dilated_strides(tuple(stage[3] for stage in self.STAGES), output_stride, 2)
        for (expansion, width, count, _), (stride, first, dilation) in zip(self.STAGES, strides, strict=True):
            for number in range(count):
                spec = _Residual(
                    channels,
                    expansion * channels,
                    width,
                    stride=stride if number == 0 else 1,
                    dilation=first if number == 0 else dilation,
                    pad_first=pad_blocks,
                )
                blocks.append(InvertedResidual(spec))
                channels = width
        super().__init__(blocks, taps=(1, 3, 6, 13, 17))


class MobileNetV3Large(_Blocks):
    """MobileNetV3-Large up to its last convolution, to 960 channels."""

    channels = (16, 24, 40, 112, 960)
    BLOCKS = (
        (3, 16, 16, False, False, 1),
        (3, 64, 24, False, False, 2),
        (3, 72, 24, False, False, 1),
        (5, 72, 40, True, False, 2),
        (5, 120, 40, True, False, 1),
        (5, 120, 40, True, False, 1),
        (3, 240, 80, False, True, 2),
        (3, 200, 80, False, True, 1),
        (3, 184, 80, False, True, 1),
        (3, 184, 80, False, True, 1),
        (3, 480, 112, True, True, 1),
        (3, 672, 112, True, True, 1),
        (5, 672, 160, True, True, 2),
        (5, 960, 160, True, True, 1),
        (5, 960, 160, True, True, 1),
    )
    """Kernel, expanded channels, channels, squeeze and excite, hard swish (else ReLU), stride of each block."""

    def __init__(self, output_stride: int) -> None:
        norm = Norm(eps=1e-3, momentum=0.01)
        blocks: list[nn.Module] = [ConvNormAct(3, 16, stride=2, activation=nn.Hardswish, norm=norm)]
        channels = 16
        strides = dilated_strides(tuple(block[5] for block in self.BLOCKS), output_stride, 2)
        for (kernel, expanded, width, excite, swish, _), (stride, _, dilation) in zip(
            self.BLOCKS, strides, strict=True
        ):
            activation = nn.Hardswish if swish else nn.ReLU
            spec = _Residual(channels, expanded, width, kernel, stride, dilation, excite, activation, norm)
            blocks.append(InvertedResidual(spec))
            channels = width
        blocks.append(ConvNormAct(channels, 960, 1, activation=nn.Hardswish, norm=norm))
        super().__init__(blocks, taps=(1, 3, 6, 12, 16))


def rounded_to_8(channels: float) -> int:
    """The multiple of 8 nearest to `channels`, at least 8 and not below 90 % of it (MobileNetV2's rule)."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def check_image(images: Tensor) -> None:
    """Refuse what is no batch of pictures, before a convolution says so in its own words."""
    if images.dim() != 4 or images.shape[1] != 3 or not torch.is_floating_point(images):
        raise ValueError(f"images: floats (N, 3, H, W) wanted, {images.dtype} of shape {tuple(images.shape)} seen")
