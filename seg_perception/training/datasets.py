"""Pictures with their truth, from folders. NumPy and OpenCV, no torch.

Layouts, by `SourceConfig.kind`:
- folder: `images/*`, `labels/<same name>.png` and, where there is one, `instances/<same name>.png` (uint16, 0: none).
  With a split, the same below `<split>/`. Labels are train ids by default.
- cityscapes: `leftImg8bit/<split>/<city>/*_leftImg8bit.png` and `gtFine/<split>/<city>/*_gtFine_labelIds.png`, or
  `*_labelTrainIds.png` where `labels` is train_ids; `*_instanceIds.png` where there is one.
- camvid: `<split>/*.png` and `<split>annot/*` (or `<split>_labels/*`, a trailing _L in the name allowed): train ids by
  default, the number after the last class being void; or colours of the taxonomy.
- bag: a simulated drive, see `extraction`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.datatypes import UNKNOWN
from seg_perception.errors import ConfigError
from seg_perception.labels import Taxonomy
from seg_perception.training.config import SourceConfig

VOID = UNKNOWN
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
_CITYSCAPES_INSTANCES = 1000  # an instance id below is a group or stuff


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """pixels: (H, W, 3) uint8 RGB. labels: (H, W) uint8 train ids, VOID where the truth says nothing.

    instances: (H, W) uint16, 0 where there is no thing; None where the source does not tell things apart.
    """

    name: str
    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    instances: NDArray[np.uint16] | None


class Source(Protocol):
    """A number of samples, read when asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True, slots=True)
class Files:
    """Where one sample is."""

    image: Path
    labels: Path
    instances: Path | None = None


class FileSource:
    """Samples of which each is a few picture files. labels: train_ids, ids or colors of the taxonomy."""

    def __init__(self, files: Sequence[Files], labels: str, taxonomy: Taxonomy, layout: str = "folder") -> None:
        self._files = list(files)
        self._labels = labels
        self._train_ids = _id_table(taxonomy)
        self._colors = _color_table(taxonomy) if labels == "colors" else None
        self._known_colors = [r << 16 | g << 8 | b for r, g, b in (entry.color for entry in taxonomy.classes)]
        self._classes = len(taxonomy.trained)
        self._first_instance = _CITYSCAPES_INSTANCES if layout == "cityscapes" else 1
        # CamVid's annotations name void by the number after the last class.
        self._void = (VOID, self._classes) if layout == "camvid" else (VOID,)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        """Raises ConfigError naming the file that cannot be used."""
        files = self._files[index]
        pixels = _read(files.image, cv2.IMREAD_COLOR)[..., ::-1]
        labels = self._read_labels(files.labels)
        if labels.shape != pixels.shape[:2]:
            raise ConfigError(f"{files.labels}: size {labels.shape[::-1]}, that of {files.image} wanted")
        instances = None if files.instances is None else self._read_instances(files.instances)
        return Sample(str(files.image), np.ascontiguousarray(pixels), labels, instances)

    def _read_labels(self, path: Path) -> NDArray[np.uint8]:
        if self._colors is not None:
            picture = _read(path, cv2.IMREAD_COLOR).astype(np.int32)
            colors = picture[..., 2] << 16 | picture[..., 1] << 8 | picture[..., 0]
            labels = self._colors[colors]
            if (labels == VOID).all() and not np.isin(colors, self._known_colors).any():
                first = tuple(picture[0, 0, ::-1].tolist())
                raise ConfigError(f"{path}: no pixel has a colour of the taxonomy, the first has {first}")
            return labels
        picture = _read(path, cv2.IMREAD_UNCHANGED)
        if picture.ndim != 2 or picture.dtype != np.uint8:
            remedy = "; where its colours, or those of its palette, are the taxonomy's: `labels: colors`" * (
                picture.ndim == 3
            )
            raise ConfigError(f"{path}: one channel of 8 bits wanted, {picture.dtype} {picture.shape} seen{remedy}")
        if self._labels == "ids":
            return self._train_ids[picture]
        wrong = picture[(picture >= self._classes) & ~np.isin(picture, self._void)]
        if wrong.size:
            raise ConfigError(f"{path}: train ids 0..{self._classes - 1} or {VOID} wanted, {wrong[0]} seen")
        return np.where(picture < self._classes, picture, VOID).astype(np.uint8)

    def _read_instances(self, path: Path) -> NDArray[np.uint16]:
        picture = _read(path, cv2.IMREAD_UNCHANGED)
        if picture.ndim != 2:
            raise ConfigError(f"{path}: one channel wanted, shape {picture.shape} seen")
        return np.where(picture >= self._first_instance, picture, 0).astype(np.uint16)


