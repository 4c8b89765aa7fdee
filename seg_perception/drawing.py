"""Pictures of what the pipeline saw, with NumPy and OpenCV alone. All pixels are (H, W, 3) uint8, RGB."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.datatypes import UNKNOWN, SemanticCloud
from seg_perception.errors import SegPerceptionError
from seg_perception.geometry.projection import Projection
from seg_perception.geometry.transforms import transform_points
from seg_perception.inference.segmenter import Segmentation
from seg_perception.labels import Taxonomy

BACKGROUND = (244, 244, 246)  # light: most class colours are dark
INK = (60, 62, 68)
REACH_M = 45.0  # how far ahead a view from above shows
UNSEEN = np.array([196, 198, 202], np.uint8)
_BAND_ROWS = 64
_FONT = cv2.FONT_HERSHEY_SIMPLEX

Pixels = NDArray[np.uint8]


def overlay(pixels: Pixels, label_image: NDArray[np.uint8], colors: NDArray[np.uint8], alpha: float) -> Pixels:
    """The picture with its labels (H, W) laid over it; alpha 0: the picture alone, 1: the labels alone."""
    return cv2.addWeighted(pixels, 1.0 - alpha, colors[label_image], alpha, 0.0)  # type: ignore[return-value]


def confidence_image(segmentation: Segmentation) -> NDArray[np.uint8]:
    """(H, W): how probable the label of each pixel is, 255 for certain, 0 where the network says nothing."""
    width, height = segmentation.size
    picture = np.empty((height, width), np.uint8)
    for top in range(0, height, _BAND_ROWS):  # in bands: the places of a whole picture take 16 bytes a pixel
        rows = picture[top : top + _BAND_ROWS]
        uv = np.empty((*rows.shape, 2))
        uv[..., 0], uv[..., 1] = np.arange(width), np.arange(top, top + len(rows))[:, None]
        rows[:] = np.rint(segmentation.sample(uv.reshape(-1, 2)).probability * 255.0).reshape(rows.shape)
    return picture


def painted_points(
    pixels: Pixels, points: Projection, class_id: NDArray[np.uint8], colors: NDArray[np.uint8], radius_px: int = 2
) -> Pixels:
    """The picture, paled to grey, with each of `points` as a dot in the colour of its class, class_id (M,) beside them.

    Far points are drawn first, so that near ones lie on top, as they do in the world.
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    canvas = np.repeat((grey * 0.55 + 110).astype(np.uint8)[:, :, None], 3, axis=2)
    order = np.argsort(-points.distance)
    centres = np.floor(points.uv[order] + 0.5).astype(int)
    for centre, color in zip(centres.tolist(), colors[class_id[order]].tolist(), strict=True):
        cv2.circle(canvas, centre, radius_px, color, -1, cv2.LINE_AA)
    return canvas


def points_by_range(pixels: Pixels, points: Projection, edges: Projection, reach_m: float = 60.0) -> Pixels:
    """The picture with each of `points` as a dot from red (near) to blue (`reach_m`), and `edges` as white ones."""
    share = np.clip(1.0 - np.sqrt(points.distance / reach_m), 0.0, 1.0)
    table = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_TURBO).reshape(-1, 3)[:, ::-1]
    colors = table[(share * 255.0).astype(np.uint8)]  # OpenCV 5 ends the process where it is to colour nothing
    canvas = (pixels * 0.8).astype(np.uint8)
    radius_px = max(1, round(pixels.shape[1] / 1200))
    for dots, shades in ((points, colors), (edges, np.full((len(edges.index), 3), 255, np.uint8))):
        centres = np.floor(dots.uv + 0.5).astype(int)
        for centre, color in zip(centres.tolist(), shades.tolist(), strict=True):
            cv2.circle(canvas, centre, radius_px, color, -1)
    return canvas


def birds_eye_view(
    cloud: SemanticCloud,
    colors: NDArray[np.uint8],
    size: tuple[int, int],
    metres: tuple[float, float, float, float],
    T_vehicle_lidar: NDArray[np.float64] | None = None,
) -> Pixels:
    """The semantic cloud from above in the vehicle's frame, or else in the LiDAR's: x up, y left, a ring every 10 m.

    size: (width, height) pixels. metres: x_min, x_max, y_min, y_max to show. Labelled points lie over unknown ones,
    higher points over lower ones.
    """
    width, height = size
    x_min, x_max, y_min, y_max = metres
    scale = min(width / (y_max - y_min), height / (x_max - x_min))
    origin = (width / 2 + (y_min + y_max) / 2 * scale, height / 2 + (x_min + x_max) / 2 * scale)
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = BACKGROUND
    for ring in range(10, int(max(map(abs, metres))) + 1, 10):
        centre = (round(origin[0]), round(origin[1]))
        cv2.circle(canvas, centre, round(ring * scale), (205, 205, 210), 1, cv2.LINE_AA)
        write(canvas, f"{ring} m", (centre[0] + 4, centre[1] - round(ring * scale) - 3), INK, 0.4)
    finite = np.isfinite(cloud.scan.points).all(axis=1)
    points, class_id = cloud.scan.points[finite], cloud.class_id[finite]
    if T_vehicle_lidar is not None:
        points = transform_points(T_vehicle_lidar, points).astype(np.float32)
    col = np.floor(origin[0] - points[:, 1] * scale).astype(int)
    row = np.floor(origin[1] - points[:, 0] * scale).astype(int)
    inside = np.flatnonzero((row > 0) & (row < height - 1) & (col > 0) & (col < width - 1))
    inside = inside[np.lexsort((points[inside, 2], class_id[inside] != UNKNOWN))]
    shade = np.where((class_id == UNKNOWN)[:, None], UNSEEN, colors[class_id])[inside]
    for down, right in np.ndindex(3, 3):
        canvas[row[inside] + down - 1, col[inside] + right - 1] = shade
    return canvas


