"""A parameter file, its network, and a bag that is to fit them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seg_perception.bags import BagReader
from seg_perception.config import Config, InferenceConfig, NodeConfig
from seg_perception.doctor.finding import Finding, error, ok, warn
from seg_perception.doctor.machine import gpu, wake_latency
from seg_perception.doctor.mounting import turn_deg_of
from seg_perception.doctor.rates import Rate
from seg_perception.errors import SegPerceptionError
from seg_perception.geometry.transform_tree import TransformTree
from seg_perception.inference.contract import Alignment, ModelContract
from seg_perception.inference.loading import idle_settings, image_size, load_segmenter
from seg_perception.inference.networks import class_map_of, taxonomies
from seg_perception.inference.onnx_file import OnnxFile
from seg_perception.inference.segmenter import LabelSegmentation
from seg_perception.intake import Intake
from seg_perception.labels import GROUPS_USED, Taxonomy
from seg_perception.offline import TF_STATIC, check_topics, replay
from seg_perception.pipeline import SweepResult

SWEEPS = 20
PICTURE = (1280, 720)
QUIET = ("image_unused", "image_repeated_stamp")


def parameters(path: Path) -> tuple[list[Finding], Config | None]:
    """What the parameter file says, if it can be read."""
    try:
        config = Config.load(path)
        if not config.cameras:
            return [error("parameters", f"{path}: no camera", "name them in `cameras`")], None
    except SegPerceptionError as problem:
        return [error("parameters", str(problem), "docs/interfaces.md lists every setting")], None
    cameras = ", ".join(camera.name for camera in config.cameras)
    found = [ok("parameters", f"{path}: cameras {cameras}, backend {config.inference.backend}")]
    if config.node != NodeConfig():
        found.append(wake_latency(config.node.wake_latency_us))
    return found, config


def classes(config: Config) -> Finding:
    """Whether the taxonomy of the cloud tells of its classes what the rest wants to know of them."""
    try:
        taxonomy = Taxonomy.load(config.taxonomy)
    except SegPerceptionError as problem:
        return error("classes", str(problem), "docs/models.md says how a taxonomy is written")
    seen = f"{len(taxonomy.trained)} of taxonomy '{taxonomy.name}', {int(taxonomy.is_thing.sum())} of them things"
    lost = [f"{name}: {loss}" for name, loss in GROUPS_USED.items() if name not in taxonomy.groups]
    if lost:
        return warn("classes", f"{seen}; without the group {'; '.join(lost)}", "docs/models.md lists the groups")
    return ok("classes", seen)


def network(config: Config) -> Iterator[Finding]:
    """The model of each camera: its hash and contract, and one picture through it; what cameras share is said once."""
    looked_at = set()
    for camera in config.cameras:
        wanted = config.inference_of(camera), camera.taxonomy or config.taxonomy
        if wanted not in looked_at:
            looked_at.add(wanted)
            yield from _network(*wanted)
        try:
            class_map_of(camera, config)
        except SegPerceptionError as problem:
            yield error("classes", str(problem), "docs/interfaces.md says how a camera has classes of its own")


def _network(inference: InferenceConfig, configured: str) -> Iterator[Finding]:
    """configured: the taxonomy that it is to have."""
    if inference.backend.startswith("tensorrt"):
        yield gpu(inference.backend)
    if not inference.model:
        yield warn("model", "inference.model is empty", "name a file that `seg-perception deploy` wrote")
        return
    try:
        file = OnnxFile.read(inference.model)
        contract = ModelContract.from_metadata(file.metadata, inference.model)
        taxonomy = Taxonomy.load(configured)
        yield ok("model", f"{inference.model}: {file.precision}, sha256 {file.sha256}, {_described(contract)}")
        if (contract.taxonomy, contract.num_classes) != (taxonomy.name, len(taxonomy.trained)):
            remedy = f"name the taxonomy '{contract.taxonomy}' that it was deployed with, or deploy it anew"
            seen = f"'{taxonomy.name}' with {len(taxonomy.trained)} classes is configured ({configured})"
            yield error("model", f"deployed for the taxonomy '{contract.taxonomy}', {seen}", remedy)
        yield from _one_picture(inference, contract)
    except SegPerceptionError as problem:
        yield error("model", str(problem), "see docs/deployment.md")


def bag(path: Path, config: Config) -> Iterator[Finding]:
    """Whether a bag holds what the settings name; and what an intake has to say of its first sweeps.

    The network does not run: a blank one stands for it, as what is looked at is everything else.
    """
    said: dict[str, str] = {}
    counts: Counter[str] = Counter()

    def note(cause: str, sentence: str) -> None:
        said[cause] = sentence
        counts[cause] += 1

    try:
        with BagReader(path) as reader:
            check_topics(reader, config)
            yield from _topics(reader, config)
            blanks = {camera.name: _Blank(taxonomies(camera, config)[0]) for camera in config.cameras}
            intake = Intake(_without_scene(config), blanks, note)
            results = list(islice(replay(reader, intake), SWEEPS))
    except SegPerceptionError as problem:
        yield error("bag", str(problem), "compare `cameras`, `camera.<name>.image_topic` and `lidar.topic` with it")
        return
    labelled = intake.statistics.sweeps_labelled
    seen = f"{len(results)} sweeps looked at, {labelled} with points in a camera"
    yield ok("sweeps", seen) if labelled else error("sweeps", seen, "the causes below say why")
    yield from _mountings(config, intake.tree, results)
    for cause, count in counts.most_common():
        if cause.partition("/")[0] not in QUIET:
            yield warn(cause, f"{count} times: {said[cause]}", "docs/interfaces.md explains each cause")


def _mountings(config: Config, tree: TransformTree, results: list[SweepResult]) -> Iterator[Finding]:
    """Cameras whose network is shown a picture that is not upright."""
    images = {name: image for result in results for name, image in result.images.items()}
    for camera in config.cameras:
        image = images.get(camera.name)
        turn_deg = turn_deg_of(tree, image.frame_id, image.stamp_ns) if image else None
        if turn_deg not in (None, camera.turn_deg):
            seen = f"camera '{camera.name}': by its extrinsic its picture is upright once turned by {turn_deg} degrees"
            remedy = f"camera.{camera.name}.turn_deg: {turn_deg}; {camera.turn_deg} is configured"
            yield warn("mounting", seen, remedy)


def _without_scene(config: Config) -> Config:
    """Nothing is asked of it here, and its kernels take long to compile."""
    off = {name: replace(getattr(config, name), enabled=False) for name in ("objects", "voxel_map", "bev")}
    return replace(config, **off)


def _topics(reader: BagReader, config: Config) -> Iterator[Finding]:
    seconds = reader.duration_ns * 1e-9
    wanted = [*config.lidar_topics().values()]
    for camera in config.cameras:
        wanted += [camera.resolved_image_topic(), *([] if camera.calibration else [camera.resolved_info_topic()])]
    rates = (f"{topic} {Rate.of(reader, topic)}" for topic in dict.fromkeys(wanted) if topic in reader.topics)
    yield ok("bag", f"{reader.path}: {seconds:.1f} s, " + ", ".join(rates))
    missing = [topic for topic in wanted if topic not in reader.topics]
    if missing:
        yield warn("bag", f"nothing on {', '.join(missing)}", f"its topics are {', '.join(reader.topics)}")
    if TF_STATIC not in reader.topics:
        yield warn("bag", f"no {TF_STATIC}", "record it, or no camera has a place on the vehicle")


def _one_picture(inference: InferenceConfig, contract: ModelContract) -> Iterator[Finding]:
    width, height = contract.image_size or tuple(map(min, PICTURE, image_size(inference.max_image_size)))
    pixels = np.full((height, width, 3), 128, np.uint8)
    segmenter = load_segmenter(inference)
    try:
        segmenter.segment(pixels).sample(np.zeros((1, 2)))
        start_s = time.perf_counter()
        segmenter.segment(pixels).sample(np.zeros((1, 2)))
        milliseconds = (time.perf_counter() - start_s) * 1e3
        said = f"{segmenter.backend}: {milliseconds:.0f} ms for a picture of {width} x {height}"
        much_larger = width * height > 4 * contract.network_size[0] * contract.network_size[1]
        on_cpu = "(CPU" in segmenter.backend or "the CPU" in segmenter.backend
        if much_larger and on_cpu and contract.target != "cpu":
            said += "; some ms less where the network is deployed with --target cpu"
        yield ok("network", said)
        idle = ", ".join(idle_settings(inference, [segmenter]))
        if idle:
            yield warn("network", f"without effect on {segmenter.backend}: {idle}", "they are for another backend")
    finally:
        segmenter.close()


def _described(contract: ModelContract) -> str:
    width, height = contract.network_size
    return f"{contract.num_classes} classes of {contract.taxonomy}, network size {width} x {height}"


class _Blank:
    """A segmenter that sees the first class everywhere."""

    backend = "none"
    heeds: frozenset[str] = frozenset()

    def __init__(self, taxonomy: Taxonomy) -> None:
        self.contract = ModelContract(
            taxonomy=taxonomy.name,
            num_classes=len(taxonomy.trained),
            output="labels",
            network_size=PICTURE,
            output_size=PICTURE,
            network_alignment=Alignment(),
            alignment_assumed=False,
            image_size=None,
            channel_order="rgb",
            layout="NHWC",
            mean=(0.0,) * 3,
            scale=(1.0,) * 3,
            source_name="blank",
            source_sha256="",
            created_by="doctor",
        )

    def segment(self, pixels: NDArray[np.uint8]) -> LabelSegmentation:
        """(H, W, 3) uint8 in; the first train id at every pixel out."""
        height, width = pixels.shape[:2]
        return LabelSegmentation(np.zeros((height, width), np.uint8), None, Alignment(), (width, height))

    def close(self) -> None:
        """Nothing is held."""
