"""The scene on simulated drives with truth: how right objects, tracks, map and grid are, and what they cost.

`python benchmarks/scene.py` prints tables as docs/scene.md has them, and writes bench_out/scene.json. Milliseconds are
those of one core (`time.thread_time`), so that other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pictured_drives import PicturedSweep
from scene_clustering import clustering
from scene_truth import DRIVES, ROAD_CELL, TAXONOMY, TrueSweep, sweeps, true_road, with_errors

from seg_perception.config import BevConfig, Config, VoxelMapConfig
from seg_perception.datatypes import UNKNOWN
from seg_perception.evaluation.metrics import ConfusionMatrix
from seg_perception.scene.bev_grid import FREE, NOT_SEEN, OCCUPIED, BevGrid, BevLayers
from seg_perception.scene.free_space import depths_of
from seg_perception.scene.memory import SceneMemory
from seg_perception.scene.objects import ObjectFinder, Objects
from seg_perception.scene.tracking import Tracker, Tracks
from seg_perception.scene.voxel_map import VoxelMap
from seg_perception.simulation.config import DriveConfig

OUT = Path("bench_out/scene.json")
ENOUGH = 10  # points of a thing, that count for boxes and tracks
NEAR_M = 30.0


def main() -> None:
    """Run everything once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=4, help="clusterings are compared on every n-th sweep")
    args = parser.parse_args()
    figures: dict[str, Any] = {"clustering": clustering(args.every)}
    table("Clusters against true instances", figures["clustering"])
    figures["costs"] = costs(DRIVES[0])
    table("Costs on one core", figures["costs"])
    truth = [measure(drive, Config(), errors=False) for drive in DRIVES]
    figures["true labels"] = merge(truth)
    noisy = [measure(drive, Config(), errors=True) for drive in DRIVES]
    figures["labels with errors"] = merge(noisy)
    tried, kept = np.sum([occlusions(drive, np.random.default_rng(drive.seed)) for drive in DRIVES], axis=0)
    figures["occlusion of a second"] = {"things": int(tried), "kept their identity": float(kept / tried)}
    print("\nocclusion of a second:", figures["occlusion of a second"])
    for name in ("true labels", "labels with errors"):
        print(f"\n{name}:")
        print(json.dumps(figures[name], indent=2))
    variants: dict[str, tuple[Config, bool]] = {
        "as configured": (Config(), True),
        "map not cleared by looking through it": (Config(voxel_map=VoxelMapConfig(clearing=False)), True),
        "gaps between beams not bridged": (Config(bev=BevConfig(bridge_m=0.0)), True),
        "boxes not drawn into the grid": (Config(), False),
    }
    figures["without a part"] = {}
    for name, (config, boxes) in variants.items():
        part = merge([measure(drive, config, errors=False, boxes=boxes) for drive in DRIVES])
        figures["without a part"][name] = {"ghost voxels": part["ghosts"], **part["drivable"]}
    table("Without a part, true labels", figures["without a part"])
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def table(title: str, rows: dict[str, dict[str, float]]) -> None:
    """Print rows of figures as Markdown."""
    columns = list(next(iter(rows.values())))
    print(f"\n| {title} | " + " | ".join(columns) + " |\n|---|" + "---:|" * len(columns))
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(f"{row[column]:.3f}" for column in columns) + " |")


# The whole scene, sweep by sweep


@dataclasses.dataclass
class Score:
    """What is counted over a drive."""

    boxes: dict[str, list[tuple[float, float, float]]] = dataclasses.field(default_factory=lambda: defaultdict(list))
    track_boxes: list[float] = dataclasses.field(default_factory=list)
    speed_errors: list[float] = dataclasses.field(default_factory=list)
    things: int = 0
    missed: int = 0
    false: int = 0
    switches: int = 0
    last_id: dict[int, int] = dataclasses.field(default_factory=dict)
    seen: int = 0
    sweep: ConfusionMatrix = dataclasses.field(default_factory=lambda: ConfusionMatrix(19))
    map: ConfusionMatrix = dataclasses.field(default_factory=lambda: ConfusionMatrix(19))
    ghosts: list[float] = dataclasses.field(default_factory=list)
    road: NDArray = dataclasses.field(default_factory=lambda: np.zeros(4, np.int64))


