"""Each point takes its label from the camera that saw it best; unknown where none did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seg_perception.config import PaintingConfig
from seg_perception.datatypes import NO_CAMERA, NO_INSTANCE, UNKNOWN, LidarScan, PointLabels, SemanticCloud


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What one camera says of the points it sees. index: (M,) int64 into the scan; labels: for those points."""

    camera: str
    index: NDArray[np.int64]
    labels: PointLabels


def selected(labels: PointLabels, mask: NDArray[np.bool_]) -> PointLabels:
    """Only the labels where `mask` (M,) is True."""
    return PointLabels(labels.class_id[mask], labels.probability[mask], labels.margin[mask])


def paint(scan: LidarScan, views: Sequence[View], config: PaintingConfig) -> SemanticCloud:
    """Merge the views of all cameras into one labelled cloud.

    Of several cameras the one that is surest of its label wins; of equally sure ones the first by name, so the order
    of `views` does not matter. Labels below the configured probability or margin leave the point unknown.
    """
    count = len(scan)
    cameras = tuple(sorted(view.camera for view in views))
    class_id = np.full(count, UNKNOWN, np.uint8)
    probability = np.zeros(count, np.float32)
    camera = np.full(count, NO_CAMERA, np.uint8)
    for view in sorted(views, key=lambda view: view.camera):
        labels = view.labels
        better = (
            (labels.class_id != UNKNOWN)
            & (labels.probability >= config.min_probability)
            & (labels.margin >= config.min_margin)
            & (labels.probability > probability[view.index])
        )
        index = view.index[better]
        class_id[index] = labels.class_id[better]
        probability[index] = labels.probability[better]
        camera[index] = cameras.index(view.camera)
    return SemanticCloud(
        scan=scan,
        class_id=class_id,
        probability=probability,
        instance_id=np.full(count, NO_INSTANCE, np.uint16),
        camera=camera,
        cameras=cameras,
    )
