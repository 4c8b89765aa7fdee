"""The node as others meet it: in a process of its own, spoken to over DDS. For tests that carry the `ros` marker.

Every test process takes a ROS domain of its own, from its process id, and keeps to this machine.
"""

from __future__ import annotations

import array
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from onnx import TensorProto, helper, numpy_helper, save_model
from small_world import SCENE_OFF

from seg_perception.export.deploy import DeploySpec, deploy

ROOT = Path(__file__).resolve().parent.parent
ROAD, VEGETATION, CAR = 0, 8, 13
WIDTH, HEIGHT = 200, 100
K = [100.0, 0.0, 99.5, 0.0, 100.0, 49.5, 0.0, 0.0, 1.0]
QUAT_OPTICAL = (-0.5, 0.5, -0.5, 0.5)  # x forward to z forward
STEP_NS = 100_000_000
PATIENCE_S = 120.0
START_S = 600.0  # the first start after a change compiles the kernels, on whatever the machine can spare
PROGRAM = ("-m", "seg_perception.ros.start")


def stretched(seconds: float) -> float:
    """So long on a machine that has a processor for everybody; longer where they are shared."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def isolate() -> None:
    """Before the first rclpy.init: this process and its children alone with each other."""
    from seg_perception.ros.dds import environment

    os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ.update(environment())


THREE = {
    "name": "three",
    "classes": [
        {"name": "asphalt", "train_id": 0, "color": [1, 2, 3]},
        {"name": "car", "train_id": 1, "color": [4, 5, 6], "thing": True},
        {"name": "hedge", "train_id": 2, "color": [7, 8, 9]},
    ],
}


def color_model(path: Path) -> Path:
    """A deployed network, tiny and real: red pixels are road, green ones vegetation, blue ones car."""
    return _deployed(path, 19, (ROAD, VEGETATION, CAR), "cityscapes")


def three_class_model(path: Path, rgb: tuple[int, int, int] = (0, 2, 1)) -> dict[str, str]:
    """The settings of a camera whose network has other classes, those of THREE: red pixels are the first of `rgb`."""
    taxonomy = path.with_suffix(".yaml")
    taxonomy.write_text(yaml.safe_dump(THREE), encoding="utf-8")
    model = _deployed(path, 3, rgb, str(taxonomy))
    return {"model": str(model), "taxonomy": str(taxonomy), "class_map": "road=asphalt, vegetation=hedge"}


def _deployed(path: Path, classes: int, rgb: tuple[int, int, int], taxonomy: str) -> Path:
    weights = np.zeros((classes, 3, 1, 1), np.float32)
    weights[rgb, (0, 1, 2)] = 10.0
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    graph = helper.make_graph(
        [node],
        "colors",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, HEIGHT, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, classes, HEIGHT, WIDTH])],
        [numpy_helper.from_array(weights, "w")],
    )
    source = path.with_name(f"source_{path.name}")
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), source)
    deploy(source, path, DeploySpec(taxonomy=taxonomy, mean=(0.0,) * 3, scale=(1 / 255,) * 3))
    return path


def parameters(model: Path, **more: Any) -> dict[str, Any]:
    """Two cameras, `front` raw and `rear` compressed, that look the same way; nothing moves, and no scene is kept."""
    base: dict[str, Any] = {
        "cameras": ["front", "rear"],
        "camera": {
            "front": {"image_topic": "/front/image_raw", "offset_ms": 1.0},
            "rear": {"image_topic": "/rear/image_raw/compressed", "transport": "compressed"},
        },
        "inference": {"model": str(model), "threads": 1},
        "pairing": {"deadline_ms": 400.0},
        "motion": {"mode": "static"},
        **SCENE_OFF,
        "output": {"diagnostics_period_s": 0.2},
    }
    return {**base, **more}


class NodeProcess:
    """perception_node, running."""

    def __init__(self, folder: Path, params: dict[str, Any], program: Sequence[str] = PROGRAM) -> None:
        file = folder / "node.param.yaml"
        file.write_text(yaml.safe_dump({"/**": {"ros__parameters": params}}), encoding="utf-8")
        self._log = folder / "node.log"
        command = [sys.executable, *program, "--ros-args", "--params-file", str(file)]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, preexec_fn=_die_with_parent
            )

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send the signal; returns the exit code. Killed after a while, and that is an exit code too."""
        if self.alive:
            self._process.send_signal(number)
        return self.wait()

    def seconds_to_end(self, number: int = signal.SIGINT) -> float:
        """Send the signal; the seconds until it has ended, without those in which its main thread could have gone on
        and all processors were taken. `wait` then tells the exit code.
        """
        start_s, waited_s = time.monotonic(), _waited_s(self.pid)
        self._process.send_signal(number)
        while not os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG):
            assert time.monotonic() - start_s < PATIENCE_S, self.log[-2000:]
            time.sleep(0.01)
        return time.monotonic() - start_s - (_waited_s(self.pid) - waited_s)

    def wait(self) -> int:
        try:
            return self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def _waited_s(pid: int) -> float:
    """How long the main thread of a process, one that has ended included, has waited for a processor."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) * 1e-9
    except (OSError, IndexError):  # a kernel without statistics of its scheduler
        return 0.0


@contextmanager
def running(
    peer: Peer, folder: Path, params: dict[str, Any], program: Sequence[str] = PROGRAM
) -> Iterator[NodeProcess]:
    """A node that we are connected to; stopped at the end, with exit code 0 and no traceback."""
    node = NodeProcess(folder, params, program)
    try:
        peer.wait_until_connected(node)
        yield node
    finally:
        exit_code = node.stop()
    assert exit_code == 0, node.log[-2000:]
    assert "Traceback" not in node.log


def _die_with_parent() -> None:
    """In the child, before it starts: SIGINT once the process that started it is gone, however that ended."""
    ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG of linux/prctl.h


class Peer:
    """The sensors, and whoever listens to the node: an rclpy node in the test's own process.

    lidars: their names, where there are several; `clouds_of` has what the node made of each.
    """

    def __init__(self, lidars: Sequence[str] = ()) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.node import Node
        from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
        from tf2_msgs.msg import TFMessage

        from seg_perception.ros import qos

        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = Node("test_peer", context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        topics = {
            "/front/image_raw": Image,
            "/front/camera_info": CameraInfo,
            "/rear/image_raw/compressed": CompressedImage,
            "/rear/camera_info": CameraInfo,
            **{f"/{name}/points" if name else "/points": PointCloud2 for name in lidars or [""]},
        }
        self.publishers = {
            topic: self.node.create_publisher(kind, topic, qos.published(10)) for topic, kind in topics.items()
        }
        self.publishers["/tf"] = self.node.create_publisher(TFMessage, "/tf", qos.transforms())
        self.publishers["/tf_static"] = self.node.create_publisher(TFMessage, "/tf_static", qos.static_transforms())
        self.clouds_of: dict[str, dict[int, Any]] = {name: {} for name in lidars or [""]}
        self.clouds = self.clouds_of.get("", {})
        self.statuses: dict[str, Any] = {}
        self.clients: dict[str, Any] = {}  # of the node's services, by name
        for name, clouds in self.clouds_of.items():
            topic = f"/perception_node/{name}/points" if name else "/perception_node/points"
            self.node.create_subscription(PointCloud2, topic, partial(_keep, clouds), qos.published(10))
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnostics, qos.published(10))
        self.stamp_ns = 1_000_000_000_000

    def close(self) -> None:
        import rclpy

        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def spin_until(self, done: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
        """Spin until `done()` gives something true, and return it."""
        end_s = time.monotonic() + patience_s
        while not (result := done()):
            if time.monotonic() > end_s:
                raise AssertionError(f"waited {patience_s:.0f} s in vain for {what}; {self.causes()}")
            self._executor.spin_once(timeout_sec=0.05)
        return result

    def spin_for(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self._executor.spin_once(timeout_sec=0.02)

    def wait_until_alone(self) -> None:
        """Until the node before has gone, so that the next one is not taken for it."""
        self.clients.clear()
        self.spin_until(
            lambda: not any(p.get_subscription_count() for p in self.publishers.values()), "the node before to go"
        )

    def wait_until_connected(self, node: NodeProcess) -> None:
        """Until the node listens to everything, knows where its cameras are, and we listen to the node."""

        def listened_to() -> bool:
            assert node.alive, f"the node is gone: {node.log[-2000:]}"
            return all(p.get_subscription_count() for p in self.publishers.values())

        self.spin_until(listened_to, "the node to subscribe", START_S)
        self.statuses.clear()
        self.wait_until_known()
        static = transform("lidar", "front_optical", 0), transform("lidar", "rear_optical", 0)
        self.publishers["/tf_static"].publish(tf_message(*static))
        edges = {f"edge.{edge.child_frame_id}" for edge in static}
        self.spin_until(lambda: edges <= set(self.values("transforms")), "the node to tell where its cameras are")

    def wait_until_known(self) -> None:
        """Until the node knows every publisher, subscription and client that we have by now.

        That we see its end does not mean that it sees ours: what it publishes or answers before is lost, and so is what
        we send best effort. It learns of ours in their order, so it knows all when the last is answered.
        """
        from lifecycle_msgs.srv import GetState

        client = self.node.create_client(GetState, "/perception_node/get_state")
        asked: list[Any] = []

        def answered() -> bool:
            if client.service_is_ready() and time.monotonic() > (asked[-1][0] if asked else 0.0) + 1.0:
                asked.append((time.monotonic(), client.call_async(GetState.Request())))
            return any(answer.done() for _, answer in asked)

        self.spin_until(answered, "an answer of the node", START_S)
        self.node.destroy_client(client)

    def send(self, topic: str, msg: Any) -> None:
        self.publishers[topic].publish(msg)

    def send_good(self, *, without: tuple[str, ...] = (), instead: dict[str, Any] | None = None) -> int:
        """One sweep with an image of each camera; returns its stamp. `instead`: topic → another message."""
        self.stamp_ns += STEP_NS
        messages = {
            "/front/camera_info": camera_info("front", self.stamp_ns),
            "/rear/camera_info": camera_info("rear", self.stamp_ns),
            "/front/image_raw": raw_image("front", self.stamp_ns, picture()),
            "/rear/image_raw/compressed": compressed_image("rear", self.stamp_ns, picture()),
            "/points": cloud(self.stamp_ns),
        }
        for topic, msg in {**messages, **(instead or {})}.items():
            if topic not in without:
                self.send(topic, msg)
        return self.stamp_ns

    def labels_of(self, stamp_ns: int) -> list[int]:
        """class_id of the sweep with that stamp, once it is published."""
        return labels(self.spin_until(lambda: self.clouds.get(stamp_ns), f"the cloud of {stamp_ns}"))

    def summary(self) -> dict[str, Any]:
        from seg_perception.ros.diagnostics import unflatten

        status = self.statuses.get("perception_node: sweeps")
        return unflatten(status.values) if status else {}

    def causes(self) -> dict[str, int]:
        return self.summary().get("causes", {})

    def last_words(self, cause: str) -> str:
        return self.values("sweeps").get(f"last_words.{cause}", "")

    def values(self, part: str) -> dict[str, str]:
        """Of that part of the diagnostics; none before it was heard."""
        status = self.statuses.get(f"perception_node: {part}")
        return {pair.key: pair.value for pair in status.values} if status else {}

    def _diagnostics(self, msg: Any) -> None:
        for status in msg.status:
            self.statuses[status.name] = status


def _keep(clouds: dict[int, Any], msg: Any) -> None:
    clouds[stamp_of(msg)] = msg


def labels(msg: Any) -> list[int]:
    """class_id of a published cloud."""
    from seg_perception.messages.pointcloud import decode_cloud, labels_from_cloud

    return labels_from_cloud(decode_cloud(msg))[0].tolist()


def stamp_of(msg: Any) -> int:
    return msg.header.stamp.sec * 10**9 + msg.header.stamp.nanosec


def header(frame_id: str, stamp_ns: int) -> Any:
    from seg_perception.ros import conversions

    return conversions.header(frame_id, stamp_ns)


def picture() -> np.ndarray:
    """Left half red, right half blue."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:, : WIDTH // 2, 0], pixels[:, WIDTH // 2 :, 2] = 255, 255
    return pixels