class Joined:
    """Several sources in a row, each as often as it says."""

    def __init__(self, sources: Sequence[tuple[Source, int]]) -> None:
        self._places = [
            (source, index) for source, repeat in sources for _ in range(repeat) for index in range(len(source))
        ]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Sample:
        source, place = self._places[index]
        return source[place]


def open_sources(configs: Sequence[SourceConfig], taxonomy: Taxonomy, cache: Path) -> Joined:
    """All of them. cache: folder that bags are unpacked in. Raises ConfigError where there is nothing to read."""
    return Joined([(open_source(config, taxonomy, cache), config.repeat) for config in configs])


def open_source(config: SourceConfig, taxonomy: Taxonomy, cache: Path) -> FileSource:
    """One source. Raises ConfigError."""
    root, labels = Path(config.path), config.labels
    if config.kind == "bag":
        from seg_perception.training.extraction import extract_bag

        root = extract_bag(root, cache)
    finders = {"cityscapes": _cityscapes_files, "camvid": _camvid_files}
    if config.kind == "cityscapes":
        labels = "ids" if labels == "auto" else labels
    elif labels == "auto":
        labels = "train_ids"
    if root.is_file():
        raise ConfigError(f"data {root}: a folder wanted, a file seen; of a simulated drive the kind is bag or points")
    if not root.is_dir():
        raise ConfigError(f"data {root}: no such folder")
    files = finders.get(config.kind, _folder_files)(root, config.split, labels)
    if not files:
        raise ConfigError(f"data {root}: no pictures with labels of the layout '{config.kind}', split '{config.split}'")
    return FileSource(files[:: config.every], labels, taxonomy, config.kind)


def _folder_files(root: Path, split: str, _labels: str) -> list[Files]:
    base = root / split
    return [
        Files(image, labels, _existing(base / "instances" / f"{image.stem}.png"))
        for image in _pictures(base / "images")
        if (labels := _wanted(base / "labels" / f"{image.stem}.png"))
    ]


def _cityscapes_files(root: Path, split: str, labels: str) -> list[Files]:
    found = []
    kind = {"train_ids": "labelTrainIds", "ids": "labelIds", "colors": "color"}[labels]
    for image in sorted((root / "leftImg8bit" / (split or "train")).glob("*/*_leftImg8bit.png")):
        stem = image.name.removesuffix("_leftImg8bit.png")
        folder = root / "gtFine" / (split or "train") / image.parent.name
        truth = _wanted(folder / f"{stem}_gtFine_{kind}.png")
        found.append(Files(image, truth, _existing(folder / f"{stem}_gtFine_instanceIds.png")))
    return found


def _camvid_files(root: Path, split: str, _labels: str) -> list[Files]:
    split = split or "train"
    folders = [root / f"{split}annot", root / f"{split}_labels"]
    folder = next((entry for entry in folders if entry.is_dir()), folders[0])
    found = []
    for image in _pictures(root / split):
        names = [folder / f"{image.stem}.png", folder / f"{image.stem}_L.png"]
        found.append(Files(image, _existing(names[1]) or _wanted(names[0])))
    return found


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in _PICTURES)


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None


def _wanted(path: Path) -> Path:
    if not path.is_file():
        raise ConfigError(f"data: {path} is missing")
    return path


def _id_table(taxonomy: Taxonomy) -> NDArray[np.uint8]:
    table = np.full(256, VOID, np.uint8)
    for dataset_id, train_id in taxonomy.train_id_of_id.items():
        if 0 <= dataset_id < 256:
            table[dataset_id] = train_id
    return table


def _color_table(taxonomy: Taxonomy) -> NDArray[np.uint8]:
    """(2**24,) train id by 0xRRGGBB."""
    table = np.full(1 << 24, VOID, np.uint8)
    for entry in taxonomy.classes:
        red, green, blue = entry.color
        if entry.train_id != VOID:
            table[red << 16 | green << 8 | blue] = entry.train_id
    return table


def _read(path: Path, how: int) -> NDArray:
    picture = cv2.imread(str(path), how)
    if picture is None:
        raise ConfigError(f"{path}: no readable picture")
    return picture
