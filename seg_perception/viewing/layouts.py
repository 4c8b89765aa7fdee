"""What RViz and Foxglove show, and what SROS2 allows, for the cameras, LiDARs and groups of one parameter file.

The files that come with the package, for one camera `front` and one LiDAR, are the templates: what is there once for
each sensor is repeated.
"""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import yaml

from seg_perception.config import Config
from seg_perception.labels import Taxonomy, class_groups
from seg_perception.offline import NODE, points_topic
from seg_perception.scene_topics import SceneTopics

_PICTURES = ("label_image", "confidence", "overlay")
_TEMPLATE_CAMERA = "front"
_ALWAYS = ("/diagnostics", "/parameter_events", "/rosout", "~/label_info", "~/statistics", "~/transition_event")


def rviz(template: str, config: Config, node: str = NODE) -> str:
    """An RViz configuration: a cloud of each LiDAR, the overlay of each camera. node: its name with its namespace."""
    content = yaml.safe_load(template)
    manager = content["Visualization Manager"]
    manager["Global Options"]["Fixed Frame"] = config.motion.fixed_frame
    shown = {"Semantic cloud": _clouds(config, node), "Overlay": _of_cameras(config, node, "overlay")}
    displays = []
    for display in manager["Displays"]:
        topics = shown.get(display["Name"]) or [display.get("Topic", {}).get("Value", "").replace(NODE, node, 1)]
        for topic in topics:
            one = copy.deepcopy(display)
            if len(topics) > 1:
                one["Name"] = f"{display['Name']} {_sensor(topic, node)}"
            for key in ("Topic", "Update Topic"):
                if key in one:
                    one[key]["Value"] = topic + "_updates" * (key == "Update Topic")
            displays.append(one)
    manager["Displays"] = displays
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def foxglove(template: str, config: Config, node: str = NODE) -> str:
    """A Foxglove layout: the cloud of each LiDAR in one scene; a panel with the overlay of each camera."""
    content = json.loads(template)
    panels = content["configById"]
    scene = panels["3D!scene"]
    drawn: dict[str, Any] = {}
    for topic, look in scene["topics"].items():
        clouds = _clouds(config, node) if topic == points_topic("") else [topic.replace(NODE, node, 1)]
        drawn |= {cloud: look for cloud in clouds}
    scene["topics"] = drawn
    panel = panels.pop(f"Image!overlay_{_TEMPLATE_CAMERA}")
    pictures = []
    for topic in _of_cameras(config, node, "overlay/compressed"):
        pictures.append(f"Image!overlay_{_sensor(topic, node)}")
        panels[pictures[-1]] = copy.deepcopy(panel)
        panels[pictures[-1]]["imageMode"]["imageTopic"] = topic
    content["layout"]["second"] = _column([*pictures, "DiagnosticSummary!summary"])
    return json.dumps(content, indent=2) + "\n"


def policy(template: str, config: Config, node: str = NODE) -> str:
    """An SROS2 policy that allows the topics which the node uses with these settings, and no other."""
    subscribed = {"/tf", "/tf_static", *config.lidar_topics().values()}
    for camera in config.cameras:
        subscribed.add(camera.resolved_image_topic())
        if not camera.calibration:
            subscribed.add(camera.resolved_info_topic())
    namespace, _, name = node.rpartition("/")
    text = re.sub(r'<profile ns="[^"]*" node="[^"]*">', f'<profile ns="{namespace or "/"}" node="{name}">', template)
    for permission, topics in (("subscribe", subscribed), ("publish", _published(config))):
        entries = "".join(f"            <topic>{topic}</topic>\n" for topic in sorted(topics))
        block = re.compile(rf'(<topics {permission}="ALLOW">\n).*?( *</topics>)', re.DOTALL)
        text = block.sub(rf"\g<1>{entries}\g<2>", text)
    return text


def _published(config: Config) -> set[str]:
    taxonomy = Taxonomy.load(config.taxonomy)
    topics = {*_ALWAYS, *(f"~/{topic}" for topic in SceneTopics(config, taxonomy).types)}
    for cloud in _clouds(config, "~"):
        topics |= {cloud, *(f"{cloud}/{group}" for group in class_groups(config.output.point_groups, taxonomy))}
    for kind in _PICTURES:
        pictures = _of_cameras(config, "~", kind)
        topics |= {*pictures, *(f"{picture}/compressed" for picture in pictures)}
    return topics | set(_of_cameras(config, "~", "label_info"))


def _clouds(config: Config, node: str) -> list[str]:
    return [points_topic(lidar, node) for lidar in config.lidar_topics()]


def _of_cameras(config: Config, node: str, kind: str) -> list[str]:
    return [f"{node}/{camera.name}/{kind}" for camera in config.cameras]


def _sensor(topic: str, node: str) -> str:
    """The name of the camera or LiDAR in a topic of the node."""
    return topic.removeprefix(f"{node}/").split("/")[0]


def _column(panels: list[str]) -> str | dict:
    """Panels one below the other, all of one height."""
    first, *rest = panels
    if not rest:
        return first
    return {"direction": "column", "splitPercentage": round(100 / len(panels)), "first": first, "second": _column(rest)}
