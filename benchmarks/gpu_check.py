"""`make gpu-check`: on a machine with an NVIDIA GPU, build engines, compare their labels, measure, write it down.

    python benchmarks/gpu_check.py [--library tensorrt|tensorrt_rtx|torch] [--model DEPLOYED.onnx ...] [--minutes 9]
    python benchmarks/gpu_check.py --resume          # goes on where a run was stopped
    python benchmarks/gpu_check.py --make FOLDER     # at home, without a GPU: the networks, to be carried along

First the kernels of the package, against the CPU. Then each network: labels against ONNX Runtime on the CPU with the
same file, the network alone, one picture from call to answer, throughput, six cameras and their points with class
scores on the CPU, on the GPU, and in one call. `--library torch` is for where there is no TensorRT: the same networks
in PyTorch. Everything measured is in docs/gpu/<device>.md and the JSON file beside it at once, each figure as it comes:
a run that is killed leaves what it had. What fails, ends the process or falls silent is listed there, and the rest is
measured in a process of its own (gpu_supervisor.py).

Exit code: 0; 1 where labels differ by more than allowed or something failed; 2 without a GPU or the library; 3 where
the minutes ran out. Labels are judged of trained networks: the one that ships, or those given with --model. The
DeepLabV3+ networks with random weights, which are made with PyTorch, show speed alone. docs/gpu/README.md says what to
carry, in which order.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from gpu_kernels import CAMERAS, STREAM, Picture, check_kernels, noise, places, times_ms
from gpu_networks import batch_of, found_networks, made_networks, with_half
from gpu_report import BrokenOffError, Report
from gpu_supervisor import ANEW, IMPOSSIBLE, supervise
from numpy.typing import NDArray

from seg_perception.errors import ModelError, SegPerceptionError
from seg_perception.inference import cuda_device, tensorrt_library
from seg_perception.inference.engine_build import BuildOptions
from seg_perception.inference.onnx_file import OnnxFile
from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter
from seg_perception.inference.tensorrt_segmenter import TensorRtSegmenter
from seg_perception.shipped import DRIVE, MODEL

ROOT = Path(__file__).resolve().parent.parent
REAL_PICTURES = ROOT.parent / "shared" / "data"
WANTED = {"fp32": 0.999, "tf32": 0.995, "fp16": 0.995, "int8": 0.98}  # share of pixels with ONNX Runtime's label
log = logging.getLogger("gpu-check")


def main() -> int:
    """Check, measure, write."""
    args = arguments()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    if args.make:
        args.make.mkdir(parents=True, exist_ok=True)
        for path in made_networks(args.make):
            print(f"{path}: {path.stat().st_size / 1e6:.0f} MB")
        return 0
    if args.scratch:
        return work(args, args.scratch)
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, __file__, *sys.argv[1:], "--scratch", scratch]
        return supervise(
            command,
            lambda: {path: path.read_bytes() for path in args.out.glob("*.json")},
            minutes=args.minutes,
            patience_s=60.0 * args.patience,
        )


def work(args: argparse.Namespace, scratch: Path) -> int:
    """As far as one process gets: to the end, or to the first part that fails."""
    try:
        device = cuda_device.probe()
        if args.library != "torch":
            library = tensorrt_library.load(args.library, device)
    except SegPerceptionError as error:
        print(f"gpu-check: {error}", file=sys.stderr)
        return IMPOSSIBLE
    print(device, flush=True)
    report = Report(args.out, device, resume=args.resume, after=args.after)
    try:
        check_kernels(report, device, args.seconds)
        if args.library == "torch":
            with report.attempt("PyTorch"):
                check_torch = importlib.import_module("gpu_torch").check_torch
            check_torch(report, device, args.seconds)
        else:
            check_engines(report, str(library), args, scratch)
    except BrokenOffError:
        return ANEW
    report.finished = True
    report.write()
    print(report.path.with_suffix(".md").read_text())
    return int(bool(report.low or report.failures))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", type=Path, action="append", default=[], help="trained and deployed ONNX, any precision"
    )
    parser.add_argument("--networks", type=Path, help="folder that --make has filled (made now, with PyTorch)")
    parser.add_argument("--make", type=Path, metavar="FOLDER", help="only make the networks")
    parser.add_argument("--pictures", type=Path, default=REAL_PICTURES, help="folder of real pictures (%(default)s)")
    parser.add_argument("--library", choices=(*tensorrt_library.LIBRARIES, "torch"), default="tensorrt")
    parser.add_argument("--engines", type=Path, help="folder where built engines are kept (forgotten)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement (%(default)s)")
    parser.add_argument("--resume", action="store_true", help="leave out what docs/gpu holds already")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "gpu")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many (no limit)")
    parser.add_argument(
        "--patience", type=float, default=5.0, help="minutes without a word after which a part has failed (%(default)s)"
    )
    for option in ("--scratch", "--after"):  # what the supervisor tells the process that does the work
        parser.add_argument(option, type=Path if option == "--scratch" else str, help=argparse.SUPPRESS)
    return parser.parse_args()


def check_engines(report: Report, library: str, args: argparse.Namespace, scratch: Path) -> None:
    """Trained networks first, for their labels; then the made ones, for speed."""
    made = found_networks(args.networks) if args.networks else made_networks(scratch)
    trained = with_half(args.model or [MODEL], scratch)
    for judged, name, networks in ((True, "trained networks", trained), (False, "made networks", made)):
        if (args.model and not judged) or name in report.failures:
            continue
        while True:
            with report.attempt(name):
                path = next(networks, None)
            if path is None:
                break
            check_network(report, path, library, args, scratch, judged=judged)


def check_network(
    report: Report, path: Path, library: str, args: argparse.Namespace, scratch: Path, *, judged: bool
) -> None:
    """One file, in each arithmetic that it can be built for."""
    kind = OnnxFile.read(path).precision
    for precision in {"fp32": ("tf32", "fp32") if judged else ("tf32",)}.get(kind, (kind,)):
        what = {"network": path.stem.removesuffix(".fp16"), "precision": precision, "library": library}
        report.measure("engines", what, measure(path, precision, args, scratch, judged=judged))


def measure(
    path: Path, precision: str, args: argparse.Namespace, scratch: Path, *, judged: bool
) -> Iterator[dict[str, Any]]:
    """Milliseconds a picture, and the share of ONNX Runtime's labels, as they are known."""
    engines = args.engines or scratch / "engines"
    engines.mkdir(mode=0o700, parents=True, exist_ok=True)
    options = BuildOptions(tf32=precision == "tf32", timing_cache=engines / "timings")
    seconds = args.seconds

    @contextmanager
    def opened(model: Path, **more: Any) -> Iterator[TensorRtSegmenter]:
        segmenter = TensorRtSegmenter(model, library=args.library, cache=engines, options=options, **more)
        try:
            yield segmenter
        finally:
            segmenter.close()

    started_s = time.perf_counter()
    with opened(path) as segmenter:
        load_s = time.perf_counter() - started_s
        contract = segmenter.contract
        width, height = size = contract.image_size or contract.network_size
        yield {"picture": f"{width}x{height}", "load_s": load_s, "network_ms": segmenter.time_network(size)}
        pictures = pictures_for(path, args.pictures) if judged else []
        if judged:
            agreement = float(np.mean(list(_agreements(segmenter, path, pictures))))
            yield {"agreement": agreement, "wanted": WANTED[precision]}
        picture = pictures[0] if pictures else noise(size)
        picture = np.ascontiguousarray(cv2.resize(picture, size)).astype(np.uint8)
        several, uv = [picture] * CAMERAS, places(size)
        latencies = times_ms(lambda: segmenter.segment(picture), seconds)
        yield {"latency_median_ms": median(latencies), "latency_p99_ms": float(np.percentile(latencies, 99))}
        yield _in_a_row(segmenter, picture, "cpu", seconds)
        yield {"points_cpu_ms": _with_points(segmenter, several, uv, seconds)}
    with opened(path, sample_on_gpu=True) as segmenter:
        yield _in_a_row(segmenter, picture, "gpu", seconds)
        yield {"points_gpu_ms": _with_points(segmenter, several, uv, seconds)}
    with opened(path, wait="block") as segmenter:
        yield {"latency_block_ms": median(times_ms(lambda: segmenter.segment(picture), seconds))}
        yield _in_a_row(segmenter, picture, "block", seconds)
    batched = batch_of(path, scratch) if precision == "fp16" else None
    if batched is not None:
        with opened(batched, sample_on_gpu=True) as segmenter:
            yield {"batch_network_ms": segmenter.time_network(size)}
            yield {"points_batch_ms": _with_points(segmenter, several, uv, seconds)}


