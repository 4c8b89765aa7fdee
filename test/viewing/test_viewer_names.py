"""The shipped RViz and Foxglove files set only what those programs have: a misspelt name they pass over in silence.

Names are those that the sources declare: RViz of ROS 2 Jazzy (rviz_common and rviz_default_plugins at 591594ee), and
Lichtblick, the open fork of Foxglove (suite-base at 66adecb9).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

_DISPLAY = {"Class", "Name", "Enabled"}
_QOS = {"Value", "Depth", "History Policy", "Reliability Policy", "Durability Policy"}
_ORBIT = {"Class", "Name", "Distance", "Yaw", "Pitch", "Focal Point", "Target Frame", "Near Clip Distance"}
_PLUGINS = {
    "rviz_default_plugins/Grid": {"Reference Frame", "Cell Size", "Plane Cell Count", "Color", "Alpha"},
    "rviz_default_plugins/TF": {"Show Names", "Show Axes", "Show Arrows", "Marker Scale", "Frame Timeout"},
    "rviz_default_plugins/Map": {"Topic", "Update Topic", "Alpha", "Color Scheme", "Draw Behind", "Use Timestamp"},
    "rviz_default_plugins/PointCloud2": {
        "Topic", "Selectable", "Style", "Size (m)", "Size (Pixels)", "Alpha", "Decay Time", "Position Transformer",
        "Color Transformer",
    },
    "rviz_default_plugins/MarkerArray": {"Topic", "Namespaces"},
    "rviz_default_plugins/Image": {"Topic", "Normalize Range", "Min Value", "Max Value", "Median window"},
    "rviz_default_plugins/MoveCamera": set(),
    "rviz_default_plugins/Select": set(),
    "rviz_default_plugins/Measure": {"Line color"},
    "rviz_common/Displays": set(),
    "rviz_common/Views": set(),
    "rviz_common/Time": set(),
}  # fmt: skip
_CHOICES = {
    "Style": {"Points", "Squares", "Flat Squares", "Spheres", "Boxes", "Tiles"},
    "Color Transformer": {"RGB8", "RGBF32", "Intensity", "AxisColor", "FlatColor"},
    "Position Transformer": {"XYZ"},
    "Color Scheme": {"map", "costmap", "raw"},
    "History Policy": {"System Default", "Keep Last", "Keep All"},
    "Reliability Policy": {"System Default", "Reliable", "Best Effort"},
    "Durability Policy": {"System Default", "Transient Local", "Volatile"},
}

_SCENE = {"cameraState", "followMode", "followTf", "scene", "layers", "topics", "transforms", "publish", "imageMode"}
_CAMERA = {
    "distance", "perspective", "phi", "target", "targetOffset", "targetOrientation", "thetaOffset", "fovy", "near",
    "far",
}  # fmt: skip
_GRID = {
    "visible", "frameLocked", "label", "instanceId", "layerId", "frameId", "size", "divisions", "lineWidth", "color",
    "position", "rotation", "order",
}  # fmt: skip
_CLOUD = {
    "visible", "frameLocked", "pointSize", "pointShape", "decayTime", "colorMode", "flatColor", "colorField",
    "gradient", "colorMap", "explicitAlpha", "minValue", "maxValue",
}  # fmt: skip
_TOPICS = {
    "points": (_CLOUD, {"flat", "gradient", "colormap", "rgb", "rgba"}),
    "map": (_CLOUD, {"flat", "gradient", "colormap", "rgb", "rgba"}),
    "bev/drivable": ({"visible", "frameLocked", "alpha", "colorMode"}, {"custom", "costmap", "map", "raw"}),
    "objects/markers": ({"visible", "color", "showOutlines", "selectedIdVariable", "namespaces"}, {None}),
}
_SUMMARY = {"topicToRender", "minLevel", "sortByLevel", "pinnedIds", "hardwareIdFilter", "secondsUntilStale"}


@pytest.fixture(scope="module")
def rviz(project_root: Path) -> dict:
    return yaml.safe_load((project_root / "rviz" / "perception.rviz").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def foxglove(project_root: Path) -> dict:
    return json.loads((project_root / "foxglove" / "perception.json").read_text(encoding="utf-8"))


def test_rviz_plugins_have_every_property_that_is_set(rviz):
    manager = rviz["Visualization Manager"]
    for plugin in (*manager["Displays"], *manager["Tools"], *rviz["Panels"]):
        assert set(plugin) - _DISPLAY <= _PLUGINS[plugin["Class"]], plugin["Class"]
        for key in {"Topic", "Update Topic"} & set(plugin):
            assert set(plugin[key]) <= _QOS
    view = manager["Views"]["Current"]
    assert view["Class"] == "rviz_default_plugins/ThirdPersonFollower"
    assert set(view) <= _ORBIT
    assert set(manager["Global Options"]) == {"Background Color", "Fixed Frame", "Frame Rate"}


def test_rviz_options_are_set_to_one_of_their_choices(rviz):
    def walk(node):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            if isinstance(value, (dict, list)):
                yield from walk(value)
            else:
                yield key, value

    chosen = [(key, value) for key, value in walk(rviz) if key in _CHOICES]
    assert chosen
    assert all(value in _CHOICES[key] for key, value in chosen)


def test_foxglove_panels_have_every_setting_that_is_set(foxglove):
    for name, panel in foxglove["configById"].items():
        kind = name.partition("!")[0]
        assert set(panel) <= {"3D": _SCENE, "Image": {"imageMode"}, "DiagnosticSummary": _SUMMARY}[kind], name
    scene = foxglove["configById"]["3D!scene"]
    assert set(scene["cameraState"]) == _CAMERA
    assert scene["followMode"] in {"follow-pose", "follow-position", "follow-none"}
    for layer in scene["layers"].values():
        assert layer["layerId"] == "foxglove.Grid"
        assert set(layer) <= _GRID
    for topic, settings in scene["topics"].items():
        known, modes = _TOPICS[topic.removeprefix("/perception_node/")]
        assert set(settings) <= known, topic
        assert settings.get("colorMode") in modes, topic
