"""`make gpu-check`: on a machine with an NVIDIA GPU, build engines, compare their labels, measure, write it down.

    python benchmarks/gpu_check.py [--model DEPLOYED.onnx ...] [--pictures FOLDER] [--library tensorrt]

For each network, in float32 and float16: labels against ONNX Runtime on the CPU with the same file; the network alone;
one picture from call to answer; six cameras in one call; throughput; points sampled; label images on the GPU and on
the CPU. Writes docs/gpu/<device>.md and a JSON file beside it. Exit code 1 where labels differ by more than allowed.

Without --model, DeepLabV3+ networks with random weights are made with PyTorch: they show speed; their labels are
compared too, but say less than those of a trained network on real pictures.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from seg_perception.errors import SegPerceptionError
from seg_perception.inference import cuda_device, tensorrt_library
from seg_perception.inference.onnx_file import OnnxFile
from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter
from seg_perception.inference.segmenter import LogitsSegmentation
from seg_perception.inference.tensorrt_segmenter import TensorRtSegmenter

ROOT = Path(__file__).resolve().parent.parent
REAL_PICTURES = ROOT.parent / "shared" / "data"
WANTED = {"fp32": 0.999, "fp16": 0.995, "int8": 0.98}  # share of pixels with the label of ONNX Runtime
OVERHEAD_WANTED = 0.10
POINTS = 31_000
CAMERAS = 6
STREAM = 48  # pictures in a row: throughput
SECONDS = 3.0  # of each measurement
BACKBONES = ("mobilenet_v2", "resnet50", "resnet101")
SIZES = ((1024, 512), (2048, 1024))
Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one network at one precision. Milliseconds a picture unless the name says otherwise."""

    network: str
    precision: str
    network_size: str
    picture_size: str
    agreement: float
    wanted: float
    load_s: float
    network_ms: float
    latency_median_ms: float
    latency_p99_ms: float
    six_cameras_ms: float
    stream_ms: float
    sample_ms: float
    label_gpu_ms: float
    label_cpu_ms: float

    @property
    def overhead(self) -> float:
        """Everything that is not the network and does not hide behind it, as a share of the network."""
        return self.stream_ms / self.network_ms - 1.0


def main() -> int:
    """Check, measure, write."""
    args = arguments()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    try:
        device = cuda_device.probe()
        library = tensorrt_library.load(args.library)
    except SegPerceptionError as error:
        print(f"gpu-check: {error}", file=sys.stderr)
        return 2
    print(f"{device}; {library}")
    rows: list[Row] = []
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        given = [*args.model] or list(made_networks(Path(scratch)))
        networks = [each for network in given for each in precisions(network, Path(scratch))]
        for path in tqdm(networks, unit="network"):
            try:
                rows.append(measure(path, pictures_for(path, args.pictures), args.library, Path(scratch) / "engines"))
            except SegPerceptionError as error:
                failures.append(f"{path.name}: {error}")
    write(args.out, device, str(library), rows, failures)
    low = [row for row in rows if row.agreement < row.wanted]
    for row in low:
        print(f"gpu-check: {row.network} {row.precision}: {row.agreement:.3%} of labels, {row.wanted:.1%} wanted")
    return int(bool(low or failures or not rows))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, action="append", default=[], help="deployed ONNX, float32 or quantised")
    parser.add_argument("--pictures", type=Path, default=REAL_PICTURES, help="folder of real pictures (%(default)s)")
    parser.add_argument("--library", choices=tensorrt_library.LIBRARIES, default="tensorrt")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "gpu")
    return parser.parse_args()


def made_networks(folder: Path) -> Iterator[Path]:
    """DeepLabV3+ of the three backbones at both sizes, random weights, 19 classes."""
    import torch

    from seg_perception.export.from_torch import export_network
    from seg_perception.models.build import build_model
    from seg_perception.models.checkpoints import LoadedNetwork
    from seg_perception.models.config import NetworkConfig, Preprocessing

    for backbone in BACKBONES:
        for width, height in SIZES:
            torch.manual_seed(0)
            model = build_model(NetworkConfig(backbone=backbone, num_classes=19)).eval()
            path = folder / f"deeplabv3plus_{backbone}_{width}x{height}.onnx"
            picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
            export_network(LoadedNetwork(model, "cityscapes", Preprocessing()), path, (width, height), [picture])
            yield path


def precisions(path: Path, folder: Path) -> list[Path]:
    """The file, and of a float32 one its float16 form."""
    if OnnxFile.read(path).precision != "fp32":
        return [path]
    from seg_perception.export.half import to_half

    half = folder / f"{path.stem}.fp16.onnx"
    to_half(path, half, min_agreement=0.0)
    return [path, half]


