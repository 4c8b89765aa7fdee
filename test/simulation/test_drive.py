"""What a drive says of itself holds together: geometry, time, labels, identity."""

from dataclasses import replace

import numpy as np
import pytest
from simulation.small_drive import LIDAR, SIZE, config, frame_of, pixel_of, small_drive

from seg_perception.errors import ConfigError
from seg_perception.geometry.camera import CameraModel
from seg_perception.geometry.transforms import inverse, transform_points
from seg_perception.labels import Taxonomy
from seg_perception.simulation.camera import VOID
from seg_perception.simulation.classes import C
from seg_perception.simulation.config import LidarMount, Ranges, standard_rig
from seg_perception.simulation.drive import Drive
from seg_perception.simulation.truth import Agreement, agreement

pytestmark = pytest.mark.open3d


def agreement_of(drive: Drive, sweep_index: int) -> Agreement:
    sweep, total = drive.sweep(sweep_index), Agreement(0, 0, 0)
    for camera in range(len(drive.cameras)):
        index = drive.nearest_frame(camera, sweep.time)
        total = total + agreement(sweep, drive.sight(sweep, camera), drive.frame(camera, index))
    return total


def test_visible_points_have_the_class_of_their_pixel(drive, capsys):
    total = agreement_of(drive, 2) + agreement_of(drive, 6)
    with capsys.disabled():
        print(f" [{100 * total.share:.3f} % of {total.compared}, silhouettes {100 * total.silhouette_share:.1f} %]")
    assert total.compared > 3000
    assert total.share >= 0.995


@pytest.mark.parametrize("lens", ["rolling shutter", "fisheye"])
def test_visible_points_have_the_class_of_their_pixel_through_other_cameras(drive, lens):
    changed = (
        standard_rig(1, SIZE, offset_ms=30.0, row_time_us=150.0)
        if lens == "rolling shutter"
        else standard_rig(1, SIZE, field_of_view_deg=150.0, fisheye=True)
    )
    other = drive.with_cameras(changed)
    total = agreement_of(other, 3)
    assert total.compared > 1500
    assert total.share >= 0.995


