"""Maps as files, all with the same columns: .ply (binary, for viewers), .pcd (binary, for PCL), .npz (NumPy).

Each names its classes, as comments in .ply and .pcd. Positions are float32 up to NEAR_M from the origin,
float64 beyond.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import MessageError
from seg_perception.labels import Taxonomy
from seg_perception.pcd import read_pcd
from seg_perception.scene.voxel_map import MapCloud

SUFFIXES = (".ply", ".pcd", ".npz")

NEAR_M = 65536.0
"""Up to here a float32 is right to 2 mm. No drive that starts at its origin comes there, so that no cloud changes its
fields on the way; UTM coordinates begin beyond."""

_PLY_TYPES = {"f4": "float", "f8": "double", "u1": "uchar"}
_CLASS = "class"  # of a comment: class, train id, name
_PLY_DTYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float32": "f4", "float64": "f8",
}  # fmt: skip
_COLUMNS = ("x", "y", "z", "class_id", "probability", "weight")


def check_suffix(path: Path) -> None:
    """Refuse, with MessageError, a name that ends in none of SUFFIXES."""
    if path.suffix not in SUFFIXES:
        raise MessageError(f"map {path}: a name that ends in one of {', '.join(SUFFIXES)} wanted")


def save_map(cloud: MapCloud, path: Path, colors: NDArray[np.uint8]) -> None:
    """Write a map, which appears when it is complete; until then what was there stays. colors: (256, 3) RGB by class.
    Raises MessageError for another suffix, OSError where it cannot."""
    check_suffix(path)
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        _write(cloud, part, colors)
        part.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):
            part.unlink()


def _write(cloud: MapCloud, path: Path, colors: NDArray[np.uint8]) -> None:
    if path.suffix == ".npz":
        columns = {"points": cloud.points, "class_id": cloud.class_id, "probability": cloud.probability}
        np.savez_compressed(path, weight=cloud.weight, classes=np.array(cloud.classes, str), **columns)  # type: ignore[arg-type]
        return
    rgb = colors[cloud.class_id]
    (_write_ply if path.suffix == ".ply" else _write_pcd)(path, cloud, rgb)


def load_map(path: Path, taxonomy: Taxonomy | None = None) -> MapCloud:
    """Read what `save_map` wrote. Raises MessageError for anything else, and for a map that names other classes than
    the taxonomy; OSError where it cannot be opened. A map that names none is believed.
    """
    check_suffix(path)
    if path.suffix == ".npz":
        columns = _read_npz(path)
        classes = tuple(str(name) for name in np.ravel(columns.pop("classes", np.zeros(0, str))))
    else:
        columns = _read_ply(path) if path.suffix == ".ply" else read_pcd(path)
        classes = _named_classes(path)
    if taxonomy is not None and classes and classes != taxonomy.names:
        raise MessageError(
            f"map {path}: its classes are {classes}, those of '{taxonomy.name}' wanted: {taxonomy.names}"
        )
    missing = [name for name in _COLUMNS if name not in columns]
    if missing:
        raise MessageError(f"map {path}: it has {sorted(columns)}, {missing} wanted too")
    lengths = {name: np.shape(columns[name]) for name in _COLUMNS}
    if len(set(lengths.values())) != 1 or len(lengths["x"]) != 1:
        raise MessageError(f"map {path}: columns of one length wanted, {lengths} seen")
    points = np.column_stack([columns[axis] for axis in "xyz"]).astype(np.float64)
    return MapCloud(
        points,
        columns["class_id"].astype(np.uint8),
        columns["probability"].astype(np.float32),
        columns["weight"].astype(np.float32),
        classes,
    )


def position_type(points: NDArray[np.float64]) -> np.dtype:
    """What keeps positions to less than a millimetre: float32 near the origin, else float64."""
    return np.dtype("<f4" if not len(points) or float(np.abs(points).max()) < NEAR_M else "<f8")


def _comments(classes: tuple[str, ...], mark: str) -> list[str]:
    return [f"{mark} {_CLASS} {train_id} {name}" for train_id, name in enumerate(classes)]


def _named_classes(path: Path) -> tuple[str, ...]:
    """The names that the comments of a .ply or .pcd give, in their order."""
    with path.open("rb") as file:
        lines = file.read(1 << 16).decode("latin-1").splitlines()
    words = [line.split(maxsplit=3) for line in lines if line.startswith((f"# {_CLASS} ", f"comment {_CLASS} "))]
    return tuple(word[3] for word in words if len(word) == 4)


def _types(names: tuple[str, ...], cloud: MapCloud) -> list[tuple[str, str]]:
    """Of the columns of a file."""
    small = ("red", "green", "blue", "class_id")
    place = position_type(cloud.points).str
    return [(name, place if name in "xyz" else "u1" if name in small else "<f4") for name in names]


def _write_ply(path: Path, cloud: MapCloud, rgb: NDArray[np.uint8]) -> None:
    names = ("x", "y", "z", "red", "green", "blue", "class_id", "probability", "weight")
    table = np.empty(len(cloud), _types(names, cloud))
    for name, column in zip(
        names, (*cloud.points.T, *rgb.T, cloud.class_id, cloud.probability, cloud.weight), strict=True
    ):
        table[name] = column
    properties = [f"property {_PLY_TYPES[table.dtype[name].str[1:]]} {name}" for name in names]
    start = ["ply", "format binary_little_endian 1.0", *_comments(cloud.classes, "comment")]
    header = [*start, f"element vertex {len(cloud)}", *properties, "end_header"]
    path.write_bytes("\n".join(header).encode() + b"\n" + table.tobytes())


def _write_pcd(path: Path, cloud: MapCloud, rgb: NDArray[np.uint8]) -> None:
    """`rgb` is a float whose bits are 0x00RRGGBB, as PCL has it."""
    names = ("x", "y", "z", "rgb", "class_id", "probability", "weight")
    table = np.empty(len(cloud), _types(names, cloud))
    packed = rgb.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    for name, column in zip(
        names, (*cloud.points.T, packed.view(np.float32), cloud.class_id, cloud.probability, cloud.weight), strict=True
    ):
        table[name] = column
    header = [
        "# .PCD v0.7 - Point Cloud Data file format",
        *_comments(cloud.classes, "#"),
        "VERSION 0.7",
        f"FIELDS {' '.join(names)}",
        "SIZE " + " ".join(str(table.dtype[name].itemsize) for name in names),
        "TYPE " + " ".join("U" if name == "class_id" else "F" for name in names),
        "COUNT " + " ".join("1" for _ in names),
        f"WIDTH {len(cloud)}",
        "HEIGHT 1",
        "VIEWPOINT 0 0 0 1 0 0 0",
        f"POINTS {len(cloud)}",
        "DATA binary",
    ]
    path.write_bytes("\n".join(header).encode() + b"\n" + table.tobytes())


def _read_npz(path: Path) -> dict[str, NDArray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            columns = {name: archive[name] for name in archive.files}
    except OSError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy each have their own for bytes that are spoilt
        raise MessageError(f"map {path}: no .npz file: {error}") from error
    points = columns.pop("points", np.zeros(0))
    if points.ndim != 2 or points.shape[1] != 3:
        raise MessageError(f"map {path}: points of shape Nx3 wanted, {points.shape} seen")
    return columns | dict(zip("xyz", points.T, strict=True))


def _read_ply(path: Path) -> dict[str, NDArray]:
    """The vertices of a binary little-endian PLY file that has no lists in them."""
    content = path.read_bytes()
    head, mark, body = content.partition(b"end_header\n")
    lines = [line.split() for line in head.decode("latin-1").splitlines()]
    if not mark or lines[:1] != [["ply"]] or ["format", "binary_little_endian", "1.0"] not in lines:
        raise MessageError(f"map {path}: a binary little-endian PLY file wanted")
    elements = [words for words in lines if words and words[0] == "element"]
    properties = [words[1:] for words in lines if words and words[0] == "property"]
    known = all(len(words) == 2 and words[0] in _PLY_DTYPES for words in properties)
    known &= len({words[-1] for words in properties}) == len(properties)
    if len(elements) != 1 or elements[0][1:2] != ["vertex"] or not elements[0][-1].isdecimal() or not known:
        raise MessageError(f"map {path}: one element, vertex, of plain properties, each once, wanted, {elements} seen")
    dtype = np.dtype([(name, "<" + _PLY_DTYPES[kind]) for kind, name in properties])
    count = int(elements[0][2])
    if len(body) < count * dtype.itemsize:
        raise MessageError(f"map {path}: {len(body)} bytes of data seen, {count * dtype.itemsize} wanted")
    table = np.frombuffer(body, dtype, count)
    return {name: table[name] for name in dtype.names or ()}
