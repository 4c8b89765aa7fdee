"""Rigid motions as 4x4 matrices, named target first: `p_cam = T_cam_lidar @ p_lidar`.

Every function takes stacks: a leading shape `...` broadcasts as in NumPy. Arithmetic is float64 throughout, because a
vehicle may be kilometres from the origin of its odometry.
"""

from __future__ import annotations

from functools import reduce

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from seg_perception.errors import TransformError

Float64Array = NDArray[np.float64]


def from_rotation_translation(rotation: ArrayLike, translation: ArrayLike) -> Float64Array:
    """(..., 3, 3) rotation and (..., 3) translation in metres to (..., 4, 4)."""
    rotation = np.asarray(rotation, np.float64)
    translation = np.asarray(translation, np.float64)
    T = np.zeros((*np.broadcast_shapes(rotation.shape[:-2], translation.shape[:-1]), 4, 4))
    T[..., :3, :3] = rotation
    T[..., :3, 3] = translation
    T[..., 3, 3] = 1.0
    return T


def from_quat_translation(quat_xyzw: ArrayLike, translation: ArrayLike) -> Float64Array:
    """(..., 4) quaternion, scalar last, and (..., 3) translation in metres to (..., 4, 4).

    The quaternion need not be of unit length; one of zero length or holding NaN raises TransformError.
    """
    quat_xyzw = np.asarray(quat_xyzw, np.float64)
    squared_norm = np.einsum("...i,...i->...", quat_xyzw, quat_xyzw)
    if not np.all(squared_norm > 0.0):
        raise TransformError(f"quaternion of squared length {np.min(squared_norm)}: wanted a length of 1")
    x, y, z, w = np.moveaxis(quat_xyzw, -1, 0)
    s = 2.0 / squared_norm
    rotation = np.empty((*quat_xyzw.shape[:-1], 3, 3))
    rotation[..., 0, 0] = 1.0 - s * (y * y + z * z)
    rotation[..., 0, 1] = s * (x * y - z * w)
    rotation[..., 0, 2] = s * (x * z + y * w)
    rotation[..., 1, 0] = s * (x * y + z * w)
    rotation[..., 1, 1] = 1.0 - s * (x * x + z * z)
    rotation[..., 1, 2] = s * (y * z - x * w)
    rotation[..., 2, 0] = s * (x * z - y * w)
    rotation[..., 2, 1] = s * (y * z + x * w)
    rotation[..., 2, 2] = 1.0 - s * (x * x + y * y)
    return from_rotation_translation(rotation, translation)


def quat_xyzw_from_matrix(T: ArrayLike) -> Float64Array:
    """(..., 4, 4) or (..., 3, 3) to unit quaternions (..., 4), scalar last and never negative.

    Each component c has a row 4 * c * (x, y, z, w) that can be read off the matrix; the row of the largest component
    is used, so that nothing small is divided by (Shepperd, "Quaternion from rotation matrix", 1978).
    """
    R = np.asarray(T, np.float64)[..., :3, :3]
    xx, yy, zz = R[..., 0, 0], R[..., 1, 1], R[..., 2, 2]
    xy, xz, yz = R[..., 1, 0] + R[..., 0, 1], R[..., 0, 2] + R[..., 2, 0], R[..., 2, 1] + R[..., 1, 2]
    xw, yw, zw = R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]
    rows = np.stack(
        [
            np.stack([1.0 + xx - yy - zz, xy, xz, xw], -1),
            np.stack([xy, 1.0 - xx + yy - zz, yz, yw], -1),
            np.stack([xz, yz, 1.0 - xx - yy + zz, zw], -1),
            np.stack([xw, yw, zw, 1.0 + xx + yy + zz], -1),
        ],
        -2,
    )
    largest = np.argmax(np.diagonal(rows, axis1=-2, axis2=-1), -1)
    quat = np.take_along_axis(rows, largest[..., None, None], -2)[..., 0, :]
    quat = quat / np.linalg.norm(quat, axis=-1, keepdims=True)
    return np.where(quat[..., 3:] < 0.0, -quat, quat)


