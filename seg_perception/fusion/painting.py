"""Each point takes its label from the camera that saw it best; unknown where none did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.config import PaintingConfig
from seg_perception.datatypes import NO_CAMERA, NO_INSTANCE, UNKNOWN, LidarScan, PointLabels, SemanticCloud
from seg_perception.fusion.instances import numbered


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
    placed = np.empty(len(index), np.float32)
    at_once = scan.stamps_ns is None
    stamps_ns = np.array([scan.stamp_ns]) if at_once else scan.stamps_ns
    _weigh(index, uv, size, stamps_ns, at_once, image_ns, config.border * size[0], config.nearness_ms, placed)
    return placed


@numba.njit(cache=True, nogil=True)
def _weigh(index, uv, size, stamps_ns, at_once, image_ns, border_px, nearness_ms, placed):  # type: ignore[no-untyped-def]
    for m in range(index.shape[0]):
        u, v = uv[m, 0], uv[m, 1]
        inside_px = min(min(u, size[0] - 1.0 - u), min(v, size[1] - 1.0 - v))
        inside = min(max((inside_px + 1.0) / (border_px + 1.0), 0.0), 1.0)
        apart_ms = abs(stamps_ns[0 if at_once else index[m]] - image_ns) * 1e-6
        placed[m] = (0.5 + 0.5 * inside) / (1.0 + apart_ms / nearness_ms)


def selected(labels: PointLabels, mask: NDArray[np.bool_]) -> PointLabels:
    """Only the labels where `mask` (M,) is True."""
    count = int(np.count_nonzero(mask))
    kept = np.empty(count, np.uint8), np.empty(count, np.float32), np.empty(count, np.float32)
    _select(mask, labels.class_id, labels.probability, labels.margin, *kept)
    return PointLabels(*kept, None if labels.instance_id is None else labels.instance_id[mask])


@numba.njit(cache=True, nogil=True)
def _select(mask, said, sure, margin, said_kept, sure_kept, margin_kept):  # type: ignore[no-untyped-def]
    count = 0
    for m in range(mask.shape[0]):
        if mask[m]:
            said_kept[count], sure_kept[count], margin_kept[count] = said[m], sure[m], margin[m]
            count += 1


def paint(scan: LidarScan, views: Sequence[View], config: PaintingConfig) -> SemanticCloud:
    """Merge the views of all cameras into one labelled cloud.

    Of several cameras the one whose probability times worth is highest wins; of equals the first by name, so the order
    of `views` does not matter. Labels below the configured probability or margin leave the point unknown. A point's
    instance is that which the winner tells, as one of the sweep (`numbered`).
    """
    count = len(scan)
    cameras = tuple(sorted(view.camera for view in views))
    class_id = np.full(count, UNKNOWN, np.uint8)
    probability = np.zeros(count, np.float32)
    camera = np.full(count, NO_CAMERA, np.uint8)
    best = np.full(count, -1.0, np.float32)
    views = sorted(views, key=lambda view: view.camera)
    for view in views:
        labels = view.labels
        given = (view.index, labels.class_id, labels.probability, labels.margin, view.worth)
        limits = np.float32(config.min_probability), np.float32(config.min_margin)
        _take(*given, *limits, cameras.index(view.camera), best, class_id, probability, camera)
    instance_id = np.full(count, NO_INSTANCE, np.uint16)
    told = [(view.index, view.labels.instance_id) for view in views if view.labels.instance_id is not None]
    winners = [cameras.index(view.camera) for view in views if view.labels.instance_id is not None]
    for (index, _), own, number in zip(told, numbered(told, count), winners, strict=True):
        won = camera[index] == number
        instance_id[index[won]] = own[won]
    return SemanticCloud(
        scan=scan,
        class_id=class_id,
        probability=probability,
        instance_id=instance_id,
        camera=camera,
        cameras=cameras,
    )


@numba.njit(cache=True, nogil=True)
def _take(index, said, sure, margin, worth, min_sure, min_margin, number, best, class_id, probability, camera):  # type: ignore[no-untyped-def]
    """Each point of one view that beats what the views before it gave."""
    for m in range(index.shape[0]):
        i, score = index[m], sure[m] * worth[m]
        if said[m] != UNKNOWN and sure[m] >= min_sure and margin[m] >= min_margin and score > best[i]:
            best[i], class_id[i], probability[i], camera[i] = score, said[m], sure[m], number