def measure(drive: DriveConfig, config: Config, errors: bool, boxes: bool = True) -> Score:
    """Everything of one drive. errors: labels are not the truth but what a network might have said. boxes: those of
    objects are drawn into the grid.
    """
    memory, score, rng = SceneMemory(config, TAXONOMY), Score(), np.random.default_rng(drive.seed)
    road, corner = true_road(drive)
    before: TrueSweep | None = None
    for index, sweep in enumerate(sweeps(drive)):
        labels, probability = (
            with_errors(sweep, rng) if errors else (sweep.class_id, np.ones(len(sweep.points), np.float32))
        )
        update = memory.update(sweep.cloud(labels, probability), sweep.points, sweep.T_world_lidar)
        assert update.objects is not None and update.tracks is not None
        score_boxes(score, sweep, update.objects)
        score_tracks(score, sweep, before, update.objects, update.tracks)
        score_map(score, sweep, labels, memory)
        if index >= 10:
            assert memory.grid is not None
            layers = memory.grid.layers(sweep.stamp_ns, update.objects if boxes else None)
            score.ghosts += [ghosts(sweep, memory)] if index % 10 == 0 else []
            score.road += score_road(layers, sweep, road, corner)
        before = sweep
    return score


def costs(drive: DriveConfig) -> dict[str, dict[str, float]]:
    """Milliseconds of one core for each part, over a drive with true labels; the first ten sweeps compile and warm."""
    config, spent = Config(), defaultdict(list)
    finder, tracker = ObjectFinder(TAXONOMY, config.objects), Tracker(TAXONOMY, config.tracking)
    voxels, grid = VoxelMap(TAXONOMY, config.voxel_map), BevGrid(TAXONOMY, config.bev)

    def timed(name: str, work: Callable[..., Any], *arguments: Any) -> Any:
        start = time.thread_time()
        result = work(*arguments)
        spent[name].append(1e3 * (time.thread_time() - start))
        return result

    for sweep in sweeps(drive):
        level = np.ascontiguousarray((sweep.points @ sweep.T_world_lidar[:3, :3].T).astype(np.float32))
        origin, stamp_ns = sweep.T_world_lidar[:3, 3], sweep.stamp_ns
        sure = np.ones(len(level), np.float32)
        labelled = (level, origin, sweep.class_id, sure, stamp_ns)
        timed("copy the points", np.copyto, np.empty_like(level), level)
        objects = timed("objects", finder.find, level, sweep.class_id, sure, origin)
        timed("tracking", tracker.update, objects, origin, stamp_ns)
        depths = timed("free space: depths", depths_of, level)
        timed("free space: voxels", voxels.clear, depths, origin)
        timed("map: insert", voxels.insert, *labelled)
        timed("map: forget", voxels.forget, origin, stamp_ns)
        timed("grid: insert", grid.insert, *labelled)
        timed("free space: cells", grid.clear, depths, origin)
        timed("grid: read", grid.layers, stamp_ns, objects)
        timed("map: read", voxels.cloud)
    return {
        name: {"median ms": float(np.median(values[10:])), "least ms": float(np.min(values[10:]))}
        for name, values in spent.items()
    }


def score_boxes(score: Score, sweep: TrueSweep, objects: Objects) -> None:
    """IoU from above, IoU in 3D and range of each object's box against that of the thing most of its points lie on."""
    rows = {int(track): row for row, track in enumerate(sweep.tracks)}
    for k in np.flatnonzero(objects.points >= ENOUGH):
        mine = sweep.instance[objects.of_point == k]
        thing = int(np.bincount(mine).argmax())
        if thing not in rows:
            continue
        flat, solid = box_iou(objects, int(k), sweep, rows[thing])
        distance = float(np.hypot(*(objects.centre[k] - sweep.T_world_lidar[:3, 3])[:2]))
        score.boxes[TAXONOMY.names[sweep.box_class[rows[thing]]]].append((flat, solid, distance))


