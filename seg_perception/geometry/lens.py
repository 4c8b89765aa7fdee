"""Lens models as scalar functions that a compiled kernel can call for each point.

Every function takes the flat float64 array `params` that `pack` makes; the layout is private to this file. Models:

- `none`, `plumb_bob`, `rational_polynomial`: x = X/Z, y = Y/Z, then OpenCV's polynomial of up to 14 coefficients
  k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4 tau_x tau_y (docs.opencv.org, "Camera Calibration and 3D Reconstruction"):
  radial, tangential, thin prism, then the perspective of a sensor tilted by tau_x, tau_y.
- `equidistant`: theta_d = theta (1 + k1 theta^2 + k2 theta^4 + k3 theta^6 + k4 theta^8), theta the angle off axis
  (Kannala and Brandt 2006; OpenCV's fisheye model), here for theta up to 180 degrees.

Outside the lens's valid region (`find_limit`) a polynomial folds back and would show points from far outside inside the
image. Such points get NaN here, always, so no caller can forget the test.

numba keys its disk cache on the file of the *calling* kernel: after a change in this file, delete the `__pycache__` of
packages whose kernels call these functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

LensModel = Literal["none", "plumb_bob", "rational_polynomial", "equidistant"]

# How many coefficients each model may come with.
COEFFICIENT_COUNTS: Final[dict[LensModel, tuple[int, ...]]] = {
    "none": (0,),
    "plumb_bob": (4, 5),
    "rational_polynomial": (4, 5, 8, 12, 14),
    "equidistant": (4,),
}

_NONE, _POLYNOMIAL, _EQUIDISTANT = 0.0, 1.0, 2.0
_CODES: Final[dict[LensModel, float]] = {
    "none": _NONE,
    "plumb_bob": _POLYNOMIAL,
    "rational_polynomial": _POLYNOMIAL,
    "equidistant": _EQUIDISTANT,
}

# Layout of params. LIMIT is the largest valid r^2 = x^2 + y^2, for equidistant the largest valid theta in radians.
_MODEL, _LIMIT = 0, 1
_FX, _SKEW, _CX, _FY, _CY, _WIDTH, _HEIGHT = 2, 3, 4, 5, 6, 7, 8
_K1, _K2, _P1, _P2, _K3, _K4, _K5, _K6, _S1, _S2, _S3, _S4, _TAU_X, _TAU_Y = range(9, 23)
_TILT, _TILT_INVERSE = 23, 32  # 3x3 each, row by row
PARAM_COUNT: Final = 41

_MAX_RADIUS = 1e6  # the plane z = 1 ends here, 0.06 thousandths of a degree before 90
_MAX_THETA = math.pi * (1.0 - 1e-9)  # straight behind, the direction in the image is undefined
_RAY_COUNT, _RAY_STEPS = 64, 2048
_MAX_ITERATIONS = 50
_TOLERANCE = 1e-12

Params = NDArray[np.float64]
_compiled = njit(cache=True, nogil=True, error_model="numpy")


def pack(model: LensModel, D: Sequence[float] | NDArray[np.float64], K: NDArray, width: int, height: int) -> NDArray:
    """Put one camera into the flat array that the functions below take, its valid limit found and included.

    D: as many coefficients as COEFFICIENT_COUNTS allows, in ROS and OpenCV order. K: (3, 3), upper triangular, of the
    image that is `width` x `height` pixels. Returns (PARAM_COUNT,) float64, read-only.
    """
    params = np.zeros(PARAM_COUNT)
    params[_MODEL] = _CODES[model]
    params[[_FX, _SKEW, _CX, _FY, _CY]] = K[0, 0], K[0, 1], K[0, 2], K[1, 1], K[1, 2]
    params[[_WIDTH, _HEIGHT]] = width, height
    params[_K1 : _K1 + len(D)] = D
    tilt = _tilt_matrix(params[_TAU_X], params[_TAU_Y])
    params[_TILT : _TILT + 9] = tilt.ravel()
    params[_TILT_INVERSE : _TILT_INVERSE + 9] = np.linalg.inv(tilt).ravel()
    params[_LIMIT] = find_limit(params)
    params.flags.writeable = False
    return params


def _tilt_matrix(tau_x: float, tau_y: float) -> NDArray[np.float64]:
    """Homography of the normalised plane onto a sensor turned by tau_x, then tau_y (radians), as OpenCV defines it."""
    turn_x = np.array([[1, 0, 0], [0, math.cos(tau_x), math.sin(tau_x)], [0, -math.sin(tau_x), math.cos(tau_x)]])
    turn_y = np.array([[math.cos(tau_y), 0, -math.sin(tau_y)], [0, 1, 0], [math.sin(tau_y), 0, math.cos(tau_y)]])
    turn = turn_y @ turn_x
    onto_sensor = np.array([[turn[2, 2], 0, -turn[0, 2]], [0, turn[2, 2], -turn[1, 2]], [0, 0, 1]])
    return onto_sensor @ turn


def valid_angle(params: NDArray[np.float64]) -> float:
    """The angle off axis, in radians, up to which the lens is valid."""
    limit = float(params[_LIMIT])
    return limit if params[_MODEL] == _EQUIDISTANT else math.atan(math.sqrt(limit))


@_compiled
def distort(params: Params, X: float, Y: float, Z: float) -> tuple[float, float]:
    """Carry a point of the lens frame (optical axes, any unit) to the distorted normalised plane.

    Returns (xd, yd), to be multiplied by K; (NaN, NaN) outside the valid region, for NaN or infinite input, and for the
    lens's own centre. Polynomial models need Z > 0; equidistant only an angle within the limit, so Z may be negative.
    """
    if params[_MODEL] == _EQUIDISTANT:
        rho = math.sqrt(X * X + Y * Y)
        theta = math.atan2(rho, Z)
        if not (theta <= params[_LIMIT] and 0.0 < rho + abs(Z) < math.inf):
            return math.nan, math.nan
        if rho == 0.0:
            return 0.0, 0.0
        scale = _theta_d(params, theta) / rho
        return X * scale, Y * scale
    if not 0.0 < Z < math.inf:
        return math.nan, math.nan
    x, y = X / Z, Y / Z
    if not x * x + y * y <= params[_LIMIT]:
        return math.nan, math.nan
    if params[_MODEL] == _NONE:
        return x, y
    xd, yd = _bend(params, x, y)
    if params[_TAU_X] != 0.0 or params[_TAU_Y] != 0.0:
        return _homography(params, _TILT, xd, yd)
    return xd, yd


@_compiled
def undistort(params: Params, xd: float, yd: float) -> tuple[float, float, float]:
    """Find the ray of the lens frame that `distort` carries to (xd, yd).

    Returns the unit vector (X, Y, Z); NaN where no ray within the valid region arrives there, or where the iteration
    did not converge to 1e-12 (relative to 1 + radius).
    """
    if params[_MODEL] == _EQUIDISTANT:
        theta_d = math.sqrt(xd * xd + yd * yd)
        theta = _invert_theta(params, theta_d)
        if theta_d == 0.0:
            return 0.0, 0.0, 1.0
        side = math.sin(theta) / theta_d
        return xd * side, yd * side, math.cos(theta)
    x, y = xd, yd
    if params[_MODEL] == _POLYNOMIAL:
        if params[_TAU_X] != 0.0 or params[_TAU_Y] != 0.0:
            x, y = _homography(params, _TILT_INVERSE, x, y)
        x, y = _unbend(params, x, y)
    if not x * x + y * y <= params[_LIMIT]:
        return math.nan, math.nan, math.nan
    z = 1.0 / math.sqrt(1.0 + x * x + y * y)
    return x * z, y * z, z


@_compiled
def project_point(params: Params, X: float, Y: float, Z: float) -> tuple[float, float]:
    """Pixel (u, v) of a point of the lens frame, inside the image or not; NaN outside the lens's valid region."""
    xd, yd = distort(params, X, Y, Z)
    return params[_FX] * xd + params[_SKEW] * yd + params[_CX], params[_FY] * yd + params[_CY]


