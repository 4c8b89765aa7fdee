"""`seg-perception check-model`: what would fail on which TensorRT, without a GPU."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from seg_perception.errors import ModelError
from seg_perception.inference.engine_build import BuildOptions
from seg_perception.inference.loading import image_size
from seg_perception.inference.onnx_file import OnnxFile

if TYPE_CHECKING:  # needs onnx
    from seg_perception.export.tensorrt_rules import RtxResult


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "check-model",
        help="say what of a network would fail on which TensorRT, without a GPU",
        description="Hold an ONNX file against what is known of TensorRT 8.5 to 11.4, and have the real parser and "
        "builder of TensorRT-RTX take it, which run without a GPU. Exit code 1 where something is known against it on "
        "what is supported.",
    )
    parser.add_argument("model", metavar="MODEL.onnx")
    parser.add_argument("--max-image-size", default="3840x2160", help="largest picture (%(default)s)")
    parser.add_argument("--rules-only", action="store_true", help="do not run TensorRT-RTX")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check, and say what came out."""
    try:
        from seg_perception.export.tensorrt_rules import SUPPORTED, VERSIONS, findings, try_rtx
    except ImportError as error:
        raise ModelError(f"checking needs onnx; `pip install onnx onnxruntime` ({error})") from error

    found = findings(args.model)
    print(f"{args.model}: {OnnxFile.read(args.model).precision}")
    for version, place in VERSIONS.items():
        nodes: dict[str, list[str]] = {}
        for finding in found:
            if version in finding.versions:
                nodes.setdefault(finding.text, []).append(finding.node)
        where = f"TensorRT {version}" + (f" ({place})" if place else "")
        print(f"  {where:34} {'known against it:' if nodes else 'nothing known against it'}")
        for text, names in nodes.items():
            first = f"{names[0]}: " if names[0] else ""
            print(f"      {first}{text}" + (f" ({len(names) - 1} more)" if len(names) > 1 else ""))
    failed = any(finding.versions & set(SUPPORTED) for finding in found)
    if not args.rules_only:
        failed |= _say_rtx(lambda: try_rtx(args.model, BuildOptions(max_image_size=image_size(args.max_image_size))))
    return int(failed)


def _say_rtx(attempt: Callable[[], RtxResult]) -> bool:
    """Print what TensorRT-RTX made of it; whether it refused."""
    try:
        result = attempt()
    except ModelError as error:
        print(f"  TensorRT-RTX: not tried: {error}")
        return False
    if result.refusal:
        print(f"  {result.library} builds no engine of it: {result.refusal}")
        return True
    size = f"{result.layers} layers, {result.plan_bytes / 2**20:.1f} MiB"
    print(f"  {result.library} parsed and built it on this CPU in {result.seconds:.1f} s ({size})")
    return False
