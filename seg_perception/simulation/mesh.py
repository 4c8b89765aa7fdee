"""Triangles with what a ray wants to know of them, and the few shapes that everything is made of.

A mesh is a soup: each triangle has its own three corners. Normals are per corner, so that curved things look curved;
uv are metres on the surface unless a shape says otherwise. Winding does not matter: light looks at both sides.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """T triangles. corners, normals: (T, 3, 3); uv: (T, 3, 2); material, class_id, instance: (T,)."""

    corners: Float32
    normals: Float32
    uv: Float32
    material: NDArray[np.int32]
    class_id: NDArray[np.uint8]
    instance: NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.material)

    def moved(self, T: NDArray) -> Mesh:
        """Carried by a (4, 4) that turns, moves and scales; mirrored or stretched normals stay perpendicular."""
        A = np.asarray(T, np.float64)[:3, :3]
        N = np.linalg.inv(A).T
        normals = self.normals @ N.T.astype(np.float32)
        normals /= np.maximum(np.linalg.norm(normals, axis=2, keepdims=True), 1e-12)
        corners = (self.corners @ A.T + np.asarray(T)[:3, 3]).astype(np.float32)
        return replace(self, corners=corners, normals=normals.astype(np.float32))

    def at(self, x: float = 0.0, y: float = 0.0, z: float = 0.0, yaw: float = 0.0, scale: float = 1.0) -> Mesh:
        """Scaled, then turned about z by yaw (radians), then moved."""
        return self.moved(pose(x, y, z, yaw) @ np.diag([scale, scale, scale, 1.0]))

    def labelled(self, class_id: int, instance: int = 0) -> Mesh:
        """The same triangles, of one class and instance."""
        count = len(self)
        return replace(self, class_id=np.full(count, class_id, np.uint8), instance=np.full(count, instance, np.uint16))

    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lowest and highest corner of the axis-aligned box around it."""
        points = self.corners.reshape(-1, 3).astype(np.float64)
        return points.min(axis=0), points.max(axis=0)


def pose(x: float = 0.0, y: float = 0.0, z: float = 0.0, yaw: float = 0.0, pitch: float = 0.0) -> NDArray[np.float64]:
    """(4, 4): pitched about y, turned about z (radians), then moved."""
    cy, sy, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    return np.array([[cy * cp, -sy, cy * sp, x], [sy * cp, cy, sy * sp, y], [-sp, 0.0, cp, z], [0.0, 0.0, 0.0, 1.0]])


def merge(meshes: Iterable[Mesh]) -> Mesh:
    """All triangles in one mesh."""
    parts = list(meshes) or [quads(np.zeros((0, 4, 3)), 0)]
    return Mesh(*(np.concatenate([getattr(part, name) for part in parts]) for name in Mesh.__slots__))


def quads(
    points: ArrayLike, material: int | NDArray, uv: NDArray | None = None, normals: NDArray | None = None
) -> Mesh:
    """Quads (Q, 4, 3), corners in order around each. uv (Q, 4, 2), by default from the position, along the two axes
    that the quad faces least; normals (Q, 4, 3), by default of the flat quad. material: one, or (Q,)."""
    points = np.asarray(points, np.float64).reshape(-1, 4, 3)
    count = len(points)
    flat = cross(points[:, 2] - points[:, 0], points[:, 3] - points[:, 1])
    flat /= np.maximum(np.sqrt(np.einsum("ij,ij->i", flat, flat)), 1e-12)[:, None]
    if normals is None:
        normals = np.repeat(flat[:, None], 4, axis=1)
    if uv is None:
        uv = _box_uv(points, flat)
    split = np.array([[0, 1, 2], [0, 2, 3]])
    triangles = 2 * count
    return Mesh(
        points[:, split].reshape(triangles, 3, 3).astype(np.float32),
        np.asarray(normals)[:, split].reshape(triangles, 3, 3).astype(np.float32),
        np.asarray(uv)[:, split].reshape(triangles, 3, 2).astype(np.float32),
        np.repeat(np.broadcast_to(np.asarray(material, np.int32), (count,)), 2),
        np.full(triangles, 255, np.uint8),
        np.zeros(triangles, np.uint16),
    )


def _box_uv(points: NDArray, flat: NDArray) -> NDArray:
    """(Q, 4, 2): the two coordinates along which a quad lies; height always second."""
    axis = np.abs(flat).argmax(axis=1)
    chosen = np.array([[1, 2], [0, 2], [0, 1]])[axis]
    return np.take_along_axis(points, np.repeat(chosen[:, None], 4, axis=1), axis=2)


def grid(points: NDArray, material: int | NDArray, uv: NDArray | None = None, smooth: bool = True) -> Mesh:
    """A surface through points (R, C, 3); a row that repeats its first point at its end is closed.

    material: one, or (R-1, C-1). uv: (R, C, 2), by default as in `quads`. smooth: normals are averaged at each point.
    """
    points = np.asarray(points, np.float64)
    corners = _cells(points)
    materials = np.broadcast_to(np.asarray(material, np.int32), (points.shape[0] - 1, points.shape[1] - 1)).ravel()
    normals = _cells(_grid_normals(points)).reshape(-1, 4, 3) if smooth else None
    cell_uv = None if uv is None else _cells(uv).reshape(-1, 4, 2)
    return quads(corners.reshape(-1, 4, 3), materials, cell_uv, normals)


