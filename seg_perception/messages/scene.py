"""The scene as messages: objects with identity, their markers, the grid from above and the map of voxels.

All lie in the fixed frame. Nested mappings have the fields of the message; clouds are records.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_perception.datatypes import PointCloud
from seg_perception.labels import Taxonomy
from seg_perception.messages.header import header_fields
from seg_perception.messages.pointcloud import cloud_from_columns, packed_colors
from seg_perception.scene.bev_grid import BevLayers
from seg_perception.scene.map_files import position_type
from seg_perception.scene.tracking import Tracks
from seg_perception.scene.voxel_map import MapCloud

ARROW, CUBE, TEXT = 0, 1, 9  # Marker types
ADD, DELETE = 0, 2  # Marker actions

_NO_COVARIANCE = np.zeros(36)
_UPRIGHT = {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}
_NOWHERE = {"position": {"x": 0.0, "y": 0.0, "z": 0.0}, "orientation": _UPRIGHT}
MARKER = {
    "lifetime": {"sec": 1, "nanosec": 0},  # a node that fell silent leaves no boxes behind
    "frame_locked": False,
    "points": [],
    "colors": [],
    "texture_resource": "",
    "texture": {"header": header_fields(0, ""), "format": "", "data": np.zeros(0, np.uint8)},
    "uv_coordinates": [],
    "text": "",
    "mesh_resource": "",
    "mesh_file": {"filename": "", "data": np.zeros(0, np.uint8)},
    "mesh_use_embedded_materials": False,
}
"""What markers have in common."""
_SEEN_ALPHA, _COASTING_ALPHA = 0.6, 0.25
_TEXT_M = 0.8  # height of a letter
_AHEAD_S = 1.0  # an arrow ends where its thing will be after this
_SLOWEST = 0.5  # m/s; anything slower has no arrow
_NEAR_M = 10.0  # from the middle of a grid, to each side: the ground that it is laid on


def detections_fields(tracks: Tracks, taxonomy: Taxonomy, frame_id: str, stamp_ns: int) -> dict[str, Any]:
    """A vision_msgs/Detection3DArray of the tracks that are confirmed, those included that coast.

    class_id is the name of the class, score its smoothed probability, id the number of the track; the box lies along
    the yaw. No covariance is told: zeros.
    """
    header = header_fields(stamp_ns, frame_id)
    detections = []
    for t in np.flatnonzero(tracks.confirmed):
        pose = _pose(tracks.centre[t], tracks.yaw[t])
        hypothesis = {
            "class_id": taxonomy.names[tracks.class_id[t]],
            "score": float(tracks.probability[t]),
        }
        detections.append(
            {
                "header": header,
                "results": [{"hypothesis": hypothesis, "pose": {"pose": pose, "covariance": _NO_COVARIANCE}}],
                "bbox": {"center": pose, "size": _vector(tracks.size[t])},
                "id": str(tracks.track_id[t]),
            }
        )
    return {"header": header, "detections": detections}


def tracks_cloud(tracks: Tracks, colors: NDArray[np.uint8], frame_id: str, stamp_ns: int) -> PointCloud:
    """The same tracks as a cloud, a point for the middle of each, with what a Detection3D has no place for."""
    chosen = np.flatnonzero(tracks.confirmed)
    single: dict[str, NDArray] = {
        "velocity_x": tracks.velocity[chosen, 0],
        "velocity_y": tracks.velocity[chosen, 1],
        "turn_rate": tracks.turn_rate[chosen],
        "yaw": tracks.yaw[chosen],
        **_columns(("length", "width", "height"), tracks.size[chosen]),
        "age_s": tracks.age_s[chosen],
        "coasting_s": tracks.coasting_s[chosen],
        "probability": tracks.probability[chosen],
        "rgb": packed_colors(colors)[tracks.class_id[chosen]].view(np.float32),
    }
    columns = _positions(tracks.centre[chosen])
    columns |= {name: column.astype(np.float32, copy=False) for name, column in single.items()}
    columns |= {"track_id": tracks.track_id[chosen], "class_id": tracks.class_id[chosen]}
    return cloud_from_columns(frame_id, stamp_ns, columns)


class Markers:
    """Boxes, names and arrows for people to look at; what was drawn before and is no more is told to be deleted."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        self._taxonomy = taxonomy
        self._drawn: set[tuple[str, int]] = set()

    def fields(self, tracks: Tracks, frame_id: str, stamp_ns: int) -> dict[str, Any]:
        """A visualization_msgs/MarkerArray of the confirmed tracks, in the colours of their classes; paler where they
        coast. An arrow reaches as far as its thing will come in a second.
        """
        header = header_fields(stamp_ns, frame_id)
        markers = []
        for t in np.flatnonzero(tracks.confirmed):
            markers += self._of_track(tracks, int(t), header)
        shown = {(marker["ns"], marker["id"]) for marker in markers}
        gone = [
            {**MARKER, **_place(_NOWHERE, (0.0, 0.0, 0.0), (0.0,) * 4), "header": header, "ns": ns, "id": number}
            | {"type": CUBE, "action": DELETE}
            for ns, number in sorted(self._drawn - shown)
        ]
        self._drawn = shown
        return {"markers": gone + markers}

    def _of_track(self, tracks: Tracks, t: int, header: dict[str, Any]) -> list[dict[str, Any]]:
        train_id, number = int(tracks.class_id[t]), int(tracks.track_id[t])
        red, green, blue = (self._taxonomy.colors[train_id] / 255.0).tolist()
        alpha = _COASTING_ALPHA if tracks.coasting_s[t] > 0.0 else _SEEN_ALPHA
        centre, size = tracks.centre[t], tracks.size[t]
        base = {**MARKER, "header": header, "id": number, "action": ADD}
        box = {"ns": "boxes", "type": CUBE} | _place(_pose(centre, tracks.yaw[t]), size, (red, green, blue, alpha))
        above = centre[0], centre[1], centre[2] + 0.5 * size[2] + _TEXT_M
        name = {"ns": "names", "type": TEXT, "text": f"{self._taxonomy.names[train_id]} {number}"} | _place(
            _pose(above, 0.0), (0.0, 0.0, _TEXT_M), (1.0, 1.0, 1.0, 1.0)
        )
        speed = float(np.hypot(*tracks.velocity[t]))
        if speed < _SLOWEST:
            return [base | box, base | name]
        ahead = math.atan2(tracks.velocity[t, 1], tracks.velocity[t, 0])
        arrow = {"ns": "velocities", "type": ARROW} | _place(
            _pose(centre, ahead), (_AHEAD_S * speed, 0.2, 0.2), (red, green, blue, 1.0)
        )
        return [base | box, base | name, base | arrow]


