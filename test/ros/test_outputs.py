"""What the node publishes beside the semantic cloud, and that it does so only for whoever subscribes."""

from types import SimpleNamespace

import live_node as live
import numpy as np
import pytest
from live_node import CAR, ROAD, set_parameter

from seg_perception.datatypes import UNKNOWN
from seg_perception.messages.image import decode
from seg_perception.messages.pointcloud import decode_cloud

pytest.importorskip("rclpy")
from sensor_msgs.msg import CompressedImage, Image, PointCloud2

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def node(tmp_path_factory, model, peer):
    groups = {"point_groups": "drivable, rest=car+unknown", "diagnostics_period_s": 0.2}
    with live.running(peer, tmp_path_factory.mktemp("node"), live.parameters(model, output=groups)) as node:
        yield node


def received(peer, message_type, topic):
    """What comes on a topic of the node's for the next good sweep, and the stamp of that sweep."""
    from seg_perception.ros import qos

    topic = f"/perception_node/{topic}"
    messages = []
    subscription = peer.node.create_subscription(message_type, topic, messages.append, qos.published(5))
    peer.wait_until_known()
    stamp = peer.send_good()
    peer.labels_of(stamp)
    of_sweep = peer.spin_until(lambda: [msg for msg in messages if live.stamp_of(msg) == stamp], topic)
    peer.node.destroy_subscription(subscription)
    return of_sweep[0]


def test_pictures_are_drawn_only_while_somebody_looks(node, peer):
    peer.labels_of(peer.send_good())
    peer.spin_until(lambda: "publish" in peer.summary()["latency_ms"], "a sweep to be timed")
    assert "draw" not in peer.summary()["latency_ms"]
    received(peer, Image, "front/overlay")
    peer.spin_until(lambda: "draw" in peer.summary()["latency_ms"], "the drawing to be timed")


@pytest.mark.parametrize(
    ("listened_to", "made"),
    [([], []), (["points"], [["points"]]), (["rest"], [["rest"]]), (["points", "rest"], [["points", "rest"]])],
)
def test_clouds_are_made_once_and_only_while_somebody_subscribes(monkeypatch, listened_to, made):
    import small_world as world

    from seg_perception.pipeline import Pipeline
    from seg_perception.ros import outputs

    encoded, published = [], []
    encode = outputs.encode_semantic_cloud
    monkeypatch.setattr(outputs, "encode_semantic_cloud", lambda *given: encoded.append(1) or encode(*given))
    monkeypatch.setattr(outputs.serialized, "publish", lambda publisher, content: publisher.publish(content))

    def publisher(name):
        return SimpleNamespace(
            get_subscription_count=lambda: int(name in listened_to), publish=lambda content: published.append(name)
        )

    config = world.config(output={"point_groups": "rest=car+unknown"})
    pipeline = Pipeline(config, world.LeftRightSegmenter(), world.tree())
    result = pipeline.process(world.scan(), {})
    given = outputs.Outputs(None, config, pipeline.taxonomy, {"front": pipeline.taxonomy})
    given._points, given._group_points = {"": publisher("points")}, {("", "rest"): publisher("rest")}
    given.publish(result)
    assert (len(encoded), [published] if published else []) == (len(made), made)


def check_labels(labels):
    assert labels.shape[:2] == (live.HEIGHT, live.WIDTH)
    assert (labels[:, :90] == ROAD).all()
    assert (labels[:, 110:] == CAR).all()


def test_a_label_image_holds_train_ids_raw_and_compressed_alike(node, peer):
    raw = received(peer, Image, "front/label_image")
    assert raw.encoding == "mono8"
    check_labels(np.frombuffer(raw.data, np.uint8).reshape(raw.height, raw.width))
    compressed = received(peer, CompressedImage, "rear/label_image/compressed")
    assert compressed.format == "mono8; png compressed mono8"
    check_labels(decode(compressed, "rear").pixels[..., 0])


def test_a_confidence_image_says_how_sure_the_network_is(node, peer):
    raw = received(peer, Image, "front/confidence")
    assert raw.encoding == "mono8"
    certain = np.frombuffer(raw.data, np.uint8).reshape(raw.height, raw.width)
    assert certain[50, 20] == certain[50, 180] == 255
    compressed = received(peer, CompressedImage, "front/confidence/compressed")
    np.testing.assert_array_equal(decode(compressed, "front").pixels[..., 0], certain)


