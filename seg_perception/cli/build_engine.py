"""`seg-perception build-engine`: make the engine that the node will look for, ahead of time."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from seg_perception.errors import ModelError
from seg_perception.inference import cuda_device, tensorrt_library
from seg_perception.inference.contract import ModelContract
from seg_perception.inference.engine_build import BuildOptions, EngineSource, describe_engine, load_engine
from seg_perception.inference.engine_cache import CachedEngine, EngineCache, default_directory
from seg_perception.inference.loading import image_size
from seg_perception.inference.onnx_file import OnnxFile

PRECISIONS = ("as-is", "fp32", "fp16", "int8", "fp8")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "build-engine",
        help="build the TensorRT engine of a deployed network for this machine's GPU",
        description="Build the engine that the node looks for, so that its first start takes no minutes: for images "
        "and CI as well. Precision and batch live in the ONNX file: fp16 and int8 write MODEL.fp16.onnx or "
        "MODEL.int8.onnx beside it, a batch MODEL.batchN.onnx, which is then what inference.model has to name; fp8 "
        "wants a file that is already quantised.",
    )
    parser.add_argument("model", metavar="MODEL.onnx", help="made by `seg-perception deploy`")
    parser.add_argument("--precision", choices=PRECISIONS, default="as-is", help="(%(default)s)")
    parser.add_argument("--calibrate", type=Path, metavar="FOLDER", help="bag or folder of real pictures, for int8")
    parser.add_argument(
        "--batch", type=int, default=1, metavar="N", help="cameras that one call is for: writes MODEL.batchN.onnx (1)"
    )
    parser.add_argument("--library", choices=tensorrt_library.LIBRARIES, default="tensorrt", help="(%(default)s)")
    parser.add_argument("--max-image-size", default="3840x2160", help="inference.max_image_size (%(default)s)")
    parser.add_argument("--workspace", type=int, default=0, metavar="MIB", help="inference.workspace_mib (all)")
    parser.add_argument("--opt-level", type=int, default=-1, choices=range(6), help="inference.optimization_level")
    parser.add_argument("--dla", type=int, default=-1, metavar="CORE", help="inference.dla_core (none)")
    parser.add_argument("--no-tf32", action="store_true", help="inference.tf32: false")
    parser.add_argument("--timing-cache", type=Path, metavar="FILE", help="read, and written, to build faster")
    parser.add_argument("--engine-cache", type=Path, default=default_directory(), help="(%(default)s)")
    parser.add_argument("--layers", type=Path, metavar="FILE.json", help="write what was built, layer by layer")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Build, and say what came out."""
    model = _at_batch(_at_precision(Path(args.model), args.precision, args.calibrate), args.batch)
    options = BuildOptions(
        max_image_size=image_size(args.max_image_size),
        workspace_mib=args.workspace,
        optimization_level=args.opt_level,
        dla_core=args.dla,
        tf32=not args.no_tf32,
        timing_cache=args.timing_cache,
    )
    # TensorRT-RTX alone builds without a GPU, for any.
    needs_gpu = args.library != "tensorrt_rtx" or args.layers is not None
    device = cuda_device.probe() if needs_gpu else None
    library = tensorrt_library.load(args.library, device)
    source = EngineSource(model, library, device, options, EngineCache(args.engine_cache))
    line = _ProgressLine()
    engine = source.obtain(line)
    line.end()
    _say(engine, model)
    if args.layers:
        _write_layers(engine, source, args.layers)
    return 0


def _at_precision(path: Path, precision: str, pictures: Path | None) -> OnnxFile:
    """The file itself, or the one made of it."""
    model = OnnxFile.read(path)
    if precision in ("as-is", model.precision) or (precision == "fp8" and model.quantized):
        return model
    if model.precision != "fp32":
        raise ModelError(f"model {path}: {precision} wanted, {model.precision} seen; start from the float32 file")
    if precision == "fp8" or (precision == "int8" and pictures is None):
        remedy = "name a folder of real pictures with --calibrate" if precision == "int8" else "quantise it first"
        raise ModelError(f"model {path}: {precision} wanted, no QuantizeLinear in it seen; {remedy}")
    made = path.with_suffix(f".{precision}.onnx")
    try:
        if precision == "fp16":
            from seg_perception.export.half import to_half

            agreement = to_half(path, made)
        else:
            from seg_perception.export.calibration import read_pictures
            from seg_perception.export.quantize import to_int8

            assert pictures is not None
            agreement = to_int8(path, made, read_pictures(pictures, path)).agreement
    except ImportError as error:
        raise ModelError(f"{precision} needs onnx; `pip install onnx onnxruntime` ({error})") from error
    print(f"{made}: {precision}, {agreement:.2%} of the labels of {path.name} (on one picture)")
    return OnnxFile.read(made)


def _at_batch(model: OnnxFile, count: int) -> OnnxFile:
    """The file itself, or the one made of it that takes several pictures at once."""
    if count in (1, ModelContract.from_metadata(model.metadata, str(model.path)).batch):
        return model
    try:
        from seg_perception.export.batch import to_batch
    except ImportError as error:
        raise ModelError(f"--batch needs onnx; `pip install onnx onnxruntime` ({error})") from error
    made = model.path.with_suffix(f".batch{count}.onnx")
    agreement = to_batch(model.path, made, count)
    print(f"{made}: {count} pictures at once, {agreement:.2%} of the labels of {model.path.name}")
    return OnnxFile.read(made)


def _say(engine: CachedEngine, model: OnnxFile) -> None:
    report = engine.report
    what = f"built in {report['seconds']:.1f} s: {engine.why_built}" if engine.why_built else "found, up to date"
    print(f"{engine.path}: {what}")
    types = ", ".join(f"{count} {name}" for name, count in sorted(report["tensor_types"].items()))
    print(f"  {report['library']}, {report['precision']}: {report['network_layers']} layers ({types})")
    for name, tensor in {**report["inputs"], **report["outputs"]}.items():
        print(f"  {name}: {tensor}")
    print(f"  {report['plan_bytes'] / 2**20:.1f} MiB; for inference.model: {model.path}")


def _write_layers(engine: CachedEngine, source: EngineSource, path: Path) -> None:
    logger = tensorrt_library.make_logger(source.library)
    _runtime, loaded = load_engine(source.library, engine, source.options, logger)
    built = describe_engine(source.library, loaded)
    path.write_text(json.dumps({**dict(engine.report), **built}, indent=2) + "\n", encoding="utf-8")
    print(f"  {built['layers']} layers, {built['device_memory_bytes'] / 2**20:.1f} MiB on the GPU: {path}")


class _ProgressLine:
    """One line that says what is being done, and for how long; nothing where nobody watches."""

    def __init__(self) -> None:
        self._started_s = time.monotonic()
        self._shown_s = 0.0
        self._watched = sys.stderr.isatty()

    def __call__(self, phases: str) -> None:
        now_s = time.monotonic()
        if self._watched and now_s - self._shown_s > 0.1:
            self._shown_s = now_s
            sys.stderr.write(f"\r\x1b[K{now_s - self._started_s:6.1f} s  {phases[:100]}")
            sys.stderr.flush()

    def end(self) -> None:
        """Leave the line empty."""
        if self._watched:
            sys.stderr.write("\r\x1b[K")
