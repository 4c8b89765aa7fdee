"""Writes test/inference/api_names.json: the real classes, members and arguments of TensorRT and cuda.bindings.

    python tools/introspect_tensorrt.py

Needs PyPI, a C compiler and, for TensorRT 8.6, Python 3.10 as `python3.10`, no GPU: the wheels that hold the Python
bindings are downloaded, and imported against empty libraries of the right names. The fake GPU of the tests answers to
these names alone.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "test" / "inference" / "api_names.json"

TENSORRT = {  # name and version -> distribution
    "tensorrt 8.6.1": "tensorrt-bindings==8.6.1",  # for Python 3.10 at most
    "tensorrt 10.3.0": "tensorrt-cu12-bindings==10.3.0",
    "tensorrt 10.16.1.11": "tensorrt-cu13-bindings==10.16.1.11",
    "tensorrt 11.4.0.106": "tensorrt-cu13-bindings==11.4.0.106",
    "tensorrt_rtx 1.7.1.116": "tensorrt-rtx-cu13-bindings==1.7.1.116",
}
CUDA = {"cuda.bindings 12.9": "cuda-bindings==12.9.7", "cuda.bindings 13.5": "cuda-bindings==13.5.0"}

CLASSES = [
    "Builder",
    "BuilderFlag",
    "DataType",
    "DeviceType",
    "DynamicShapesKernelSpecializationStrategy",
    "EngineInspector",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "IHostMemory",
    "ILayer",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IProgressMonitor",
    "IRuntimeConfig",
    "ITensor",
    "ITimingCache",
    "LayerInformationFormat",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "ParserError",
    "PreviewFeature",
    "ProfilingVerbosity",
    "Runtime",
    "TacticSource",
    "TensorIOMode",
]

FUNCTIONS = {
    "driver": [
        "cuCtxSetCurrent",
        "cuDeviceGet",
        "cuDevicePrimaryCtxRelease",
        "cuDevicePrimaryCtxRetain",
        "cuDevicePrimaryCtxSetFlags",
        "cuEventCreate",
        "cuEventDestroy",
        "cuEventElapsedTime",
        "cuEventRecord",
        "cuEventSynchronize",
        "cuGraphDestroy",
        "cuGraphExecDestroy",
        "cuGraphInstantiate",
        "cuGraphLaunch",
        "cuInit",
        "cuLaunchKernel",
        "cuMemAlloc",
        "cuMemFree",
        "cuMemFreeHost",
        "cuMemHostAlloc",
        "cuMemHostGetDevicePointer",
        "cuMemcpyDtoDAsync",
        "cuMemcpyDtoHAsync",
        "cuMemcpyHtoDAsync",
        "cuModuleGetFunction",
        "cuModuleLoadData",
        "cuModuleUnload",
        "cuStreamBeginCapture",
        "cuStreamCreateWithPriority",
        "cuStreamDestroy",
        "cuStreamEndCapture",
        "cuStreamSynchronize",
    ],
    "nvrtc": [
        "nvrtcCompileProgram",
        "nvrtcCreateProgram",
        "nvrtcDestroyProgram",
        "nvrtcGetCUBIN",
        "nvrtcGetCUBINSize",
        "nvrtcGetProgramLog",
        "nvrtcGetProgramLogSize",
    ],
}

LIBRARIES = (
    "nvinfer",
    "nvinfer_plugin",
    "nvonnxparser",
    "nvparsers",
    "tensorrt_rtx",
    "tensorrt_onnxparser_rtx",
)
STUBS = [
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "getPluginRegistry",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "initLibNvInferPlugins",
    "_ZN11nvuffparser15createUffParserEv",
    "_ZN11nvuffparser8FieldMapC1EPKcPKvNS_9FieldTypeEi",
    "_ZN14nvcaffeparser117createCaffeParserEv",
    "_ZN14nvcaffeparser123shutdownProtobufLibraryEv",
]


def arguments(doc: str | None) -> list[str] | None:
    """Argument names from the signature in a docstring's first line, `self` left out; None where it has none."""
    found = re.match(r"\w+\((.*?)\)(?: ->|$)", (doc or "").split("\n", 1)[0])
    if not found or "*args" in found[1]:
        return None
    names = [re.split(r"[:=]", part)[0].split()[-1].lstrip("*") for part in found[1].split(",") if part.strip()]
    return [name for name in names if name != "self"]


def describe_tensorrt() -> dict[str, dict[str, list[str] | None]]:
    """Class -> member -> arguments, of the module that can be imported here."""
    try:
        import tensorrt_bindings as trt
    except ImportError:
        import tensorrt_rtx_bindings as trt

    return {
        name: {
            member: arguments(getattr(cls, member).__doc__) if callable(getattr(cls, member)) else None
            for member in sorted(dir(cls))
            if not member.startswith("_") and member != "value"
        }
        for name in CLASSES
        if (cls := getattr(trt, name, None)) is not None
    }


def describe_cuda() -> dict[str, dict[str, list[str] | None]]:
    """Module -> function -> arguments, of the bindings that can be imported here."""
    from cuda.bindings import driver, nvrtc

    modules = {"driver": driver, "nvrtc": nvrtc}
    return {
        module: {name: arguments(getattr(modules[module], name).__doc__) for name in names}
        for module, names in FUNCTIONS.items()
    }


def introspect(distribution: str, what: str) -> object:
    """Run one of the above in a process that sees one unpacked wheel."""
    with tempfile.TemporaryDirectory() as folder:
        python = "python3.10" if "==8." in distribution else sys.executable
        pip = [python, "-m", "pip", "download", "--quiet", "--dest", folder]
        subprocess.run([*pip, *(["--no-deps"] if what == "describe_tensorrt" else []), distribution], check=True)
        for wheel in Path(folder).glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder)
        version = re.search(r"==(\d+)", distribution)
        assert version
        source = Path(folder) / "stubs.c"
        source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in STUBS))
        for library in LIBRARIES:
            name = f"lib{library}.so.{version[1]}"
            command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(Path(folder) / name), str(source)]
            subprocess.run(command, check=True)
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": folder,
            "PYTHONPATH": f"{folder}{os.pathsep}{Path(__file__).parent}",
        }
        script = f"import json, introspect_tensorrt as i; print(json.dumps(i.{what}()))"
        done = subprocess.run([python, "-c", script], env=environment, check=True, capture_output=True, text=True)
        return json.loads(done.stdout)


def main() -> None:
    """Write the table."""
    names = {name: introspect(distribution, "describe_tensorrt") for name, distribution in TENSORRT.items()}
    names.update({name: introspect(distribution, "describe_cuda") for name, distribution in CUDA.items()})
    lines = []
    for name, classes in names.items():
        rows = ",\n".join(
            f"  {json.dumps(cls)}: {json.dumps(members, sort_keys=True)}"
            for cls, members in sorted(classes.items())  # type: ignore[attr-defined]
        )
        lines.append(f"{json.dumps(name)}: {{\n{rows}\n}}")
    TARGET.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
