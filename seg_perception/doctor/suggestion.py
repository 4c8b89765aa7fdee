"""The parameter file that a recorded bag asks for: its cameras, its LiDARs, the frame that does not move.

What a bag does not tell is said, not guessed: the network, rolling shutters, masks, offsets of clocks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from seg_perception.bags import BagReader
from seg_perception.config import SENSOR_NAME, CameraConfig, Config, PairingConfig
from seg_perception.doctor.mounting import turn_deg_of
from seg_perception.doctor.rates import Rate
from seg_perception.errors import BagError, MessageError, SegPerceptionError
from seg_perception.geometry.transform_tree import TransformTree
from seg_perception.messages.header import time_ns
from seg_perception.messages.image import ENCODINGS
from seg_perception.messages.pointcloud import decode_cloud
from seg_perception.messages.transforms import insert_tf
from seg_perception.offline import IMAGE_TYPES, TF, TF_STATIC

_CLOUD, _INFO = "sensor_msgs/msg/PointCloud2", "sensor_msgs/msg/CameraInfo"
_TRANSPORT = {type: transport for transport, type in IMAGE_TYPES.items()}
_GENERIC = {  # what ends the names of all such topics, and tells nothing
    "camera": re.compile(r"_?(image(_raw|_rect|_color|_mono)*|compressed)$"),
    "lidar": re.compile(r"_?(points?|point_?cloud|cloud|scan)(_raw|2)?$"),
}
_NOT_PICTURES = re.compile(r"/(truth|\w*depth\w*|label_image|confidence|overlay)(/|$)|compressedDepth$", re.IGNORECASE)
_FIXED = ("odom", "map", "world")
_TRANSFORMS_READ = 1000
_SLACK = 1.2  # of half a camera's period, for its jitter
_WIDEST_MS = 1000.0  # so long may every sweep have to wait for its picture; a camera yet slower labels fewer of them


@dataclass(frozen=True, slots=True)
class Suggestion:
    """parameters: what the file says. notes: a sentence on each thing that was left out or has to be looked after."""

    parameters: Mapping[str, Any]
    notes: list[str] = field(default_factory=list)


def suggest(bag: BagReader) -> Suggestion:
    """Of an open bag. Raises BagError where it holds no pictures or no clouds that can be used."""
    notes: list[str] = []
    cameras, clouds = _cameras(bag, notes), _clouds(bag, notes)
    for what, found in (("pictures", cameras), ("clouds", clouds)):
        if not found:
            raise BagError(f"bag {bag.path}: no {what} that can be used; its topics are {list(bag.topics)}")
    parameters: dict[str, Any] = {"cameras": list(cameras), "camera": cameras}
    if len(clouds) == 1:
        parameters["lidar"] = {"topic": clouds[0]}
    else:
        names = _names(clouds, "lidar", set(cameras))
        parameters["lidars"] = list(names.values())
        parameters["lidar"] = {name: {"topic": topic} for topic, name in names.items()}
    parameters |= _pairing(bag, [camera["image_topic"] for camera in cameras.values()], notes)
    parameters["inference"] = {"model": ""}
    fixed = _fixed_frame(bag, notes)
    parameters["motion"] = {"fixed_frame": fixed} if fixed else {"mode": "static"}
    notes.append("inference.model: name a file that `seg-perception deploy` wrote")
    notes.append("rolling shutters (readout_ms), masks of the vehicle itself and offsets of clocks are not in a bag")
    Config.from_mapping(parameters, "suggestion")
    return Suggestion(parameters, notes)


def _cameras(bag: BagReader, notes: list[str]) -> dict[str, dict[str, Any]]:
    pictures = {topic: type for topic, type in bag.topics.items() if type in _TRANSPORT}
    for topic in [topic for topic in pictures if not bag.counts[topic]]:
        notes.append(f"{topic}: left out, as nothing was recorded on it")
        del pictures[topic]
    infos = {topic for topic, type in bag.topics.items() if type == _INFO}
    info_of: dict[str, str] = {}
    for topic, type in pictures.items():
        base = topic.removesuffix("/compressed")
        if _NOT_PICTURES.search(topic):
            notes.append(f"{topic}: left out, as its name is not that of a camera's picture")
        elif base != topic and base in pictures:
            notes.append(f"{topic}: left out, as {base} holds the same pictures")
        elif type == IMAGE_TYPES["raw"] and (encoding := _first(bag, topic).encoding) not in ENCODINGS:
            notes.append(f"{topic}: left out, as its encoding is '{encoding}'")
        else:
            info_of[topic] = _info_of(base, infos)
    without = [topic for topic, info in info_of.items() if not info]
    if len(without) < len(info_of):  # overlays and the like, beside cameras that say how they are calibrated
        notes += [f"{topic}: left out, as no CameraInfo lies beside it" for topic in without]
        info_of = {topic: info for topic, info in info_of.items() if info}
    else:
        notes += [f"{topic}: no CameraInfo in the bag; name a file in `calibration`" for topic in without]
    found: dict[str, dict[str, Any]] = {}
    tree = _mounts(bag)
    for topic, name in _names(list(info_of), "camera", set()).items():
        found[name] = {"image_topic": topic, "transport": _TRANSPORT[pictures[topic]]}
        header = _first(bag, topic).header
        if turn_deg := turn_deg_of(tree, header.frame_id, time_ns(header.stamp)):
            found[name]["turn_deg"] = turn_deg
            notes.append(f"{topic}: turned by {turn_deg} degrees for the network, as its extrinsic has it")
        if info_of[topic] not in ("", CameraConfig(name, image_topic=topic).resolved_info_topic()):
            found[name]["info_topic"] = info_of[topic]
        if "rect" in topic.removesuffix("/compressed").rpartition("/")[2]:
            found[name]["rectified"] = True
    return found


def _mounts(bag: BagReader) -> TransformTree:
    """Where cameras are, as far as the beginning of a bag tells, which may be large."""
    tree = TransformTree(cache_ns=None)
    for topic in (TF_STATIC, TF):
        for message in islice(bag.messages({topic}), _TRANSFORMS_READ):
            with suppress(MessageError):
                insert_tf(tree, message.msg, static=topic == TF_STATIC)
    return tree


def _pairing(bag: BagReader, topics: Collection[str], notes: list[str]) -> dict[str, Any]:
    """Window and deadline, where a camera is so slow that the image nearest to a sweep may lie outside the default."""
    period_ms, topic = max((Rate.of(bag, topic).step_s * 1e3, topic) for topic in topics)
    if 0.5 * period_ms * _SLACK <= PairingConfig().window_ms:
        return {}
    window_ms = min(float(math.ceil(0.05 * period_ms * _SLACK) * 10), _WIDEST_MS)
    notes.append(
        f"{topic}: an image every {period_ms:.0f} ms, so the window is wider than by default, and a sweep may have "
        "to wait as long for its picture"
    )
    later_ms = PairingConfig().deadline_ms - PairingConfig().window_ms
    return {"pairing": {"window_ms": window_ms, "deadline_ms": window_ms + later_ms}}


def _info_of(base: str, infos: Collection[str]) -> str:
    """The CameraInfo topic beside a picture's, or one level above; empty where there is none."""
    folder = base.rpartition("/")[0]
    around = (f"{folder}/camera_info", f"{folder.rpartition('/')[0]}/camera_info", f"{base}/camera_info")
    return next((topic for topic in around if topic in infos), "")


