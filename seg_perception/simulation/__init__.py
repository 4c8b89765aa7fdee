"""Driving scenes from a seed, and what cameras and a LiDAR would have measured in them, with the exact truth for both."""
