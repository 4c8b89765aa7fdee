"""`python benchmarks/real_drives.py [FOLDER]`: how labels of recorded drives agree with themselves, where there is no
truth.

FOLDER (../shared/data) holds `kitti_drive`, `nuscenes`, `pjlab` and `deeplab_cityscapes`; what is absent is left out.
The same labels of the same network are put onto points in the way that other nodes do, and by the pipeline. Prints a
table, puts it into docs/accuracy.md, and writes bench_out/real_drives.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from seg_perception.bags import BagReader
from seg_perception.config import Config, VisibilityConfig, parameters_beside
from seg_perception.datatypes import UNKNOWN
from seg_perception.errors import TransformError
from seg_perception.export.deploy import DeploySpec, deploy
from seg_perception.geometry.camera import CameraModel
from seg_perception.geometry.spacing import with_spacing
from seg_perception.geometry.transforms import transform_points
from seg_perception.geometry.visibility import spacing_px
from seg_perception.importers.kitti import import_kitti
from seg_perception.importers.nuscenes import import_nuscenes
from seg_perception.importers.pcd_pair import import_pcd_pair
from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter
from seg_perception.inference.segmenter import Segmentation
from seg_perception.intake import Intake
from seg_perception.labels import Taxonomy
from seg_perception.offline import camera_of, replay
from seg_perception.pipeline import SweepResult

DATA, OUT, PAGE = Path("../shared/data"), Path("bench_out/real_drives.json"), Path("docs/accuracy.md")
NETWORK = "deeplab_cityscapes/deeplab_mnv_cityscapes_513x1025.onnx"
TAXONOMY = Taxonomy.load("cityscapes")
THING = TAXONOMY.is_thing
BESIDE_M, AGAIN_M = 0.15, 0.1  # as near are two points of one surface; and of one place, a sweep later
VOXEL_M = 0.2
BEHIND_M = 2.0  # so much further away is not the thing in front
BEFORE_M, RECEDES = 0.3, 0.02  # nearer by less, and that share of the distance, is the same surface
TIMES = 5
NAIVE, ALL_IN_VIEW = "nearest pixel, motion ignored, nothing hidden", "motion alone"
NOTHING = {"method": "none"}
WAYS: dict[str, dict[str, object]] = {
    NAIVE: {"motion": {"mode": "static"}, "visibility": NOTHING, "edges": NOTHING},
    ALL_IN_VIEW: {"visibility": NOTHING, "edges": NOTHING},
    "motion, patches and edges": {"visibility": {"method": "patches"}},
    "the default": {},
}


@dataclass(frozen=True, slots=True)
class Recorded:
    """A drive to be imported. folder: of the data. network: width and height of its input, shaped as pictures are."""

    name: str
    folder: str
    network: tuple[int, int]
    write: Callable[[Path, Path], object]  # from the folder of data into a bag


def _kitti(data: Path, out: Path) -> object:
    drive, stamps = data / "kitti_drive", data / "kitti_drive" / "timestamps_drive_0001"
    return import_kitti(drive, drive / "calib", out, timestamps=stamps, odometry="sweeps")


def _pjlab_manual(data: Path, out: Path) -> object:
    folder = data / "pjlab/manual"
    return import_pcd_pair(
        folder / "0.png", folder / "0.pcd", folder / "center_camera-intrinsic.json", out,
        extrinsic=folder / "top_center_lidar-to-center_camera-extrinsic.json",
    )  # fmt: skip


def _pjlab_calib(data: Path, out: Path) -> object:
    folder = data / "pjlab/v2_ours1"
    return import_pcd_pair(folder / "calib.jpg", folder / "calib.pcd", folder / "calib.txt", out)


DRIVES = (
    Recorded("KITTI, ten sweeps", "kitti_drive", (1249, 385), _kitti),
    Recorded(
        "nuScenes, six cameras", "nuscenes", (1025, 577), lambda data, out: import_nuscenes(data / "nuscenes", out)
    ),
    Recorded("PJLab, manual", "pjlab/manual", (1025, 641), _pjlab_manual),
    Recorded("PJLab, v2_ours1", "pjlab/v2_ours1", (1025, 641), _pjlab_calib),
)


class Remembering:
    """A network that answers each picture once, so that its time is in none of the figures."""

    def __init__(self, path: Path) -> None:
        self._network = OnnxRuntimeSegmenter(path)
        self.contract = self._network.contract
        self._known: dict[bytes, Segmentation] = {}

    def segment(self, pixels: NDArray[np.uint8]) -> Segmentation:
        """As the network's."""
        key = pixels[::7, ::7].tobytes()
        if key not in self._known:
            self._known[key] = self._network.segment(pixels)
        return self._known[key]

    def close(self) -> None:
        """Free the network."""
        self._network.close()


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """A labelled sweep. points: (N, 3) in the fixed frame, or in the LiDAR's where there is none; class_id: (N,). seen:
    of each camera, which points it labelled, where in its picture, in spacings of the LiDAR, and how far away.
    seconds: of CPU that the pipeline took."""

    points: NDArray[np.float64]
    class_id: NDArray[np.uint8]
    seen: list[tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.float32]]]
    seconds: float