def raw_image(camera: str, stamp_ns: int, pixels: np.ndarray) -> Any:
    from seg_perception.ros import conversions

    return conversions.image(pixels, "rgb8", f"{camera}_optical", stamp_ns)


def compressed_image(camera: str, stamp_ns: int, pixels: np.ndarray) -> Any:
    from sensor_msgs.msg import CompressedImage

    from seg_perception.messages.image import compressed_fields

    fields = compressed_fields(pixels)
    data = array.array("B", fields["data"].tobytes())
    return CompressedImage(header=header(f"{camera}_optical", stamp_ns), format=fields["format"], data=data)


def camera_info(camera: str, stamp_ns: int, k: list[float] | None = None) -> Any:
    from sensor_msgs.msg import CameraInfo

    k = K if k is None else k
    return CameraInfo(
        header=header(f"{camera}_optical", stamp_ns),
        width=WIDTH,
        height=HEIGHT,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=k,
        r=np.eye(3).ravel().tolist(),
        p=[*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0],
    )


def cloud(stamp_ns: int, xyz: np.ndarray | None = None) -> Any:
    """By default: ahead to the left, ahead to the right, behind."""
    from seg_perception.messages.pointcloud import cloud_from_columns
    from seg_perception.ros import conversions

    if xyz is None:
        xyz = np.array([[10.0, 3.0, 0.0], [10.0, -3.0, 0.0], [-10.0, 0.0, 0.0]], np.float32)
    columns = {"x": xyz[:, 0], "y": xyz[:, 1], "z": xyz[:, 2], "intensity": np.arange(len(xyz), dtype=np.float32)}
    return conversions.point_cloud(cloud_from_columns("lidar", stamp_ns, columns))


