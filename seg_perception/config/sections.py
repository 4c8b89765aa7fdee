"""The sections, one for each stage, with every default; those of the scene are in `scene`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from seg_perception.config.section import Section, setting
from seg_perception.errors import ConfigError

BACKENDS = ("auto", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx")
SENSOR_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")  # it becomes part of topics and parameters


def check_name(what: str, name: str) -> None:
    """Refuse the name of a camera or LiDAR that no topic can have."""
    if not SENSOR_NAME.fullmatch(name):
        raise ConfigError(f"{what} '{name}': a name of letters, digits and _, a letter first, wanted")


@dataclass(frozen=True, slots=True)
class CameraConfig(Section):
    """One camera: where its pictures and its calibration come from."""

    name: str
    image_topic: str = setting("", "image topic; empty: /<name>/image_raw")
    info_topic: str = setting("", "CameraInfo topic; empty: camera_info beside the image topic")
    transport: str = setting("raw", "message type of the image topic", choices=("raw", "compressed"))
    rectified: bool = setting(False, "the picture is rectified: project with P (and R), not with K and D")
    calibration: str = setting(
        "", "calibration file (YAML, as camera_calibration writes it) in place of CameraInfo, which is then not read"
    )
    frame_id: str = setting("", "optical frame; empty: the frame_id of the image")
    sample_bits: int = setting(
        16,
        "of a picture with 16-bit samples (mono16, 16UC1, ...): how many of the bits the camera uses; 12 where samples "
        "go to 4095",
        minimum=8,
        maximum=16,
    )
    segment: str = setting(
        "paired",
        "which images go through the network; paired: those that a sweep takes; every: each one, as soon as it comes; "
        "max_rate: the same for at most max_rate_hz a second, and the images between are not used",
        choices=("paired", "every", "max_rate"),
    )
    max_rate_hz: float = setting(
        10.0, "images a second, where segment is max_rate", minimum=0.01, maximum=1000.0, live=True
    )
    model: str = setting("", "deployed ONNX of this camera alone; empty: inference.model")
    model_sha256: str = setting("", "SHA-256 that this model has to have; empty: any")
    backend: str = setting(
        "", "what runs the network of this camera; empty: inference.backend", choices=("", *BACKENDS)
    )
    taxonomy: str = setting("", "taxonomy that its network was trained for, as `taxonomy`, which is meant where empty")
    class_map: str = setting(
        "",
        "what its network's classes are called in `taxonomy`, where not the same: ours=theirs or ours=one+another, "
        "comma-separated; ours may be unknown, and theirs * for all that nothing else is said of",
    )
    crop: str = setting(
        "",
        "part of the image that the network is shown, in pixels; empty: all of it",
        pattern=r"([1-9]\d*x[1-9]\d*\+\d+\+\d+)?",
        form="WIDTHxHEIGHT+X+Y",
    )
    turn_deg: int = setting(
        0,
        "the picture is turned clockwise by so much before the network is shown it; 180 for a camera that is mounted "
        "upside down",
        choices=(0, 90, 180, 270),
    )
    mask: str = setting(
        "", "picture of the image's size, black where the vehicle itself is seen: nothing is painted from there"
    )
    offset_ms: float = setting(
        0.0,
        "added to the image's stamp before pairing and projection, milliseconds",
        minimum=-10_000.0,
        maximum=10_000.0,
    )
    readout_ms: float = setting(
        0.0,
        "rolling shutter: from the first row's exposure to the last row's, the stamp being that of the middle row; "
        "0: all at once; negative: from the bottom up",
        minimum=-200.0,
        maximum=200.0,
    )

    def __post_init__(self) -> None:
        Section.__post_init__(self)
        check_name("camera", self.name)
        if self.model_sha256 and not self.model:
            raise ConfigError(f"camera '{self.name}': model_sha256 is that of a model of its own, and model names none")

    def resolved_image_topic(self) -> str:
        """The image topic, its default filled in."""
        return self.image_topic or f"/{self.name}/image_raw"

    def resolved_info_topic(self) -> str:
        """The CameraInfo topic: by convention the sibling of the image topic (of its raw form, where compressed)."""
        if self.info_topic:
            return self.info_topic
        parts = self.resolved_image_topic().split("/")
        if parts[-1] == "compressed":
            parts.pop()
        return "/".join([*parts[:-1], "camera_info"])


@dataclass(frozen=True, slots=True)
class LidarConfig(Section):
    """The LiDAR whose sweeps are labelled, where there is but one."""

    topic: str = setting("/points", "PointCloud2 topic, where `lidars` names none")


@dataclass(frozen=True, slots=True)
class NamedLidarConfig(Section):
    """One of several LiDARs."""

    name: str
    topic: str = setting("", "PointCloud2 topic; empty: /<name>/points")

    def __post_init__(self) -> None:
        Section.__post_init__(self)
        check_name("LiDAR", self.name)
        if self.name == "topic":  # lidar.topic is that of the only one
            raise ConfigError("LiDAR 'topic': another name wanted")

    def resolved_topic(self) -> str:
        """The topic of its clouds, the default filled in."""
        return self.topic or f"/{self.name}/points"


@dataclass(frozen=True, slots=True)
class InferenceConfig(Section):
    """The network and what runs it."""

    model: str = setting(
        "", "path of a deployed ONNX file (see `seg-perception deploy`), for every camera that names none of its own"
    )
    model_sha256: str = setting(
        "", "SHA-256 that the model has to have, as `seg-perception doctor` tells it; empty: any"
    )
    backend: str = setting(
        "onnxruntime",
        "what runs the network; auto: TensorRT where there is a GPU, else the fastest on this CPU, as measured",
        choices=BACKENDS,
    )
    threads: int = setting(
        0, "CPU threads of the backend; 0: as many as the cores that it may use", minimum=0, maximum=256
    )
    cpu_precision: str = setting(
        "fp32", "arithmetic of openvino; bf16 is faster and changes some labels", choices=("fp32", "bf16")
    )
    providers: str = setting("CPUExecutionProvider", "execution providers of onnxruntime, comma-separated, best first")
    max_image_size: str = setting(
        "3840x2160",
        "largest picture that an engine is built for",
        pattern=r"[1-9]\d*x[1-9]\d*",
        form="WIDTHxHEIGHT",
    )
    engine_cache: str = setting("", "folder of built engines; empty: seg_perception/engines in the user's cache")
    workspace_mib: int = setting(
        0, "scratch memory an engine may use, MiB; 0: all that the GPU has", minimum=0, maximum=1 << 20
    )
    optimization_level: int = setting(
        -1, "0: engines are built fast, to 5: engines run fast; -1: TensorRT's default", minimum=-1, maximum=5
    )
    dla_core: int = setting(-1, "DLA core of an Orin; -1: none", minimum=-1, maximum=1)
    tf32: bool = setting(True, "float32 layers of an engine may compute in TF32")
    sample_on: str = setting(
        "cpu",
        "where an engine's class scores become labels of points; gpu: they stay there, and only labels come back",
        choices=("cpu", "gpu"),
    )
    gpu_wait: str = setting(
        "auto",
        "how a thread waits for an engine; spin: on a core of its own, and goes on at once; block: asleep; auto: block "
        "on a Jetson, spin elsewhere",
        choices=("auto", "spin", "block"),
    )


@dataclass(frozen=True, slots=True)
class PairingConfig(Section):
    """Which image belongs to which sweep."""

    window_ms: float = setting(
        80.0,
        "an image further than this from the middle of the sweep is not used",
        minimum=0.0,
        maximum=10_000.0,
        live=True,
    )
    deadline_ms: float = setting(
        150.0,
        "a sweep waits this long for its images, then goes with what is there",
        minimum=0.0,
        maximum=10_000.0,
        live=True,
    )
    image_queue: int = setting(10, "images kept for each camera", minimum=1, maximum=1000)
    sweep_queue: int = setting(5, "sweeps kept waiting; beyond it the oldest is dropped", minimum=1, maximum=1000)


@dataclass(frozen=True, slots=True)
class MotionConfig(Section):
    """How points are carried from their own instants to the image's."""

    mode: str = setting(
        "auto",
        "auto: through the fixed frame, and as if nothing moved (warned, counted) where it is missing; "
        "required: label nothing that cannot be moved; static: never through the fixed frame",
        choices=("auto", "required", "static"),
    )
    fixed_frame: str = setting("odom", "the frame that does not move between a point's instant and the image's")
    tolerance_ms: float = setting(
        0.0, "transforms may be extrapolated by this much, milliseconds", minimum=0.0, maximum=10_000.0
    )
    cache_s: float = setting(10.0, "seconds of /tf that are kept", minimum=0.1, maximum=3600.0)


