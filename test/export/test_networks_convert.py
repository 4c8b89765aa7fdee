"""Every kind of network that can be trained here is taken by TensorRT-RTX's real parser and builder, on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from seg_perception.export.batch import to_batch  # noqa: E402
from seg_perception.export.from_torch import export_network  # noqa: E402
from seg_perception.export.half import to_half  # noqa: E402
from seg_perception.export.quantize import Int8Limits, to_int8  # noqa: E402
from seg_perception.export.tensorrt_rules import findings, try_rtx  # noqa: E402
from seg_perception.models.build import build_model  # noqa: E402
from seg_perception.models.checkpoints import LoadedNetwork  # noqa: E402
from seg_perception.models.config import NetworkConfig, Preprocessing  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.tensorrt_rtx, pytest.mark.usefixtures("torch")]

NETWORKS = {
    "deeplabv3plus": NetworkConfig(separable=True, aspp_channels=32, decoder_channels=32, num_classes=4),
    "deeplabv3plus resnet50": NetworkConfig(backbone="resnet50", aspp_channels=32, decoder_channels=32, num_classes=4),
    "deeplabv3": NetworkConfig("deeplabv3", "mobilenet_v3_large", aspp_channels=32, num_classes=4),
    "block padding": NetworkConfig(padding="block", aspp_channels=32, decoder_channels=32, num_classes=4),
    "panoptic_deeplab": NetworkConfig("panoptic_deeplab", aspp_channels=32, num_classes=4),
    "fcn": NetworkConfig("fcn", output_stride=8, num_classes=4),
    "unet": NetworkConfig("unet", base_channels=8, num_classes=4),
}


def exported(config: NetworkConfig, taxonomy: str, path: Path, picture: np.ndarray) -> Path:
    torch.manual_seed(3)
    model = build_model(config).train()
    with torch.no_grad():
        for _ in range(4):  # statistics of activations that were there
            model.maps(torch.randn(2, 3, 64, 96))
    export_network(LoadedNetwork(model.eval(), taxonomy, Preprocessing()), path, (96, 64), [picture])
    return path


@pytest.mark.parametrize("name", NETWORKS)
def test_it_converts_in_every_precision(
    name: str, taxonomy_of: Callable[[int], str], tmp_path: Path, picture: np.ndarray
) -> None:
    path = exported(NETWORKS[name], taxonomy_of(4), tmp_path / "net.onnx", picture)
    # Random weights say nothing of labels.
    to_half(path, tmp_path / "net.fp16.onnx", picture, min_agreement=0.0)
    pictures = [picture, picture[::-1], picture[:, ::-1]]
    to_int8(path, tmp_path / "net.int8.onnx", pictures, limits=Int8Limits(agreement=0.0))
    for made in (path, tmp_path / "net.fp16.onnx", tmp_path / "net.int8.onnx"):
        assert findings(made) == []
        assert try_rtx(made).refusal == ""
    to_batch(path, tmp_path / "net.batch.onnx", 3)
    assert try_rtx(tmp_path / "net.batch.onnx").refusal == ""