def test_an_overlay_is_the_picture_with_its_labels_raw_and_compressed(node, peer):
    raw = decode(received(peer, Image, "front/overlay"), "front").pixels
    assert raw[50, 20].tolist() == [192, 32, 64]  # half red, half the colour of road
    compressed = received(peer, CompressedImage, "front/overlay/compressed")
    assert "jpeg" in compressed.format
    assert np.abs(decode(compressed, "front").pixels[50, 20].astype(int) - raw[50, 20]).max() <= 4


def test_a_group_has_a_cloud_of_its_own_points_with_every_field(node, peer):
    drivable = decode_cloud(received(peer, PointCloud2, "points/drivable"))
    assert drivable.field("class_id").tolist() == [ROAD]
    assert drivable.field("intensity").tolist() == [0.0]
    rest = decode_cloud(received(peer, PointCloud2, "points/rest"))
    assert rest.field("class_id").tolist() == [CAR, UNKNOWN]
    assert rest.field("x").tolist() == [10.0, -10.0]


def test_statistics_are_numbers_by_name(node, peer):
    from std_msgs.msg import Float64MultiArray

    from seg_perception.ros import qos

    messages = []
    subscription = peer.node.create_subscription(
        Float64MultiArray, "/perception_node/statistics", messages.append, qos.published(5)
    )
    peer.wait_until_known()
    peer.labels_of(peer.send_good())
    peer.spin_until(lambda: messages, "statistics")
    peer.node.destroy_subscription(subscription)
    numbers = dict(zip([dim.label for dim in messages[-1].layout.dim], messages[-1].data, strict=True))
    assert numbers["sweeps_in"] >= 1
    assert 0.0 < numbers["latency_ms.total.median"] < 60_000.0
    assert 0.0 <= numbers["age_s/points"] < 60.0


def test_live_settings_change_while_it_runs(node, peer):
    assert set_parameter(peer, "output.overlay_alpha", 0.0).successful
    assert decode(received(peer, Image, "front/overlay"), "front").pixels[50, 20].tolist() == [255, 0, 0]
    assert set_parameter(peer, "output.point_groups", "drivable=car, rest=unknown").successful
    assert decode_cloud(received(peer, PointCloud2, "points/drivable")).field("class_id").tolist() == [CAR]
    assert set_parameter(peer, "pairing.window_ms", 0.1).successful
    assert peer.labels_of(peer.send_good()) == [ROAD, CAR, UNKNOWN]  # by the camera without an offset
    assert set_parameter(peer, "visibility.depth_tolerance_m", 0.5).successful
    assert set_parameter(peer, "painting.min_probability", 1.0).successful
    assert peer.labels_of(peer.send_good()) == [UNKNOWN] * 3


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("output.point_groups", "drivable=hovercraft, rest=unknown", "hovercraft"),
        ("output.point_groups", "elsewhere=car", "are topics"),
        ("output.overlay_alpha", 1.5, "overlay_alpha"),
        ("painting.min_probability", "much", "DOUBLE"),
        ("motion.mode", "auto", "clean up first"),
        ("camera.front.offset_ms", 5.0, "clean up first"),
        ("camera.front.model", "other.onnx", "clean up first"),
        ("voxel_map.voxel_m", 0.5, "clean up first"),
        ("visibility.method", "guess", "patches"),
    ],
)
def test_what_cannot_change_or_cannot_be_is_refused_with_the_reason(node, peer, name, value, reason):
    result = set_parameter(peer, name, value)
    assert not result.successful
    assert reason in result.reason


def test_label_info_is_there_for_whoever_comes_late(node, peer):
    from vision_msgs.msg import LabelInfo

    from seg_perception.ros import qos

    infos = []
    subscription = peer.node.create_subscription(
        LabelInfo, "/perception_node/front/label_info", infos.append, qos.latched()
    )
    peer.spin_until(lambda: infos, "the latched LabelInfo")
    peer.node.destroy_subscription(subscription)
    assert {entry.class_id: entry.class_name for entry in infos[0].class_map}[CAR] == "car"
