"""Where this user's files are kept: compiled kernels, engines, fetched models, a list of one's own, logs of ROS.

Also for somebody who has no home, as a service or a container may, and where the package belongs to root: numba
keeps kernels beside the source, else in the user's cache, and raises where neither can be written, so that nothing of
ours could even be imported.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

KERNELS = "NUMBA_CACHE_DIR"

INLINED = {
    "calibration/alignment.py": ("geometry/lens.py",),
    "fusion/doubts.py": (
        "borrowing.py",
        "datatypes.py",
        "fusion/edges.py",
        "fusion/layers.py",
        "geometry/visibility.py",
    ),
    "fusion/edges.py": ("borrowing.py", "datatypes.py"),
    "fusion/glass.py": ("borrowing.py",),
    "fusion/outlines.py": ("borrowing.py", "geometry/visibility.py"),
    "fusion/painting.py": ("borrowing.py",),
    "geometry/columns.py": ("borrowing.py",),
    "geometry/motion.py": ("borrowing.py", "geometry/columns.py"),
    "geometry/displacement.py": ("borrowing.py", "geometry/columns.py"),
    "geometry/movers.py": ("borrowing.py", "geometry/columns.py", "geometry/displacement.py"),
    "geometry/projection.py": ("borrowing.py", "geometry/columns.py", "geometry/lens.py"),
    "geometry/range_image.py": ("borrowing.py", "geometry/columns.py"),
    "geometry/transform_edges.py": ("geometry/transforms.py",),
    "geometry/visibility.py": ("borrowing.py",),
    "inference/sampling.py": ("borrowing.py", "datatypes.py", "inference/tiles.py", "prefetching.py"),
    "scene/bev_cells.py": ("datatypes.py", "scene/free_space.py", "scene/voxel_hash.py"),
    "scene/boxes.py": ("scene/footing.py",),
    "scene/free_space.py": ("scene/voxel_hash.py",),
    "scene/memory.py": ("borrowing.py", "geometry/columns.py"),
    "scene/objects.py": ("scene/clustering.py",),
}
"""File with kernels -> the files whose kernels and numbers are compiled into them."""

log = logging.getLogger(__name__)


def user_folder(variable: str, usual: str) -> Path:
    """`seg_perception` in the folder that the variable names, as XDG_CACHE_HOME, else in the usual one below the user's
    home; of a user who has none, among the temporary files."""
    named = Path(os.environ.get(variable, ""))
    with suppress(RuntimeError):  # no home
        return (named if named.is_absolute() else Path.home() / usual) / "seg_perception"
    return _temporary()


def keep_kernels(package: Path) -> None:
    """Tell numba of a folder among the temporary files, where it would find none; what is set already stays. To be
    called before numba is imported. package: the folder of its source."""
    if KERNELS in os.environ or _is_writable(package / "__pycache__"):
        return
    if not _is_writable(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "numba"):  # as numba has it
        os.environ[KERNELS] = str(_temporary() / "kernels")


def forget_stale_kernels(package: Path) -> None:
    """Of the kernels beside the source, those into which something else was compiled than is there now: numba looks at
    a kernel's own file alone, and after an update that changed another it would go on with the old. Not by what is
    newer: a vehicle's clock may begin in the past. To be called before any is loaded."""
    with suppress(OSError):
        for file, inlined in INLINED.items():
            seen = [(package / name).stat() for name in inlined]
            now = " ".join(f"{of.st_mtime_ns}-{of.st_size}" for of in seen)
            folder, stem = (package / file).parent / "__pycache__", Path(file).stem
            record = folder / f"{stem}.inlined"
            if record.is_file() and record.read_text(encoding="ascii") == now:
                continue
            folder.mkdir(exist_ok=True)
            for kept in folder.glob(f"{stem}.*.nbi"):
                kept.unlink(missing_ok=True)
            record.write_text(now, encoding="ascii")


def keep_logs() -> None:
    """The same for the logs of ROS, without which no node starts. To be called before rclpy.init."""
    home = Path(os.environ.get("ROS_HOME") or "~/.ros")
    if not os.environ.get("ROS_LOG_DIR") and not _is_writable(home / "log"):
        os.environ["ROS_LOG_DIR"] = str(_temporary() / "log")


def _is_writable(folder: Path) -> bool:
    try:
        folder = folder.expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except (OSError, RuntimeError):  # the latter of somebody who has no home
        return False


@cache
def _temporary() -> Path:
    """A folder of this user's, which stays; what lies there is run, so nobody else may have put anything into it."""
    folder = Path(tempfile.gettempdir()) / f"seg_perception_{os.geteuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    seen = folder.lstat()
    if stat.S_ISDIR(seen.st_mode) and seen.st_uid == os.geteuid() and not seen.st_mode & 0o077:
        return folder
    log.warning("%s: others may write there; what is compiled or built is not kept after this process", folder)
    folder = Path(tempfile.mkdtemp(prefix="seg_perception_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
