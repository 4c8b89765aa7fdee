"""What the node costs beside its network: `python benchmarks/node_latency.py --cameras 1 6 --seconds 20`.

Sensors, node and listener are processes of their own and speak over real DDS: 1920x1200 images, 130,000 points of 32
bytes with a time each, odometry. The sensors have all of it serialized beforehand, as what a driver does is not to be
measured, stamp a sweep and its images alike the moment before the first of them is published, and publish one after the
other. Latency is from that stamp to the semantic cloud in the listener's hands. Beside it the same messages through an
intake in one thread, decoded, labelled, encoded and serialized, but never sent. What a sweep waited for the network is
taken off both: in the node little, since an image goes through it before its sweep has come. On a busy machine the
times by the clock say little; the ratio of processor time, the node's to that of its stages alone, with the network in
both, still does. All of it twice: with CPUs that sleep as the kernel lets them, and with none that does
(`node.wake_latency_us: 0`), where that may be asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, save_model
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, PointCloud2
from tf2_msgs.msg import TFMessage

from seg_perception.config import Config
from seg_perception.export.deploy import DeploySpec, deploy
from seg_perception.geometry.transforms import quat_xyzw_from_matrix
from seg_perception.inference.loading import load_segmenters
from seg_perception.intake import Intake
from seg_perception.messages.cdr import cloud_bytes
from seg_perception.messages.header import time_fields
from seg_perception.messages.pointcloud import cloud_from_columns, encode_semantic_cloud
from seg_perception.ros import conversions, dds, diagnostics, qos, serialized
from seg_perception.ros.taking import TakingExecutor
from seg_perception.ros.wake_latency import AS_IT_IS, WakeLatency, refusal

WIDTH, HEIGHT = 1920, 1200
POINTS = 130_000
K = [1000.0, 0.0, 959.5, 0.0, 1000.0, 599.5, 0.0, 0.0, 1.0]
OPTICAL = np.array([[0, 0, 1, 0.5], [-1, 0, 0, 0], [0, -1, 0, -0.4], [0, 0, 0, 1.0]])
GOAL_MS, GOAL_RATIO = 14.0, 1.5
WARM_UP = 10
START_S, STOP_S = 600.0, 120.0  # on a busy machine
COLUMNS = (
    *(
        "cameras",
        "CPUs may sleep",
        "clouds received",
        "p50",
        "p99",
        "waited for the network",
        "all but that",
        "stages alone",
        "ratio",
    ),
    *("CPU of the node", "ratio of CPU", "more CPU, in copies of the bytes"),
)


class Messages:
    """One sweep's worth of messages, made once and stamped anew each time."""

    def __init__(self, cameras: int) -> None:
        rng = np.random.default_rng(0)
        regions = rng.integers(0, 255, (HEIGHT // 240, WIDTH // 240, 3), np.uint8)
        pixels = regions.repeat(240, axis=0).repeat(240, axis=1)  # with labels of regions, not of noise
        self.images = [conversions.image(pixels, "rgb8", f"camera_{k}", 1) for k in range(cameras)]
        self.infos = [self._info(f"camera_{k}") for k in range(cameras)]
        self.cloud = conversions.point_cloud(self._sweep(rng))
        self.odometry = TFMessage(transforms=[self._transform("odom", "base_link", np.eye(4))])
        placed = [("base_link", "lidar", np.eye(4))]
        placed += [("lidar", f"camera_{k}", _turned(2 * np.pi * k / cameras) @ OPTICAL) for k in range(cameras)]
        self.static = TFMessage(transforms=[self._transform(*edge) for edge in placed])

    def stamp(self, stamp_ns: int) -> None:
        """Put this stamp on all but the static transforms."""
        stamped = [*self.images, *self.infos, self.cloud, *self.odometry.transforms]
        for message in stamped:
            message.header.stamp.sec, message.header.stamp.nanosec = time_fields(stamp_ns)

    def serialized(self) -> list[tuple[str, type, NDArray[np.uint8], int]]:
        """In the order in which they are sent: topic, type, bytes, and where in them the stamp lies."""
        at = {TFMessage: 8}  # behind the number of transforms
        sent = [("/tf", self.odometry)]
        sent += [(f"/camera_{k}/camera_info", info) for k, info in enumerate(self.infos)]
        sent += [(f"/camera_{k}/image_raw", image) for k, image in enumerate(self.images)]
        return [
            (
                topic,
                type(message),
                np.frombuffer(bytearray(serialize_message(message)), np.uint8),
                at.get(type(message), 4),
            )
            for topic, message in (*sent, ("/points", self.cloud))
        ]

    @staticmethod
    def _sweep(rng: np.random.Generator) -> Any:
        """Of 64 beams; walls that come nearer and recede, and poles before them."""
        steps = -(-POINTS // 64)
        azimuth = np.repeat(np.linspace(-np.pi, np.pi, steps, endpoint=False), 64)[:POINTS]
        elevation = np.tile(np.radians(np.linspace(-24.0, 6.0, 64)), steps)[:POINTS]
        beside = np.where(np.degrees(azimuth) % 8.0 < 0.6, 7.0, 20.0 + 15.0 * np.sin(8.0 * azimuth))
        distance = np.minimum(1.8 / np.maximum(np.sin(-elevation), 0.02), beside)
        distance += rng.normal(0.0, 0.02, POINTS)
        flat = distance * np.cos(elevation)
        columns = {"x": flat * np.cos(azimuth), "y": flat * np.sin(azimuth), "z": distance * np.sin(elevation)}
        columns |= {"intensity": distance, "time": np.linspace(-0.1, 0.0, POINTS), "ambient": distance}
        fields = {name: values.astype(np.float32) for name, values in columns.items()}
        fields |= {"ring": np.zeros(POINTS, np.uint32), "noise": np.zeros(POINTS, np.uint32)}
        return cloud_from_columns("lidar", 1, fields)

    @staticmethod
    def _info(frame_id: str) -> CameraInfo:
        info = CameraInfo(width=WIDTH, height=HEIGHT, distortion_model="plumb_bob", k=K, d=[-0.1, 0.02, 0.0, 0.0, 0.0])
        info.header.frame_id = frame_id
        return info

    @staticmethod
    def _transform(parent: str, child: str, T_parent_child: np.ndarray) -> Any:
        message = TransformStamped(child_frame_id=child)
        message.header.frame_id = parent
        translation, rotation = message.transform.translation, message.transform.rotation
        translation.x, translation.y, translation.z = T_parent_child[:3, 3].tolist()
        rotation.x, rotation.y, rotation.z, rotation.w = quat_xyzw_from_matrix(T_parent_child).tolist()
        return message


def _turned(yaw: float) -> np.ndarray:
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])


def send(cameras: int, sweeps: int, rate_hz: float) -> None:
    """The sensors: once the node listens, a sweep and all its images at each tick."""
    rclpy.init()
    node = rclpy.create_node("sensors")
    messages = Messages(cameras)
    parts = messages.serialized()
    publishers = [
        node.create_publisher(kind, topic, qos.transforms() if kind is TFMessage else qos.published(5))
        for topic, kind, _, _ in parts
    ]
    node.create_publisher(TFMessage, "/tf_static", qos.static_transforms()).publish(messages.static)
    while not all(publisher.get_subscription_count() for publisher in publishers):
        time.sleep(0.05)
    time.sleep(1.0)
    odometry_from_ns = time.time_ns() - 200_000_000
    for number in range(-1, sweeps):
        start_s = time.monotonic()
        stamp = time_fields(odometry_from_ns if number < 0 else time.time_ns())
        for publisher, (_, kind, content, at) in zip(publishers, parts, strict=True):
            if number < 0 and kind is not TFMessage:
                continue
            struct.pack_into("<iI", content, at, *stamp)
            serialized.publish(publisher, content)
        time.sleep(max(0.0, start_s + 1.0 / rate_hz - time.monotonic()))
    time.sleep(2.0)
    rclpy.shutdown()


class Listener:
    """Receives semantic clouds as bytes, and the node's own timings."""

    def __init__(self) -> None:
        rclpy.init()
        self.node = rclpy.create_node("listener")
        self._executor = TakingExecutor()
        self._executor.add_node(self.node)
        self.latency_ms: list[float] = []
        self.summary: dict[str, Any] = {}
        self.node.create_subscription(PointCloud2, "/perception_node/points", self._cloud, qos.published(5), raw=True)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnostics, qos.published(5))

    def spin(self) -> None:
        """Take in one message, or wait a little."""
        self._executor.spin_once(timeout_sec=0.05)

    def _cloud(self, data: Any) -> None:
        sec, nanosec = struct.unpack_from("<iI", data, 4)
        self.latency_ms.append((time.time_ns() - sec * 10**9 - nanosec) * 1e-6)

    def _diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith(f": {diagnostics.SUMMARY}"):
                self.summary = diagnostics.unflatten(status.values)

    def close(self) -> None:
        """Let go of the node and of ROS."""
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown()


