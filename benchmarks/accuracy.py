"""`make accuracy-geometry`: how right the geometry is, over simulated drives whose label images are the truth.

The network is taken out: what the pipeline samples are the true labels, so that every wrong label is the geometry's. In
a table of its own the network that ships labels the drives' pictures, for labels that err.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import plots
from drawn_drives import drawn_sweeps
from drives import SIZE, DriveSpec, FollowedSpec, TrueSweep, true_sweeps
from numpy.typing import NDArray

from seg_perception.config import Config
from seg_perception.datatypes import UNKNOWN
from seg_perception.evaluation.geometry import GeometryScore, score_labels
from seg_perception.geometry.displacement import Standing
from seg_perception.geometry.movers import Measured, Movers, Moving
from seg_perception.geometry.workspace import Workspace
from seg_perception.inference.contract import Alignment, ModelContract
from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter
from seg_perception.inference.segmenter import LabelSegmentation, Segmenter
from seg_perception.labels import Taxonomy
from seg_perception.pipeline import Pipeline
from seg_perception.scene.memory import SceneMemory
from seg_perception.shipped import MODEL

OUT, PAGE = Path("bench_out"), Path("docs/accuracy.md")
SEEDS = 12
MOVING_MPS = 0.5
ROW_TIME_US = 30.0
Method = Callable[[TrueSweep], NDArray[np.uint8]]


class TruthSegmenter:
    """Reads the labels off the picture itself."""

    contract = ModelContract(
        taxonomy="cityscapes", num_classes=19, output="labels", network_size=SIZE, output_size=SIZE,
        network_alignment=Alignment(), alignment_assumed=False, image_size=None, channel_order="rgb", layout="NHWC",
        mean=(0.0, 0.0, 0.0), scale=(1.0, 1.0, 1.0), source_name="truth", source_sha256="", created_by="benchmark",
    )  # fmt: skip

    def segment(self, pixels: NDArray[np.uint8]) -> LabelSegmentation:
        """The first channel of (H, W, 3)."""
        return LabelSegmentation(pixels[:, :, 0], None, Alignment(), (pixels.shape[1], pixels.shape[0]))

    def close(self) -> None:
        """Nothing to free."""


def specs(static_world: bool) -> list[DriveSpec]:
    """Drives with 0.5 to 1.5 m between the sensors."""
    return [
        DriveSpec(seed, round(0.5 + seed / (SEEDS - 1), 3), static_world, sweeps=4 if static_world else 2)
        for seed in range(SEEDS)
    ]


def rolling_specs() -> list[DriveSpec]:
    """Two of these drives with cameras that expose their rows one after the other, 32 ms from first to last."""
    return [replace(specs(True)[seed], row_time_us=ROW_TIME_US, sweeps=2) for seed in (1, 4)]


def near_specs() -> list[DriveSpec]:
    """Cameras beside the LiDAR, as on many a roof, exposed when it looks ahead."""
    distances = {0: 0.1, 1: 0.15, 2: 0.2, 3: 0.3, 4: 0.3, 6: 0.45}
    return [DriveSpec(seed, metres, offset_ms=0.0, sweeps=2) for seed, metres in distances.items()]


def glass_specs() -> list[DriveSpec]:
    """Half of these drives with a LiDAR four of whose five beams pass the windows of vehicles."""
    return [replace(spec, through_glass=0.8, sweeps=2) for spec in specs(True)[: SEEDS // 2]]


def followed_specs() -> list[DriveSpec]:
    """Eight of these drives in a moving world, 18 sweeps in a row of each, by cameras of half the width and height."""
    small = {"static_world": False, "sweeps": 18, "size": (960, 540)}
    return [FollowedSpec(spec.seed, spec.distance, **small) for spec in specs(False)[:8]]  # type: ignore[arg-type]


def naive(sweep: TrueSweep) -> NDArray[np.uint8]:
    """What other nodes do: one static transform, sample the picture. (With the lens, which many leave out.)"""
    class_id = np.full(len(sweep.scan), UNKNOWN, np.uint8)
    for mount in sweep.cameras:
        T_cam_lidar = sweep.tree.T(mount.frame_id, "lidar", sweep.scan.stamp_ns)
        uv, _ = mount.model.project(sweep.scan.points @ T_cam_lidar[:3, :3].T + T_cam_lidar[:3, 3])
        inside = mount.model.in_view(uv)
        u, v = np.floor(uv[inside] + 0.5).astype(int).T
        class_id[inside] = sweep.images[mount.name].pixels[v, u, 0]
    return class_id


def ours(segmenter: Segmenter | None = None, **settings: object) -> Method:
    """The pipeline with these settings, by true labels unless another segmenter is given."""
    config = Config.from_mapping({"cameras": ["front", "left"], **settings})

    def label(sweep: TrueSweep) -> NDArray[np.uint8]:
        pipeline = Pipeline(config, segmenter or TruthSegmenter(), sweep.tree)
        for mount in sweep.cameras:
            pipeline.set_camera(mount.name, mount.model)
        return pipeline.process(sweep.scan, sweep.images).cloud.class_id

    return label


class TrueMovers(Movers):
    """Knows of each point how fast it is, whoever asks."""

    @classmethod
    def of(cls, sweep: TrueSweep) -> TrueMovers:
        """As many as points that move, each its own."""
        moving = np.flatnonzero(sweep.speed > 0.0).astype(np.int32)
        count = len(moving)
        boxes = np.zeros((count, 3)), np.zeros((count, 3)), np.zeros(count)
        return cls(moving, *boxes, sweep.velocity[moving].astype(np.float64), np.ones(count, np.bool_))

    def moving(self, now: Standing, before: Standing, workspace: Workspace) -> Moving:
        """All of them, however long ago the sweep before was."""
        velocity = (now.T_fixed_lidar[:3, :3].T @ self.velocity.T).astype(np.float32)
        points = now.by_axis[:, self.number]
        return Moving(self.number, points, velocity, Measured(self.number[:0], self.velocity[:0, :2], self.known[:0]))


class Followed:
    """The default over sweeps in a row. movers: what moves, as somebody says who knows scene and sweep."""

    def __init__(self, movers: Callable[[SceneMemory, TrueSweep], Movers | None]) -> None:
        self._movers = movers
        self._config = Config.from_mapping({"cameras": ["front", "left"]})

    def __call__(self, sweep: TrueSweep) -> NDArray[np.uint8]:
        """The sweep's labels; its first sweep begins a drive."""
        if sweep.number == 0:
            self._memory = SceneMemory(self._config, Taxonomy.load("cityscapes"))
            self._pipeline = Pipeline(self._config, TruthSegmenter(), sweep.tree)
            for mount in sweep.cameras:
                self._pipeline.set_camera(mount.name, mount.model)
        movers = self._movers(self._memory, sweep)
        result = self._pipeline.process(sweep.scan, sweep.images, movers)
        moved = result.sweep
        self._memory.update(result.cloud, moved.points, moved.T_fixed_lidar(), result.measured)
        return result.cloud.class_id


