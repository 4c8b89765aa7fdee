"""What a section of the settings is: a closed dataclass whose values are checked when it is built."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, get_type_hints

from seg_perception.errors import ConfigError


def setting(default: Any, description: str, *, live: bool = False, **limits: Any) -> Any:
    """A field with its one default, its description, and `minimum`, `maximum` or `choices` where it has them, or the
    `pattern` of a text, which `form` tells to people.

    live: it may be changed while the node runs; its description says so.
    """
    return field(default=default, metadata={"description": description + " [live]" * live, "live": live, **limits})


class Section:
    """Checks each value against its type, limits and choices when the section is built."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for entry in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, entry.name)
            want = hints[entry.name]
            if want is float and type(value) is int:
                object.__setattr__(self, entry.name, float(value))
                value = float(value)
            if want in (str, bool, int, float) and type(value) is not want:
                raise ConfigError(f"{type(self).__name__}.{entry.name}: {want.__name__} wanted, {value!r} seen")
            if want is float and not math.isfinite(value):
                raise ConfigError(f"{type(self).__name__}.{entry.name}: a finite number wanted, {value!r} seen")
            _check_limits(f"{type(self).__name__}.{entry.name}", value, entry.metadata)


def _check_limits(where: str, value: Any, limits: Mapping[str, Any]) -> None:
    if "choices" in limits and value not in limits["choices"]:
        raise ConfigError(f"{where}: one of {list(limits['choices'])} wanted, {value!r} seen")
    if "pattern" in limits and not re.fullmatch(limits["pattern"], value, re.ASCII):
        raise ConfigError(f"{where}: {limits['form']} wanted, {value!r} seen")
    if "minimum" in limits and value < limits["minimum"]:
        raise ConfigError(f"{where}: at least {limits['minimum']} wanted, {value!r} seen")
    if "maximum" in limits and value > limits["maximum"]:
        raise ConfigError(f"{where}: at most {limits['maximum']} wanted, {value!r} seen")


def as_mapping(content: object, where: str) -> dict[str, Any]:
    """The mapping that YAML gave, empty for nothing; ConfigError for anything else."""
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where}: a mapping wanted, {content!r} seen")
    return dict(content)


def build_section(section: type, content: Mapping[str, Any], where: str, also: Sequence[str] = ()) -> Any:
    """One dataclass from a mapping, sections within it built in turn. also: keys that the caller has taken already."""
    hints = get_type_hints(section)
    unknown = sorted(set(content) - set(hints))
    if unknown:
        raise ConfigError(f"{where}: unknown key(s) {unknown}; known ones are {sorted({*hints, *also})}")
    values = {
        key: build_section(hints[key], as_mapping(value, f"{where}: {key}"), f"{where}: {key}")
        if dataclasses.is_dataclass(hints[key])
        else value
        for key, value in content.items()
    }
    try:
        return section(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
