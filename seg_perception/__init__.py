"""Cameras and LiDAR in, a semantic 3D scene out. See `pipeline.py` for the story."""

import xml.etree.ElementTree as ElementTree
from importlib import metadata
from pathlib import Path

from seg_perception import folders

folders.keep_kernels(Path(__file__).parent)
folders.forget_stale_kernels(Path(__file__).parent)


def __getattr__(name: str) -> str:
    """`__version__`: as package.xml tells it, of a checkout, or as it was when the package was installed."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    manifest = Path(__file__).parents[1] / "package.xml"
    if manifest.is_file():
        return ElementTree.parse(manifest).findtext("version", "")
    return metadata.version(__name__)
