"""One geometry for every ray: what does it hit first, and where was that thing at the ray's own instant?

What never moves is one scene of triangles. Whatever moves stays in its own frame, and rays are carried into that frame
at their own times: so nothing is rebuilt, and each LiDAR column and image row sees the world as it was then.
Open3D's RaycastingScene (Embree) is imported here only, when a world is built.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import ConfigError
from seg_perception.geometry.transforms import transform_points
from seg_perception.simulation.actors import Actor
from seg_perception.simulation.mesh import Mesh, boxes, merge

NOTHING = -1
_SWING = 0.4  # m by which limbs may reach beyond the box of an actor at rest
_MISS = np.uint32(0xFFFFFFFF)


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """What N rays met. distance: (N,) float64 metres, inf where nothing. triangle: (N,) int64 into the world's
    triangles, NOTHING where none. body: (N,) int32 into the world's bodies, NOTHING for what never moves. bary: (N, 2).
    """

    distance: NDArray[np.float64]
    triangle: NDArray[np.int64]
    body: NDArray[np.int32]
    bary: NDArray[np.float32]

    def select(self, rows: NDArray) -> Hits:
        """Those of some rays only."""
        return Hits(self.distance[rows], self.triangle[rows], self.body[rows], self.bary[rows])


@dataclass(frozen=True, slots=True, eq=False)
class _Body:
    """A rigid piece that moves. first, count: its triangles, shared by all that look the same.

    centre, radius: of a ball around it in its own frame. place: where its triangles stand in the scene of all bodies.
    """

    actor: Actor
    part: int
    first: int
    count: int
    centre: NDArray[np.float64]
    radius: float
    place: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class _Cubes:
    """Where actors are throughout a span of time. centres (A, 3), radii (A,); scene: the cubes around these balls."""

    span: tuple[float, float]
    scene: Any
    centres: NDArray[np.float64]
    radii: NDArray[np.float64]


class World:
    """Triangles at rest, and actors that move.

    Embree takes no more than about a thousand scenes in a process, so one scene holds all that moves: each mesh at a
    place of its own, far from the others. A ray enters it at the edge of the ball around that mesh.
    """

    def __init__(self, still: Mesh, actors: Sequence[Actor]) -> None:
        self.actors = tuple(actors)
        distinct = {id(part.mesh): part.mesh for actor in actors for part in actor.parts}
        firsts = np.cumsum([len(still), *(len(mesh) for mesh in distinct.values())])
        bounds = np.array([mesh.bounds() for mesh in distinct.values()]).reshape(-1, 2, 3)
        centres, radii = bounds.mean(axis=1), 0.5 * np.linalg.norm(bounds[:, 1] - bounds[:, 0], axis=1) + 0.01
        places = _places(len(distinct), 2.0 * float(radii.max(initial=0.0)) + 1.0) - centres
        number = {key: index for index, key in enumerate(distinct)}
        self.bodies: list[_Body] = []
        self._bodies_of_actor: list[range] = []
        for actor in actors:
            self._bodies_of_actor.append(range(len(self.bodies), len(self.bodies) + len(actor.parts)))
            for index, part in enumerate(actor.parts):
                k = number[id(part.mesh)]
                self.bodies.append(
                    _Body(actor, index, int(firsts[k]), len(part.mesh), centres[k], float(radii[k]), places[k])
                )
        self.mesh = merge([still, *distinct.values()])
        self._first_moving = len(still)
        self._still = _scene(still)
        self._moving = _scene(merge([mesh.at(*place) for mesh, place in zip(distinct.values(), places, strict=True)]))
        self._instance_of_body = np.array([body.actor.instance for body in self.bodies] + [0], np.uint16)
        box_of = np.array([actor.bounds() for actor in actors]).reshape(-1, 2, 3)
        swing = np.array([_SWING * any(part.hinge for part in actor.parts) for actor in actors])
        self._centre_of_actor = box_of.mean(axis=1)
        self._radius_of_actor = 0.5 * np.linalg.norm(box_of[:, 1] - box_of[:, 0], axis=1) + swing
        self._cubes: _Cubes | None = None

    def cast(self, origins: NDArray, directions: NDArray, times: NDArray | float) -> Hits:
        """The first thing on each ray: origins, directions (N, 3), unit length; times (N,) seconds, or one for all."""
        rays = _rays(origins, directions)
        found = self._still.cast_rays(_tensor(rays))
        primitive = found["primitive_ids"].numpy()
        distance = found["t_hit"].numpy().astype(np.float64)
        triangle = np.where(primitive == _MISS, NOTHING, primitive.astype(np.int64))
        bary = found["primitive_uvs"].numpy()
        body = np.full(len(rays), NOTHING, np.int32)
        moving = self._cast_moving(rays, times, distance)
        if moving is not None:
            rows, hits = moving
            distance[rows], triangle[rows], body[rows], bary[rows] = hits.distance, hits.triangle, hits.body, hits.bary
        return Hits(distance, triangle, body, bary)

    def occluded(self, origins: NDArray, directions: NDArray, times: NDArray | float, far: float) -> NDArray[np.bool_]:
        """(N,) whether anything lies on the first `far` metres of each ray."""
        rays = _rays(origins, directions)
        blocked = self._still.test_occlusions(_tensor(rays), tnear=0.0, tfar=far).numpy().copy()
        moving = self._cast_moving(rays, times, np.where(blocked, 0.0, far))
        if moving is not None:
            blocked[moving[0]] = True
        return blocked

    def class_of(self, hits: Hits, nothing: int) -> NDArray[np.uint8]:
        """(N,) class of what was hit, `nothing` where nothing was."""
        classes = self.mesh.class_id[np.maximum(hits.triangle, 0)]
        return np.where(hits.triangle < 0, nothing, classes).astype(np.uint8)

    def instance_of(self, hits: Hits) -> NDArray[np.uint16]:
        """(N,) instance of what was hit, 0 where it has none."""
        still = np.where(hits.triangle < 0, 0, self.mesh.instance[np.maximum(hits.triangle, 0)])
        return np.where(hits.body >= 0, self._instance_of_body[hits.body], still).astype(np.uint16)

    def corner_normals(self, hits: Hits, times: NDArray | float) -> NDArray[np.float32]:
        """(N, 3, 3) normals at the corners of the triangles hit, in the world at each ray's instant."""
        normals = self.mesh.normals[np.maximum(hits.triangle, 0)]
        for index in np.unique(hits.body[hits.body >= 0]):
            rows = np.flatnonzero(hits.body == index)
            T = self.body_poses(int(index), _at(times, rows))
            normals[rows] = np.einsum(
                "...ij,ncj->nci" if T.ndim == 2 else "nij,ncj->nci", T[..., :3, :3], normals[rows]
            )
        return normals

    def body_poses(self, index: int, times: NDArray | float) -> NDArray[np.float64]:
        """T_world_body (N, 4, 4), or (4, 4) for one time."""
        body = self.bodies[index]
        return body.actor.part_poses(body.part, times)

    def carried(self, points: NDArray, body: NDArray, times: NDArray, to: NDArray | float) -> NDArray[np.float64]:
        """Points (N, 3) on things as they were at `times`, where those things are at `to`: (N, 3) in the world."""
        moved = np.array(points, np.float64)
        for index in np.unique(body[body >= 0]):
            rows = np.flatnonzero(body == index)
            T_then = self.body_poses(int(index), _at(times, rows))
            T_now = self.body_poses(int(index), _at(to, rows))
            local = np.einsum("nji,nj->ni", T_then[:, :3, :3], moved[rows] - T_then[:, :3, 3])
            moved[rows] = transform_points(T_now, local)
        return moved

    def _cast_moving(self, rays: NDArray, times: NDArray | float, distance: NDArray) -> tuple[NDArray, Hits] | None:
        """The rays (rows) that meet something that moves within `distance`, and what each of these meets first.

        Rays that meet no actor's cube, which Embree finds at once for all of them, are not looked at one by one.
        """
        if not self.actors or not len(rays):
            return None
        rows, bodies, entry, local = self._approach(rays, times, distance)
        if not len(rows):
            return None
        found = self._moving.cast_rays(_tensor(local))
        triangle = found["primitive_ids"].numpy().astype(np.int64) + self._first_moving
        reached = entry + found["t_hit"].numpy()
        first = np.array([body.first for body in self.bodies])[bodies]
        count = np.array([body.count for body in self.bodies])[bodies]
        kept = np.flatnonzero((reached < distance[rows]) & (triangle >= first) & (triangle < first + count))
        kept = kept[np.lexsort((reached[kept], rows[kept]))]  # of several on one ray the nearest comes first
        rows, nearest = np.unique(rows[kept], return_index=True)
        kept = kept[nearest]
        if not len(rows):
            return None
        return rows, Hits(reached[kept], triangle[kept], bodies[kept], found["primitive_uvs"].numpy()[kept])

    def _approach(
        self, rays: NDArray, times: NDArray | float, distance: NDArray
    ) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """Every pair of a ray and a body whose ball it enters within `distance`: the ray's row, the body, the distance
        of entry, and from there on the ray in the scene of all bodies, each (M,) or (M, 6)."""
        span = (float(np.min(times)), float(np.max(times)))
        cubes = self._cubes  # another thread may replace it
        if cubes is None or cubes.span != span:
            cubes = self._cubes = self._surround(span)
        some = np.flatnonzero(np.isfinite(cubes.scene.cast_rays(_tensor(rays))["t_hit"].numpy()))
        candidates, reach = rays[some], distance[some]
        parts: list[tuple[NDArray, NDArray, NDArray, NDArray]] = []
        balls = zip(self.actors, self._bodies_of_actor, cubes.centres, cubes.radii, strict=True)
        for actor, indices, centre, radius in balls:
            met = _meeting(candidates, centre, radius, reach)
            if not len(met):
                continue
            when = _at(times, some[met])
            T_world_actor = actor.path.poses(when)
            for index in indices:
                body = self.bodies[index]
                T = np.broadcast_to(actor.part_poses(body.part, when, T_world_actor), (len(met), 4, 4))
                entering, entry, local = _enter(candidates[met], T, body.centre, body.radius, body.place, reach[met])
                rows = some[met[entering]]
                parts.append((rows, np.full(len(rows), index, np.int32), entry, local))
        if not parts:
            return np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0), np.zeros((0, 6), np.float32)
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))  # type: ignore[return-value]

    def _surround(self, span: tuple[float, float]) -> _Cubes:
        """A ball, and the cube around it, that holds each actor throughout a span of time."""
        ends = np.array([actor.path.poses(np.array(span)) for actor in self.actors])
        centres = transform_points(ends.reshape(-1, 4, 4), np.repeat(self._centre_of_actor, 2, axis=0)).reshape(
            -1, 2, 3
        )
        centre = centres.mean(axis=1)
        radius = self._radius_of_actor + 0.5 * np.linalg.norm(centres[:, 1] - centres[:, 0], axis=1) + 0.05
        return _Cubes(span, _scene(boxes(centre - radius[:, None], centre + radius[:, None], 0)), centre, radius)


