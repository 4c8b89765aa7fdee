"""What a segmentation can be asked, whichever network and backend made it.

A network's own output is a small map of class scores. It is kept as it is: points sample it bilinearly at their
sub-pixel places, and a whole label image is made only when somebody wants one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Set
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from seg_perception.datatypes import NO_INSTANCE, UNKNOWN, PointLabels
from seg_perception.errors import ModelError
from seg_perception.inference.contract import Alignment, ModelContract
from seg_perception.inference.panoptic_merging import ImageThings, image_things
from seg_perception.inference.sampling import (
    label_picture,
    nearest_index,
    sample_instances,
    sample_labels,
    sample_scores,
    samples_of,
)

__all__ = ["LabelSegmentation", "LogitsSegmentation", "PointLabels", "Segmentation", "Segmenter", "segmentation_of"]


_CERTAIN = np.ones((1, 1), np.float32)  # the confidence of a network that gives none


class Segmentation(Protocol):
    """One image, segmented."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the camera image that it answers for."""
        ...

    def sample(self, uv: NDArray[np.floating]) -> PointLabels:
        """Label N places of the camera image. uv: (N, 2), pixel centres at integers.

        A place that is NaN, or outside the image, gets class UNKNOWN, probability 0 and margin 0. Instances are told
        by networks that tell things apart (`ModelContract.things`).
        """
        ...

    def label_image(self, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """(H, W) train ids of the whole view, at `size` = (width, height); by default at the camera's size."""
        ...


class Segmenter(Protocol):
    """A deployed network, ready to run.

    One that can do more with several pictures at once also has `segment_all(pictures)`, a list of what `segment` gives
    for each, in order; the pipeline then hands it the pictures of all cameras together, unless it has `overlaps` and
    that is False: they would go one after the other, which several threads do better.
    """

    @property
    def contract(self) -> ModelContract:
        """What the network expects and gives."""
        ...

    def segment(self, pixels: NDArray[np.uint8]) -> Segmentation:
        """Run on one picture, (H, W, 3) uint8 RGB. What comes back owns its memory: the next call leaves it alone."""
        ...

    def close(self) -> None:
        """Free the network."""
        ...

    @property
    def backend(self) -> str:
        """What really runs it, for logs and diagnostics."""
        ...

    @property
    def heeds(self) -> Set[str]:
        """The settings of `InferenceConfig` that mean something to this backend and network, by name."""
        ...


class LogitsSegmentation:
    """Class scores at the network's own stride, blended bilinearly where they are asked for.

    scores: (C, h, w) float32 or float16, logits or, with `are_logits` False, probabilities. alignment: camera pixel to
    sample. size: (width, height) of the camera image. things: read at the nearest sample; None where the network does
    not tell them apart.
    """

    __slots__ = ("_alignment", "_are_logits", "_scores", "_things", "size")

    def __init__(
        self,
        scores: NDArray[np.floating],
        alignment: Alignment,
        size: tuple[int, int],
        *,
        are_logits: bool = True,
        things: ImageThings | None = None,
    ) -> None:
        if scores.ndim != 3 or not 1 < scores.shape[0] <= UNKNOWN or not np.issubdtype(scores.dtype, np.floating):
            raise ModelError(
                f"logits: floats of shape (2..{UNKNOWN}, h, w) wanted, {scores.dtype} of shape {scores.shape} seen"
            )
        if things is not None and things.instance.shape != scores.shape[1:]:
            raise ModelError(f"instances: shape {scores.shape[1:]} of the logits wanted, {things.instance.shape} seen")
        self._things = things
        self._scores = samples_of(scores)
        self._alignment = alignment
        self._are_logits = are_logits
        self.size = size

    def sample(self, uv: NDArray[np.floating]) -> PointLabels:
        """See `Segmentation.sample`; probability and margin are those of the softmax of the blended logits."""
        check_uv(uv)
        labels = _room(len(uv))
        sample_scores(
            self._scores,
            self._alignment.numbers,
            self.size,
            _places(uv),
            self._are_logits,
            labels.class_id,
            labels.probability,
            labels.margin,
        )
        return labels if self._things is None else with_instances(labels, self._things, self._alignment, uv)

    def label_image(self, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """See `Segmentation.label_image`."""
        alignment = alignment_at(self._alignment, self.size, size)
        width, height = size or self.size
        out = np.empty((height, width), np.uint8)
        label_picture(self._scores, alignment.numbers, out)
        return out

    def instance_image(self, label_image: NDArray[np.uint8]) -> NDArray[np.uint16] | None:
        """(H, W): the thing that each pixel of the `label_image`, of any size, belongs to; None as for `sample`."""
        if self._things is None:
            return None
        instance = self._things.instance
        height, width = label_image.shape
        alignment = alignment_at(self._alignment, self.size, (width, height))
        rows = nearest_index(np.arange(height, dtype=float), alignment.scale_v, alignment.offset_v, instance.shape[0])
        columns = nearest_index(np.arange(width, dtype=float), alignment.scale_u, alignment.offset_u, instance.shape[1])
        found = instance[np.ix_(rows, columns)]
        found[~self._things.is_thing[label_image]] = NO_INSTANCE
        return found


class LabelSegmentation:
    """Labels of a network that gives nothing else, read at the nearest sample.

    labels: (h, w) uint8, UNKNOWN stays UNKNOWN. confidence: (h, w) float, probability of the label; None where the
    network does not say, and then 1 stands for it. alignment, size: as for `LogitsSegmentation`.
    """

    __slots__ = ("_alignment", "_confidence", "_labels", "size")

    def __init__(
        self,
        labels: NDArray[np.uint8],
        confidence: NDArray[np.floating] | None,
        alignment: Alignment,
        size: tuple[int, int],
    ) -> None:
        if labels.ndim != 2 or labels.dtype != np.uint8:
            raise ModelError(f"labels: uint8 of shape (h, w) wanted, {labels.dtype} of shape {labels.shape} seen")
        if confidence is not None and confidence.shape != labels.shape:
            raise ModelError(f"confidence: shape {labels.shape} of the labels wanted, {confidence.shape} seen")
        self._labels = np.ascontiguousarray(labels)
        self._confidence = None if confidence is None else np.ascontiguousarray(confidence, np.float32)
        self._alignment = alignment
        self.size = size

    def sample(self, uv: NDArray[np.floating]) -> PointLabels:
        """See `Segmentation.sample`; the margin is the smallest that the confidence p allows, max(0, 2p - 1)."""
        check_uv(uv)
        result = _room(len(uv))
        sample_labels(
            self._labels,
            _CERTAIN if self._confidence is None else self._confidence,
            self._alignment.numbers,
            self.size,
            _places(uv),
            result.class_id,
            result.probability,
            result.margin,
        )
        return result

    def label_image(self, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """See `Segmentation.label_image`."""
        alignment = alignment_at(self._alignment, self.size, size)
        width, height = size or self.size
        rows, columns = self._rows(np.arange(height), alignment), self._columns(np.arange(width), alignment)
        return self._labels[np.ix_(rows, columns)]

    def _rows(self, v: NDArray, alignment: Alignment) -> NDArray[np.intp]:
        return nearest_index(v, alignment.scale_v, alignment.offset_v, self._labels.shape[0])

    def _columns(self, u: NDArray, alignment: Alignment) -> NDArray[np.intp]:
        return nearest_index(u, alignment.scale_u, alignment.offset_u, self._labels.shape[1])


def segmentation_of(outputs: Mapping[str, NDArray], contract: ModelContract, size: tuple[int, int]) -> Segmentation:
    """Wrap what a backend returned, by output name, for a camera image of `size`. The one place where kinds differ."""
    alignment = contract.alignment(size)
    if contract.output == "labels":
        return LabelSegmentation(outputs["labels"], outputs.get("confidence"), alignment, size)
    things = image_things(outputs, contract)
    return LogitsSegmentation(outputs["logits"], alignment, size, are_logits=contract.output == "logits", things=things)


def with_instances(
    labels: PointLabels, things: ImageThings, alignment: Alignment, uv: NDArray[np.floating]
) -> PointLabels:
    """The labels of N places, (N, 2), with the thing that each of them belongs to."""
    instance_id = np.full(len(uv), NO_INSTANCE, np.uint16)
    sample_instances(things.instance, things.is_thing, alignment.numbers, _places(uv), labels.class_id, instance_id)
    return dataclasses.replace(labels, instance_id=instance_id)


def check_uv(uv: NDArray) -> None:
    """Raises ValueError where places are not (N, 2)."""
    if uv.ndim != 2 or uv.shape[1] != 2:
        raise ValueError(f"uv: shape (N, 2) wanted, {uv.shape} seen")


def _places(uv: NDArray) -> NDArray[np.floating]:
    """(2, N), all u and then all v, as compiled code takes them: those of a projection as they lie, others a copy."""
    return np.ascontiguousarray(uv.T, np.float32 if uv.dtype == np.float32 else np.float64)


def _room(count: int) -> PointLabels:
    """For the labels of that many places, which are to be filled."""
    return PointLabels(np.empty(count, np.uint8), np.empty(count, np.float32), np.empty(count, np.float32))


def alignment_at(alignment: Alignment, own: tuple[int, int], size: tuple[int, int] | None) -> Alignment:
    """The alignment of a picture of the same view at another size."""
    return alignment if size is None or size == own else alignment.after(Alignment.of_resize(size, own))