def live(args: argparse.Namespace, cameras: int, model: Path, wake_latency_us: int) -> dict[str, float]:
    """The three processes together."""
    settings = model.with_name("node.param.yaml")
    asked = {**parameters(cameras, model), "node": {"wake_latency_us": wake_latency_us}}
    settings.write_text(yaml.safe_dump({"/**": {"ros__parameters": asked}}))
    listener = Listener()
    node = subprocess.Popen([sys.executable, "-m", "seg_perception.ros.node", "--ros-args", "--params-file", settings])
    sender = None
    try:
        give_up_s = time.monotonic() + START_S
        while not listener.summary:
            listener.spin()
            if node.poll() is not None or time.monotonic() > give_up_s:
                raise SystemExit("the node did not come up")
        command = [sys.executable, __file__, "--send", str(cameras), "--rate", str(args.rate)]
        sender = subprocess.Popen([*command, "--seconds", str(args.seconds)])
        before_s = _cpu_s(node.pid)
        while sender.poll() is None:
            listener.spin()
        cpu_s = _cpu_s(node.pid) - before_s
    finally:
        for process in (node, sender):
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(STOP_S)
        listener.close()
    latency, summary = np.array(listener.latency_ms[WARM_UP:]), listener.summary
    if not len(latency):
        raise SystemExit(
            f"{len(listener.latency_ms)} clouds came, more than {WARM_UP} wanted; causes: {summary['causes']}"
        )
    return {
        "sent": round(args.seconds * args.rate),
        "received": len(listener.latency_ms),
        "latency_p50_ms": float(np.median(latency)),
        "latency_p99_ms": float(np.percentile(latency, 99)),
        "network_p50_ms": summary["latency_ms"]["segment"]["median"],
        "node_cpu_ms": cpu_s * 1e3 / max(len(listener.latency_ms), 1),
        **{f"cause {cause}": count for cause, count in summary["causes"].items()},
    }