DEFAULT = "motion, learned occlusion and edges (the default)"
STRICT = "the same, `most_doubt: 0.11`"
PATCHES = "motion, patches and edges"
PATCHING: dict[str, object] = {"visibility": {"method": "patches"}}
METHODS: dict[str, Method] = {
    "naive sampling: no motion, no occlusion": naive,
    "motion alone": ours(visibility={"method": "none"}, edges={"method": "none"}),
    "motion and patches": ours(edges={"method": "none"}, **PATCHING),
    PATCHES: ours(**PATCHING),
    "motion and learned occlusion": ours(edges={"method": "none"}),
    DEFAULT: ours(),
    STRICT: ours(visibility={"most_doubt": 0.11}),
    "the default, one stamp a sweep": lambda sweep: ours()(sweep.without_times()),
}


NO_GLASS: dict[str, object] = {"glass_m": 0.0}
GLASS: dict[str, Method] = {
    "the default, windows not asked about": ours(visibility=NO_GLASS),
    "the default": ours(),
    "`most_doubt: 0.11`": ours(visibility={"most_doubt": 0.11}),
    "patches, windows not asked about": ours(visibility={"method": "patches", **NO_GLASS}),
    "patches": ours(**PATCHING),
}
NEAR: dict[str, Method] = {
    "motion alone": METHODS["motion alone"],
    "patches": ours(**PATCHING),
    "the default": ours(),
    "`most_doubt: 0.11`": ours(visibility={"most_doubt": 0.11}),
}
FOLLOWED: dict[str, Method] = {
    "things not carried": Followed(lambda memory, sweep: None),
    "tracked things carried (the default)": Followed(lambda memory, sweep: memory.movers(sweep.scan.stamp_ns)),
    "every point carried by its true velocity": Followed(lambda memory, sweep: TrueMovers.of(sweep)),
}
READOUT = {"readout_ms": ROW_TIME_US * 1e-3 * (SIZE[1] - 1)}
ROLLING: dict[str, Method] = {
    "row time given": ours(camera={"front": READOUT, "left": READOUT}),
    "row time ignored": ours(),
}


def by_network() -> dict[str, Method]:
    """With the labels of the network that ships."""
    network = OnnxRuntimeSegmenter(MODEL)
    return {
        "patches": ours(network, **PATCHING),
        "the default": ours(network),
        "`most_doubt: 0.11`": ours(network, visibility={"most_doubt": 0.11}),
    }


