"""The networks are those of the papers: as many parameters, maps of the same sizes, each setting taken to heart."""

from __future__ import annotations

from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402

from seg_perception.errors import ConfigError  # noqa: E402
from seg_perception.models.backbones import InvertedResidual, _Residual, rounded_to_8  # noqa: E402
from seg_perception.models.build import build_model  # noqa: E402
from seg_perception.models.config import NetworkConfig  # noqa: E402

pytestmark = pytest.mark.torch

# Published: `num_params` of torchvision's weights, with 21 classes and the auxiliary head.
TORCHVISION = {
    "deeplabv3_resnet50": (NetworkConfig("deeplabv3", "resnet50", 21, 8, auxiliary=True), 42_004_074),
    "deeplabv3_resnet101": (NetworkConfig("deeplabv3", "resnet101", 21, 8, auxiliary=True), 60_996_202),
    "deeplabv3_mobilenet_v3_large": (NetworkConfig("deeplabv3", "mobilenet_v3_large", 21, auxiliary=True), 11_029_328),
    "fcn_resnet50": (NetworkConfig("fcn", "resnet50", 21, 8, auxiliary=True), 35_322_218),
    "fcn_resnet101": (NetworkConfig("fcn", "resnet101", 21, 8, auxiliary=True), 54_314_346),
}
# Published counts of torchvision's image classifiers, less what only classification needs.
BACKBONES = {
    "resnet50": 25_557_032 - (2048 + 1) * 1000,
    "resnet101": 44_549_160 - (2048 + 1) * 1000,
    "mobilenet_v2": 3_504_872 - (1280 + 1) * 1000 - 320 * 1280 - 2 * 1280,
    "mobilenet_v3_large": 5_483_032 - (960 + 1) * 1280 - (1280 + 1) * 1000,
}


def on_paper(config: NetworkConfig):
    """The network without memory for its weights."""
    with torch.device("meta"):
        return build_model(config)


def parameter_count(module: torch.nn.Module) -> int:
    """Learnt values, without running statistics."""
    return sum(parameter.numel() for parameter in module.parameters())


def separable(channels_in: int, channels_out: int, kernel: int) -> int:
    """Parameters of a depth-wise and a 1x1 convolution, both normalised."""
    return kernel**2 * channels_in + 2 * channels_in + channels_in * channels_out + 2 * channels_out


def plain(channels_in: int, channels_out: int, kernel: int) -> int:
    return kernel**2 * channels_in * channels_out + 2 * channels_out


def aspp(channels_in: int, channels: int, three_by_three) -> int:
    branches = plain(channels_in, channels, 1) * 2 + 3 * three_by_three(channels_in, channels, 3)
    return branches + plain(5 * channels, channels, 1)


@pytest.mark.parametrize("name", TORCHVISION)
def test_parameters_are_as_many_as_torchvision_publishes(name: str) -> None:
    config, published = TORCHVISION[name]
    assert parameter_count(on_paper(config)) == published


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_is_the_published_classifier_without_its_classifier(name: str) -> None:
    assert parameter_count(on_paper(NetworkConfig(backbone=name)).backbone) == BACKBONES[name]


@pytest.mark.parametrize("three_by_three", [plain, separable])
def test_deeplabv3plus_head_has_the_parameters_of_its_paper(three_by_three) -> None:
    model = on_paper(NetworkConfig(separable=three_by_three is separable))
    decoder = three_by_three(256 + 48, 256, 3) + three_by_three(256, 256, 3) + 257 * 19
    assert parameter_count(model.head) == aspp(320, 256, three_by_three) + plain(24, 48, 1) + decoder


def test_panoptic_deeplab_head_has_the_parameters_of_its_paper() -> None:
    def decoder(width: int, skips: tuple[int, int]) -> int:
        fuse = separable(256 + skips[0], width, 5) + separable(width + skips[1], width, 5)
        return aspp(2048, 256, plain) + plain(512, skips[0], 1) + plain(256, skips[1], 1) + fuse

    semantic = decoder(256, (64, 32)) + separable(256, 256, 5) + 257 * 19
    instance = decoder(128, (32, 16)) + 2 * separable(128, 32, 5) + 33 * (1 + 2)
    model = on_paper(NetworkConfig("panoptic_deeplab", "resnet50"))
    assert parameter_count(model.head) == semantic + instance
    # bowenc0221/panoptic-deeplab has 31,464,646: the same, but for no normalisation of its two image poolings.
    assert parameter_count(model.head) - 2 * 2 * 256 == 31_464_646


def test_unet_has_the_parameters_of_its_paper_plus_normalisation() -> None:
    widths = [64, 128, 256, 512, 1024]
    down = sum(plain(a, b, 3) + plain(b, b, 3) for a, b in zip([3, *widths], widths, strict=False))
    up = sum(4 * b * a + a + plain(b, a, 3) + plain(a, a, 3) for a, b in pairwise(widths))
    assert parameter_count(on_paper(NetworkConfig("unet"))) == down + up + 65 * 19


