"""Every setting and its default, once.

Closed dataclasses: an unknown key or a value of the wrong type raises `ConfigError` naming the key. The same YAML file
serves the ROS node (as a parameter file) and the offline commands. Each stage receives its own section.

In YAML the cameras are a list of names and a section for each, as ROS parameters need it:

    cameras: [front]
    camera:
      front: {image_topic: /front/image_raw}
"""

# ruff: noqa: RUF009 - the sections that stand as defaults are frozen

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from seg_perception.config.section import Section, as_mapping, build_section, setting
from seg_perception.config.sections import (
    CAMERA_NAME,
    BevConfig,
    CameraConfig,
    DiagnosticsConfig,
    EdgesConfig,
    InferenceConfig,
    LidarConfig,
    MotionConfig,
    ObjectsConfig,
    OutputConfig,
    PaintingConfig,
    PairingConfig,
    TrackingConfig,
    VisibilityConfig,
    VoxelMapConfig,
)
from seg_perception.errors import ConfigError

__all__ = [
    "BevConfig",
    "CAMERA_NAME",
    "CameraConfig",
    "Config",
    "DiagnosticsConfig",
    "EdgesConfig",
    "InferenceConfig",
    "LidarConfig",
    "MotionConfig",
    "NODE_NAME",
    "NODE_ONLY",
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
    "setting",
]

NODE_NAME = "perception_node"
NODE_ONLY = ("autostart", "qos_overrides", "use_sim_time")  # parameters of the ROS node that are no settings of ours


@dataclass(frozen=True, slots=True)
class Config(Section):
    """All settings of the node and of the offline pipeline."""

    cameras: tuple[CameraConfig, ...] = ()
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
    diagnostics: DiagnosticsConfig = DiagnosticsConfig()

    def __post_init__(self) -> None:
        Section.__post_init__(self)
        names = [camera.name for camera in self.cameras]
        if len(set(names)) != len(names):
            raise ConfigError(f"cameras: each name once wanted, {names} seen")

    @classmethod
    def from_mapping(cls, content: Mapping[str, Any], where: str = "config") -> Config:
        """Build from a mapping as YAML gives it; unknown keys raise."""
        content = dict(content)
        names = content.pop("cameras", [])
        sections = content.pop("camera", {})
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ConfigError(f"{where}: cameras: a list of names wanted, {names!r} seen")
        if not isinstance(sections, Mapping):
            raise ConfigError(f"{where}: camera: a section for each camera wanted, {sections!r} seen")
        strangers = sorted(set(sections) - set(names))
        if strangers:
            raise ConfigError(f"{where}: camera: sections {strangers} are not in cameras {names}")
        named = [name for name, section in sections.items() if "name" in as_mapping(section, f"camera.{name}")]
        if named:
            raise ConfigError(
                f"{where}: camera: a camera's name is the key of its section, no 'name' wanted in {named}"
            )
        cameras = tuple(
            build_section(
                CameraConfig,
                {**as_mapping(sections.get(name), f"camera.{name}"), "name": name},
                f"{where}: camera.{name}",
            )
            for name in names
        )
        return build_section(cls, {**content, "cameras": cameras}, where, also=["camera"])

    @classmethod
    def load(cls, path: str | Path) -> Config:
        """Read a YAML file: a plain mapping, or a ROS parameter file (`<node>: ros__parameters:`)."""
        try:
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError(f"config {path}: {error}") from error
        content = as_mapping(content, str(path))
        if content and all(isinstance(node, Mapping) and set(node) == {"ros__parameters"} for node in content.values()):
            ours = [node["ros__parameters"] for name, node in content.items() if name.strip("/") in ("**", NODE_NAME)]
            if len(ours) != 1:
                raise ConfigError(f"config {path}: one section /** or /{NODE_NAME} wanted, {sorted(content)} seen")
            content = as_mapping(ours[0], str(path))
        content = {key: value for key, value in content.items() if key not in NODE_ONLY}
        return cls.from_mapping(content, str(path))


def parameters_beside(bag: Path) -> Path:
    """Where the parameter file of a bag lies: `drive.mcap` and the folder `drive` both have `drive.param.yaml`."""
    stem = bag.stem if bag.suffix in (".mcap", ".db3") else bag.name
    return bag.with_name(f"{stem}.param.yaml")


def parameter_file(cameras: Mapping[str, Mapping[str, Any]], lidar_topic: str, fixed_frame: str) -> str:
    """The YAML with which node and replay read a bag. cameras: the settings of each, by name."""
    parameters = {
        "cameras": list(cameras),
        "camera": {name: dict(camera) for name, camera in cameras.items()},
        "lidar": {"topic": lidar_topic},
        "motion": {"fixed_frame": fixed_frame},
    }
    return yaml.safe_dump({"/**": {"ros__parameters": parameters}}, sort_keys=False)
