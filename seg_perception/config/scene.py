"""The sections of what is remembered of the labelled points. See `seg_perception.config` for the whole."""

from __future__ import annotations

from dataclasses import dataclass

from seg_perception.config.section import Section, setting
from seg_perception.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ObjectsConfig(Section):
    """How points of countable things become objects with boxes."""

    enabled: bool = setting(True, "find objects in each sweep")
    in_cloud: bool = setting(
        True, "the cloud waits for them, and tells the track of each point; false: it is published before, without"
    )
    max_range_m: float = setting(100.0, "points further away than this, along x or y, belong to no object",
                                 minimum=1.0, maximum=300.0)  # fmt: skip
    min_points: int = setting(5, "a cluster of fewer points is no object", minimum=1, maximum=10_000)
    cell_m: float = setting(0.15, "side of the cells that points are gathered in", minimum=0.05, maximum=2.0)
    reach_m: float = setting(0.3, "points of one thing are at most this far apart, next to the LiDAR",
                             minimum=0.0, maximum=5.0)  # fmt: skip
    reach_ratio: float = setting(0.005, "what is added to that for each metre of range", minimum=0.0, maximum=0.2)
    vehicle_reach_m: float = setting(0.6, "the same for cars and larger vehicles", minimum=0.0, maximum=5.0)
    vehicle_reach_ratio: float = setting(0.02, "the same for cars and larger vehicles", minimum=0.0, maximum=0.2)
    instance_reach_m: float = setting(1.0, "the same for points that an image says are of one thing, where it is more",
                                      minimum=0.0, maximum=20.0)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TrackingConfig(Section):
    """How objects keep their identity from sweep to sweep."""

    carry: bool = setting(
        True, "points of tracked things that have moved are looked for in an image where they are when it is taken"
    )
    confirm_hits: int = setting(3, "a track is told of after it was seen in this many sweeps", minimum=1, maximum=100)
    coast_s: float = setting(1.5, "a track that is not seen is kept, on its course, for so long",
                             minimum=0.0, maximum=60.0)  # fmt: skip
    gate: float = setting(4.0, "an object further than this many standard deviations from a track is not its",
                          minimum=0.5, maximum=20.0)  # fmt: skip
    vehicle_acceleration: float = setting(3.0, "how strongly vehicles brake and turn, m/s²", minimum=0.01, maximum=50.0)
    acceleration: float = setting(1.5, "how strongly everybody else speeds up and turns, m/s²",
                                  minimum=0.01, maximum=50.0)  # fmt: skip


@dataclass(frozen=True, slots=True)
class VoxelMapConfig(Section):
    """The map of voxels around the vehicle, in memory of fixed size."""

    enabled: bool = setting(True, "remember labelled points in a map of voxels")
    voxel_m: float = setting(0.2, "side of a voxel", minimum=0.02, maximum=5.0)
    radius_m: float = setting(60.0, "voxels further than this from the vehicle, along x or y, are forgotten",
                              minimum=1.0, maximum=2000.0)  # fmt: skip
    capacity: int = setting(1 << 19, "most voxels held; a power of two, some 92 bytes each",
                            minimum=1 << 10, maximum=1 << 26)  # fmt: skip
    min_probability: float = setting(0.0, "labels below this cast no vote", minimum=0.0, maximum=1.0)
    movable_decay_s: float = setting(2.0, "votes for movable classes fade to 37 % in this time",
                                     minimum=0.05, maximum=3600.0)  # fmt: skip
    clearing: bool = setting(True, "take out movable voxels that a later sweep looks through")
    clearing_range_m: float = setting(60.0, "as far from the LiDAR as this", minimum=1.0, maximum=300.0)
    period_s: float = setting(1.0, "seconds between clouds of the whole map", minimum=0.0, maximum=3600.0, live=True)
    file: str = setting("", "where ~/save_map writes and ~/load_map reads: a .ply, .pcd or .npz", live=True)

    def __post_init__(self) -> None:
        Section.__post_init__(self)
        if self.capacity & (self.capacity - 1):
            raise ConfigError(f"VoxelMapConfig.capacity: a power of two wanted, {self.capacity} seen")


@dataclass(frozen=True, slots=True)
class BevConfig(Section):
    """The grid seen from above around the vehicle."""

    enabled: bool = setting(True, "keep a grid of classes, heights and drivable ground")
    cell_m: float = setting(0.2, "side of a cell", minimum=0.02, maximum=5.0)
    side_m: float = setting(100.0, "side of the grid, whose middle the vehicle is", minimum=2.0, maximum=1000.0)
    clearance_m: float = setting(2.5, "what hangs higher than this above the ground is no obstacle",
                                 minimum=0.5, maximum=20.0)  # fmt: skip
    step_m: float = setting(0.25, "points of obstacle classes lower than this above the ground do not block a cell",
                            minimum=0.0, maximum=2.0)  # fmt: skip
    movable_decay_s: float = setting(0.5, "votes for movable classes fade to 37 % in this time",
                                     minimum=0.05, maximum=3600.0)  # fmt: skip
    drivable_probability: float = setting(
        0.5, "cells above this are told as drivable", minimum=0.0, maximum=1.0, live=True
    )
    bridge_m: float = setting(1.0, "gaps in the ground up to this wide, between beams, are bridged",
                              minimum=0.0, maximum=10.0)  # fmt: skip
    period_s: float = setting(0.2, "seconds between publications of the grid", minimum=0.0, maximum=3600.0, live=True)
