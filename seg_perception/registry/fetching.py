"""From an entry of the list to a deployed network in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import ConfigError, ModelError
from seg_perception.folders import user_folder
from seg_perception.inference.contract import ModelContract
from seg_perception.inference.onnx_file import OnnxFile
from seg_perception.registry.download import MOST_BYTES, Downloaded, download
from seg_perception.registry.entries import BACKBONE, DEPLOYED, ONNX, OURS, Entry, check_hash

Size = tuple[int, int]
DEFAULT_SIZE: Size = (1024, 512)


@dataclass(frozen=True, slots=True)
class DeploymentSizes:
    """(width, height) that pictures are resized to, by default 1024x512 or what an ONNX was exported for; and of the
    camera, where it is to be fixed."""

    network: Size | None = None
    image: Size | None = None

    def __str__(self) -> str:
        network = "default" if self.network is None else "{}x{}".format(*self.network)
        return network if self.image is None else "{}-of-{}x{}".format(network, *self.image)


def default_cache() -> Path:
    """`models` in this user's cache folder."""
    return user_folder("XDG_CACHE_HOME", ".cache") / "models"


def fetch(
    entry: Entry,
    cache: Path,
    *,
    sha256: str = "",
    unverified: bool = False,
    most_bytes: int = MOST_BYTES,
    progress: bool = False,
) -> Downloaded:
    """The entry's file, verified, in `cache`.

    sha256: what the user knows of it, which has to agree with what the list knows. Without any hash the user has to
    take the file as it comes (unverified), and over a plain http connection that is refused. ConfigError, ModelError.
    """
    if sha256:
        check_hash(sha256, "--sha256")
        shorter, longer = sorted((sha256, entry.sha256), key=len)
        if not longer.startswith(shorter):
            raise ConfigError(f"model '{entry.name}': --sha256 {sha256} contradicts {entry.sha256}, which the list has")
    wanted = max(sha256, entry.sha256, key=len)
    if not wanted and not unverified:
        raise ConfigError(
            f"model '{entry.name}': nobody has verified a SHA-256 of {entry.url}; give the one you trust with "
            "--sha256, or take the file as it comes with --unverified"
        )
    if not wanted and entry.url.startswith("http://"):
        raise ConfigError(f"model '{entry.name}': {entry.url}: without a SHA-256 only https is taken")
    return download(entry.url, cache / entry.name / entry.file_name, wanted, most_bytes=most_bytes, progress=progress)


def deployed(
    entry: Entry,
    file: Downloaded,
    cache: Path,
    sizes: DeploymentSizes,
    pictures: Sequence[NDArray[np.uint8]] = (),
) -> Path:
    """The deployed form of an entry's file, made where the cache does not hold it. Raises ModelError, ConfigError.

    pictures: real ones to compare both forms on; by default a synthetic one.
    """
    if entry.layout == BACKBONE:
        raise ModelError(f"model '{entry.name}' is a backbone: name {file.path} as backbone_weights of a training")
    if entry.layout == DEPLOYED:
        ModelContract.from_metadata(OnnxFile.read(file.path).metadata, str(file.path))
        return file.path
    path = cache / entry.name / f"{entry.name}-{file.sha256[:8]}-{sizes}.onnx"
    if path.is_file():
        return path
    if entry.layout == ONNX:
        from seg_perception.export.deploy import DeploySpec, deploy

        spec = DeploySpec(
            taxonomy=entry.taxonomy,
            channel_order=entry.channel_order,
            mean=entry.mean,
            scale=entry.scale,
            network_size=sizes.network,
            image_size=sizes.image,
        )
        deploy(file.path, path, spec, pictures[0] if pictures else None)
    else:
        _export(entry, file.path, path, sizes, pictures)
    return path


def _export(
    entry: Entry, file: Path, path: Path, sizes: DeploymentSizes, pictures: Sequence[NDArray[np.uint8]]
) -> None:
    try:
        from seg_perception.models.checkpoints import PUBLISHED, LoadedNetwork, load_checkpoint, load_published
    except ImportError as error:
        raise ModelError(f"PyTorch is needed to convert {entry.name}: {error}; `pip install torch`") from error
    from seg_perception.export.from_torch import export_network

    if entry.layout == OURS:
        network = load_checkpoint(file)
    elif entry.layout in PUBLISHED:
        model = load_published(entry.layout, file)
        network = LoadedNetwork(model, entry.taxonomy, PUBLISHED[entry.layout].preprocessing)
    else:
        known = [BACKBONE, DEPLOYED, ONNX, OURS, *sorted(PUBLISHED)]
        raise ConfigError(f"model '{entry.name}': layout '{entry.layout}' seen, one of {known} wanted")
    export_network(network, path, sizes.network or DEFAULT_SIZE, pictures, image_size=sizes.image)
