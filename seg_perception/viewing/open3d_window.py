"""Open3D's window and its off-screen renderer.

All is handed over as seen from the eye, x right, y down, z ahead: nothing is lost to float32 far from the origin,
and the eye goes along with the vehicle.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_perception.drawing import BACKGROUND, Pixels
from seg_perception.errors import ConfigError
from seg_perception.geometry.transforms import transform_points
from seg_perception.viewing.scenes import KEYS, Scene
from seg_perception.viewing.splatting import Drawn, Viewpoint

_POINT_PX = 3.0
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")  # without one, some versions "open" a window that nobody sees

Geometries = tuple[Any, Any]
"""A PointCloud and a LineSet."""


def render(drawn: Drawn, view: Viewpoint, size: tuple[int, int]) -> Pixels:
    """The picture, (H, W, 3) of size (width, height), without a window. Raises ConfigError where Open3D cannot."""
    window, _ = _opened(drawn, view, "picture", size, visible=False)
    try:
        window.poll_events()
        window.update_renderer()
        shares = np.asarray(window.capture_screen_float_buffer(True))
    finally:
        window.destroy_window()
    if shares.shape != (size[1], size[0], 3):
        raise ConfigError(f"Open3D drew a picture of shape {shares.shape}, {size[1]} x {size[0]} wanted")
    return np.rint(shares * 255.0).astype(np.uint8)


def show(scene: Scene, title: str, size: tuple[int, int]) -> None:
    """A window, until it is closed. Raises ConfigError where none can be opened."""
    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in _DISPLAYS):
        raise ConfigError(f"no display, none of {', '.join(_DISPLAYS)} is set; `--out PICTURE.png` needs none")
    window, geometries = _opened(*scene.draw(), title, size, visible=True)
    for key, (_, action) in KEYS.items():
        window.register_key_callback(ord(key), on_key(scene, action, geometries))
    window.run()
    window.destroy_window()


def on_key(scene: Scene, action: Callable[[Scene], object], geometries: Geometries) -> Callable[[Any], bool]:
    """What a key does: change what is shown, then exchange what is drawn; the eye stays."""

    def pressed(window: Any) -> bool:
        action(scene)
        cloud, lines = geometries
        new_cloud, new_lines = geometries_of(*scene.draw())
        cloud.points, cloud.colors = new_cloud.points, new_cloud.colors
        lines.points, lines.lines, lines.colors = new_lines.points, new_lines.lines, new_lines.colors
        for geometry in geometries:
            window.update_geometry(geometry)
        print(f"sweep {scene.shown.index}, colour by {scene.shown.color}")
        return True

    return pressed


def _opened(drawn: Drawn, view: Viewpoint, title: str, size: tuple[int, int], visible: bool) -> tuple[Any, Geometries]:
    """A window with everything in it, and the geometries to exchange later."""
    o3d = _open3d()
    window = o3d.visualization.VisualizerWithKeyCallback()
    with o3d.utility.VerbosityContextManager(o3d.utility.VerbosityLevel.Error):
        opened = window.create_window(title, *size, visible=visible)
    if not opened:
        raise ConfigError("Open3D can open no window here, nor draw without one")
    options = window.get_render_option()
    options.background_color, options.point_size = np.array(BACKGROUND) / 255.0, _POINT_PX
    geometries = geometries_of(drawn, view)
    for geometry in geometries:
        window.add_geometry(geometry)
    width, height = size
    focal = view.focal_px(height)
    camera = o3d.camera.PinholeCameraParameters()
    camera.intrinsic = o3d.camera.PinholeCameraIntrinsic(*size, focal, focal, width / 2 - 0.5, height / 2 - 0.5)
    camera.extrinsic = np.eye(4)
    window.get_view_control().convert_from_pinhole_camera_parameters(camera, True)
    return window, geometries


def geometries_of(drawn: Drawn, view: Viewpoint) -> Geometries:
    """What is drawn, as seen from the eye."""
    o3d = _open3d()
    vectors, T = o3d.utility.Vector3dVector, view.T_eye_frame
    cloud = o3d.geometry.PointCloud(vectors(transform_points(T, drawn.points)))
    cloud.colors = vectors(_shares(drawn.rgb))
    ends = transform_points(T, drawn.lines.reshape(-1, 3))
    pairs = np.arange(len(ends), dtype=np.int32).reshape(-1, 2)
    lines = o3d.geometry.LineSet(vectors(ends), o3d.utility.Vector2iVector(pairs))
    lines.colors = vectors(_shares(drawn.line_rgb))
    return cloud, lines


def _shares(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    return rgb.astype(np.float64) / 255.0


def _open3d() -> Any:
    try:
        import open3d
    except ImportError as error:
        raise ConfigError(
            f"Open3D wanted, which `pip install open3d` brings: {error}; "
            "`--out PICTURE.png --renderer numpy` draws without it"
        ) from error
    return open3d
