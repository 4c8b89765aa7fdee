import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from seg_perception.datatypes import UNKNOWN
from seg_perception.errors import ConfigError
from seg_perception.labels import GROUPS_USED, UNKNOWN_COLOR, Taxonomy, class_groups, class_map

TWO = {
    "name": "two",
    "classes": [
        {"name": "ground", "id": 7, "train_id": 0, "color": [1, 2, 3]},
        {"name": "thing", "id": 9, "train_id": 1, "color": [4, 5, 6], "thing": True},
        {"name": "dirt", "id": 3, "train_id": 255, "color": [0, 0, 0]},
    ],
    "groups": {"drivable": ["ground"]},
}


def test_cityscapes_is_as_published():
    cityscapes = Taxonomy.load("cityscapes")
    assert cityscapes.names == (
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
        "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    )  # fmt: skip
    assert len(cityscapes.classes) == 35
    assert cityscapes.colors[13].tolist() == [0, 0, 142]
    assert np.flatnonzero(cityscapes.is_thing).tolist() == [11, 12, 13, 14, 15, 16, 17, 18]
    assert cityscapes.train_id_of_id[26] == 13
    assert cityscapes.train_id_of_id[9] == 255


@pytest.mark.parametrize(
    ("name", "count", "things", "names", "colors"),
    [("ade20k", 150, 100, "ffd47f2fcbad6c48", "ce475c9151035eff"),
     ("mapillary_vistas", 65, 37, "c7b18fb264f9bf5a", "e52761e163202f8f")],
)  # fmt: skip
def test_names_and_colours_are_those_of_the_published_list(name, count, things, names, colors):
    """Hashes of the lists in two publications each, which agree: Mask2Former's and mmsegmentation's."""
    taxonomy = Taxonomy.load(name)
    assert (len(taxonomy.names), taxonomy.is_thing.sum()) == (count, things)
    assert hashlib.sha256("\n".join(taxonomy.names).encode()).hexdigest().startswith(names)
    assert hashlib.sha256(taxonomy.colors[:count].tobytes()).hexdigest().startswith(colors)
    first = 1 if name == "ade20k" else 0  # whose label pictures have 0 for what has no class
    assert [entry.id for entry in taxonomy.trained] == list(range(first, first + count))
    assert set(GROUPS_USED) <= set(taxonomy.groups)


def test_a_train_id_without_a_class_has_the_colour_of_unknown():
    assert Taxonomy.load("cityscapes").colors[255].tolist() == list(UNKNOWN_COLOR)


def test_groups_and_classes_select_train_ids():
    cityscapes = Taxonomy.load("cityscapes")
    assert np.flatnonzero(cityscapes.members(["ground", "car"])).tolist() == [0, 1, 9, 13]
    with pytest.raises(ConfigError, match="unicorn"):
        cityscapes.members(["unicorn"])


def test_a_users_taxonomy_comes_from_yaml(tmp_path):
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump(TWO))
    taxonomy = Taxonomy.load(path)
    assert taxonomy.names == ("ground", "thing")
    assert taxonomy.train_id_of_id == {7: 0, 9: 1, 3: 255}
    assert taxonomy.members(["drivable"])[0]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"classes": "none"}, ["classes"]),
        ({"colours": {}}, ["colours"]),
        ({"groups": {"a": ["nobody"]}}, ["nobody"]),
        ({"groups": ["a"]}, ["groups", "list"]),
        ({"classes": [{**TWO["classes"][0], "train_id": 1}]}, ["train ids"]),
        ({"classes": [{**TWO["classes"][0], "color": [1, 2]}]}, ["ground", "color"]),
        ({"classes": [{**TWO["classes"][0], "train_id": 300}]}, ["ground", "300"]),
        ({"classes": [{**TWO["classes"][0], "shade": 3}]}, ["shade"]),
        ({"classes": [TWO["classes"][0], {**TWO["classes"][1], "name": "ground"}]}, ["repeat"]),
    ],
)
def test_bad_taxonomy_is_refused_by_name(change, names):
    with pytest.raises(ConfigError) as caught:
        Taxonomy.from_mapping({**TWO, **change}, "two.yaml")
    for name in names:
        assert name in str(caught.value)


def test_missing_taxonomy_lists_the_shipped_ones():
    with pytest.raises(ConfigError, match="cityscapes"):
        Taxonomy.load("nuscenes-lidarseg")