def _places(count: int, spacing: float) -> NDArray[np.float64]:
    """(count, 3) points of a square lattice around the origin."""
    side = max(math.ceil(math.sqrt(count)), 1)
    row, column = np.divmod(np.arange(count), side)
    return np.stack([row - 0.5 * side, column - 0.5 * side, 0.0 * row], axis=1) * spacing


def _at(times: NDArray | float, rows: NDArray) -> NDArray | float:
    return times if np.ndim(times) == 0 else np.asarray(times)[rows]


def _rays(origins: NDArray, directions: NDArray) -> NDArray[np.float32]:
    rays = np.empty((len(directions), 6), np.float32)
    rays[:, :3], rays[:, 3:] = origins, directions
    return rays


def _scene(mesh: Mesh) -> Any:
    """The Open3D scene of a mesh; a mesh without triangles is a scene in which nothing is hit."""
    o3d = _open3d()
    scene = o3d.t.geometry.RaycastingScene()
    if len(mesh):
        indices = np.arange(3 * len(mesh), dtype=np.uint32).reshape(-1, 3)
        scene.add_triangles(_tensor(mesh.corners.reshape(-1, 3)), _tensor(indices))
    return scene


def _tensor(array: NDArray) -> Any:
    return _open3d().core.Tensor.from_numpy(np.ascontiguousarray(array))


