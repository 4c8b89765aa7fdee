"""From a sweep's points to their labels: our stages against what typical nodes do, and against copying the bytes.

All methods take turns in one run, in one thread, and what counts is the time that thread had a core, so that a busy
machine disturbs little; still, read the ratios. Of two threads beside one it is the time that passes, which only a
machine at rest tells. All sample one label image a camera: no network takes part.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from seg_perception.config import Config
from seg_perception.crew import Crew
from seg_perception.datatypes import LidarScan
from seg_perception.fusion.doubts import View
from seg_perception.fusion.edges import Surfaces
from seg_perception.fusion.painting import Painting
from seg_perception.fusion.seeing import Kinds, seen_of
from seg_perception.geometry.camera import CameraModel
from seg_perception.geometry.columns import bounds_of
from seg_perception.geometry.motion import MovedSweep
from seg_perception.geometry.projection import project
from seg_perception.geometry.range_image import RangeImage
from seg_perception.geometry.spacing import with_spacing
from seg_perception.geometry.transform_tree import TransformTree
from seg_perception.geometry.visibility import range_image
from seg_perception.geometry.workspace import Workspace
from seg_perception.inference.contract import Alignment
from seg_perception.inference.segmenter import LabelSegmentation, LogitsSegmentation
from seg_perception.labels import Taxonomy
from seg_perception.messages.pointcloud import cloud_from_columns, scan_from_cloud
from seg_perception.once import Once

RUNS = 50
WIDTH, HEIGHT = 1920, 1080
K = np.array([[1000.0, 0, 959.5], [0, 1000.0, 539.5], [0, 0, 1]])
D = np.array([-0.36, 0.19, 0.001, 0.0005, -0.06])
MS = 1_000_000
T0 = 1_000_000 * MS
SPEED, YAW_RATE = 20.0, 0.2
OUT_M, BELOW_M, LIDAR_M = 0.5, 0.4, 1.8  # cameras: from the LiDAR; LiDAR: above the road
STANDING = np.random.default_rng(2).uniform(5, 80, 90)  # metres to what stands beside the road, in 90 directions
KINDS = np.random.default_rng(3).choice([2, 8, 13, 4, 5, 11], 90, p=[0.4, 0.3, 0.15, 0.05, 0.05, 0.05])  # what it is

STILL, PLAIN = {"motion": {"mode": "static"}}, {"visibility": {"method": "none"}, "edges": {"method": "none"}}
OURS = {
    "ours: no motion, no occlusion": (STILL | PLAIN, "image"),
    "ours: motion, no occlusion": (PLAIN, "image"),
    "ours: everything, by patches": ({"visibility": {"method": "patches"}}, "image"),
    "ours: everything": ({}, "image"),
    "ours: everything, labels at random": ({}, "random"),
    "ours: everything, from logits": ({}, "logits"),
}
"""Settings, and where labels come from."""

NAIVE = "naive numpy: no lens, motion, occlusion"
TYPICAL = f"{NAIVE}; malloc as it comes"  # as it is in typical nodes

Method = Callable[[], object]
Timed = Callable[[], float]  # seconds that a turn took
Key = TypeVar("Key", bound=Hashable)


def sweep(count: int) -> LidarScan:
    """64 beams all around in the order fired, in 100 ms: the road, and what stands beside it. Each column as the moving
    LiDAR sees it; at T0 all lies in its place."""
    rng = np.random.default_rng(0)
    columns = count // 64
    azimuth = np.repeat(np.linspace(np.pi, -np.pi, columns, endpoint=False), 64)
    elevation = np.tile(np.radians(np.linspace(-24.8, 6.0, 64)), columns)
    stands = STANDING[_sector(azimuth)]
    distance = np.minimum(LIDAR_M / np.maximum(np.sin(-elevation), 0.02), stands) + rng.normal(0, 0.02, azimuth.size)
    after_s = np.repeat(np.linspace(-0.05, 0.05, columns), 64)
    flat, yaw = distance * np.cos(elevation), YAW_RATE * after_s
    x, y = flat * np.cos(azimuth) - SPEED * after_s, flat * np.sin(azimuth)
    x, y, z = x * np.cos(yaw) + y * np.sin(yaw), y * np.cos(yaw) - x * np.sin(yaw), distance * np.sin(elevation)
    fields = {"x": x, "y": y, "z": z, "intensity": x}
    cloud = cloud_from_columns("lidar", T0, {name: values.astype(np.float32) for name, values in fields.items()})
    scan = scan_from_cloud(cloud)[0]
    stamps_ns = T0 + np.rint(after_s * 1e3 * MS).astype(np.int64)
    return LidarScan(scan.frame_id, scan.stamp_ns, scan.points, stamps_ns, scan.cloud)


def _sector(azimuth: NDArray[np.float64]) -> NDArray[np.int64]:
    return (np.degrees(azimuth) // 4).astype(int) % len(STANDING)


def vehicle(cameras: int) -> TransformTree:
    """It drives a bend at 20 m/s, cameras evenly around the LiDAR, 0.5 m out and 0.4 m below it."""
    tree = TransformTree()
    for ms in range(-200, 201, 10):
        T = _turned(YAW_RATE * ms * 1e-3)
        T[0, 3] = SPEED * ms * 1e-3
        tree.insert("odom", "base_link", T0 + ms * MS, T)
    tree.insert("base_link", "lidar", 0, np.eye(4), static=True)
    optical = np.array([[0, 0, 1, OUT_M], [-1, 0, 0, 0], [0, -1, 0, -BELOW_M], [0, 0, 0, 1.0]])
    for k in range(cameras):
        tree.insert("base_link", f"camera_{k}", 0, _turned(2 * np.pi * k / cameras) @ optical, static=True)
    return tree


def _turned(yaw: float) -> NDArray[np.float64]:
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])


class Labels:
    """A picture of labels, and what looks up places in it: what a camera that looks to `yaw` sees, in steps of 4
    pixels; at_random: any class, another one every 40 pixels, on whatever it lies."""

    def __init__(self, yaw: float, at_random: bool = False) -> None:
        self.camera = CameraModel(WIDTH, HEIGHT, K, "plumb_bob", D)
        rng, size = np.random.default_rng(1), 40 if at_random else 4
        coarse = rng.integers(0, 19, (HEIGHT // 40, WIDTH // 40), np.uint8) if at_random else self._seen(yaw)
        self.image = np.repeat(np.repeat(coarse, size, axis=0), size, axis=1)
        self.segmentation = LabelSegmentation(self.image, None, Alignment(), (WIDTH, HEIGHT))
        samples = self.image[8::16, 8::16]
        logits = rng.standard_normal((19, *samples.shape)).astype(np.float32)
        logits += 6.0 * (np.arange(19)[:, None, None] == samples)
        self.logits = LogitsSegmentation(logits, Alignment(1 / 16, -0.5, 1 / 16, -0.5), (WIDTH, HEIGHT))

    @staticmethod
    def _seen(yaw: float) -> NDArray[np.uint8]:
        """(HEIGHT / 4, WIDTH / 4): along each ray the first place under the road or behind what stands there."""
        u, v = np.meshgrid(np.arange(2.0, WIDTH, 4), np.arange(2.0, HEIGHT, 4))
        x, y = cv2.undistortPoints(np.stack([u, v], -1).reshape(-1, 1, 2), K, D).reshape(-1, 2).T
        ray = _turned(yaw)[:3, :3] @ np.stack([np.ones_like(x), -x, -y])
        ray /= np.linalg.norm(ray, axis=0)
        eye = _turned(yaw)[:3, :3] @ (OUT_M, 0.0, -BELOW_M)
        seen = np.full(x.size, 10, np.uint8)  # sky
        left = np.arange(x.size)
        for along in np.geomspace(1.0, 100.0, 200):
            place = eye[:, None] + along * ray[:, left]
            sector = _sector(np.arctan2(place[1], place[0]))
            road = place[2] <= -LIDAR_M
            met = road | (np.linalg.norm(place, axis=0) >= STANDING[sector])
            seen[left[met]] = np.where(road, 0, KINDS[sector])[met]
            left = left[~met]
        return seen.reshape(u.shape)


@lru_cache(maxsize=32)
def _labels(camera: int, cameras: int, at_random: bool = False) -> Labels:
    return Labels(2 * np.pi * camera / cameras, at_random)


def naive_numpy(points: NDArray, T_cam_lidar: NDArray, labels: NDArray, class_id: NDArray) -> None:
    """What typical nodes do: homogeneous float64, K alone, look up. No lens, no motion, no occlusion."""
    homogeneous = np.hstack([points, np.ones((len(points), 1))])
    in_camera = (T_cam_lidar @ homogeneous.T).T[:, :3]
    projected = (K @ in_camera.T).T
    with np.errstate(divide="ignore", invalid="ignore"):
        uv = projected[:, :2] / projected[:, 2:]
    inside = (in_camera[:, 2] > 0) & (uv >= 0).all(axis=1) & (uv[:, 0] < WIDTH) & (uv[:, 1] < HEIGHT)
    class_id[inside] = labels[uv[inside, 1].astype(int), uv[inside, 0].astype(int)]


def tuned_numpy(points: NDArray, T_cam_lidar: NDArray, labels: NDArray, class_id: NDArray) -> None:
    """The same in float32, what lies behind taken out first."""
    T = T_cam_lidar.astype(np.float32)
    depth = points @ T[2, :3] + T[2, 3]
    ahead = np.flatnonzero(depth > 0)
    some, depth = points[ahead], depth[ahead]
    u = np.float32(K[0, 0]) * (some @ T[0, :3] + T[0, 3]) / depth + np.float32(K[0, 2])
    v = np.float32(K[1, 1]) * (some @ T[1, :3] + T[1, 3]) / depth + np.float32(K[1, 2])
    inside = (u >= 0) & (u < WIDTH) & (v >= 0) & (v < HEIGHT)
    class_id[ahead[inside]] = labels[v[inside].astype(np.int32), u[inside].astype(np.int32)]


def opencv(points: NDArray, T_cam_lidar: NDArray, labels: NDArray, class_id: NDArray) -> None:
    """cv2.projectPoints with the lens; what lies behind the camera is taken out first."""
    ahead = np.flatnonzero(points @ T_cam_lidar[2, :3] + T_cam_lidar[2, 3] > 0.5)
    rvec, _ = cv2.Rodrigues(T_cam_lidar[:3, :3])
    uv = cv2.projectPoints(points[ahead].astype(float), rvec, T_cam_lidar[:3, 3], K, D)[0].reshape(-1, 2)
    inside = (uv >= 0).all(axis=1) & (uv[:, 0] < WIDTH) & (uv[:, 1] < HEIGHT)
    class_id[ahead[inside]] = labels[uv[inside, 1].astype(int), uv[inside, 0].astype(int)]


def ours(scan: LidarScan, tree: TransformTree, cameras: int, settings: dict, source: str, threads: int = 1) -> Method:
    """What the pipeline does after the network."""
    labels = [_labels(k, cameras, source == "random") for k in range(cameras)]
    segmentations = [each.logits if source == "logits" else each.segmentation for each in labels]
    config = Config.from_mapping(settings)
    kinds = Kinds.of(Taxonomy.load(config.taxonomy))
    workspace, visibility = Workspace(), with_spacing(config.visibility, scan.points)
    crew = Crew([Workspace() for _ in range(threads)])

    def run() -> None:
        moved = MovedSweep(scan, tree, config.motion)
        painting = Painting(scan, [f"camera_{k}" for k in range(cameras)], config.painting)
        T_each_lidar = [moved.T_cam_lidar(f"camera_{k}", T0) for k in range(cameras)]
        ranges: Once[RangeImage] = Once()
        surfaces: dict[Workspace, Surfaces] = {}
        bounds = bounds_of(moved.points, workspace)

        def by_direction() -> RangeImage:
            return ranges.get(lambda: range_image(moved.points, visibility, workspace))

        def see(k: int, own: Workspace) -> None:
            in_view = project(moved.points, T_each_lidar[k], labels[k].camera, None, own, bounds)
            said = segmentations[k].sample(in_view.uv)
            if own not in surfaces:
                surfaces[own] = Surfaces(by_direction(), config.edges, own)
            view = View(in_view, by_direction(), labels[k].camera, T_each_lidar[k])
            kept = seen_of(view, surfaces[own], said, kinds, visibility, own).kept
            painting.add(f"camera_{k}", in_view, said, kept, (WIDTH, HEIGHT), T0)

        crew.do([lambda _: by_direction(), *(partial(see, k) for k in range(cameras))])
        painting.cloud()

    return run


def measure(count: int, cameras: int) -> dict[str, float]:
    """Median milliseconds of each method over one sweep of `count` points and that many 1920x1080 cameras."""
    scan, tree = sweep(count), vehicle(cameras)
    copy = np.empty_like(scan.cloud.data)
    methods: dict[str, Method] = {
        "copy the cloud's bytes": lambda: np.copyto(copy, scan.cloud.data),
        NAIVE: _for_each(naive_numpy, count, cameras),
        "tuned numpy: no lens, motion, occlusion": _for_each(tuned_numpy, count, cameras),
        "cv2.projectPoints: no motion, occlusion": _for_each(opencv, count, cameras),
        **{name: ours(scan, tree, cameras, *asked) for name, asked in OURS.items()},
    }
    with _of_its_own(count, cameras) as typical:
        return _medians({TYPICAL: typical, **{name: _timed(method) for name, method in methods.items()}})


def _for_each(project_and_look_up: Callable[..., None], count: int, cameras: int) -> Method:
    scan, tree = sweep(count), vehicle(cameras)
    images = [_labels(k, cameras).image for k in range(cameras)]
    T_cam_lidar = [tree.T(f"camera_{k}", "lidar", T0) for k in range(cameras)]
    class_id = np.empty(len(scan), np.uint8)

    def run() -> None:
        class_id.fill(255)
        for T, image in zip(T_cam_lidar, images, strict=True):
            project_and_look_up(scan.points, T, image, class_id)

    return run


@contextlib.contextmanager
def _of_its_own(count: int, cameras: int) -> Iterator[Timed]:
    """Naive numpy in a process of its own, as typical nodes are: their malloc asks the kernel for each large array, and
    gives it back."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, _prepare_typical, (count, cameras)) as process:
        yield lambda: process.submit(_time_typical).result()


