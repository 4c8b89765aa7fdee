"""Everything around the node fails, and comes back: sensors, /tf, the process itself, and its share of the machine."""

import signal
import time

import live_node as live
import pytest
from live_node import CAR, ROAD

from seg_perception.datatypes import UNKNOWN

pytestmark = pytest.mark.ros

GOOD = [ROAD, CAR, UNKNOWN]
FRONT, POINTS = "/front/image_raw", "/points"
OK, WARN = b"\x00", b"\x01"  # of diagnostic_msgs/DiagnosticStatus
SWEEP_S = 0.2
SLOW = f"""
import sys, threading, time
from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter
from seg_perception.ros.node import main

segment_all, one_at_a_time = OnnxRuntimeSegmenter.segment_all, threading.Lock()

def slowly(self, pictures):
    with one_at_a_time:
        time.sleep({SWEEP_S} * len(pictures))
    return segment_all(self, pictures)

OnnxRuntimeSegmenter.segment_all = slowly
sys.exit(main(sys.argv))
"""
PATIENT = """
import sys
from seg_perception import intake
from seg_perception.ros.node import main

intake._SETTLING_S = 60.0  # however slow the machine is
sys.exit(main(sys.argv))
"""
STALLED = """
import os, sys, time
from seg_perception.ros.inputs import Inputs
from seg_perception.ros.node import main

note, noted = Inputs._note, []

def stalling(self, topic, msg):
    note(self, topic, msg)
    noted.append(topic)
    if topic == "/points" and noted.count(topic) == 2:
        print("stalled", flush=True)
        while os.path.exists({go_on!r}):
            time.sleep(0.01)

Inputs._note = stalling
sys.exit(main(sys.argv))
"""


@pytest.fixture
def start(tmp_path, model, peer):
    """start(program, **params) -> a node that we are connected to; stopped at the end, with exit code 0.

    connect: whether to wait until the one before is gone, and this one is there.
    """
    nodes = []

    def run(*program, connect=True, **params):
        if connect:
            peer.wait_until_alone()
        peer.clouds.clear()
        nodes.append(live.NodeProcess(tmp_path, live.parameters(model, **params), program or live.PROGRAM))
        if connect:
            peer.wait_until_connected(nodes[-1])
        return nodes[-1]

    yield run
    running = [node for node in nodes if node.alive]
    codes = [node.stop() for node in nodes]
    assert codes[len(codes) - len(running) :] == [0] * len(running)
    assert not any("Traceback" in node.log for node in nodes)


def feed_until(peer, part, level, words="", without=()):
    """Send sweep after sweep, each rightly labelled, until that part of the diagnostics says so."""
    end_s = time.monotonic() + live.PATIENCE_S
    peer.statuses.clear()
    while True:
        stamp = peer.send_good(without=without)
        if POINTS in without:
            peer.spin_for(0.1)
        else:
            assert peer.labels_of(stamp) == GOOD
        status = peer.statuses.get(f"perception_node: {part}")
        if status is not None and status.level == level and words in status.message:
            return
        assert time.monotonic() < end_s, f"waited in vain for {part} to be {level!r} {words}; it is {status}"


def test_sensors_that_stop_are_named_and_used_again_when_they_are_back(start, peer):
    start()
    assert peer.labels_of(peer.send_good()) == GOOD
    feed_until(peer, "camera front", WARN, "no image came", without=(FRONT,))  # the other camera sees the same
    feed_until(peer, "camera front", OK)
    feed_until(peer, "sweeps", WARN, "no sweep came", without=(POINTS,))
    feed_until(peer, "sweeps", OK)


def test_without_camera_infos_nothing_is_labelled_until_they_come(start, peer):
    start()
    infos = ("/front/camera_info", "/rear/camera_info")
    assert peer.labels_of(peer.send_good(without=infos)) == [UNKNOWN] * 3
    peer.spin_until(lambda: "no usable CameraInfo yet" in peer.last_words("calibration/front"), "that to be said")
    assert peer.labels_of(peer.send_good()) == GOOD
    assert peer.labels_of(peer.send_good(without=infos)) == GOOD