def sweep_picture(
    cloud: SemanticCloud,
    views: Mapping[str, tuple[Pixels, Projection]],
    taxonomy: Taxonomy,
    above: Pixels | None = None,
    width: int = 1600,
    T_vehicle_lidar: NDArray[np.float64] | None = None,
) -> Pixels:
    """One sweep at a glance: each camera's image with its painted points, the cloud from above, and a legend.

    views: by camera, its picture and the points that lie in it, as indices into `cloud`; those without a label are not
    drawn; without views the cloud is shown alone. above: a picture to show over the one of a single camera.
    T_vehicle_lidar: as for `birds_eye_view`; LiDARs are mounted looking any way.
    """
    columns = 1 if len(views) <= 2 else 2
    tile_width = round(width * (0.62 if columns == 1 else 0.7) / columns)
    tiles = [] if above is None else [fitted(above, tile_width)]
    for name, (pixels, points) in views.items():
        labelled = points.select(cloud.labelled[points.index])
        radius_px = max(1, round(1.5 * pixels.shape[1] / tile_width))
        painted = painted_points(pixels, labelled, cloud.class_id[labelled.index], taxonomy.colors, radius_px)
        tiles.append(fitted(painted, tile_width))
        write(tiles[-1], name, (8, 18), INK)
    left = _grid(tiles, columns) if tiles else np.empty((width // 2, 0, 3), np.uint8)
    side = width - left.shape[1]
    behind = 10.0 if columns == 1 else REACH_M
    span = side / left.shape[0] * (REACH_M + behind)
    metres = (-behind, REACH_M, -span / 2, span / 2)
    seen_from_above = birds_eye_view(cloud, taxonomy.colors, (side, left.shape[0]), metres, T_vehicle_lidar)
    return np.concatenate(
        [np.concatenate([left, seen_from_above], axis=1), legend(taxonomy, np.unique(cloud.class_id), width)]
    )


def _grid(tiles: list[Pixels], columns: int) -> Pixels:
    """Tiles of one width in rows, ground shown where a tile is lower than its row or a row is not full."""
    rows = []
    for first in range(0, len(tiles), columns):
        row = tiles[first : first + columns]
        canvas = np.empty((max(tile.shape[0] for tile in row), columns * tiles[0].shape[1], 3), np.uint8)
        canvas[:] = BACKGROUND
        for column, tile in enumerate(row):
            canvas[: tile.shape[0], column * tile.shape[1] : (column + 1) * tile.shape[1]] = tile
        rows.append(canvas)
    return np.concatenate(rows)


def legend(taxonomy: Taxonomy, class_ids: NDArray[np.uint8], width: int) -> Pixels:
    """A strip that names the colours of the classes in `class_ids`, in the order of their train ids, UNKNOWN last."""
    shown = set(class_ids.tolist())
    entries = [(c.name, c.color) for c in taxonomy.trained if c.train_id in shown]
    entries += [("no label", tuple(UNSEEN.tolist()))] if UNKNOWN in shown else []
    column, line = 150, 22
    per_row = max(1, width // column)
    canvas = np.empty((line * -(-len(entries) // per_row) + 8, width, 3), np.uint8)
    canvas[:] = BACKGROUND
    for i, (name, color) in enumerate(entries):
        x, y = (i % per_row) * column + 8, (i // per_row) * line + 6
        cv2.rectangle(canvas, (x, y), (x + 14, y + 14), color, -1)
        write(canvas, name, (x + 20, y + 12), INK, 0.42)
    return canvas


def write(canvas: Pixels, text: str, place: tuple[int, int], color: tuple[int, int, int], size: float = 0.5) -> None:
    """Put text on the canvas, its lower left corner at `place` (u, v)."""
    cv2.putText(canvas, text, place, _FONT, size, color, 1, cv2.LINE_AA)


def fitted(pixels: Pixels, width: int) -> Pixels:
    """The picture resized to a width, its aspect kept."""
    height = round(pixels.shape[0] * width / pixels.shape[1])
    shrinks = width < pixels.shape[1]
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)  # type: ignore[return-value]


def save(path: str | Path, pixels: Pixels) -> None:
    """Write an RGB picture to a PNG or JPEG file."""
    if not cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)):
        raise SegPerceptionError(f"picture {path}: cannot be written")
