"""One thing that was looked at, and what was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """level: `warn` for what costs speed, labels or comfort, `error` for what cannot work. remedy: empty where ok."""

    level: Level
    what: str
    seen: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.level:<6}{self.what:<15} {self.seen}"
        return f"{line}\n{'':<22}-> {self.remedy}" if self.remedy else line


def ok(what: str, seen: str) -> Finding:
    """As it should be."""
    return Finding("ok", what, seen)


def warn(what: str, seen: str, remedy: str) -> Finding:
    """It will run, with less."""
    return Finding("warn", what, seen, remedy)


def error(what: str, seen: str, remedy: str) -> Finding:
    """It will not run."""
    return Finding("error", what, seen, remedy)