def pictures_for(path: Path, folder: Path) -> list[Picture]:
    """Real pictures, where there are any; else noise of the network's own size."""
    found = sorted(each for each in folder.rglob("*") if each.suffix.lower() in (".png", ".jpg")) if folder else []
    read = [cv2.imread(str(each), cv2.IMREAD_COLOR) for each in found[:: max(1, len(found) // CAMERAS)]]
    pictures = [np.ascontiguousarray(each[..., ::-1]).astype(np.uint8) for each in read if each is not None]
    contract = OnnxRuntimeSegmenter(path, threads=1).contract
    if contract.image_size is not None:
        pictures = [each for each in pictures if (each.shape[1], each.shape[0]) == contract.image_size]
    width, height = contract.image_size or contract.network_size
    noise = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return pictures[:CAMERAS] or [noise]


def measure(path: Path, pictures: list[Picture], library: str, cache: Path) -> Row:
    """One network at one precision."""
    reference = OnnxRuntimeSegmenter(path)
    started_s = time.perf_counter()
    segmenter = TensorRtSegmenter(path, library=library, cache=cache)
    load_s = time.perf_counter() - started_s
    try:
        equal = [(segmenter.segment(p).label_image() == reference.segment(p).label_image()).mean() for p in pictures]
        contract = segmenter.contract
        width, height = contract.image_size or contract.network_size
        picture = np.ascontiguousarray(cv2.resize(pictures[0], (width, height))).astype(np.uint8)
        segmentation = segmenter.segment(picture)
        uv = np.random.default_rng(2).uniform(0.0, (width - 1.0, height - 1.0), (POINTS, 2))
        latencies = times_ms(lambda: segmenter.segment(picture))
        precision = OnnxFile.read(path).precision
        return Row(
            network=path.stem.removesuffix(".fp16"),
            precision=precision,
            network_size="{}x{}".format(*contract.network_size),
            picture_size=f"{width}x{height}",
            agreement=float(np.mean(equal)),
            wanted=WANTED[precision],
            load_s=load_s,
            network_ms=segmenter.time_network((width, height)),
            latency_median_ms=median(latencies),
            latency_p99_ms=float(np.percentile(latencies, 99)),
            six_cameras_ms=median(times_ms(lambda: segmenter.segment_all([picture] * CAMERAS))) / CAMERAS,
            stream_ms=median(times_ms(lambda: segmenter.segment_all([picture] * STREAM))) / STREAM,
            sample_ms=median(times_ms(lambda: segmentation.sample(uv))),
            label_gpu_ms=median(times_ms(segmentation.label_image)),
            label_cpu_ms=median(times_ms(lambda: LogitsSegmentation.label_image(segmentation))),  # type: ignore[arg-type]
        )
    finally:
        segmenter.close()
        reference.close()


def times_ms(work: Callable[[], object]) -> list[float]:
    """As often as fits into SECONDS, after three runs that are not counted."""
    for _ in range(3):
        work()
    times: list[float] = []
    end_s = time.perf_counter() + SECONDS
    while len(times) < 5 or time.perf_counter() < end_s:
        started_s = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - started_s))
    return times


def write(folder: Path, device: cuda_device.CudaDevice, library: str, rows: list[Row], failures: list[str]) -> None:
    """The page and the figures."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"[^a-z0-9]+", "-", device.name.lower()).strip("-")
    figures = {
        "device": asdict(device),
        "library": library,
        "rows": [asdict(row) for row in rows],
        "failures": failures,
    }
    (folder / f"{stem}.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    page = [
        f"# {device.name}",
        "",
        f"{device}; {library}; {platform.machine()}, Python {platform.python_version()}; {date.today().isoformat()}.",
        "Written by `make gpu-check`. Milliseconds a picture; throughput with uploads and downloads overlapped.",
        "",
        "| Network | Precision | Picture | Labels as ONNX Runtime (wanted) | Network alone | One picture: median, p99 "
        "| Six in a call | 48 in a call | Overhead | Frames/s | 31k points | Label image GPU, CPU | Load |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        *(line(row) for row in rows),
        "",
        *(f"- failed: {failure}" for failure in failures),
    ]
    (folder / f"{stem}.md").write_text("\n".join(page).rstrip() + "\n", encoding="utf-8")
    print((folder / f"{stem}.md").read_text())


def line(row: Row) -> str:
    """One row of the table."""
    mark = "" if row.overhead <= OVERHEAD_WANTED else " (more than wanted)"
    cells = (
        row.network,
        row.precision,
        row.picture_size,
        f"{row.agreement:.3%} ({row.wanted:.1%})",
        f"{row.network_ms:.2f}",
        f"{row.latency_median_ms:.2f}, {row.latency_p99_ms:.2f}",
        f"{row.six_cameras_ms:.2f}",
        f"{row.stream_ms:.2f}",
        f"{row.overhead:.0%}{mark}",
        f"{1e3 / row.stream_ms:.0f}",
        f"{row.sample_ms:.2f}",
        f"{row.label_gpu_ms:.2f}, {row.label_cpu_ms:.2f}",
        f"{row.load_s:.1f} s",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
