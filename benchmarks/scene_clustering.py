"""Clusters of points against true instances: ours, and the candidates of the design notes on the same points."""

from __future__ import annotations

import time
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from scene_truth import DRIVES, TAXONOMY, sweeps
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from seg_perception.config import ObjectsConfig
from seg_perception.scene.clustering import Clusterer, Groups

Clustering = Callable[[NDArray[np.float32], NDArray[np.uint8]], NDArray]


def clustering(every: int) -> dict[str, dict[str, float]]:
    """ARI, share of things found (IoU above 0.5 of their points, at least five of them), F1, and time."""
    groups = Groups.of(TAXONOMY, ObjectsConfig())
    ours = Clusterer(groups, ObjectsConfig())
    fixed = Clusterer(Groups.of(TAXONOMY, ObjectsConfig(reach_ratio=0.0, vehicle_reach_ratio=0.0)), ObjectsConfig())
    methods: dict[str, Clustering] = {
        "ours": lambda points, group: ours.cluster(points[:, :2], group)[0],
        "ours, reach not growing with range": lambda points, group: fixed.cluster(points[:, :2], group)[0],
        "BEV 0.2 m, dilated, cv2": lambda points, group: bev_components(points),
        "BEV 0.2 m, dilated, cv2, for each group": lambda points, group: by_group(bev_components, points, group),
        "voxels 0.2 m, k-d tree 0.5 m": lambda points, group: voxel_components(points),
        "voxels 0.2 m, k-d tree 0.5 m, for each group": lambda points, group: by_group(voxel_components, points, group),
    }
    rows: dict[str, list[tuple[float, ...]]] = {name: [] for name in methods}
    for drive in DRIVES:
        for sweep in list(sweeps(drive))[::every]:
            group = groups.of_class[sweep.class_id]
            chosen = (group != 255) & (sweep.instance > 0) & (abs(sweep.points[:, :2]).max(axis=1) < 100.0)
            points = sweep.points[chosen] @ sweep.T_world_lidar[:3, :3].T.astype(np.float32)
            for name, method in methods.items():
                start = time.thread_time()
                found = method(points, group[chosen])
                spent = time.thread_time() - start
                rows[name].append(
                    (rand_index(sweep.instance[chosen], found), spent, *found_things(sweep.instance[chosen], found))
                )
    result = {}
    for name, values in rows.items():
        ari, spent, hits, misses, false = np.array(values).T
        result[name] = {
            "ARI": ari.mean(), "worst ARI": ari.min(), "F1": 2 * hits.sum() / (2 * hits + misses + false).sum(),
            "ms": 1e3 * float(np.median(spent[1:])),
        }  # fmt: skip
    return result


def bev_components(points: NDArray) -> NDArray:
    """A picture from above in cells of 0.2 m, dilated by one, and its connected components."""
    cells = np.floor((points[:, :2] + 100.0) / 0.2).astype(int)
    picture = np.zeros((1000, 1000), np.uint8)
    picture[cells[:, 0], cells[:, 1]] = 1
    return cv2.connectedComponents(cv2.dilate(picture, np.ones((3, 3), np.uint8)))[1][cells[:, 0], cells[:, 1]]


def voxel_components(points: NDArray) -> NDArray:
    """Voxels of 0.2 m that are within 0.5 m of each other."""
    voxels, index = np.unique(np.floor(points / 0.2).astype(np.int64), axis=0, return_inverse=True)
    pairs = cKDTree((voxels + 0.5) * 0.2).query_pairs(0.5, output_type="ndarray")
    links = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (len(voxels), len(voxels)))
    return connected_components(links, directed=False)[1][index.ravel()]


def by_group(method: Callable[[NDArray], NDArray], points: NDArray, group: NDArray) -> NDArray:
    """A clustering of each group of classes by itself."""
    found = np.zeros(len(points), int)
    for g in np.unique(group):
        found[group == g] = method(points[group == g]) * 256 + int(g)
    return found


def contingency(truth: NDArray, found: NDArray) -> NDArray:
    """Points shared by each thing (rows) and each cluster; what is in no cluster is one for itself."""
    found = np.where(found < 0, -1 - np.arange(len(found)), found)
    rows, columns = (np.unique(labels, return_inverse=True)[1].ravel() for labels in (truth, found))
    return np.bincount(rows * (columns.max() + 1) + columns, minlength=(rows.max() + 1) * (columns.max() + 1)).reshape(
        rows.max() + 1, -1
    )


def rand_index(truth: NDArray, found: NDArray) -> float:
    """The adjusted Rand index (Hubert and Arabie, 1985)."""
    table = contingency(truth, found).astype(float)
    both, of_truth, of_found = (float((n * (n - 1) / 2).sum()) for n in (table, table.sum(1), table.sum(0)))
    chance = of_truth * of_found / (len(truth) * (len(truth) - 1) / 2)
    return (both - chance) / (0.5 * (of_truth + of_found) - chance)


def found_things(truth: NDArray, found: NDArray) -> tuple[int, int, int]:
    """Things found, missed, and clusters that are none; of five points or more."""
    shared = contingency(truth, found)
    things, clusters = shared.sum(axis=1), shared.sum(axis=0)
    match = shared / (things[:, None] + clusters[None] - shared) > 0.5
    hit = match.any(axis=1)
    return (
        int((hit & (things >= 5)).sum()),
        int((~hit & (things >= 5)).sum()),
        int((~match.any(axis=0) & (clusters >= 5)).sum()),
    )
