"""`python benchmarks/hidden_causes.py`: of the points that a camera does not see, by what hides them: how many are
painted all the same.

By truth, on two sweeps of each drive with an even seed: how far before the point the camera's ray first meets
something, and whether the LiDAR measured anything there. Prints a table and puts it into docs/accuracy.md.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np
from accuracy import TruthSegmenter, specs, write
from drives import TrueSweep, true_sweeps
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from tqdm import tqdm

from seg_perception.config import Config
from seg_perception.pipeline import Pipeline
from seg_perception.simulation.drive import Drive
from seg_perception.simulation.lidar import Sweep
from seg_perception.simulation.truth import TOLERANCE

SETTINGS = {"the default": {}, "`most_doubt: 0.11`": {"visibility": {"most_doubt": 0.11}}}
BEAM_RAD = np.radians(0.49)
NEAR_BEAMS, NEAR_M = 1.5, 0.1  # as near to where the ray ends, a point of the same class has measured what is there
GAPS_M = (TOLERANCE, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Hidden:
    """Points that one camera has in view and does not see. gap_m: (H,) from what hides each to the point; measured:
    (H,) whether the LiDAR met that; painted, wrongly: (H,) by each of SETTINGS, from that camera's picture."""

    gap_m: NDArray[np.float64]
    measured: NDArray[np.bool_]
    painted: dict[str, NDArray[np.bool_]]
    wrongly: dict[str, NDArray[np.bool_]]


def hidden_points(sweep: TrueSweep, drive: Drive) -> list[Hidden]:
    """Those of each camera."""
    exact = drive.sweep(sweep.spec.number(sweep.number))
    assert np.array_equal(exact.points, sweep.scan.points), "not the sweep that was kept"
    exposed = exact.time + 1e-3 * sweep.spec.offset_ms
    results = {name: _painted(sweep, settings) for name, settings in SETTINGS.items()}
    found = []
    for number, camera in enumerate(drive.cameras):
        rows = np.flatnonzero(sweep.in_view[number] & ~sweep.visible[number])
        origin, points = camera.T_world_cam(exposed)[:3, 3], exact.in_world[rows]
        way = points - origin
        distance = np.linalg.norm(way, axis=1)
        directions = way / distance[:, None]
        hits = drive.world.cast(np.broadcast_to(origin, way.shape), directions, exposed)
        ends = origin + directions * hits.distance[:, None]
        of_ends = drive.world.class_of(hits, 255)
        range_m = np.linalg.norm(ends - drive.T_world_base(exact.time)[:3, 3], axis=1)
        measured = _measured(exact, ends, of_ends, NEAR_BEAMS * BEAM_RAD * range_m + NEAR_M)
        painted = {name: (camera == number)[rows] for name, (camera, _) in results.items()}
        wrong = {name: (class_id != sweep.class_id)[rows] & painted[name] for name, (_, class_id) in results.items()}
        found.append(Hidden(distance - hits.distance, measured, painted, wrong))
    return found


def _painted(sweep: TrueSweep, settings: dict[str, object]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Which camera each of the N points has its label from, and the label."""
    pipeline = Pipeline(Config.from_mapping({"cameras": ["front", "left"], **settings}), TruthSegmenter(), sweep.tree)
    for mount in sweep.cameras:
        pipeline.set_camera(mount.name, mount.model)
    cloud = pipeline.process(sweep.scan, sweep.images).cloud
    return cloud.camera.copy(), cloud.class_id.copy()


def _measured(exact: Sweep, ends: NDArray, class_id: NDArray, near_m: NDArray) -> NDArray[np.bool_]:
    """Whether a point of that class lies as near to each end."""
    answer = np.zeros(len(ends), bool)
    for wanted in np.unique(class_id):
        rows, points = np.flatnonzero(class_id == wanted), exact.in_world[exact.class_id == wanted]
        if len(points):
            answer[rows] = cKDTree(points).query(ends[rows])[0] <= near_m[rows]
    return answer


def table(found: list[Hidden]) -> str:
    """For the page: a line for each gap, and for what the LiDAR met or not."""
    gap_m, measured = (np.concatenate([getattr(points, name) for points in found]) for name in ("gap_m", "measured"))
    kinds = {
        f"by what is {low:g} to {high:g} m nearer": (gap_m >= low) & (gap_m < high) for low, high in pairwise(GAPS_M)
    }
    far = gap_m >= GAPS_M[-1]
    kinds |= {f"by {GAPS_M[-1]:g} m or more, and the LiDAR met it there": far & measured}
    kinds |= {f"by {GAPS_M[-1]:g} m or more, and the LiDAR did not": far & ~measured, "all": gap_m >= GAPS_M[0]}
    columns = {
        f"{what}, {name}": np.concatenate([getattr(points, what)[name] for points in found])
        for name in SETTINGS
        for what in ("painted", "wrongly")
    }
    lines = [f"| hidden | share | {' | '.join(columns)} |", "|---|" + "---:|" * (len(columns) + 1)]
    for name, rows in kinds.items():
        counts = [rows.sum(), *((rows & some).sum() for some in columns.values())]
        shares = " | ".join(f"{100.0 * count / kinds['all'].sum():.2f} %" for count in counts)
        lines.append(f"| {name} | {shares} |")
    return "\n".join(lines)


def main() -> None:
    """Simulate where needed, count, print, write."""
    found: list[Hidden] = []
    for spec in tqdm(specs(True)[::2], unit="drive"):
        drive = Drive(spec.config())
        for sweep in islice(true_sweeps([spec]), 1, None, 2):
            found += hidden_points(sweep, drive)
    print(table(found))
    write("causes", table(found))


if __name__ == "__main__":
    sys.exit(main())