def labelled(bag: Path, network: Remembering, way: str) -> list[Sweep]:
    """Each sweep of a bag, its points labelled in one of WAYS."""
    config = Config.load(parameters_beside(bag))
    wanted = Config.from_mapping({"painting": {"threads": 1}, **WAYS[way]})
    sections = {name: getattr(wanted, name) for name in ("visibility", "edges", "painting")}
    off = {name: replace(getattr(config, name), enabled=False) for name in ("objects", "voxel_map", "bev")}
    motion = replace(config.motion, mode=wanted.motion.mode)
    config = replace(config, **sections, **off, motion=motion)
    intake = Intake(config, network, lambda cause, sentence: None)
    with BagReader(bag) as reader:
        models = {camera.name: camera_of(reader, camera) for camera in config.cameras}
        known = {name: model for name, model in models.items() if model}
        return [_sweep(result, intake, way == NAIVE, known) for result in replay(reader, intake)]


def _sweep(result: SweepResult, intake: Intake, nearest: bool, models: dict[str, CameraModel]) -> Sweep:
    seconds = []
    for _ in range(TIMES):
        begin = time.process_time()
        intake.pipeline.process(result.cloud.scan, result.images)
        seconds.append(time.process_time() - begin)
    points = result.sweep.points.astype(np.float64)
    with contextlib.suppress(TransformError):
        points = transform_points(result.sweep.T_fixed_lidar(), points)
    cloud, class_id, camera = result.cloud, result.cloud.class_id.copy(), result.cloud.camera.copy()
    if nearest:  # as others do: of several cameras the last
        for number, name in enumerate(cloud.cameras):
            lies = result.visible[name]
            u, v = np.floor(lies.uv + 0.5).astype(int).T
            class_id[lies.index], camera[lies.index] = result.segmentations[name].label_image()[v, u], number
    seen, visibility = [], with_spacing(VisibilityConfig(), cloud.scan.points)
    for number, name in enumerate(cloud.cameras):
        lies = result.visible[name].select(camera[result.visible[name].index] == number)
        seen.append((lies.index, lies.uv.astype(np.float64) / spacing_px(models[name], visibility), lies.distance))
    return Sweep(points, class_id, seen, min(seconds))


def measure(sweeps: list[Sweep], all_in_view: list[Sweep]) -> dict[str, float]:
    """Shares of points, all sweeps together; see the page. all_in_view: the same sweeps, with nothing hidden."""
    shares = {"unknown": _sum(map(_unknown, sweeps, all_in_view))}
    shares["behind"] = _sum(map(_behind, sweeps))
    shares["beside"] = _sum(map(_beside, sweeps))
    if len(sweeps) > 1:
        shares["again"] = _sum(map(_again, sweeps, sweeps[1:]))
        shares["map"] = _against_map(sweeps)
    found = {name: float(count / max(of, 1)) for name, (count, of) in shares.items()}
    return {**found, "ms": 1e3 * float(np.median([sweep.seconds for sweep in sweeps]))}


Count = tuple[int, int]
"""How many of how many."""


def _sum(counts: Iterable[Count]) -> Count:
    table = np.array(list(counts)).sum(axis=0)
    return int(table[0]), int(table[1])


def _unknown(sweep: Sweep, all_in_view: Sweep) -> Count:
    """Points that nothing stands before, as far as the LiDAR knows, and that have no label."""
    count = of = 0
    for index, place, distance in all_in_view.seen:
        around = cKDTree(place).query_ball_point(place, 1.0)
        nearest = np.array([distance[near].min() for near in around], np.float32)
        free = distance <= nearest * (1.0 + RECEDES) + BEFORE_M
        count += int((sweep.class_id[index[free]] == UNKNOWN).sum())
        of += int(free.sum())
    return count, of


