"""An exported network gives the logits and labels that it gave in torch, or it is not written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

import seg_perception.export.from_torch as from_torch  # noqa: E402
from seg_perception.errors import ModelError  # noqa: E402
from seg_perception.export.from_torch import ExportLimits, export_network, network_input  # noqa: E402
from seg_perception.export.graph import read_model, run, session_of  # noqa: E402
from seg_perception.export.verification import read_picture  # noqa: E402
from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter  # noqa: E402
from seg_perception.models.build import build_model  # noqa: E402
from seg_perception.models.checkpoints import LoadedNetwork, save_checkpoint  # noqa: E402
from seg_perception.models.config import NetworkConfig, Preprocessing  # noqa: E402

pytestmark = pytest.mark.torch

NETWORKS = {
    "deeplabv3plus": NetworkConfig(separable=True, aspp_channels=32, decoder_channels=32, num_classes=4),
    "deeplabv3": NetworkConfig("deeplabv3", "mobilenet_v3_large", aspp_channels=32, num_classes=4),
    "block padding": NetworkConfig(padding="block", aspp_channels=32, decoder_channels=32, num_classes=4),
    "panoptic_deeplab": NetworkConfig("panoptic_deeplab", aspp_channels=32, num_classes=4),
    "fcn": NetworkConfig("fcn", output_stride=8, num_classes=4),
    "unet": NetworkConfig("unet", base_channels=4, num_classes=4),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small are slower on several threads, far slower where the cores are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trained_looking(config: NetworkConfig) -> torch.nn.Module:
    """Statistics of activations that were there, no class ahead of the others: as training would leave them."""
    torch.manual_seed(3)
    model = build_model(config).train()
    with torch.no_grad():
        for _ in range(4):
            model.maps(torch.randn(2, 3, 64, 96))
        model.eval()
        scores = [part for part in model.modules() if isinstance(part, torch.nn.Conv2d)]
        last = next(part for part in reversed(scores) if part.out_channels == config.num_classes)
        last.bias -= model.maps(torch.randn(1, 3, 64, 96))["logits"].mean(dim=(0, 2, 3))
    return model


@pytest.fixture
def network(taxonomy_of: Callable[[int], str]) -> Callable[[str], LoadedNetwork]:
    def build(name: str) -> LoadedNetwork:
        config = NETWORKS[name]
        return LoadedNetwork(trained_looking(config), taxonomy_of(config.num_classes), Preprocessing())

    return build


@pytest.mark.parametrize("name", NETWORKS)
def test_deployed_network_gives_the_logits_and_labels_of_torch(
    name: str, network: Callable, tmp_path: Path, picture: np.ndarray
) -> None:
    loaded = network(name)
    report = export_network(loaded, tmp_path / "net.onnx", (96, 64), [picture, picture[::-1].copy()])
    assert report.pictures == 2
    assert report.difference < 1e-4
    assert report.agreement >= 0.999
    segmenter = OnnxRuntimeSegmenter(tmp_path / "net.onnx")
    with torch.no_grad():
        scores = loaded.model(torch.from_numpy(network_input(picture, (96, 64), loaded.preprocessing)))[0]
    labels = segmenter.segment(picture).label_image((96, 64))
    assert len(np.unique(labels)) > 1
    assert (labels == scores.argmax(dim=0).numpy()).mean() >= 0.999


def test_centres_and_offsets_are_exported_at_the_stride_of_the_logits(
    network: Callable, tmp_path: Path, picture: np.ndarray
) -> None:
    loaded = network("panoptic_deeplab")
    with torch.no_grad():  # offsets of a trained network are tens of pixels
        loaded.model.head.offset[1].bias += torch.tensor([20.0, -30.0])
    contract = export_network(loaded, tmp_path / "net.onnx", (96, 64), [picture]).contract
    assert contract.things and contract.output_size == (24, 16)
    with torch.no_grad():
        image = torch.from_numpy(network_input(picture, (96, 64), loaded.preprocessing))
        wanted = loaded.model.maps(image)
    seen = run(session_of(read_model(tmp_path / "net.onnx")), {"pixels": picture})
    assert seen["centre"].shape == (16, 24) and seen["offset"].shape == (2, 16, 24)
    np.testing.assert_allclose(seen["centre"], wanted["centre"][0, 0], atol=1e-4)
    np.testing.assert_allclose(seen["offset"], wanted["offset"][0], atol=1e-2)


def test_only_the_scores_at_their_own_stride_come_out(network: Callable, tmp_path: Path, picture: np.ndarray) -> None:
    report = export_network(network("deeplabv3plus"), tmp_path / "net.onnx", (96, 64), [picture])
    assert report.contract.output_size == (24, 16)
    assert report.contract.mean == Preprocessing().mean


def test_a_network_that_changed_on_the_way_is_not_written(
    network: Callable, tmp_path: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = from_torch.write_onnx

    def damaged(model: torch.nn.Module, path: Path, size: tuple[int, int]) -> None:
        real(model, path, size)
        content = onnx.load(path)
        bias = next(t for t in content.graph.initializer if t.name == "head.scores.bias")
        bias.raw_data = (np.frombuffer(bias.raw_data, np.float32) + np.float32([0.02, 0, 0, 0])).tobytes()
        onnx.save(content, path)

    monkeypatch.setattr(from_torch, "write_onnx", damaged)
    with pytest.raises(ModelError, match=r"maps differ by .* at most 0.001"):
        export_network(network("deeplabv3plus"), tmp_path / "net.onnx", (96, 64), [picture])
    assert not list(tmp_path.rglob("*.onnx"))


def test_a_limit_that_cannot_be_kept_refuses(network: Callable, tmp_path: Path, picture: np.ndarray) -> None:
    with pytest.raises(ModelError, match=r"at least 99\.900% wanted"):
        export_network(
            network("unet"), tmp_path / "net.onnx", (96, 64), [picture], limits=ExportLimits(difference=1e-12)
        )


def test_a_network_in_training_mode_is_refused(network: Callable, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="evaluation mode"):
        from_torch.write_onnx(network("unet").model.train(), tmp_path / "net.onnx", (96, 64))


def test_deployed_network_is_the_same_on_real_pictures(shared_data: Path, tmp_path: Path) -> None:
    paths = sorted((shared_data / "kitti_drive" / "image_02" / "data").glob("*.png"))[:2]
    loaded = LoadedNetwork(trained_looking(NetworkConfig(separable=True)), "cityscapes", Preprocessing())
    report = export_network(loaded, tmp_path / "net.onnx", (416, 128), [read_picture(path) for path in paths])
    assert (report.pictures, report.contract.num_classes) == (2, 19)
    assert report.difference < 1e-3 and report.agreement >= 0.999


def test_command_exports_a_checkpoint_and_says_how_it_compares(
    tmp_path: Path, taxonomy_of: Callable[[int], str], capsys: pytest.CaptureFixture[str]
) -> None:
    import argparse

    from seg_perception.cli import export

    model = trained_looking(NETWORKS["deeplabv3plus"])
    save_checkpoint(tmp_path / "best.pt", model, taxonomy_of(4), Preprocessing())
    top = argparse.ArgumentParser()
    export.add_parser(top.add_subparsers())
    args = top.parse_args(["export", str(tmp_path / "best.pt"), str(tmp_path / "out.onnx"), "--network-size", "96x64"])
    assert args.run(args) == 0
    said = capsys.readouterr().out
    assert "network 96x64, logits 24x16" in said and "of the labels are equal" in said
    assert OnnxRuntimeSegmenter(tmp_path / "out.onnx").contract.num_classes == 4
