"""How right the labels of points are, sweep by sweep, where a bag holds the truth of each point."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_perception.bags import BagReader
from seg_perception.config import NODE_NAME
from seg_perception.datatypes import UNKNOWN, PointCloud
from seg_perception.errors import BagError, ConfigError, MessageError
from seg_perception.evaluation.geometry import GeometryScore, score_labels
from seg_perception.evaluation.metrics import VOID, ConfusionMatrix, PanopticQuality
from seg_perception.evaluation.reports import number, panoptic_report, semantic_report
from seg_perception.labels import Taxonomy
from seg_perception.messages.pointcloud import decode_cloud

TRUTH_TOPIC = "/truth/points"
LABEL_INFO = "vision_msgs/msg/LabelInfo"
FEWEST_POINTS = 15
"""An instance of fewer points is neither missed nor a false alarm, as in Panoptic nuScenes (SemanticKITTI: 50)."""


@dataclass(frozen=True, slots=True, eq=False)
class PointTruth:
    """The truth of one sweep of N points, in their order.

    class_id: (N,) uint8 train ids, 255 void. instance_id: (N,) integers, 0 for none. in_view, visible: (N,) whether any
    camera has the point within its picture, and truly sees it; None where the truth does not tell.
    """

    stamp_ns: int
    class_id: NDArray[np.uint8]
    instance_id: NDArray[np.integer] | None
    in_view: NDArray[np.bool_] | None
    visible: NDArray[np.bool_] | None

    @classmethod
    def of(cls, cloud: PointCloud) -> PointTruth:
        """From the field `class_id` and, where they are there, `instance_id`, `in_view`, `visible` (a bit a camera)."""

        def seen(name: str) -> NDArray[np.bool_] | None:
            return cloud.field(name) != 0 if cloud.has(name) else None

        instance_id = cloud.field("instance_id").astype(np.int64) if cloud.has("instance_id") else None
        class_id = cloud.field("class_id").astype(np.uint8)
        return cls(cloud.stamp_ns, class_id, instance_id, seen("in_view"), seen("visible"))


def truth_topic(bag: BagReader, lidar: str) -> str:
    """Where a bag holds the truth of this LiDAR's points: on a topic of its own, or on that of the only one."""
    of_lidar = f"/truth/{lidar}/points"
    return of_lidar if of_lidar in bag.topics else TRUTH_TOPIC


class TruthReader:
    """The truth of sweeps by their stamp, read forward through an open bag. Raises BagError where it holds none."""

    def __init__(self, bag: BagReader, topic: str = TRUTH_TOPIC) -> None:
        if topic not in bag.topics:
            raise BagError(f"bag {bag.path}: no truth of points on {topic}; its topics are {list(bag.topics)}")
        self._rest = (PointTruth.of(decode_cloud(message.msg, positions=False)) for message in bag.messages({topic}))
        self._waiting: dict[int, PointTruth] = {}
        self.sweeps = bag.counts[topic]

    def at(self, stamp_ns: int) -> PointTruth | None:
        """Of the sweep with this stamp; None where there is none. What is older is forgotten: ask in order of time."""
        while stamp_ns not in self._waiting and max(self._waiting, default=0) < stamp_ns:
            truth = next(self._rest, None)
            if truth is None:
                break
            self._waiting[truth.stamp_ns] = truth
        self._waiting = {stamp: truth for stamp, truth in self._waiting.items() if stamp >= stamp_ns}
        return self._waiting.get(stamp_ns)


