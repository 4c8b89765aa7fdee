"""Lens models as scalar functions that a compiled kernel can call for each point.

Every function takes the `CameraParams` that `pack` makes: a named tuple, because numba counts references to an array at
every call, which makes the same arithmetic ten times slower. Models:

- `none`, `plumb_bob`, `rational_polynomial`: x = X/Z, y = Y/Z, then OpenCV's polynomial of up to 14 coefficients
  k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4 tau_x tau_y (docs.opencv.org, "Camera Calibration and 3D Reconstruction"):
  radial, tangential, thin prism, then the perspective of a sensor tilted by tau_x, tau_y.
- `equidistant`: theta_d = theta (1 + k1 theta^2 + k2 theta^4 + k3 theta^6 + k4 theta^8), theta the angle off axis
  (Kannala and Brandt 2006; OpenCV's fisheye model), here for theta up to 180 degrees.

Outside the lens's valid region (`find_limit`) a polynomial folds back and would show points from far outside inside the
image. Such points get NaN here, always, so no caller can forget the test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

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

_NONE, _POLYNOMIAL, _EQUIDISTANT = 0, 1, 2
_CODES: Final[dict[LensModel, int]] = {
    "none": _NONE,
    "plumb_bob": _POLYNOMIAL,
    "rational_polynomial": _POLYNOMIAL,
    "equidistant": _EQUIDISTANT,
}

_MAX_RADIUS = 1e6  # the plane z = 1 ends here, 0.06 thousandths of a degree before 90
_MAX_THETA = math.pi * (1.0 - 1e-9)  # straight behind, the direction in the image is undefined
_RAY_COUNT, _RAY_STEPS = 64, 2048
_MAX_ITERATIONS = 50
_TOLERANCE = 1e-12

_compiled = njit(cache=True, nogil=True, error_model="numpy")


class CameraParams(NamedTuple):
    """One camera for compiled code. Make it with `pack`: numba compiles anew for every other mixture of types.

    limit: the largest valid r^2 = x^2 + y^2; for equidistant the largest valid theta, radians. tilt, tilt_inverse: 3x3
    homographies of the tilted sensor, row by row.
    """

    model: int
    limit: float
    fx: float
    skew: float
    cx: float
    fy: float
    cy: float
    width: float
    height: float
    coefficients: tuple[float, ...]
    tilted: bool
    tilt: tuple[float, ...]
    tilt_inverse: tuple[float, ...]


def pack(
    model: LensModel, D: Sequence[float] | NDArray[np.float64], K: NDArray, width: int, height: int
) -> CameraParams:
    """Put one camera into the form that the functions below take, its valid limit found and included.

    D: as many coefficients as COEFFICIENT_COUNTS allows, in ROS and OpenCV order. K: (3, 3), upper triangular, of the
    image that is `width` x `height` pixels.
    """
    coefficients = tuple(float(value) for value in D) + (0.0,) * (14 - len(D))
    tilt = _tilt_matrix(*coefficients[12:])
    params = CameraParams(
        model=_CODES[model],
        limit=0.0,
        fx=float(K[0, 0]),
        skew=float(K[0, 1]),
        cx=float(K[0, 2]),
        fy=float(K[1, 1]),
        cy=float(K[1, 2]),
        width=float(width),
        height=float(height),
        coefficients=coefficients,
        tilted=any(coefficients[12:]),
        tilt=tuple(tilt.ravel().tolist()),
        tilt_inverse=tuple(np.linalg.inv(tilt).ravel().tolist()),
    )
    return params._replace(limit=find_limit(params))


def valid_angle(params: CameraParams) -> float:
    """The angle off axis, in radians, up to which the lens is valid."""
    return params.limit if params.model == _EQUIDISTANT else math.atan(math.sqrt(params.limit))


def _tilt_matrix(tau_x: float, tau_y: float) -> NDArray[np.float64]:
    """Homography of the normalised plane onto a sensor turned by tau_x, then tau_y (radians), as OpenCV defines it."""
    turn_x = np.array([[1, 0, 0], [0, math.cos(tau_x), math.sin(tau_x)], [0, -math.sin(tau_x), math.cos(tau_x)]])
    turn_y = np.array([[math.cos(tau_y), 0, -math.sin(tau_y)], [0, 1, 0], [math.sin(tau_y), 0, math.cos(tau_y)]])
    turn = turn_y @ turn_x
    onto_sensor = np.array([[turn[2, 2], 0, -turn[0, 2]], [0, turn[2, 2], -turn[1, 2]], [0, 0, 1]])
    return onto_sensor @ turn


@_compiled
def distort(params: CameraParams, X: float, Y: float, Z: float) -> tuple[float, float]:
    """Carry a point of the lens frame (optical axes, any unit) to the distorted normalised plane.

    Returns (xd, yd), to be multiplied by K; (NaN, NaN) outside the valid region, for NaN or infinite input, and for the
    lens's own centre. Polynomial models need Z > 0; equidistant only an angle within the limit, so Z may be negative.
    """
    if params.model == _EQUIDISTANT:
        rho = math.sqrt(X * X + Y * Y)
        theta = math.atan2(rho, Z)
        if not (theta <= params.limit and 0.0 < rho + abs(Z) < math.inf):
            return math.nan, math.nan
        if rho == 0.0:
            return 0.0, 0.0
        scale = _theta_d(params, theta) / rho
        return X * scale, Y * scale
    if not 0.0 < Z < math.inf:
        return math.nan, math.nan
    nearness = 1.0 / Z
    x, y = X * nearness, Y * nearness
    if not x * x + y * y <= params.limit:
        return math.nan, math.nan
    if params.model == _NONE:
        return x, y
    xd, yd = _bend(params, x, y)
    if params.tilted:
        return _homography(params.tilt, xd, yd)
    return xd, yd


@_compiled
def undistort(params: CameraParams, xd: float, yd: float) -> tuple[float, float, float]:
    """Find the ray of the lens frame that `distort` carries to (xd, yd).

    Returns the unit vector (X, Y, Z); NaN where no ray within the valid region arrives there, or where the iteration
    did not converge to 1e-12 (relative to 1 + radius).
    """
    if params.model == _EQUIDISTANT:
        theta_d = math.sqrt(xd * xd + yd * yd)
        theta = _invert_theta(params, theta_d)
        if theta_d == 0.0:
            return 0.0, 0.0, 1.0
        side = math.sin(theta) / theta_d
        return xd * side, yd * side, math.cos(theta)
    x, y = xd, yd
    if params.model == _POLYNOMIAL:
        if params.tilted:
            x, y = _homography(params.tilt_inverse, x, y)
        x, y = _unbend(params, x, y)
    if not x * x + y * y <= params.limit:
        return math.nan, math.nan, math.nan
    z = 1.0 / math.sqrt(1.0 + x * x + y * y)
    return x * z, y * z, z


@_compiled
def project_point(params: CameraParams, X: float, Y: float, Z: float) -> tuple[float, float]:
    """Pixel (u, v) of a point of the lens frame, inside the image or not; NaN outside the lens's valid region."""
    xd, yd = distort(params, X, Y, Z)
    return params.fx * xd + params.skew * yd + params.cx, params.fy * yd + params.cy


