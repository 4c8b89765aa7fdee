"""Segmentations that a GPU answers for: wholly, or their label images alone."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from seg_perception.datatypes import PointLabels
from seg_perception.inference.contract import Alignment
from seg_perception.inference.cuda_runtime import Cuda, CudaError, Memory
from seg_perception.inference.panoptic_merging import ImageThings
from seg_perception.inference.score_kernels import DeviceScores, ScoreKernels
from seg_perception.inference.segmenter import LogitsSegmentation, alignment_at, check_uv, with_instances

log = logging.getLogger(__name__)


class DeviceSegmentation(LogitsSegmentation):
    """Class scores on the CPU, for points; a label image of them is made by the GPU."""

    __slots__ = ("_kernels",)

    def __init__(
        self,
        scores: NDArray[np.floating],
        alignment: Alignment,
        size: tuple[int, int],
        *,
        are_logits: bool,
        kernels: ScoreKernels,
        things: ImageThings | None = None,
    ) -> None:
        super().__init__(scores, alignment, size, are_logits=are_logits, things=things)
        self._kernels = kernels

    def label_image(self, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """See `Segmentation.label_image`. Made on the CPU, of the same labels, where the GPU is gone by now."""
        alignment = alignment_at(self._alignment, self.size, size)
        try:
            return self._kernels.label_picture_of(self._scores, self._are_logits, alignment, size or self.size)[0]
        except CudaError as error:
            log.debug("label image made on the CPU: %s", error)
            return super().label_image(size)


class ResidentSegmentation:
    """Class scores that stay on the GPU; points and label images are made of them there. Things are on the CPU.

    Gives the labels of `LogitsSegmentation`. Whatever is asked once the GPU is lost or its segmenter closed raises
    CudaError.
    """

    __slots__ = ("_alignment", "_are_logits", "_kernels", "_scores", "_things", "size")

    def __init__(
        self,
        scores: DeviceScores,
        alignment: Alignment,
        size: tuple[int, int],
        *,
        are_logits: bool,
        kernels: ScoreKernels,
        things: ImageThings | None = None,
    ) -> None:
        self._scores = scores
        self._alignment = alignment
        self._are_logits = are_logits
        self._kernels = kernels
        self._things = things
        self.size = size

    def sample(self, uv: NDArray[np.floating]) -> PointLabels:
        """See `Segmentation.sample`; probability and margin are those of the softmax of the blended logits."""
        check_uv(uv)
        places = np.ascontiguousarray(uv, np.float64)
        labels = self._kernels.sample(self._scores, self._are_logits, self._alignment, self.size, places)
        return labels if self._things is None else with_instances(labels, self._things, self._alignment, uv)

    def label_image(self, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """See `Segmentation.label_image`."""
        alignment = alignment_at(self._alignment, self.size, size)
        return self._kernels.label_picture(self._scores, self._are_logits, alignment, size or self.size)[0]


class MemoryPool:
    """Pieces of the GPU's memory of one size, lent for as long as the borrower keeps what `take` gave."""

    def __init__(self, cuda: Cuda, nbytes: int) -> None:
        self._cuda = cuda
        self._nbytes = nbytes
        self._free: list[Memory] = []

    def take(self) -> Lent:
        """A piece that nobody else has."""
        try:
            memory = self._free.pop()
        except IndexError:
            memory = self._cuda.device_memory(self._nbytes)
        return Lent(memory, self._free)


class Lent:
    """A piece of a pool, which goes back to it with the last reference to this."""

    __slots__ = ("_free", "memory")

    def __init__(self, memory: Memory, free: list[Memory]) -> None:
        self.memory = memory
        self._free = free

    def __del__(self) -> None:
        self._free.append(self.memory)
