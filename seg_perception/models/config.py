"""What a network is, in one small record. Free of torch, so that a configuration can be read and checked without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seg_perception.config import Section, build_section, setting
from seg_perception.errors import ConfigError

ARCHITECTURES = ("deeplabv3plus", "deeplabv3", "panoptic_deeplab", "fcn", "unet")
BACKBONES = ("mobilenet_v2", "mobilenet_v3_large", "resnet50", "resnet101")


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What a network reads of a pixel 0..255: (pixel - mean) * scale, for R, G, B. By default as for ImageNet."""

    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    scale: tuple[float, float, float] = (1 / 58.395, 1 / 57.12, 1 / 57.375)


@dataclass(frozen=True, slots=True)
class NetworkConfig(Section):
    """One segmentation network. An architecture ignores what it has no use for: U-Net, for one, has no backbone."""

    architecture: str = setting("deeplabv3plus", "the network", choices=ARCHITECTURES)
    backbone: str = setting("mobilenet_v2", "what computes the features", choices=BACKBONES)
    num_classes: int = setting(19, "channels of the class scores", minimum=2, maximum=255)
    output_stride: int = setting(16, "input pixels to one sample of the backbone's last map", choices=(8, 16))
    separable: bool = setting(False, "depth-wise separable 3x3 convolutions in ASPP and decoder (DeepLabV3+ paper)")
    aspp_channels: int = setting(256, "channels of every ASPP branch and of its projection", minimum=8)
    aspp_rates: str = setting("", "three dilations as '6,12,18'; empty: that at stride 16, twice that at stride 8")
    decoder_channels: int = setting(256, "channels of the DeepLabV3+ decoder", minimum=8)
    decoder_convs: int = setting(2, "3x3 convolutions in the DeepLabV3+ decoder", minimum=1, maximum=3)
    semantic_decoder: str = setting(
        "panoptic_deeplab",
        "what Panoptic-DeepLab makes class scores with: its own decoder, or that of DeepLabV3+, whose weights then fit",
        choices=("panoptic_deeplab", "deeplabv3plus"),
    )
    dropout: float = setting(0.1, "drop-out after ASPP, or in the head of FCN", minimum=0, maximum=0.9)
    auxiliary: bool = setting(False, "a second head on an earlier map, for training only (DeepLabV3, FCN)")
    base_channels: int = setting(64, "channels of the first level of U-Net", minimum=4)
    padding: str = setting(
        "convolution",
        "convolution: every convolution pads its own input; block: MobileNetV2 pads before a block expands and not at "
        "all at its first convolution, as the weights of VainF/DeepLabV3Plus-Pytorch want it",
        choices=("convolution", "block"),
    )

    def __post_init__(self) -> None:
        Section.__post_init__(self)
        if self.padding == "block" and self.backbone != "mobilenet_v2":
            raise ConfigError(f"NetworkConfig.padding: 'block' is for mobilenet_v2 only, backbone {self.backbone} seen")
        if self.semantic_decoder == "deeplabv3plus" and self.architecture != "panoptic_deeplab":
            raise ConfigError(f"NetworkConfig.semantic_decoder: panoptic_deeplab has one, {self.architecture} seen")
        if self.auxiliary and self.architecture not in ("deeplabv3", "fcn"):
            raise ConfigError(f"NetworkConfig.auxiliary: deeplabv3 or fcn wanted, {self.architecture} seen")
        _ = self.dilations

    @property
    def dilations(self) -> tuple[int, int, int]:
        """Dilation of the three 3x3 branches of ASPP."""
        if not self.aspp_rates:
            return (6, 12, 18) if self.output_stride == 16 else (12, 24, 36)
        parts = self.aspp_rates.split(",")
        if len(parts) != 3 or not all(part.strip().isdigit() and int(part) > 0 for part in parts):
            raise ConfigError(f"NetworkConfig.aspp_rates: three positive integers wanted, '{self.aspp_rates}' seen")
        return int(parts[0]), int(parts[1]), int(parts[2])

    @classmethod
    def from_mapping(cls, content: Mapping[str, Any], where: str = "network") -> NetworkConfig:
        """Build from a mapping as YAML or a checkpoint gives it; unknown keys raise ConfigError."""
        return build_section(cls, content, where)