@dataclass(frozen=True, slots=True)
class VisibilityConfig(Section):
    """What a camera could not see gets no label from it."""

    method: str = setting(
        "learned",
        "how hidden points are found; patches: what is nearer hides what is behind it; learned: near outlines a small "
        "network has the last word over patches and edges: fewer hidden points get a label, for twice the work",
        choices=("learned", "patches", "none"),
        live=True,
    )
    most_doubt: float = setting(
        0.17,
        "learned: a point likelier hidden than this gets no label; 0.11 labels fewer hidden points, and fewer visible",
        minimum=0.0,
        maximum=1.0,
        live=True,
    )
    spacing_deg: float = setting(
        0.0,
        "angle between neighbouring points of one LiDAR beam, degrees; 0: measured",
        minimum=0.0,
        maximum=5.0,
        live=True,
    )
    beam_spacing_deg: float = setting(
        0.0, "angle between neighbouring LiDAR beams, degrees; 0: measured", minimum=0.0, maximum=5.0, live=True
    )
    cover: float = setting(
        0.8,
        "a point covers this much of the spacing to each side and hides what is behind",
        minimum=0.0,
        maximum=4.0,
        live=True,
    )
    beam_cover: float = setting(
        0.7,
        "the same up and down; at 1 surfaces begin to hide their own next beam",
        minimum=0.0,
        maximum=4.0,
        live=True,
    )
    freestanding_cover: float = setting(
        1.2, "points on what has something behind it (the taxonomy's group `freestanding`) cover this much more",
        minimum=0.0, maximum=4.0, live=True
    )  # fmt: skip
    depth_tolerance_m: float = setting(
        0.2, "a point this much behind the surface before it is still on it", minimum=0.0, maximum=100.0, live=True
    )
    glass_m: float = setting(
        4.0,
        "a point labelled a vehicle (the taxonomy's group `glazed`) but so far behind the vehicle that frames it was "
        "seen through a window and gets no label; 0: not asked",
        minimum=0.0,
        maximum=100.0,
        live=True,
    )