def _prepare_typical(count: int, cameras: int) -> None:
    global _typical
    _typical = _timed(_for_each(naive_numpy, count, cameras))


def _time_typical() -> float:
    return _typical()


def measure_threads(count: int, cameras: int) -> dict[str, dict[str, float]]:
    """Median milliseconds that pass, by the number of threads and what they do; all take turns."""
    scan, tree = sweep(count), vehicle(cameras)
    runs = {(n, name): ours(scan, tree, cameras, *asked, n) for name, asked in OURS.items() for n in (1, 2)}
    found = _medians({key: _timed(run, time.perf_counter) for key, run in runs.items()})
    return {f"{n} thread(s)": {name: found[n, name] for name in OURS} for n in (1, 2)}


def measure_whole(count: int, cameras: int) -> float:
    """Median milliseconds of everything on, for a cloud of `count` points and that many cameras."""
    run = ours(sweep(count), vehicle(cameras), cameras, *OURS["ours: everything"])
    return _medians({"whole": _timed(run)})["whole"]


def _timed(method: Method, clock: Callable[[], float] = time.thread_time) -> Timed:
    def run() -> float:
        start = clock()
        method()
        return clock() - start

    return run


def _medians(methods: dict[Key, Timed]) -> dict[Key, float]:
    seconds: dict[Key, list[float]] = {name: [] for name in methods}
    for _ in range(5):  # these compile and warm
        for method in methods.values():
            method()
    for _ in range(RUNS):
        for name, method in methods.items():
            seconds[name].append(method())
    return {name: float(np.median(values) * 1e3) for name, values in seconds.items()}