def scores(
    methods: dict[str, Method],
    drives: list[DriveSpec],
    sweeps: Callable[[list[DriveSpec]], Iterable[TrueSweep]] = true_sweeps,
) -> dict[str, dict[str, GeometryScore]]:
    """By method and part: of all points, of those on things that move, of each distance between the sensors, and of the
    drives that settings are chosen on (even seeds) and those that they are not (odd seeds)."""
    is_thing = Taxonomy.load("cityscapes").is_thing
    totals: dict[str, dict[str, GeometryScore]] = {name: {} for name in methods}
    for sweep in sweeps(drives):
        seeds = "chosen on" if sweep.spec.seed % 2 == 0 else "held out"
        everything = np.ones(len(sweep.scan), bool)
        parts = {"all": everything, "moving": sweep.speed > MOVING_MPS, "still": sweep.speed <= MOVING_MPS}
        parts |= {seeds: everything, f"{sweep.spec.distance:.2f} m": everything}
        for name, method in methods.items():
            class_id = method(sweep)
            if sweep.number < sweep.spec.unjudged:
                continue
            for part, rows in parts.items():
                truth = sweep.class_id[rows], sweep.in_view[:, rows], sweep.visible[:, rows]
                score = score_labels(class_id[rows], *truth, is_thing)
                totals[name][part] = totals[name].get(part, GeometryScore()) + score
    return totals


def table(rows: dict[str, GeometryScore]) -> str:
    """For the page: a line for each method."""
    columns = (
        "correct, of painted", "hidden points painted", "painted wrongly", "visible points left unknown",
        "precision of things",
    )  # fmt: skip
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, score in rows.items():
        shares = score.correct_share, score.false_share, score.wrong_share, score.lost_share, score.thing_precision
        lines.append(f"| {name} | " + " | ".join(f"{100.0 * share:.2f} %" for share in shares) + " |")
    return "\n".join(lines)


def counts(rows: dict[str, GeometryScore]) -> dict[str, dict[str, int]]:
    """For the file of figures."""
    return {name: {key: getattr(score, key) for key in score.__slots__} for name, score in rows.items()}


def write(block: str, content: str) -> None:
    """Put a table into its place on the page."""
    if PAGE.is_file():
        page = PAGE.read_text(encoding="utf-8")
        content = f"<!-- geometry {block} -->\n{content}\n<!-- end -->"
        page = re.sub(rf"<!-- geometry {block} -->.*?<!-- end -->", lambda _: content, page, flags=re.DOTALL)
        PAGE.write_text(page, encoding="utf-8")


def followed() -> dict[str, GeometryScore]:
    """Sweeps in a row in a moving world: printed, put on the page, and by row."""
    totals = scores(FOLLOWED, followed_specs())
    named = {"": "all", ": points on what moves": "moving", ": points on what stands": "still"}
    named |= {f": {part}": part for part in ("chosen on", "held out")}
    rows = {f"{name}{which}": parts[part] for which, part in named.items() for name, parts in totals.items()}
    print(f"\nsweeps in a row, moving world\n{table(rows)}", flush=True)
    write("followed", table(rows))
    return rows


def main() -> None:
    """Run, print, write the figures, the page's tables and its picture."""
    OUT.mkdir(exist_ok=True)
    figures = {}
    for world in ("static", "moving"):
        totals = scores(METHODS, specs(world == "static"))
        rows = {name: parts["all"] for name, parts in totals.items()}
        if world == "moving":
            rows |= {f"{name}: points on what moves": parts["moving"] for name, parts in totals.items()}
        print(f"\n{world} world, {SEEDS} drives\n{table(rows)}", flush=True)
        figures[world] = counts(rows)
        write(world, table(rows))
        if world == "static":
            rows = {
                f"{method}: {part}": totals[name][part]
                for method, name in (("the default", DEFAULT), ("patches", PATCHES))
                for part in sorted(totals[name])
                if part not in ("all", "moving", "still")
            }
            print(f"\n{table(rows)}", flush=True)
            write("parts", table(rows))
            figures["parts"] = counts(rows)
    figures["followed"] = counts(followed())
    for block, methods, drives, sweeps in (
        ("rolling", ROLLING, rolling_specs(), true_sweeps),
        ("near", NEAR, near_specs(), true_sweeps),
        ("glass", GLASS, glass_specs(), true_sweeps),
        ("network", by_network(), specs(True), drawn_sweeps),
    ):
        rows = {name: parts["all"] for name, parts in scores(methods, drives, sweeps).items()}
        print(f"\n{block}\n{table(rows)}", flush=True)
        write(block, table(rows))
        figures[block] = counts(rows)
    (OUT / "accuracy_geometry.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    plots.draw("accuracy.svg")


if __name__ == "__main__":
    sys.exit(main())
