"""The quality of service of every topic, in one place.

Each can be changed from outside by ROS's own parameters, `qos_overrides.<topic>.subscription.reliability` and so on.
Each call gives a new profile, because rclpy writes those overrides into the profile that it is given.
"""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions


def sensor_input(depth: int) -> QoSProfile:
    """Images, CameraInfo, clouds. Best effort, which matches a publisher of either kind."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.VOLATILE,
    )


def transforms() -> QoSProfile:
    """/tf, as tf2 subscribes to it."""
    return published(depth=100)


def static_transforms() -> QoSProfile:
    """/tf_static, as tf2 subscribes to it: what was said before we came is said to us too."""
    return latched(depth=100)


def output() -> QoSProfile:
    """Clouds and images for others. Reliable, so that RViz and every other default subscription matches."""
    return published(depth=5)


def published(depth: int) -> QoSProfile:
    """Reliable, gone once sent."""
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=ReliabilityPolicy.RELIABLE)


def latched(depth: int = 1) -> QoSProfile:
    """Said once, kept for whoever comes later."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )


def overridable() -> QoSOverridingOptions:
    """Let parameters change history, depth and reliability of a topic."""
    return QoSOverridingOptions.with_default_policies()
