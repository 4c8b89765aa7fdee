"""What a drive is made of: its rig, its motion, and the ranges from which a seed draws the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import ConfigError
from seg_perception.geometry.camera import CameraModel

Trajectory = Literal["straight", "turning", "braking"]
Transport = Literal["raw", "jpeg"]
Range = tuple[float, float]
MAX_SPEED = 30.0
MAX_CAMERAS = 8


@dataclass(frozen=True, slots=True, eq=False)
class CameraMount:
    """One camera of the rig.

    T_base_cam: (4, 4), optical frame to base_link. offset_ms: its exposure after the instant at which the LiDAR looks
    ahead. row_time_us: each row is exposed this much after the one above it, the middle row at the stamp; 0: none.
    """

    name: str
    model: CameraModel
    T_base_cam: NDArray[np.float64]
    rate_hz: float = 10.0
    offset_ms: float = 0.0
    row_time_us: float = 0.0

    @property
    def frame_id(self) -> str:
        """Its optical frame."""
        return f"{self.name}_optical"

    def __post_init__(self) -> None:
        if not self.rate_hz > 0.0:
            raise ConfigError(f"camera '{self.name}': rate_hz above 0 wanted, {self.rate_hz} seen")


@dataclass(frozen=True, slots=True, eq=False)
class LidarMount:
    """A LiDAR that turns clockwise, as seen from above, and looks ahead in the middle of each sweep.

    T_base_lidar: (4, 4). elevation_deg: of the lowest and the highest beam. columns: firings a turn, all beams at once.
    through_glass: share of the beams that pass the windows of vehicles and meet what is behind.
    """

    T_base_lidar: NDArray[np.float64] = field(default_factory=lambda: translation(1.2, 0.0, 1.75))
    beams: int = 64
    columns: int = 1800
    elevation_deg: Range = (-24.8, 6.0)
    rate_hz: float = 10.0
    min_range: float = 1.0
    max_range: float = 120.0
    range_noise: float = 0.02
    drop_out: float = 0.01
    through_glass: float = 0.0

    def __post_init__(self) -> None:
        if not 16 <= self.beams <= 128:
            raise ConfigError(f"lidar: 16 to 128 beams wanted, {self.beams} seen")
        if self.columns < 16 or not self.rate_hz > 0.0:
            raise ConfigError(f"lidar: columns from 16 and a rate above 0 wanted, {self.columns}, {self.rate_hz} seen")


@dataclass(frozen=True, slots=True)
class Ranges:
    """From where a seed draws: uniformly between both ends, or, for probabilities, a coin of that weight.

    Lengths in metres, angles in degrees. sun: irradiance relative to an open sky of 1.
    """

    lane_width: Range = (3.1, 3.6)
    parking_width: Range = (2.1, 2.5)
    sidewalk_width: Range = (2.2, 4.2)
    setback: Range = (0.0, 5.0)
    grade_amplitude: Range = (0.0, 1.2)
    two_lanes: float = 0.45
    tram_track: float = 0.5
    verge: float = 0.5
    parked: Range = (0.15, 0.8)
    tree_spacing: Range = (9.0, 18.0)
    pedestrians_per_100m: Range = (8.0, 28.0)
    traffic_gap: Range = (16.0, 40.0)
    sun_elevation: Range = (14.0, 62.0)
    sun_azimuth: Range = (0.0, 360.0)
    sun: Range = (0.4, 3.2)
    overcast: float = 0.3
    haze_visibility: Range = (250.0, 2500.0)
    cloud_cover: Range = (0.1, 0.8)
    exposure_stops: Range = (-0.35, 0.35)
    white_balance: Range = (0.94, 1.06)
    camera_noise: Range = (0.002, 0.010)
    vignetting: Range = (0.0, 0.3)


@dataclass(frozen=True, slots=True)
class DriveConfig:
    """One drive. The same values give the same drive, to the last byte.

    speed: m/s at the start. lateral_acceleration: m/s², bounds the curves of a turning drive. static_world: whatever
    is not the vehicle itself stands still. view_distance: metres of street beyond the end of the way. antialiasing: how
    many more rays the pixels at edges get.
    """

    seed: int = 0
    seconds: float = 20.0
    speed: float = 12.0
    trajectory: Trajectory = "turning"
    static_world: bool = False
    cameras: tuple[CameraMount, ...] = ()
    lidar: LidarMount = field(default_factory=LidarMount)
    transport: Transport = "jpeg"
    ranges: Ranges = field(default_factory=Ranges)
    lateral_acceleration: float = 4.0
    view_distance: float = 230.0
    ambient_occlusion: bool = True
    antialiasing: int = 3

    def __post_init__(self) -> None:
        if self.trajectory not in get_args(Trajectory):
            raise ConfigError(f"trajectory: one of {get_args(Trajectory)} wanted, '{self.trajectory}' seen")
        if not 0.0 <= self.speed <= MAX_SPEED:
            raise ConfigError(f"speed: 0 to {MAX_SPEED} m/s wanted, {self.speed} seen")
        if not self.seconds > 0.0:
            raise ConfigError(f"seconds: above 0 wanted, {self.seconds} seen")
        names = [camera.name for camera in self.cameras]
        if len(names) > MAX_CAMERAS or len(set(names)) != len(names):
            raise ConfigError(f"cameras: at most {MAX_CAMERAS} of different names wanted, {names} seen")


def translation(x: float, y: float, z: float) -> NDArray[np.float64]:
    """(4, 4) that only moves."""
    T = np.eye(4)
    T[:3, 3] = x, y, z
    return T


def looking(yaw_deg: float, pitch_deg: float, position: tuple[float, float, float]) -> NDArray[np.float64]:
    """T_base_cam of a camera at `position`, turned left by yaw and down by pitch."""
    yaw, pitch = math.radians(yaw_deg), math.radians(pitch_deg)
    forward = np.array([math.cos(yaw) * math.cos(pitch), math.sin(yaw) * math.cos(pitch), -math.sin(pitch)])
    right = np.array([math.sin(yaw), -math.cos(yaw), 0.0])
    T = np.eye(4)
    T[:3, 0], T[:3, 1], T[:3, 2], T[:3, 3] = right, np.cross(forward, right), forward, position
    return T


def standard_rig(
    count: int = 1,
    size: tuple[int, int] = (1024, 512),
    *,
    field_of_view_deg: float = 80.0,
    distance: float = 0.9,
    offset_ms: float = 0.0,
    rate_hz: float = 10.0,
    row_time_us: float = 0.0,
    fisheye: bool = False,
    lidar: LidarMount | None = None,
) -> tuple[CameraMount, ...]:
    """`count` cameras around the LiDAR, the first ahead, evenly turned, with lenses that distort.

    distance: metres from the LiDAR's centre to each optical centre, along the camera's heading and down 0.35 of it.
    """
    if not 1 <= count <= MAX_CAMERAS:
        raise ConfigError(f"cameras: 1 to {MAX_CAMERAS} wanted, {count} seen")
    widest = 360.0 if fisheye else 180.0
    if not 0.0 < field_of_view_deg < widest:
        raise ConfigError(f"field of view: above 0 and below {widest:g} degrees wanted, {field_of_view_deg} seen")
    width, height = size
    centre = (lidar or LidarMount()).T_base_lidar[:3, 3]
    ahead, below = distance * math.sqrt(1.0 - 0.35**2), distance * 0.35
    if fisheye:
        focal = width / math.radians(field_of_view_deg)
        model, D = "equidistant", np.array([-0.012, 0.004, -0.002, 0.0003])
    else:
        focal = 0.5 * width / math.tan(math.radians(field_of_view_deg) / 2.0)
        model, D = "plumb_bob", np.array([-0.09, 0.035, 0.0004, -0.0003, -0.004])
    K = np.array([[focal, 0.0, 0.5 * width - 0.5], [0.0, focal, 0.5 * height - 0.5], [0.0, 0.0, 1.0]])
    names = ["front"] if count == 1 else [f"camera_{index}" for index in range(count)]
    cameras = []
    for index, name in enumerate(names):
        yaw = 360.0 * index / count
        heading = np.array([math.cos(math.radians(yaw)), math.sin(math.radians(yaw)), 0.0])
        x, y, z = centre + ahead * heading - np.array([0.0, 0.0, below])
        T_base_cam = looking(yaw, 2.0, (x, y, z))
        camera = CameraModel(width, height, K, model, D)  # type: ignore[arg-type]
        cameras.append(CameraMount(name, camera, T_base_cam, rate_hz, offset_ms, row_time_us))
    return tuple(cameras)
