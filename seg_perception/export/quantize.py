"""A deployed network in float32 -> the same with its convolutions in int8, by Q/DQ nodes in the file.

What runs the file decides how they are put there (`RECIPES`). The first convolution and the last three stay in float32,
since they decide most: of the Cityscapes DeepLab, for TensorRT, 92 to 97 % of the labels of five real pictures stayed
with them, 86 to 97 % without. Ranges cover all but one in ten thousand values (with the extremes themselves 77 to 95 %
stayed). They come from real pictures; others give the wrong ranges.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from seg_perception.errors import ModelError
from seg_perception.evaluation.metrics import ConfusionMatrix
from seg_perception.export.graph import first_line
from seg_perception.inference.contract import INPUT_NAME, ModelContract
from seg_perception.inference.onnx_file import OnnxFile
from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter
from seg_perception.inference.pictures import check_picture

FEWEST_PICTURES = 2
PERCENTILE = 99.99
Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Recipe:
    """operators: whose inputs are quantised. signed: activations in symmetric int8 with biases in floating point, or in
    uint8 with a zero point and biases in int32."""

    operators: tuple[str, ...]
    signed: bool


RECIPES: Mapping[str, Recipe] = {
    "tensorrt": Recipe(("Conv",), signed=True),
    "cpu": Recipe(("Conv", "Add", "Relu", "Clip"), signed=False),
}
"""TensorRT takes symmetric int8 alone, and joins what lies between convolutions by itself. ONNX Runtime and OpenVINO on
a CPU multiply uint8 by int8, and keep to integers only where every step between two convolutions is quantised too."""


@dataclass(frozen=True, slots=True)
class Int8Limits:
    """What quantising may cost. loss: of mean IoU, where there is truth. agreement: share of labels that have to stay,
    where there is none."""

    loss: float = 0.02
    agreement: float = 0.9


@dataclass(frozen=True, slots=True)
class Int8Report:
    """What it cost, over `pictures` pictures that the ranges were not taken from.

    agreement: share of the labels that stayed. mean_iou, mean_iou_int8: against the truth; NaN where there was none.
    """

    pictures: int
    agreement: float
    mean_iou: float
    mean_iou_int8: float

    @property
    def loss(self) -> float:
        """Of mean IoU; below 0 where int8 is better by chance."""
        return self.mean_iou - self.mean_iou_int8


LIMITS = Int8Limits()


def to_int8(
    source: str | Path,
    destination: str | Path,
    pictures: Sequence[Picture],
    *,
    target: str = "tensorrt",
    held_out: Iterable[tuple[Picture, NDArray[np.uint8]]] = (),
    limits: Int8Limits = LIMITS,
    kept: tuple[int, int] = (1, 3),
) -> Int8Report:
    """Write the int8 form of the deployed file `source`, for one of `RECIPES`, and say what it cost.

    pictures: (H, W, 3) uint8 RGB, as the camera will give, that ranges are taken from. held_out: others, each with its
    true labels (H, W), train ids, 255 void; without any, the last of `pictures` is kept back to compare labels on.
    kept: how many convolutions stay in float32, first and last. Both files are run by ONNX Runtime.
    Raises ModelError, leaving no file, for what is no deployed float32 network and where the cost is above `limits`.
    """
    source, destination = Path(source), Path(destination)
    if target not in RECIPES:
        raise ModelError(f"target '{target}': one of {sorted(RECIPES)} wanted")
    model = OnnxFile.read(source)
    contract = ModelContract.from_metadata(model.metadata, str(source))
    if model.precision != "fp32":
        raise ModelError(f"model {source}: float32 wanted, {model.precision} seen")
    if contract.batch > 1:
        raise ModelError(f"model {source}: one picture at a time wanted, {contract.batch} seen; quantise, then batch")
    if len(pictures) < FEWEST_PICTURES:
        raise ModelError(f"pictures to quantise by: at least {FEWEST_PICTURES} wanted, {len(pictures)} seen")
    for picture in pictures:
        contract.check_image_size(check_picture(picture))
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".quantize") as folder:
        path, named = Path(folder) / "model.onnx", Path(folder) / "named.onnx"
        floating = _name_nodes(source, named, kept)
        truth = iter(held_out)
        first = next(truth, None)
        calibrating = pictures[:-1] if first is None else pictures
        try:
            _quantize(named, path, calibrating, RECIPES[target], floating)
        except Exception as error:  # it raises whatever its tools raise
            raise ModelError(f"model {source}: cannot be quantised ({first_line(error)})") from error
        _keep_metadata(path, model)
        compared = [(pictures[-1], None)] if first is None else _joined(first, truth)
        report = _compare(source, path, compared, contract.num_classes)
        _check(report, limits, source)
        path.replace(destination)
    return report


def _quantize(source: Path, path: Path, pictures: Sequence[Picture], recipe: Recipe, floating: list[str]) -> None:
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """The pictures, one after the other."""

        def __len__(self) -> int:
            return len(pictures)

        def set_range(self, start_index: int, end_index: int) -> None:
            """Called before every stride: one picture, whose activations are forgotten before the next."""
            self._rest = iter(pictures[start_index:end_index])

        def get_next(self) -> dict[str, Picture] | None:
            picture = next(self._rest, None)
            return None if picture is None else {INPUT_NAME: np.ascontiguousarray(picture)}

    # It advises a pre-processing, which `deploy` has done, on the root logger.
    logging.getLogger().addFilter(_advice)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            quantize_static(
                str(source),
                str(path),
                Reader(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(recipe.operators),
                nodes_to_exclude=floating,
                calibrate_method=CalibrationMethod.Percentile,
                per_channel=True,
                activation_type=QuantType.QInt8 if recipe.signed else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                extra_options={
                    "ActivationSymmetric": recipe.signed,
                    "WeightSymmetric": True,
                    "QuantizeBias": not recipe.signed,
                    "CalibPercentile": PERCENTILE,
                    "CalibStridedMinMax": 1,  # whatever the method: activations of one picture in memory at a time
                },
            )
    finally:
        logging.getLogger().removeFilter(_advice)


def _name_nodes(source: Path, destination: Path, kept: tuple[int, int]) -> list[str]:
    """A copy in which every node has a name; returns those of the convolutions that stay as they are."""
    model = onnx.load(source)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    onnx.save(model, destination)
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    if len(convolutions) <= sum(kept):
        raise ModelError(f"model {source}: more than {sum(kept)} convolutions wanted, {len(convolutions)} seen")
    return convolutions[: kept[0]] + convolutions[len(convolutions) - kept[1] :]


def _keep_metadata(path: Path, source: OnnxFile) -> None:
    model = onnx.load(path)
    onnx.helper.set_model_props(model, source.metadata)
    onnx.save(model, path)


def _joined(
    first: tuple[Picture, NDArray[np.uint8]], rest: Iterator[tuple[Picture, NDArray[np.uint8]]]
) -> Iterator[tuple[Picture, NDArray[np.uint8] | None]]:
    yield first
    yield from rest


def _compare(
    source: Path, quantized: Path, compared: Iterable[tuple[Picture, NDArray[np.uint8] | None]], num_classes: int
) -> Int8Report:
    """Run both on every picture."""
    segmenters = OnnxRuntimeSegmenter(source), OnnxRuntimeSegmenter(quantized)
    matrices = ConfusionMatrix(num_classes), ConfusionMatrix(num_classes)
    pictures = pixels = same = 0
    try:
        for picture, truth in compared:
            before, after = (segmenter.segment(picture).label_image() for segmenter in segmenters)
            pictures, pixels, same = pictures + 1, pixels + before.size, same + int((before == after).sum())
            for matrix, labels in zip(matrices, (before, after), strict=True):
                if truth is not None:
                    matrix.update(truth, labels)
    finally:
        for segmenter in segmenters:
            segmenter.close()
    return Int8Report(pictures, same / pixels, matrices[0].mean_iou, matrices[1].mean_iou)


_REMEDY = "`seg-perception quantize` has `--keep` to leave more convolutions in float32"


def _check(report: Int8Report, limits: Int8Limits, source: Path) -> None:
    if np.isnan(report.loss):
        if report.agreement < limits.agreement:
            raise ModelError(
                f"model {source}: in int8 {report.agreement:.2%} of its labels stay, {limits.agreement:.2%} wanted; "
                f"{_REMEDY}, or `--min-agreement` to allow it"
            )
    elif report.loss > limits.loss:
        raise ModelError(
            f"model {source}: in int8 its mean IoU falls from {report.mean_iou:.2%} to {report.mean_iou_int8:.2%} "
            f"(on {report.pictures} pictures), by {limits.loss:.2%} at most wanted; "
            f"{_REMEDY}, or `--max-loss` to allow it"
        )


def _advice(record: logging.LogRecord) -> bool:
    return "pre-processing" not in record.getMessage()