def odometry(stamp_ns):
    return live.tf_message(live.transform("odom", "lidar", stamp_ns))


def test_a_sweep_waits_for_tf_that_is_late_and_goes_without_tf_that_never_comes(start, peer):
    start(motion={"mode": "auto"}, pairing={"deadline_ms": 10_000.0})
    peer.send("/tf", odometry(peer.stamp_ns))
    stamp = peer.send_good()
    peer.spin_for(0.3)
    assert stamp not in peer.clouds
    peer.send("/tf", odometry(stamp + live.STEP_NS))
    assert peer.labels_of(stamp) == GOOD
    peer.stamp_ns += live.STEP_NS
    assert "motion_assumed_static" not in peer.causes()
    assert live.set_parameter(peer, "pairing.deadline_ms", 400.0).successful
    assert peer.labels_of(peer.send_good()) == GOOD  # after its deadline
    peer.spin_until(lambda: peer.causes().get("motion_assumed_static"), "the missing odometry to be counted")
    assert "odom" in peer.last_words("motion_assumed_static")


def test_the_first_sweep_waits_for_the_place_of_its_camera(start, peer):
    start("-c", PATIENT, pairing={"deadline_ms": 10_000.0})
    stamp = peer.stamp_ns + live.STEP_NS
    image = live.raw_image("front", stamp, live.picture())
    image.header.frame_id = "new_optical"
    assert peer.send_good(instead={FRONT: image}) == stamp
    peer.spin_for(0.1)
    assert stamp not in peer.clouds
    peer.send("/tf_static", live.tf_message(live.transform("lidar", "new_optical", 0)))
    assert peer.labels_of(stamp) == GOOD
    peer.spin_until(lambda: peer.causes().get("tf_awaited") == 1, "the wait to be counted")
    assert "tf_unknown_frame/front" not in peer.causes()


def is_idle(peer):
    """Whether every sweep that the node has taken is out or was dropped."""
    summary = peer.summary()
    return summary["sweeps_in"] == summary["sweeps_out"] + summary["causes"].get("sweep_overload", 0)


@pytest.mark.slow
def test_no_sweep_goes_without_odometry_that_comes_after_it_however_late_the_sweep_is_served(start, peer):
    start("-c", SLOW, motion={"mode": "required"})
    peer.send("/tf", odometry(peer.stamp_ns))
    end_s = time.monotonic() + 5.0
    while time.monotonic() < end_s or not (peer.causes().get("sweep_overload", 0) > 5 < peer.summary()["sweeps_out"]):
        stamp = peer.send_good()
        peer.send("/tf", odometry(stamp + live.STEP_NS))
        peer.spin_for(SWEEP_S / 3)
        assert time.monotonic() < end_s + live.PATIENCE_S, peer.summary()
    summary = peer.spin_until(lambda: is_idle(peer) and peer.summary(), "the last sweep")
    assert not {cause for cause in summary["causes"] if cause.startswith(("motion", "tf_e", "tf_u"))}
    assert summary["sweeps_out"] == summary["sweeps_labelled"] > 5


def edge_of(peer, child):
    values = {pair.key: pair.value for pair in peer.statuses["perception_node: transforms"].values}
    return values.get(f"edge.{child}", "")


def test_tf_that_comes_in_the_wrong_order_is_put_in_order(start, peer):
    start(motion={"mode": "required"}, pairing={"deadline_ms": 2000.0})
    first = peer.stamp_ns
    for step in (5, 3, 4, 1, 2, 0):
        peer.send("/tf", odometry(first + step * live.STEP_NS))
    peer.spin_until(lambda: "6 samples" in edge_of(peer, "lidar"), "all of the odometry to be taken")
    for _ in range(4):
        assert peer.labels_of(peer.send_good()) == GOOD
    assert not any(cause.startswith("tf") for cause in peer.causes())


