"""Driving scenes from a seed, what cameras and a LiDAR would measure in them, and the exact truth of both."""
