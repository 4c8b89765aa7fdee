"""Which points a camera sees, as all say together that have a say in it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_perception.config import VisibilityConfig
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


def seen_of(
    view: View,
    surfaces: Surfaces,
    class_id: NDArray[np.uint8],
    kinds: Kinds,
    config: VisibilityConfig,
    workspace: Workspace,
) -> NDArray[np.bool_]:
    """(M,) bool: which points in view the camera sees: so say patches, the windows of vehicles, then surfaces, then, by
    method `learned`, a network. class_id: (M,) what the picture has for the points. The answer is an array of the
    workspace."""
    if config.method == "learned":
        said = said_of(view, surfaces, class_id, kinds, config, workspace)
        Doubts(view, said, config, workspace).settle(config.most_doubt)
        return said.kept
    return surfaces.settle(class_id, _hider(view, class_id, kinds, config, workspace), view.points.index)


def said_of(
    view: View,
    surfaces: Surfaces,
    class_id: NDArray[np.uint8],
    kinds: Kinds,
    config: VisibilityConfig,
    workspace: Workspace,
) -> Said:
    """What all say before the network is asked."""
    hider, index = _hider(view, class_id, kinds, config, workspace), view.points.index
    kept = surfaces.settle(class_id, hider, index)
    return Said(class_id, kinds.free, hider, kept, surfaces.labels(class_id, hider, index))


def _hider(
    view: View, class_id: NDArray[np.uint8], kinds: Kinds, config: VisibilityConfig, workspace: Workspace
) -> NDArray[np.int16]:
    points, sweep, camera, _ = view
    hider = hiding(points, sweep, camera, config, workspace, (class_id, kinds.free))
    if config.glass_m > 0.0 and config.method != "none":
        hide_behind_glass(class_id, hider, points.index, sweep, kinds.glazed, config, workspace)
    return hider