def alone(cameras: int, model: Path, sweeps: int = 40) -> dict[str, float]:
    """The same messages through an intake in this process, encoded and serialized, the network apart; one stage after
    the other on one thread, as the times of two threads do not add up to what passes."""
    config = Config.from_mapping({**parameters(cameras, model), "painting": {"threads": 1}})
    intake = Intake(config, load_segmenters(config), lambda cause, sentence: None)
    messages = Messages(cameras)
    intake.transforms(messages.static, static=True)
    seconds, network, cpu = [], [], []
    stamp_ns = time.time_ns()
    for number in range(sweeps + WARM_UP):
        stamp_ns += 100_000_000
        messages.stamp(stamp_ns)
        start_s, start_cpu_s = time.perf_counter(), time.process_time()
        intake.transforms(messages.odometry, static=False)
        for k in range(cameras):
            intake.camera_info(f"camera_{k}", messages.infos[k])
            intake.image(f"camera_{k}", messages.images[k])
        intake.cloud(messages.cloud, float(number))
        result = intake.next_result(float(number) + 0.9)
        cloud = encode_semantic_cloud(result.cloud, intake.pipeline.taxonomy.colors)
        cloud_bytes(cloud)
        if number >= WARM_UP:
            seconds.append(time.perf_counter() - start_s)
            cpu.append(time.process_time() - start_cpu_s)
            network.append(result.report.stage_seconds["segment"])
    rest = np.array(seconds) - np.array(network)
    return {
        "alone_p50_ms": float(np.median(rest) * 1e3),
        "alone_cpu_ms": float(np.mean(cpu) * 1e3),
        "copy_cpu_ms": _copy_cpu_ms(cameras),
    }