@_compiled
def project_columns(params: CameraParams, X: NDArray, Y: NDArray, Z: NDArray, u: NDArray, v: NDArray) -> None:
    """`project_point` for whole columns (N,) of float64, the same to the last bit; a polynomial several at a time."""
    if params.model == _EQUIDISTANT or params.tilted:
        for i in range(X.shape[0]):
            u[i], v[i] = project_point(params, X[i], Y[i], Z[i])
        return
    if params.coefficients[5:8] == (0.0, 0.0, 0.0):  # nothing to divide by: the other loop takes half as long again
        for i in range(X.shape[0]):
            u[i], v[i] = _pinned(params, X[i], Y[i], Z[i], False)
    else:
        for i in range(X.shape[0]):
            u[i], v[i] = _pinned(params, X[i], Y[i], Z[i], True)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _pinned(params: CameraParams, X: float, Y: float, Z: float, rational: bool) -> tuple[float, float]:
    """`project_point` of a polynomial without a branch."""
    nearness = 1.0 / Z
    x, y = X * nearness, Y * nearness
    valid = (Z > 0.0) & (math.inf > Z) & (x * x + y * y <= params.limit)
    xd, yd = _bend(params, x, y, rational)
    u, v = params.fx * xd + params.skew * yd + params.cx, params.fy * yd + params.cy
    return u if valid else math.nan, v if valid else math.nan