def box_iou(boxes: Objects | Tracks, k: int, sweep: TrueSweep, row: int) -> tuple[float, float]:
    """IoU from above, and in 3D, of a box with a true one."""
    T, size = sweep.T_world_box[row], sweep.size[row]
    off = boxes.centre[k] - T[:3, 3]
    yaw = math.atan2(T[1, 0], T[0, 0])
    first = (off[:2].tolist(), np.maximum(boxes.size[k, :2], 1e-3).tolist(), math.degrees(boxes.yaw[k]))
    kind, outline = cv2.rotatedRectangleIntersection(first, ((0.0, 0.0), size[:2].tolist(), math.degrees(yaw)))
    area = cv2.contourArea(cv2.convexHull(outline)) if kind else 0.0
    mine, its = float(np.prod(boxes.size[k])), float(np.prod(size))
    high = max(min(off[2] + boxes.size[k, 2] / 2, size[2] / 2) - max(off[2] - boxes.size[k, 2] / 2, -size[2] / 2), 0.0)
    flat = area / (float(np.prod(boxes.size[k, :2])) + float(np.prod(size[:2])) - area)
    return flat, area * high / (mine + its - area * high)


def score_tracks(score: Score, sweep: TrueSweep, before: TrueSweep | None, objects: Objects, tracks: Tracks) -> None:
    """CLEAR MOT (Bernardin and Stiefelhagen, 2008), matched by points: a thing of ten or more, and the track that has
    more than half of the points of either. A track whose points lie on things of fewer is nobody's false alarm.
    """
    held = objects.of_point >= 0
    track = np.full(len(objects.of_point), -1)
    track[held] = tracks.of_object[objects.of_point[held]]
    track[held] = np.where(tracks.confirmed[track[held]], track[held], -1)
    counted = TAXONOMY.is_thing[sweep.class_id] & (sweep.instance > 0)
    things, row = np.unique(sweep.instance[counted], return_inverse=True)
    shared = np.zeros((len(things), len(tracks) + 1))
    np.add.at(shared, (row.ravel(), track[counted]), 1)  # the last column: in no track
    points, of_track = shared.sum(axis=1), np.bincount(track[track >= 0], minlength=len(tracks))
    iou = shared[:, :-1] / (points[:, None] + of_track[None] - shared[:, :-1])
    enough = points >= ENOUGH
    matched = iou > 0.5
    score.things += int(enough.sum())
    score.missed += int((enough & ~matched.any(axis=1)).sum())
    most = points[shared[:, :-1].argmax(axis=0)] if len(things) else np.zeros(len(tracks))
    score.false += int(((of_track > 0) & ~matched.any(axis=0) & (most >= ENOUGH)).sum())
    rows = {int(track): row for row, track in enumerate(sweep.tracks)}
    for a, b in zip(*np.nonzero(matched & enough[:, None]), strict=True):
        thing, identity = int(things[a]), int(tracks.track_id[b])
        score.switches += score.last_id.get(thing, identity) != identity
        score.last_id[thing] = identity
        if thing not in rows:
            continue
        score.track_boxes.append(box_iou(tracks, int(b), sweep, rows[thing])[0])
        if before is not None and thing in before.tracks and tracks.age_s[b] >= 1.0:
            there = before.T_world_box[np.flatnonzero(before.tracks == thing)[0], :2, 3]
            velocity = (sweep.T_world_box[rows[thing], :2, 3] - there) / ((sweep.stamp_ns - before.stamp_ns) * 1e-9)
            score.speed_errors.append(float(np.linalg.norm(velocity - tracks.velocity[b])))


