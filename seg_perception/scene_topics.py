"""What of the scene is told, on which topic and when: the same for the live node and for the replay of a bag."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from seg_perception.config import Config
from seg_perception.datatypes import PointCloud
from seg_perception.labels import Taxonomy
from seg_perception.messages.scene import (
    Markers,
    bev_cloud,
    detections_fields,
    map_cloud,
    occupancy_fields,
    tracks_cloud,
)
from seg_perception.scene.memory import SceneMemory, SceneUpdate

OBJECTS, MARKERS, TRACKS = "objects", "objects/markers", "objects/tracks"
DRIVABLE, CLASSES, MAP = "bev/drivable", "bev/classes", "map"
LATCHED = (DRIVABLE, MAP)  # Nav2 and RViz ask for the last one when they come

_CLOUD = "sensor_msgs/msg/PointCloud2"
_OF_OBJECTS = {
    OBJECTS: "vision_msgs/msg/Detection3DArray",
    MARKERS: "visualization_msgs/msg/MarkerArray",
    TRACKS: _CLOUD,
}
_OF_GRID = {DRIVABLE: "nav_msgs/msg/OccupancyGrid", CLASSES: _CLOUD}
_OF_MAP = {MAP: _CLOUD}
_EARLY_NS = 10_000_000  # sweeps do not come to the nanosecond


class SceneTopics:
    """The messages of one scene. types: by topic, below the node's name, of all that is switched on."""

    def __init__(self, config: Config, taxonomy: Taxonomy) -> None:
        self.types: dict[str, str] = {
            **(_OF_OBJECTS if config.objects.enabled else {}),
            **(_OF_GRID if config.bev.enabled else {}),
            **(_OF_MAP if config.voxel_map.enabled else {}),
        }
        self._config, self._taxonomy = config, taxonomy
        self._frame = config.motion.fixed_frame
        self._markers = Markers(taxonomy)
        self._told_ns: dict[str, int] = {}

    def reconfigure(self, config: Config) -> None:
        """Go on with these settings, which differ in live ones only."""
        self._config = config

    def messages(
        self, memory: SceneMemory, update: SceneUpdate, wanted: Callable[[str], bool] = lambda topic: True
    ) -> Iterator[tuple[str, PointCloud | Mapping[str, Any]]]:
        """What is due after this sweep on those topics that are wanted: a cloud, or the fields of the message."""
        frame, colors = self._frame, self._taxonomy.colors
        stamp_ns = update.stamp_ns
        tracks = update.tracks
        if tracks is not None:
            if wanted(OBJECTS):
                yield OBJECTS, detections_fields(tracks, self._taxonomy, frame, stamp_ns)
            if wanted(MARKERS):
                yield MARKERS, self._markers.fields(tracks, frame, stamp_ns)
            if wanted(TRACKS):
                yield TRACKS, tracks_cloud(tracks, colors, frame, stamp_ns)
        yield from self.latched(memory, update, wanted)

    def latched(
        self, memory: SceneMemory, update: SceneUpdate, wanted: Callable[[str], bool]
    ) -> Iterator[tuple[str, PointCloud | Mapping[str, Any]]]:
        """What of grid and map is due as of this sweep; asked again of it, that is what nobody wanted before."""
        frame, colors = self._frame, self._taxonomy.colors
        stamp_ns, bev = update.stamp_ns, self._config.bev
        of_grid = [topic for topic in _OF_GRID if memory.grid and wanted(topic)]
        if memory.grid and self._due(of_grid, bev.period_s, stamp_ns):
            layers = memory.grid.layers(stamp_ns, update.objects)
            if DRIVABLE in of_grid:
                yield DRIVABLE, occupancy_fields(layers, bev.drivable_probability, frame, stamp_ns)
            if CLASSES in of_grid:
                yield CLASSES, bev_cloud(layers, colors, frame, stamp_ns)
        of_map = [topic for topic in _OF_MAP if memory.voxel_map and wanted(topic)]
        if memory.voxel_map and self._due(of_map, self._config.voxel_map.period_s, stamp_ns):
            yield MAP, map_cloud(memory.voxel_map.cloud(), colors, frame, stamp_ns)

    def last(self, memory: SceneMemory, update: SceneUpdate) -> Iterator[tuple[str, PointCloud | Mapping[str, Any]]]:
        """Grid and map as of the last sweep, whatever their periods, where they were not told of it already."""
        self._told_ns = {topic: ns for topic, ns in self._told_ns.items() if ns == update.stamp_ns}
        yield from self.latched(memory, update, lambda topic: True)

    def _due(self, topics: Sequence[str], period_s: float, stamp_ns: int) -> bool:
        """Whether for any of these a period has passed on the sweeps' own clock, or that jumped back; all of them are
        told then, so that they go on together."""
        told_ns = [self._told_ns.get(topic) for topic in topics]
        within_ns = max(period_s * 1e9 - _EARLY_NS, 1.0)
        if all(ns is not None and 0 <= stamp_ns - ns < within_ns for ns in told_ns):
            return False
        self._told_ns.update(dict.fromkeys(topics, stamp_ns))
        return True
