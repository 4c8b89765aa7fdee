"""Simulated sweeps in a row with their truth, kept on disk, and what a network might have made of their labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from seg_perception.datatypes import LidarScan, PointCloud, SemanticCloud
from seg_perception.labels import Taxonomy
from seg_perception.simulation.classes import C
from seg_perception.simulation.config import DriveConfig
from seg_perception.simulation.drive import Drive
from seg_perception.simulation.ground import ground
from seg_perception.simulation.materials import Materials, Palette
from seg_perception.simulation.raycast import World
from seg_perception.simulation.writing import stamp_of

KEPT = Path("bench_out/scene_drives")
TAXONOMY = Taxonomy.load("cityscapes")
DRIVES = (
    DriveConfig(seed=1, seconds=8.0, trajectory="turning"),
    DriveConfig(seed=2, seconds=8.0, trajectory="straight"),
)
ROAD_CELL = 0.1
_MARGIN = 60.0  # m of ground around the way that is driven
_ABOVE = 60.0  # m, from where the ground is looked at

CONFUSED = {
    C.ROAD: (C.SIDEWALK, C.TERRAIN), C.SIDEWALK: (C.ROAD, C.TERRAIN), C.BUILDING: (C.WALL, C.VEGETATION, C.FENCE),
    C.WALL: (C.BUILDING, C.FENCE), C.FENCE: (C.WALL, C.VEGETATION), C.POLE: (C.BUILDING, C.VEGETATION),
    C.TRAFFIC_LIGHT: (C.POLE, C.BUILDING), C.TRAFFIC_SIGN: (C.POLE, C.BUILDING), C.VEGETATION: (C.TERRAIN, C.BUILDING),
    C.TERRAIN: (C.VEGETATION, C.SIDEWALK), C.PERSON: (C.RIDER, C.BUILDING), C.RIDER: (C.PERSON, C.BICYCLE),
    C.CAR: (C.TRUCK, C.BUILDING), C.TRUCK: (C.BUS, C.CAR), C.BUS: (C.TRUCK, C.TRAIN), C.TRAIN: (C.BUS, C.BUILDING),
    C.MOTORCYCLE: (C.BICYCLE, C.CAR), C.BICYCLE: (C.MOTORCYCLE, C.FENCE),
}  # fmt: skip
"""What a class is taken for where a network errs."""


@dataclass(frozen=True, slots=True, eq=False)
class TrueSweep:
    """One sweep. points: (N, 3) as measured, carried to the stamp as an exact odometry would, LiDAR frame; class_id,
    instance: (N,). T_world_lidar: (4, 4). tracks, box_class: (B,) of all boxes; T_world_box: (B, 4, 4); size: (B, 3).
    """

    stamp_ns: int
    points: NDArray[np.float32]
    class_id: NDArray[np.uint8]
    instance: NDArray[np.uint16]
    T_world_lidar: NDArray[np.float64]
    tracks: NDArray[np.int64]
    box_class: NDArray[np.int64]
    T_world_box: NDArray[np.float64]
    size: NDArray[np.float64]

    def cloud(self, class_id: NDArray[np.uint8] | None = None, probability: NDArray | None = None) -> SemanticCloud:
        """As a labelled sweep, with the true labels, which are certain, or others."""
        count = len(self.points)
        data = PointCloud("lidar", self.stamp_ns, count, 1, (), np.zeros((count, 0), np.uint8))
        return SemanticCloud(
            LidarScan("lidar", self.stamp_ns, self.points, None, data),
            self.class_id if class_id is None else class_id,
            np.ones(count, np.float32) if probability is None else probability,
            np.zeros(count, np.uint16),
            np.zeros(count, np.uint8),
            ("truth",),
        )


def sweeps(config: DriveConfig) -> Iterator[TrueSweep]:
    """Every sweep of a drive, one after the other."""
    folder, drive = KEPT / _name(config), None
    count = round(config.seconds * config.lidar.rate_hz)
    for index in tqdm(range(count), desc=f"drive {config.seed}", unit="sweep", disable=None):
        path = folder / f"{index:04d}.npz"
        if not path.is_file():
            drive = drive or Drive(config)
            folder.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                np.savez(file, **_simulate(drive, index))
        with np.load(path) as kept:
            yield TrueSweep(int(kept["stamp_ns"]), *(kept[name] for name in TrueSweep.__slots__[1:]))


def _name(config: DriveConfig) -> str:
    return f"{config.trajectory}_{config.seed}_{config.seconds:g}s_{config.speed:g}mps"


def _simulate(drive: Drive, index: int) -> dict[str, object]:
    sweep = drive.sweep(index)
    mount = drive.config.lidar.T_base_lidar
    T, T_each = drive.T_world_base(sweep.time) @ mount, drive.T_world_base(sweep.times) @ mount
    world = np.einsum("nij,nj->ni", T_each[:, :3, :3], sweep.points) + T_each[:, :3, 3]
    boxes = drive.boxes(sweep.time)
    return {
        "stamp_ns": stamp_of(sweep.time),
        "points": ((world - T[:3, 3]) @ T[:3, :3]).astype(np.float32),
        "class_id": sweep.class_id,
        "instance": sweep.instance,
        "T_world_lidar": T,
        "tracks": np.array([box.track for box in boxes]),
        "box_class": np.array([box.class_id for box in boxes]),
        "T_world_box": np.array([box.T_world_box for box in boxes]),
        "size": np.array([box.size for box in boxes]),
    }


def true_road(config: DriveConfig) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Where the ground is road, looked at from straight above with nothing standing on it, in cells of ROAD_CELL; and
    the lower corner (x, y) of the picture, whose row is y.
    """
    path = KEPT / _name(config) / "road.npz"
    if not path.is_file():
        drive = Drive(config)
        bare = World(ground(drive.plan, Palette(Materials()), np.random.default_rng(0)), [])
        way = drive.T_world_base(drive.sweep_times())[:, :2, 3]
        low, high = way.min(axis=0) - _MARGIN, way.max(axis=0) + _MARGIN
        columns, rows = np.ceil((high - low) / ROAD_CELL).astype(int)
        picture = np.zeros((rows, columns), bool)
        x = low[0] + (np.arange(columns) + 0.5) * ROAD_CELL
        down = np.tile([0.0, 0.0, -1.0], (columns, 1))
        for row in range(rows):
            y = np.full(columns, low[1] + (row + 0.5) * ROAD_CELL)
            hits = bare.cast(np.column_stack([x, y, np.full(columns, _ABOVE)]), down, 0.0)
            picture[row] = bare.class_of(hits, C.SKY) == C.ROAD
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, road=picture, corner=low)
    with np.load(path) as kept:
        return kept["road"], kept["corner"]