def test_rolling_shutter_moves_what_is_near_the_top_and_the_bottom():
    def frame(row_time_us: float) -> np.ndarray:
        rig = standard_rig(2, SIZE, row_time_us=row_time_us)
        return small_drive().with_cameras(rig).cameras[1].truth(0.35).labels

    still, rolled = frame(0.0), frame(250.0)
    middle = slice(SIZE[1] // 2 - 1, SIZE[1] // 2 + 1)
    difference = still != rolled
    assert difference[middle].mean() < 0.5 * difference.mean()
    assert difference.mean() > 0.01


def test_points_on_moving_things_are_seen_where_these_have_moved_to(drive):
    agreed = compared = in_view = 0
    for index in (1, 3, 5, 7):
        sweep = drive.sweep(index)
        moving = np.linalg.norm(drive.velocities(sweep), axis=1) > 5.0
        for camera in range(len(drive.cameras)):
            seen = drive.sight(sweep, camera)
            truth = drive.cameras[camera].truth(
                float(drive.frame_times(camera)[drive.nearest_frame(camera, sweep.time)])
            )
            chosen = moving & seen.visible
            agreed += int((truth.instances[pixel_of(seen.uv[chosen])] == sweep.instance[chosen]).sum())
            compared += int(chosen.sum())
            in_view += int((moving & seen.in_view).sum())
    assert compared > 100
    assert compared > 0.9 * in_view
    assert agreed > 0.9 * compared  # silhouettes included


def test_depth_of_the_picture_is_that_of_the_points(drive, sweep):
    index = drive.nearest_frame(0, sweep.time)
    frame, seen = frame_of(0, index), drive.sight(sweep, 0)
    time = float(drive.frame_times(0)[index])
    points = drive.world.carried(sweep.in_world, sweep.body, sweep.times, np.full(len(sweep), time))
    T_cam_world = inverse(drive.cameras[0].T_world_cam(time))
    depth = transform_points(T_cam_world, points)[:, 2]
    row, column = pixel_of(seen.uv[seen.visible])
    error = np.abs(frame.depth[row, column] - depth[seen.visible]) / depth[seen.visible]
    assert np.median(error) < 0.005


def test_exact_points_are_in_the_world_where_the_moving_lidar_puts_them(drive, sweep):
    T_world_lidar = drive.T_world_base(sweep.times) @ drive.config.lidar.T_base_lidar
    assert np.abs(transform_points(T_world_lidar, sweep.exact) - sweep.in_world).max() < 1e-3


def test_measured_points_are_off_along_their_ray_by_the_stated_noise(drive, sweep):
    error = np.linalg.norm(sweep.points, axis=1) - np.linalg.norm(sweep.exact, axis=1)
    assert error.std() == pytest.approx(drive.config.lidar.range_noise, rel=0.1)
    assert abs(error.mean()) < 0.002
    along = np.einsum("ij,ij->i", sweep.points, sweep.exact)
    assert along == pytest.approx(np.linalg.norm(sweep.points, axis=1) * np.linalg.norm(sweep.exact, axis=1), rel=1e-5)


def test_points_come_clockwise_over_one_turn_and_ahead_in_the_middle(drive, sweep):
    period = 1.0 / drive.config.lidar.rate_hz
    assert (np.diff(sweep.times) >= 0.0).all()
    assert np.ptp(sweep.times) == pytest.approx(period, rel=0.02)
    azimuth = np.arctan2(sweep.exact[:, 1], sweep.exact[:, 0])
    expected = -2.0 * np.pi * (sweep.times - sweep.time) / period
    assert np.abs(np.angle(np.exp(1j * (azimuth - expected)))).max() < 1e-3


def test_elevation_grows_with_the_ring(drive, sweep):
    elevation = np.degrees(np.arcsin(sweep.exact[:, 2] / np.linalg.norm(sweep.exact, axis=1)))
    expected = np.linspace(*drive.config.lidar.elevation_deg, drive.config.lidar.beams)
    assert np.abs(elevation - expected[sweep.ring]).max() < 1e-3


def test_points_of_a_thing_lie_in_its_box_at_their_own_time(drive, sweep):
    checked = 0
    parked = {box.track: box for box in drive.boxes(sweep.time)}
    for track in np.unique(sweep.instance[sweep.instance > 0]):
        rows = np.flatnonzero(sweep.instance == track)
        actor = next((a for a in drive.world.actors if a.instance == track), None)
        box = parked[int(track)]
        T = np.broadcast_to(box.T_world_box, (len(rows), 4, 4))
        if actor is not None:
            T_actor = actor.path.poses(sweep.times[rows])
            T = T_actor @ (inverse(actor.path.poses(sweep.time)) @ box.T_world_box)
        local = np.einsum("nij,nj->ni", inverse(T)[:, :3, :3], sweep.in_world[rows] - T[:, :3, 3])
        margin = 0.35 if box.class_id == C.PERSON else 0.02  # limbs swing beyond the box at rest
        assert (np.abs(local) <= 0.5 * box.size + margin).all(), Taxonomy.load("cityscapes").names[box.class_id]
        assert set(sweep.class_id[rows]) == {box.class_id}
        checked += len(rows)
    assert checked > 500


def test_countable_classes_have_an_instance_and_the_others_none(drive, sweep):
    thing = Taxonomy.load("cityscapes").is_thing
    assert (sweep.instance[thing[sweep.class_id]] > 0).all()
    assert (sweep.instance[~thing[sweep.class_id]] == 0).all()
    frame = frame_of(0, 4)
    assert ((frame.instances > 0) == thing[frame.labels]).all()


def test_some_points_in_view_are_hidden_and_something_nearer_is_in_front_of_them(drive, sweep):
    index = drive.nearest_frame(0, sweep.time)
    seen, frame = drive.sight(sweep, 0), frame_of(0, index)
    hidden = seen.in_view & ~seen.visible
    assert 20 < hidden.sum() < 0.4 * seen.in_view.sum()
    assert not (seen.visible & ~seen.in_view).any()
    row, column = pixel_of(seen.uv[hidden])
    time = float(drive.frame_times(0)[index])
    points = drive.world.carried(sweep.in_world, sweep.body, sweep.times, np.full(len(sweep), time))[hidden]
    depth = transform_points(inverse(drive.cameras[0].T_world_cam(time)), points)[:, 2]
    assert (frame.depth[row, column] < depth).mean() > 0.85  # a pixel's centre may look past a thin thing


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(drive, sweep):
    again = Drive(config())
    other_sweep, frame = again.sweep(4), again.frame(0, 4)
    for name in ("points", "exact", "times", "intensity", "class_id", "instance", "body", "ring"):
        assert getattr(other_sweep, name).tobytes() == getattr(sweep, name).tobytes(), name
    for name in ("pixels", "labels", "instances", "depth"):
        assert getattr(frame, name).tobytes() == getattr(frame_of(0, 4), name).tobytes(), name
    assert again.sight(other_sweep, 0).visible.tobytes() == drive.sight(sweep, 0).visible.tobytes()
    different = Drive(config(seed=4)).sweep(4)
    assert len(different) != len(sweep) or (different.class_id != sweep.class_id).any()


def test_points_move_with_their_thing_and_ground_stands_still(drive, sweep):
    speed = np.linalg.norm(drive.velocities(sweep), axis=1)
    assert (speed[sweep.body < 0] == 0.0).all()
    moving = sweep.body >= 0
    assert moving.any() and speed[moving].max() > 3.0
    assert speed.max() < 40.0


def test_in_a_static_world_only_the_vehicle_moves():
    still = Drive(config(static_world=True))
    sweep = still.sweep(4)
    assert (still.velocities(sweep) == 0.0).all()
    assert np.linalg.norm(still.T_world_base(0.5)[:3, 3] - still.T_world_base(0.0)[:3, 3]) == pytest.approx(
        7.5, abs=0.2
    )


def test_every_class_appears_within_a_few_drives():
    seen = np.zeros(256, np.int64)
    for seed in range(2):
        ranges = Ranges(tram_track=1.0, setback=(2.0, 5.0))
        rig = standard_rig(2, (400, 200))
        drive = Drive(config(seed=seed, seconds=8.0, cameras=rig, ranges=ranges))
        for camera in drive.cameras:
            for time in (0.0, 2.5, 5.0, 7.5):
                seen += np.bincount(camera.truth(time).labels.ravel(), minlength=256)
    names = Taxonomy.load("cityscapes").names
    assert not [names[label] for label in range(19) if seen[label] < 50]


def test_where_the_lens_sees_nothing_the_picture_is_void():
    rig = standard_rig(1, (200, 200), field_of_view_deg=150.0, fisheye=True)
    K = np.array([[80.0, 0.0, 99.5], [0.0, 80.0, 99.5], [0.0, 0.0, 1.0]])
    model = CameraModel(200, 200, K, "equidistant", np.array([0.0, 0.0, 0.0, -0.05]))
    mount = replace(rig[0], model=model)
    frame = small_drive().with_cameras((mount,)).frame(0, 2)
    void = frame.labels == VOID
    assert 0.05 < void.mean() < 0.95
    assert np.isnan(frame.depth[void]).all() and not frame.pixels[void].any()
    assert not np.isnan(frame.depth[~void]).any()
    below = np.zeros_like(void)
    below[120:] = True
    assert (frame.labels[below & ~void] != C.SKY).all()  # the last pixels before the limit see the ground too


def test_ground_has_no_holes(drive):
    plan, rng = drive.plan, np.random.default_rng(0)
    s, d = rng.uniform(plan.start + 1.0, plan.end - 1.0, 40_000), rng.uniform(-plan.edge - 1.0, plan.edge + 1.0, 40_000)
    joints = np.array([plan.kerb, plan.kerb + 0.14, plan.kerb + plan.verge, plan.edge])
    d[:20_000] = rng.choice([-1.0, 1.0], 20_000) * (rng.choice(joints, 20_000) + rng.normal(0.0, 0.004, 20_000))
    above = plan.line.points(s, d, 0.16)
    slanted = np.stack([rng.normal(0.0, 0.5, 40_000), rng.normal(0.0, 0.5, 40_000), np.full(40_000, -1.0)], axis=1)
    slanted /= np.linalg.norm(slanted, axis=1, keepdims=True)
    hits = drive.world.cast(above, slanted, 0.0)
    depth = above[:, 2] + hits.distance * slanted[:, 2] - plan.line.height(s)
    assert depth.min() > -0.05


def test_settings_out_of_range_are_refused():
    for change in ({"speed": 31.0}, {"seconds": 0.0}, {"trajectory": "loop"}, {"cameras": standard_rig(1) * 2}):
        with pytest.raises(ConfigError):
            config(**change)
    with pytest.raises(ConfigError, match="16 to 128 beams wanted, 8 seen"):
        LidarMount(beams=8)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_points_lie_behind_windows_of_vehicles_only_where_light_passes_them(share):
    drive = Drive(config(lidar=replace(LIDAR, through_glass=share)))
    sweep = drive.sweep(3)
    origins = (drive.T_world_base(sweep.times) @ drive.config.lidar.T_base_lidar)[:, :3, 3]
    ways = sweep.in_world - origins
    distance = np.linalg.norm(ways, axis=1)
    first = drive.world.cast(origins, ways / distance[:, None], sweep.times)
    through = first.distance < distance - 0.05
    assert (through.sum() > 100) == (share > 0.0)
    vehicles = [C.CAR, C.TRUCK, C.BUS, C.TRAIN, C.MOTORCYCLE]
    assert np.isin(drive.world.class_of(first.select(np.flatnonzero(through)), C.SKY), vehicles).all()