@_compiled
def unproject_pixel(params: Params, u: float, v: float) -> tuple[float, float, float]:
    """Unit ray (X, Y, Z) of the lens frame that is seen at pixel (u, v); NaN where none is."""
    yd = (v - params[_CY]) / params[_FY]
    xd = (u - params[_CX] - params[_SKEW] * yd) / params[_FX]
    return undistort(params, xd, yd)


@_compiled
def in_image(params: Params, u: float, v: float) -> bool:
    """Whether (u, v) lies on a pixel. Pixel centres are integers, so the image begins at -0.5. False for NaN."""
    return -0.5 <= u < params[_WIDTH] - 0.5 and -0.5 <= v < params[_HEIGHT] - 0.5


@_compiled
def project_points(params: Params, T: NDArray, points: NDArray, uv: NDArray, depth: NDArray) -> None:
    """Fill uv (N, 2) and depth (N,) for points (N, 3) that T (4, 4) carries into the lens frame; depth is z there."""
    for i in range(points.shape[0]):
        x, y, z = np.float64(points[i, 0]), np.float64(points[i, 1]), np.float64(points[i, 2])
        X = T[0, 0] * x + T[0, 1] * y + T[0, 2] * z + T[0, 3]
        Y = T[1, 0] * x + T[1, 1] * y + T[1, 2] * z + T[1, 3]
        Z = T[2, 0] * x + T[2, 1] * y + T[2, 2] * z + T[2, 3]
        uv[i, 0], uv[i, 1] = project_point(params, X, Y, Z)
        depth[i] = Z


