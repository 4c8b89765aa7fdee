"""Every setting and its default, once.

Closed dataclasses: an unknown key or a value of the wrong type raises `ConfigError` naming the key. The same YAML file
serves the ROS node (as a parameter file) and the offline commands. Each stage receives its own section.

In YAML the cameras are a list of names and a section for each, as ROS parameters need it:

    cameras: [front]
    camera:
      front: {image_topic: /front/image_raw}

and so are the LiDARs, where there is more than one: `lidars: [top, left]` and `lidar.<name>`.
"""

# ruff: noqa: RUF009 - the sections that stand as defaults are frozen

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml

from seg_perception.config.scene import BevConfig, ObjectsConfig, TrackingConfig, VoxelMapConfig
from seg_perception.config.section import Section, as_mapping, build_section, setting
from seg_perception.config.sections import (
    SENSOR_NAME,
    CameraConfig,
    DiagnosticsConfig,
    EdgesConfig,
    InferenceConfig,
    LidarConfig,
    MotionConfig,
    NamedLidarConfig,
    NodeConfig,
    OutputConfig,
    PaintingConfig,
    PairingConfig,
    VisibilityConfig,
)
from seg_perception.errors import ConfigError

__all__ = [
    "BevConfig",
    "SENSOR_NAME",
    "CameraConfig",
    "Config",
    "DiagnosticsConfig",
    "EdgesConfig",
    "InferenceConfig",
    "LidarConfig",
    "MotionConfig",
    "NamedLidarConfig",
    "NODE_NAME",
    "NODE_ONLY",
    "NodeConfig",
    "ObjectsConfig",
    "OutputConfig",
    "PaintingConfig",
    "PairingConfig",
    "Section",
    "TrackingConfig",
    "VisibilityConfig",
    "VoxelMapConfig",
    "as_mapping",
    "build_section",
    "parameter_file",
    "parameters_beside",
    "parameters_of",
    "setting",
]

S = TypeVar("S")
_TOPIC = re.compile(r"(~?/)?[A-Za-z_{][\w{}]*(/[A-Za-z_{][\w{}]*)*", re.ASCII)
NODE_NAME = "perception_node"
NODE_ONLY = ("autostart", "qos_overrides", "start_type_description_service", "use_sim_time")
"""Parameters of the ROS node that are no settings of ours."""


@dataclass(frozen=True, slots=True)
class Config(Section):
    """All settings of the node and of the offline pipeline."""

    cameras: tuple[CameraConfig, ...] = ()
    lidars: tuple[NamedLidarConfig, ...] = ()
    taxonomy: str = setting("cityscapes", "name of a shipped taxonomy or path of a YAML file")
    lidar: LidarConfig = LidarConfig()
    inference: InferenceConfig = InferenceConfig()
    pairing: PairingConfig = PairingConfig()
    motion: MotionConfig = MotionConfig()
    visibility: VisibilityConfig = VisibilityConfig()
    edges: EdgesConfig = EdgesConfig()
    painting: PaintingConfig = PaintingConfig()
    objects: ObjectsConfig = ObjectsConfig()
    tracking: TrackingConfig = TrackingConfig()
    voxel_map: VoxelMapConfig = VoxelMapConfig()
    bev: BevConfig = BevConfig()
    output: OutputConfig = OutputConfig()
    node: NodeConfig = NodeConfig()
    diagnostics: DiagnosticsConfig = DiagnosticsConfig()

    def __post_init__(self) -> None:
        Section.__post_init__(self)
        names = [camera.name for camera in self.cameras] + [lidar.name for lidar in self.lidars]
        if len(set(names)) != len(names):
            raise ConfigError(f"cameras, lidars: each name once wanted, {names} seen")
        if self.lidars and self.lidar != LidarConfig():
            raise ConfigError(
                f"lidar.topic: not where lidars names some, {self.lidar.topic!r} seen; lidar.<name>.topic is meant"
            )
        topics = list(self.lidar_topics().values())
        if len(set(topics)) != len(topics):
            raise ConfigError(f"lidars: a topic of its own for each wanted, {topics} seen")
        self._check_topics()

    def _check_topics(self) -> None:
        """Each a name that ROS takes, and of one type: two cameras may share one topic, a camera and a LiDAR not."""
        asked = [(topic, "PointCloud2") for topic in self.lidar_topics().values()]
        for camera in self.cameras:
            asked.append((camera.resolved_image_topic(), "Image" if camera.transport == "raw" else "CompressedImage"))
            if not camera.calibration:
                asked.append((camera.resolved_info_topic(), "CameraInfo"))
        types: dict[str, str] = {"/tf": "TFMessage", "/tf_static": "TFMessage"}
        for topic, kind in asked:
            if not _TOPIC.fullmatch(topic):
                raise ConfigError(
                    f"topic '{topic}': a name of ROS wanted: letters, digits and _ between single slashes"
                )
            if types.setdefault(topic, kind) != kind:
                raise ConfigError(f"topic '{topic}': messages of one type wanted, {types[topic]} and {kind} asked for")

    def lidar_topics(self) -> dict[str, str]:
        """The topic of each LiDAR's clouds, by its name; the only one, where none are named, is ""."""
        return {lidar.name: lidar.resolved_topic() for lidar in self.lidars} or {"": self.lidar.topic}

    def inference_of(self, camera: CameraConfig) -> InferenceConfig:
        """The network of one camera and what runs it; cameras for which this is equal share one."""
        common = self.inference
        of_model = camera if camera.model else common
        backend = camera.backend or common.backend
        return replace(common, model=of_model.model, model_sha256=of_model.model_sha256, backend=backend)

    @classmethod
    def from_mapping(cls, content: Mapping[str, Any], where: str = "config") -> Config:
        """Build from a mapping as YAML gives it; unknown keys raise."""
        content = dict(content)
        cameras = _named(CameraConfig, "camera", content.pop("cameras", []), content.pop("camera", {}), where)
        of_lidars = as_mapping(content.pop("lidar", {}), f"{where}: lidar")
        content["lidar"] = {key: of_lidars.pop(key) for key in get_type_hints(LidarConfig) if key in of_lidars}
        lidars = _named(NamedLidarConfig, "lidar", content.pop("lidars", []), of_lidars, where)
        return build_section(cls, {**content, "cameras": cameras, "lidars": lidars}, where, also=["camera"])

    @classmethod
    def load(cls, path: str | Path) -> Config:
        """Read a YAML file: a plain mapping, or a ROS parameter file (`<node>: ros__parameters:`)."""
        content = _parameters(path)
        content = {key: value for key, value in content.items() if key not in NODE_ONLY}
        return cls.from_mapping(content, str(path))


