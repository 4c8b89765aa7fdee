"""Settings of single cameras, in the live node: when they are segmented, what of them, and whose calibration counts."""

import cv2
import live_node as live
import numpy as np
import pytest
import yaml
from live_node import CAR, HEIGHT, ROAD, WIDTH

from seg_perception.datatypes import UNKNOWN

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def node(tmp_path_factory, model, peer):
    """`front` is segmented by itself, calibrated by a file; its left half is the vehicle's body. `rear` is cropped."""
    folder = tmp_path_factory.mktemp("node")
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[:, : WIDTH // 2] = 0
    cv2.imwrite(str(folder / "mask.png"), mask)
    calibration = {
        "image_width": WIDTH,
        "image_height": HEIGHT,
        "camera_matrix": {"data": live.K},
        "distortion_model": "plumb_bob",
        "distortion_coefficients": {"data": [0.0] * 5},
        "rectification_matrix": {"data": np.eye(3).ravel().tolist()},
        "projection_matrix": {"data": [0.0] * 12},
    }
    (folder / "front.yaml").write_text(yaml.safe_dump(calibration))
    params = live.parameters(model)
    params["camera"]["front"].update(
        segment="every", mask=str(folder / "mask.png"), calibration=str(folder / "front.yaml")
    )
    params["camera"]["rear"].update(crop="100x100+0+0")
    del peer.publishers["/front/camera_info"]
    with live.running(peer, folder, params) as node:
        yield node


NO_CALIBRATION = ("/front/camera_info",)


def test_a_calibration_file_is_enough_and_what_is_masked_or_cropped_away_paints_nothing(node, peer):
    stamp = peer.send_good(without=(*NO_CALIBRATION, "/rear/image_raw/compressed"))
    assert peer.labels_of(stamp) == [UNKNOWN, CAR, UNKNOWN]
    stamp = peer.send_good(without=(*NO_CALIBRATION, "/front/image_raw"))
    assert peer.labels_of(stamp) == [ROAD, UNKNOWN, UNKNOWN]
    assert "calibration/front" not in peer.causes()


def test_an_image_is_segmented_without_any_sweep(node, peer):
    from sensor_msgs.msg import Image

    from seg_perception.ros import qos

    images = []
    topic = "/perception_node/front/label_image"
    subscription = peer.node.create_subscription(Image, topic, images.append, qos.published(5))
    peer.wait_until_known()
    stamp = peer.send_good(without=(*NO_CALIBRATION, "/rear/image_raw/compressed", "/points"))
    of_stamp = peer.spin_until(lambda: [msg for msg in images if live.stamp_of(msg) == stamp], "the label image")
    peer.node.destroy_subscription(subscription)
    labels = np.frombuffer(of_stamp[0].data, np.uint8).reshape(HEIGHT, WIDTH)
    assert (labels[:, :90] == UNKNOWN).all()
    assert (labels[:, 110:] == CAR).all()
    assert len(of_stamp) == 1
