"""tf2_msgs and vision_msgs, generated or sourced, are the standard ones and travel through rclpy."""

from __future__ import annotations

import json
import os
import time
from importlib import import_module
from typing import Any

import pytest
from rosbags.typesys import Stores, get_typestore

pytestmark = pytest.mark.ros

VISION_MSGS = {
    "BoundingBox2D": {"center": "vision_msgs/Pose2D", "size_x": "double", "size_y": "double"},
    "BoundingBox2DArray": {"header": "std_msgs/Header", "boxes": "sequence<vision_msgs/BoundingBox2D>"},
    "BoundingBox3D": {"center": "geometry_msgs/Pose", "size": "geometry_msgs/Vector3"},
    "BoundingBox3DArray": {"header": "std_msgs/Header", "boxes": "sequence<vision_msgs/BoundingBox3D>"},
    "Classification": {"header": "std_msgs/Header", "results": "sequence<vision_msgs/ObjectHypothesis>"},
    "Detection2D": {
        "header": "std_msgs/Header",
        "results": "sequence<vision_msgs/ObjectHypothesisWithPose>",
        "bbox": "vision_msgs/BoundingBox2D",
        "id": "string",
    },
    "Detection2DArray": {"header": "std_msgs/Header", "detections": "sequence<vision_msgs/Detection2D>"},
    "Detection3D": {
        "header": "std_msgs/Header",
        "results": "sequence<vision_msgs/ObjectHypothesisWithPose>",
        "bbox": "vision_msgs/BoundingBox3D",
        "id": "string",
    },
    "Detection3DArray": {"header": "std_msgs/Header", "detections": "sequence<vision_msgs/Detection3D>"},
    "LabelInfo": {
        "header": "std_msgs/Header",
        "class_map": "sequence<vision_msgs/VisionClass>",
        "threshold": "float",
    },
    "ObjectHypothesis": {"class_id": "string", "score": "double"},
    "ObjectHypothesisWithPose": {
        "hypothesis": "vision_msgs/ObjectHypothesis",
        "pose": "geometry_msgs/PoseWithCovariance",
    },
    "Point2D": {"x": "double", "y": "double"},
    "Pose2D": {"position": "vision_msgs/Point2D", "theta": "double"},
    "VisionClass": {"class_id": "uint16", "class_name": "string"},
    "VisionInfo": {
        "header": "std_msgs/Header",
        "method": "string",
        "database_location": "string",
        "database_version": "int32",
    },
}
"""The fields of vision_msgs 4.1.1, in order, as rosidl names their types."""


def message_class(package: str, name: str) -> Any:
    return getattr(import_module(f"{package}.msg"), name)


@pytest.mark.parametrize("name", VISION_MSGS)
def test_vision_message_has_the_standard_fields_in_order(name: str) -> None:
    fields = message_class("vision_msgs", name).get_fields_and_field_types()
    assert list(fields.items()) == list(VISION_MSGS[name].items())


@pytest.mark.parametrize("name", ["TFMessage", "TF2Error"])
def test_tf2_message_has_the_fields_and_constants_of_an_independent_definition(name: str) -> None:
    constants, fields = get_typestore(Stores.ROS2_JAZZY).fielddefs[f"tf2_msgs/msg/{name}"]
    generated = message_class("tf2_msgs", name)
    assert list(generated.get_fields_and_field_types()) == [field for field, _ in fields]
    assert {key: getattr(generated, key) for key, _, _ in constants} == {key: value for key, _, value in constants}


def test_tf_message_has_the_type_hash_that_a_vehicle_announces() -> None:
    share = import_module("ament_index_python.packages").get_package_share_path("tf2_msgs")
    description = share / "msg" / "TFMessage.json"
    if not description.is_file():
        pytest.skip("this ROS 2 has no type hashes (they came with Iron)")
    hashes = {entry["type_name"]: entry["hash_string"] for entry in json.loads(description.read_text())["type_hashes"]}
    assert hashes["tf2_msgs/msg/TFMessage"] == get_typestore(Stores.ROS2_JAZZY).hash_rihs01("tf2_msgs/msg/TFMessage")


@pytest.mark.parametrize("package", ["tf2_msgs", "vision_msgs"])
def test_ament_index_knows(package: str) -> None:
    packages = import_module("ament_index_python.packages")
    assert (packages.get_package_share_path(package) / "package.xml").is_file()


def test_messages_survive_serialization() -> None:
    serialization = import_module("rclpy.serialization")
    label_info = message_class("vision_msgs", "LabelInfo")
    vision_class = message_class("vision_msgs", "VisionClass")
    sent = label_info(class_map=[vision_class(class_id=13, class_name="car")], threshold=0.5)
    assert serialization.deserialize_message(serialization.serialize_message(sent), label_info) == sent


def test_transform_published_over_dds_arrives_whole() -> None:
    rclpy = import_module("rclpy")
    message = message_class("tf2_msgs", "TFMessage")
    transform = message_class("geometry_msgs", "TransformStamped")()
    transform.header.frame_id, transform.child_frame_id = "odom", "base_link"
    transform.transform.translation.x = 1.5
    received: list[Any] = []

    context = rclpy.context.Context()
    rclpy.init(context=context, domain_id=1 + os.getpid() % 100)
    try:
        node = rclpy.create_node("generated_messages", context=context)
        executor = rclpy.executors.SingleThreadedExecutor(context=context)
        executor.add_node(node)
        node.create_subscription(message, "tf", received.append, 10)
        publisher = node.create_publisher(message, "tf", 10)
        deadline = time.monotonic() + 60
        while not received and time.monotonic() < deadline:
            publisher.publish(message(transforms=[transform]))
            executor.spin_once(timeout_sec=0.1)
    finally:
        rclpy.shutdown(context=context)
    assert received and received[0].transforms == [transform]
