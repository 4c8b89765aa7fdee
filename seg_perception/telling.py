"""What is refused, skipped or assumed on the way from messages to labelled sweeps: counted by its cause, told once in a
sentence that names the remedy."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from seg_perception.config import Config
from seg_perception.datatypes import CameraImage
from seg_perception.errors import ErrorsTo, MessageError, ModelError, SegPerceptionError
from seg_perception.fusion.pairing import FAR_OFF, Pairing
from seg_perception.messages.camera_info import CameraInfoRecord
from seg_perception.pipeline import SweepResult
from seg_perception.statistics import RunStatistics

Problem = Callable[[str, str], None]  # (cause, sentence)

_OF_PICTURE = (ModelError.cause, MessageError.cause)
_PICTURES_REMEMBERED = 100
_LOOKS_ELSEWHERE_NS = 1_000_000_000  # a sweep without a point in view, so soon after one with some, is of elsewhere


class Telling:
    """A `Problem` that counts in `statistics` what it passes on to `on_problem`. From any thread.

    Holds no intake, so that one that is let go frees its scene at once.
    """

    def __init__(self, config: Config, statistics: RunStatistics, on_problem: Problem) -> None:
        self._statistics, self._on_problem = statistics, on_problem
        self._lidar_topics = config.lidar_topics()
        self._named_frames = {camera.name for camera in config.cameras if camera.frame_id}
        self._pictures: deque[tuple[str, int]] = deque(maxlen=_PICTURES_REMEMBERED)  # that the network did not take
        self._saw_points_ns: dict[str, int] = {}  # the last sweep of which each camera had points in view

    def __call__(self, cause: str, sentence: str) -> None:
        self._statistics.count(cause)
        self._on_problem(cause, sentence)

    def refusing(self, picture: CameraImage | None = None) -> ErrorsTo:
        """What the block refuses is counted and told, and goes no further. picture: that it is about, if any."""

        def tell(error: SegPerceptionError) -> None:
            if picture is None or error.cause not in _OF_PICTURE:
                self(error.cause, str(error))
            else:
                self._unusable(picture, error.cause, str(error))

        return ErrorsTo(tell)

    def missing(self, pairing: Pairing[Any]) -> None:
        """The cameras that have no image for a sweep."""
        beside = f" beside LiDAR '{pairing.lidar}'" if pairing.lidar else ""
        for camera, why in pairing.missing.items():
            self(f"{why.cause}/{camera}", f"camera '{camera}'{beside}: {why.sentence}")
        far = [camera for camera, why in pairing.missing.items() if why.cause == FAR_OFF]
        if len(far) > 1 and not pairing.images:
            self(
                f"cloud_{FAR_OFF}" + f"/{pairing.lidar}" * bool(pairing.lidar),
                f"cloud on '{self._lidar_topics[pairing.lidar]}': stamped far from the images of cameras {far}; the "
                "clock of the LiDAR is wrong",
            )

    def frames(self, image: CameraImage, info: CameraInfoRecord | None) -> None:
        """An image and the CameraInfo of its camera in different frames, where the settings name none."""
        if info is not None and info.frame_id != image.frame_id and image.camera not in self._named_frames:
            self(
                f"frame_mismatch/{image.camera}",
                f"camera '{image.camera}': its images are in frame '{image.frame_id}', its CameraInfo in "
                f"'{info.frame_id}'; that of the images is used (camera.{image.camera}.frame_id names another)",
            )

    def account(self, result: SweepResult) -> None:
        """A sweep went through the pipeline: counted, and told what its cameras did not give."""
        report = result.report
        self._statistics.add_sweep(result.cloud, report)
        stamp_ns = result.cloud.scan.stamp_ns
        for camera, view in report.views.items():
            if view.skipped in _OF_PICTURE:
                self._unusable(result.images[camera], view.skipped, view.detail)
            elif view.skipped:
                self(f"{view.skipped}/{camera}", f"camera '{camera}' skipped: {view.detail}")
            elif view.in_view:
                self._saw_points_ns[camera] = stamp_ns
            elif len(result.cloud) and abs(stamp_ns - self._saw_points_ns.get(camera, 0)) > _LOOKS_ELSEWHERE_NS:
                self(
                    f"nothing_in_view/{camera}",
                    f"camera '{camera}': none of {len(result.cloud)} points is in its image; is its extrinsic right, "
                    f"and its frame '{result.images[camera].frame_id}' the optical one (z ahead, x right, y down)?",
                )
        if report.motion_fallback:  # counted with the sweep
            self._on_problem("motion_assumed_static", f"assuming that nothing moved: {report.motion_fallback}")

    def _unusable(self, image: CameraImage, cause: str, sentence: str) -> None:
        """The network cannot take a picture: told once, whether it was shown by itself, for a sweep or for several."""
        picture = image.camera, image.stamp_ns
        with self._statistics.lock:
            if picture in self._pictures:
                return
            self._pictures.append(picture)
        self(f"{cause}/{image.camera}", f"camera '{image.camera}' skipped: {sentence}")