def _clouds(bag: BagReader, notes: list[str]) -> list[str]:
    """The topics of sweeps: of those in one frame the one with the most points, as others are derived from it."""
    best: dict[str, tuple[int, str]] = {}
    for topic, type in bag.topics.items():
        if type != _CLOUD or not bag.counts[topic]:
            continue
        try:
            cloud = decode_cloud(_first(bag, topic))
        except SegPerceptionError as error:
            notes.append(f"{topic}: left out, as its first cloud cannot be used: {error}")
            continue
        if {"class_id", "label"} & {entry.name for entry in cloud.fields}:
            notes.append(f"{topic}: left out, as it is labelled already")
            continue
        known = best.get(cloud.frame_id)
        for count, other in [known] if known else []:
            fewer = topic if count >= len(cloud) else other
            notes.append(f"{fewer}: left out, as it has no more points in the frame '{cloud.frame_id}' than another")
        best[cloud.frame_id] = max(known or (0, ""), (len(cloud), topic), key=lambda entry: entry[0])
    notes += [f"{topic}: {count} points in the frame '{frame}'" for frame, (count, topic) in best.items()]
    return sorted(topic for _, topic in best.values())


def _names(topics: list[str], kind: str, taken: set[str]) -> dict[str, str]:
    """A name for each topic: as little of its end as tells it from the others, without what all such are called."""
    parts = {topic: [_GENERIC[kind].sub("", part) for part in topic.split("/")] for topic in topics}
    own = {topic: [part for part in of if part] or [kind] for topic, of in parts.items()}
    names: dict[str, str] = {}
    for topic in topics:
        for length in range(1, len(own[topic]) + 1):
            name = "_".join(own[topic][-length:])
            if sum("_".join(of[-length:]) == name for of in own.values()) == 1:
                break
        name = name.strip("_")
        name = name if SENSOR_NAME.fullmatch(name) and name != "topic" else f"{kind}_{name}"
        while name in taken:
            name += "_" + kind
        taken.add(name)
        names[topic] = name
    return names


def _fixed_frame(bag: BagReader, notes: list[str]) -> str:
    """The frame that the vehicle drives in; empty where nothing in the bag moves."""
    moving = [(edge.header.frame_id, edge.child_frame_id) for edge in _edges(bag, TF)]
    if not moving:
        notes.append("nothing moves on /tf: points are taken as if the vehicle stood still (motion.mode: static)")
        return ""
    parents = {parent.lstrip("/") for parent, _ in moving}
    roots = sorted(parents - {child.lstrip("/") for _, child in moving})
    known = [name for name in _FIXED if name in parents] + [name for name in roots if name.endswith("odom")] + roots
    if known[0] != "odom":
        notes.append(f"motion.fixed_frame: '{known[0]}' is a guess of {sorted(parents)}; it must not jump")
    return known[0]


def _edges(bag: BagReader, topic: str) -> Iterator[Any]:
    for message in islice(bag.messages({topic}), _TRANSFORMS_READ):
        yield from message.msg.transforms


def _first(bag: BagReader, topic: str) -> Any:
    return next(message.msg for message in bag.messages({topic}))