@dataclass(frozen=True, slots=True)
class EdgesConfig(Section):
    """What a point's own surface says against the picture, at the borders of things."""

    method: str = setting(
        "surface",
        "surface: a label that the neighbours on the point's surface contradict is left out; none: all are taken",
        choices=("surface", "none"),
        live=True,
    )
    step_m: float = setting(
        0.15,
        "neighbours whose range differs by less lie on one surface, beside its slant",
        minimum=0.0,
        maximum=10.0,
        live=True,
    )
    agreement: float = setting(
        0.75, "share of the neighbours that has to agree to contradict a label", minimum=0.5, maximum=1.0, live=True
    )


@dataclass(frozen=True, slots=True)
class PaintingConfig(Section):
    """Which labels are good enough for a point."""

    min_probability: float = setting(0.0, "labels below this stay unknown", minimum=0.0, maximum=1.0, live=True)
    min_margin: float = setting(0.0, "labels whose margin to the second class is below this stay unknown",
                                minimum=0.0, maximum=1.0, live=True)  # fmt: skip
    border: float = setting(
        0.03, "of several cameras one that sees a point nearer to its border than this, as a share of its width, "
        "counts for less", minimum=0.0, maximum=0.5, live=True)  # fmt: skip
    nearness_ms: float = setting(
        100.0, "of several cameras one whose image is off the point's own instant by this much counts for half",
        minimum=1.0, maximum=10_000.0, live=True)  # fmt: skip
    threads: int = setting(
        0, "CPU threads that label a sweep, camera beside camera; 0: as many as the cores that it may use",
        minimum=0, maximum=64)  # fmt: skip


