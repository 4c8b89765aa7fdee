"""From a `NetworkConfig` to the network."""

from __future__ import annotations

from torch import Tensor, nn

from seg_perception.models.backbones import build_backbone, check_image
from seg_perception.models.config import NetworkConfig
from seg_perception.models.deeplab import Aspp, DeepLabV3Head, DeepLabV3PlusHead, FcnHead
from seg_perception.models.layers import initialise, resized
from seg_perception.models.panoptic_deeplab import PanopticDeepLabHead
from seg_perception.models.unet import UNet

AUXILIARY_LEVEL = {"mobilenet_v2": 2, "mobilenet_v3_large": 2, "resnet50": 3, "resnet101": 3}


class SegmentationNetwork(nn.Module):
    """Normalised images in, class scores out.

    images: (N, 3, H, W) float, normalised as the training normalised them. `forward` gives logits (N, C, H, W): the
    scores at their own stride, up-sampled bilinearly with half-pixel centres. `maps` gives every output at its own
    stride: `logits`, and where the network has them `auxiliary`, `centre`, `offset`.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        if config.architecture == "unet":
            self.unet = UNet(config.num_classes, config.base_channels)
        else:
            self.backbone = build_backbone(config)
            self.head = _head(config, self.backbone.channels)
        if config.auxiliary:
            channels = self.backbone.channels[AUXILIARY_LEVEL[config.backbone]]
            self.auxiliary = FcnHead(channels, config.num_classes, config.dropout)
        initialise(self)
        for part in self.modules():
            if isinstance(part, PanopticDeepLabHead):
                part.begin_near_zero()

    def forward(self, images: Tensor) -> Tensor:
        size = (images.shape[-2], images.shape[-1])
        return resized(self.maps(images, auxiliary=False)["logits"], size)

    def maps(self, images: Tensor, *, auxiliary: bool = True) -> dict[str, Tensor]:
        """See the class."""
        check_image(images)
        if self.config.architecture == "unet":
            return {"logits": self.unet(images)}
        pyramid = self.backbone(images)
        if self.config.architecture == "fcn":
            maps = {"logits": self.head(pyramid[-1])}
        elif self.config.architecture == "panoptic_deeplab":
            maps = self.head(pyramid)
        else:
            maps = {"logits": self.head(pyramid)}
        if auxiliary and self.config.auxiliary:
            maps["auxiliary"] = self.auxiliary(pyramid[AUXILIARY_LEVEL[self.config.backbone]])
        return maps


class WholeMaps(nn.Module):
    """A Panoptic-DeepLab whose scores, centre and offset all come at the size of the input: what is exported, because
    the up-sampling tells whoever reads the file where the samples of each map lie."""

    def __init__(self, network: SegmentationNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = self.network.maps(images, auxiliary=False)
        size = (images.shape[-2], images.shape[-1])
        return tuple(resized(maps[name], size) for name in ("logits", "centre", "offset"))


def build_model(config: NetworkConfig) -> SegmentationNetwork:
    """The network in training mode, randomly initialised: seed torch before, where it has to be the same each time."""
    return SegmentationNetwork(config)


def _head(config: NetworkConfig, channels: tuple[int, ...]) -> nn.Module:
    classes, width = config.num_classes, config.aspp_channels
    if config.architecture == "fcn":
        return FcnHead(channels[-1], classes, config.dropout)
    if config.architecture == "panoptic_deeplab" and config.semantic_decoder == "panoptic_deeplab":
        return PanopticDeepLabHead(channels, classes, width, config.dilations, config.separable, config.dropout)
    aspp = Aspp(channels[-1], width, config.dilations, separable=config.separable, dropout=config.dropout)
    if config.architecture == "deeplabv3":
        return DeepLabV3Head(channels[-1], classes, aspp, width, separable=config.separable)
    plus = DeepLabV3PlusHead(
        channels, classes, aspp, width, config.decoder_channels, config.decoder_convs, config.separable
    )
    if config.architecture == "panoptic_deeplab":
        return PanopticDeepLabHead(channels, classes, width, config.dilations, config.separable, config.dropout, plus)
    return plus
