"""Taxonomies: what a train id means, its colour, whether it is countable, and which group it belongs to.

A taxonomy is data: a YAML file, ours (`taxonomies/cityscapes.yaml`) or a user's. Dataset ids are mapped to train ids
here and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from seg_perception.datatypes import UNKNOWN
from seg_perception.errors import ConfigError

SHIPPED = Path(__file__).parent / "taxonomies"
_GROUP_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")  # it becomes part of a topic
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # read for each network of each camera
UNKNOWN_COLOR = (90, 90, 90)
GROUPS_USED: Mapping[str, str] = {
    "freestanding": "more points behind poles, plants, people and vehicles are painted",
    "glazed": "points seen through windows of vehicles are labelled as vehicles",
    "untouchable": "points are painted as sky",
    "ground": "boxes are not stood on the ground, and the grid knows none that is not drivable",
    "drivable": "nothing in the grid is drivable",
    "movable": "only things fade from the map",
    "vehicles": "no thing is joined or followed as a vehicle",
    "vulnerable": "riders are not kept from their cycles, and who lies flat on the ground is no thing",
}
"""The groups of classes that the rest asks for, and what happens to a taxonomy that has not got them."""


@dataclass(frozen=True)
class LabelClass:
    """One class. `train_id` is the network's channel, 255 (void) for classes that no network learns."""

    name: str
    id: int
    train_id: int
    color: tuple[int, int, int]
    thing: bool
    category: str = ""