@_compiled
def unproject_pixels(params: Params, uv: NDArray, rays: NDArray) -> None:
    """Fill rays (N, 3) of the lens frame for uv (N, 2)."""
    for i in range(uv.shape[0]):
        rays[i, 0], rays[i, 1], rays[i, 2] = unproject_pixel(params, uv[i, 0], uv[i, 1])


@_compiled
def find_limit(params: Params) -> float:
    """The end of the valid region: the first place, going outwards, where the lens stops being one-to-one.

    Equidistant: the smallest theta where theta_d stops growing, at most 180 degrees. Polynomials: the smallest r^2 on
    64 rays from the axis at which the Jacobian determinant of the mapping stops being positive, the denominator of the
    rational polynomial vanishes, or the tilted sensor meets its horizon; at most 1e12. Each ray is walked in 2,048
    equal angles and the crossing bisected. A tangential part moves the fold a little from ray to ray; the smallest
    radius is taken for all.
    """
    if params[_MODEL] == _NONE:
        return _MAX_RADIUS**2
    if params[_MODEL] == _EQUIDISTANT:
        return _first_fold(params, 0.0, _MAX_THETA)
    limit = math.atan(_MAX_RADIUS)
    for i in range(_RAY_COUNT):
        limit = _first_fold(params, 2.0 * math.pi * i / _RAY_COUNT, limit)
    return min(math.tan(limit), _MAX_RADIUS) ** 2


@_compiled
def _first_fold(params: Params, azimuth: float, limit: float) -> float:
    """The largest angle up to which every step of a ray is regular, at most `limit`."""
    good = 0.0
    for step in range(1, _RAY_STEPS + 1):
        angle = limit * step / _RAY_STEPS
        if _is_regular(params, azimuth, angle):
            good = angle
            continue
        bad = angle
        while bad - good > 1e-14 * bad:
            middle = 0.5 * (good + bad)
            if middle in (good, bad):
                break
            if _is_regular(params, azimuth, middle):
                good = middle
            else:
                bad = middle
        return good
    return limit


@_compiled
def _is_regular(params: Params, azimuth: float, angle: float) -> bool:
    """Whether the mapping keeps orientation around the ray at this azimuth and angle off axis."""
    if params[_MODEL] == _EQUIDISTANT:
        return _theta_d_slope(params, angle) > 0.0
    r = math.tan(angle)
    x, y = r * math.cos(azimuth), r * math.sin(azimuth)
    xd, yd, xx, xy, yx, yy = _bend_jacobian(params, x, y)
    horizon = params[_TILT + 6] * xd + params[_TILT + 7] * yd + params[_TILT + 8]
    return _denominator(params, r * r) > 0.0 and xx * yy - xy * yx > 0.0 and horizon > 0.0


@_compiled
def _homography(params: Params, at: int, x: float, y: float) -> tuple[float, float]:
    """Apply the 3x3 homography stored at `at`."""
    w = params[at + 6] * x + params[at + 7] * y + params[at + 8]
    return (
        (params[at] * x + params[at + 1] * y + params[at + 2]) / w,
        (params[at + 3] * x + params[at + 4] * y + params[at + 5]) / w,
    )


@_compiled
def _denominator(params: Params, t: float) -> float:
    """Denominator of the radial factor at t = r^2."""
    return 1.0 + t * (params[_K4] + t * (params[_K5] + t * params[_K6]))


@_compiled
def _radial(params: Params, t: float) -> tuple[float, float]:
    """Radial factor at t = r^2 and its derivative by t."""
    above = 1.0 + t * (params[_K1] + t * (params[_K2] + t * params[_K3]))
    below = _denominator(params, t)
    above_slope = params[_K1] + t * (2.0 * params[_K2] + 3.0 * t * params[_K3])
    below_slope = params[_K4] + t * (2.0 * params[_K5] + 3.0 * t * params[_K6])
    factor = above / below
    return factor, (above_slope - factor * below_slope) / below


