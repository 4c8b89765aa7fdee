"""The story, told once: segment, pair, move, project, hide, paint, remember.

The same object serves the live node, the replay of a bag, the evaluation and the benchmark. Pairing by stamps comes
first and is `fusion.pairing`'s; what is paired comes here.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from seg_perception.config import CameraConfig, Config, VisibilityConfig
from seg_perception.crew import Crew
from seg_perception.datatypes import CameraImage, LidarScan, SemanticCloud, SweepReport, ViewReport
from seg_perception.errors import BackendLostError, CalibrationError, ErrorsTo, SegPerceptionError
from seg_perception.fusion.doubts import View
from seg_perception.fusion.edges import Surfaces
from seg_perception.fusion.painting import Painting
from seg_perception.fusion.seeing import Kinds, seen_of
from seg_perception.geometry import motion
from seg_perception.geometry.camera import CameraModel
from seg_perception.geometry.columns import bounds_of
from seg_perception.geometry.displacement import Standing
from seg_perception.geometry.looking import Look, Visible, look_at
from seg_perception.geometry.motion import MovedSweep, awaits_transforms
from seg_perception.geometry.movers import Measured, Movers, Moving
from seg_perception.geometry.projection import Projection
from seg_perception.geometry.range_image import RangeImage
from seg_perception.geometry.spacing import with_spacing
from seg_perception.geometry.transform_tree import TransformTree
from seg_perception.geometry.visibility import range_image
from seg_perception.geometry.workspace import Workspace
from seg_perception.inference.cpu import usable_cores
from seg_perception.inference.framing import Frame
from seg_perception.inference.networks import Network, Segmenters, by_camera, networks
from seg_perception.inference.segmenter import Segmentation, Segmenter
from seg_perception.labels import Taxonomy
from seg_perception.messages.pointcloud import any_return, cloud_from_columns, encode_semantic_cloud, scan_from_cloud
from seg_perception.once import Once
from seg_perception.scene import memory as scene_memory
from seg_perception.statistics import RunStatistics, StageTimer

_UNFRAMED = Frame()
_LONG_AGO_NS = 300_000_000  # a sweep is compared with the one before it of the same LiDAR, unless that is older
_KEPT = 4  # segmentations of each camera: so many images may it be ahead of the sweeps


@dataclass(frozen=True, slots=True, eq=False)
class SweepResult:
    """What one sweep became.

    By camera, for whoever wants to publish or draw them: the image that was used, what the network said of it, and
    where in it the points lie that the camera sees. sweep: its points at one instant. scene: what it became in the
    scene; None where the scene is switched off, or not known yet, or could not take it in. measured: how fast movers
    are; None where none were asked about.
    """

    cloud: SemanticCloud
    images: Mapping[str, CameraImage]
    segmentations: Mapping[str, Segmentation]
    visible: Mapping[str, Projection]
    report: SweepReport
    sweep: MovedSweep
    scene: scene_memory.SceneUpdate | None = None
    measured: Measured | None = None


class Pipeline:
    """Cameras and LiDAR in, a semantic cloud out.

    segmenters: run the networks. tree: where everything was, when; fed by the caller. Raises ModelError where a network
    was deployed for another taxonomy than the configured one, ConfigError where its classes have no place in the cloud.
    """

    def __init__(self, config: Config, segmenters: Segmenters, tree: TransformTree) -> None:
        self.config = config
        self.taxonomy = Taxonomy.load(config.taxonomy)  # of the cloud
        self.networks: dict[str, Network] = networks(config, segmenters)  # by camera
        self._tree = tree
        self._cameras: dict[str, CameraModel] = {}
        self._readout_ns = {camera.name: round(camera.readout_ms * 1e6) for camera in config.cameras}
        self._kinds = Kinds.of(self.taxonomy)
        self._set_visibility(config.visibility)
        self._frames = {camera.name: Frame.of(camera) for camera in config.cameras}
        self._lidars = len(config.lidar_topics())
        self._segmented: dict[str, dict[int, Once[Segmentation]]] = {}  # by camera and stamp, oldest first
        self._lock = threading.Lock()  # of `_segmented`
        self._workspace = Workspace()  # for what cameras share
        count = min(config.painting.threads or usable_cores(), len(config.cameras))
        self._before: dict[str, Standing] = {}  # the last sweep of each LiDAR
        self._crew = Crew([Workspace() for _ in range(max(count, 1))])  # each thread with one of its own

    def close(self) -> None:
        """End what threads it has. It starts them again where another sweep comes."""
        self._crew.close()

    def set_camera(self, name: str, model: CameraModel) -> None:
        """From now on this is the calibration of camera `name`, for images of exactly its size."""
        self._cameras[name] = model

    def _set_visibility(self, config: VisibilityConfig) -> None:
        """From now on; the spacing of each LiDAR is read from its next sweep."""
        self._asked_visibility = config
        self._visibility: dict[str, VisibilityConfig] = {}  # by LiDAR, with its spacing
        self._sweeps: Counter[str] = Counter()  # by LiDAR

    def _visibility_of(self, scan: LidarScan, config: VisibilityConfig) -> VisibilityConfig:
        if config != self._asked_visibility:
            self._set_visibility(config)
        self._sweeps[scan.lidar] += 1
        visibility = self._visibility.get(scan.lidar, config)
        if self._sweeps[scan.lidar].bit_count() == 1:  # where its points lie in no order, it is asked ever more seldom
            visibility = self._visibility[scan.lidar] = with_spacing(visibility, scan.points)
        return visibility

    def process(self, scan: LidarScan, images: Mapping[str, CameraImage], movers: Movers | None = None) -> SweepResult:
        """Label one sweep with the images paired with it. movers: what seems to move by itself.

        A camera that cannot contribute (no calibration, no transform, wrong size) is skipped, and the report says why;
        its points stay unknown unless another camera sees them. The order of `images` does not matter.
        Raises TransformError where `motion.mode` is `required` and the sweep itself cannot be moved;
        BackendLostError where the network will not run again.
        """
        config = self.config  # one for the whole sweep: it may be exchanged meanwhile
        timer = StageTimer()
        segmentations: dict[str, Segmentation] = {}
        reports: dict[str, ViewReport] = {}
        visibility = self._visibility_of(scan, config.visibility)
        with timer.stage("move"):
            sweep = MovedSweep(scan, self._tree, config.motion)
            bounds = bounds_of(sweep.points, self._workspace)
            moving = self._moving(sweep, bounds, movers)
        with timer.stage("segment"):
            self.segment_together([images[name] for name in sorted(images)])
        looks: dict[str, Look] = {}
        for name in sorted(images):
            image = images[name]
            reports[name] = ViewReport(image.stamp_ns, image.stamp_ns - (scan.middle_ns or scan.stamp_ns))
            with _costs_itself(name, reports):
                camera = self._calibration(image)
                with timer.stage("move"):
                    looks[name] = look_at(sweep, image, camera, self._readout_ns.get(name, 0), moving)
        visible, painting = Visible(sweep.points), Painting(scan, looks, config.painting, self._kinds.untouchable)
        ranges: Once[RangeImage] = Once()
        surfaces: dict[Workspace, Surfaces] = {}

        def by_direction() -> RangeImage:
            return ranges.get(partial(range_image, sweep.points, visibility, self._workspace))

        def look_around(_: Workspace) -> None:
            with timer.stage("hide"):
                by_direction()

        def see(name: str, own: Workspace) -> None:
            look, image = looks[name], images[name]
            with _costs_itself(name, reports):
                with timer.stage("project"):
                    in_view = look.project(sweep.points, own, bounds)
                with timer.stage("segment"):  # as late as can be: another thread may be at it
                    segmentations[name] = self.segment(image)
                    self._forget_before(image)
                with timer.stage("sample"):
                    labels = self.networks[name].sample(segmentations[name], in_view.uv)
                with timer.stage("hide"):
                    if own not in surfaces:
                        surfaces[own] = Surfaces(by_direction(), config.edges, own)
                    view = View(in_view, by_direction(), look.camera, look.T_cam_lidar)
                    seen = seen_of(view, surfaces[own], labels, self._kinds, visibility, own)
                with timer.stage("paint"):
                    count = painting.add(name, in_view, labels, seen.kept, image.size, image.stamp_ns)
                visible.add(name, in_view.index, seen.kept, look)
                reports[name] = replace(
                    reports[name],
                    in_view=len(in_view.index),
                    behind_windows=seen.behind_windows,
                    near_outlines=seen.near_outlines,
                    doubted=seen.doubted,
                    visible=count,
                )

        self._crew.do([look_around, *(partial(see, name) for name in looks)])
        for name in sorted(images.keys() - looks.keys()):  # nothing to paint, but somebody may look at what it says
            with _costs_itself(name, reports), timer.stage("segment"):
                self._calibration(images[name])
                segmentations[name] = self.segment(images[name])
        segmentations = {name: segmentations[name] for name in sorted(segmentations)}
        with timer.stage("paint"):
            cloud = painting.cloud()
        for index, name in enumerate(cloud.cameras):
            reports[name] = replace(reports[name], painted=int(np.count_nonzero(cloud.camera == index)))
        carried = 0 if moving is None else len(moving.index)
        report = SweepReport(reports, timer.seconds, sweep.kind, sweep.fallback, carried)
        measured = None if moving is None else moving.measured
        return SweepResult(cloud, images, segmentations, visible, report, sweep, measured=measured)

    def _moving(self, sweep: MovedSweep, bounds: NDArray[np.float32], movers: Movers | None) -> Moving | None:
        """None where nothing is known of what moves."""
        if sweep.kind == "static":
            return None
        before = self._before.get(sweep.lidar)
        self._before[sweep.lidar] = now = Standing(sweep.stamp_ns, sweep.points, bounds.copy(), sweep.T_fixed_lidar())
        if not movers or before is None or not 0 < now.stamp_ns - before.stamp_ns <= _LONG_AGO_NS:
            return None
        return movers.moving(now, before, self._workspace)

    def segment(self, image: CameraImage) -> Segmentation:
        """The network's answer, for the whole picture; an image goes through it once, whoever asks, from any thread.

        Raises MessageError where the picture does not fit the camera's crop or mask, and what the segmenter raises.
        """
        return self._answer(image).get(partial(self._run, image))

    def begun(self, image: CameraImage) -> bool:
        """Whether somebody has let this image through the network, or is at it."""
        return self._answer(image).claimed

    def segment_ahead(self, image: CameraImage) -> bool:
        """`segment` before a sweep asks for it; False where another thread is at it, or was. Raises CalibrationError
        for what no sweep could use; what else is wrong is found by `segment`."""
        self._calibration(image)
        once = self._answer(image)
        mine = once.claim()
        if mine:
            once.settle(partial(self._run, image))
        return mine

    def segment_together(self, images: Sequence[CameraImage]) -> None:
        """Let a backend that overlaps pictures have all new ones of its cameras at once, from any thread. A picture
        that it cannot take, and why, is left to be found by `segment`."""
        of_segmenter: dict[Segmenter, list[CameraImage]] = {}
        for image in images:
            of_segmenter.setdefault(self.networks[image.camera].segmenter, []).append(image)
        for segmenter, theirs in of_segmenter.items():
            segment_all = getattr(segmenter, "segment_all", None)
            if segment_all is not None and getattr(segmenter, "overlaps", True):
                self._segment_all(segment_all, theirs)

    def _segment_all(
        self, segment_all: Callable[[list[NDArray[np.uint8]]], list[Segmentation]], images: Sequence[CameraImage]
    ) -> None:
        new: list[tuple[Once[Segmentation], CameraImage]] = []
        shown = []
        for image in images:
            with contextlib.suppress(SegPerceptionError):
                self._calibration(image)
                pixels = self._frame(image).shown(image)
                once = self._answer(image)
                if once.claim():
                    new.append((once, image))
                    shown.append(pixels)
        makes = [partial(self._run, image) for _, image in new]  # each by itself, where all together fail
        try:
            with contextlib.suppress(SegPerceptionError):
                answers = segment_all(shown) if shown else []
                of_images = zip(answers, new, strict=True)
                makes = [partial(self._frame(image).whole, answer, image) for answer, (_, image) in of_images]
        finally:
            for (once, _), make in zip(new, makes, strict=True):
                once.settle(make)

    def _answer(self, image: CameraImage) -> Once[Segmentation]:
        with self._lock:
            known = self._segmented.setdefault(image.camera, {})
            if image.stamp_ns not in known:
                while len(known) >= max(self._lidars, _KEPT):
                    known.pop(next(iter(known)))
                known[image.stamp_ns] = Once()
            return known[image.stamp_ns]

    def _forget_before(self, image: CameraImage) -> None:
        """A LiDAR that goes on asks for no image before the one it had; several keep one each."""
        with self._lock:
            known = self._segmented[image.camera]
            for stamp_ns in sorted(stamp for stamp in known if stamp < image.stamp_ns)[: 1 - self._lidars or None]:
                del known[stamp_ns]

    def _run(self, image: CameraImage) -> Segmentation:
        frame = self._frame(image)
        return frame.whole(self.networks[image.camera].segmenter.segment(frame.shown(image)), image)

    def _frame(self, image: CameraImage) -> Frame:
        return self._frames.get(image.camera, _UNFRAMED)

    def awaits_transforms(self, scan: LidarScan, images: Mapping[str, CameraImage], hopeful: bool = False) -> bool:
        """Whether it pays to wait for /tf before `process`; hopeful: as it has only begun to come."""
        needed_ns: dict[str, int] = {}
        for name, image in images.items():
            last_row_ns = image.stamp_ns + abs(self._readout_ns.get(name, 0)) // 2
            needed_ns[image.frame_id] = max(last_row_ns, needed_ns.get(image.frame_id, 0))
        return awaits_transforms(scan, needed_ns, self._tree, self.config.motion, hopeful)

    def _calibration(self, image: CameraImage) -> CameraModel:
        camera = self._cameras.get(image.camera)
        if camera is None:
            raise CalibrationError(f"camera '{image.camera}': no usable CameraInfo yet")
        camera.require_image_size(*image.size)
        return camera


def _costs_itself(name: str, reports: dict[str, ViewReport]) -> ErrorsTo:
    """What one camera lacks costs that camera only, and its report says it."""

    def report(error: SegPerceptionError) -> None:
        reports[name] = replace(reports[name], skipped=error.cause, detail=str(error))

    return ErrorsTo(report, but=BackendLostError)


def warm_up(config: Config, segmenters: Segmenters) -> None:
    """Compile every kernel and run each network once, so that the first sweep is as fast as the hundredth."""
    of_camera = by_camera(config, segmenters)
    taxonomies = {of_camera[camera.name]: camera.taxonomy or config.taxonomy for camera in config.cameras}
    for segmenter, taxonomy in taxonomies.items():
        _run_once(replace(config, cameras=(CameraConfig("camera"),), taxonomy=taxonomy), segmenter)
    scene_memory.warm_up(config, Taxonomy.load(config.taxonomy))


def _run_once(config: Config, segmenter: Segmenter) -> None:
    """A sweep of a few points through a network, seen by the only camera of `config`."""
    width, height = segmenter.contract.image_size or segmenter.contract.network_size
    count = 16
    points = np.column_stack([np.zeros((count, 2)), np.linspace(1.0, 9.0, count)]).astype(np.float32)
    columns = {**dict(zip("xyz", points.T, strict=True)), "t": np.arange(count, dtype=np.uint32)}
    cloud = cloud_from_columns("lidar", 1, columns)
    scan, _ = scan_from_cloud(cloud)
    by_instant = np.repeat(np.array([1, count]), count // 2)
    by_columns = replace(scan, stamp_ns=count, stamps_ns=by_instant)  # many points of one instant
    frozen = cloud.data.view()
    frozen.flags.writeable = False
    scan_from_cloud(replace(cloud, data=frozen))  # as of a bag, which goes another way through the kernels
    any_return(scan.points)
    bounds_of(scan.points)  # as of a sweep that is not moved
    motion.warm_up()
    tree = TransformTree()
    for stamp_ns in (1, count):
        tree.insert(config.motion.fixed_frame, "lidar", stamp_ns, np.eye(4))
    tree.insert("lidar", "camera", 0, np.eye(4), static=True)
    pipeline = Pipeline(config, segmenter, tree)
    K = np.array([[width, 0.0, width / 2], [0.0, width, height / 2], [0.0, 0.0, 1.0]])
    pipeline.set_camera("camera", CameraModel(width, height, K))
    image = CameraImage("camera", "camera", 1, np.zeros((height, width, 3), np.uint8))
    box, somewhat = np.full((1, 3), 10.0), np.ones((1, 2))
    movers = Movers(np.ones(1, np.int32), np.zeros((1, 3)), box, np.zeros(1), somewhat, np.ones(1, np.bool_))
    # Whichever method is set, the other can be set while the node runs; sweeps come in columns, or in any order.
    for method, sweep in (("patches", scan), ("learned", by_columns)):
        pipeline.config = replace(config, visibility=replace(config.visibility, method=method))
        result = pipeline.process(sweep, {"camera": image}, movers)
    result.segmentations["camera"].label_image()
    RunStatistics().add_sweep(result.cloud, result.report)
    encode_semantic_cloud(result.cloud, pipeline.taxonomy.colors)