@_compiled
def unproject_pixel(params: CameraParams, u: float, v: float) -> tuple[float, float, float]:
    """Unit ray (X, Y, Z) of the lens frame that is seen at pixel (u, v); NaN where none is."""
    yd = (v - params.cy) / params.fy
    xd = (u - params.cx - params.skew * yd) / params.fx
    return undistort(params, xd, yd)


@_compiled
def in_image(params: CameraParams, u: float, v: float) -> bool:
    """Whether (u, v) lies on a pixel. Pixel centres are integers, so the image begins at -0.5. False for NaN."""
    return -0.5 <= u < params.width - 0.5 and -0.5 <= v < params.height - 0.5


@_compiled
def project_points(params: CameraParams, T: NDArray, points: NDArray, uv: NDArray, depth: NDArray) -> None:
    """Fill uv (N, 2) and depth (N,) for points (N, 3) that T (4, 4) carries into the lens frame; depth is z there."""
    for i in range(points.shape[0]):
        x, y, z = np.float64(points[i, 0]), np.float64(points[i, 1]), np.float64(points[i, 2])
        X = T[0, 0] * x + T[0, 1] * y + T[0, 2] * z + T[0, 3]
        Y = T[1, 0] * x + T[1, 1] * y + T[1, 2] * z + T[1, 3]
        Z = T[2, 0] * x + T[2, 1] * y + T[2, 2] * z + T[2, 3]
        uv[i, 0], uv[i, 1] = project_point(params, X, Y, Z)
        depth[i] = Z


@_compiled
def unproject_pixels(params: CameraParams, uv: NDArray, rays: NDArray) -> None:
    """Fill rays (N, 3) of the lens frame for uv (N, 2)."""
    for i in range(uv.shape[0]):
        rays[i, 0], rays[i, 1], rays[i, 2] = unproject_pixel(params, uv[i, 0], uv[i, 1])


@_compiled
def find_limit(params: CameraParams) -> float:
    """The end of the valid region: the first place, going outwards, where the lens stops being one-to-one.

    Equidistant: the smallest theta where theta_d stops growing, at most 180 degrees. Polynomials: the smallest r^2 on
    64 rays from the axis at which the Jacobian determinant of the mapping stops being positive (at a fold, and at a
    pole of the rational polynomial), or the tilted sensor meets its horizon; at most 1e12. Each ray is walked in 2,048
    equal angles and the crossing bisected. A tangential part moves the fold a little from ray to ray; the smallest
    radius is taken for all, which costs a tenth of a pixel (median of random lenses) where the fold lies in the image.
    """
    if params.model == _NONE:
        return _MAX_RADIUS**2
    if params.model == _EQUIDISTANT:
        return _first_fold(params, 0.0, _MAX_THETA)
    limit = math.atan(_MAX_RADIUS)
    for i in range(_RAY_COUNT):
        limit = _first_fold(params, 2.0 * math.pi * i / _RAY_COUNT, limit)
    return min(math.tan(limit), _MAX_RADIUS) ** 2


@_compiled
def _first_fold(params: CameraParams, azimuth: float, limit: float) -> float:
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
def _is_regular(params: CameraParams, azimuth: float, angle: float) -> bool:
    """Whether the mapping keeps orientation around the ray at this azimuth and angle off axis."""
    if params.model == _EQUIDISTANT:
        return _theta_d_slope(params, angle) > 0.0
    r = math.tan(angle)
    x, y = r * math.cos(azimuth), r * math.sin(azimuth)
    xd, yd = _bend(params, x, y)
    xx, xy, yx, yy = _bend_jacobian(params, x, y)
    horizon = params.tilt[6] * xd + params.tilt[7] * yd + params.tilt[8]
    return xx * yy - xy * yx > 0.0 and horizon > 0.0


@_compiled
def _homography(H: tuple[float, ...], x: float, y: float) -> tuple[float, float]:
    """Apply a 3x3 homography, given row by row."""
    w = H[6] * x + H[7] * y + H[8]
    return (H[0] * x + H[1] * y + H[2]) / w, (H[3] * x + H[4] * y + H[5]) / w


