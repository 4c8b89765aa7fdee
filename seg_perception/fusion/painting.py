"""Each point takes its label from the camera that saw it best; unknown where none did."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.borrowing import borrowed
from seg_perception.config import PaintingConfig
from seg_perception.datatypes import NO_CAMERA, NO_INSTANCE, UNKNOWN, LidarScan, PointLabels, SemanticCloud
from seg_perception.fusion.instances import Told, numbered
from seg_perception.geometry.projection import Projection

_BLOCK = 1024  # points weighed together
_NOTHING = np.zeros(256, np.bool_)
_NOT_TOLD = np.float32(-2.0)  # a score below that of a point that nobody has told anything of


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
    the configured probability or margin leave the point unknown. cameras: the names of all that may come. untouchable:
    (256,) whether a class is one that no laser meets: a point on such a label is not on what the picture shows there.
    """

    def __init__(
        self,
        scan: LidarScan,
        cameras: Iterable[str],
        config: PaintingConfig,
        untouchable: NDArray[np.bool_] = _NOTHING,
    ) -> None:
        self._scan, self._config, self._cameras = scan, config, tuple(sorted(cameras))
        self._tells = ~untouchable
        self._tells[UNKNOWN] = False
        count = len(scan)
        self._class_id = np.full(count, UNKNOWN, np.uint8)
        self._probability = np.zeros(count, np.float32)
        self._camera = np.full(count, NO_CAMERA, np.uint8)
        self._best = np.full(count, -1.0, np.float32)
        self._told: dict[int, Told] = {}  # by number of the camera
        self._one_at_a_time = threading.Lock()

    def add(
        self,
        camera: str,
        in_view: Projection,
        labels: PointLabels,
        kept: NDArray[np.bool_],
        size: tuple[int, int],
        image_ns: int,
    ) -> int:
        """Take what an image of `size` (width, height), taken at `image_ns`, says of the M points in view.

        labels: of those points; kept: (M,) which of them the camera sees. Returns how many that are. From any thread.
        """
        scan, config, number = self._scan, self._config, self._cameras.index(camera)
        place = _Place(float(size[0]), float(size[1]), config.border * size[0], image_ns, config.nearness_ms)
        at_once = scan.stamps_ns is None
        stamps_ns = np.array([scan.stamp_ns]) if at_once else scan.stamps_ns
        limits = np.float32(config.min_probability), np.float32(config.min_margin)
        said = labels.class_id, labels.probability, labels.margin, self._tells
        cloud = self._best, self._class_id, self._probability, self._camera
        with self._one_at_a_time:
            _take(kept, *in_view.arrays[:2], said, stamps_ns, at_once, place, limits, number, cloud)
        if labels.instance_id is not None:
            self._told[number] = in_view.index[kept], labels.instance_id[kept]
        return int(np.count_nonzero(kept))

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
def _take(kept, index, uv, labels, stamps_ns, at_once, place, limits, number, cloud):  # type: ignore[no-untyped-def]
    """Into `cloud` the points that this camera sees better than the cameras before it."""
    room = np.empty((2, _BLOCK), np.float32), np.empty(_BLOCK, np.bool_)
    _take_blocks(kept, index, uv, labels, stamps_ns, at_once, place, limits, number, cloud, room)