def is_rigid(T: ArrayLike, tolerance: float = 1e-6) -> bool:
    """Whether every matrix of (..., 4, 4) is finite, orthonormal and right-handed, with last row 0 0 0 1."""
    T = np.asarray(T, np.float64)
    if T.shape[-2:] != (4, 4) or not np.all(np.isfinite(T)):
        return False
    R = T[..., :3, :3]
    orthonormal = np.abs(R @ np.swapaxes(R, -1, -2) - np.eye(3)).max(initial=0.0) <= tolerance
    last_row = np.abs(T[..., 3, :] - [0.0, 0.0, 0.0, 1.0]).max(initial=0.0) <= tolerance
    return bool(orthonormal and last_row and np.all(np.linalg.det(R) > 0.0))


def inverse(T: ArrayLike) -> Float64Array:
    """`T_source_target` of a rigid `T_target_source`, (..., 4, 4), by transposing the rotation."""
    T = np.asarray(T, np.float64)
    R_inverse = np.swapaxes(T[..., :3, :3], -1, -2)
    inverted = np.zeros(T.shape)
    inverted[..., :3, :3] = R_inverse
    inverted[..., :3, 3:] = -(R_inverse @ T[..., :3, 3:])
    inverted[..., 3, 3] = 1.0
    return inverted


def compose(*Ts: ArrayLike) -> Float64Array:
    """The product from left to right, neighbours cancelling: `T_a_c = compose(T_a_b, T_b_c)`. Of nothing, identity."""
    return reduce(_product, [np.asarray(T, np.float64) for T in Ts]) if Ts else np.eye(4)


def _product(T_a_b: Float64Array, T_b_c: Float64Array) -> Float64Array:
    if max(T_a_b.ndim, T_b_c.ndim) != 3:
        return np.asarray(T_a_b @ T_b_c)
    left, right = (np.ascontiguousarray(T).reshape(-1, 4, 4) for T in (T_a_b, T_b_c))
    T_a_c = np.empty(np.broadcast_shapes(left.shape, right.shape))
    _multiply(left, right, T_a_c)
    return T_a_c


@numba.njit(cache=True, nogil=True)
def _multiply(left, right, product):  # type: ignore[no-untyped-def]
    """Stacks of (4, 4), of which either may hold one for all; `@` takes several times as long."""
    for n in range(product.shape[0]):
        multiply(left, min(n, left.shape[0] - 1), right, min(n, right.shape[0] - 1), product, n)


@numba.njit(cache=True, nogil=True, inline="always")
def multiply(left, k, right, m, product, n):  # type: ignore[no-untyped-def]
    """One (4, 4) times another, of stacks of them, for compiled code: to cut it out of its stack takes longer."""
    b0, b1, b2, b3 = right[m, 0, 0], right[m, 0, 1], right[m, 0, 2], right[m, 0, 3]
    c0, c1, c2, c3 = right[m, 1, 0], right[m, 1, 1], right[m, 1, 2], right[m, 1, 3]
    d0, d1, d2, d3 = right[m, 2, 0], right[m, 2, 1], right[m, 2, 2], right[m, 2, 3]
    e0, e1, e2, e3 = right[m, 3, 0], right[m, 3, 1], right[m, 3, 2], right[m, 3, 3]
    for row in range(4):
        x, y, z, w = left[k, row, 0], left[k, row, 1], left[k, row, 2], left[k, row, 3]
        product[n, row, 0] = x * b0 + y * c0 + z * d0 + w * e0
        product[n, row, 1] = x * b1 + y * c1 + z * d1 + w * e1
        product[n, row, 2] = x * b2 + y * c2 + z * d2 + w * e2
        product[n, row, 3] = x * b3 + y * c3 + z * d3 + w * e3


def transform_points(T: ArrayLike, points: ArrayLike) -> Float64Array:
    """Carry points (N, 3) of the source frame into the target frame, (N, 3) float64; NaN stays NaN.

    T is one `T_target_source` (4, 4), or (N, 4, 4) with one for each point.
    """
    T = np.asarray(T, np.float64)
    # einsum, not @: BLAS would wake threads for so thin a product, and on a busy machine wait for them
    return np.einsum("...ij,...j->...i", T[..., :3, :3], np.asarray(points, np.float64)) + T[..., :3, 3]