@_compiled
def _bend(params: Params, x: float, y: float) -> tuple[float, float]:
    """Radial, tangential and thin-prism distortion of a point of the normalised plane."""
    t = x * x + y * y
    factor = (1.0 + t * (params[_K1] + t * (params[_K2] + t * params[_K3]))) / _denominator(params, t)
    p1, p2 = params[_P1], params[_P2]
    xd = x * factor + 2.0 * p1 * x * y + p2 * (t + 2.0 * x * x) + t * (params[_S1] + t * params[_S2])
    yd = y * factor + 2.0 * p2 * x * y + p1 * (t + 2.0 * y * y) + t * (params[_S3] + t * params[_S4])
    return xd, yd


@_compiled
def _bend_jacobian(params: Params, x: float, y: float) -> tuple[float, float, float, float, float, float]:
    """`_bend` and its partial derivatives: xd, yd, dxd/dx, dxd/dy, dyd/dx, dyd/dy."""
    xd, yd = _bend(params, x, y)
    t = x * x + y * y
    factor, slope = _radial(params, t)
    p1, p2 = params[_P1], params[_P2]
    prism_x = 2.0 * (params[_S1] + 2.0 * params[_S2] * t)
    prism_y = 2.0 * (params[_S3] + 2.0 * params[_S4] * t)
    cross = 2.0 * x * y * slope + 2.0 * p1 * x + 2.0 * p2 * y
    xx = factor + 2.0 * x * x * slope + 2.0 * p1 * y + 6.0 * p2 * x + prism_x * x
    yy = factor + 2.0 * y * y * slope + 6.0 * p1 * y + 2.0 * p2 * x + prism_y * y
    return xd, yd, xx, cross + prism_x * y, cross + prism_y * x, yy


@_compiled
def _unbend(params: Params, xd: float, yd: float) -> tuple[float, float]:
    """Invert `_bend` by Newton's method from the radial solution, kept inside the valid disc; NaN if not converged."""
    rd = math.sqrt(xd * xd + yd * yd)
    if rd == 0.0:
        return 0.0, 0.0
    r_max = math.sqrt(params[_LIMIT])
    r = _invert_radius(params, rd, r_max)
    x, y = xd * r / rd, yd * r / rd
    for _ in range(_MAX_ITERATIONS):
        x_seen, y_seen, xx, xy, yx, yy = _bend_jacobian(params, x, y)
        ex, ey = xd - x_seen, yd - y_seen
        if abs(ex) + abs(ey) <= _TOLERANCE * (1.0 + rd):
            return x, y
        determinant = xx * yy - xy * yx
        x += (yy * ex - xy * ey) / determinant
        y += (xx * ey - yx * ex) / determinant
        r = math.sqrt(x * x + y * y)
        if r > r_max:
            x, y = x * r_max / r, y * r_max / r
    return math.nan, math.nan


@_compiled
def _invert_radius(params: Params, rd: float, r_max: float) -> float:
    """The r in [0, r_max] whose radial distortion is rd, r_max if none is. Newton, bisecting where it would leave."""
    low, high = 0.0, r_max
    r = min(rd, r_max)
    for _ in range(4 * _MAX_ITERATIONS):
        factor, slope = _radial(params, r * r)
        error = r * factor - rd
        if abs(error) <= _TOLERANCE * (1.0 + rd):
            return r
        if error > 0.0:
            high = r
        else:
            low = r
        r -= error / (factor + 2.0 * r * r * slope)
        if not low < r < high:
            r = 0.5 * (low + high)
    return r


@_compiled
def _theta_d(params: Params, theta: float) -> float:
    """Distorted angle of the equidistant model; its k1..k4 fill the first four coefficient slots."""
    t = theta * theta
    return theta * (1.0 + t * (params[_K1] + t * (params[_K1 + 1] + t * (params[_K1 + 2] + t * params[_K1 + 3]))))


@_compiled
def _theta_d_slope(params: Params, theta: float) -> float:
    """Derivative of `_theta_d`."""
    t = theta * theta
    return 1.0 + t * (
        3.0 * params[_K1] + t * (5.0 * params[_K1 + 1] + t * (7.0 * params[_K1 + 2] + 9.0 * t * params[_K1 + 3]))
    )


@_compiled
def _invert_theta(params: Params, theta_d: float) -> float:
    """The theta within the limit whose distorted angle is theta_d; NaN if there is none."""
    low, high = 0.0, params[_LIMIT]
    if not theta_d <= _theta_d(params, high):
        return math.nan
    theta = min(theta_d, high)
    for _ in range(4 * _MAX_ITERATIONS):
        error = _theta_d(params, theta) - theta_d
        if abs(error) <= _TOLERANCE:
            return theta
        if error > 0.0:
            high = theta
        else:
            low = theta
        theta -= error / _theta_d_slope(params, theta)
        if not low < theta < high:
            theta = 0.5 * (low + high)
    return theta
