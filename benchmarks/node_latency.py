"""What the node costs beside its network: `python benchmarks/node_latency.py --cameras 1 6 --seconds 20`.

Sensors, node and listener are processes of their own and speak over real DDS: 1920x1200 images, 130,000 points of 32
bytes with a time each, odometry. The sensors have all of it serialized beforehand, as what a driver does is not to be
measured, stamp a sweep and its images alike the moment before the first of them is published, and publish one after the
other. Latency is from that stamp to the semantic cloud in the listener's hands. Two floors are measured beside it:

- "transport": a relay in the node's place, which takes the same messages and answers with a cloud of the same length
  made beforehand (`latency_processes`). It and the node take turns, some seconds each, between the same sensors and the
  same listener.
- "stages": the same messages through an intake in one thread, decoded, labelled, encoded and serialized, never sent.

What a sweep waited for the network is taken off node and stages: in the node little, since an image goes through it
before its sweep has come. On a busy machine the times by the clock say little; the ratio of processor time, the node's
to that of its stages alone, with the network in both, still does. All of it twice: with CPUs that sleep as the kernel
lets them, and with none that does (`node.wake_latency_us: 0`), where that may be asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from latency_messages import HEIGHT, POINTS, WIDTH, Messages
from latency_processes import NODE, RELAY, STOP_S, Listener, cpu_s, relay, send
from lifecycle_msgs.msg import Transition
from onnx import TensorProto, helper, numpy_helper, save_model

from seg_perception.config import Config
from seg_perception.export.deploy import DeploySpec, deploy
from seg_perception.inference.loading import load_segmenters
from seg_perception.intake import Intake
from seg_perception.messages.cdr import cloud_bytes
from seg_perception.messages.pointcloud import encode_semantic_cloud
from seg_perception.ros import dds
from seg_perception.ros.wake_latency import AS_IT_IS, WakeLatency, refusal

GOAL_MS, GOAL_RATIO = 14.0, 1.5
WARM_UP, WARM_UP_OF_TURN = 10, 5  # sweeps
TURN_S = 5.0
COLUMNS = (
    *("cameras", "CPUs may sleep", "clouds received", "p50", "p99", "waited for the network", "all but that"),
    *("transport alone", "its p99", "stages alone", "by the stages", "by transport and stages"),
    *("CPU of the node", "of transport", "of the stages", "node's by the stages'", "more, in copies of the bytes"),
)


def live(args: argparse.Namespace, cameras: int, model: Path, wake_latency_us: int) -> dict[str, float]:
    """Sensors, node, relay and listener together."""
    settings = model.with_name("node.param.yaml")
    asked = {**parameters(cameras, model), "autostart": False, "node": {"wake_latency_us": wake_latency_us}}
    settings.write_text(yaml.safe_dump({"/**": {"ros__parameters": asked}}))
    of_node = ["-m", "seg_perception.ros.node", "--ros-args", "--params-file", str(settings)]
    ours = [__file__, "--rate", str(args.rate), "--wake-latency-us", str(wake_latency_us)]
    latency_ms: dict[str, list[float]] = defaultdict(list)
    cpu_ms: Counter[str] = Counter()
    received: Counter[str] = Counter()
    summaries = []
    turns = max(round(args.seconds / TURN_S), 1)
    sweeps = round(TURN_S * args.rate) + WARM_UP_OF_TURN
    with ExitStack() as stack:
        listener = Listener()
        stack.callback(listener.close)
        sensors = stack.enter_context(_process(*ours, "--send", str(cameras)))
        processes = {
            RELAY: stack.enter_context(_process(*ours, "--relay", str(cameras))),
            NODE: stack.enter_context(_process(*of_node)),
        }
        for name, process in processes.items():
            listener.change(name, Transition.TRANSITION_CONFIGURE, process)
        for name, process in list(processes.items()) * turns:
            listener.change(name, Transition.TRANSITION_ACTIVATE, process)
            before_s = cpu_s(process.pid)
            heard_ms = listener.hear(sensors, sweeps)
            cpu_ms[name] += (cpu_s(process.pid) - before_s) * 1e3
            received[name] += len(heard_ms)
            latency_ms[name] += heard_ms[WARM_UP_OF_TURN:]
            if name == NODE:
                summaries.append(listener.summary)
            listener.change(name, Transition.TRANSITION_DEACTIVATE, process)
    causes = sum((Counter(summary["causes"]) for summary in summaries), Counter())
    if not latency_ms[NODE] or not latency_ms[RELAY]:
        raise SystemExit(f"clouds received: {dict(received)}; causes: {causes}")
    return {
        "sent": sweeps * turns,
        "received": received[NODE],
        "relayed": received[RELAY],
        "latency_p50_ms": float(np.median(latency_ms[NODE])),
        "latency_p99_ms": float(np.percentile(latency_ms[NODE], 99)),
        "transport_p50_ms": float(np.median(latency_ms[RELAY])),
        "transport_p99_ms": float(np.percentile(latency_ms[RELAY], 99)),
        "network_p50_ms": float(np.median([found["latency_ms"]["segment"]["median"] for found in summaries])),
        "node_cpu_ms": cpu_ms[NODE] / received[NODE],
        "transport_cpu_ms": cpu_ms[RELAY] / received[RELAY],
        **{f"cause {cause}": count for cause, count in causes.items()},
    }


@contextmanager
def _process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Another Python, which one may speak with by lines; SIGINT ends it with the block."""
    process = subprocess.Popen([sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=STOP_S)


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


def measured(args: argparse.Namespace, cameras: int, model: Path, wake_latency_us: int) -> dict[str, float]:
    """The stages alone and the live node, while CPUs may take so long to wake."""
    with WakeLatency(wake_latency_us):
        found = alone(cameras, model)
    return {**found, **live(args, cameras, model, wake_latency_us)}


def row(cameras: int, sleep: str, found: dict[str, float]) -> str:
    """One line of the table. sleep: whether CPUs may."""
    beside = found["latency_p50_ms"] - found["network_p50_ms"]
    stages, transport = found["alone_p50_ms"], found["transport_p50_ms"]
    cpu, stages_cpu = found["node_cpu_ms"], found["alone_cpu_ms"]
    return (
        f"| {cameras} | {sleep} | {found['received']} of {found['sent']} | {found['latency_p50_ms']:.1f} | "
        f"{found['latency_p99_ms']:.1f} | {found['network_p50_ms']:.1f} | {beside:.1f} | {transport:.1f} | "
        f"{found['transport_p99_ms']:.1f} | {stages:.1f} | {beside / stages:.2f} | "
        f"{beside / (transport + stages):.2f} | {cpu:.1f} | {found['transport_cpu_ms']:.1f} | {stages_cpu:.1f} | "
        f"{cpu / stages_cpu:.2f} | {(cpu - stages_cpu) / found['copy_cpu_ms']:.1f} |"
    )


def main() -> int:
    """Measure, print the table, leave the figures in bench_out/node_latency.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cameras", type=int, nargs="+", default=[1, 6])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=10.0)
    for name in ("--send", "--relay", "--wake-latency-us"):  # of the processes that it starts
        parser.add_argument(name, type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.send or args.relay:
        with suppress(KeyboardInterrupt):
            send(args.send, args.rate) if args.send else relay(args.relay, args.wake_latency_us)
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
    print(
        f"{os.cpu_count()} CPUs, load {load:.1f} before; milliseconds; goals: all but the network {GOAL_MS:g} with one "
        f"camera, and no more than {GOAL_RATIO:g} times the sum of its stages: 'by the stages' where these only "
        "compute, 'by transport and stages' where the way of the messages is one of them"
    )
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