class PointScores:
    """Adds up sweeps.

    all, visible: confusion over every point, and over those that a camera truly sees. Void is left out; a point without
    a label is a miss of its class. Instances are compared among the visible points; a thing's point that belongs to no
    instance has no segment on either side.
    """

    def __init__(self, taxonomy: Taxonomy, fewest_points: int = FEWEST_POINTS) -> None:
        classes = len(taxonomy.trained)
        self._taxonomy = taxonomy
        self._fewest_points = fewest_points
        self.all, self.visible = ConfusionMatrix(classes), ConfusionMatrix(classes)
        self.quality = PanopticQuality(taxonomy.is_thing[:classes], smallest=fewest_points)
        self.geometry = GeometryScore()
        self.sweeps = 0
        self._instances_seen = [False, False]

    def add(self, truth: PointTruth, class_id: NDArray[np.uint8], instance_id: NDArray[np.integer]) -> None:
        """class_id: (N,) uint8, UNKNOWN where not labelled. instance_id: (N,), 0 for none. Raises MessageError."""
        if len(class_id) != len(truth.class_id):
            raise MessageError(
                f"sweep at {truth.stamp_ns} ns: labels of {len(truth.class_id)} points wanted, {len(class_id)} seen"
            )
        self.sweeps += 1
        self.all.update(truth.class_id, class_id)
        measured = truth.class_id
        if truth.visible is not None:
            measured = np.where(truth.visible, truth.class_id, VOID).astype(np.uint8)
            self.visible.update(measured, class_id)
        if truth.visible is not None and truth.in_view is not None:
            masks = truth.in_view[None], truth.visible[None]
            self.geometry += score_labels(class_id, truth.class_id, *masks, self._taxonomy.is_thing)
        if truth.instance_id is not None:
            self._add_instances(measured, truth.instance_id, class_id, instance_id)

    def report(self) -> dict[str, Any]:
        """Fit for JSON; what could not be measured is absent. `labelled`: of the points that got a label."""
        names = self._taxonomy.names
        labelled = ConfusionMatrix(self.all.num_classes)
        labelled.counts[:, :-1] = self.all.counts[:, :-1]
        report: dict[str, Any] = {"sweeps": self.sweeps}
        if self.visible.counts.any():
            report["visible"] = semantic_report(self.visible, names, "points")
            report["geometry"] = {
                name: number(getattr(self.geometry, name))
                for name in ("correct_share", "false_share", "wrong_share", "lost_share", "thing_precision")
            }
        report["labelled"] = semantic_report(labelled, names, "points")
        report["all"] = semantic_report(self.all, names, "points")
        if all(self._instances_seen):
            report["panoptic"] = panoptic_report(self.quality.scores, names, self._taxonomy.is_thing)
            report["panoptic"]["fewest_points"] = self._fewest_points
        return report

    def _add_instances(
        self,
        truth: NDArray[np.uint8],
        truth_instance: NDArray[np.integer],
        class_id: NDArray[np.uint8],
        instance_id: NDArray[np.integer],
    ) -> None:
        segmented = []
        for side, (classes, instances) in enumerate(((truth, truth_instance), (class_id, instance_id))):
            thing = self._taxonomy.is_thing[classes]
            segmented.append(np.where(thing & (instances == 0), VOID, classes).astype(np.uint8))
            self._instances_seen[side] |= bool((thing & (instances != 0)).any())
        self.quality.update(segmented[0], truth_instance, segmented[1], instance_id)


def check_classes(bag: BagReader, taxonomy: Taxonomy) -> None:
    """Refuse a bag whose LabelInfo names other classes than the taxonomy. One without LabelInfo is believed."""
    for topic, names in _class_names(bag):
        wanted = dict(enumerate(taxonomy.names))
        if names != wanted:
            differing = sorted(k for k in {*names, *wanted} if names.get(k) != wanted.get(k))
            seen, want = names.get(differing[0]), wanted.get(differing[0])
            raise ConfigError(
                f"bag {bag.path}: {topic}: class {differing[0]} is '{seen}', that of taxonomy '{taxonomy.name}' is "
                f"'{want}'; name the taxonomy with --taxonomy"
            )


def _class_names(bag: BagReader) -> Iterator[tuple[str, dict[int, str]]]:
    """Every LabelInfo topic with what its first message says, unknown left out."""
    topics = {topic for topic, type in bag.topics.items() if type == LABEL_INFO}
    of_cloud = f"/{NODE_NAME}/label_info"
    if of_cloud in topics:  # a camera's picture may have classes of its own
        topics = {topic for topic in topics if topic == of_cloud or not topic.startswith(f"/{NODE_NAME}/")}
    for message in bag.messages(topics) if topics else ():
        if message.topic in topics:
            topics.remove(message.topic)
            entries = ((int(entry.class_id), str(entry.class_name)) for entry in message.msg.class_map)
            yield message.topic, {number: name for number, name in entries if number != UNKNOWN}
        if not topics:
            return
