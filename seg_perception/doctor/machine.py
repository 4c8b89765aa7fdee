"""The machine: packages, ROS, how large messages travel, the GPU. Nothing is imported that may be missing."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

from seg_perception.doctor.finding import Finding, error, ok, warn
from seg_perception.errors import ModelError
from seg_perception.inference import cuda_device, tensorrt_library
from seg_perception.inference.cuda_runtime import Cuda, compile_cubin
from seg_perception.inference.score_kernels import PREAMBLE, SOURCE
from seg_perception.ros.dds import MALLOC, PROFILE_VARIABLES, profile
from seg_perception.ros.wake_latency import AS_IT_IS, DEVICE, refusal

PACKAGES = ("numpy", "numba", "opencv-python-headless", "onnxruntime", "onnx", "scipy", "rosbags")
OTHER_NAMES = {"opencv-python-headless": "cv2"}
MESSAGES = ("sensor_msgs", "tf2_msgs", "vision_msgs", "diagnostic_msgs", "visualization_msgs", "nav_msgs")
RMW = "rmw_fastrtps_cpp"
SEGMENT_BYTES = 1 << 23
SHARED_MEMORY_FREE = 1 << 28
SOCKET_BYTES = 1 << 21
HIGHEST_DOMAIN = 101  # above it the ports of DDS lie among those that Linux gives out to clients
LEFTOVERS = ("fastrtps_*", "fastdds_*")
NAMED = 4


def machine() -> Iterator[Finding]:
    """Everything that needs no configuration."""
    yield from packages()
    yield from ros(os.environ)
    yield domain(os.environ)
    yield fastdds_profile(os.environ)
    yield malloc(os.environ)
    yield shared_memory(Path("/dev/shm"))
    yield leftovers(Path("/dev/shm"))
    yield sockets(Path("/proc/sys/net/core/rmem_max"))
    yield wake_latency()
    yield gpu()


def packages() -> Iterator[Finding]:
    """What the core needs of Python."""
    missing = [name for name in PACKAGES if find_spec(OTHER_NAMES.get(name, name)) is None]
    found = ", ".join(f"{name} {_version(name)}".strip() for name in PACKAGES if name not in missing)
    yield ok("python", found)
    if missing:
        yield error("python", f"missing: {', '.join(missing)}", f"pip install {' '.join(missing)}")


def ros(environment: Mapping[str, str]) -> Iterator[Finding]:
    """rclpy, the message packages and the middleware."""
    distro = environment.get("ROS_DISTRO", "")
    if find_spec("rclpy") is None:
        remedy = "source /opt/ros/<distro>/setup.bash, or take the environment of `make venv`; replay works without"
        yield warn("ROS 2", "rclpy cannot be found: no live node", remedy)
        return
    missing = [name for name in MESSAGES if find_spec(name) is None]
    if missing:
        names = " ".join(f"ros-{distro or '<distro>'}-{name.replace('_', '-')}" for name in missing)
        yield error("ROS 2", f"message packages missing: {', '.join(missing)}", f"apt install {names}")
    else:
        yield ok("ROS 2", f"{distro or 'wheels'}, rclpy {_version('rclpy') or _version('ros-jazzy-rclpy')}".rstrip())
    rmw = environment.get("RMW_IMPLEMENTATION", "")
    if rmw not in ("", RMW):
        yield warn(
            "middleware", f"RMW_IMPLEMENTATION is {rmw}", f"figures and tests are of {RMW}; unset it to use that"
        )
    else:
        yield ok("middleware", rmw or f"{RMW} (by default)")


def domain(environment: Mapping[str, str]) -> Finding:
    """Who will be heard."""
    text = environment.get("ROS_DOMAIN_ID", "") or "0"
    reach = environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "") or "SUBNET"
    if environment.get("ROS_LOCALHOST_ONLY") == "1":
        reach = "this machine only (ROS_LOCALHOST_ONLY)"
    if not text.isdecimal() or int(text) > HIGHEST_DOMAIN:
        return error("domain", f"ROS_DOMAIN_ID is {text!r}", f"a number from 0 to {HIGHEST_DOMAIN}")
    return ok("domain", f"{text}, discovery range {reach}")


def fastdds_profile(environment: Mapping[str, str]) -> Finding:
    """Whether images and clouds fit the shared memory of Fast DDS."""
    ours = profile()
    remedy = f"export {PROFILE_VARIABLES[0]}={ours or '<share of seg_perception>/config/fastdds.xml'}, drivers included"
    variable = next((name for name in PROFILE_VARIABLES if environment.get(name)), "")
    if not variable:
        return warn("Fast DDS", "no profile: large messages travel in pieces of 512 kB and get lost", remedy)
    path = Path(environment[variable])
    try:
        sizes = [int(e.text or 0) for e in ElementTree.parse(path).iter() if e.tag.endswith("}segment_size")]
    except (OSError, ElementTree.ParseError, ValueError) as problem:
        return error("Fast DDS", f"{variable}: {path} cannot be read ({problem})", remedy)
    if max(sizes, default=0) < SEGMENT_BYTES:
        return warn("Fast DDS", f"{path}: shared-memory segment of {max(sizes, default=524288)} bytes", remedy)
    return ok("Fast DDS", f"{path}: shared-memory segment of {max(sizes) >> 20} MiB")


def malloc(environment: Mapping[str, str]) -> Finding:
    """Whether large buffers are asked of the kernel anew for each message."""
    unset = [f"{name}={value}" for name, value in MALLOC.items() if name not in environment]
    if unset:
        remedy = f"export {' '.join(unset)} before the start of drivers; perception_node sees to itself"
        return warn("malloc", "thresholds are the default ones: page faults for each large message", remedy)
    return ok("malloc", "thresholds keep large buffers")


def shared_memory(folder: Path) -> Finding:
    """Room for the segments of all processes."""
    if not folder.is_dir():
        return warn("shared memory", f"{folder} does not exist", "mount a tmpfs there, or messages go over UDP")
    free = shutil.disk_usage(folder).free
    if free < SHARED_MEMORY_FREE:
        remedy = "in a container: `--ipc host` or `--shm-size 1g`; else remount it with a larger size"
        return warn("shared memory", f"{folder}: {free >> 20} MiB free, {SHARED_MEMORY_FREE >> 20} wanted", remedy)
    return ok("shared memory", f"{folder}: {free >> 20} MiB free")


def leftovers(folder: Path) -> Finding:
    """Segments of Fast DDS that nobody holds any more: a process that is killed leaves its own behind.

    Beside a segment lies a file of the same name and `_el`, on which its process holds a lock as long as it lives.
    """
    held, stale = 0, []
    for path in sorted(path for pattern in LEFTOVERS for path in folder.glob(pattern) if path.is_file()):
        lock = path if path.name.endswith(("_el", "_sl")) else path.with_name(f"{path.name}_el")
        if "_port" in path.name or _locked(lock):  # ports are shared, and taken over by whoever comes next
            held += 1
        else:
            stale.append(path)
    if not stale:
        return ok("leftovers", f"none in {folder} ({held} files in use)")
    size = sum(path.stat().st_size for path in stale)
    names = " ".join(map(str, stale[:NAMED])) + (f" and {len(stale) - NAMED} more" if len(stale) > NAMED else "")
    return warn(
        "leftovers",
        f"{len(stale)} files of killed processes in {folder}, {size >> 20} MiB: {names}",
        "`fastdds shm clean`, or stop all ROS processes and delete them",
    )


def sockets(path: Path) -> Finding:
    """Room for what comes from other machines, over UDP."""
    try:
        most = int(path.read_text())
    except (OSError, ValueError):
        return ok("sockets", f"{path} cannot be read here")
    if most < SOCKET_BYTES:
        remedy = "sudo sysctl -w net.core.rmem_max=67108864; only matters where sensors are on another machine"
        return warn("sockets", f"receive buffers of at most {most} bytes, {SOCKET_BYTES} wanted", remedy)
    return ok("sockets", f"receive buffers of up to {most} bytes")


def wake_latency(wanted_us: int = AS_IT_IS, device: Path = DEVICE) -> Finding:
    """Whether the node may keep CPUs from sleeping deeply. wanted_us: node.wake_latency_us."""
    refused = refusal(device)
    if wanted_us == AS_IT_IS:
        could = f"could not: {refused.seen}" if refused else "could"
        return ok("wake latency", f"left to the kernel; node.wake_latency_us {could}")
    if refused:
        return warn("wake latency", f"node.wake_latency_us is {wanted_us}: {refused.seen}", refused.remedy)
    return ok("wake latency", f"CPUs will wake within {wanted_us} us while the node is active")


def gpu(wanted: str = "") -> Finding:
    """The NVIDIA GPU, TensorRT, cuda.bindings and NVRTC. wanted: `tensorrt` or `tensorrt_rtx` where the configuration
    names it."""
    found = []
    try:
        device = cuda_device.probe()
        found.append(str(device))
        found.append(str(tensorrt_library.load(wanted or "tensorrt", device)))
        Cuda(device).close()
        found.append(f"cuda-bindings {_version('cuda-bindings')}")
    except ModelError as problem:
        seen = "; ".join([*found, str(problem)])
        if wanted:
            return error("GPU", f"inference.backend is {wanted}: {seen}", "or use backend: auto")
        return ok("GPU", f"none that TensorRT can use, the CPU runs the network ({seen})")
    try:
        compile_cubin(PREAMBLE + SOURCE, device.architecture)
    except ModelError as problem:
        remedy = "until then label images are made, and points sampled, on the CPU"
        return warn("GPU", f"{', '.join(found)}; {problem}", remedy)
    return ok("GPU", f"{', '.join(found)}, kernels compiled for {device.architecture}")


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _locked(path: Path) -> bool:
    """Whether somebody holds a lock on a file; also where it may not be looked at."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