def occupancy_fields(layers: BevLayers, drivable_probability: float, frame_id: str, stamp_ns: int) -> dict[str, Any]:
    """A nav_msgs/OccupancyGrid: 0 where drivable, 100 where not, -1 where not seen; at the height of the ground around
    its middle, as far as that is known, else at 0.
    """
    header = header_fields(stamp_ns, frame_id)
    rows, columns = layers.drivable.shape
    near = round(_NEAR_M / layers.cell_m)
    ground = layers.ground[
        max(rows // 2 - near, 0) : rows // 2 + near, max(columns // 2 - near, 0) : columns // 2 + near
    ]
    known = ground[np.isfinite(ground)]
    height = float(np.median(known)) if len(known) else 0.0
    origin = {"position": _vector((*layers.corner, height)), "orientation": _UPRIGHT}
    info = {"map_load_time": header["stamp"], "resolution": float(layers.cell_m), "width": columns, "height": rows}
    data = layers.occupancy(drivable_probability).reshape(-1)
    return {"header": header, "info": {**info, "origin": origin}, "data": data}


def bev_cloud(layers: BevLayers, colors: NDArray[np.uint8], frame_id: str, stamp_ns: int) -> PointCloud:
    """The cells of which class and ground are known, a point on the ground in the middle of each.

    height: of what stands on it, metres; drivable: probability, NaN where not known.
    """
    row, column = np.nonzero((layers.class_id < len(colors) - 1) & np.isfinite(layers.ground))
    x0, y0 = layers.corner
    class_id = layers.class_id[row, column]
    x, y = x0 + (column + 0.5) * layers.cell_m, y0 + (row + 0.5) * layers.cell_m
    columns = _positions(np.column_stack([x, y, layers.ground[row, column]])) | {
        "height": layers.top[row, column],
        "drivable": layers.drivable[row, column],
        "rgb": packed_colors(colors)[class_id].view(np.float32),
        "class_id": class_id,
    }
    return cloud_from_columns(frame_id, stamp_ns, columns)


def map_cloud(voxels: MapCloud, colors: NDArray[np.uint8], frame_id: str, stamp_ns: int) -> PointCloud:
    """The middle of every voxel, with its class, the probability of that, and the sum of all votes as its weight."""
    rgb = packed_colors(colors)[voxels.class_id].view(np.float32)
    columns = _positions(voxels.points)
    columns |= {"rgb": rgb, "probability": voxels.probability, "weight": voxels.weight, "class_id": voxels.class_id}
    return cloud_from_columns(frame_id, stamp_ns, columns)


def _positions(points: NDArray) -> dict[str, NDArray]:
    """x, y, z: float32, as everybody reads them; float64 where float32 would not tell millimetres."""
    return _columns("xyz", points.astype(position_type(points)))


def _columns(names: Iterable[str], table: NDArray) -> dict[str, NDArray]:
    return {name: table[:, index] for index, name in enumerate(names)}


def _vector(xyz: Any) -> dict[str, float]:
    return dict(zip("xyz", map(float, xyz), strict=True))


def _pose(centre: Any, yaw: float) -> dict[str, Any]:
    turn = {"x": 0.0, "y": 0.0, "z": math.sin(0.5 * yaw), "w": math.cos(0.5 * yaw)}
    return {"position": _vector(centre), "orientation": turn}


def _place(pose: dict[str, Any], size: Any, rgba: tuple[float, ...]) -> dict[str, Any]:
    return {"pose": pose, "scale": _vector(size), "color": dict(zip("rgba", rgba, strict=True))}