def _open3d() -> Any:
    try:
        import open3d
    except ImportError as error:
        raise ConfigError(f"simulation: Open3D wanted, `pip install open3d` brings it: {error}") from error
    return open3d


@numba.njit(cache=True, nogil=True)
def _meeting(rays, centre, radius, distance):  # type: ignore[no-untyped-def]
    """Rows of the rays that touch a sphere before `distance`."""
    rows = np.empty(len(rays), np.int64)
    found = 0
    for i in range(len(rays)):
        cx, cy, cz = centre[0] - rays[i, 0], centre[1] - rays[i, 1], centre[2] - rays[i, 2]
        along = cx * rays[i, 3] + cy * rays[i, 4] + cz * rays[i, 5]
        apart = cx * cx + cy * cy + cz * cz
        if along > -radius and apart - along * along <= radius * radius and along - radius < distance[i]:
            rows[found] = i
            found += 1
    return rows[:found].copy()


@numba.njit(cache=True, nogil=True)
def _enter(rays, T, centre, radius, place, reach):  # type: ignore[no-untyped-def]
    """Rays (M, 6) of the world that enter a ball of the frames of T (M, 4, 4) within `reach` (M,).

    Returns which (K,), how far it is to the ball (K,), and from there on the rays moved by `place` (K, 6).
    """
    which, entry, local = np.empty(len(rays), np.int64), np.empty(len(rays)), np.empty((len(rays), 6), np.float32)
    origin, direction = np.empty(3), np.empty(3)
    found = 0
    for i in range(len(rays)):
        x, y, z = rays[i, 0] - T[i, 0, 3], rays[i, 1] - T[i, 1, 3], rays[i, 2] - T[i, 2, 3]
        along, apart = 0.0, 0.0
        for k in range(3):
            origin[k] = T[i, 0, k] * x + T[i, 1, k] * y + T[i, 2, k] * z
            direction[k] = T[i, 0, k] * rays[i, 3] + T[i, 1, k] * rays[i, 4] + T[i, 2, k] * rays[i, 5]
            along += (centre[k] - origin[k]) * direction[k]
            apart += (centre[k] - origin[k]) ** 2
        depth = radius * radius - (apart - along * along)
        if depth <= 0.0:
            continue
        start = max(along - np.sqrt(depth), 0.0)
        if along + np.sqrt(depth) <= 0.0 or start >= reach[i]:
            continue
        which[found], entry[found] = i, start
        for k in range(3):
            local[found, k] = origin[k] + start * direction[k] + place[k]
            local[found, 3 + k] = direction[k]
        found += 1
    return which[:found].copy(), entry[:found].copy(), local[:found].copy()