@_compiled
def _radial(params: CameraParams, t: float) -> tuple[float, float]:
    """Radial factor at t = r^2 and its derivative by t."""
    k1, k2, _, _, k3, k4, k5, k6, _, _, _, _, _, _ = params.coefficients
    below = 1.0 + t * (k4 + t * (k5 + t * k6))
    factor = (1.0 + t * (k1 + t * (k2 + t * k3))) / below
    above_slope = k1 + t * (2.0 * k2 + 3.0 * t * k3)
    below_slope = k4 + t * (2.0 * k5 + 3.0 * t * k6)
    return factor, (above_slope - factor * below_slope) / below


@_compiled
def _bend(params: CameraParams, x: float, y: float, rational: bool = True) -> tuple[float, float]:
    """Radial, tangential and thin-prism distortion of a point of the normalised plane; rational: False where k4, k5 and
    k6 are known to be 0."""
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4, _, _ = params.coefficients
    t = x * x + y * y
    factor = 1.0 + t * (k1 + t * (k2 + t * k3))
    if rational:
        factor /= 1.0 + t * (k4 + t * (k5 + t * k6))
    xd = x * factor + 2.0 * p1 * x * y + p2 * (t + 2.0 * x * x) + t * (s1 + t * s2)
    yd = y * factor + 2.0 * p2 * x * y + p1 * (t + 2.0 * y * y) + t * (s3 + t * s4)
    return xd, yd


@_compiled
def _bend_jacobian(params: CameraParams, x: float, y: float) -> tuple[float, float, float, float]:
    """Partial derivatives of `_bend`: dxd/dx, dxd/dy, dyd/dx, dyd/dy."""
    _, _, p1, p2, _, _, _, _, s1, s2, s3, s4, _, _ = params.coefficients
    t = x * x + y * y
    factor, slope = _radial(params, t)
    prism_x = 2.0 * (s1 + 2.0 * s2 * t)
    prism_y = 2.0 * (s3 + 2.0 * s4 * t)
    cross = 2.0 * x * y * slope + 2.0 * p1 * x + 2.0 * p2 * y
    xx = factor + 2.0 * x * x * slope + 2.0 * p1 * y + 6.0 * p2 * x + prism_x * x
    yy = factor + 2.0 * y * y * slope + 6.0 * p1 * y + 2.0 * p2 * x + prism_y * y
    return xx, cross + prism_x * y, cross + prism_y * x, yy


@_compiled
def _unbend(params: CameraParams, xd: float, yd: float) -> tuple[float, float]:
    """Invert `_bend` by Newton's method from the radial solution; NaN if not converged."""
    rd = math.sqrt(xd * xd + yd * yd)
    if rd == 0.0:
        return 0.0, 0.0
    r = _invert_radius(params, rd, math.sqrt(params.limit))
    x, y = xd * r / rd, yd * r / rd
    for _ in range(_MAX_ITERATIONS):
        x_seen, y_seen = _bend(params, x, y)
        ex, ey = xd - x_seen, yd - y_seen
        if abs(ex) + abs(ey) <= _TOLERANCE * (1.0 + rd):
            return x, y
        xx, xy, yx, yy = _bend_jacobian(params, x, y)
        determinant = xx * yy - xy * yx
        x += (yy * ex - xy * ey) / determinant
        y += (xx * ey - yx * ex) / determinant
    return math.nan, math.nan


@_compiled
def _invert_radius(params: CameraParams, rd: float, r_max: float) -> float:
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
def _theta_d(params: CameraParams, theta: float) -> float:
    """Distorted angle of the equidistant model."""
    k1, k2, k3, k4 = params.coefficients[:4]
    t = theta * theta
    return theta * (1.0 + t * (k1 + t * (k2 + t * (k3 + t * k4))))


@_compiled
def _theta_d_slope(params: CameraParams, theta: float) -> float:
    """Derivative of `_theta_d`."""
    k1, k2, k3, k4 = params.coefficients[:4]
    t = theta * theta
    return 1.0 + t * (3.0 * k1 + t * (5.0 * k2 + t * (7.0 * k3 + 9.0 * t * k4)))


@_compiled
def _invert_theta(params: CameraParams, theta_d: float) -> float:
    """The theta within the limit whose distorted angle is theta_d; NaN if there is none."""
    low, high = 0.0, params.limit
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