def test_the_network_that_ships_fits_in_twelve_megabytes() -> None:
    assert parameter_count(on_paper(NetworkConfig(separable=True))) == 2_719_299  # 10.9 MB in float32


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("stride", [8, 16])
def test_backbone_keeps_its_output_stride(backbone: str, stride: int) -> None:
    model = on_paper(NetworkConfig(backbone=backbone, output_stride=stride))
    pyramid = model.backbone(torch.zeros(1, 3, 64, 96, device="meta"))
    assert [64 // maps.shape[2] for maps in pyramid] == [2, 4, 8, min(16, stride), stride]
    assert [96 // maps.shape[3] for maps in pyramid] == [2, 4, 8, min(16, stride), stride]
    assert tuple(maps.shape[1] for maps in pyramid) == model.backbone.channels


@pytest.mark.parametrize("architecture", ["deeplabv3plus", "deeplabv3", "panoptic_deeplab", "fcn", "unet"])
@pytest.mark.parametrize("size", [(64, 96), (65, 97), (70, 51)])
def test_scores_come_at_the_size_of_the_image(architecture: str, size: tuple[int, int]) -> None:
    model = on_paper(NetworkConfig(architecture, num_classes=5)).eval()
    assert model(torch.zeros(2, 3, *size, device="meta")).shape == (2, 5, *size)


def test_own_maps_have_the_strides_of_the_papers() -> None:
    strides = {"deeplabv3plus": 4, "deeplabv3": 16, "panoptic_deeplab": 4, "fcn": 16, "unet": 1}
    for architecture, stride in strides.items():
        maps = on_paper(NetworkConfig(architecture)).maps(torch.zeros(2, 3, 64, 128, device="meta"))
        assert {tuple(value.shape[2:]) for value in maps.values()} == {(64 // stride, 128 // stride)}
        assert maps["logits"].shape[1] == 19
    panoptic = on_paper(NetworkConfig("panoptic_deeplab")).maps(torch.zeros(2, 3, 64, 128, device="meta"))
    assert {name: value.shape[1] for name, value in panoptic.items()} == {"logits": 19, "centre": 1, "offset": 2}


def test_auxiliary_head_is_for_training_only() -> None:
    model = on_paper(NetworkConfig("fcn", "resnet50", output_stride=8, auxiliary=True))
    images = torch.zeros(2, 3, 64, 64, device="meta")
    assert set(model.maps(images)) == {"logits", "auxiliary"}
    assert set(model.maps(images, auxiliary=False)) == {"logits"}


@pytest.mark.parametrize("pad_first", [False, True])
def test_block_pads_before_it_expands_only_where_told(pad_first: bool) -> None:
    torch.manual_seed(0)
    block = InvertedResidual(_Residual(4, 8, 4, dilation=2, pad_first=pad_first)).eval()
    expand, depthwise, project = block.body
    for part in (expand[1], depthwise[1], project[1]):
        part.bias.data.normal_()
    maps = torch.randn(1, 4, 7, 9)
    if pad_first:
        inner = functional.relu6(expand[1](expand[0](functional.pad(maps, [2, 2, 2, 2]))))
    else:
        inner = functional.pad(functional.relu6(expand[1](expand[0](maps))), [2, 2, 2, 2])
    inner = functional.conv2d(inner, depthwise[0].weight, dilation=2, groups=8)
    wanted = maps + project(functional.relu6(depthwise[1](inner)))
    assert torch.allclose(block(maps), wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("stride", "dilated"), [(16, {15: 2, 16: 2, 17: 2}), (8, {**dict.fromkeys(range(8, 15), 2), 15: 4, 16: 4, 17: 4})]
)
def test_dilation_of_mobilenet_v2_begins_one_block_after_the_stride_it_replaces(stride: int, dilated: dict) -> None:
    backbone = on_paper(NetworkConfig(output_stride=stride)).backbone
    depthwise = {
        number: part
        for number, block in enumerate(backbone.blocks)
        for part in block.modules()
        if isinstance(part, torch.nn.Conv2d) and part.groups > 1
    }
    assert {number: part.dilation[0] for number, part in depthwise.items() if part.dilation[0] > 1} == dilated
    assert all(part.padding == part.dilation for part in depthwise.values())


def test_block_padding_leaves_the_first_convolution_unpadded() -> None:
    padded, bare = (on_paper(NetworkConfig(padding=how)).backbone.blocks[0][0] for how in ("convolution", "block"))
    assert (padded.padding, bare.padding) == ((1, 1), (0, 0))


def test_decoder_reads_the_early_map_before_the_late_one_as_published_weights_want_it() -> None:
    torch.manual_seed(0)
    model = build_model(NetworkConfig(aspp_channels=16, decoder_channels=8)).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        model.head.refine[0][0].weight[:, 48:] = 0
        before = model(images)
        model.head.aspp.project[1].bias += 1
        assert torch.equal(model(images), before)
        model.head.low[1].bias += 1
        assert not torch.equal(model(images), before)


def test_channels_are_rounded_as_mobilenet_rounds_them() -> None:
    assert [rounded_to_8(value) for value in (3, 18, 30, 168, 44.1)] == [8, 24, 32, 168, 48]


def test_an_image_of_another_kind_is_refused_with_its_shape() -> None:
    with pytest.raises(ValueError, match=r"\(1, 1, 64, 64\) seen"):
        on_paper(NetworkConfig())(torch.zeros(1, 1, 64, 64, device="meta"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "resnet18"}, "resnet18"),
        ({"output_stride": 4}, "output_stride"),
        ({"aspp_rates": "6,12"}, "three positive integers"),
        ({"backbone": "resnet50", "padding": "block"}, "mobilenet_v2 only"),
        ({"architecture": "unet", "auxiliary": True}, "deeplabv3 or fcn"),
        ({"atrous_rates": "6,12,18"}, "unknown key"),
    ],
)
def test_a_network_that_does_not_exist_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NetworkConfig.from_mapping(settings)
