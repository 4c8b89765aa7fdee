"""Builds tf2_msgs and vision_msgs, which PyPI lacks, into the virtual environment whose Python runs this file.

The rosidl of the `ros-*` wheels generates them from the definitions in tools/interfaces. Run again, it does nothing
unless a definition or the environment's Python changed. It also makes the environment an ament prefix of its own, so
that `ament_index_python` finds every package in it without a setup script.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import numpy

INTERFACES = Path(__file__).resolve().parent / "interfaces"
PACKAGES = ("tf2_msgs", "vision_msgs")
PREFIX = Path(sys.prefix)
STAMP = PREFIX / "share" / "seg_perception_generated_messages"
HOOK = Path(sysconfig.get_path("purelib")) / "ament_prefix_of_this_environment.pth"
HOOK_TEXT = (
    'import os, sys; ament = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep); sys.prefix in ament or '
    "os.environ.update(AMENT_PREFIX_PATH=os.pathsep.join(filter(None, [*ament, sys.prefix])))\n"
)
"""Appends the environment to AMENT_PREFIX_PATH at every start of its Python."""

BUILDER_PATHS = {
    r"/opt/python/[^;\"]*/numpy/(?:_core|core)/include": numpy.get_include(),
    r"/opt/python/[^;\"]*/include/python3\.\d+": sysconfig.get_path("include"),
}
"""Folders of the machine that built the wheels, which their exported cmake targets still name -> the folders here."""


def main() -> None:
    if sys.prefix == sys.base_prefix:
        sys.exit(f"generate_messages: run me with the Python of a virtual environment, not with {sys.executable}")
    fingerprint = _fingerprint()
    if STAMP.is_file() and STAMP.read_text() == fingerprint and _importable():
        print(f"{' and '.join(PACKAGES)} are up to date")
        return
    _check_build_tools()
    _point_exported_targets_here()
    HOOK.write_text(HOOK_TEXT)
    for package in PACKAGES:
        started = time.monotonic()
        print(f"generating {package} ...", flush=True)
        _build(package)
        print(f"generating {package}: done in {time.monotonic() - started:.0f} s", flush=True)
    if not _importable():
        sys.exit(f"generate_messages: {', '.join(PACKAGES)} were built into {PREFIX} but cannot be imported")
    STAMP.write_text(fingerprint)


def _fingerprint() -> str:
    digest = hashlib.sha256(f"{sys.version} {numpy.get_include()} {HOOK_TEXT}".encode())
    for path in sorted(p for p in INTERFACES.rglob("*") if p.is_file()):
        digest.update(path.relative_to(INTERFACES).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def _importable() -> bool:
    """True where every package imports and its C type support loads, in a process of its own."""
    code = "from tf2_msgs.msg import TFMessage as A; from vision_msgs.msg import LabelInfo as B; "
    code += "[c.__class__.__import_type_support__() for c in (A, B)]"
    code += "; assert None not in (A._TYPE_SUPPORT, B._TYPE_SUPPORT)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def _check_build_tools() -> None:
    for tool in ("cmake", "make", "gcc", "g++"):
        if shutil.which(tool) is None:
            sys.exit(f"generate_messages: {tool} is not installed (apt install build-essential cmake)")
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.is_file():
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        sys.exit(f"generate_messages: {header} does not exist (apt install python{version}-dev)")


def _point_exported_targets_here() -> None:
    for path in PREFIX.glob("share/*/cmake/*.cmake"):
        text = path.read_text()
        moved = text
        for pattern, folder in BUILDER_PATHS.items():
            moved = re.sub(pattern, folder.replace("\\", r"\\"), moved)
        if moved != text:
            path.write_text(moved)


def _build(package: str) -> None:
    jobs = str(min(os.cpu_count() or 1, 8))
    environment = os.environ | {
        "PATH": f"{PREFIX / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
        "AMENT_PREFIX_PATH": str(PREFIX),
        "VIRTUAL_ENV": str(PREFIX),
    }
    with tempfile.TemporaryDirectory(prefix=f"generate_{package}_") as build:
        configure = [
            "cmake",
            f"-S{INTERFACES / package}",
            f"-B{build}",
            f"-DCMAKE_PREFIX_PATH={PREFIX}",
            f"-DCMAKE_INSTALL_PREFIX={PREFIX}",
            "-DCMAKE_BUILD_TYPE=Release",
            f"-DPython3_ROOT_DIR={PREFIX}",
            f"-DPython3_EXECUTABLE={sys.executable}",
            "-DPython3_FIND_VIRTUALENV=ONLY",
            "-DBUILD_TESTING=OFF",
        ]
        for command in (configure, ["cmake", "--build", build, "-j", jobs], ["cmake", "--install", build]):
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if done.returncode != 0:
                sys.stderr.write(done.stdout[-6000:])
                sys.exit(f"generate_messages: '{' '.join(command)}' failed with code {done.returncode}, see above")


if __name__ == "__main__":
    main()
