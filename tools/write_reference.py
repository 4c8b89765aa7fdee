#!/usr/bin/env python3
"""Write what is generated from the settings: config/perception.schema.json, and the table of docs/interfaces.md.

`make reference` runs it after a change of the settings; with --check it writes nothing and fails where they differ.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from seg_perception.schema import json_schema, parameter_rows

ROOT = Path(__file__).resolve().parent.parent
SCHEMA, PAGE = ROOT / "config" / "perception.schema.json", ROOT / "docs" / "interfaces.md"
TABLE = re.compile(r"(?<=\|---\|---\|---\|---\|---\|\n)(?:\| `.*\n)+")


def wanted() -> dict[Path, str]:
    """Each generated file as it should be."""
    page = PAGE.read_text(encoding="utf-8")
    before, heading, after = page.partition("## Parameters\n")
    rows = "".join(f"{row}\n" for row in parameter_rows())
    return {
        SCHEMA: json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n",
        PAGE: before + heading + TABLE.sub(lambda _: rows, after, count=1),
    }


def main() -> int:
    """Write them, or with --check name those that differ; the exit code is their number then."""
    checking = sys.argv[1:] == ["--check"]
    differing = 0
    for path, text in wanted().items():
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        differing += 1
        print(
            f"{path.relative_to(ROOT)}: {'is not what the settings say; run `make reference`' * checking or 'written'}"
        )
        if not checking:
            path.write_text(text, encoding="utf-8")
    return differing if checking else 0


if __name__ == "__main__":
    sys.exit(main())