def occlusions(drive: DriveConfig, rng: np.random.Generator) -> tuple[int, int]:
    """Things that were followed for a second, then hidden for one, then seen again; and how many kept their identity.

    In windows of 2.6 s, a quarter of the things that are seen all along is taken out of ten sweeps.
    """
    config, found = Config(), []
    finder = ObjectFinder(TAXONOMY, config.objects)
    for sweep in sweeps(drive):
        level = (sweep.points @ sweep.T_world_lidar[:3, :3].T).astype(np.float32)
        sure = np.ones(len(level), np.float32)
        objects = finder.find(level, sweep.class_id, sure, sweep.T_world_lidar[:3, 3])
        things = [int(np.bincount(sweep.instance[objects.of_point == k]).argmax()) for k in range(len(objects))]
        found.append((sweep, objects, np.array(things)))
    before, hidden, after = 10, 10, 6
    kept = tried = 0
    for start in range(0, len(found) - before - hidden - after, 8):
        window = found[start : start + before + hidden + after]
        steady = set.intersection(
            *(set(things[objects.points >= ENOUGH].tolist()) for _, objects, things in window)
        ) - {0}
        chosen = rng.permutation(sorted(steady))[: max(1, len(steady) // 4)]
        tracker = Tracker(TAXONOMY, config.tracking)
        identities = []
        for index, (sweep, objects, things) in enumerate(window):
            out = np.isin(things, chosen) & (before <= index < before + hidden)
            rest = dataclasses.replace(
                objects,
                **{c: getattr(objects, c)[~out] for c in Objects.__slots__ if c not in ("of_point", "flat")},  # type: ignore[arg-type]
            )
            tracks = tracker.update(rest, sweep.T_world_lidar[:3, 3], sweep.stamp_ns)
            largest: dict[int, tuple[int, int]] = {}
            for k, thing in enumerate(things[~out]):
                seen = (int(rest.points[k]), int(tracks.track_id[tracks.of_object[k]]))
                largest[int(thing)] = max(largest.get(int(thing), (0, 0)), seen)
            identities.append({thing: identity for thing, (_, identity) in largest.items()})
        for thing in chosen:
            tried += 1
            kept += identities[before - 1].get(int(thing)) == identities[-1].get(int(thing))
    return tried, kept


def score_map(score: Score, sweep: TrueSweep, labels: NDArray, memory: SceneMemory) -> None:
    """The sweep's own labels, and those of the map for the same points, against the truth."""
    assert memory.voxel_map is not None
    level = (sweep.points @ sweep.T_world_lidar[:3, :3].T).astype(np.float32)
    mapped = memory.voxel_map.label(level, sweep.T_world_lidar[:3, 3])[0]
    held = mapped != UNKNOWN  # all but what lies beyond the map's radius
    score.sweep.update(sweep.class_id[held], labels[held])
    score.map.update(sweep.class_id[held], mapped[held])


def ghosts(sweep: TrueSweep, memory: SceneMemory) -> float:
    """Share of the map's voxels of movable classes, within 60 m, where no such thing is: 0.5 m or more from any box."""
    assert memory.voxel_map is not None
    cloud, here = memory.voxel_map.cloud(), sweep.T_world_lidar[:2, 3]
    near = np.hypot(*(cloud.points[:, :2] - here).T) < 60.0
    points = cloud.points[near & TAXONOMY.members(["movable"])[cloud.class_id]].astype(float)
    inside = np.zeros(len(points), bool)
    for T, size in zip(sweep.T_world_box, sweep.size, strict=True):
        inside |= (abs((points - T[:3, 3]) @ T[:3, :3]) < 0.5 * size + 0.5).all(axis=1)
    return float(1.0 - inside.mean()) if len(points) else 0.0


def score_road(
    layers: BevLayers, sweep: TrueSweep | PicturedSweep, road: NDArray, corner: NDArray
) -> NDArray[np.int64]:
    """Cells within 30 m: drivable and told so, told so wrongly, told not to be wrongly, drivable but never seen.

    Drivable is road on which no box of a thing stands.
    """
    side = len(layers.class_id)
    x = layers.corner[0] + (np.arange(side) + 0.5) * layers.cell_m
    y = layers.corner[1] + (np.arange(side) + 0.5) * layers.cell_m
    rows, columns = ((y - corner[1]) / ROAD_CELL).astype(int), ((x - corner[0]) / ROAD_CELL).astype(int)
    inside = ((rows >= 0) & (rows < len(road)))[:, None] & ((columns >= 0) & (columns < road.shape[1]))[None]
    picture = road[np.ix_(rows.clip(0, len(road) - 1), columns.clip(0, road.shape[1] - 1))]
    free = np.ascontiguousarray(picture, np.uint8)
    for T, half in zip(sweep.T_world_box, 0.5 * sweep.size, strict=True):
        ends = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) * half[:2]
        outline = ends @ T[:2, :2].T + T[:2, 3]
        pixels = np.round(((outline - np.array(layers.corner)) / layers.cell_m - 0.5) * 16.0).astype(np.int32)
        cv2.fillConvexPoly(free, pixels, 0, shift=4)
    here = sweep.T_world_lidar[:2, 3]
    near = inside & (np.hypot(x[None] - here[0], y[:, None] - here[1]) < NEAR_M)
    told, truth = layers.occupancy(), free.astype(bool)
    return np.array(
        [
            (near & truth & (told == FREE)).sum(),
            (near & ~truth & (told == FREE)).sum(),
            (near & truth & (told == OCCUPIED)).sum(),
            (near & truth & (told == NOT_SEEN)).sum(),
        ]
    )


def mean(values: list[float]) -> float | None:
    """Of nothing, nothing."""
    return float(np.mean(values)) if values else None


def merge(scores: Iterable[Score]) -> dict[str, Any]:
    """The figures of several drives together."""
    scores = list(scores)
    boxes: dict[str, list] = defaultdict(list)
    for score in scores:
        for name, values in score.boxes.items():
            boxes[name] += values
    things, missed, false, switches = (
        sum(getattr(s, n) for s in scores) for n in ("things", "missed", "false", "switches")
    )
    hit, wrong, denied, unseen = sum(score.road for score in scores)
    track_boxes = [iou for score in scores for iou in score.track_boxes]
    speed_errors = [error for score in scores for error in score.speed_errors]
    matrices = {}
    for name in ("sweep", "map"):
        total = ConfusionMatrix(19)
        for score in scores:
            total.add(getattr(score, name).counts)
        matrices[name] = {"mIoU": total.mean_iou, "accuracy": total.pixel_accuracy}
    return {
        "boxes": {
            name: {
                "boxes": len(values),
                "IoU from above": float(np.mean([v[0] for v in values])),
                "IoU in 3D": float(np.mean([v[1] for v in values])),
                "share above 0.5": float(np.mean([v[0] > 0.5 for v in values])),
                "IoU from above, within 30 m": mean([v[0] for v in values if v[2] < NEAR_M]),
            }
            for name, values in sorted(boxes.items())
        },
        "tracking": {
            "MOTA": 1.0 - (missed + false + switches) / things,
            "recall": 1.0 - missed / things,
            "false alarms a thing": false / things,
            "identity switches": switches,
            "things": sum(len(s.last_id) for s in scores),
            "seen": things,
            "IoU from above": float(np.mean(track_boxes)),
            "speed error, median m/s": float(np.median(speed_errors)),
            "speed error, 90 % m/s": float(np.percentile(speed_errors, 90)),
        },
        "labels": matrices,
        "ghosts": float(np.mean([share for score in scores for share in score.ghosts])),
        "drivable": {
            "IoU where known": float(hit / (hit + wrong + denied)),
            "IoU, never seen counts as missed": float(hit / (hit + wrong + denied + unseen)),
            "share of the road seen": float((hit + denied) / (hit + denied + unseen)),
        },
    }


if __name__ == "__main__":
    main()
