"""`python benchmarks/scene_tracking.py`: how well things keep their identity, by TrackEval, and what each part does.

HOTA (Luiten et al. 2021), MOTA and switches of identity (Bernardin and Stiefelhagen 2008), IDF1 (Ristani et al. 2016)
are those of the library TrackEval (`pip install --no-deps trackeval==1.3.0`; with all that it asks for it would bring
another OpenCV). A thing and a track are as alike as the points that they share: intersection over union, in each sweep.
Things of fewer than ten points count for nobody. Prints a table, and writes bench_out/scene_tracking.json.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from scene_truth import DRIVES, TAXONOMY, TrueSweep, sweeps, with_errors

from seg_perception.config import BevConfig, Config, VoxelMapConfig
from seg_perception.scene import expectation, tracking
from seg_perception.scene.memory import SceneMemory
from seg_perception.scene.objects import Objects
from seg_perception.scene.tracking import Tracker, Tracks
from seg_perception.simulation.config import DriveConfig

OUT = Path("bench_out/scene_tracking.json")
ENOUGH = 10  # points
HELD_OUT = (
    DriveConfig(seed=3, seconds=8.0, trajectory="turning"),
    DriveConfig(seed=4, seconds=8.0, trajectory="straight"),
)
_MOVES = 0.3  # m/s of a thing that does not stand still
WITHOUT: dict[str, Callable[[], Any]] = {
    "as it is": contextlib.nullcontext,
    "clusters never parted by what is known": lambda: patch.object(expectation, "_PART", 2.0),
    "clusters never joined by what is known": lambda: patch.object(expectation, "_JOIN", 2.0),
    "nothing expected": lambda: patch.object(Tracker, "expected", lambda *_: None),
    "a box that holds the points is no reason": lambda: patch.object(tracking, "_EXPECTED", 1.0),
    "sizes grow three times as fast": lambda: patch.object(tracking, "_GROWS", 0.3),
}


class Watch:
    """What TrackEval wants to know of drives."""

    def __init__(self) -> None:
        self.things: dict[tuple[int, int], int] = {}
        self.tracks: dict[tuple[int, int], int] = {}
        self.seen: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.last: dict[int, int] = {}
        self.standing = 0
        self._before: dict[int, np.ndarray] = {}

    def add(self, seed: int, sweep: TrueSweep, objects: Objects, tracks: Tracks) -> None:
        """One sweep."""
        held = objects.of_point >= 0
        track = np.full(len(objects.of_point), -1)
        track[held] = tracks.of_object[objects.of_point[held]]
        track[held] = np.where(tracks.confirmed[track[held]], track[held], -1)
        counted = TAXONOMY.is_thing[sweep.class_id] & (sweep.instance > 0)
        things, row = np.unique(sweep.instance[counted], return_inverse=True)
        shared = np.zeros((len(things), len(tracks) + 1))
        np.add.at(shared, (row.ravel(), track[counted]), 1)  # the last column: in no track
        points, of_track = shared.sum(axis=1), np.bincount(track[track >= 0], minlength=len(tracks))
        shared = shared[:, :-1]
        iou = shared / np.maximum(points[:, None] + of_track[None] - shared, 1)
        enough = points >= ENOUGH
        most = points[shared.argmax(axis=0)] if len(things) else np.zeros(len(tracks))
        told = (of_track > 0) & (most >= ENOUGH)
        thing = [self.things.setdefault((seed, int(number)), len(self.things)) for number in things[enough]]
        name = [self.tracks.setdefault((seed, int(number)), len(self.tracks)) for number in tracks.track_id[told]]
        alike = iou[enough][:, told]
        self.seen.append((np.array(thing, int), np.array(name, int), alike))
        place = {
            self.things[seed, int(number)]: T[:2, 3]
            for number, T in zip(sweep.tracks, sweep.T_world_box, strict=True)
            if (seed, int(number)) in self.things
        }
        for a, b in zip(*np.nonzero(alike > 0.5), strict=True):
            switched = self.last.get(thing[a], name[b]) != name[b]
            there, here = self._before.get(thing[a]), place.get(thing[a])
            stands = there is not None and here is not None and np.hypot(*(here - there)) < 0.1 * _MOVES
            self.standing += switched and stands
            self.last[thing[a]] = name[b]
        self._before = place

    def figures(self) -> dict[str, float]:
        """By TrackEval; of the switches, those of things that stand still are counted here."""
        CLEAR, HOTA, Identity = _library()
        things, tracks, alike = ([entry[k] for entry in self.seen] for k in range(3))
        data = {
            "num_timesteps": len(self.seen), "gt_ids": things, "tracker_ids": tracks, "similarity_scores": alike,
            "num_gt_ids": len(self.things), "num_tracker_ids": len(self.tracks),
            "num_gt_dets": sum(map(len, things)), "num_tracker_dets": sum(map(len, tracks)),
        }  # fmt: skip
        with contextlib.redirect_stdout(io.StringIO()):
            hota, clear, identity = (
                metric.eval_sequence(data)
                for metric in (HOTA(), CLEAR({"PRINT_CONFIG": False}), Identity({"PRINT_CONFIG": False}))
            )
        return {
            "HOTA": float(hota["HOTA"].mean()),
            "DetA": float(hota["DetA"].mean()),
            "AssA": float(hota["AssA"].mean()),
            "MOTA": float(clear["MOTA"]),
            "IDF1": float(identity["IDF1"]),
            "recall": float(clear["CLR_Re"]),
            "precision": float(clear["CLR_Pr"]),
            "switches": float(clear["IDSW"]),
            "of these standing": float(self.standing),
        }


def measure(drives: dict[int, list[TrueSweep]], errors: bool) -> dict[str, float]:
    """Of all drives together. errors: labels are not the truth but what a network might have said."""
    config = Config(voxel_map=VoxelMapConfig(enabled=False), bev=BevConfig(enabled=False))
    watch = Watch()
    for seed, drive in drives.items():
        memory, rng = SceneMemory(config, TAXONOMY), np.random.default_rng(seed)
        for sweep in drive:
            labels, probability = with_errors(sweep, rng) if errors else (None, None)
            update = memory.update(sweep.cloud(labels, probability), sweep.points, sweep.T_world_lidar)
            assert update.objects is not None and update.tracks is not None
            watch.add(seed, sweep, update.objects, update.tracks)
    return watch.figures()


def main() -> None:
    """Print the tables, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="leave out what is told without each part")
    args = parser.parse_args()
    _library()
    figures: dict[str, dict[str, float]] = {}
    for title, configs in (("chosen on", DRIVES), ("held out", HELD_OUT)):
        drives = {config.seed: list(sweeps(config)) for config in configs}
        for part, without in _parts(title, args.quick):
            for errors in (False, True):
                with without():
                    row = measure(drives, errors)
                figures[f"{title}, {'with errors' if errors else 'true labels'}: {part}"] = row
    columns = list(next(iter(figures.values())))
    print("| | " + " | ".join(columns) + " |\n|---|" + "---:|" * len(columns))
    for name, row in figures.items():
        print(f"| {name} | " + " | ".join(f"{v:.0f}" if v > 1.0 else f"{v:.3f}" for v in row.values()) + " |")
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _parts(title: str, quick: bool) -> Iterator[tuple[str, Callable[[], Any]]]:
    for name, without in WITHOUT.items():
        if name == "as it is" or not (quick or title == "held out"):
            yield name, without


def _library() -> tuple[Any, Any, Any]:
    with contextlib.redirect_stdout(io.StringIO()):  # it tells of every data set whose reader it cannot import
        try:
            from trackeval.metrics import CLEAR, HOTA, Identity
        except ImportError as error:
            sys.exit(f"TrackEval is needed: {error}; `pip install --no-deps trackeval==1.3.0`")
    return CLEAR, HOTA, Identity


if __name__ == "__main__":
    main()