def with_errors(sweep: TrueSweep, rng: np.random.Generator, share: float = 0.15) -> tuple[NDArray, NDArray]:
    """Labels and probabilities as a network might give them, anew for each sweep.

    Labels bleed by up to 0.4 degrees over the edges of things, and in patches of 1.5 degrees a class is taken for one
    it resembles, in `share` of them. Where that is so it is less sure (0.3 to 0.8) than elsewhere (0.5 to 1).
    """
    x, y, z = sweep.points.T
    azimuth, elevation = np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y)))
    column, row = ((azimuth + 180.0) / 0.2).astype(int), ((elevation + 40.0) / 0.5).astype(int).clip(0, 199)
    picture = np.full((200, 1802), 255, np.uint8)
    picture[row, column] = sweep.class_id
    bleed = picture[(row + rng.integers(-1, 2)).clip(0, 199), (column + rng.integers(-2, 3)).clip(0, 1801)]
    labels = np.where(bleed == 255, sweep.class_id, bleed)
    patch = ((azimuth + 180.0 + rng.uniform(0, 1.5)) / 1.5).astype(int) * 64
    patch += ((elevation + 40.0 + rng.uniform(0, 1.5)) / 1.5).astype(int).clip(0, 63)
    wrong = rng.random(64 * 300) < share
    choice = rng.integers(0, 6, 64 * 300)
    table = np.array([[CONFUSED.get(k, (k,))[n % len(CONFUSED.get(k, (k,)))] for n in range(6)] for k in range(19)])
    erring = wrong[patch]
    labels = np.where(erring, table[labels, choice[patch]], labels).astype(np.uint8)
    probability = rng.uniform(np.where(erring, 0.3, 0.5), np.where(erring, 0.8, 1.0)).astype(np.float32)
    return labels, probability
