"""A trained network -> ONNX -> deployed, and proof on pictures that nothing was lost on the way.

torch is needed inside the functions only, so that everything else here imports without it.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import ModelError
from seg_perception.export.deploy import DeploySpec, deploy
from seg_perception.export.graph import read_model, run, session_of
from seg_perception.export.verification import synthetic_picture
from seg_perception.inference.contract import INPUT_NAME, MAPS, ModelContract
from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter
from seg_perception.models.config import Preprocessing

if TYPE_CHECKING:
    from seg_perception.models.build import SegmentationNetwork
    from seg_perception.models.checkpoints import LoadedNetwork

OPSET = 17
INPUT, OUTPUT = "image", "scores"
CENTRE, OFFSET = MAPS


@dataclass(frozen=True, slots=True)
class ExportLimits:
    """How far the deployed network may be from the one that was trained.

    difference: of its logits, as a share of the largest logit where that is above 1; of centres and offsets likewise.
    agreement: share of equal labels.
    """

    difference: float = 1e-3
    agreement: float = 0.999


LIMITS = ExportLimits()


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What came out. difference, agreement: the worst over `pictures` pictures; see `ExportLimits`."""

    contract: ModelContract
    pictures: int
    difference: float
    agreement: float


def export_network(
    network: LoadedNetwork,
    destination: str | Path,
    network_size: tuple[int, int],
    pictures: Sequence[NDArray[np.uint8]] = (),
    *,
    image_size: tuple[int, int] | None = None,
    limits: ExportLimits = LIMITS,
) -> ExportReport:
    """Write the deployed form of a trained network to `destination`.

    network_size: (width, height) that pictures are resized to in the graph. image_size: see `DeploySpec`. pictures:
    (H, W, 3) uint8 RGB, real ones, that the network in torch and the deployed file are both run on; none: a synthetic
    one. Panoptic-DeepLab's centres and offsets are exported too. Raises ModelError, leaving no file, where they differ.
    """
    destination = Path(destination)
    pictures = [*pictures] or [synthetic_picture(image_size or network_size)]
    if image_size is not None:
        pictures = [np.asarray(cv2.resize(picture, image_size), np.uint8) for picture in pictures]
    panoptic = tells_things_apart(network.model)
    spec = DeploySpec(
        taxonomy=network.taxonomy,
        mean=network.preprocessing.mean,
        scale=network.preprocessing.scale,
        layout="NCHW",
        image_size=image_size,
        gives="logits",
        min_agreement=limits.agreement,
        output=OUTPUT,
        centre=CENTRE if panoptic else "",
        offset=OFFSET if panoptic else "",
    )
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".export") as folder:
        plain, deployed = Path(folder) / f"{destination.stem}.plain.onnx", Path(folder) / destination.name
        write_onnx(network.model, plain, network_size)
        contract = deploy(plain, deployed, spec, pictures[0])
        report = _compare(network, contract, deployed, pictures)
        if report.difference > limits.difference or report.agreement < limits.agreement:
            raise ModelError(
                f"{destination}: deployed, its maps differ by {report.difference:.2g} and {report.agreement:.3%} of "
                f"its labels are those of the trained network; at most {limits.difference:.2g} and at least "
                f"{limits.agreement:.3%} wanted"
            )
        deployed.replace(destination)
    return report


def write_onnx(model: SegmentationNetwork, path: Path, network_size: tuple[int, int]) -> None:
    """Write a network in evaluation mode as plain ONNX: image (1, 3, h, w), normalised -> scores (1, C, h, w), and, of
    one that tells things apart, centre (1, 1, h, w) and offset (1, 2, h, w)."""
    import torch

    if model.training:
        raise ModelError("a network in evaluation mode wanted; call eval() before exporting it")
    from seg_perception.models.build import WholeMaps

    width, height = network_size
    exported, maps = (WholeMaps(model).eval(), [CENTRE, OFFSET]) if tells_things_apart(model) else (model, [])
    example = torch.zeros(1, 3, height, width)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this exporter is the older one; the newer needs one more dependency
        torch.onnx.export(
            exported.cpu().float(),
            (example,),
            str(path),
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT, *maps],
            do_constant_folding=True,
            dynamo=False,
        )


def tells_things_apart(model: SegmentationNetwork) -> bool:
    """Whether it gives centres and offsets."""
    return model.config.architecture == "panoptic_deeplab"


def network_input(
    picture: NDArray[np.uint8], network_size: tuple[int, int], preprocessing: Preprocessing
) -> NDArray[np.float32]:
    """(1, 3, h, w): a picture resized and normalised outside any graph, by OpenCV and NumPy."""
    pixels = np.asarray(cv2.resize(picture.astype(np.float32), network_size, interpolation=cv2.INTER_LINEAR))
    pixels = (pixels - np.array(preprocessing.mean, np.float32)) * np.array(preprocessing.scale, np.float32)
    return np.ascontiguousarray(np.moveaxis(pixels, 2, 0)[None], np.float32)


def _compare(
    network: LoadedNetwork, contract: ModelContract, deployed: Path, pictures: Sequence[NDArray[np.uint8]]
) -> ExportReport:
    """Run both on every picture."""
    session = session_of(read_model(deployed))
    segmenter = OnnxRuntimeSegmenter(deployed)
    difference, agreement = 0.0, 1.0
    try:
        for picture in pictures:
            wanted, labels = _run_torch(network, network_input(picture, contract.network_size, network.preprocessing))
            seen = run(session, {INPUT_NAME: picture})
            for name in ("logits", *(MAPS if contract.things else ())):
                value = wanted[name]
                if seen[name].shape != value.shape:
                    raise ModelError(f"deployed, {name} has the shape {seen[name].shape}, {value.shape} wanted")
                scale = max(1.0, float(np.abs(value).max()))
                difference = max(difference, float(np.abs(seen[name] - value).max()) / scale)
            own = segmenter.segment(picture).label_image(contract.network_size)
            agreement = min(agreement, float((own == labels).mean()))
    finally:
        segmenter.close()
    return ExportReport(contract, len(pictures), difference, agreement)


def _run_torch(
    network: LoadedNetwork, images: NDArray[np.float32]
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.uint8]]:
    """What `ModelContract` promises at the network's own stride, by name; labels (H, W) at its input's size."""
    import torch

    with torch.inference_mode():
        batch = torch.from_numpy(images)
        maps = {name: value[0].numpy() for name, value in network.model.maps(batch, auxiliary=False).items()}
        labels = network.model(batch)[0].argmax(dim=0)
    if "centre" in maps:
        maps["centre"] = maps["centre"][0]
    return maps, labels.numpy().astype(np.uint8)
