"""Recordings of other people's formats, turned into a rosbag2 and the settings that fit it.

Each importer writes what its source says and nothing else: no odometry where none was recorded, no per-point times
where none were measured.
"""