def test_one_sweep_or_image_from_another_time_is_dropped_and_a_clock_that_jumps_is_followed(start, peer):
    start()
    assert peer.labels_of(peer.send_good()) == GOOD
    for seconds, which in ((-60, "behind"), (60, "ahead")):
        stray = peer.stamp_ns + seconds * 10**9
        peer.send(POINTS, live.cloud(stray))
        peer.send(FRONT, live.raw_image("front", stray, live.picture()))
        assert peer.labels_of(peer.send_good()) == GOOD
        for cause in (f"sweep_far_{which}", f"image_far_{which}/front"):
            peer.spin_until(lambda cause=cause: peer.causes().get(cause) == 1, f"{cause} to be counted")
        assert stray not in peer.clouds
    assert not [cause for cause in peer.causes() if "jump" in cause or "no_image" in cause]
    peer.stamp_ns -= 600 * 10**9
    first, second = peer.send_good(), peer.send_good()
    assert [peer.labels_of(first), peer.labels_of(second)] == [GOOD, GOOD]
    peer.spin_until(lambda: peer.causes().get("time_jump") == 1, "the jump to be counted")
    peer.stamp_ns += 600 * 10**9


SCENE = {part: {"enabled": True} for part in ("objects", "voxel_map", "bev")}


def ride(peer, sweeps):
    """So many sweeps, each after the one before the last is labelled, as a clock that jumps is believed at the second;
    the vehicle 0.5 m further with each, the odometry before it."""
    stamps = []
    for k in range(sweeps):
        at = peer.stamp_ns + live.STEP_NS
        edges = (live.transform("odom", "lidar", at + i * live.STEP_NS, (0.5 * (k + i), 0.0, 0.0)) for i in (0, 1))
        peer.send("/tf", live.tf_message(*edges))
        stamps.append(peer.send_good())
        if k:
            assert peer.labels_of(stamps[-2]) == GOOD
    assert peer.labels_of(stamps[-1]) == GOOD


def voxels(peer):
    """That the map holds, as the diagnostics tell."""
    values = {pair.key: pair.value for pair in peer.statuses["perception_node: scene"].values}
    return int(values["voxels"])


def test_a_clock_that_jumps_back_leaves_nothing_of_the_old_time_in_the_scene_and_the_new_one_begins(start, peer):
    start(motion={"mode": "auto"}, pairing={"deadline_ms": 10000.0}, **SCENE)
    ride(peer, 12)
    peer.spin_until(lambda: peer.summary()["sweeps_out"] == 12 and voxels(peer) >= 12, "all of it in the map")
    peer.stamp_ns -= 600 * 10**9
    ride(peer, 3)
    peer.spin_until(lambda: peer.summary()["sweeps_out"] == 15 and voxels(peer) <= 6, "a map of the new time alone")
    causes = peer.causes()
    assert causes["time_jump"] == 1
    assert not [cause for cause in causes if cause.startswith(("scene", "motion", "internal", "no_image"))]
    peer.stamp_ns += 600 * 10**9


def test_a_node_that_is_killed_while_the_sensors_go_on_is_replaced_by_one_that_goes_on(start, peer):
    killed = start()
    assert peer.labels_of(peer.send_good()) == GOOD
    killed.stop(signal.SIGKILL)
    peer.spin_for(0.3)  # what it published is still on its way
    start(connect=False)

    def labelled():
        peer.send_good()
        return any(live.labels(cloud) == GOOD for cloud in peer.clouds.values())

    peer.spin_until(labelled, "the second node to label", live.START_S)
    assert "time_jump" not in peer.causes()


