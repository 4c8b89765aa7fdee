"""A street of boxes for tests of the calibration: seen by a LiDAR and a camera that drive through it in a turn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seg_perception.bags import BagWriter
from seg_perception.config import parameter_file, parameters_beside
from seg_perception.geometry.camera import CameraModel
from seg_perception.geometry.transforms import from_rotation_translation, inverse
from seg_perception.messages.camera_info import record_of
from seg_perception.messages.pointcloud import cloud_from_columns
from seg_perception.messages.transforms import StampedTransform

WIDTH, HEIGHT = 480, 240
K = np.array([[315.0, 0.0, 239.5], [0.0, 315.0, 119.5], [0.0, 0.0, 1.0]])
CAMERA = CameraModel(WIDTH, HEIGHT, K)
OPTICAL = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
T_CAM_LIDAR = from_rotation_translation(OPTICAL, [0.1, -0.3, -0.4])
START_NS = 1_000_000_000_000
SPEED, TURN = 10.0, 0.4  # m/s, rad/s
SWEEPS, EVERY_S = 5, 0.25


def pose(seconds: float) -> NDArray[np.float64]:
    """T_odom_lidar on a circle."""
    angle = TURN * seconds
    T = np.eye(4)
    T[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    T[:2, 3] = SPEED / TURN * np.array([np.sin(angle), 1.0 - np.cos(angle)])
    T[2, 3] = 1.8
    return T


def boxes(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.uint8]]:
    """Lowest and highest corners (B, 3) in odom, and a grey (B,): poles and crates on both sides, and a wall around."""
    rng = np.random.default_rng(seed)
    middle = np.column_stack([rng.uniform(6.0, 45.0, 45), rng.uniform(-20.0, 30.0, 45)])
    on_the_way = np.abs(np.hypot(middle[:, 0], middle[:, 1] - SPEED / TURN) - SPEED / TURN) < 3.0
    middle = middle[~on_the_way]
    half = rng.uniform(0.1, 1.0, middle.shape)
    height = rng.uniform(1.0, 5.0, (len(middle), 1))
    low = np.column_stack([middle - half, np.zeros(len(middle))])
    high = np.column_stack([middle + half, height])
    low, high = np.vstack([low, [70.0, -90.0, 0.0]]), np.vstack([high, [71.0, 90.0, 12.0]])
    return low, high, rng.integers(0, 255, len(low)).astype(np.uint8)


def cast(origin: NDArray, directions: NDArray, world: tuple) -> tuple[NDArray, NDArray]:
    """(N,) distance to the first hit, inf for none, and (N,) grey, by the slab method; the ground is a box too."""
    low, high, grey = world
    distance, shade = np.full(len(directions), np.inf), np.full(len(directions), 200, np.uint8)
    with np.errstate(divide="ignore", invalid="ignore"):
        ground = np.where(directions[:, 2] < 0.0, -origin[2] / directions[:, 2], np.inf)
        distance[:], shade[np.isfinite(ground)] = ground, 90
        for a, b, value in zip(low, high, grey, strict=True):
            one, two = (a - origin) / directions, (b - origin) / directions
            near, far = np.minimum(one, two).max(axis=1), np.maximum(one, two).min(axis=1)
            hit = (near < np.minimum(far, distance)) & (near > 0.0)
            distance[hit], shade[hit] = near[hit], value
    return distance, shade


def write_bag(
    bag: Path, seed: int = 1, T_told: NDArray | None = None, late_s: float = 0.0, tf_from_s: float = -0.5
) -> Path:
    """T_told: the T_cam_lidar that /tf_static tells, where it is not the true one. late_s: by how much pictures are
    taken later than their stamps say. tf_from_s: when /tf begins, after the first sweep."""
    world = boxes(seed)
    azimuth = np.radians(np.arange(-100.0, 100.0, 0.3))
    elevation = np.radians(np.arange(-18.0, 8.0, 0.6))
    flat = np.array([(np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)) for e in elevation for a in azimuth])
    v, u = np.mgrid[0:HEIGHT, 0:WIDTH]
    rays = CAMERA.unproject(np.column_stack([u.ravel(), v.ravel()]).astype(float))
    told = inverse(T_CAM_LIDAR if T_told is None else T_told)
    with BagWriter(bag) as writer:
        writer.write_tf("/tf_static", [StampedTransform("lidar", "front_optical", START_NS, told)])
        for seconds in np.arange(tf_from_s, SWEEPS * EVERY_S + 0.5, 0.02):
            writer.write_tf("/tf", [StampedTransform("odom", "lidar", _stamp(seconds), pose(seconds))])
        for seconds in EVERY_S * np.arange(SWEEPS):
            T_odom_cam = pose(seconds + late_s) @ inverse(T_CAM_LIDAR)
            shade = cast(T_odom_cam[:3, 3], rays @ T_odom_cam[:3, :3].T, world)[1].reshape(HEIGHT, WIDTH)
            noise = np.random.default_rng(seed).normal(0.0, 2.0, shade.shape)
            pixels = np.repeat(np.clip(shade + noise, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
            writer.write_camera_info("/front/camera_info", record_of(CAMERA, "front_optical", _stamp(seconds)))
            writer.write_image("/front/image_raw", _stamp(seconds), "front_optical", pixels)
            T_odom_lidar = pose(seconds)
            distance = cast(T_odom_lidar[:3, 3], flat @ T_odom_lidar[:3, :3].T, world)[0]
            points = (flat * distance[:, None])[distance < 80.0].astype(np.float32)
            columns = dict(zip("xyz", points.T, strict=True))
            writer.write_cloud("/points", cloud_from_columns("lidar", _stamp(seconds), columns))
    cameras = {"front": {"image_topic": "/front/image_raw"}}
    parameters_beside(bag).write_text(parameter_file(cameras, "/points", "odom"), encoding="utf-8")
    return bag


def _stamp(seconds: float) -> int:
    return START_NS + round(seconds * 1e9)
