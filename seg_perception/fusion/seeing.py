"""Which points a camera sees, as all say together that have a say in it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_perception.config import VisibilityConfig
from seg_perception.datatypes import PointLabels
from seg_perception.fusion.doubts import Doubts, Said, View
from seg_perception.fusion.edges import Surfaces
from seg_perception.fusion.glass import hide_behind_glass
from seg_perception.geometry.visibility import hiding
from seg_perception.geometry.workspace import Workspace
from seg_perception.labels import Taxonomy


class Kinds(NamedTuple):
    """Which classes are of which kind, each (256,) bool. free: have something behind them; glazed: have windows;
    untouchable: no laser meets them."""

    free: NDArray[np.bool_]
    glazed: NDArray[np.bool_]
    untouchable: NDArray[np.bool_]

    @classmethod
    def of(cls, taxonomy: Taxonomy) -> Kinds:
        """By the groups `freestanding`, `glazed` and `untouchable`; a taxonomy may have none of them."""
        groups = "freestanding", "glazed", "untouchable"
        return cls(*(taxonomy.members(taxonomy.groups.get(group, ())) for group in groups))


class Seen(NamedTuple):
    """What a camera sees. kept: (M,) bool, of the points in view, an array of the workspace. behind_windows: how many
    that nothing else hides; near_outlines: of how many the network decided; doubted: how many of those it did not keep.
    """

    kept: NDArray[np.bool_]
    behind_windows: int
    near_outlines: int
    doubted: int


def seen_of(
    view: View,
    surfaces: Surfaces,
    labels: PointLabels,
    kinds: Kinds,
    config: VisibilityConfig,
    workspace: Workspace,
) -> Seen:
    """Which points in view the camera sees: so say patches, the windows of vehicles, then surfaces, then, by method
    `learned`, a network. labels: what the picture has for the points."""
    if config.method != "learned":
        hider, behind_windows = _hider(view, labels.class_id, kinds, config, workspace)
        return Seen(surfaces.settle(labels.class_id, hider, view.points.index), behind_windows, 0, 0)
    said, behind_windows = said_of(view, surfaces, labels, kinds, config, workspace)
    doubts = Doubts(view, said, config, workspace)
    return Seen(said.kept, behind_windows, len(doubts.which), doubts.settle(config.most_doubt))


def said_of(
    view: View,
    surfaces: Surfaces,
    labels: PointLabels,
    kinds: Kinds,
    config: VisibilityConfig,
    workspace: Workspace,
) -> tuple[Said, int]:
    """What all say before the network is asked, and how many points windows hide."""
    class_id, index = labels.class_id, view.points.index
    hider, behind_windows = _hider(view, class_id, kinds, config, workspace)
    kept, of_cells = surfaces.settle(class_id, hider, index), surfaces.labels(class_id, hider, index)
    return Said(class_id, labels.margin, kinds.free, hider, kept, of_cells), behind_windows


def _hider(
    view: View, class_id: NDArray[np.uint8], kinds: Kinds, config: VisibilityConfig, workspace: Workspace
) -> tuple[NDArray[np.int16], int]:
    points, sweep, camera, _ = view
    hider = hiding(points, sweep, camera, config, workspace, (class_id, kinds.free))
    if config.glass_m == 0.0 or config.method == "none":
        return hider, 0
    return hider, hide_behind_glass(class_id, hider, points.index, sweep, kinds.glazed, config, workspace)
