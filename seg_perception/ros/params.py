"""Every setting of `seg_perception/config` as a ROS parameter, and back. All is walked, nothing repeated.

A section's setting is `<section>.<name>` (`motion.mode`); a camera's is `camera.<camera>.<name>`; `cameras` lists the
names; `lidars` and `lidar.<lidar>.<name>` likewise. What cannot be declared (an unknown name, a wrong type, a value out
of range) does not stop the node from being built: it is kept, and `Parameters.config()` refuses it by name.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import ParameterException
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.parameter import Parameter

from seg_perception.config import SENSOR_NAME, CameraConfig, Config, NamedLidarConfig
from seg_perception.errors import ConfigError

AUTOSTART = "autostart"
ROS_OWN = ("use_sim_time", "start_type_description_service")
QOS_PREFIX = "qos_overrides."
INT64_MAX = 2**63 - 1
LIMITS = ("minimum", "maximum", "choices", "form")


@dataclass(frozen=True, slots=True)
class Setting:
    """One scalar setting of `Config` under its parameter name.

    limits: those of LIMITS that it has. live: it may be changed while the node is configured.
    """

    name: str
    type: type
    default: Any
    description: str
    limits: Mapping[str, Any]
    live: bool = False

    def descriptor(self) -> ParameterDescriptor:
        """What `ros2 param describe` shows, and what rclpy enforces."""
        descriptor = ParameterDescriptor(name=self.name, description=self.description)
        if "choices" in self.limits:
            descriptor.additional_constraints = "one of: " + ", ".join(map(str, self.limits["choices"]))
        if "form" in self.limits:
            descriptor.additional_constraints = self.limits["form"]
        if not {"minimum", "maximum"} & set(self.limits):
            return descriptor
        if self.type is float:
            low, high = self.limits.get("minimum", -sys.float_info.max), self.limits.get("maximum", sys.float_info.max)
            descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
        elif self.type is int:
            low, high = self.limits.get("minimum", -INT64_MAX), self.limits.get("maximum", INT64_MAX)
            descriptor.integer_range = [IntegerRange(from_value=low, to_value=high)]
        return descriptor


def settings(cameras: Iterable[str] = (), lidars: Iterable[str] = ()) -> Iterator[Setting]:
    """Every scalar setting of `Config`, with those of each named camera and LiDAR."""
    yield from _walk(Config, "")
    for camera in cameras:
        yield from _walk(CameraConfig, f"camera.{camera}.", without=("name",))
    for lidar in lidars:
        yield from _walk(NamedLidarConfig, f"lidar.{lidar}.", without=("name",))


def _walk(section: type, prefix: str, without: Sequence[str] = ()) -> Iterator[Setting]:
    hints = get_type_hints(section)
    for entry in dataclasses.fields(section):
        hint = hints[entry.name]
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            yield from _walk(hint, f"{prefix}{entry.name}.")
        elif hint in (str, bool, int, float) and entry.name not in without:
            limits = {key: entry.metadata[key] for key in LIMITS if key in entry.metadata}
            description, live = entry.metadata.get("description", ""), entry.metadata.get("live", False)
            yield Setting(prefix + entry.name, hint, entry.default, description, limits, live)


class NodeOfOverrides(LifecycleNode):
    """A node whose overrides are all declared as it is built: rclpy's public way to learn of what nobody declared.

    Those included that have no value: an empty list in a parameter file has no type in ROS, and rclpy would not go on.
    """

    def __init__(self, name: str, **more: Any) -> None:
        super().__init__(name, automatically_declare_parameters_from_overrides=True, **more)

    def declare_parameters(self, namespace: str, parameters: Any, ignore_override: bool = False) -> list[Parameter]:
        """See rclpy. parameters: of those with a descriptor the value may be None."""
        any_type = ParameterDescriptor(dynamic_typing=True)
        declared = [entry if None not in entry[1:2] else (entry[0], None, any_type) for entry in parameters]
        return super().declare_parameters(namespace, declared, ignore_override)


class Parameters:
    """The parameters of one node.

    What it was started with is taken over here, each with its own type and descriptor, before the first transition.
    """

    def __init__(self, node: NodeOfOverrides) -> None:
        self._node = node
        overrides = _take_overrides(node)
        self._refused: dict[str, Any] = {}
        autostart = overrides.pop(AUTOSTART, True)
        description = "configure and activate without waiting for a lifecycle manager"
        node.declare_parameter(
            AUTOSTART,
            autostart is not False,
            ParameterDescriptor(description=description, read_only=True),
            ignore_override=True,
        )
        if type(autostart) is not bool:
            self._refused[AUTOSTART] = autostart
        self._sensors = {kind: self._declare_names(kind, overrides.pop(kind, None)) for kind in ("cameras", "lidars")}
        for setting in self._settings():
            self._declare(setting, overrides.pop(setting.name, setting.default))
        self._refused.update(overrides)

    @property
    def autostart(self) -> bool:
        """Whether the node goes to active by itself."""
        return self._node.get_parameter(AUTOSTART).value

    @property
    def names(self) -> frozenset[str]:
        """The parameters that are settings of `Config`."""
        return frozenset(setting.name for setting in self._settings()) | set(self._sensors)

    def config(self, changes: Sequence[Parameter] = ()) -> Config:
        """The configuration that the parameters spell, with these changes on top.

        Raises ConfigError, naming the parameter, for an unknown name or a value that cannot be.
        """
        if AUTOSTART in self._refused:
            raise ConfigError(f"parameter {AUTOSTART}: true or false wanted, {self._refused[AUTOSTART]!r} seen")
        for kind, names in self._sensors.items():
            for name in names:
                if not SENSOR_NAME.fullmatch(name):
                    raise ConfigError(f"parameter {kind}: letters, digits and _ wanted in a name, '{name}' seen")
        values = {setting.name: self._node.get_parameter(setting.name).value for setting in self._settings()}
        changed = {change.name: change.value for change in changes}
        sensors = {kind: list(names) for kind, names in self._sensors.items()}
        return Config.from_mapping(_nest({**sensors, **values, **self._refused, **changed}), "parameters")

    def accept(self, changes: Sequence[Parameter], *, only_live: bool = False) -> Config:
        """Changes are about to be set; returns the configuration that they lead to.

        Raises ConfigError where `config` would, and where `only_live` for a setting that is not; then nothing is to
        change. A refused start value of the same name is forgotten.
        """
        live = {setting.name for setting in self._settings() if setting.live}
        frozen = sorted({change.name for change in changes} - live)
        if only_live and frozen:
            raise ConfigError(
                f"{', '.join(frozen)}: read at configure: clean up first (settings marked [live] may change any time)"
            )
        config = self.config(changes)
        for change in changes:
            self._refused.pop(change.name, None)
        return config

    def _settings(self) -> Iterator[Setting]:
        return settings(*(filter(SENSOR_NAME.fullmatch, dict.fromkeys(names)) for names in self._sensors.values()))

    def _declare_names(self, kind: str, value: Any) -> tuple[str, ...]:
        names = tuple(value) if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value) else ()
        if value and not names:
            self._refused[kind] = value
        # An empty list has no type in ROS, so that one is declared as of any type; read-only makes both the same.
        descriptor = ParameterDescriptor(
            description=f"names of the {kind}, each of which has a section {kind.removesuffix('s')}.<name>",
            read_only=True,
            dynamic_typing=not names,
        )
        self._node.declare_parameter(kind, list(names), descriptor, ignore_override=True)
        return names

    def _declare(self, setting: Setting, value: Any) -> None:
        if setting.type is float and type(value) is int:
            value = float(value)  # 80 where 80.0 is meant is a matter of spelling, not of type
        try:
            if type(value) is not setting.type:
                raise TypeError
            self._node.declare_parameter(setting.name, value, setting.descriptor(), ignore_override=True)
        except (TypeError, ParameterException):
            self._refused[setting.name] = value
            self._node.declare_parameter(setting.name, setting.default, setting.descriptor(), ignore_override=True)


def _take_overrides(node: Node) -> dict[str, Any]:
    """The overrides the node was started with, no longer declared; those of ROS itself stay."""
    overrides = {
        name: node.get_parameter(name).value for name in node.get_parameters_by_prefix("") if name not in ROS_OWN
    }
    for name in overrides:
        node.undeclare_parameter(name)
    # create_publisher and create_subscription declare these once the topic exists.
    return {name: value for name, value in overrides.items() if not name.startswith(QOS_PREFIX)}


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """`{"motion.mode": "auto"}` as `{"motion": {"mode": "auto"}}`."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *sections, leaf = name.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
            if not isinstance(branch, dict):
                raise ConfigError(f"parameter {name}: '{section}' is a value, not a section")
        if isinstance(branch.get(leaf), dict):
            raise ConfigError(f"parameter {name}: a section, not a value, wanted; {value!r} seen")
        branch[leaf] = value
    return tree
