"""One camera: pixels of points and rays of pixels, for everything a `sensor_msgs/CameraInfo` can say.

Which frame do the points come in? The frame that the CameraInfo's header names, always. From there:

- raw image: the header frame is the camera's own optical frame. K and D are used; R and P are not.
- rectified image: `[u v w]' = P [R X; 1]'`, as the message defines its fields. R turns the header frame into the
  rectified one; P[:,3] is the way from there to this camera's optical centre. So depth is w, not Z.

Where the header frame is already rectified (a stereo pair published in the left camera's frame, or KITTI in its
rectified camera 0), R must be the identity: pass `r=np.eye(3)` for bags that say otherwise. Where each camera of a pair
has a frame of its own at its own optical centre, TF holds the baseline already: pass a `p` whose last column is zero.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seg_perception.errors import CalibrationError
from seg_perception.geometry import lens
from seg_perception.geometry.lens import CameraParams, LensModel

_log = logging.getLogger(__name__)

_ROTATION_TOLERANCE = 1e-3
_MODELS: dict[str, LensModel] = {
    "plumb_bob": "plumb_bob",
    "rational_polynomial": "rational_polynomial",
    "equidistant": "equidistant",
    "fisheye": "equidistant",
}
_BORDER_SAMPLES = 33  # pixels looked at along each side of the image


class RegionOfInterest(Protocol):
    """What is read from a `sensor_msgs/RegionOfInterest`: full-resolution pixels, all zero for the whole image."""

    x_offset: int
    y_offset: int
    width: int
    height: int


@dataclass(frozen=True, slots=True, eq=False)
class CameraModel:
    """A calibrated camera whose image is `width` x `height` pixels.

    K: (3, 3), upper triangular, of exactly this image (binning, ROI and scaling applied). model, D: see `lens`.
    T_lens_cam: (4, 4), header frame to the frame in which the lens is described; the identity for raw images.
    params: the same camera for the compiled functions of `lens`, which take points in the lens frame.
    Raises CalibrationError: values not finite, sizes or focal lengths not positive, a wrong number of coefficients.
    """

    width: int
    height: int
    K: NDArray[np.float64]
    model: LensModel = "none"
    D: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    T_lens_cam: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))
    params: CameraParams = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.width <= 0 or self.height <= 0:
            raise CalibrationError(f"image size is {self.width} x {self.height}, a width and height above 0 wanted")
        if self.model not in get_args(LensModel):
            raise CalibrationError(f"lens model is '{self.model}', one of {', '.join(get_args(LensModel))} wanted")
        K = _intrinsics("K", self.K)
        D = _numbers("D", self.D)
        counts = lens.COEFFICIENT_COUNTS[self.model]
        if D.size not in counts:
            wanted = " or ".join(str(count) for count in counts)
            raise CalibrationError(f"D has {D.size} coefficients, {wanted} wanted by model '{self.model}'")
        T_lens_cam = _numbers("T_lens_cam", self.T_lens_cam, (4, 4))
        object.__setattr__(self, "params", lens.pack(self.model, D, K, self.width, self.height))
        for name, array in (("K", K), ("D", D), ("T_lens_cam", T_lens_cam)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @classmethod
    def from_camera_info(
        cls,
        *,
        width: int,
        height: int,
        distortion_model: str,
        d: ArrayLike,
        k: ArrayLike,
        r: ArrayLike,
        p: ArrayLike,
        binning_x: int = 0,
        binning_y: int = 0,
        roi: RegionOfInterest | None = None,
        rectified: bool = False,
        name: str = "camera",
    ) -> CameraModel:
        """Read the fields of a CameraInfo for its raw image, or for its rectified one.

        width, height: of the calibration, full resolution. The model's own size is that of the image after ROI and
        binning; check the image with `require_image_size`. Only what the chosen image needs is read: K, D and
        distortion_model for the raw one; R and P for the rectified one, in which ROI and binning move P as they move K.
        D all zero or empty under a polynomial model, which is how image_geometry reads them, or no model name and no D,
        is no distortion; "fisheye" is equidistant.
        A super-pixel of binning b covers pixels b*i .. b*i + b - 1, so its centre is u_binned = (u + 0.5) / b - 0.5.
        name: whose calibration it is, for messages. Raises CalibrationError.
        """
        try:
            size, origin, step = _window(width, height, binning_x, binning_y, roi)
            model: LensModel = "none"
            D = np.zeros(0)
            if rectified:
                K, T_lens_cam = _from_projection(p, r)
            else:
                K, T_lens_cam = _intrinsics("K", k), np.eye(4)
                model, D = _lens(distortion_model, _numbers("D", d))
            K = _resampled(K, origin, (1.0 / step[0], 1.0 / step[1]))
            camera = cls(size[0], size[1], K, model, D, T_lens_cam)
        except CalibrationError as error:
            raise CalibrationError(f"CameraInfo of {name}: {error}") from None
        unseen = camera.unseen_border()
        if unseen > 0.0:
            angle = math.degrees(camera.valid_angle)
            _log.warning(
                "CameraInfo of %s: its %s lens is one-to-one only up to %.1f degrees off axis; %.0f %% of the image "
                "border lies beyond and will see nothing. Was it calibrated out to the corners?",
                name,
                camera.model,
                angle,
                100.0 * unseen,
            )
        return camera

    @property
    def valid_angle(self) -> float:
        """Angle off axis, radians, up to which the lens maps one-to-one; above pi/2 only for equidistant."""
        return lens.valid_angle(self.params)

    def project(self, points_cam: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Find where points are seen.

        points_cam: (N, 3), metres, header frame of the CameraInfo (optical axes).
        Returns uv (N, 2) float64, inside the image or not; NaN where the point is not finite, or further off axis than
        `valid_angle`, which for polynomial lenses includes all that is not in front. And depth (N,) float64, z in the
        lens frame, metres, for every point; where it is negative an equidistant lens may still see the point.
        """
        points = _columns("points_cam", points_cam, 3)
        uv, depth = np.empty((len(points), 2)), np.empty(len(points))
        lens.project_points(self.params, self.T_lens_cam, points, uv, depth)
        return uv, depth

    def in_view(self, uv: NDArray) -> NDArray[np.bool_]:
        """Which of uv (N, 2), as `project` gave them, lie on a pixel: -0.5 <= u < width - 0.5. False for NaN."""
        u, v = uv[:, 0], uv[:, 1]
        return (u >= -0.5) & (u < self.width - 0.5) & (v >= -0.5) & (v < self.height - 0.5)

    def unproject(self, uv: NDArray) -> NDArray[np.float64]:
        """Find the directions in which pixels uv (N, 2) look: unit rays (N, 3) along the axes of the header frame.

        A ray starts at the optical centre, which is `-T_lens_cam[:3, :3].T @ T_lens_cam[:3, 3]` in that frame. NaN
        where the lens sends no ray to that pixel.
        """
        rays_lens = np.empty((len(uv), 3))
        lens.unproject_pixels(self.params, _columns("uv", uv, 2), rays_lens)
        return rays_lens @ self.T_lens_cam[:3, :3]

    def scaled(self, width: int, height: int) -> CameraModel:
        """The camera of the same image resized to `width` x `height`, as cv2.resize does: u' = (u + 0.5) * s - 0.5."""
        K = _resampled(self.K, (0.0, 0.0), (width / self.width, height / self.height))
        return CameraModel(width, height, K, self.model, self.D, self.T_lens_cam)

    def require_image_size(self, width: int, height: int) -> None:
        """Refuse an image of another size than this model's, with CalibrationError."""
        if (width, height) != (self.width, self.height):
            raise CalibrationError(
                f"image is {width} x {height}, {self.width} x {self.height} wanted: the size in its CameraInfo after "
                "ROI and binning"
            )

    def unseen_border(self) -> float:
        """Share of the image border, 0..1, that lies beyond the lens's valid region and so sees nothing."""
        right, bottom = self.width - 1.0, self.height - 1.0
        u, v = np.linspace(0.0, right, _BORDER_SAMPLES), np.linspace(0.0, bottom, _BORDER_SAMPLES)
        sides = [(u, 0.0 * u), (u, 0.0 * u + bottom), (0.0 * v, v), (0.0 * v + right, v)]
        border = np.concatenate([np.column_stack(side) for side in sides])
        return float(np.isnan(self.unproject(border)[:, 0]).mean())

    def to_camera_info_fields(self) -> dict[str, Any]:
        """The fields of a CameraInfo that `from_camera_info` reads as this camera, ROI and binning being unused.

        A lens without distortion is written as plumb_bob with five zeros, which every reader knows. A T_lens_cam other
        than the identity goes into R and P: read such fields with `rectified=True`.
        """
        undistorted = self.model == "none"
        P = self.K @ self.T_lens_cam[:3]
        P[:, :3] = self.K
        return {
            "width": int(self.width),
            "height": int(self.height),
            "distortion_model": "plumb_bob" if undistorted else self.model,
            "d": [0.0] * 5 if undistorted else self.D.tolist(),
            "k": self.K.ravel().tolist(),
            "r": self.T_lens_cam[:3, :3].ravel().tolist(),
            "p": P.ravel().tolist(),
        }