@dataclass(frozen=True, slots=True)
class OutputConfig(Section):
    """What is published beside the semantic cloud."""

    point_groups: str = setting(
        "",
        "clouds of the points of some classes alone, each on ~/points/<name>: groups or classes of the taxonomy, or "
        "unknown, by name; name=one+another makes a group of one's own",
        live=True,
    )
    overlay_alpha: float = setting(
        0.5, "weight of the label colours in the overlay image", minimum=0.0, maximum=1.0, live=True
    )
    jpeg_quality: int = setting(80, "of the compressed overlay", minimum=1, maximum=100, live=True)
    diagnostics_period_s: float = setting(
        1.0, "seconds between messages on /diagnostics", minimum=0.1, maximum=3600.0, live=True
    )


@dataclass(frozen=True, slots=True)
class NodeConfig(Section):
    """What the live node asks of the machine that it runs on."""

    wake_latency_us: int = setting(
        -1,
        "how long a sleeping CPU of this machine may take to wake while the node is active, microseconds; 0: none "
        "sleeps; -1: as the kernel has it. Costs power: docs/deployment.md",
        minimum=-1,
        maximum=2_000_000_000,
    )


@dataclass(frozen=True, slots=True)
class DiagnosticsConfig(Section):
    """From when on /diagnostics says WARN and ERROR. 0: never, of that figure."""

    input_age_warn_s: float = setting(
        1.0, "WARN where a camera or LiDAR sent nothing for this long", live=True, minimum=0.0
    )
    input_age_error_s: float = setting(5.0, "the same, ERROR", live=True, minimum=0.0)
    stamp_offset_warn_s: float = setting(
        1.0, "WARN where the stamps of a camera are this far from those of the LiDAR", live=True, minimum=0.0
    )
    stamp_offset_error_s: float = setting(10.0, "the same, ERROR", live=True, minimum=0.0)
    residual_warn_ms: float = setting(
        0.0, "WARN where a camera's image is this far from the sweep it was paired with", live=True, minimum=0.0
    )
    residual_error_ms: float = setting(0.0, "the same, ERROR", live=True, minimum=0.0)
    latency_warn_ms: float = setting(
        0.0, "WARN where the 99th percentile from a sweep's arrival to its cloud is above this", live=True, minimum=0.0
    )
    latency_error_ms: float = setting(0.0, "the same, ERROR", live=True, minimum=0.0)
    rate_warn_hz: float = setting(0.0, "WARN where fewer clouds a second are published", live=True, minimum=0.0)
    rate_error_hz: float = setting(0.0, "the same, ERROR", live=True, minimum=0.0)
    coverage_warn: float = setting(
        0.0, "WARN where a smaller share of the returns has a label", live=True, minimum=0.0, maximum=1.0
    )
    coverage_error: float = setting(0.0, "the same, ERROR", live=True, minimum=0.0, maximum=1.0)
    gpu_temperature_warn_c: float = setting(85.0, "WARN where a GPU is this hot", live=True, minimum=0.0)
    gpu_temperature_error_c: float = setting(95.0, "the same, ERROR", live=True, minimum=0.0)
    gpu_memory_warn: float = setting(
        0.9, "WARN where this share of a GPU's memory is in use", live=True, minimum=0.0, maximum=1.0
    )
    gpu_memory_error: float = setting(0.98, "the same, ERROR", live=True, minimum=0.0, maximum=1.0)
