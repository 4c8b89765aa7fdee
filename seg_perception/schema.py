"""What a parameter file may say, told to other programs: a JSON Schema, and the table of docs/interfaces.md.

Both are walked from the dataclasses of `seg_perception/config`; nothing is repeated here. `make reference` writes them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin, get_type_hints

from seg_perception.config import NODE_NAME, NODE_ONLY, SENSOR_NAME, Config

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number"}
_REQUIRED = {"required": ["ros__parameters"]}


def json_schema() -> dict[str, Any]:
    """A JSON Schema (2020-12) of a parameter file, as ROS wants it or as a plain mapping.

    What it accepts `Config.load` accepts too, but for what spans several settings: that a camera's section is named in
    `cameras`, and that numbers are finite.
    """
    plain = _section(Config)
    for name in NODE_ONLY:
        plain["properties"][name] = {"type": "object" if name == "qos_overrides" else "boolean"}
    node = {
        "type": "object",
        "properties": {"ros__parameters": {"$ref": "#/$defs/settings"}},
        **_REQUIRED,
        "additionalProperties": False,
    }
    ros_file = {
        "type": "object",
        "patternProperties": {rf"^(.*/)?(\*\*|{NODE_NAME})$": node},
    }
    of_nodes = {"type": "object", "minProperties": 1, "additionalProperties": {"type": "object", **_REQUIRED}}
    return {
        "$schema": DIALECT,
        "title": "Parameter file of seg_perception",
        "$defs": {"settings": plain},
        "if": of_nodes,
        "then": ros_file,
        "else": {"$ref": "#/$defs/settings"},
    }


def parameter_rows(section: type = Config, prefix: str = "") -> Iterator[str]:
    """The table of all settings, a line of Markdown each; those of named sections, as `camera.<name>.`, at the end."""
    named = []
    for name, hint, metadata, default in _entries(section):
        if _of_sections(hint):
            named.append((f"{prefix}{name.removesuffix('s')}.<name>.", get_args(hint)[0]))
        elif dataclasses.is_dataclass(hint):
            yield from parameter_rows(hint, f"{prefix}{name}.")  # type: ignore[arg-type]
        elif not (name == "name" and prefix.endswith("<name>.")):
            yield _row(prefix + name, hint, metadata, default)
    for inner_prefix, inner in named:
        yield from parameter_rows(inner, inner_prefix)


def _section(section: type) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for name, hint, metadata, default in _entries(section):
        if _of_sections(hint):
            key = f"^{SENSOR_NAME.pattern}$"
            properties[name] = {"type": "array", "items": {"type": "string", "pattern": key}, "uniqueItems": True}
            inner = _section(get_args(hint)[0])
            inner["properties"].pop("name")
            named = properties.setdefault(name.removesuffix("s"), {"type": ["object", "null"]})
            named |= {"propertyNames": {"pattern": key}, "additionalProperties": inner}
        elif dataclasses.is_dataclass(hint):
            properties[name] = {**_section(hint), **properties.get(name, {})}  # type: ignore[arg-type]
        else:
            properties[name] = _value(hint, metadata, default)
    return {"type": ["object", "null"], "properties": properties, "additionalProperties": False}


def _value(hint: Any, metadata: Mapping[str, Any], default: Any) -> dict[str, Any]:
    if get_origin(hint) is tuple:
        value: dict[str, Any] = {"type": "array", "items": {"type": _TYPES[get_args(hint)[0]]}}
    else:
        value = {"type": _TYPES[hint]}
    value["description"] = metadata.get("description", "")
    if default is not dataclasses.MISSING:
        value["default"] = list(default) if isinstance(default, tuple) else default
    if "choices" in metadata:
        value["enum"] = list(metadata["choices"])
    if "pattern" in metadata:
        value["pattern"] = f"^{metadata['pattern']}$"
    value.update({key: metadata[key] for key in ("minimum", "maximum") if key in metadata})
    return value


def _row(name: str, hint: Any, metadata: Mapping[str, Any], default: Any) -> str:
    shown = str(default).lower() if hint is bool else str(default)
    kind = hint.__name__ if hint in _TYPES else f"list of {get_args(hint)[0].__name__}"
    return f"| `{name}` | {kind} | {f'`{shown}`' if shown else ''} | {_limits(metadata)} | {metadata['description']} |"


def _limits(metadata: Mapping[str, Any]) -> str:
    if "choices" in metadata:
        return ", ".join(f"`{choice}`" for choice in metadata["choices"])
    if "form" in metadata:
        return str(metadata["form"])
    low, high = metadata.get("minimum"), metadata.get("maximum")
    if low is None and high is None:
        return ""
    return f"{low} or more" if high is None else f"{low} to {high}"


def _entries(section: type) -> Iterator[tuple[str, Any, Mapping[str, Any], Any]]:
    """Name, type, metadata and default of each field of a section."""
    hints = get_type_hints(section)
    for entry in dataclasses.fields(section):
        yield entry.name, hints[entry.name], entry.metadata, entry.default


def _of_sections(hint: Any) -> bool:
    return get_origin(hint) is tuple and dataclasses.is_dataclass(get_args(hint)[0])
