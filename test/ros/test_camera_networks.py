"""A camera with a network of its own, in the live node: its labels in the cloud, its classes in its pictures."""

import os
from contextlib import ExitStack

import live_node as live
import numpy as np
import pytest
from live_node import CAR, HEIGHT, ROAD, WIDTH

from seg_perception.datatypes import UNKNOWN

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def node(tmp_path_factory, model, peer):
    """`rear` has three classes, of which it calls one otherwise than the cloud. The machine has no driver of a GPU."""
    folder = tmp_path_factory.mktemp("node")
    params = live.parameters(model)
    params["camera"]["rear"].update(live.three_class_model(folder / "three.onnx"))
    params["inference"].update(backend="auto", tf32=False)  # which is of engines
    (folder / "libcuda.so.1").write_bytes(b"")
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("LD_LIBRARY_PATH", str(folder), prepend=os.pathsep)
            environment.setenv("XDG_CACHE_HOME", str(folder))
            node = stack.enter_context(live.running(peer, folder, params))
        yield node


def test_the_cloud_has_the_classes_of_its_own_taxonomy_from_every_network(node, peer):
    for camera in ("/rear/image_raw/compressed", "/front/image_raw"):
        assert peer.labels_of(peer.send_good(without=(camera,))) == [ROAD, CAR, UNKNOWN]


def latched(peer, topic):
    from vision_msgs.msg import LabelInfo

    from seg_perception.ros import qos

    infos = []
    subscription = peer.node.create_subscription(LabelInfo, topic, infos.append, qos.latched())
    peer.spin_until(lambda: infos, topic)
    peer.node.destroy_subscription(subscription)
    return [entry.class_name for entry in infos[0].class_map]


def test_each_picture_has_the_classes_of_its_network_and_says_so(node, peer):
    from sensor_msgs.msg import Image

    from seg_perception.ros import qos

    assert latched(peer, "/perception_node/rear/label_info") == ["asphalt", "car", "hedge"]
    assert len(latched(peer, "/perception_node/front/label_info")) == 19
    assert len(latched(peer, "/perception_node/label_info")) == 19
    images = []
    topic = "/perception_node/rear/label_image"
    subscription = peer.node.create_subscription(Image, topic, images.append, qos.published(5))
    peer.wait_until_known()
    peer.labels_of(peer.send_good())
    peer.spin_until(lambda: images, "the label image")
    peer.node.destroy_subscription(subscription)
    labels = np.frombuffer(images[0].data, np.uint8).reshape(HEIGHT, WIDTH)
    assert labels[HEIGHT // 2, [10, WIDTH - 10]].tolist() == [0, 1]


def test_diagnostics_name_what_runs_each_camera(node, peer):
    status = peer.spin_until(lambda: peer.statuses.get("perception_node: inference"), "its status")
    values = {pair.key: pair.value for pair in status.values}
    assert values["rear.model"].endswith("three.onnx")
    assert values["front.model"].endswith("colors.onnx")
    assert "CPU" in values["rear.backend"]
    assert values["settings_without_effect"] == "inference.tf32: False"


def test_diagnostics_say_once_for_both_networks_why_auto_took_no_tensorrt(node, peer):
    status = peer.spin_until(lambda: peer.statuses.get("perception_node: inference"), "its status")
    reason = {pair.key: pair.value for pair in status.values}["no_tensorrt"]
    assert reason.startswith("no NVIDIA driver: libcuda.so.1 cannot be loaded (")
    assert "install the driver" in reason
    assert node.log.count(f"backend auto: no TensorRT: {reason}") == 1


def test_classes_that_have_no_place_in_the_cloud_end_the_start_in_a_sentence(tmp_path, model):
    params = live.parameters(model)
    params["camera"]["rear"].update(live.three_class_model(tmp_path / "three.onnx"), class_map="")
    node = live.NodeProcess(tmp_path, params)
    assert node.wait() == 1
    assert "camera.rear.class_map" in node.log
    assert "Traceback" not in node.log