def test_broken_yaml_is_one_sentence_that_names_the_file(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("classes: [a")
    with pytest.raises(ConfigError, match="broken") as caught:
        Taxonomy.load(path)
    assert "\n" not in str(caught.value)


def test_groups_are_named_by_the_taxonomy_or_made_of_its_classes():
    groups = class_groups("drivable, traffic light, signs = traffic sign + pole+unknown,", Taxonomy.load("cityscapes"))
    members = {name: np.flatnonzero(table).tolist() for name, table in groups.items()}
    assert members == {"drivable": [0], "traffic_light": [6], "signs": [5, 7, UNKNOWN]}
    assert class_groups("", Taxonomy.load("cityscapes")) == {}


@pytest.mark.parametrize("text", ["hovercraft", "a=road+hovercraft", "1st=road", "a b=road", "road, road", "=road"])
def test_a_group_of_unknown_classes_or_without_a_usable_name_is_refused(text):
    with pytest.raises(ConfigError, match=r"group|hovercraft"):
        class_groups(text, Taxonomy.load("cityscapes"))


def three(*names):
    return Taxonomy.from_mapping(
        {
            "name": "three",
            "classes": [{"name": name, "train_id": i, "color": [i, i, i]} for i, name in enumerate(names)],
            "groups": {"all": list(names)},
        },
        "three",
    )


def test_classes_of_the_same_name_are_the_same_and_what_is_said_goes_before():
    cityscapes = Taxonomy.load("cityscapes")
    table = class_map("road=asphalt+gravel, unknown=sky", three("gravel", "car", "asphalt", "sky"), cityscapes)
    assert table[:4].tolist() == [0, 13, 0, UNKNOWN]
    assert (table[4:] == UNKNOWN).all()
    assert class_map("person=all", three("car", "sky", "bush"), cityscapes)[:3].tolist() == [11, 11, 11]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ["gravel", "asphalt", "three", "cityscapes", "unknown="]),
        ("road=gravel", ["asphalt"]),
        ("road=gravel+asphalt, sidewalk=gravel", ["gravel", "three", "sidewalk=gravel"]),
        ("tarmac=gravel+asphalt", ["tarmac"]),
        ("road=gravel+mud", ["mud"]),
        ("gravel", ["ours=theirs"]),
    ],
)
def test_a_class_without_a_counterpart_is_refused_by_name(text, names):
    with pytest.raises(ConfigError) as caught:
        class_map(text, three("gravel", "car", "asphalt"), Taxonomy.load("cityscapes"))
    assert all(name in str(caught.value) for name in names)


def test_the_page_on_networks_shows_a_taxonomy_that_is_one_and_tells_of_every_group():
    page = (Path(__file__).parents[1] / "docs/models.md").read_text()
    example = page.split("```yaml\n")[1].split("```")[0]
    taxonomy = Taxonomy.from_mapping(yaml.safe_load(example), "docs/models.md")
    assert set(taxonomy.groups) <= {*GROUPS_USED, "obstacles"}
    assert all(f"`{group}`" in page for group in GROUPS_USED)


def test_the_class_maps_of_the_page_on_networks_give_every_class_of_cityscapes_that_the_other_knows():
    page = (Path(__file__).parents[1] / "docs/models.md").read_text()
    maps = dict(re.findall(r"^\| `(\w+)` \| `(.+unknown=\*)` \|$", page, re.MULTILINE))
    cityscapes = Taxonomy.load("cityscapes")
    given = {
        name: {cityscapes.names[k] for k in class_map(text, Taxonomy.load(name), cityscapes) if k != UNKNOWN}
        for name, text in maps.items()
    }
    assert set(cityscapes.names) - given["ade20k"] == {"rider", "train"}
    assert set(cityscapes.names) == given["mapillary_vistas"]


def test_a_star_in_a_class_map_is_whatever_is_left_wherever_it_stands():
    cityscapes = Taxonomy.load("cityscapes")
    left = class_map("unknown=*, road=asphalt", three("gravel", "car", "asphalt", "sofa"), cityscapes)
    assert left[:4].tolist() == [UNKNOWN, 13, 0, UNKNOWN]
    assert (class_map("building=*", three("gravel", "sofa"), cityscapes)[:3] == [2, 2, UNKNOWN]).all()
    with pytest.raises(ConfigError, match=r"\* once wanted"):
        class_map("unknown=*, road=*", three("gravel", "sofa"), cityscapes)
