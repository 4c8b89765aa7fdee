"""LabelInfo tells what the published class ids mean."""

from __future__ import annotations

from seg_perception.labels import Taxonomy
from seg_perception.messages.labels import label_info_fields


def test_every_train_id_has_its_name() -> None:
    taxonomy = Taxonomy.load("cityscapes")
    fields = label_info_fields(taxonomy)
    assert fields["class_map"] == tuple(enumerate(taxonomy.names))
    assert dict(fields["class_map"])[13] == "car"
