"""Every layout gives the same samples: RGB pixels, train ids, void where nothing is said."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from seg_perception.errors import ConfigError
from seg_perception.labels import Taxonomy
from seg_perception.training.config import SourceConfig
from seg_perception.training.datasets import Joined, open_source, open_sources

VOID = 255
RGB = np.zeros((4, 6, 3), np.uint8) + np.array([200, 100, 50], np.uint8)


def write(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture[..., ::-1] if picture.ndim == 3 else picture)


def opened(tmp_path: Path, kind: str, taxonomy: str = "cityscapes", **settings):
    return open_source(SourceConfig(str(tmp_path), kind, **settings), Taxonomy.load(taxonomy), tmp_path / "cache")


def cityscapes(tmp_path: Path) -> None:
    stem = "ulm_000001_000019"
    ids = np.zeros((4, 6), np.uint8)
    ids[0], ids[1], ids[2] = 7, 26, 9  # road, car, parking
    train_ids = np.full((4, 6), VOID, np.uint8)
    train_ids[0], train_ids[1] = 0, 13
    instances = ids.astype(np.uint16)
    instances[1, 3:] = 26001
    write(tmp_path / "leftImg8bit/train/ulm" / f"{stem}_leftImg8bit.png", RGB)
    for name, picture in (("labelIds", ids), ("labelTrainIds", train_ids), ("instanceIds", instances)):
        write(tmp_path / "gtFine/train/ulm" / f"{stem}_gtFine_{name}.png", picture)


@pytest.mark.parametrize("labels", ["auto", "ids", "train_ids"])
def test_cityscapes_ids_and_train_ids_give_the_same(tmp_path: Path, labels: str) -> None:
    cityscapes(tmp_path)
    source = opened(tmp_path, "cityscapes", split="train", labels=labels)
    sample = source[0]
    assert len(source) == 1 and (sample.pixels == RGB).all()
    assert sample.labels.tolist() == [[0] * 6, [13] * 6, [VOID] * 6, [VOID] * 6]
    assert sample.instances is not None
    assert sample.instances[1].tolist() == [0, 0, 0, 26001, 26001, 26001] and not sample.instances[0].any()


@pytest.mark.parametrize(("folder", "suffix"), [("trainannot", ""), ("train_labels", "_L")])
def test_camvid_names_void_by_the_number_after_the_last_class(
    tmp_path: Path, taxonomy_file: Path, folder: str, suffix: str
) -> None:
    write(tmp_path / "train" / "0016E5.png", RGB)
    labels = np.repeat(np.array([[0], [1], [2], [3]], np.uint8), 6, axis=1)
    write(tmp_path / folder / f"0016E5{suffix}.png", labels)
    sample = opened(tmp_path, "camvid", str(taxonomy_file))[0]
    assert sample.labels[:, 0].tolist() == [0, 1, 2, VOID] and sample.instances is None


def test_colours_are_those_of_the_taxonomy(tmp_path: Path, taxonomy_file: Path) -> None:
    write(tmp_path / "train" / "a.png", RGB)
    colours = np.array([[90, 90, 100], [60, 140, 60], [200, 30, 40], [1, 2, 3]], np.uint8)
    write(tmp_path / "train_labels" / "a.png", np.repeat(colours[:, None], 6, axis=1))
    sample = opened(tmp_path, "camvid", str(taxonomy_file), labels="colors")[0]
    assert sample.labels[:, 5].tolist() == [0, 1, 2, VOID]


def test_folder_with_instances(street_folder: Path, taxonomy_file: Path) -> None:
    source = opened(street_folder, "folder", str(taxonomy_file), split="train")
    assert len(source) == 6 and source[0].instances is not None
    assert set(np.unique(source[0].instances)) == {0, 1, 2}
    assert (source[0].labels[:4, :4] == VOID).all()


def test_sources_are_joined_thinned_and_repeated(street_folder: Path, taxonomy_file: Path, tmp_path: Path) -> None:
    path = str(street_folder)
    configs = [SourceConfig(path, split="train", every=4), SourceConfig(path, split="val", repeat=3)]
    joined = open_sources(configs, Taxonomy.load(taxonomy_file), tmp_path)
    assert isinstance(joined, Joined) and len(joined) == 2 + 3 * 2
    assert joined[1].name.endswith("004.png") and joined[4].name == joined[2].name


def test_what_cannot_be_read_is_named(tmp_path: Path, taxonomy_file: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        opened(tmp_path / "nowhere", "folder")
    with pytest.raises(ConfigError, match="no pictures with labels"):
        opened(tmp_path, "folder")
    write(tmp_path / "images" / "a.png", RGB)
    with pytest.raises(ConfigError, match=r"labels/a\.png is missing"):
        opened(tmp_path, "folder")
    write(tmp_path / "labels" / "a.png", np.full((4, 6), 3, np.uint8))
    with pytest.raises(ConfigError, match=r"a\.png: train ids 0\.\.2 or 255 wanted, 3 seen"):
        opened(tmp_path, "folder", str(taxonomy_file))[0]
    write(tmp_path / "labels" / "a.png", np.zeros((4, 5), np.uint8))
    with pytest.raises(ConfigError, match=r"size \(5, 4\)"):
        opened(tmp_path, "folder", str(taxonomy_file))[0]
    write(tmp_path / "labels" / "a.png", RGB)
    with pytest.raises(ConfigError, match=r"one channel of 8 bits wanted.*`labels: colors`"):
        opened(tmp_path, "folder", str(taxonomy_file))[0]
    with pytest.raises(ConfigError, match=r"no pixel has a colour of the taxonomy, the first has \(200, 100, 50\)"):
        opened(tmp_path, "folder", str(taxonomy_file), labels="colors")[0]
