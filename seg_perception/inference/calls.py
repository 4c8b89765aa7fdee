"""Several pictures to one call of a network, where it takes several (`ModelContract.batch`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from seg_perception.inference.contract import ModelContract
from seg_perception.inference.pictures import check_picture
from seg_perception.inference.segmenter import Segmentation, segmentation_of

Pictures = Sequence[NDArray[np.uint8]]


def calls_of(pictures: Pictures, contract: ModelContract) -> list[list[int]]:
    """Which pictures go together, by their index: as many of one size as the network takes, and each of the rest alone.

    So a call is of one picture or of `contract.batch`, and a backend has two shapes a size to set up. Raises ModelError
    where one is no picture, or of a size that the network was not deployed for.
    """
    by_size: dict[tuple[int, int], list[int]] = {}
    for index, pixels in enumerate(pictures):
        size = check_picture(pixels)
        contract.check_image_size(size)
        by_size.setdefault(size, []).append(index)
    calls: list[list[int]] = []
    for indices in by_size.values():
        whole = len(indices) // contract.batch * contract.batch
        calls += [indices[start : start + contract.batch] for start in range(0, whole, contract.batch)]
        calls += [[index] for index in indices[whole:]]
    return sorted(calls)


def segment_in_calls(
    pictures: Pictures, contract: ModelContract, run: Callable[[NDArray[np.uint8]], Mapping[str, NDArray]]
) -> list[Segmentation]:
    """All pictures segmented, in order. run: one call, of the network's input; it gives the outputs by name."""
    answers: dict[int, Segmentation] = {}
    for indices in calls_of(pictures, contract):
        chosen = [pictures[index] for index in indices]
        outputs = run(np.ascontiguousarray(chosen[0]) if contract.batch == 1 else np.stack(chosen))
        for position, (index, pixels) in enumerate(zip(indices, chosen, strict=True)):
            own = outputs if contract.batch == 1 else {name: value[position] for name, value in outputs.items()}
            answers[index] = segmentation_of(own, contract, (pixels.shape[1], pixels.shape[0]))
    return [answers[index] for index in range(len(pictures))]
