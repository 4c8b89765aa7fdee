"""Maps as files: what is none is refused with a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from seg_perception.errors import MessageError
from seg_perception.scene.map_files import load_map

START = "ply\nformat binary_little_endian 1.0\n"
ONE = "property float x\n"


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ("", "little-endian PLY file wanted"),
        ("\n", "little-endian PLY file wanted"),
        (START, "one element, vertex"),
        (f"{START}element vertex\n{ONE}", "one element, vertex"),
        (f"{START}element vertex 1\n{ONE}{ONE}", "each once"),
        (f"{START}element vertex 2\n{ONE}", "4 bytes of data seen, 8 wanted"),
        (f"{START}element vertex 1\n{ONE}", r"has \['x'\]"),
    ],
)
def test_a_ply_that_is_no_map_is_refused(tmp_path: Path, header: str, sentence: str) -> None:
    path = tmp_path / "map.ply"
    path.write_bytes(f"{header}end_header\n".encode() + bytes(4))
    with pytest.raises(MessageError, match=sentence):
        load_map(path)
