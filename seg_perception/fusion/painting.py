"""Each point takes its label from the camera that saw it best; unknown where none did."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.config import PaintingConfig
from seg_perception.datatypes import NO_CAMERA, NO_INSTANCE, UNKNOWN, LidarScan, PointLabels, SemanticCloud
from seg_perception.fusion.instances import Told, numbered
from seg_perception.geometry.projection import Projection


class _Place(NamedTuple):
    """What decides how well a camera is placed to see a point, as compiled code takes it."""

    width: float
    height: float
    border_px: float
    image_ns: int
    nearness_ms: float


class Painting:
    """A sweep that takes its labels from one camera after the other.

    Of several cameras the one whose probability times worth is highest wins; of equals the first by name, so their
    order does not matter. A place is worth 1 in the middle of an image taken when the point was measured; less towards
    its border, where lenses are calibrated worst and things are cut, and less the further apart in time. Labels below
    the configured probability or margin leave the point unknown. cameras: the names of all that may come.
    """

    def __init__(self, scan: LidarScan, cameras: Iterable[str], config: PaintingConfig) -> None:
        self._scan, self._config, self._cameras = scan, config, tuple(sorted(cameras))
        count = len(scan)
        self._class_id = np.full(count, UNKNOWN, np.uint8)
        self._probability = np.zeros(count, np.float32)
        self._camera = np.full(count, NO_CAMERA, np.uint8)
        self._best = np.full(count, -1.0, np.float32)
        self._told: dict[int, Told] = {}  # by number of the camera

    def add(
        self,
        camera: str,
        in_view: Projection,
        labels: PointLabels,
        kept: NDArray[np.bool_],
        size: tuple[int, int],
        image_ns: int,
    ) -> NDArray[np.int32]:
        """Take what an image of `size` (width, height), taken at `image_ns`, says of the M points in view.

        labels: of those points; kept: (M,) which of them the camera sees. Returns which of the sweep these are.
        """
        scan, config, number = self._scan, self._config, self._cameras.index(camera)
        place = _Place(float(size[0]), float(size[1]), config.border * size[0], image_ns, config.nearness_ms)
        at_once = scan.stamps_ns is None
        stamps_ns = np.array([scan.stamp_ns]) if at_once else scan.stamps_ns
        limits = np.float32(config.min_probability), np.float32(config.min_margin)
        said = labels.class_id, labels.probability, labels.margin
        cloud = self._best, self._class_id, self._probability, self._camera
        seen = np.empty(len(kept), np.int32)
        count = _take(kept, *in_view.arrays[:2], said, stamps_ns, at_once, place, limits, number, cloud, seen)
        if labels.instance_id is not None:
            self._told[number] = seen[:count], labels.instance_id[kept]
        return seen[:count]

    def cloud(self) -> SemanticCloud:
        """The labelled cloud. A point's instance is that which the winner tells, as one of the sweep (`numbered`)."""
        instance_id = np.full(len(self._scan), NO_INSTANCE, np.uint16)
        told = sorted(self._told.items())
        for (number, (index, _)), own in zip(told, numbered([of for _, of in told], len(self._scan)), strict=True):
            won = self._camera[index] == number
            instance_id[index[won]] = own[won]
        return SemanticCloud(
            scan=self._scan,
            class_id=self._class_id,
            probability=self._probability,
            instance_id=instance_id,
            camera=self._camera,
            cameras=self._cameras,
        )


@numba.njit(cache=True, nogil=True)
def _take(kept, index, uv, labels, stamps_ns, at_once, place, limits, number, cloud, seen):  # type: ignore[no-untyped-def]
    """Each point that this camera sees, in `seen`; those that it sees better than the cameras before it, in `cloud`.
    Returns how many it sees."""
    said, sure, margin = labels
    best, class_id, probability, camera = cloud
    count = 0
    for m in range(index.shape[0]):
        if not kept[m]:
            continue
        i = seen[count] = index[m]
        count += 1
        if said[m] == UNKNOWN or not (sure[m] >= limits[0] and margin[m] >= limits[1]):
            continue
        u, v = uv[m, 0], uv[m, 1]
        inside_px = min(min(u, place.width - 1.0 - u), min(v, place.height - 1.0 - v))
        inside = min(max((inside_px + 1.0) / (place.border_px + 1.0), 0.0), 1.0)
        apart_ms = abs(stamps_ns[0 if at_once else i] - place.image_ns) * 1e-6
        score = sure[m] * np.float32((0.5 + 0.5 * inside) / (1.0 + apart_ms / place.nearness_ms))
        if score > best[i] or (score == best[i] and number < camera[i]):
            best[i], class_id[i], probability[i], camera[i] = score, said[m], sure[m], number
    return count