def _agreements(segmenter: TensorRtSegmenter, path: Path, pictures: list[Picture]) -> Iterator[float]:
    reference = OnnxRuntimeSegmenter(path)
    for picture in pictures:
        yield float((segmenter.segment(picture).label_image() == reference.segment(picture).label_image()).mean())
    reference.close()


def _in_a_row(segmenter: TensorRtSegmenter, picture: Picture, where: str, seconds: float) -> dict[str, float]:
    """Milliseconds a picture at full speed, and of them those that a core of the CPU worked, or waited busily."""
    pictures = [picture] * STREAM
    row = {f"stream_{where}_ms": median(times_ms(lambda: segmenter.segment_all(pictures), seconds)) / STREAM}
    started_s = time.process_time()
    segmenter.segment_all(pictures)
    return {**row, f"core_{where}_ms": 1e3 * (time.process_time() - started_s) / STREAM}


def _with_points(
    segmenter: TensorRtSegmenter, pictures: list[Picture], uv: NDArray[np.float64], seconds: float
) -> float:
    """Milliseconds a camera, from pictures to the labels of the points."""

    def work() -> None:
        for segmentation in segmenter.segment_all(pictures):
            segmentation.sample(uv)

    return median(times_ms(work, seconds)) / len(pictures)


def pictures_for(path: Path, folder: Path) -> list[Picture]:
    """Real pictures, where there are any of a fitting size; else those of the drive that ships; else noise."""
    try:
        from seg_perception.export.calibration import read_pictures
    except ImportError as error:
        log.warning("labels are compared on noise: %s", error)
        return [noise(OnnxRuntimeSegmenter(path, threads=1).contract.network_size)]
    for source in (folder, DRIVE):
        try:
            return read_pictures(source, path, CAMERAS)
        except ModelError as error:
            log.info("%s", error)
    contract = OnnxRuntimeSegmenter(path, threads=1).contract
    return [noise(contract.image_size or contract.network_size)]


if __name__ == "__main__":
    sys.exit(main())
