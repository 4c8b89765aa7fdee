"""One geometry for every ray: what does it hit first, and where was that thing at the ray's own instant?

What never moves is one scene of triangles. Each thing that moves has a scene in its own frame, and rays are carried into
that frame at their own times: so nothing is rebuilt, and each LiDAR column and image row sees the world as it was then.
Open3D's RaycastingScene (Embree) is imported here only, when a world is built.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


@dataclass(frozen=True, slots=True, eq=False)
class _Body:
    """A rigid piece that moves, and the scene of its triangles, shared by all that look the same."""

    actor: Actor
    part: int
    scene: Any
    first_triangle: int


@dataclass(frozen=True, slots=True, eq=False)
class _Cubes:
    """Where actors are throughout a span of time. centres (A, 3), radii (A,); scene: the cubes around these balls."""

    span: tuple[float, float]
    scene: Any
    centres: NDArray[np.float64]
    radii: NDArray[np.float64]


class World:
    """Triangles at rest, and actors that move."""

    def __init__(self, still: Mesh, actors: Sequence[Actor]) -> None:
        meshes, scenes = [still], {}
        self.bodies: list[_Body] = []
        self._still = _scene(still)
        self._cubes: _Cubes | None = None
        self._bodies_of_actor: list[range] = []
        first = len(still)
        for actor in actors:
            self._bodies_of_actor.append(range(len(self.bodies), len(self.bodies) + len(actor.parts)))
            for index, part in enumerate(actor.parts):
                if id(part.mesh) not in scenes:
                    scenes[id(part.mesh)] = (_scene(part.mesh), first)
                    meshes.append(part.mesh)
                    first += len(part.mesh)
                self.bodies.append(_Body(actor, index, *scenes[id(part.mesh)]))
        self.mesh = merge(meshes)
        self.actors = tuple(actors)
        bounds = np.array([actor.bounds() for actor in actors]).reshape(-1, 2, 3)
        self._centre_of_actor = bounds.mean(axis=1)
        swing = np.array([_SWING * any(part.hinge for part in actor.parts) for actor in actors])
        self._radius_of_actor = 0.5 * np.linalg.norm(bounds[:, 1] - bounds[:, 0], axis=1) + swing
        self._instance_of_body = np.array([body.actor.instance for body in self.bodies] + [0], np.uint16)

    def cast(self, origins: NDArray, directions: NDArray, times: NDArray | float) -> Hits:
        """The first thing on each ray: origins, directions (N, 3), unit length; times (N,) seconds, or one for all."""
        rays = _rays(origins, directions)
        found = self._still.cast_rays(_tensor(rays))
        primitive = found["primitive_ids"].numpy()
        distance = found["t_hit"].numpy().astype(np.float64)
        triangle = np.where(primitive == _MISS, NOTHING, primitive.astype(np.int64))
        bary = found["primitive_uvs"].numpy()
        body_index = np.full(len(rays), NOTHING, np.int32)
        for index, body, rows, local in self._near(rays, times, distance):
            found = body.scene.cast_rays(_tensor(local))
            t_hit = found["t_hit"].numpy()
            nearer = t_hit < distance[rows]
            rows = rows[nearer]
            distance[rows] = t_hit[nearer]
            triangle[rows] = found["primitive_ids"].numpy()[nearer].astype(np.int64) + body.first_triangle
            bary[rows] = found["primitive_uvs"].numpy()[nearer]
            body_index[rows] = index
        return Hits(distance, triangle, body_index, bary)

    def occluded(self, origins: NDArray, directions: NDArray, times: NDArray | float, far: float) -> NDArray[np.bool_]:
        """(N,) whether anything lies on the first `far` metres of each ray."""
        rays = _rays(origins, directions)
        blocked = self._still.test_occlusions(_tensor(rays), tnear=0.0, tfar=far).numpy().copy()
        distance = np.where(blocked, 0.0, far)
        for _, body, rows, local in self._near(rays, times, distance):
            blocked[rows] |= body.scene.test_occlusions(_tensor(local), tnear=0.0, tfar=far).numpy()
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
            normals[rows] = np.einsum("...ij,ncj->nci" if T.ndim == 2 else "nij,ncj->nci", T[..., :3, :3], normals[rows])
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

    def _near(self, rays: NDArray, times: NDArray | float, distance: NDArray) -> Iterator[tuple[int, _Body, NDArray, NDArray]]:  # fmt: skip
        """Each body with the rays that may hit it within `distance`, and these in its own frame.

        Rays that meet no actor's cube, which Embree finds at once for all of them, are not looked at one by one.
        """
        if not self.actors or not len(rays):
            return
        span = (float(np.min(times)), float(np.max(times)))
        if self._cubes is None or self._cubes.span != span:
            self._cubes = self._surround(span)
        entry = self._cubes.scene.cast_rays(_tensor(rays))["t_hit"].numpy()
        some = np.flatnonzero(np.isfinite(entry))
        candidates, reach = rays[some], distance[some]
        balls = zip(self.actors, self._bodies_of_actor, self._cubes.centres, self._cubes.radii, strict=True)
        for actor, indices, centre, radius in balls:
            met = _meeting(candidates, centre, radius, reach)
            if not len(met):
                continue
            rows = some[met]
            when = _at(times, rows)
            T_world_actor = actor.path.poses(when)
            for index in indices:
                body = self.bodies[index]
                T = np.broadcast_to(actor.part_poses(body.part, when, T_world_actor), (len(rows), 4, 4))
                yield index, body, rows, _into(candidates[met], T)

    def _surround(self, span: tuple[float, float]) -> _Cubes:
        """A ball, and the cube around it, that holds each actor throughout a span of time."""
        ends = np.array([actor.path.poses(np.array(span)) for actor in self.actors])
        centres = transform_points(ends.reshape(-1, 4, 4), np.repeat(self._centre_of_actor, 2, axis=0)).reshape(-1, 2, 3)
        centre = centres.mean(axis=1)
        radius = self._radius_of_actor + 0.5 * np.linalg.norm(centres[:, 1] - centres[:, 0], axis=1) + 0.05
        return _Cubes(span, _scene(boxes(centre - radius[:, None], centre + radius[:, None], 0)), centre, radius)


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
        import open3d  # noqa: PLC0415
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
def _into(rays, T):  # type: ignore[no-untyped-def]
    """Rays (M, 6) of the world in the frames of T (M, 4, 4)."""
    local = np.empty((len(rays), 6), np.float32)
    for i in range(len(rays)):
        x, y, z = rays[i, 0] - T[i, 0, 3], rays[i, 1] - T[i, 1, 3], rays[i, 2] - T[i, 2, 3]
        for k in range(3):
            local[i, k] = T[i, 0, k] * x + T[i, 1, k] * y + T[i, 2, k] * z
            local[i, 3 + k] = T[i, 0, k] * rays[i, 3] + T[i, 1, k] * rays[i, 4] + T[i, 2, k] * rays[i, 5]
    return local
