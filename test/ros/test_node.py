"""The live node, over DDS: what it says of good input, and how it takes bad input."""

import array

import live_node as live
import numpy as np
import pytest
from live_node import CAR, ROAD

from seg_perception.datatypes import UNKNOWN

pytestmark = pytest.mark.ros

OVERRIDE = {"qos_overrides./front/camera_info.subscription.reliability": "reliable"}
GOOD = [ROAD, CAR, UNKNOWN]


@pytest.fixture(scope="module")
def node(tmp_path_factory, model, peer):
    with live.running(peer, tmp_path_factory.mktemp("node"), live.parameters(model, **OVERRIDE)) as node:
        yield node


def test_a_good_sweep_is_labelled_and_keeps_every_field_it_had(node, peer):
    stamp = peer.send_good()
    assert peer.labels_of(stamp) == GOOD
    msg = peer.clouds[stamp]
    assert msg.header.frame_id == "lidar"
    assert [field.name for field in msg.fields] == [
        "x", "y", "z", "intensity", "rgb", "class_id", "probability", "instance_id",
    ]  # fmt: skip


def test_rgb_is_the_color_of_the_class_as_rviz_unpacks_it(node, peer):
    stamp = peer.send_good()
    peer.labels_of(stamp)
    msg = peer.clouds[stamp]
    offset = next(field.offset for field in msg.fields if field.name == "rgb")
    packed = np.frombuffer(msg.data, "<u4", 1, offset)[0]
    assert (packed >> 16 & 255, packed >> 8 & 255, packed & 255) == (128, 64, 128)


def bad_input(name, stamp_ns):
    """(topic, message), and the cause under which it is counted."""
    good = live.cloud(stamp_ns)
    if name == "truncated cloud":
        good.data = good.data[:-5]
        return "/points", good, "bad_message"
    if name == "NaN-only cloud":
        return "/points", live.cloud(stamp_ns, np.full((5, 3), np.nan, np.float32)), "cloud_without_points"
    if name == "empty cloud":
        return "/points", live.cloud(stamp_ns, np.empty((0, 3), np.float32)), "cloud_without_points"
    if name == "cloud with stamp 0":
        return "/points", live.cloud(0), "bad_stamp"
    if name == "zero K":
        return "/front/camera_info", live.camera_info("front", stamp_ns, [0.0] * 9), "calibration"
    image = live.raw_image("front", stamp_ns, live.picture())
    if name == "unknown encoding":
        image.encoding = "rgb9"
        return "/front/image_raw", image, "bad_message"
    if name == "image with stamp 0":
        image.header.stamp.sec = image.header.stamp.nanosec = 0
        return "/front/image_raw", image, "bad_stamp"
    if name == "missing TF":
        image.header.frame_id = "nowhere"
        return "/front/image_raw", image, "tf_unknown_frame/front"
    if name == "corrupt JPEG":
        jpeg = live.compressed_image("rear", stamp_ns, live.picture())
        jpeg.data = array.array("B", bytes(jpeg.data)[: len(jpeg.data) // 2])
        return "/rear/image_raw/compressed", jpeg, "bad_message"
    raise AssertionError(name)


@pytest.mark.parametrize(
    "name",
    [
        "truncated cloud",
        "NaN-only cloud",
        "empty cloud",
        "cloud with stamp 0",
        "zero K",
        "unknown encoding",
        "image with stamp 0",
        "missing TF",
        "corrupt JPEG",
    ],
)
def test_bad_input_is_counted_and_explained_and_the_next_good_sweep_is_labelled(node, peer, name):
    topic, msg, cause = bad_input(name, peer.stamp_ns + live.STEP_NS)
    before = peer.causes().get(cause, 0)
    peer.send_good(instead={topic: msg})
    peer.spin_until(lambda: peer.causes().get(cause, 0) > before, f"'{cause}' to be counted")
    assert len(peer.last_words(cause)) > 20
    assert node.alive
    assert peer.labels_of(peer.send_good()) == GOOD


def test_an_image_without_a_sweep_of_its_own_does_no_harm_and_a_silent_camera_does_not_stop_the_output(node, peer):
    stamp = peer.send_good(without=("/rear/image_raw/compressed",))
    assert peer.labels_of(stamp) == GOOD
    peer.spin_until(
        lambda: any(cause.endswith("/rear") and cause.startswith("no_image") for cause in peer.causes()),
        "the missing image to be counted",
    )


def test_no_usable_camera_still_gives_a_cloud_all_unknown(node, peer):
    stamp = peer.send_good(without=("/rear/image_raw/compressed", "/front/image_raw"))
    assert peer.labels_of(stamp) == [UNKNOWN] * 3


def test_diagnostics_tell_latency_rates_and_transforms(node, peer):
    peer.labels_of(peer.send_good())
    names = {
        f"perception_node: {part}" for part in ("sweeps", "camera front", "camera rear", "transforms", "inference")
    }
    assert names <= set(peer.statuses)
    latency = peer.spin_until(lambda: peer.summary()["latency_ms"], "a sweep to be timed")
    assert {"segment", "project", "hide", "paint", "publish", "total"} <= set(latency)
    assert all(0 <= stage["median"] <= stage["p99"] for stage in latency.values())
    transforms = {pair.key: pair.value for pair in peer.statuses["perception_node: transforms"].values}
    assert "static" in transforms["edge.front_optical"]


def test_a_publisher_that_offers_less_than_is_asked_for_is_named(node, peer):
    from tf2_msgs.msg import TFMessage

    from seg_perception.ros import qos

    publisher = peer.node.create_publisher(TFMessage, "/tf", qos.sensor_input(5))
    peer.spin_until(lambda: peer.causes().get("incompatible_qos/tf"), "the incompatible publisher to be counted")
    peer.node.destroy_publisher(publisher)
    assert "RELIABILITY" in peer.last_words("incompatible_qos/tf")


def test_qos_follows_the_overrides_of_the_parameter_file(node, peer):
    from rclpy.qos import ReliabilityPolicy

    def reliability(topic):
        infos = peer.node.get_subscriptions_info_by_topic(topic)
        return {info.qos_profile.reliability for info in infos if info.node_name == "perception_node"}

    assert reliability("/front/image_raw") == {ReliabilityPolicy.BEST_EFFORT}
    assert reliability("/front/camera_info") == {ReliabilityPolicy.RELIABLE}