def parameters(cameras: int, model: Path) -> dict[str, Any]:
    """Settings of node and intake; without the scene, which comes after the cloud."""
    return {
        "cameras": [f"camera_{k}" for k in range(cameras)],
        "inference": {"model": str(model), "threads": 1},
        "pairing": {"deadline_ms": 1000.0},
        "objects": {"enabled": False},
        "voxel_map": {"enabled": False},
        "bev": {"enabled": False},
    }


def small_network(path: Path) -> Path:
    """A deployed network that costs little: one convolution of 1x1 over 64 x 40 pixels."""
    weights = np.random.default_rng(0).standard_normal((19, 3, 1, 1)).astype(np.float32)
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, 40, 64])
        for name, channels in (("x", 3), ("y", 19))
    ]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "small",
        ends[:1],
        ends[1:],
        [numpy_helper.from_array(weights, "w")],
    )
    source = path.with_name("source.onnx")
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), source)
    deploy(source, path, DeploySpec(taxonomy="cityscapes", mean=(0.0,) * 3, scale=(1 / 255,) * 3, target="cpu"))
    return path


def _copy_cpu_ms(cameras: int) -> float:
    """Copying the bytes of one sweep and its images once."""
    source = np.ones(cameras * WIDTH * HEIGHT * 3 + POINTS * 32, np.uint8)
    target = np.empty_like(source)
    seconds = []
    for _ in range(20):
        start_s = time.process_time()
        np.copyto(target, source)
        seconds.append(time.process_time() - start_s)
    return float(np.median(seconds) * 1e3)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(args: argparse.Namespace, cameras: int, model: Path, wake_latency_us: int) -> dict[str, float]:
    """The stages alone and the live node, while CPUs may take so long to wake."""
    with WakeLatency(wake_latency_us):
        found = alone(cameras, model)
    return {**found, **live(args, cameras, model, wake_latency_us)}


def row(cameras: int, sleep: str, found: dict[str, float]) -> str:
    """One line of the table. sleep: whether CPUs may."""
    beside = found["latency_p50_ms"] - found["network_p50_ms"]
    more_cpu = found["node_cpu_ms"] - found["alone_cpu_ms"]
    return (
        f"| {cameras} | {sleep} | {found['received']} of {found['sent']} | {found['latency_p50_ms']:.1f} | "
        f"{found['latency_p99_ms']:.1f} | {found['network_p50_ms']:.1f} | {beside:.1f} | {found['alone_p50_ms']:.1f} | "
        f"{beside / found['alone_p50_ms']:.2f} | {found['node_cpu_ms']:.1f} | "
        f"{found['node_cpu_ms'] / found['alone_cpu_ms']:.2f} | {more_cpu / found['copy_cpu_ms']:.1f} |"
    )


def main() -> int:
    """Measure, print the table, leave the figures in bench_out/node_latency.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cameras", type=int, nargs="+", default=[1, 6])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--send", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.send:
        send(args.send, round(args.seconds * args.rate), args.rate)
        return 0
    os.environ |= {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_DOMAIN_ID": str(1 + os.getpid() % 100)}
    missing = dds.environment()
    if missing:  # malloc's thresholds count from the start of a process
        os.environ |= missing
        os.execv(sys.executable, [sys.executable, *sys.argv])
    asked = {"yes": AS_IT_IS, "no": 0}
    refused = refusal()
    if refused is not None:
        print(f"CPUs are left to the kernel: {refused}")
        del asked["no"]
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        model = small_network(Path(folder) / "small.onnx")
        figures = {
            cameras: {sleep: measured(args, cameras, model, us) for sleep, us in asked.items()}
            for cameras in args.cameras
        }
    print(f"{os.cpu_count()} CPUs, load {load:.1f} before; milliseconds; goal: {GOAL_MS:g}, ratio {GOAL_RATIO:g}")
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for cameras, runs in figures.items():
        for sleep, found in runs.items():
            print(row(cameras, sleep, found))
    out = Path("bench_out") / "node_latency.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps({"load": load, "cpus": os.cpu_count(), "cameras": figures}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
