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
    """What one camera says of the points it sees.

    index: (M,) int64 into the scan; labels: for those points. worth: (M,) float32, 0..1, how well it is placed to see
    them, see `worth`.
    """

    camera: str
    index: NDArray[np.int64]
    labels: PointLabels
    worth: NDArray[np.float32]


def worth(
    scan: LidarScan,
    index: NDArray[np.int64],
    uv: NDArray[np.float64],
    size: tuple[int, int],
    image_ns: int,
    config: PaintingConfig,
) -> NDArray[np.float32]:
    """(M,) float32 in 0..1: 1 for points inside an image taken when they were measured; less towards its border, where
    lenses are calibrated worst and things are cut, and less the further apart in time.

    index: (M,) into the scan; uv: (M, 2) where they lie in the image of `size` (width, height) taken at `image_ns`.
    """
    width, height = size
    inside = np.minimum(np.minimum(uv[:, 0], width - 1.0 - uv[:, 0]), np.minimum(uv[:, 1], height - 1.0 - uv[:, 1]))
    inside = np.clip((inside + 1.0) / (config.border * width + 1.0), 0.0, 1.0)
    stamps_ns = scan.stamp_ns if scan.stamps_ns is None else scan.stamps_ns[index]
    apart_ms = np.abs(stamps_ns - image_ns) * 1e-6
    return ((0.5 + 0.5 * inside) / (1.0 + apart_ms / config.nearness_ms)).astype(np.float32)


def selected(labels: PointLabels, mask: NDArray[np.bool_]) -> PointLabels:
    """Only the labels where `mask` (M,) is True."""
    return PointLabels(labels.class_id[mask], labels.probability[mask], labels.margin[mask])


def paint(scan: LidarScan, views: Sequence[View], config: PaintingConfig) -> SemanticCloud:
    """Merge the views of all cameras into one labelled cloud.

    Of several cameras the one whose probability times worth is highest wins; of equals the first by name, so the order
    of `views` does not matter. Labels below the configured probability or margin leave the point unknown.
    """
    count = len(scan)
    cameras = tuple(sorted(view.camera for view in views))
    class_id = np.full(count, UNKNOWN, np.uint8)
    probability = np.zeros(count, np.float32)
    camera = np.full(count, NO_CAMERA, np.uint8)
    best = np.full(count, -1.0, np.float32)
    for view in sorted(views, key=lambda view: view.camera):
        labels = view.labels
        score = labels.probability * view.worth
        better = (
            (labels.class_id != UNKNOWN)
            & (labels.probability >= config.min_probability)
            & (labels.margin >= config.min_margin)
            & (score > best[view.index])
        )
        index = view.index[better]
        class_id[index] = labels.class_id[better]
        best[index] = score[better]
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
