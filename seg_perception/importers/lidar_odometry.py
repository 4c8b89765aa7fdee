"""Poses of a drive whose recording has none, estimated from its sweeps alone: each is laid onto those before it.

Point to plane, by Open3D's ICP, with a robust loss for what moves of itself. A sweep counts as taken at one instant, so
this is for drives without times for each point; what a turn of the LiDAR smears, it keeps. An estimate that the sweeps
do not bear out is refused, never written.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import ConfigError, MessageError

VOXEL_M = 0.25
NEAR_M, FAR_M = 3.0, 80.0  # nearer there is the vehicle itself, further off too few points for a plane
REACHES_M = (3.0, 1.0, 0.3)  # of one point for its partner, from the first rounds to the last
LEAST_SHARE = 0.5  # of a sweep's points that must find a partner within the last reach
LEAST_FACING = 0.01  # mean squared share of the planes' normals along the direction that they hold least


def poses_from_sweeps(sweeps: Iterable[NDArray[np.float32]]) -> NDArray[np.float64]:
    """`T_first_lidar`, (N, 4, 4): the LiDAR at each sweep in its frame at the first one.

    sweeps: each (P, 3) float32, metres, in the LiDAR's own frame, in order of time. The vehicle is taken to go on as it
    did in the step before, at first to stand, and may differ from that by up to 2 m and a few degrees. Raises
    ConfigError without Open3D; MessageError for a sweep that does not fit onto those before it, or that nothing holds
    in some direction.
    """
    o3d = _open3d()
    poses: list[NDArray[np.float64]] = []
    step = np.eye(4)
    known = o3d.geometry.PointCloud()  # in the frame of the first sweep
    for number, points in enumerate(sweeps):
        cloud = _with_planes(o3d, points, number)
        if not poses:
            T_first_lidar = np.eye(4)
        else:
            T_first_lidar = _fitted(o3d, cloud, known, poses[-1] @ step, number)
            step = np.linalg.inv(poses[-1]) @ T_first_lidar
        poses.append(T_first_lidar)
        known = _around(o3d, known + cloud.transform(T_first_lidar), T_first_lidar[:3, 3])
    return np.array(poses).reshape(-1, 4, 4)


def _fitted(o3d: Any, cloud: Any, known: Any, T_guess: NDArray[np.float64], number: int) -> NDArray[np.float64]:
    registration = o3d.pipelines.registration
    until = registration.ICPConvergenceCriteria(max_iteration=50)
    T = T_guess
    for reach_m in REACHES_M:
        loss = registration.TransformationEstimationPointToPlane(registration.TukeyLoss(0.5 * reach_m))
        result = registration.registration_icp(cloud, known, reach_m, T, loss, until)
        T = np.array(result.transformation)
    if result.fitness < LEAST_SHARE:
        raise MessageError(
            f"odometry from sweeps: sweep {number} does not fit onto those before it: {result.fitness:.0%} of its "
            f"points have a partner within {REACHES_M[-1]} m, at least {LEAST_SHARE:.0%} wanted"
        )
    normals = np.asarray(known.normals)[np.asarray(result.correspondence_set)[:, 1]]
    facing, directions = np.linalg.eigh(normals.T @ normals / len(normals))
    if facing[0] < LEAST_FACING:
        x, y, z = directions[:, 0]
        raise MessageError(
            f"odometry from sweeps: nothing in sweep {number} tells how far it moved along ({x:.2f}, {y:.2f}, "
            f"{z:.2f}): its surfaces face that way by {facing[0]:.4f} of their squared normals, {LEAST_FACING} wanted"
        )
    return T


def _with_planes(o3d: Any, points: NDArray[np.float32], number: int) -> Any:
    """A sweep thinned, with the normal of the plane around each point, towards the LiDAR: normals of several sweeps are
    averaged, and two of one plane that point away from each other would make one of no plane."""
    range_m = np.linalg.norm(points, axis=1)
    kept = points[(range_m > NEAR_M) & (range_m < FAR_M)].astype(np.float64)  # of what is no number, neither holds
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(kept)).voxel_down_sample(VOXEL_M)
    if len(cloud.points) < 100:
        raise MessageError(
            f"odometry from sweeps: sweep {number} has points in {len(cloud.points)} cells of {VOXEL_M} m between "
            f"{NEAR_M} m and {FAR_M} m, at least 100 wanted"
        )
    cloud.estimate_normals(o3d.geometry.KDTreeSearchParamHybrid(radius=4 * VOXEL_M, max_nn=30))
    cloud.orient_normals_towards_camera_location(np.zeros(3))
    return cloud


def _around(o3d: Any, cloud: Any, centre: NDArray[np.float64]) -> Any:
    """What of a cloud a sweep at `centre` can reach, one point a cell."""
    box = o3d.geometry.AxisAlignedBoundingBox(centre - FAR_M, centre + FAR_M)
    return cloud.crop(box).voxel_down_sample(VOXEL_M)


def _open3d() -> Any:
    try:
        import open3d
    except ImportError as error:
        raise ConfigError("odometry from sweeps: Open3D is not installed (pip install open3d)") from error
    return open3d
