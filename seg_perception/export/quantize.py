"""A deployed network in float32 -> the same with its convolutions in int8, by Q/DQ nodes in the file.

Symmetric int8 for weights (by channel) and activations, biases in floating point: what TensorRT takes. Everything else
stays float32, and so do the first convolution and the last three, which decide most: of the Cityscapes DeepLab 92 to
97 % of the labels of five real pictures stayed with them, 86 to 97 % without. Ranges cover all but one in ten thousand
values (with the extremes themselves 77 to 95 % stayed). They come from real pictures; others give the wrong ranges.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from seg_perception.errors import ModelError
from seg_perception.export.graph import first_line
from seg_perception.export.verification import read_picture
from seg_perception.inference.contract import INPUT_NAME, ModelContract
from seg_perception.inference.onnx_file import OnnxFile
from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter
from seg_perception.inference.pictures import check_picture

FEWEST_PICTURES = 2
PERCENTILE = 99.99
KEPT_FIRST, KEPT_LAST = 1, 3


def to_int8(
    source: str | Path, destination: str | Path, pictures: Sequence[NDArray[np.uint8]], min_agreement: float = 0.9
) -> float:
    """Write the int8 form of the deployed file `source`; returns the share of labels that stay the same.

    pictures: (H, W, 3) uint8 RGB, as the camera will give; the last of them is kept back to compare labels on, by ONNX
    Runtime. Raises ModelError, leaving no file, for what is no deployed float32 network and where more labels change.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    source, destination = Path(source), Path(destination)
    model = OnnxFile.read(source)
    contract = ModelContract.from_metadata(model.metadata, str(source))
    if model.precision != "fp32":
        raise ModelError(f"model {source}: float32 wanted, {model.precision} seen")
    if len(pictures) < FEWEST_PICTURES:
        raise ModelError(f"pictures to quantise by: at least {FEWEST_PICTURES} wanted, {len(pictures)} seen")
    for picture in pictures:
        contract.check_image_size(check_picture(picture))
    *calibrating, comparing = pictures

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """The pictures, one after the other."""

        def __init__(self) -> None:
            self._rest: Iterator[NDArray[np.uint8]] = iter(calibrating)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            picture = next(self._rest, None)
            return None if picture is None else {INPUT_NAME: np.ascontiguousarray(picture)}

    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".quantize") as folder:
        path, named = Path(folder) / "model.onnx", Path(folder) / "named.onnx"
        kept = _name_nodes(source, named)
        # It advises a pre-processing, which `deploy` has done, on the root logger.
        logging.getLogger().addFilter(_advice)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                quantize_static(
                    str(named),
                    str(path),
                    Reader(),
                    quant_format=QuantFormat.QDQ,
                    op_types_to_quantize=["Conv"],
                    nodes_to_exclude=kept,
                    calibrate_method=CalibrationMethod.Percentile,
                    per_channel=True,
                    activation_type=QuantType.QInt8,
                    weight_type=QuantType.QInt8,
                    extra_options={
                        "ActivationSymmetric": True,
                        "WeightSymmetric": True,
                        "QuantizeBias": False,
                        "CalibPercentile": PERCENTILE,
                    },
                )
        except Exception as error:  # it raises whatever its tools raise
            raise ModelError(f"model {source}: cannot be quantised ({first_line(error)})") from error
        finally:
            logging.getLogger().removeFilter(_advice)
        _keep_metadata(path, model)
        agreement = _agreement(source, path, comparing)
        if agreement < min_agreement:
            raise ModelError(f"model {source}: in int8 {agreement:.2%} of its labels stay, {min_agreement:.2%} wanted")
        path.replace(destination)
    return agreement


def read_pictures(folder: Path, model: Path, most: int = 32) -> list[NDArray[np.uint8]]:
    """Up to `most` pictures of a folder, evenly spread over it in the order of their names; those of a wrong size left
    out where the network takes one size. Raises ModelError where there are none."""
    contract = ModelContract.from_metadata(OnnxFile.read(model).metadata, str(model))
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    pictures = [read_picture(path) for path in found[:: -(-len(found) // most) or 1]]
    wanted = contract.image_size
    fitting = [each for each in pictures if wanted is None or (each.shape[1], each.shape[0]) == wanted]
    if not fitting:
        raise ModelError(f"folder {folder}: pictures (.png, .jpg) of {wanted or 'any'} size wanted, none seen")
    return fitting


def _name_nodes(source: Path, destination: Path) -> list[str]:
    """A copy in which every node has a name; returns those of the convolutions that stay as they are."""
    model = onnx.load(source)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    onnx.save(model, destination)
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    if len(convolutions) <= KEPT_FIRST + KEPT_LAST:
        raise ModelError(
            f"model {source}: more than {KEPT_FIRST + KEPT_LAST} convolutions wanted, {len(convolutions)} seen"
        )
    return convolutions[:KEPT_FIRST] + convolutions[-KEPT_LAST:]


def _keep_metadata(path: Path, source: OnnxFile) -> None:
    model = onnx.load(path)
    onnx.helper.set_model_props(model, source.metadata)
    onnx.save(model, path)


def _agreement(source: Path, quantized: Path, picture: NDArray[np.uint8]) -> float:
    labels = []
    for path in (source, quantized):
        segmenter = OnnxRuntimeSegmenter(path)
        labels.append(segmenter.segment(picture).label_image())
        segmenter.close()
    return float((labels[0] == labels[1]).mean())


def _advice(record: logging.LogRecord) -> bool:
    return "pre-processing" not in record.getMessage()
