"""Simulated sweeps with the truth of every point and pixel, kept on disk: no pictures are shaded, so a drive is quick.

Each drive is a street of its own, driven through at 20 m/s in turns. A camera looks ahead and another to the left, both
as far from the LiDAR as the drive says and both exposed 50 ms after the LiDAR looks ahead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from seg_perception import simulation
from seg_perception.datatypes import CameraImage, LidarScan
from seg_perception.geometry.transform_tree import TransformTree
from seg_perception.messages.pointcloud import cloud_from_columns, scan_from_cloud
from seg_perception.simulation.classes import C
from seg_perception.simulation.config import CameraMount, DriveConfig, LidarMount, looking, standard_rig
from seg_perception.simulation.drive import Drive
from seg_perception.simulation.truth import sight
from seg_perception.simulation.writing import stamp_of

KEPT = Path("bench_out/drives")
SIZE = 1920, 1080
FIELD_OF_VIEW_DEG = 80.0
_POSE_STEP = 0.01  # s between the poses on /tf
_REACH = 0.2  # s of poses before and after a sweep


@dataclass(frozen=True, slots=True)
class DriveSpec:
    """One drive. distance: metres from the LiDAR to each camera. sweeps: how many are looked at, a second apart.
    through_glass: share of the LiDAR's beams that pass windows of vehicles."""

    seed: int
    distance: float
    static_world: bool = True
    offset_ms: float = 50.0
    row_time_us: float = 0.0
    sweeps: int = 4
    size: tuple[int, int] = SIZE
    through_glass: float = 0.0

    @property
    def unjudged(self) -> int:
        """So many sweeps come before those that count."""
        return 0

    @property
    def seconds(self) -> float:
        """How long the drive takes."""
        return self.sweeps + 1.0

    def number(self, k: int) -> int:
        """Which of the drive's sweeps is the k-th that is looked at."""
        return 10 * k + 5

    def config(self) -> DriveConfig:
        """For the simulator."""
        lidar = LidarMount(through_glass=self.through_glass)
        rig = {"distance": self.distance, "offset_ms": self.offset_ms, "row_time_us": self.row_time_us, "lidar": lidar}
        ahead = standard_rig(1, self.size, field_of_view_deg=FIELD_OF_VIEW_DEG, **rig)[0]  # type: ignore[arg-type]
        x, y, z = lidar.T_base_lidar[:3, 3]
        out, down = self.distance * (1.0 - 0.35**2) ** 0.5, self.distance * 0.35
        left = replace(ahead, name="left", T_base_cam=looking(90.0, 2.0, (x, y + out, z - down)))
        return DriveConfig(
            seed=self.seed,
            seconds=self.seconds,
            speed=20.0,
            static_world=self.static_world,
            cameras=(ahead, left),
            lidar=lidar,
        )


@dataclass(frozen=True, slots=True)
class FollowedSpec(DriveSpec):
    """A drive whose sweeps are looked at one after the other, so that what moves can be followed; the first ones only
    for that."""

    @property
    def unjudged(self) -> int:
        """So many sweeps come before those that count."""
        return 6

    @property
    def seconds(self) -> float:
        """How long the drive takes."""
        return 0.1 * self.sweeps + 1.0

    def number(self, k: int) -> int:
        """Which of the drive's sweeps is the k-th that is looked at."""
        return k + 5


@dataclass(frozen=True, slots=True, eq=False)
class TrueSweep:
    """One sweep with its pictures and its truth.

    images: their pixels are the true labels of the ray through each pixel's centre, three times over. in_view, visible:
    (cameras, N) in the exposure, as `simulation.truth` defines them. class_id: (N,). speed: (N,) m/s of the thing that
    the point lies on; velocity: (N, 3) the same in the world, of a `FollowedSpec` alone. number: in its drive, from 0.
    """

    spec: DriveSpec
    scan: LidarScan
    cameras: tuple[CameraMount, ...]
    images: dict[str, CameraImage]
    tree: TransformTree
    class_id: NDArray[np.uint8]
    in_view: NDArray[np.bool_]
    visible: NDArray[np.bool_]
    speed: NDArray[np.float32]
    velocity: NDArray[np.float32]
    number: int

    def without_times(self) -> TrueSweep:
        """The same sweep from a LiDAR that does not say when each point was measured."""
        return replace(self, scan=replace(self.scan, stamps_ns=None))


def true_sweeps(specs: list[DriveSpec]) -> Iterator[TrueSweep]:
    """The sweeps of all drives, simulated where they are not on disk yet."""
    for spec in specs:
        yield from _load(spec, path_of(spec) if path_of(spec).is_file() else _simulate(spec))


