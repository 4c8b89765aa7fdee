"""The publishers of the scene: each message is made only while somebody subscribes to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rclpy.lifecycle.publisher import LifecyclePublisher
from rclpy.qos import QoSProfile

from seg_perception.config import Config
from seg_perception.datatypes import PointCloud
from seg_perception.labels import Taxonomy
from seg_perception.ros import conversions, qos
from seg_perception.scene.memory import SceneMemory, SceneUpdate
from seg_perception.scene_topics import LATCHED, SceneTopics
from seg_perception.statistics import StageTimer

MakePublisher = Callable[[type, str, QoSProfile], LifecyclePublisher]


class SceneOutputs:
    """One publisher for each topic of the scene that is switched on. publisher: makes one, and lets go of it later."""

    def __init__(self, config: Config, taxonomy: Taxonomy, publisher: MakePublisher) -> None:
        self._topics = SceneTopics(config, taxonomy)
        self._publishers = {}
        for topic, kind in self._topics.types.items():
            profile = qos.latched() if topic in LATCHED else qos.output()
            self._publishers[topic] = publisher(conversions.message_type(kind), f"~/{topic}", profile)

    def reconfigure(self, config: Config) -> None:
        """Go on with these settings, which differ in live ones only."""
        self._topics.reconfigure(config)

    def publish(self, memory: SceneMemory, update: SceneUpdate) -> dict[str, float]:
        """What is due after this sweep, in the worker's thread; returns the seconds that "publish_scene" took."""
        timer = StageTimer()
        with timer.stage("publish_scene"):
            self._publish(self._topics.messages(memory, update, self._wanted))
        return timer.seconds

    def catch_up(self, memory: SceneMemory, update: SceneUpdate) -> None:
        """Whoever has come since the last sweep gets grid and map as of then: DDS keeps for him what was published
        while somebody was there, which may be long ago."""
        self._publish(self._topics.latched(memory, update, lambda topic: topic in LATCHED and self._wanted(topic)))

    def _publish(self, messages: Iterable[tuple[str, PointCloud | Mapping[str, Any]]]) -> None:
        for topic, content in messages:
            if isinstance(content, PointCloud):
                message = conversions.point_cloud(content)
            else:
                message = conversions.message(self._topics.types[topic], content)
            self._publishers[topic].publish(message)

    def _wanted(self, topic: str) -> bool:
        return self._publishers[topic].get_subscription_count() > 0
