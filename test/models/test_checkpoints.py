"""Published weights arrive where they belong; what does not fit is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from seg_perception.errors import ModelError  # noqa: E402
from seg_perception.models.build import build_model  # noqa: E402
from seg_perception.models.checkpoints import (  # noqa: E402
    CLASSIFIERS,
    PUBLISHED,
    load_backbone,
    load_checkpoint,
    load_published,
    load_weights,
    read_checkpoint,
    read_weights,
    save_checkpoint,
    translated,
)
from seg_perception.models.config import NetworkConfig, Preprocessing  # noqa: E402

pytestmark = pytest.mark.torch

SMALL = ("vainf/deeplabv3plus_mobilenet", "torchvision/deeplabv3_mobilenet_v3_large")


def random_state(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        key: torch.rand(shape, generator=generator) * 0.1 if shape else torch.tensor(7) for key, shape in shapes.items()
    }


def scrambled(model: torch.nn.Module) -> torch.nn.Module:
    """Weights and statistics of which no two layers have the same, in evaluation mode."""
    torch.manual_seed(1)
    for key, value in model.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif key.endswith(("running_mean", "bias")):
            value.normal_(0, 0.1)
    return model.eval()


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_name_and_shape_has_its_place(name: str, published_shapes: Callable) -> None:
    shapes = published_shapes(name)
    with torch.device("meta"):
        ours = {key: tuple(value.shape) for key, value in build_model(PUBLISHED[name].network).state_dict().items()}
    names = translated(shapes, PUBLISHED[name].renames)
    assert {names[key]: shape for key, shape in shapes.items()} == ours


@pytest.mark.parametrize("name", SMALL)
def test_published_weights_load_from_a_file_with_a_numpy_score_beside_them(
    name: str, published_shapes: Callable, tmp_path: Path
) -> None:
    state = random_state(published_shapes(name))
    torch.save({"cur_itrs": 30000, "model_state": state, "best_score": np.float64(0.72)}, tmp_path / "best.pth")
    model = load_published(name, tmp_path / "best.pth")
    names = translated(state, PUBLISHED[name].renames)
    loaded = model.state_dict()
    assert all(torch.equal(loaded[names[key]], value) for key, value in state.items())
    assert not model.training


def test_classes_and_auxiliary_head_follow_the_file(published_shapes: Callable, tmp_path: Path) -> None:
    name = "torchvision/deeplabv3_mobilenet_v3_large"
    shapes = {key: shape for key, shape in published_shapes(name).items() if not key.startswith("aux_classifier")}
    shapes |= {"classifier.4.weight": (5, 256, 1, 1), "classifier.4.bias": (5,)}
    torch.save(random_state(shapes), tmp_path / "five.pth")
    assert load_published(name, tmp_path / "five.pth").config == NetworkConfig(
        "deeplabv3", "mobilenet_v3_large", 5, aspp_rates="12,24,36"
    )


def test_a_mismatch_names_the_keys(published_shapes: Callable, tmp_path: Path) -> None:
    state = random_state(published_shapes(SMALL[0]))
    del state["classifier.project.0.weight"]
    state["classifier.stranger"] = torch.zeros(1)
    state["backbone.low_level_features.0.0.weight"] = torch.zeros(16, 3, 3, 3)
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(ModelError) as caught:
        load_published(SMALL[0], tmp_path / "odd.pth")
    message = str(caught.value)
    assert "1 missing: head.low.0.weight" in message
    assert "1 unexpected: classifier.stranger" in message
    assert "backbone.low_level_features.0.0.weight (16, 3, 3, 3) instead of (32, 3, 3, 3)" in message


def test_weights_of_a_data_parallel_training_lose_their_prefix(tmp_path: Path) -> None:
    torch.save({"state_dict": {"module.a": torch.ones(2)}}, tmp_path / "w.pth")
    assert list(read_weights(tmp_path / "w.pth")) == ["a"]


@pytest.mark.parametrize("function", ["deeplabv3_mobilenet_v3_large", "fcn_resnet50"])
def test_scores_equal_those_of_torchvision_with_the_same_weights(
    function: str, torchvision_models, tmp_path: Path
) -> None:
    build = getattr(torchvision_models.segmentation, function)
    theirs = scrambled(build(weights=None, weights_backbone=None, num_classes=21, aux_loss=True))
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    ours = load_published(f"torchvision/{function}", tmp_path / "theirs.pth")
    images = torch.randn(1, 3, 65, 90)
    with torch.no_grad():
        wanted, seen = theirs(images)["out"], ours(images)
    assert torch.allclose(wanted, seen, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("backbone", ["mobilenet_v2", "mobilenet_v3_large", "resnet50"])
def test_a_backbone_starts_from_the_weights_of_a_classifier(backbone: str, torchvision_models, tmp_path: Path) -> None:
    theirs = scrambled(getattr(torchvision_models, backbone)(weights=None))
    torch.save(theirs.state_dict(), tmp_path / "classifier.pth")
    model = build_model(NetworkConfig(backbone=backbone))
    load_backbone(model, tmp_path / "classifier.pth")
    names = translated(theirs.state_dict(), CLASSIFIERS[backbone])
    ours = {f"backbone.{key}": value for key, value in model.backbone.state_dict().items()}
    matched = {
        name for key, name in names.items() if name in ours and torch.equal(ours[name], theirs.state_dict()[key])
    }
    assert matched == set(ours)


def test_a_backbone_starts_from_that_of_another_network_of_ours(tmp_path: Path) -> None:
    other = scrambled(build_model(NetworkConfig(backbone="mobilenet_v2", separable=True)))
    save_checkpoint(tmp_path / "other.pt", other, "cityscapes", Preprocessing())
    model = build_model(NetworkConfig("panoptic_deeplab", backbone="mobilenet_v2"))
    load_backbone(model, tmp_path / "other.pt")
    pairs = zip(model.backbone.state_dict().values(), other.backbone.state_dict().values(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
    with pytest.raises(ModelError, match=r"as resnet50: .* missing"):
        load_backbone(build_model(NetworkConfig(backbone="resnet50")), tmp_path / "other.pt")


def test_a_panoptic_network_with_that_decoder_takes_all_of_a_deeplabv3plus(tmp_path: Path) -> None:
    small = {"separable": True, "aspp_channels": 16, "decoder_channels": 16}
    classes_only = scrambled(build_model(NetworkConfig(**small)))
    save_checkpoint(tmp_path / "plus.pt", classes_only, "cityscapes", Preprocessing())
    model = build_model(NetworkConfig("panoptic_deeplab", semantic_decoder="deeplabv3plus", **small)).eval()
    fresh = model.head.centre[1].weight.clone()
    said = load_weights(model, tmp_path / "plus.pt")
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(model.maps(images)["logits"], classes_only.eval().maps(images)["logits"])
    aspp = zip(model.head.instance.aspp.parameters(), classes_only.head.aspp.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in aspp)
    assert torch.equal(model.head.centre[1].weight, fresh)
    with torch.no_grad():
        assert model.maps(images)["centre"].abs().max() < 0.5  # it begins near what nearly all of a heat map is
    taken = len(classes_only.state_dict()) + len(classes_only.head.aspp.state_dict())
    assert f"{taken} tensors taken" in said and f"{len(model.state_dict()) - taken} new: head.instance.skips" in said
    with pytest.raises(ModelError, match=r"of another shape: head\.semantic\.aspp"):
        load_weights(
            build_model(NetworkConfig("panoptic_deeplab", semantic_decoder="deeplabv3plus", separable=True)),
            tmp_path / "plus.pt",
        )


def test_own_checkpoint_brings_back_network_weights_and_preprocessing(tmp_path: Path) -> None:
    model = scrambled(build_model(NetworkConfig("unet", num_classes=4, base_channels=4)))
    given = Preprocessing((1.0, 2.0, 3.0), (0.5, 0.25, 0.125))
    save_checkpoint(tmp_path / "net.pt", model, "cityscapes", given, {"iteration": 7})
    loaded = load_checkpoint(tmp_path / "net.pt")
    assert (loaded.model.config, loaded.taxonomy, loaded.preprocessing) == (model.config, "cityscapes", given)
    assert read_checkpoint(tmp_path / "net.pt")["training"] == {"iteration": 7}
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.model.parameters(), strict=True))
    assert [path.name for path in tmp_path.iterdir()] == ["net.pt"]


class Malicious:
    def __reduce__(self) -> tuple:
        return print, ("code ran",)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        load_checkpoint(tmp_path / "x.pth")
    (tmp_path / "x.pth").write_bytes(b"no checkpoint at all")
    with pytest.raises(ModelError, match="cannot read"):
        load_checkpoint(tmp_path / "x.pth")
    torch.save({"a": torch.ones(1)}, tmp_path / "x.pth")
    with pytest.raises(ModelError, match="name their layout"):
        load_checkpoint(tmp_path / "x.pth")


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model_state": {}, "extra": Malicious()}, tmp_path / "bad.pth")
    with pytest.raises(ModelError, match="cannot read"):
        load_published(SMALL[0], tmp_path / "bad.pth")
    assert "code ran" not in capsys.readouterr().out


def test_an_unknown_layout_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="vainf/deeplabv3plus_mobilenet"):
        load_published("mmseg/whatever", tmp_path / "x.pth")