def path_of(spec: DriveSpec) -> Path:
    """Where a drive is kept: another specification or another simulator, another file."""
    digest = hashlib.sha256(repr(spec).encode())
    for source in sorted(Path(simulation.__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return KEPT / f"{digest.hexdigest()[:16]}.npz"


def _simulate(spec: DriveSpec) -> Path:
    """Cast the rays of one drive and keep what they met."""
    drive = Drive(spec.config())
    kept: dict[str, NDArray] = {}
    rays = _rays(drive)
    for k in tqdm(range(spec.sweeps), desc=f"drive {spec.seed}", unit="sweep"):
        sweep = drive.sweep(spec.number(k))
        exposed = sweep.time + 1e-3 * spec.offset_ms
        seen = [sight(drive.world, sweep, camera, exposed) for camera in drive.cameras]
        velocity = drive.velocities(sweep)
        times = np.arange(sweep.time - _REACH, sweep.time + _REACH + 0.5 * _POSE_STEP, _POSE_STEP)
        kept |= {
            f"points{k}": sweep.points,
            f"ring{k}": sweep.ring,
            f"stamps_ns{k}": np.array([stamp_of(t) for t in sweep.times]),
            f"stamp_ns{k}": np.array([stamp_of(sweep.time), stamp_of(exposed)]),
            f"class_id{k}": sweep.class_id,
            f"in_view{k}": np.array([s.in_view for s in seen]),
            f"visible{k}": np.array([s.visible for s in seen]),
            f"speed{k}": np.linalg.norm(velocity, axis=1),
            f"velocity{k}": velocity,
            f"pose_ns{k}": np.array([stamp_of(t) for t in times]),
            f"poses{k}": drive.T_world_base(times),
        }
        for index in range(len(drive.cameras)):
            kept[f"labels{k}_{index}"] = _labels(drive, index, exposed, rays)
    path = path_of(spec)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npz")
    np.savez_compressed(partial, **kept)
    partial.rename(path)
    return path


def _rays(drive: Drive) -> NDArray[np.float64]:
    """(H, W, 3) directions of the pixels' centres in the optical frame, the same for every camera of the rig."""
    width, height = drive.config.cameras[0].model.width, drive.config.cameras[0].model.height
    v, u = np.mgrid[0:height, 0:width].astype(np.float64)
    return drive.config.cameras[0].model.unproject(np.stack([u.ravel(), v.ravel()], axis=1)).reshape(height, width, 3)


def _labels(drive: Drive, index: int, exposed: float, rays: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(H, W) classes that the rays of an exposure meet; 255 where the lens sends none."""
    camera = drive.cameras[index]
    labels = np.full(rays.shape[:2], 255, np.uint8)
    for first in range(0, len(rays), 120):  # rows, a few at a time, to keep memory small
        rows = slice(first, first + 120)
        has_ray = ~np.isnan(rays[rows, :, 0])
        when = camera.row_times(exposed, np.nonzero(has_ray)[0] + float(first))
        T = camera.T_world_cam(np.unique(when))[np.unique(when, return_inverse=True)[1]]
        directions = np.einsum("nij,nj->ni", T[:, :3, :3], rays[rows][has_ray])
        still = camera.mount.row_time_us == 0.0
        hits = drive.world.cast(T[:, :3, 3], directions, exposed if still else when)
        labels[rows][has_ray] = drive.world.class_of(hits, C.SKY)
    return labels


def _load(spec: DriveSpec, path: Path) -> Iterator[TrueSweep]:
    mounts = spec.config().cameras
    with np.load(path) as kept:
        tree = TransformTree(cache_ns=None)
        for k in range(spec.sweeps):
            stamp_ns, exposed_ns = kept[f"stamp_ns{k}"].tolist()
            if not isinstance(spec, FollowedSpec):
                tree = TransformTree(cache_ns=None)
            for pose_ns, T in zip(kept[f"pose_ns{k}"].tolist(), kept[f"poses{k}"], strict=True):
                tree.insert("odom", "base_link", pose_ns, T)
            tree.insert("base_link", "lidar", 0, spec.config().lidar.T_base_lidar, static=True)
            images = {}
            for index, mount in enumerate(mounts):
                tree.insert("base_link", mount.frame_id, 0, mount.T_base_cam, static=True)
                pixels = np.repeat(kept[f"labels{k}_{index}"][:, :, None], 3, axis=2)
                images[mount.name] = CameraImage(mount.name, mount.frame_id, exposed_ns, pixels)
            x, y, z = kept[f"points{k}"].T
            columns = {"x": x, "y": y, "z": z, "ring": kept[f"ring{k}"]}
            scan = scan_from_cloud(cloud_from_columns("lidar", stamp_ns, columns))[0]
            scan = replace(scan, stamps_ns=kept[f"stamps_ns{k}"])
            truth = (kept[f"{name}{k}"] for name in ("class_id", "in_view", "visible", "speed"))
            velocity = kept[f"velocity{k}"] if isinstance(spec, FollowedSpec) else np.empty((0, 3), np.float32)
            yield TrueSweep(spec, scan, mounts, images, tree, *truth, velocity, k)
