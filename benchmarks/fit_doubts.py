"""`python benchmarks/fit_doubts.py`: fits the network that says how likely a point is hidden, to simulated drives.

The drives are none of those that `make accuracy-geometry` measures on. Writes `fusion/doubts.yaml`.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
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
from seg_perception.labels import Taxonomy

PAGE = Path(doubts.__file__).with_suffix(".yaml")
FIRST_SEED, DRIVES, OF_GLASS = 100, 24, 8
LAYERS = 24, 16  # whole fours
ROUNDS, BATCH, RATE = 24, 4096, 4e-3
HEAD = "# Weights of `doubts.py`, a layer's (inputs, outputs) and then its (outputs,). Written by fit_doubts.py.\n"


def specs() -> list[DriveSpec]:
    """Streets of their own, sensors 0.5 to 1.5 m apart; some again, with a LiDAR whose light passes windows."""
    drives = [DriveSpec(FIRST_SEED + k, round(0.5 + k * 5 % 12 / 11, 3)) for k in range(DRIVES)]
    return drives + [replace(drive, through_glass=0.8, sweeps=2) for drive in drives[:OF_GLASS]]


def examples(sweep: TrueSweep, kinds: Kinds) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """What is known of the doubtful points of a sweep, and whether a camera truly does not see them."""
    workspace, settings = Workspace(), with_spacing(VisibilityConfig(), sweep.scan.points)
    moved = MovedSweep(sweep.scan, sweep.tree, MotionConfig())
    by_direction = range_image(moved.points, settings)
    surfaces = Surfaces(by_direction, EdgesConfig(), workspace)
    known, hidden = [], []
    for visible, mount in zip(sweep.visible, sweep.cameras, strict=True):
        image = sweep.images[mount.name]
        T_cam_lidar = moved.T_cam_lidar(image.frame_id, image.stamp_ns)
        in_view = project(moved.points, T_cam_lidar, mount.model)
        u, v = np.floor(in_view.uv + 0.5).astype(int).T
        view = View(in_view, by_direction, mount.model, T_cam_lidar)
        said, _ = said_of(view, surfaces, np.ascontiguousarray(image.pixels[v, u, 0]), kinds, settings, workspace)
        found = Doubts(view, said, settings, workspace)
        known.append(found.features())
        hidden.append(~visible[in_view.index[found.which]])
    return np.concatenate(known), np.concatenate(hidden)


def fit(known: NDArray[np.float32], hidden: NDArray[np.bool_]) -> list[NDArray[np.float32]]:
    """The weights, layer by layer."""
    torch.manual_seed(0)
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
    known, hidden = zip(*(examples(sweep, kinds) for sweep in true_sweeps(specs())), strict=True)
    print(f"{sum(map(len, hidden))} points")
    PAGE.write_text(text(fit(np.concatenate(known), np.concatenate(hidden))), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
