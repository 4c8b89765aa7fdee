"""vision_msgs/LabelInfo: what the class ids in label images and semantic clouds mean."""

from __future__ import annotations

from typing import Any

from seg_perception.labels import Taxonomy


def label_info_fields(taxonomy: Taxonomy) -> dict[str, Any]:
    """The fields of a LabelInfo, header excepted. `class_map`: (class_id, class_name) of each train id, in order.

    threshold 0: labels are published whatever their probability, which travels with each point.
    """
    return {
        "class_map": tuple((entry.train_id, entry.name) for entry in taxonomy.trained),
        "threshold": 0.0,
    }