def cross(a: NDArray, b: NDArray) -> NDArray:
    """(..., 3) vector products; several times faster than numpy's where there are few."""
    x, y, z = a[..., 0], a[..., 1], a[..., 2]
    u, v, w = b[..., 0], b[..., 1], b[..., 2]
    product = np.empty(a.shape)
    product[..., 0], product[..., 1], product[..., 2] = y * w - z * v, z * u - x * w, x * v - y * u
    return product


def _same(a: NDArray, b: NDArray) -> bool:
    return bool(np.abs(a - b).max() < 1e-9)


def _cells(values: NDArray) -> NDArray:
    """(R-1, C-1, 4, k) corners of each cell, in order around it."""
    return np.stack([values[:-1, :-1], values[1:, :-1], values[1:, 1:], values[:-1, 1:]], axis=2)


def _grid_normals(points: NDArray) -> NDArray:
    """(R, C, 3) means of the normals of the cells around each point, weighted by area; closed grids are seamless."""
    face = cross(points[1:, 1:] - points[:-1, :-1], points[:-1, 1:] - points[1:, :-1])
    total = np.zeros_like(points)
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        total[row : row + face.shape[0], column : column + face.shape[1]] += face
    if _same(points[:, 0], points[:, -1]):
        total[:, 0] += total[:, -1]
        total[:, -1] = total[:, 0]
    if _same(points[0], points[-1]):
        total[0] += total[-1]
        total[-1] = total[0]
    return total / np.maximum(np.linalg.norm(total, axis=2, keepdims=True), 1e-12)


def box(size: Sequence[float], centre: Sequence[float], material: int) -> Mesh:
    """An axis-aligned box."""
    x, y, z = (0.5 * side for side in size)
    c = np.array([[sx * x, sy * y, sz * z] for sx in (-1, 1) for sy in (-1, 1) for sz in (-1, 1)]) + np.asarray(centre)
    faces = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    return quads(c[faces], material)


def boxes(low: NDArray, high: NDArray, material: int) -> Mesh:
    """Many boxes at once from their lowest and highest corners (K, 3) each."""
    unit = box((1.0, 1.0, 1.0), (0.5, 0.5, 0.5), material).corners[None].astype(np.float64)
    corners = low[:, None, None] + unit * (high - low)[:, None, None]
    pairs = corners.reshape(-1, 2, 3, 3)
    return quads(np.stack([pairs[:, 0, 0], pairs[:, 0, 1], pairs[:, 0, 2], pairs[:, 1, 2]], axis=1), material)


def ellipsoid(radii: Sequence[float], centre: Sequence[float], material: int, segments: int = 12) -> Mesh:
    """An ellipsoid of `segments` meridians."""
    theta = np.linspace(0.0, math.pi, segments // 2 + 2)[:, None]
    phi = np.linspace(0.0, 2.0 * math.pi, segments + 1)[None]
    unit = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta) + 0.0 * phi], axis=2)
    return grid(unit * np.asarray(radii) + np.asarray(centre), material)


def tube(path: ArrayLike, radii: ArrayLike, material: int, segments: int = 10, caps: bool = True) -> Mesh:
    """A pipe along points (P, 3) with a radius at each, closed at both ends by flat caps."""
    path = np.asarray(path, np.float64)
    radii = np.broadcast_to(np.asarray(radii, np.float64), (len(path),))
    tangent = np.gradient(path, axis=0)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-12)
    spread = np.ptp(path, axis=0)
    side = np.eye(3)[int(spread.argmin())]
    first = cross(tangent, np.broadcast_to(side, tangent.shape))
    first /= np.maximum(np.linalg.norm(first, axis=1, keepdims=True), 1e-12)
    second = cross(tangent, first)
    phi = np.linspace(0.0, 2.0 * math.pi, segments + 1)
    ring = np.cos(phi)[None, :, None] * first[:, None] + np.sin(phi)[None, :, None] * second[:, None]
    surface = path[:, None] + radii[:, None, None] * ring
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    uv = np.stack(np.broadcast_arrays(phi[None] * radii[:, None], length[:, None]), axis=2)
    parts = [grid(surface, material, uv)]
    if caps:
        for end in (0, -1):
            rim = np.stack([np.broadcast_to(path[end], surface[end].shape), surface[end]])
            parts.append(grid(rim, material, smooth=False))
    return merge(parts)


def capsule(start: Sequence[float], end: Sequence[float], r0: float, r1: float, material: int) -> Mesh:
    """A limb: a cone with a ball at each end."""
    return merge(
        [
            tube([start, end], [r0, r1], material, segments=8, caps=False),
            ellipsoid((r0, r0, r0), start, material, segments=8),
            ellipsoid((r1, r1, r1), end, material, segments=8),
        ]
    )


def disc(radius: float, centre: Sequence[float], axis: int, material: int, segments: int = 16) -> Mesh:
    """A flat disc perpendicular to one axis."""
    phi = np.linspace(0.0, 2.0 * math.pi, segments + 1)
    others = [index for index in range(3) if index != axis]
    rim = np.tile(np.asarray(centre, np.float64), (segments + 1, 1))
    rim[:, others[0]] += radius * np.cos(phi)
    rim[:, others[1]] += radius * np.sin(phi)
    middle = np.broadcast_to(np.asarray(centre, np.float64), rim.shape)
    return grid(np.stack([middle, rim]), material, smooth=False)
