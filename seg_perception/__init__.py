"""Cameras and LiDAR in, a semantic 3D scene out. See `pipeline.py` for the story."""

__version__ = "0.1.0"