def _parameters(path: str | Path) -> dict[str, Any]:
    """What a plain mapping, or the part of a ROS parameter file that is meant for our node, says."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(f"config {path}: {error.strerror or error}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"config {path}: {' '.join(str(error).split())}") from error
    content = as_mapping(content, str(path))
    if content and all(isinstance(node, Mapping) and set(node) == {"ros__parameters"} for node in content.values()):
        ours = [node["ros__parameters"] for name, node in content.items() if name.split("/")[-1] in ("**", NODE_NAME)]
        if len(ours) != 1:
            raise ConfigError(f"config {path}: one section /** or /{NODE_NAME} wanted, {sorted(content)} seen")
        content = as_mapping(ours[0], str(path))
    return content


def _named(section: type[S], kind: str, names: Any, sections: Any, where: str) -> tuple[S, ...]:
    """A section for each name of a list, from the mapping that has those that say anything. kind: camera or lidar."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{where}: {kind}s: a list of names wanted, {names!r} seen")
    if not isinstance(sections, Mapping):
        raise ConfigError(f"{where}: {kind}: a section for each {kind} wanted, {sections!r} seen")
    strangers = sorted(set(sections) - set(names))
    if strangers:
        raise ConfigError(f"{where}: {kind}: sections {strangers} are not in {kind}s {names}")
    of_name = {name: as_mapping(sections.get(name), f"{kind}.{name}") for name in names}
    named = [name for name, content in of_name.items() if "name" in content]
    if named:
        raise ConfigError(f"{where}: {kind}: its name is the key of its section, no 'name' wanted in {named}")
    return tuple(build_section(section, {**of_name[name], "name": name}, f"{where}: {kind}.{name}") for name in names)


def parameters_beside(bag: Path) -> Path:
    """Where the parameter file of a bag lies: `drive.mcap` and the folder `drive` both have `drive.param.yaml`."""
    stem = bag.stem if bag.suffix in (".mcap", ".db3") else bag.name
    return bag.with_name(f"{stem}.param.yaml")


def parameters_of(path: str | Path, cameras: Sequence[str]) -> str:
    """The YAML of a parameter file with these cameras: each as it is there, if it is, and no section of another."""
    content = _parameters(path)
    sections = as_mapping(content.pop("camera", None), f"{path}: camera")
    kept = {name: sections[name] for name in cameras if sections.get(name)}
    parameters = {**content, "cameras": list(cameras)} | (
        {"camera": kept} if kept else {}
    )  # ROS reads no empty section
    return yaml.safe_dump({"/**": {"ros__parameters": parameters}}, sort_keys=False)


def parameter_file(cameras: Mapping[str, Mapping[str, Any]], lidar_topic: str, fixed_frame: str) -> str:
    """The YAML with which node and replay read a bag. cameras: the settings of each, by name."""
    parameters = {
        "cameras": list(cameras),
        "camera": {name: dict(camera) for name, camera in cameras.items()},
        "lidar": {"topic": lidar_topic},
        "motion": {"fixed_frame": fixed_frame},
    }
    return yaml.safe_dump({"/**": {"ros__parameters": parameters}}, sort_keys=False)
