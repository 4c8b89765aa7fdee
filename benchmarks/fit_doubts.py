"""`python benchmarks/fit_doubts.py`: fits the network that says how likely a point is hidden, to simulated drives.

The drives are none of those that `make accuracy-geometry` measures on. Half of them are given twice: with the true
labels, and with those that the network that ships makes of their pictures, which err and of which it is not always
sure. In twelve more the cameras stand as near to the LiDAR as on many a roof. Each sweep is given once more as a LiDAR
of fewer beams or columns measures it. Writes `fusion/doubts.yaml`.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import torch
from accuracy import TruthSegmenter
from drawn_drives import drawn_sweeps
from drives import DriveSpec, TrueSweep, true_sweeps
from numpy.typing import NDArray
from torch import nn

from seg_perception.config import EdgesConfig, MotionConfig, VisibilityConfig
from seg_perception.fusion import doubts
from seg_perception.fusion.doubts import Doubts, View
from seg_perception.fusion.edges import Surfaces
from seg_perception.fusion.seeing import Kinds, said_of
from seg_perception.geometry.motion import MovedSweep
from seg_perception.geometry.projection import project
from seg_perception.geometry.spacing import with_spacing
from seg_perception.geometry.visibility import range_image
from seg_perception.geometry.workspace import Workspace
from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter
from seg_perception.inference.segmenter import Segmenter
from seg_perception.labels import Taxonomy
from seg_perception.shipped import MODEL

PAGE = Path(doubts.__file__).with_suffix(".yaml")
FIRST_SEED, DRIVES, OF_GLASS, DRAWN, NEAR = 100, 24, 8, 12, 12
THINNED = ((2, 1), (1, 2), (2, 2), (4, 1))  # every so manieth beam and column
LAYERS = 24, 16  # whole fours
ROUNDS, BATCH, RATE = 24, 4096, 4e-3
HEAD = "# Weights of `doubts.py`, a layer's (inputs, outputs) and then its (outputs,). Written by fit_doubts.py.\n"


def specs() -> list[DriveSpec]:
    """Streets of their own, sensors 0.5 to 1.5 m apart; some again, with a LiDAR whose light passes windows; and some
    with sensors 0.05 to 0.5 m apart, exposed as the LiDAR looks ahead: there the vehicle's way adds little to that."""
    drives = [DriveSpec(FIRST_SEED + k, round(0.5 + k * 5 % 12 / 11, 3)) for k in range(DRIVES)]
    glazed = [replace(drive, through_glass=0.8, sweeps=2) for drive in drives[:OF_GLASS]]
    seeds = range(FIRST_SEED + DRIVES, FIRST_SEED + DRIVES + NEAR)
    near = [
        DriveSpec(seed, round(0.05 + 0.45 * (k * 5 % 12 / 11), 3), offset_ms=0.0, sweeps=3)
        for k, seed in enumerate(seeds)
    ]
    return [*drives, *glazed, *near]


def thinned(sweep: TrueSweep) -> TrueSweep:
    """As a LiDAR of fewer beams or columns sees it, another one in each street."""
    every_beam, every_column = THINNED[sweep.spec.seed % len(THINNED)]
    scan = sweep.scan
    assert scan.stamps_ns is not None
    column = np.unique(scan.stamps_ns, return_inverse=True)[1]
    left = (scan.cloud.field("ring") % every_beam == 0) & (column % every_column == 0)
    scan = replace(scan, cloud=scan.cloud.select(left), points=scan.points[left], stamps_ns=scan.stamps_ns[left])
    return replace(sweep, scan=scan, in_view=sweep.in_view[:, left], visible=sweep.visible[:, left])


def examples(sweep: TrueSweep, segmenter: Segmenter, kinds: Kinds) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """What is known of the doubtful points of a sweep, and whether a camera truly does not see them."""
    workspace, settings = Workspace(), with_spacing(VisibilityConfig(), sweep.scan.points)
    moved = MovedSweep(sweep.scan, sweep.tree, MotionConfig())
    by_direction = range_image(moved.points, settings)
    surfaces = Surfaces(by_direction, EdgesConfig(), workspace)
    known, hidden = [], []
    for truly_in_view, visible, mount in zip(sweep.in_view, sweep.visible, sweep.cameras, strict=True):
        image = sweep.images[mount.name]
        T_cam_lidar = moved.T_cam_lidar(image.frame_id, image.stamp_ns)
        in_view = project(moved.points, T_cam_lidar, mount.model)
        labels = segmenter.segment(image.pixels).sample(in_view.uv)
        view = View(in_view, by_direction, mount.model, T_cam_lidar)
        said, _ = said_of(view, surfaces, labels, kinds, settings, workspace)
        found = Doubts(view, said, settings, workspace)
        index = in_view.index[found.which]
        known.append(found.features()[truly_in_view[index]])
        hidden.append(~visible[index[truly_in_view[index]]])
    return np.concatenate(known), np.concatenate(hidden)


def fit(known: NDArray[np.float32], hidden: NDArray[np.bool_]) -> list[NDArray[np.float32]]:
    """The weights, layer by layer."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # on so small a network threads mostly wait for each other
    middle, spread = known.mean(axis=0), known.std(axis=0) + 1e-3
    given, wanted = torch.from_numpy((known - middle) / spread), torch.from_numpy(hidden.astype(np.float32))
    sizes = (known.shape[1], *LAYERS)
    layers = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.ReLU())]
    network = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    batches = len(given) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=ROUNDS * batches)
    for done in range(ROUNDS):
        loss_sum = 0.0
        for rows in torch.randperm(len(given))[: batches * BATCH].split(BATCH):
            loss = nn.functional.binary_cross_entropy_with_logits(network(given[rows])[:, 0], wanted[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            loss_sum += loss.item()
        print(f"round {done + 1} of {ROUNDS}: {loss_sum / batches:.4f}", flush=True)
    weights = [value.detach().numpy().astype(np.float64) for value in network.parameters()]
    weights[::2] = [matrix.T for matrix in weights[::2]]
    weights[0] /= spread[:, None]  # what is given comes as it is
    weights[1] -= middle @ weights[0]
    return [values.astype(np.float32) for values in weights]


def text(weights: list[NDArray[np.float32]]) -> str:
    """A page of numbers, a row of a matrix to a line."""
    lines = [HEAD + "layers:"]
    for values in weights:
        rows = [f"[{', '.join(f'{value:.4g}' for value in row)}]" for row in np.atleast_2d(values)]
        lines += ["  -", *(f"    - {row}" for row in rows)] if values.ndim == 2 else [f"  - {rows[0]}"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Simulate where needed, fit, write."""
    kinds = Kinds.of(Taxonomy.load("cityscapes"))
    true = ((sweep, TruthSegmenter()) for sweep in true_sweeps(specs()))
    network = OnnxRuntimeSegmenter(MODEL)
    erring = ((sweep, network) for sweep in drawn_sweeps(specs()[:DRAWN]))
    given = ((each, labels) for sweep, labels in chain(true, erring) for each in (sweep, thinned(sweep)))
    known, hidden = zip(*(examples(*each, kinds) for each in given), strict=True)
    print(f"{sum(map(len, hidden))} points")
    PAGE.write_text(text(fit(np.concatenate(known), np.concatenate(hidden))), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
