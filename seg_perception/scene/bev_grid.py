"""The scene from above, around the vehicle: class, height and drivable probability of each cell.

The grid lies along the axes of the fixed frame and rolls with the vehicle: a cell keeps its place in memory, indices
wrap, and rows and columns that come in are wiped. Ground is what points of ground classes say it is; points of any
other class block a cell where they stand between a step's height and the vehicle's clearance above it. What blocks a
cell and may move fades with time, and goes at once where a later sweep looks through.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.config import BevConfig
from seg_perception.errors import ConfigError
from seg_perception.labels import Taxonomy
from seg_perception.scene import bev_cells
from seg_perception.scene.bev_cells import COARSE, DRIVE, FLOOR, HEIGHT, LINE, MOVES, STUFF, VOTES
from seg_perception.scene.objects import Objects
from seg_perception.scene.voxel_map import movable_classes

FREE, OCCUPIED, NOT_SEEN = 0, 100, -1  # of nav_msgs/OccupancyGrid


@dataclass(frozen=True, slots=True, eq=False)
class BevLayers:
    """The grid as it was at one instant; row r, column c is the cell around x0 + (c + 0.5) cell, y0 + (r + 0.5) cell.

    corner: (x0, y0) in the fixed frame, metres. class_id: (S, S) uint8, UNKNOWN where nothing was seen. ground: (S, S)
    float32 height of the ground in the fixed frame; top: of what stands on it, above the ground, 0 for nothing;
    drivable: probability. These are NaN where nothing is known.
    """

    corner: tuple[float, float]
    cell_m: float
    class_id: NDArray[np.uint8]
    ground: NDArray[np.float32]
    top: NDArray[np.float32]
    drivable: NDArray[np.float32]

    def occupancy(self, drivable_probability: float = 0.5) -> NDArray[np.int8]:
        """(S, S) the data of a nav_msgs/OccupancyGrid: FREE where drivable, OCCUPIED where not, NOT_SEEN."""
        told = np.where(self.drivable >= drivable_probability, np.int8(FREE), np.int8(OCCUPIED))
        np.copyto(told, np.int8(NOT_SEEN), where=np.isnan(self.drivable))
        return told


class BevGrid:
    """Points come as (N, 3) float32 along the fixed axes from `origin` (3,) float64, the LiDAR in the fixed frame."""

    def __init__(self, taxonomy: Taxonomy, config: BevConfig) -> None:
        self.config = config
        self.side = math.ceil(config.side_m / config.cell_m / COARSE) * COARSE
        if self.side > 4096:
            raise ConfigError(f"bev: side_m / cell_m of at most 4096 cells wanted, {self.side} seen")
        self._kind, self._classes = class_kinds(taxonomy), len(taxonomy.trained)
        self._across = self.side // COARSE
        patches = self._across**2
        width = -(-(VOTES + self._classes) // LINE) * LINE
        self._cells = _aligned(patches * COARSE**2 + 1, width)
        self._patches = np.zeros((4, patches + 1), np.float32)
        self._fresh = np.zeros((2, patches + 1), np.float32)
        self._first: NDArray[np.int64] | None = None  # row and column of the lowest patch, counted from the origin
        self._start_ns: int | None = None

    @property
    def nbytes(self) -> int:
        """Its memory."""
        return self._cells.nbytes + self._patches.nbytes + self._fresh.nbytes

    def insert(
        self,
        points: NDArray[np.float32],
        origin: NDArray[np.float64],
        class_id: NDArray[np.uint8],
        weight: NDArray[np.float32],
        stamp_ns: int,
    ) -> None:
        """Roll to `origin`, and let each point that has a class and is finite tell its cell, with its weight, (N,)."""
        self._roll(origin)
        config = self.config
        sweep = (points.reshape(-1), origin, config.cell_m, self._first, class_id, weight, self._kind, self._classes)
        bev_cells.raise_ground(self._patches, self._fresh, *sweep)
        bev_cells.insert(
            self._cells, self._values, self._patches, *sweep,
            config.step_m, config.clearance_m, self._seconds(stamp_ns), config.movable_decay_s
        )  # fmt: skip

    def clear(self, depths: NDArray[np.float32], origin: NDArray[np.float64], reach: float = 60.0) -> int:
        """Unblock the cells, no further than `reach`, that a sweep looks through; depths: of `free_space.depths_of`.
        Returns how many.
        """
        if self._first is None:
            return 0
        return bev_cells.clear(
            self._cells, self._values, self._patches, origin, self.config.cell_m, self._first, self._kind,
            self._classes, depths, reach
        )  # fmt: skip

    def layers(self, stamp_ns: int, objects: Objects | None = None) -> BevLayers:
        """The grid now; the boxes of `objects`, where given, are not drivable and take the class of their thing."""
        first = np.zeros(2, np.int64) if self._first is None else self._first
        shape = (self.side, self.side)
        class_id = np.empty(shape, np.uint8)
        ground, top, drive, total, drivable = (np.empty(shape, np.float32) for _ in range(5))
        now, decay_s = self._seconds(stamp_ns), self.config.movable_decay_s
        bev_cells.read(
            self._cells, self._values, self._patches, first, self._kind, self._classes, now, decay_s,
            class_id, ground, top, drive, total
        )  # fmt: skip
        window = (2 * (round(self.config.bridge_m / self.config.cell_m) // 2) + 1,) * 2
        around = [cv2.boxFilter(v, -1, window, normalize=False, borderType=cv2.BORDER_CONSTANT) for v in (drive, total)]
        bev_cells.rate(drive, total, around[0], around[1], drivable)
        y0, x0 = first * COARSE * self.config.cell_m
        layers = BevLayers((float(x0), float(y0)), self.config.cell_m, class_id, ground, top, drivable)
        if objects is not None:
            _stamp_boxes(layers, objects)
        return layers

    def _roll(self, origin: NDArray[np.float64]) -> None:
        """Wipe the patches that come in as the middle moves on to `origin`."""
        patch, count = self.config.cell_m * COARSE, self._across
        first = np.floor(origin[1::-1] / patch).astype(np.int64) - count // 2
        old = first - count if self._first is None else self._first
        cells = self._cells[:-1].reshape(count, count, -1)
        patches = self._patches[:, :-1].reshape(-1, count, count)
        for axis in (0, 1):
            moved = int(first[axis] - old[axis])
            new = range(old[axis] + count, first[axis] + count) if moved > 0 else range(first[axis], old[axis])
            for index in {k % count for k in (new if abs(moved) < count else range(count))}:
                at = (slice(None),) * axis + (index,)
                cells[at] = 0
                patches[(slice(None), *at)] = 0.0
                patches[(HEIGHT, *at)] = np.nan
        self._first = first

    @property
    def _values(self) -> NDArray[np.float32]:
        """The same memory as float32."""
        return self._cells.view(np.float32)

    def _seconds(self, stamp_ns: int) -> float:
        if self._start_ns is None:
            self._start_ns = stamp_ns
        return (stamp_ns - self._start_ns) * 1e-9


def class_kinds(taxonomy: Taxonomy) -> NDArray[np.uint8]:
    """(256,) of each class: drivable ground, other ground, movable, or else something that stands still, by the
    taxonomy's groups `drivable`, `ground` and `movable`.
    """
    kinds = np.full(256, STUFF, np.uint8)
    kinds[movable_classes(taxonomy)] = MOVES
    for group, kind in (("ground", FLOOR), ("drivable", DRIVE)):
        if group in taxonomy.groups:
            kinds[taxonomy.members([group])] = kind
    return kinds


def _aligned(cells: int, width: int) -> NDArray[np.uint16]:
    """(cells, width) zeros, in memory from the start, each cell in whole cache lines: NumPy's arrays begin anywhere."""
    line = 2 * LINE
    memory = np.full(2 * cells * width + line, 0, np.uint8)
    start = -memory.ctypes.data % line
    return memory[start : start + 2 * cells * width].view(np.uint16).reshape(cells, width)


def _stamp_boxes(layers: BevLayers, objects: Objects) -> None:
    """Draw the boxes of things into class and drivable probability."""
    corner, cell = np.array(layers.corner), layers.cell_m
    for k in range(len(objects)):
        cos, sin = math.cos(objects.yaw[k]), math.sin(objects.yaw[k])
        half = 0.5 * objects.size[k, :2]
        ends = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) * half
        outline = ends @ np.array([[cos, sin], [-sin, cos]]) + objects.centre[k, :2]
        pixels = np.round(((outline - corner) / cell - 0.5) * 16.0).astype(np.int32)
        cv2.fillConvexPoly(layers.class_id, pixels, int(objects.class_id[k]), shift=4)
        cv2.fillConvexPoly(layers.drivable, pixels, 0.0, shift=4)
