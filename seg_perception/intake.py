"""Messages in, labelled sweeps out: what the live node and the replay of a bag have in common.

One thread hands messages in as they come; they are looked at no further than their stamps, and a few points of a sweep
that tell its middle. Another asks for results and does the work: decode, wait for /tf where that helps, process. Time
is the caller's: a steady clock live, the bag's log time offline. Whatever is refused or dropped is counted in
`statistics.causes` and told to `on_problem`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, TypeVar

from seg_perception.config import CameraConfig, Config
from seg_perception.datatypes import CameraImage, LidarScan
from seg_perception.errors import SegPerceptionError
from seg_perception.fusion.image_queue import TIME_JUMP_NS, RateLimit
from seg_perception.fusion.pairing import Pairer, Pairing
from seg_perception.geometry.transform_tree import TransformTree
from seg_perception.inference.networks import Segmenters
from seg_perception.inference.segmenter import Segmentation
from seg_perception.messages.calibration_file import calibration_of
from seg_perception.messages.camera_info import CameraInfoRecord, camera_model, decode_camera_info
from seg_perception.messages.header import stamp_ns
from seg_perception.messages.image import decode, leaves_bits_unused
from seg_perception.messages.pointcloud import any_return, decode_cloud, middle_ns, scan_from_cloud
from seg_perception.messages.transforms import insert_tf, newest_ns
from seg_perception.once import Once
from seg_perception.pipeline import Pipeline, SweepResult
from seg_perception.scene_step import SceneStep
from seg_perception.statistics import RunStatistics, StageTimer
from seg_perception.telling import Problem, Telling

_MOVING_KEPT = 1000  # messages on /tf, some seconds of them
_TF_GRACE_S = 0.05  # for /tf, from when a sweep is first looked at: under load its deadline may have passed by then
_SETTLING_S = 2.0  # from the first sweep on, frames that nobody has named yet are waited for as well

Segmented = TypeVar("Segmented", Segmentation, bool)


@dataclass(frozen=True, slots=True, eq=False)
class _Decoded:
    """A sweep that is decoded and may have to wait for /tf."""

    scan: LidarScan
    images: dict[str, CameraImage]
    deadline_s: float
    jumps: int  # how often the clock had jumped back by then


class _Arrived:
    """An image as it came; decoded at most once, by whoever needs it first."""

    __slots__ = ("_msg", "_picture")

    def __init__(self, msg: Any) -> None:
        self._msg = msg
        self._picture: Once[CameraImage | None] = Once()

    def picture(self, read: Callable[[Any], CameraImage | None]) -> CameraImage | None:
        return self._picture.get(lambda: read(self._let_go()))

    def _let_go(self) -> Any:
        msg, self._msg = self._msg, None
        return msg


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """An image that went through the network without waiting for a sweep."""

    image: CameraImage
    segmentation: Segmentation


class Intake:
    """Feeds one pipeline from messages, each by the name of its standard fields.

    config: of the whole run. segmenters: run the networks. on_problem: told the cause and the sentence of everything
    refused, skipped or assumed; may be called from either thread.
    """

    def __init__(self, config: Config, segmenters: Segmenters, on_problem: Problem) -> None:
        self.config = config
        self.statistics = RunStatistics()
        motion = config.motion
        self.tree = TransformTree(round(motion.cache_s * 1e9), round(motion.tolerance_ms * 1e6), wary=True)
        self.pipeline = Pipeline(config, segmenters, self.tree)
        self.telling = Telling(config, self.statistics, on_problem)
        self.scene = SceneStep(config, self.pipeline.taxonomy, self.statistics, self.telling)
        self._cameras: dict[str, CameraConfig] = {camera.name: camera for camera in config.cameras}
        for camera in config.cameras:
            model = calibration_of(camera)
            if model is not None:
                self.pipeline.set_camera(camera.name, model)
        self._limits = {c.name: RateLimit(c.max_rate_hz) for c in config.cameras if c.segment == "max_rate"}
        self._fresh: dict[str, _Arrived] = {}  # the newest image of each camera that need not wait for its sweep
        self._at_hand: list[CameraImage] = []  # of the sweep that is being processed, not yet asked for
        self.on_picture_due: Callable[[], None] = lambda: None  # called when `next_picture` may have something to do
        self._unpaired = {c.name for c in config.cameras if c.segment != "paired"}  # whose images never do
        self._looks_ahead = {name for name, of in self.pipeline.networks.items() if of.segmenter.contract.batch == 1}
        self._infos: dict[str, CameraInfoRecord] = {}
        self._lidar_topics = config.lidar_topics()
        self._pairer: Pairer[Any] = Pairer(
            list(self._cameras), config.pairing, self.statistics.causes, list(self._lidar_topics)
        )
        self._held: dict[str, _Decoded] = {}  # by LiDAR
        self.sweeps_wait = False  # whether what comes next, or time, may make a sweep ready
        self._moving: deque[Any] = deque(maxlen=_MOVING_KEPT)  # the last of /tf, in the order in which they came
        self._first_s = math.inf  # when the first sweep came
        self._jumps = 0  # of the sweeps' clock
        self._jumps_in_scene = 0
        self._cloud_awaits_objects = config.objects.enabled and config.objects.in_cloud
        self._lock = self.statistics.lock  # of the pairer too, which counts what it lets go

    def reconfigure(self, config: Config) -> None:
        """Go on with these settings, which differ in live ones only; from any thread."""
        with self._lock:
            self.config = self.pipeline.config = config
            self._pairer.reconfigure(config.pairing)
            for camera in config.cameras:
                if camera.name in self._limits:
                    self._limits[camera.name].set_rate(camera.max_rate_hz)

    def image(self, camera: str, msg: Any) -> None:
        """An Image or CompressedImage of `camera` has come."""
        with self.telling.refusing():
            stamp = stamp_ns(msg.header, f"image of camera '{camera}'") + self._offset_ns(camera)
            with self._lock:
                if camera in self._limits and not self._limits[camera].admits(stamp):
                    self.statistics.count("image_over_rate")
                    return
                arrived = _Arrived(msg)
                self._pairer.add_image(camera, stamp, arrived)
                if camera in self._unpaired:
                    if camera in self._fresh:
                        self.statistics.count("image_overload")
                    self._fresh[camera] = arrived
                elif camera in self._looks_ahead and self._pairer.foresees(camera, stamp):
                    self._fresh[camera] = arrived
            if camera in self._fresh:
                self.on_picture_due()

    def camera_info(self, camera: str, msg: Any) -> bool:
        """A CameraInfo of `camera` has come. A bad one is refused and the last good one stays.

        Where the settings name a calibration file, that is taken instead. Returns whether another that says the same
        would change nothing.
        """
        if self._cameras[camera].calibration:
            return True
        record = decode_camera_info(msg)
        if record.same_camera(self._infos.get(camera)):
            return True
        with self.telling.refusing():
            model = camera_model(record, rectified=self._cameras[camera].rectified, name=f"camera '{camera}'")
            self._infos[camera] = record
            self.pipeline.set_camera(camera, model)
        return self._infos.get(camera) is record

    def cloud(self, msg: Any, now_s: float, lidar: str = "") -> None:
        """A PointCloud2 has come at `now_s`. lidar: its name, where there are several."""
        self.statistics.sweep_came()
        self._first_s = min(self._first_s, now_s)
        with self.telling.refusing():
            stamp = stamp_ns(msg.header, f"cloud on '{self._lidar_topics[lidar]}'")
            cloud = decode_cloud(msg)
            middle = middle_ns(cloud, self.config.pairing)
            with self._lock:
                if self._pairer.add_sweep(middle, cloud, now_s, lidar):
                    self._start_over(stamp)
                self.sweeps_wait = True

    def transforms(self, msg: Any, static: bool) -> None:
        """A TFMessage has come, over /tf or over /tf_static."""
        if not static:
            self._moving.append(msg)
        for error in insert_tf(self.tree, msg, static)[1]:
            self.telling(error.cause, str(error))

    def _start_over(self, stamp_ns: int) -> None:
        """The clock jumped back to this stamp: of /tf only that counts which came since."""
        self._jumps += 1
        self.tree.clear()
        since = list(takewhile(lambda msg: newest_ns(msg) < stamp_ns + TIME_JUMP_NS // 2, reversed(self._moving)))
        self._moving.clear()
        for msg in reversed(since):
            insert_tf(self.tree, msg, static=False)
            self._moving.append(msg)

    def next_result(self, now_s: float) -> SweepResult | None:
        """Process the sweep that came first of those that are ready; None while none is.

        A sweep whose deadline has passed goes with what is there. A sweep that cannot be decoded is refused and the
        next one looked at.
        """
        while True:
            held = self._next_decoded(now_s)
            if held is None:
                return None
            if held.jumps != self._jumps:
                self.statistics.count("sweep_cleared")
                continue
            if held.jumps != self._jumps_in_scene:
                self.scene.forget()
                self._jumps_in_scene = held.jumps
            with self.telling.refusing():
                movers = self.scene.movers(held.scan.stamp_ns)
                with self._shared(held.images):
                    result = self.pipeline.process(held.scan, held.images, movers)
                return self.scene.recognise(result) if self._cloud_awaits_objects else result

    def remember(self, result: SweepResult) -> SweepResult:
        """What `next_result` gave, when its cloud is out: counted, and taken into the scene as far as it is not yet.

        By the thread that called `next_result`, before it does so again. `scene` tells what became of it; the cloud
        stays as it was given out.
        """
        self.telling.account(result)
        if not self._cloud_awaits_objects:
            result = replace(self.scene.recognise(result), cloud=result.cloud)
        self.scene.remember(result)
        return result

    def close(self) -> None:
        """End what threads it has of its own; nothing is asked of it any more."""
        self.pipeline.close()

    def without_pictures(self) -> None:
        """Nobody will ask for `next_picture`, as in a replay: images go through the network with sweeps alone."""
        self._unpaired = set()
        self._looks_ahead = set()

    def next_picture(self) -> Picture | None:
        """Segment an image that does not wait for a sweep, the oldest such; None while there is none.

        By a third thread, if one likes. On the way, images of the sweep at hand are segmented too, and those that a
        sweep will most likely take, so that it finds them done.
        """
        while True:
            with self._lock:
                at_hand = self._at_hand.pop() if self._at_hand else None
                camera = next(iter(self._fresh), None)
                if at_hand is None and camera is not None:
                    arrived = self._fresh.pop(camera)
            if at_hand is not None:
                with suppress(SegPerceptionError):  # to be refused by the sweep
                    self._timed(self.pipeline.segment_ahead, at_hand)
            elif camera is None:
                return None
            elif camera not in self._unpaired:
                image = self._image(camera, arrived)
                with suppress(SegPerceptionError):  # to be refused when a sweep takes it
                    if image is not None:
                        self._timed(self.pipeline.segment_ahead, image)
            else:
                image = self._image(camera, arrived)
                with self.telling.refusing(image):
                    if image is not None:
                        return Picture(image, self._timed(self.pipeline.segment, image))

    def _timed(self, segment: Callable[[CameraImage], Segmented], image: CameraImage) -> Segmented:
        timer = StageTimer()
        with timer.stage("segment_image"):
            segmented = segment(image)
        if segmented:
            self.statistics.add_seconds("segment_image", timer.seconds["segment_image"])
        return segmented

    @contextmanager
    def _shared(self, images: Mapping[str, CameraImage]) -> Iterator[None]:
        """While the block runs, whoever asks for pictures has a share of what it needs of the network: the last first,
        as `process` begins at the front."""
        with self._lock:
            self._at_hand = [
                images[camera]
                for camera in sorted(images)
                if camera in self._looks_ahead and not self.pipeline.begun(images[camera])
            ]
        if self._at_hand:
            self.on_picture_due()
        try:
            yield
        finally:
            with self._lock:
                self._at_hand = []

    def _next_decoded(self, now_s: float) -> _Decoded | None:
        """A sweep that waits for nothing any more; of each LiDAR one at most waits for /tf, and holds up no other."""
        for lidar, held in list(self._held.items()):
            if self._goes(held, now_s):
                return self._held.pop(lidar)
        while True:
            with self._lock:
                pairing, jumps = self._pairer.next_ready(now_s, without=self._held), self._jumps
                if pairing is None:
                    self.sweeps_wait = bool(self._held) or self._pairer.waits
                    return None
            decoded = self._decode(pairing, jumps, now_s)
            if self._goes(decoded, now_s):
                return decoded
            self.statistics.count("tf_awaited")
            self._held[pairing.lidar] = decoded

    def _goes(self, held: _Decoded, now_s: float) -> bool:
        if held.jumps != self._jumps or now_s >= held.deadline_s:
            return True
        hopeful = now_s - self._first_s < _SETTLING_S
        return not self.pipeline.awaits_transforms(held.scan, held.images, hopeful)

    def _decode(self, pairing: Pairing[Any], jumps: int, now_s: float) -> _Decoded:
        self.telling.missing(pairing)
        scan, note = scan_from_cloud(pairing.sweep)
        images: dict[str, CameraImage] = {}
        for camera, arrived in pairing.images.items():
            image = self._image(camera, arrived)
            if image is not None:
                images[camera] = image
                self.telling.frames(image, self._infos.get(camera))
        if note:
            self.telling("point_times_unusable", note)
        if not any_return(scan.points):
            self.telling(
                "cloud_without_points", f"cloud in frame '{scan.frame_id}': none of its {len(scan)} points is a return"
            )
        scan = replace(scan, lidar=pairing.lidar, middle_ns=pairing.stamp_ns)
        return _Decoded(scan, images, max(pairing.deadline_s, now_s + _TF_GRACE_S), jumps)

    def _image(self, camera: str, arrived: _Arrived) -> CameraImage | None:
        """The picture, at its instant on the sweeps' clock; None where it cannot be decoded, which is told once."""
        of_camera = self._cameras[camera]

        def read(msg: Any) -> CameraImage | None:
            try:
                image = decode(msg, camera, of_camera.frame_id, of_camera.sample_bits)
            except SegPerceptionError as error:
                self.telling(error.cause, str(error))
                return None
            if leaves_bits_unused(msg, image):
                self.telling(
                    f"unused_bits/{camera}",
                    f"camera '{camera}': of 16-bit samples none reaches a quarter of what {of_camera.sample_bits} bits "
                    f"can say, and the picture is dark; camera.{camera}.sample_bits: 12 where they go to 4095",
                )
            return replace(image, stamp_ns=image.stamp_ns + self._offset_ns(camera))

        return arrived.picture(read)

    def _offset_ns(self, camera: str) -> int:
        return round(self._cameras[camera].offset_ms * 1e6)