def _beside(sweep: Sweep) -> Count:
    """Points whose nearest neighbour wears another label."""
    rows = np.flatnonzero((sweep.class_id != UNKNOWN) & np.isfinite(sweep.points).all(axis=1))
    points, class_id = sweep.points[rows], sweep.class_id[rows]
    away, at = cKDTree(points).query(points, k=[2], distance_upper_bound=BESIDE_M)
    near = np.isfinite(away[:, 0])
    return int((class_id[near] != class_id[at[near, 0]]).sum()), int(near.sum())


def _again(sweep: Sweep, later: Sweep) -> Count:
    """Points that wear another label than the nearest one of the next sweep."""
    known, then = sweep.class_id != UNKNOWN, later.class_id != UNKNOWN
    away, at = cKDTree(later.points[then]).query(sweep.points[known], distance_upper_bound=AGAIN_M)
    near = np.isfinite(away)
    return int((sweep.class_id[known][near] != later.class_id[then][at[near]]).sum()), int(near.sum())


def _against_map(sweeps: list[Sweep]) -> Count:
    """Points that wear another label than most in the same voxel, of all sweeps together."""
    class_id = np.concatenate([sweep.class_id for sweep in sweeps])
    points = np.concatenate([sweep.points for sweep in sweeps])[class_id != UNKNOWN]
    class_id = class_id[class_id != UNKNOWN]
    _, voxel = np.unique(np.floor(points / VOXEL_M).astype(np.int64), axis=0, return_inverse=True)
    votes = np.zeros((int(voxel.max()) + 1, len(TAXONOMY.trained)), np.int64)
    np.add.at(votes, (voxel.ravel(), class_id), 1)
    return int(votes.sum() - votes.max(axis=1).sum()), len(class_id)


def _behind(sweep: Sweep) -> Count:
    """Points painted as a thing behind a point of the same label, in the same patch of a picture."""
    count = of = 0
    for index, place, distance in sweep.seen:
        thing = THING[sweep.class_id[index]]
        key = np.column_stack([np.floor(place[thing]), sweep.class_id[index[thing]]])
        _, cell = np.unique(key, axis=0, return_inverse=True)
        nearest = np.full(len(key), np.inf)
        np.minimum.at(nearest, cell.ravel(), distance[thing])
        count += int((distance[thing] > nearest[cell.ravel()] + BEHIND_M).sum())
        of += len(key)
    return count, of


HEADINGS = {
    "unknown": "nothing before it, left unknown",
    "behind": "things behind themselves",
    "beside": "nearest neighbour differs",
    "again": "next sweep differs",
    "map": "most in the voxel differ",
}


def table(figures: dict[str, dict[str, dict[str, float]]]) -> str:
    """For the page: a line for each drive and way."""
    lines = [f"| | {' | '.join(HEADINGS.values())} | CPU, ms |", "|---" * (len(HEADINGS) + 2) + "|"]
    for drive, ways in figures.items():
        for way, found in ways.items():
            shares = [f"{100.0 * found[name]:.2f} %" if name in found else "" for name in HEADINGS]
            lines.append(f"| {drive}: {way} | {' | '.join(shares)} | {found['ms']:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Import, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?", default=DATA)
    parser.add_argument("--keep", action="store_true", help="leave the page as it is")
    args = parser.parse_args()
    figures: dict[str, dict[str, dict[str, float]]] = {}
    if not (args.data / NETWORK).is_file():
        print(f"nothing to do: {args.data / NETWORK} does not exist")
        return
    with tempfile.TemporaryDirectory() as folder:
        for number, drive in enumerate(DRIVES):
            if not (args.data / drive.folder).is_dir():
                print(f"{drive.name}: {args.data / drive.folder} does not exist")
                continue
            bag, model = Path(folder) / f"{number}.mcap", Path(folder) / f"{number}.onnx"
            drive.write(args.data, bag)
            spec = DeploySpec(mean=(128.0,) * 3, scale=(1 / 128,) * 3, network_size=drive.network)
            deploy(args.data / NETWORK, model, spec)
            network = Remembering(model)
            ways = {way: labelled(bag, network, way) for way in WAYS}
            network.close()
            figures[drive.name] = {way: measure(sweeps, ways[ALL_IN_VIEW]) for way, sweeps in ways.items()}
            print(table({drive.name: figures[drive.name]}), flush=True)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if not args.keep and PAGE.is_file():
        page = PAGE.read_text(encoding="utf-8")
        content = f"<!-- real drives -->\n{table(figures)}\n<!-- end -->"
        page = re.sub(r"<!-- real drives -->.*?<!-- end -->", lambda _: content, page, flags=re.DOTALL)
        PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