def _numbers(name: str, values: ArrayLike, shape: tuple[int, ...] = (-1,)) -> NDArray[np.float64]:
    """Copy finite numbers into a float64 array of `shape`."""
    array = np.array(values, dtype=np.float64).ravel()
    wanted = math.prod(shape)
    if wanted > 0 and array.size != wanted:
        raise CalibrationError(f"{name} has {array.size} values, {wanted} wanted")
    if not np.isfinite(array).all():
        raise CalibrationError(f"{name} is {array.tolist()}, finite values wanted")
    return array.reshape(shape)


def _intrinsics(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """Check a camera matrix: (3, 3), focal lengths above 0, last row 0 0 1."""
    K = _numbers(name, values, (3, 3))
    if not K.any():
        raise CalibrationError(f"{name} is all zero, which means 'not calibrated'; focal lengths above 0 wanted")
    if K[0, 0] <= 0.0 or K[1, 1] <= 0.0:
        raise CalibrationError(f"{name} has focal lengths {K[0, 0]:g} and {K[1, 1]:g}, values above 0 wanted")
    if K[1, 0] != 0.0 or K[2].tolist() != [0.0, 0.0, 1.0]:
        raise CalibrationError(f"{name} has rows 2 and 3 {K[1:].tolist()}, [0, fy, cy] and [0, 0, 1] wanted")
    return K


def _lens(distortion_model: str, D: NDArray[np.float64]) -> tuple[LensModel, NDArray[np.float64]]:
    """The lens that a CameraInfo names, without distortion where its coefficients say so."""
    if distortion_model in ("", "none"):
        if D.any():
            raise CalibrationError(
                f"distortion_model is '{distortion_model}' but D is {D.tolist()}; the name of D's model wanted"
            )
        return "none", np.zeros(0)
    if distortion_model not in _MODELS:
        raise CalibrationError(f"distortion_model is '{distortion_model}', one of {', '.join(_MODELS)} wanted")
    model = _MODELS[distortion_model]
    if model != "equidistant" and not D.any() and D.size in (0, *lens.COEFFICIENT_COUNTS[model]):
        return "none", np.zeros(0)
    return model, D


def _from_projection(p: ArrayLike, r: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Split P [R X; 1] into K and T_lens_cam: P = K [I | t], so T_lens_cam = [R | t]."""
    P, R = _numbers("P", p, (3, 4)), _numbers("R", r, (3, 3))
    if not P.any():
        raise CalibrationError("P is all zero, so its rectified image is unknown; the P of the rectified image wanted")
    if not np.allclose(R @ R.T, np.eye(3), atol=_ROTATION_TOLERANCE) or np.linalg.det(R) < 0.0:
        raise CalibrationError(f"R is {R.tolist()}, a rotation wanted (the identity where nothing was rotated)")
    K = _intrinsics("P[:, :3]", P[:, :3])
    T_lens_cam = np.eye(4)
    T_lens_cam[:3, :3] = R
    T_lens_cam[:3, 3] = np.linalg.solve(K, P[:, 3])
    return K, T_lens_cam


def _window(
    width: int, height: int, binning_x: int, binning_y: int, roi: RegionOfInterest | None
) -> tuple[tuple[int, int], tuple[float, float], tuple[int, int]]:
    """Size of the delivered image, its first full-resolution pixel, full-resolution pixels a pixel (u, v each)."""
    if width <= 0 or height <= 0:
        raise CalibrationError(f"image size is {width} x {height}, a width and height above 0 wanted")
    step = (max(int(binning_x), 1), max(int(binning_y), 1))
    if roi is None or not (roi.x_offset or roi.y_offset or roi.width or roi.height):
        x, y, roi_width, roi_height = 0, 0, width, height
    else:
        x, y, roi_width, roi_height = int(roi.x_offset), int(roi.y_offset), int(roi.width), int(roi.height)
    inside = x >= 0 and y >= 0 and x + roi_width <= width and y + roi_height <= height
    if roi_width < step[0] or roi_height < step[1] or not inside:
        raise CalibrationError(
            f"ROI is {roi_width} x {roi_height} at ({x}, {y}) with binning {step[0]} x {step[1]}, "
            f"at least one pixel within {width} x {height} wanted"
        )
    return (roi_width // step[0], roi_height // step[1]), (float(x), float(y)), step


def _resampled(K: NDArray[np.float64], origin: Sequence[float], scale: Sequence[float]) -> NDArray[np.float64]:
    """K of the image that starts at pixel `origin` and is then resized by `scale` (pixel centres are integers)."""
    moved = K.copy()
    moved[:2, 2] -= origin
    moved[:2, 2] += 0.5
    moved[:2] *= np.reshape(scale, (2, 1))
    moved[:2, 2] -= 0.5
    return moved


def _columns(name: str, array: NDArray, count: int) -> NDArray:
    """Check (N, count) and give it as contiguous float32 or float64, so that few kernels are compiled."""
    if array.ndim != 2 or array.shape[1] != count:
        raise ValueError(f"{name}: shape (N, {count}) wanted, {array.shape} seen")
    return np.ascontiguousarray(array, dtype=np.float32 if array.dtype == np.float32 else np.float64)
