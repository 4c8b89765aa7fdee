"""Which network each camera's pictures go through, and what its classes are called in the cloud."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from seg_perception.config import CameraConfig, Config
from seg_perception.datatypes import NO_INSTANCE, PointLabels
from seg_perception.errors import ConfigError, ModelError
from seg_perception.inference.segmenter import Segmentation, Segmenter
from seg_perception.labels import Taxonomy, class_map

Segmenters = Segmenter | Mapping[str, Segmenter]
"""One network for all cameras, or that of each by its name."""


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A network and what its classes mean. output: the taxonomy of the cloud; class_map: (256,) uint8, train ids of
    `taxonomy` to those of `output`; None where both are one."""

    segmenter: Segmenter
    taxonomy: Taxonomy
    output: Taxonomy
    class_map: NDArray[np.uint8] | None = None

    @classmethod
    def of(cls, segmenter: Segmenter, camera: CameraConfig, config: Config) -> Network:
        """As the settings have it. Raises ModelError for a network of another taxonomy than the settings name, and
        ConfigError for classes that have no place in that of the cloud."""
        taxonomy, output = taxonomies(camera, config)
        contract = segmenter.contract
        if (contract.taxonomy, contract.num_classes) != (taxonomy.name, len(taxonomy.trained)):
            raise ModelError(
                f"model '{contract.source_name}' gives the {contract.num_classes} classes of '{contract.taxonomy}'; "
                f"configured is taxonomy '{taxonomy.name}' with {len(taxonomy.trained)}"
                + f" (camera.{camera.name}.taxonomy)" * bool(camera.taxonomy)
                + "; name the one that it was deployed with"
            )
        return cls(segmenter, taxonomy, output, class_map_of(camera, config))

    def sample(self, segmentation: Segmentation, uv: NDArray[np.floating]) -> PointLabels:
        """What a segmentation of its own says at (N, 2) places `uv`, in the classes of the cloud.

        The probability is that of the class that the network named, where several become one too.
        """
        labels = segmentation.sample(uv)
        if self.class_map is None:
            return labels
        class_id, instance_id = self.class_map[labels.class_id], labels.instance_id
        if instance_id is not None:
            instance_id = np.where(self.output.is_thing[class_id], instance_id, np.uint16(NO_INSTANCE))
        return replace(labels, class_id=class_id, instance_id=instance_id)


def taxonomies(camera: CameraConfig, config: Config) -> tuple[Taxonomy, Taxonomy]:
    """That of the camera's network, and that of the cloud."""
    output = Taxonomy.load(config.taxonomy)
    return Taxonomy.load(camera.taxonomy) if camera.taxonomy else output, output


def class_map_of(camera: CameraConfig, config: Config) -> NDArray[np.uint8] | None:
    """As in `Network`. Raises ConfigError for classes that have no place in the taxonomy of the cloud."""
    taxonomy, output = taxonomies(camera, config)
    if taxonomy.names == output.names and not camera.class_map:
        return None
    try:
        return class_map(camera.class_map, taxonomy, output)
    except ConfigError as error:
        raise ConfigError(f"camera.{camera.name}.class_map: {error}") from error


def by_camera(config: Config, segmenters: Segmenters) -> Mapping[str, Segmenter]:
    """The segmenter of each camera, where one stands for all too."""
    return segmenters if isinstance(segmenters, Mapping) else {c.name: segmenters for c in config.cameras}


def networks(config: Config, segmenters: Segmenters) -> dict[str, Network]:
    """That of each camera. Raises what `Network.of` does."""
    of_camera = by_camera(config, segmenters)
    return {camera.name: Network.of(of_camera[camera.name], camera, config) for camera in config.cameras}
