"""Spoilt messages of every kind through an intake, good ones beside them: `python test/fuzz/run.py --cases 100000`.

Refusing is right, and so is making the best of it. Wrong is any other exception, a warning, a result that contradicts
itself, memory that grows, and good sweeps that are not labelled any more. Meant to be run with NUMBA_BOUNDSCHECK=1, so
that a compiled loop that reads or writes beside its arrays says so. Half of the serialized images, clouds and
transforms are read as the live node does by itself; of the others half by rclpy, where it is installed, and the rest by
the reader of bags.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import importlib
import json
import logging
import os
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where the modules that tests share lie

import numpy as np
import small_world as world
from fuzz.mutations import Mutator
from rosbags.typesys import Stores, get_typestore
from small_world import MS, T0

from seg_perception.bags import BagReader, BagWriter
from seg_perception.datatypes import UNKNOWN, PointCloud
from seg_perception.errors import MessageError
from seg_perception.geometry.transform_edges import CONVINCED
from seg_perception.intake import Intake
from seg_perception.messages.camera_info import record_of
from seg_perception.messages.cdr import read_cloud, read_image, read_transforms
from seg_perception.messages.image import compressed_fields
from seg_perception.messages.pointcloud import cloud_fields, cloud_from_columns, decode_cloud, encode_semantic_cloud
from seg_perception.messages.transforms import StampedTransform
from seg_perception.scene_step import FAULT
from seg_perception.scene_topics import OBJECTS, SceneTopics

HEALTH_EVERY = 100
SETTLED = CONVINCED + 3  # good rounds, of which one has to come through: so long one wrong stamp can be believed
SAME_LENS = 50  # rounds with one calibration, because making a camera takes long
AHEAD_NS = 200 * MS  # what odometry is stamped after the sweep, so that no point has to wait for it
GROWTH_MIB = 300
IMAGE, JPEG = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
INFO, CLOUD, TF = "sensor_msgs/msg/CameraInfo", "sensor_msgs/msg/PointCloud2", "tf2_msgs/msg/TFMessage"
STEP_NS = 100 * MS
AS_LIVE: dict[str, Callable[[Any], Any]] = {IMAGE: read_image, CLOUD: read_cloud, TF: read_transforms}
SCENE: dict[str, Any] = {
    "objects": {"enabled": True},
    "tracking": {"confirm_hits": 1},
    "voxel_map": {"enabled": True, "capacity": 1 << 12, "period_s": 0.5},
    "bev": {"enabled": True, "side_m": 20.0, "period_s": 0.3},
}
SPACING: dict[str, Any] = {"visibility": {"spacing_deg": 2.0, "beam_spacing_deg": 2.0}}
FINE_EVERY = (
    4  # worlds, one with the spacing that is read from the sweeps: its image of ranges is a hundred times larger
)


class Seeds:
    """Good messages of each kind as serialized bytes: several layouts, encodings and lenses."""

    def __init__(self) -> None:
        self.store = get_typestore(Stores.ROS2_JAZZY)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "seeds.mcap"
            with BagWriter(path) as bag:
                self._write(bag)
            with BagReader(path) as bag:
                self.of: dict[str, list[bytes]] = {}
                for message in bag.messages():
                    self.of.setdefault(message.type, []).append(message.data)

    def _write(self, bag: BagWriter) -> None:
        pixels = np.random.default_rng(0).integers(0, 255, (world.HEIGHT, world.WIDTH, 3), np.uint8)
        pixels[:, : world.WIDTH // 2] //= 8
        bag.write_image("/image", T0, "front_optical", pixels)
        for kind in ("jpeg", "png"):
            fields = compressed_fields(pixels, kind)
            header = self.header(T0, "rear_optical")
            message = self.store.types[JPEG](header=header, format=fields["format"], data=fields["data"])
            bag.write_raw("/compressed", JPEG, T0, bytes(self.store.serialize_cdr(message, JPEG)))
        for model, count in (("plumb_bob", 5), ("rational_polynomial", 8), ("equidistant", 4)):
            camera = type(world.camera())(world.WIDTH, world.HEIGHT, world.K, model, np.full(count, 0.01))
            bag.write_camera_info("/info", record_of(camera, "front_optical", T0), T0)
        for columns in self._columns():
            bag.write_cloud("/points", cloud_from_columns("lidar", T0, columns))
        turned = np.eye(4)
        turned[:2, :2] = [[0.6, -0.8], [0.8, 0.6]]
        poses = [
            StampedTransform("odom", "base_link", T0, turned),
            StampedTransform("base_link", "rear", T0, np.eye(4)),
        ]
        bag.write_tf("/tf", poses, T0)

    @staticmethod
    def _columns() -> list[dict[str, np.ndarray]]:
        rng = np.random.default_rng(1)
        xyz = rng.uniform((-20, -10, -2), (20, 10, 2), (300, 3)).astype(np.float32)
        plain = dict(zip("xyz", xyz.T, strict=True))
        return [
            plain | {"intensity": xyz[:, 0], "t": np.linspace(0, 90 * MS, 300).astype(np.uint32)},
            plain | {"time": np.linspace(-0.1, 0, 300, dtype=np.float32), "ring": np.arange(300, dtype=np.uint16)},
            {axis: column.astype(np.float64) for axis, column in plain.items()}
            | {"timestamp": np.linspace(0, 0.1, 300)},
        ]

    def header(self, stamp_ns: int, frame_id: str) -> Any:
        """A std_msgs/Header."""
        types = self.store.types
        stamp = types["builtin_interfaces/msg/Time"](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
        return types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame_id)

    def good(self, type_name: str, number: int) -> Any:
        """A fresh message object, which may be changed."""
        content = self.of[type_name]
        return self.store.deserialize_cdr(content[number % len(content)], type_name)


class World:
    """One intake, two cameras, and the sweeps that go through it."""

    def __init__(self, seeds: Seeds, number: int) -> None:
        self.seeds = seeds
        spacing = SPACING if number % FINE_EVERY else {}
        cameras = {"front": {}, "rear": {"transport": "compressed", "offset_ms": 1.0, "readout_ms": 5.0}}
        config = world.config(cameras=list(cameras), camera=cameras, **SCENE, **spacing)
        self.said: Counter[str] = Counter()
        self.intake = Intake(config, world.LeftRightSegmenter(), self._note)
        self.topics = SceneTopics(config, self.intake.pipeline.taxonomy)
        self.stamp_ns, self.now_s = T0, 0.0
        self.labelled = self.remembered = 0
        rear = seeds.good(INFO, 0)
        rear.header.frame_id = "rear_optical"
        self.intake.camera_info("rear", rear)

    def _note(self, cause: str, sentence: str) -> None:
        if not sentence:
            raise AssertionError(f"{cause}: a problem without a sentence")
        if cause == FAULT:
            raise AssertionError(f"a fault in the scene: {sentence}")
        self.said[cause] += 1

    def round(self, number: int, kind: str = "", spoilt: Any = None) -> None:
        """One good message of each kind, but for the spoilt one; then every sweep that is ready."""
        self.now_s += 1.0
        self._static()
        for type_name in (TF, INFO, IMAGE, JPEG, CLOUD):
            message = spoilt if type_name == kind else self.good(type_name, number)
            self._hand_in(type_name, message, static=message is spoilt and number % 2 == 0)
        while self.intake.next_picture() is not None:
            pass
        while (result := self.intake.next_result(self.now_s + 0.5)) is not None:
            self._check(result)
            self._check_scene(self.intake.remember(result))
        self.stamp_ns += STEP_NS

    def _hand_in(self, type_name: str, message: Any, static: bool) -> None:
        if type_name == TF:
            self.intake.transforms(message, static)
        elif type_name == INFO:
            self.intake.camera_info("front", message)
        elif type_name == CLOUD:
            self.intake.cloud(message, self.now_s)
        else:
            self.intake.image("front" if type_name == IMAGE else "rear", message)

    def _static(self) -> None:
        for camera in ("front", "rear"):
            self.intake.tree.insert("lidar", f"{camera}_optical", 0, world.T_LIDAR_CAMERA, static=True)
        self.intake.tree.insert("base_link", "lidar", 0, np.eye(4), static=True)

    def good(self, type_name: str, number: int) -> Any:
        """A good message of the round to come."""
        message = self.seeds.good(type_name, number // SAME_LENS if type_name == INFO else number)
        stamp_ns = self.stamp_ns + AHEAD_NS * (type_name == TF)
        for header in [entry.header for entry in message.transforms] if type_name == TF else [message.header]:
            header.stamp = self.seeds.header(stamp_ns, "").stamp
        return message

    def _check(self, result: Any) -> None:
        cloud = result.cloud
        assert len(cloud.class_id) == len(cloud.probability) == len(cloud.instance_id) == len(cloud.scan)
        assert ((cloud.class_id < 19) | (cloud.class_id == UNKNOWN)).all()
        assert ((cloud.probability >= 0) & (cloud.probability <= 1)).all()
        encoded = encode_semantic_cloud(cloud, self.intake.pipeline.taxonomy.colors)
        assert encoded.data[:, : cloud.scan.cloud.point_step].shape == cloud.scan.cloud.data.shape
        decode_cloud(world.message(header=world.header(encoded.stamp_ns, encoded.frame_id), **cloud_fields(encoded)))
        self.labelled += bool((cloud.class_id != UNKNOWN).any())

    def _check_scene(self, result: Any) -> None:
        """All that would be told of it, as clouds that can be read again and boxes that are somewhere."""
        memory, scene = self.intake.scene.memory, result.scene
        if memory is None or scene is None:
            return
        self.remembered += 1
        for topic, content in self.topics.messages(memory, scene):
            if isinstance(content, PointCloud):
                header = world.header(content.stamp_ns, content.frame_id)
                told = decode_cloud(world.message(header=header, **cloud_fields(content)))
                assert all(np.isfinite(told.field(axis)).all() for axis in "xyz")
            elif topic == OBJECTS:
                centres = [entry["bbox"]["center"]["position"] for entry in content["detections"]]
                assert all(np.isfinite(list(centre.values())).all() for centre in centres)


class Run:
    """A number of cases, and what was found."""

    def __init__(self, seed: int) -> None:
        self.seeds = Seeds()
        self.mutator = Mutator(self.seeds.store, seed)
        self.worlds = 0
        self.world = World(self.seeds, 0)
        self.cases: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.said: Counter[str] = Counter()
        self.findings: dict[str, str] = {}
        self.rclpy = _rclpy_reader()

    def case(self, number: int) -> None:
        """Spoil one message and send it round."""
        kind = self.mutator.random.choice((IMAGE, JPEG, INFO, CLOUD, TF))
        self.cases[kind] += 1
        before = sum(self.world.said.values())
        try:
            spoilt = self._spoilt(kind, number)
            if spoilt is None:
                self.outcomes["bytes that are no message"] += 1
                return
            self.world.round(number, kind, spoilt)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"
            self.findings.setdefault(where, f"case {number}, {kind}: {traceback.format_exc()[-3000:]}")
            self.outcomes["wrong"] += 1
            return
        self.outcomes["refused or noted" if sum(self.world.said.values()) > before else "taken as it is"] += 1

    def _spoilt(self, kind: str, number: int) -> Any:
        good = self.world.good(kind, number)
        if self.mutator.random.random() < 0.5:
            return self.mutator.fields(kind, good)
        content = bytes(self.seeds.store.serialize_cdr(good, kind))
        content = content[:4] + self.mutator.data(content[4:])
        if kind in AS_LIVE and self.mutator.random.random() < 0.5:
            try:
                return AS_LIVE[kind](np.frombuffer(content, np.uint8))
            except MessageError:
                return None
        if self.rclpy is not None and self.mutator.random.random() < 0.5:
            return self.rclpy(content, kind)
        try:
            return self.seeds.store.deserialize_cdr(content, kind)
        except Exception:  # of the library, wrapped into MessageError by BagMessage.msg
            return None

    def health(self) -> None:
        """A good sweep is labelled as ever, whatever came before. Then a new world, so that the next cases go deep."""
        before, remembered = self.world.labelled, self.world.remembered
        for number in range(SETTLED):
            self.world.round(number)
            if self.world.labelled > before and self.world.remembered > remembered:
                break
        else:
            last = dict(self.world.intake.statistics.causes.most_common(8))
            where = f"before case {sum(self.cases.values())}"
            self.findings.setdefault("good sweeps are not labelled, or not in the scene, any more", f"{where}: {last}")
        self.said += self.world.said
        self.worlds += 1
        self.world = World(self.seeds, self.worlds)
        gc.collect()  # worlds, which know their intake, which tells them of problems

    def report(self) -> dict[str, Any]:
        """What to print."""
        kinds = {kind.rpartition("/")[2]: count for kind, count in sorted(self.cases.items())}
        return {
            "cases": kinds,
            "outcomes": dict(self.outcomes),
            "said": dict(self.said.most_common()),
            "findings": self.findings,
        }


def _rclpy_reader() -> Callable[[bytes, str], Any] | None:
    """The deserialization that a live node has, where there is one; None for bytes that it refuses."""
    try:
        from rclpy.serialization import deserialize_message
    except ImportError:
        return None

    def read(content: bytes, kind: str) -> Any:
        package, _, name = kind.partition("/msg/")
        try:
            return deserialize_message(content, getattr(importlib.import_module(f"{package}.msg"), name))
        except Exception:  # rclpy has no common base for what it refuses
            return None

    return read


def _rss_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def main() -> int:
    """Run, print a report as JSON; the exit code is 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    faulthandler.enable()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("error")
    run = Run(args.seed)
    for number in range(3):
        run.world.round(number)
    start_s, start_mib, peak_mib = time.monotonic(), _rss_mib(), 0.0
    for number in range(args.cases):
        run.case(number)
        if number % HEALTH_EVERY == HEALTH_EVERY - 1:
            run.health()
            peak_mib = max(peak_mib, _rss_mib())
    grown = _rss_mib() - start_mib
    if grown > GROWTH_MIB:
        run.findings["memory"] = f"{grown:.0f} MiB more after {args.cases} cases, at most {GROWTH_MIB} wanted"
    report = run.report() | {
        "seconds": round(time.monotonic() - start_s, 1),
        "bounds_checked": os.environ.get("NUMBA_BOUNDSCHECK") == "1",
        "read_by_rclpy": run.rclpy is not None,
        "rss_mib": {"start": round(start_mib), "grown": round(grown), "most grown": round(peak_mib - start_mib)},
    }
    print(json.dumps(report, indent=2))
    return int(bool(run.findings))


if __name__ == "__main__":
    sys.exit(main())
