"""What is known of a public checkpoint, and the two lists of them: the one that ships, and the user's own."""

from __future__ import annotations

import dataclasses
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from seg_perception.errors import ConfigError
from seg_perception.folders import user_folder

SHIPPED = Path(__file__).with_name("models.yaml")
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
HASH = re.compile(r"[0-9a-f]{8,64}")
BACKBONE, DEPLOYED, ONNX, OURS = "backbone", "deployed", "onnx", "seg_perception"
"""Layouts beside those of `models.checkpoints.PUBLISHED`: weights for `backbone_weights` of a training, a file that
`deploy` made, any segmentation ONNX, a checkpoint of `seg-perception train`."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One checkpoint.

    sha256: of its file, lower case; whole, its first digits (8 or more), or empty where nobody has verified one.
    layout: see `BACKBONE`, or one of `models.checkpoints.PUBLISHED`. mean, scale, channel_order: how an ONNX network
    reads a pixel (see `export.deploy.DeploySpec`); the other layouts know it themselves.
    """

    name: str
    url: str
    layout: str
    taxonomy: str = "cityscapes"
    licence: str = ""
    sha256: str = ""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    channel_order: str = "rgb"

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ConfigError(f"model '{self.name}': a name of lower-case letters, digits, . _ - wanted")
        if not self.url.startswith(("https://", "http://", "file://")):
            raise ConfigError(f"model '{self.name}': url of https, http or file wanted, '{self.url}' seen")
        if self.sha256:
            check_hash(self.sha256, f"model '{self.name}': sha256")

    @classmethod
    def from_mapping(cls, name: str, content: object, where: str) -> Entry:
        """From its YAML; unknown keys and values of another type are refused by name."""
        known = {field.name for field in dataclasses.fields(cls)} - {"name"}
        if not isinstance(content, Mapping) or not {"url", "layout"} <= set(content):
            raise ConfigError(f"{where}: model '{name}': a mapping with url and layout wanted")
        if set(content) - known:
            raise ConfigError(f"{where}: model '{name}': unknown keys {sorted(map(str, set(content) - known))}")
        values: dict[str, Any] = {}
        for key, value in content.items():
            if key in ("mean", "scale"):
                values[key] = tuple(value) if isinstance(value, list) else (value,)
                if len(values[key]) != 3 or not all(type(each) in (int, float) for each in values[key]):
                    raise ConfigError(f"{where}: model '{name}': {key} of three numbers wanted, {value!r} seen")
            elif isinstance(value, str):
                values[key] = value
            else:
                raise ConfigError(f"{where}: model '{name}': {key}: text wanted, {value!r} seen; put it in quotes")
        return cls(name, **values)

    @property
    def file_name(self) -> str:
        """What the downloaded file is called: by the entry's name, whatever a server says."""
        suffix = Path(self.url.partition("?")[0]).suffix
        return self.name + (suffix if suffix in (".pt", ".pth", ".onnx") else ".bin")


def check_hash(text: str, what: str) -> None:
    """Refuse what is not the beginning of a SHA-256 in lower-case hexadecimal digits, or too little of it."""
    if not HASH.fullmatch(text):
        raise ConfigError(f"{what}: 8 to 64 lower-case hexadecimal digits wanted, '{text}' seen")


def own_list() -> Path:
    """Where the user's own entries are: `seg_perception/models.yaml` in this user's folder of settings."""
    return user_folder("XDG_CONFIG_HOME", ".config") / "models.yaml"


def load_entries(own: Path | None = None) -> dict[str, Entry]:
    """By name: those that ship, and over them the user's own (`own_list()` by default). Raises ConfigError."""
    own = own or own_list()
    return {**_read(SHIPPED), **(_read(own) if own.is_file() else {})}


def find_entry(name: str, own: Path | None = None) -> Entry:
    """One entry by name. Raises ConfigError."""
    entries = load_entries(own)
    if name not in entries:
        raise ConfigError(f"model '{name}': one of {sorted(entries)} wanted; `seg-perception models add` adds your own")
    return entries[name]


def add_entry(entry: Entry, own: Path | None = None, *, replace: bool = False) -> Path:
    """Write an entry into the user's list, which is made where it is missing; returns where that is. ConfigError."""
    own = own or own_list()
    entries = _read(own) if own.is_file() else {}
    if entry.name in {**_read(SHIPPED), **entries} and not replace:
        raise ConfigError(f"model '{entry.name}': there is one of that name; --replace puts this one in its place")
    entries[entry.name] = entry
    own.parent.mkdir(parents=True, exist_ok=True)
    content = yaml.safe_dump({"models": {name: _plain(each) for name, each in entries.items()}}, sort_keys=False)
    with tempfile.NamedTemporaryFile("w", dir=own.parent, prefix=f".{own.name}-", delete=False) as file:
        part = Path(file.name)
        file.write(content)
    part.chmod(0o644)
    part.replace(own)
    return own


def _read(path: Path) -> dict[str, Entry]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"list of models {path}: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or set(content) != {"models"} or not isinstance(content["models"], dict):
        raise ConfigError(f"list of models {path}: a mapping 'models' wanted")
    return {str(name): Entry.from_mapping(str(name), entry, str(path)) for name, entry in content["models"].items()}


def _plain(entry: Entry) -> dict[str, object]:
    """Everything that is not at its default, as YAML holds it."""
    plain: dict[str, object] = {}
    for field in dataclasses.fields(entry):
        value = getattr(entry, field.name)
        if field.name != "name" and value != field.default:
            plain[field.name] = list(value) if isinstance(value, tuple) else value
    return plain
