"""Cameras and LiDAR in, a semantic 3D scene out. See `pipeline.py` for the story."""

from pathlib import Path

from seg_perception import folders

__version__ = "0.1.0"

folders.keep_kernels(Path(__file__).parent)
folders.forget_stale_kernels(Path(__file__).parent)
