"""Points and lines drawn in perspective with NumPy, numba and OpenCV alone: no display, no graphics driver."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

from seg_perception.drawing import BACKGROUND, Pixels
from seg_perception.geometry.transforms import from_rotation_translation, inverse, transform_points

POINT_M = 0.05
NEAR_M = 0.3  # nothing nearer to the eye is drawn
_SHADE = 0.6  # how dark a point is drawn for each of eight pixels beside it that is nearer
_RINGS_PX = (1, 2)  # how far beside they lie
_SLOPE, _LEAP = 0.03, 0.5  # of the log of distance: what a slanted surface may have, and the most that counts


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """What a picture shows. points: (N, 3) metres, rgb: (N, 3) uint8. lines: (L, 2, 3), line_rgb: (L, 3) uint8.
    point_m: radius of a point.
    """

    points: NDArray[np.float64]
    rgb: NDArray[np.uint8]
    lines: NDArray[np.float64]
    line_rgb: NDArray[np.uint8]
    point_m: float = POINT_M


@dataclass(frozen=True, slots=True, eq=False)
class Viewpoint:
    """An eye at `eye` (3,) that looks at `target` (3,), z upright in the picture. fov_deg: of the picture's height."""

    eye: NDArray[np.float64]
    target: NDArray[np.float64]
    fov_deg: float = 50.0

    @property
    def T_eye_frame(self) -> NDArray[np.float64]:
        """(4, 4): z ahead, x right, y down, as in an optical frame."""
        ahead = self.target - self.eye
        ahead = ahead / np.linalg.norm(ahead)
        right = np.cross(ahead, (0.0, 0.0, 1.0))
        if np.linalg.norm(right) < 1e-6:  # straight down or up: x of the frame is up in the picture
            right = np.array([0.0, -1.0, 0.0])
        right = right / np.linalg.norm(right)
        rotation = np.stack([right, np.cross(ahead, right), ahead], axis=1)
        return inverse(from_rotation_translation(rotation, self.eye))

    def focal_px(self, height: int) -> float:
        """Pixels a radian at the middle of a picture so high."""
        return 0.5 * height / np.tan(0.5 * np.radians(self.fov_deg))


def splat(drawn: Drawn, view: Viewpoint, size: tuple[int, int]) -> Pixels:
    """The picture, (H, W, 3) of size (width, height). No point is under a pixel wide.

    Near points cover far ones. Where the depth leaps, the far side is drawn darker, which shows shapes without light
    (eye-dome lighting, Boucheny 2009). Lines are drawn over all points, the farthest first.
    """
    width, height = size
    focal = view.focal_px(height)
    points = transform_points(view.T_eye_frame, drawn.points)
    color = np.empty((height, width, 3), np.uint8)
    color[:] = BACKGROUND
    depth = np.full((height, width), np.inf, np.float32)
    _splat(points.astype(np.float32), drawn.rgb, focal, drawn.point_m, depth, color)
    picture = (color * _eye_dome(depth)[:, :, None]).astype(np.uint8)
    _draw_lines(picture, transform_points(view.T_eye_frame, drawn.lines.reshape(-1, 3)), drawn.line_rgb, focal)
    return picture


def _eye_dome(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W) 0 to 1: less where pixels beside are nearer. The background is as it is."""
    with np.errstate(divide="ignore"):
        far = np.log(depth)
    empty = np.isinf(far)
    far[empty] = np.float32(np.log(1e4))
    height, width = depth.shape
    leap = np.zeros_like(far)
    for ring in _RINGS_PX:
        padded = np.pad(far, ring, mode="edge")
        for down, right in ((0, 1), (2, 1), (1, 0), (1, 2)):
            beside = padded[ring * down :, ring * right :][:height, :width]
            leap += np.clip(far - beside - _SLOPE, 0.0, _LEAP)
    return np.where(empty, np.float32(1.0), np.exp(-_SHADE * leap)).astype(np.float32)


def _draw_lines(picture: Pixels, ends: NDArray[np.float64], rgb: NDArray[np.uint8], focal: float) -> None:
    """ends: (2 L, 3) in the eye's frame. What lies behind the eye is cut off."""
    height, width = picture.shape[:2]
    lines = ends.reshape(-1, 2, 3)
    for index in np.argsort(-lines[:, :, 2].mean(axis=1)):
        near, far = sorted(lines[index], key=lambda end: end[2])
        if far[2] <= NEAR_M:
            continue
        if near[2] < NEAR_M:
            near = near + (far - near) * (NEAR_M - near[2]) / (far[2] - near[2])
        uv = [(width / 2 + focal * end[0] / end[2], height / 2 + focal * end[1] / end[2]) for end in (near, far)]
        inside, a, b = cv2.clipLine((0, 0, width, height), *(tuple(np.clip(end, -1e6, 1e6).astype(int)) for end in uv))
        if inside:
            cv2.line(picture, a, b, rgb[index].tolist(), 1 + (near[2] < 25.0), cv2.LINE_AA)


@numba.njit(cache=True, nogil=True)
def _splat(points, rgb, focal, point_m, depth, color):  # type: ignore[no-untyped-def]
    """Discs with a depth buffer; points (N, 3) in the eye's frame."""
    height, width = depth.shape
    for i in range(len(points)):
        z = points[i, 2]
        if not z > NEAR_M:
            continue
        u, v = 0.5 * width + focal * points[i, 0] / z, 0.5 * height + focal * points[i, 1] / z
        radius = min(max(focal * point_m / z, 0.8), 5.0)
        if not (-radius < u < width + radius and -radius < v < height + radius):
            continue
        for row in range(max(int(v - radius), 0), min(int(v + radius) + 1, height)):
            for col in range(max(int(u - radius), 0), min(int(u + radius) + 1, width)):
                if (row - v) ** 2 + (col - u) ** 2 <= radius * radius and z < depth[row, col]:
                    depth[row, col] = z
                    for k in range(3):
                        color[row, col, k] = rgb[i, k]