def transform(parent: str, child: str, stamp_ns: int, xyz: tuple[float, ...] = (0.0,) * 3) -> Any:
    """A TransformStamped whose child looks the way an optical frame does."""
    from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3

    move, turn = Vector3(x=xyz[0], y=xyz[1], z=xyz[2]), Quaternion(**dict(zip("xyzw", QUAT_OPTICAL, strict=True)))
    return TransformStamped(
        header=header(parent, stamp_ns), child_frame_id=child, transform=Transform(translation=move, rotation=turn)
    )


def tf_message(*transforms: Any) -> Any:
    from tf2_msgs.msg import TFMessage

    return TFMessage(transforms=list(transforms))


def ask(peer: Peer, service_type: type, name: str, request: Any) -> Any:
    """Ask one of the node's services; returns the future of its answer."""
    if name not in peer.clients:
        peer.clients[name] = peer.node.create_client(service_type, f"/perception_node/{name}")
        peer.spin_until(peer.clients[name].service_is_ready, name, START_S)
        peer.wait_until_known()
    return peer.clients[name].call_async(request)


def call(peer: Peer, service_type: type, name: str, request: Any) -> Any:
    """The answer of one of the node's services."""
    future = ask(peer, service_type, name, request)
    peer.spin_until(future.done, f"an answer of {name}", START_S)
    return future.result()


def ask_to_change(peer: Peer, transition: str) -> Any:
    """Ask for a transition of the lifecycle; returns the future of its answer."""
    from lifecycle_msgs.srv import ChangeState

    request = ChangeState.Request()
    request.transition.label = transition
    return ask(peer, ChangeState, "change_state", request)


def change(peer: Peer, transition: str) -> bool:
    """Ask for a transition of the lifecycle; whether it succeeded."""
    future = ask_to_change(peer, transition)
    peer.spin_until(future.done, f"{transition} to be answered", START_S)
    return future.result().success


def set_parameter(peer: Peer, name: str, value: Any) -> Any:
    """What came of it: `successful`, and the `reason` where it is not."""
    from rcl_interfaces.srv import SetParameters
    from rclpy.parameter import Parameter

    request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
    return call(peer, SetParameters, "set_parameters", request).results[0]
