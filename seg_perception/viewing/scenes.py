"""From what there is to see to what is drawn: colours, boxes, the place to look from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from seg_perception.geometry.transforms import transform_points
from seg_perception.labels import Taxonomy
from seg_perception.viewing.coloring import COLORINGS, class_colors, colored, instance_colors
from seg_perception.viewing.drives import LabelledDrive
from seg_perception.viewing.shown import Boxes, Points, gathered, level, standing
from seg_perception.viewing.splatting import POINT_M, Drawn, Viewpoint

BEHIND = (-11.0, 0.0, 7.5)  # the vehicle: from where a sweep is looked at unless the user says from where
AHEAD = (12.0, 0.0, 0.0)
_MAP_SLANT = np.array([-0.36, -0.5, 0.6])  # direction from a map's middle to the eye
_VOXEL_M = 0.1  # radius of the points of a map alone
_INNER = (3.0, 97.0)  # percent of a map's points that the view is made for


@dataclass(slots=True)
class Shown:
    """What somebody looks at, and how. index: of the sweep; together: how many sweeps up to it are laid together."""

    color: str = "class"
    index: int = 0
    together: int = 1
    boxes: bool = True
    map: bool = True


@dataclass(slots=True)
class Scene:
    """A map, or a drive, or both, as something to draw. place: (3,) from where to look, see `viewpoint`; None for a
    good one."""

    taxonomy: Taxonomy
    drive: LabelledDrive | None = None
    map: Points | None = None
    place: tuple[float, float, float] | None = None
    shown: Shown = field(default_factory=Shown)

    def step(self, by: int) -> bool:
        """Go on to another sweep; False where there is none, and then nothing changes."""
        wanted = self.shown.index + by
        if self.drive is None or wanted < 0 or self.drive.sweep(wanted) is None:
            return False
        self.shown.index = wanted
        return True

    def draw(self) -> tuple[Drawn, Viewpoint]:
        """What is to be seen now, and the place that suits it."""
        parts, boxes, T_frame_vehicle = [], Boxes.none(), None
        map = self.map
        if self.drive is not None:
            first = max(0, self.shown.index - self.shown.together + 1)
            found = [self.drive.sweep(index) for index in range(first, self.shown.index + 1)]
            sweeps = [sweep for sweep in found if sweep is not None]
            if sweeps:
                newest = sweeps[-1]
                parts.append(gathered(sweeps, self.taxonomy))
                boxes, T_frame_vehicle = newest.boxes, newest.T_frame_vehicle
                map = self.drive.map_at(newest.stamp_ns) if map is None else map
        if map is not None and (self.shown.map or not parts):
            parts.append(standing(map, self.taxonomy) if parts else map)
        points = Points.joined(parts)
        view = self.viewpoint(points, T_frame_vehicle)
        if not self.shown.boxes:
            boxes = Boxes.none()
        by_track = self.shown.color == "instance"
        box_rgb = instance_colors(boxes.track_id) if by_track else class_colors(self.taxonomy)[boxes.class_id]
        point_m = _VOXEL_M if T_frame_vehicle is None else POINT_M
        rgb = colored(points, self.shown.color, self.taxonomy)
        return Drawn(points.xyz, rgb, boxes.edges.reshape(-1, 2, 3), np.repeat(box_rgb, 12, axis=0), point_m), view

    def viewpoint(self, points: Points, T_frame_vehicle: NDArray[np.float64] | None) -> Viewpoint:
        """From `place`: of a drive from the vehicle, x ahead, y left, z up; of a map in its own frame."""
        if T_frame_vehicle is not None:
            eye, target = transform_points(level(T_frame_vehicle), np.array([self.place or BEHIND, AHEAD]))
            return Viewpoint(eye, target)
        xyz = points.xyz[np.isfinite(points.xyz).all(axis=1)]
        low, high = np.percentile(xyz, _INNER, axis=0) if len(xyz) else (np.zeros(3), np.ones(3))
        middle = np.array([*(low + high)[:2] / 2, low[2]])
        reach = max(float(np.linalg.norm((high - low)[:2])), 5.0)
        return Viewpoint(np.array(self.place) if self.place else middle + reach * _MAP_SLANT, middle)


def _next_color(scene: Scene) -> None:
    names = list(COLORINGS)
    scene.shown.color = names[(names.index(scene.shown.color) + 1) % len(names)]


def _toggle(what: str) -> Callable[[Scene], None]:
    return lambda scene: setattr(scene.shown, what, not getattr(scene.shown, what))


KEYS: dict[str, tuple[str, Callable[[Scene], object]]] = {
    "N": ("next sweep", lambda scene: scene.step(1)),
    "P": ("previous sweep", lambda scene: scene.step(-1)),
    "C": (f"another colour: {', '.join(COLORINGS)}", _next_color),
    "B": ("boxes on and off", _toggle("boxes")),
    "M": ("map on and off", _toggle("map")),
}
"""What each key of the window does."""