@numba.njit(cache=True, nogil=True)
def _take_blocks(kept, index, uv, labels, stamps_ns, at_once, place, limits, number, cloud, room):  # type: ignore[no-untyped-def]
    """The same, in that room."""
    kept, index, uv, stamps_ns, room = borrowed((kept, index, uv, stamps_ns, room))
    (said, sure, margin, tells), cloud = borrowed((labels, cloud))
    best, class_id, probability, camera = cloud
    us, vs, (values, wins) = uv[0], uv[1], room
    score, apart_ms = values[0], values[1]
    if at_once:  # else there may be none
        apart_ms[:] = abs(stamps_ns[0] - place.image_ns) * 1e-6
    for first in range(0, index.shape[0], _BLOCK):
        last = min(first + _BLOCK, index.shape[0])
        which = index[first:last]
        begin, end = which[0], which[-1] + 1
        all_there = end - begin == last - first  # one after the other in the cloud, as most are that were fired so
        if not at_once:
            if all_there:
                _apart(stamps_ns[begin:end], place.image_ns, apart_ms)
            else:
                for k in range(last - first):
                    apart_ms[k] = abs(stamps_ns[np.uint32(which[k])] - place.image_ns) * 1e-6
        told = said[first:last], sure[first:last], margin[first:last], tells
        _weigh(kept[first:last], us[first:last], vs[first:last], told, apart_ms, place, limits, score)
        if all_there:
            here = best[begin:end], class_id[begin:end], probability[begin:end], camera[begin:end]
            _win(score, told[0], told[1], number, wins, here)
            continue
        for k in range(last - first):
            i = np.uint32(which[k])  # unsigned: from the end of an array nobody counts
            if score[k] > best[i] or (score[k] == best[i] and number < camera[i]):
                best[i], class_id[i], probability[i], camera[i] = score[k], told[0][k], told[1][k], number


@numba.njit(cache=True, nogil=True)
def _apart(stamps_ns, image_ns, apart_ms):  # type: ignore[no-untyped-def]
    for k in range(stamps_ns.shape[0]):
        apart_ms[k] = abs(stamps_ns[k] - image_ns) * 1e-6


@numba.njit(cache=True, nogil=True)
def _win(score, said, sure, number, wins, cloud):  # type: ignore[no-untyped-def]
    """Neighbours in the cloud, whom this camera may see better than those before it; a column at a time."""
    best, class_id, probability, camera = cloud
    mine = np.uint8(number)
    for k in range(best.shape[0]):
        wins[k] = (score[k] > best[k]) | ((score[k] == best[k]) & (mine < camera[k]))
    _put(wins, score, best)
    _put(wins, sure, probability)
    _put(wins, said, class_id)
    for k in range(best.shape[0]):
        number_there = camera[k]
        camera[k] = mine if wins[k] else number_there


@numba.njit(cache=True, nogil=True)
def _put(chosen, source, target):  # type: ignore[no-untyped-def]
    """What `target[chosen] = source[chosen]` does. Both are read whatever is chosen: else the compiler chooses where to
    read, by a branch for each, and takes them one by one."""
    for k in range(target.shape[0]):
        new, old = source[k], target[k]
        target[k] = new if chosen[k] else old


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _weigh(kept, us, vs, labels, apart_ms, place, limits, score):  # type: ignore[no-untyped-def]
    """Probability times worth of many points; _NOT_TOLD where a camera does not see one or has no label for it."""
    said, sure, margin, tells = labels
    right, bottom, zero = np.float32(place.width - 1.0), np.float32(place.height - 1.0), np.float32(0.0)
    per_px, per_ms = np.float32(1.0 / (place.border_px + 1.0)), np.float32(1.0 / place.nearness_ms)
    one, half = np.float32(1.0), np.float32(0.5)
    for k in range(kept.shape[0]):  # by itself: with a look-up in it, the next one would take points one by one
        probability = sure[k]
        score[k] = probability if tells[said[k]] else _NOT_TOLD
    for k in range(kept.shape[0]):
        u, v = us[k], vs[k]
        beside, over = u if u < right - u else right - u, v if v < bottom - v else bottom - v
        inside = ((beside if beside < over else over) + one) * per_px
        inside = inside if inside > zero else zero
        inside = inside if inside < one else one
        worth = (half + half * inside) / (one + apart_ms[k] * per_ms)
        told = kept[k] & (score[k] >= zero) & (sure[k] >= limits[0]) & (margin[k] >= limits[1])
        score[k] = score[k] * worth if told else _NOT_TOLD
