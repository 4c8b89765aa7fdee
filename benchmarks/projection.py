"""From a sweep's points to their labels: our stages against what a typical node does, and against copying the bytes.

Everything is timed in the same run, the methods in turn, so that a busy machine slows all alike: read the ratios.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import cv2
import numpy as np

from seg_perception.config import VisibilityConfig
from seg_perception.geometry.camera import CameraModel
from seg_perception.geometry.projection import project
from seg_perception.geometry.visibility import visible
from seg_perception.inference.contract import Alignment
from seg_perception.inference.segmenter import LogitsSegmentation

RUNS = 50
WIDTH, HEIGHT = 1920, 1080
K = np.array([[1000.0, 0, 959.5], [0, 1000.0, 539.5], [0, 0, 1]])
D = np.array([-0.36, 0.19, 0.001, 0.0005, -0.06])
T_CAM_LIDAR = np.array([[0, -1, 0, 0.1], [0, 0, -1, -0.3], [1, 0, 0, -0.4], [0, 0, 0, 1]], float)

Method = Callable[[], object]


def sweep(count: int, seed: int = 0) -> np.ndarray:
    """(count, 3) float32: 64 beams all around, 3 to 80 m, as a LiDAR on a roof would give; LiDAR frame."""
    rng = np.random.default_rng(seed)
    azimuth = np.repeat(np.linspace(-np.pi, np.pi, count // 64, endpoint=False), 64)
    elevation = np.tile(np.radians(np.linspace(-24.8, 2.0, 64)), count // 64)
    distance = np.minimum(1.8 / np.maximum(np.sin(-elevation), 0.02), rng.uniform(5, 80, azimuth.size))
    flat = distance * np.cos(elevation)
    points = np.column_stack([flat * np.cos(azimuth), flat * np.sin(azimuth), distance * np.sin(elevation)])
    return points.astype(np.float32)


def naive_numpy(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What typical nodes do: homogeneous float64, K alone, round, look up. No lens, no occlusion."""
    homogeneous = np.hstack([points, np.ones((len(points), 1))])
    in_camera = (T_CAM_LIDAR @ homogeneous.T).T[:, :3]
    projected = (K @ in_camera.T).T
    uv = projected[:, :2] / projected[:, 2:]
    inside = (in_camera[:, 2] > 0) & (uv >= 0).all(axis=1) & (uv[:, 0] < WIDTH) & (uv[:, 1] < HEIGHT)
    class_id = np.full(len(points), 255, np.uint8)
    class_id[inside] = labels[uv[inside, 1].astype(int), uv[inside, 0].astype(int)]
    return class_id


def opencv(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """cv2.projectPoints with the lens; points behind the camera are taken out before."""
    ahead = np.flatnonzero(points[:, 0] > 0.5)
    rvec, _ = cv2.Rodrigues(T_CAM_LIDAR[:3, :3])
    uv = cv2.projectPoints(points[ahead].astype(float), rvec, T_CAM_LIDAR[:3, 3], K, D)[0].reshape(-1, 2)
    inside = (uv >= 0).all(axis=1) & (uv[:, 0] < WIDTH) & (uv[:, 1] < HEIGHT)
    class_id = np.full(len(points), 255, np.uint8)
    class_id[ahead[inside]] = labels[uv[inside, 1].astype(int), uv[inside, 0].astype(int)]
    return class_id


def measure(count: int) -> dict[str, float]:
    """Median milliseconds of each method over one sweep of `count` points and one 1920x1080 camera."""
    points = sweep(count)
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 19, (HEIGHT, WIDTH), np.uint8)
    logits = rng.standard_normal((19, HEIGHT // 16 + 1, WIDTH // 16)).astype(np.float32)
    segmentation = LogitsSegmentation(logits, Alignment(1 / 16, 0.0, 1 / 16, 0.0), (WIDTH, HEIGHT))
    camera = CameraModel(WIDTH, HEIGHT, K, "plumb_bob", D)
    in_view = project(points, T_CAM_LIDAR, camera)
    seen = in_view.select(visible(in_view, camera, VisibilityConfig()))
    target = np.empty_like(points)
    methods: dict[str, Method] = {
        "copy the points": lambda: np.copyto(target, points),
        "naive numpy: no lens, no occlusion": lambda: naive_numpy(points, labels),
        "cv2.projectPoints: no occlusion": lambda: opencv(points, labels),
        "ours: move, lens, in view": lambda: project(points, T_CAM_LIDAR, camera),
        "ours: hide": lambda: visible(in_view, camera, VisibilityConfig()),
        "ours: sample logits": lambda: segmentation.sample(seen.uv),
    }
    return _medians(methods)


def _medians(methods: dict[str, Method]) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for run in range(RUNS + 5):
        for name, method in methods.items():
            start = time.perf_counter()
            method()
            if run >= 5:  # the first ones compile and warm
                seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(values) * 1e3) for name, values in seconds.items()}