@dataclass(frozen=True)
class Taxonomy:
    """A named set of classes and of groups of classes."""

    name: str
    classes: tuple[LabelClass, ...]
    groups: Mapping[str, frozenset[str]]

    def __post_init__(self) -> None:
        names = [entry.name for entry in self.classes]
        trained = sorted(entry.train_id for entry in self.classes if entry.train_id != UNKNOWN)
        if len(set(names)) != len(names):
            raise ConfigError(f"taxonomy '{self.name}': class names repeat: {sorted(names)}")
        if trained != list(range(len(trained))) or not trained:
            raise ConfigError(f"taxonomy '{self.name}': train ids 0..{len(trained) - 1} wanted, {trained} seen")
        for group, members in self.groups.items():
            missing = sorted(members - set(names))
            if missing:
                raise ConfigError(f"taxonomy '{self.name}': group '{group}' names unknown classes {missing}")

    @classmethod
    def load(cls, name_or_path: str | Path) -> Taxonomy:
        """A shipped taxonomy by its name, or a user's by the path of its YAML file."""
        path = Path(name_or_path)
        if path.suffix not in (".yaml", ".yml"):
            path = SHIPPED / f"{name_or_path}.yaml"
        if not path.is_file():
            shipped = sorted(entry.stem for entry in SHIPPED.glob("*.yaml"))
            raise ConfigError(
                f"taxonomy '{name_or_path}': no such file; shipped ones are {shipped}, of any other the YAML file is "
                "to be named (docs/models.md)"
            )
        try:
            content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise ConfigError(f"taxonomy {path}: {' '.join(str(error).split())}") from error
        return cls.from_mapping(content, str(path))

    @classmethod
    def from_mapping(cls, content: object, where: str) -> Taxonomy:
        """Build from a mapping with `name`, `classes` and optional `groups`; refuse anything else by name."""
        if not isinstance(content, dict) or not isinstance(content.get("classes"), list):
            raise ConfigError(f"{where}: a mapping with 'name' and a list 'classes' wanted")
        unknown = set(content) - {"name", "classes", "groups"}
        if unknown:
            raise ConfigError(f"{where}: unknown keys {sorted(map(str, unknown))}")
        classes = tuple(_label_class(entry, where) for entry in content["classes"])
        groups = content.get("groups") or {}
        if not isinstance(groups, dict) or not all(isinstance(members, list) for members in groups.values()):
            raise ConfigError(f"{where}: groups: a list of class names for each group wanted, {groups!r} seen")
        return cls(str(content.get("name", where)), classes, {key: frozenset(value) for key, value in groups.items()})

    @cached_property
    def trained(self) -> tuple[LabelClass, ...]:
        """The classes that a network predicts, in the order of their train ids."""
        return tuple(sorted((c for c in self.classes if c.train_id != UNKNOWN), key=lambda c: c.train_id))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Class names in the order of train ids."""
        return tuple(entry.name for entry in self.trained)

    @cached_property
    def colors(self) -> NDArray[np.uint8]:
        """(256, 3) uint8 RGB by train id; every id without a class is the colour of unknown."""
        table = np.full((256, 3), UNKNOWN_COLOR, np.uint8)
        for entry in self.trained:
            table[entry.train_id] = entry.color
        return table

    @cached_property
    def is_thing(self) -> NDArray[np.bool_]:
        """(256,) True for the train ids of countable classes."""
        table = np.zeros(256, bool)
        for entry in self.trained:
            table[entry.train_id] = entry.thing
        return table

    @cached_property
    def train_id_of_id(self) -> Mapping[int, int]:
        """Dataset id to train id, 255 for void."""
        return {entry.id: entry.train_id for entry in self.classes}

    def train_id(self, name: str) -> int:
        """The train id of a class by name."""
        for entry in self.trained:
            if entry.name == name:
                return entry.train_id
        raise ConfigError(f"taxonomy '{self.name}' has no class '{name}'; it has {list(self.names)}")

    def members(self, names: Iterable[str]) -> NDArray[np.bool_]:
        """(256,) True for the train ids of these classes or groups."""
        table = np.zeros(256, bool)
        for name in names:
            for member in self.groups.get(name, frozenset({name})):
                table[self.train_id(member)] = True
        return table


def class_groups(text: str, taxonomy: Taxonomy) -> dict[str, NDArray[np.bool_]]:
    """`drivable, signs=traffic light+traffic sign`: for each name a table (256,), True for its train ids.

    What is named stands for itself: a group or class of the taxonomy, or `unknown` (UNKNOWN), a space in it written as
    _ in the name. Raises ConfigError for a class that is not there, and for a name that no topic can have.
    """
    groups: dict[str, NDArray[np.bool_]] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, equals, content = (part.strip() for part in entry.partition("="))
        members = [member.strip() for member in (content if equals else name).split("+")]
        name = name if equals else name.replace(" ", "_")
        if not _GROUP_NAME.fullmatch(name) or name in groups:
            raise ConfigError(
                f"group '{entry}': a name of its own, of letters, digits and _, a letter first, wanted; write name=a+b"
            )
        table = taxonomy.members(member for member in members if member != "unknown")
        table[UNKNOWN] = "unknown" in members
        groups[name] = table
    return groups


def class_map(text: str, source: Taxonomy, target: Taxonomy) -> NDArray[np.uint8]:
    """(256,) uint8: what each train id of `source` is in `target`.

    Classes of the same name are the same; `text` says the rest, and goes before: `car=van+caravan, unknown=sky`, on the
    left a class of `target` or `unknown`, on the right classes or groups of `source`, or `*` for all that nothing else
    is said of. Raises ConfigError for a name that is not there, for a class that is said twice, and for those that have
    no counterpart and of which `text` says nothing.
    """
    table = np.full(256, UNKNOWN, np.uint8)
    trained = np.arange(256) < len(source.trained)
    rest: int | None = None
    said, told = np.zeros(256, bool), np.zeros(256, bool)  # told: by `text`
    for entry in source.trained:
        if entry.name in target.names:
            table[entry.train_id], said[entry.train_id] = target.train_id(entry.name), True
    for part in filter(None, (part.strip() for part in text.split(","))):
        ours, equals, theirs = (word.strip() for word in part.partition("="))
        if not equals:
            raise ConfigError(f"ours=theirs wanted, '{part}' seen")
        becomes = UNKNOWN if ours == "unknown" else target.train_id(ours)
        if theirs == "*":
            if rest is not None:
                raise ConfigError(f"* once wanted, '{part}' seen after another")
            rest = becomes
            continue
        members = source.members(member.strip() for member in theirs.split("+"))
        twice = [entry.name for entry in source.trained if members[entry.train_id] and told[entry.train_id]]
        if twice:
            raise ConfigError(f"each class once wanted, {twice} of taxonomy '{source.name}' seen again in '{part}'")
        told |= members
        table[members], said[members] = becomes, True
    if rest is not None:
        table[trained & ~said], said = rest, trained
    silent = [entry.name for entry in source.trained if not said[entry.train_id]]
    if silent:
        raise ConfigError(
            f"classes {silent} of taxonomy '{source.name}' have no counterpart in '{target.name}'; say what they are, "
            "as car=van+caravan or unknown=sky, or unknown=* of all of them"
        )
    return table


def _label_class(entry: object, where: str) -> LabelClass:
    """One class from its YAML mapping, every key checked."""
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: each class is a mapping, {entry!r} seen")
    unknown = set(entry) - {"name", "id", "train_id", "color", "thing", "category"}
    missing = {"name", "train_id", "color"} - set(entry)
    if unknown or missing:
        raise ConfigError(f"{where}: class {entry.get('name', entry)!r}: unknown keys {unknown}, missing {missing}")
    color = entry["color"]
    if not (isinstance(color, list) and len(color) == 3 and all(isinstance(c, int) and 0 <= c <= 255 for c in color)):
        raise ConfigError(f"{where}: class '{entry['name']}': color of three values 0..255 wanted, {color!r} seen")
    train_id = entry["train_id"]
    if not (isinstance(train_id, int) and 0 <= train_id <= UNKNOWN):
        raise ConfigError(f"{where}: class '{entry['name']}': train_id 0..255 wanted, {train_id!r} seen")
    return LabelClass(
        name=str(entry["name"]),
        id=int(entry.get("id", train_id)),
        train_id=train_id,
        color=(color[0], color[1], color[2]),
        thing=bool(entry.get("thing", False)),
        category=str(entry.get("category", "")),
    )