def test_a_driver_that_is_started_again_is_used_again_and_nothing_counts_as_overwritten(start, peer):
    """Its messages are numbered anew."""
    from sensor_msgs.msg import Image, PointCloud2

    from seg_perception.ros import qos

    start()
    for _ in range(3):
        assert peer.labels_of(peer.send_good()) == GOOD
    for topic, kind in ((FRONT, Image), (POINTS, PointCloud2)):
        peer.node.destroy_publisher(peer.publishers[topic])
        peer.spin_for(0.3)
        peer.publishers[topic] = peer.node.create_publisher(kind, topic, qos.published(10))
    peer.wait_until_known()
    for _ in range(3):
        assert peer.labels_of(peer.send_good()) == GOOD
    peer.spin_until(lambda: peer.summary()["sweeps_out"] == 6, "all six to be counted")
    assert not [cause for cause in peer.causes() if "overwritten" in cause or "jump" in cause]


def test_a_camera_that_changes_its_size_on_the_drive_is_used_again_once_image_and_camera_info_agree(start, peer):
    """The other camera is silent, so that nobody stands in for it."""
    start(pairing={"deadline_ms": 100.0})
    rear = ("/rear/image_raw/compressed", "/rear/camera_info")

    def send(info_scale, image_scale):
        stamp = peer.stamp_ns + live.STEP_NS
        info = live.camera_info("front", stamp, [value * info_scale if value != 1.0 else 1.0 for value in live.K])
        info.width, info.height = live.WIDTH * info_scale, live.HEIGHT * info_scale
        pixels = live.picture().repeat(image_scale, axis=0).repeat(image_scale, axis=1)
        image = live.raw_image("front", stamp, pixels)
        return peer.labels_of(peer.send_good(without=rear, instead={FRONT: image, "/front/camera_info": info}))

    assert send(1, 1) == GOOD
    assert send(2, 1) == [UNKNOWN] * 3
    assert send(2, 2) == GOOD
    peer.spin_until(lambda: peer.causes().get("calibration/front") == 1, "the sweep between to be counted")
    assert "image is 200 x 100, 400 x 200 wanted" in peer.last_words("calibration/front")
    assert send(1, 1) == GOOD


def not_taken(peer):
    """The number of sweeps that are known not to have come as far as the node's own queue."""
    return sum(peer.causes().get(f"{cause}/points", 0) for cause in ("overwritten_unread", "lost_in_transport"))


def all_accounted_for(peer, sent):
    return is_idle(peer) and peer.summary()["sweeps_in"] + not_taken(peer) == sent


def test_messages_that_are_overwritten_before_the_node_takes_them_are_counted(start, peer, tmp_path):
    go_on = tmp_path / "stalls while this is here"
    go_on.touch()
    node = start("-c", STALLED.format(go_on=str(go_on)))
    for _ in range(2):
        peer.send_good()
    peer.spin_until(lambda: "stalled" in node.log, "the node to stall")
    for _ in range(38):
        peer.send_good()
        peer.spin_for(0.02)
    go_on.unlink()
    peer.send_good()

    peer.spin_until(lambda: all_accounted_for(peer, 41), "each of 41 sweeps to be taken or counted")
    assert peer.causes()["overwritten_unread/points"] > 0
    assert "/points: newer messages came" in peer.last_words("overwritten_unread/points")


@pytest.mark.slow
def test_three_times_the_load_that_it_can_serve_costs_sweeps_and_not_time(start, peer):
    """A sweep's time is told in clouds that come between its sending and its own: as many as the queues hold at most,
    however slow the machine is."""
    start("-c", SLOW)
    peer.labels_of(peer.send_good())
    came_before = {}
    end_s = time.monotonic() + 10.0
    while time.monotonic() < end_s:
        came_before[peer.send_good()] = len(peer.clouds)
        peer.spin_for(SWEEP_S / 3)
    peer.spin_until(lambda: all_accounted_for(peer, len(came_before) + 1), "each sweep to be taken or counted")
    behind = [k - came_before[stamp] for k, stamp in enumerate(peer.clouds) if stamp in came_before]
    assert len(behind) > 5
    assert max(behind) <= 5 + 5 + 2  # in DDS's queue, in the node's, at work, and one that waits for its image
    assert peer.causes()["sweep_overload"] + not_taken(peer) > len(came_before) / 3
