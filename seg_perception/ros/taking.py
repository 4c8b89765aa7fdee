"""The executor of a node that takes large messages in.

rclpy's builds its wait set anew for each message, half a millisecond of Python in which no other thread has the lock.
This one keeps its own until something else than a message is due, and goes past rclpy where messages are large (see
`serialized`). Timers, services, events and whatever else there may be are left to rclpy as they are. Events of QoS, two
or three of every subscription and publisher, are looked at now and then alone: they made up most of what is waited for,
and no message has to wait for that any more.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import ExitStack
from inspect import iscoroutine
from typing import Any

from rclpy.context import Context
from rclpy.exceptions import InvalidHandle
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
from rclpy.subscription import Subscription
from rclpy.task import Future
from rclpy.utilities import timeout_sec_to_nsec
from rclpy.waitable import NumberOfEntities

from seg_perception.ros.serialized import Rcl, find_rcl

EVENTS_S = 0.5  # how long an event of QoS may wait to be told
_INNER = ("_guard", "_sigint_gc", "_is_shutdown")  # of rclpy's executors, that is needed here


class TakingExecutor(SingleThreadedExecutor):
    """A SingleThreadedExecutor whose raw subscriptions get (N,) uint8 of their own instead of bytes."""

    def __init__(self, *, context: Context | None = None) -> None:
        self._rcl: Rcl | None = None
        self._waiting: _Waiting | None = None
        self._events_due_s = 0.0  # when events are looked at next, on a steady clock
        super().__init__(context=context)
        # Humble divides the work between executor and subscription otherwise.
        if hasattr(Subscription, "CallbackType") and all(hasattr(self, name) for name in _INNER):
            self._rcl = find_rcl()

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Wait until something is due; take one message of every subscription that has any, and do one other thing."""
        if self._rcl is None or self._is_shutdown or not self.context.ok():
            super().spin_once(timeout_sec)
            return
        try:
            if self._waiting is None:
                self._waiting = _Waiting(self)
            subscriptions, others = self._wait(self._waiting, timeout_sec)
        except InvalidHandle:  # of what was destroyed since the last time
            self._let_go()
            return
        if not self.context.ok():
            raise ExternalShutdownException
        for subscription in subscriptions:
            self._deliver(subscription, self._rcl)
        if others or not subscriptions:
            self._let_go()  # what is waited for may have changed, and may change now
            super().spin_once(0.0)

    def _wait(self, waiting: _Waiting, timeout_sec: float | None) -> tuple[list[Any], bool]:
        """As `_Waiting.wait`, events included where it is time for them; as long as there are some, it is."""
        left_s = self._events_due_s - time.monotonic()
        if left_s <= 0:
            subscriptions, others = waiting.wait(0.0, events=True)
            if not others:
                self._events_due_s, left_s = time.monotonic() + EVENTS_S, EVENTS_S
            if subscriptions or others:
                return subscriptions, others
        return waiting.wait(left_s if timeout_sec is None or timeout_sec < 0 else min(timeout_sec, left_s))

    def spin_once_until_future_complete(self, future: Future, timeout_sec: Any = None) -> None:
        """As rclpy's. timeout_sec: or what holds it as `timeout`."""
        future.add_done_callback(lambda _: self.wake())
        self.spin_once(getattr(timeout_sec, "timeout", timeout_sec))

    def can_execute(self, entity: Any) -> bool:
        """As rclpy asks: not what is done here."""
        return (self._rcl is None or not isinstance(entity, Subscription)) and super().can_execute(entity)

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """As rclpy's."""
        self._let_go()
        return super().shutdown(timeout_sec)

    def _let_go(self) -> None:
        if self._waiting is not None:
            self._waiting.close()
            self._waiting = None

    def _deliver(self, sub: Any, rcl: Rcl) -> None:
        try:
            with sub.handle:
                taken = rcl.take(sub.handle.pointer) if sub.raw else sub.handle.take_message(sub.msg_type, False)
        except InvalidHandle:  # destroyed by what was delivered before
            return
        if taken is None:
            return
        with_info = sub._callback_type is Subscription.CallbackType.WithMessageInfo
        answer = sub.callback(*taken) if with_info else sub.callback(taken[0])
        if iscoroutine(answer):
            self.create_task(answer)


class _Waiting:
    """Everything that an executor waits for, and the wait set; held until closed: what is destroyed meanwhile goes
    then."""

    def __init__(self, executor: TakingExecutor) -> None:
        self._held = ExitStack()
        nodes = executor.get_nodes()
        self._subscriptions = self._hold(entity for node in nodes for entity in node.subscriptions)
        self._timers = self._hold(entity for node in nodes for entity in node.timers)
        self._clients = self._hold(entity for node in nodes for entity in node.clients)
        self._services = self._hold(entity for node in nodes for entity in node.services)
        self._guards = self._hold(entity for node in nodes for entity in node.guards)
        self._own_guards = self._hold((executor._guard, executor._sigint_gc))
        waitables = [waitable for node in nodes for waitable in node.waitables if self._enter(waitable)]
        self._events = [waitable for waitable in waitables if waitable.get_num_entities().num_events]
        self._others = [waitable for waitable in waitables if waitable not in self._events]
        self._held.enter_context(executor.context.handle)  # type: ignore[arg-type]
        of_waitables = sum((waitable.get_num_entities() for waitable in waitables), NumberOfEntities())
        room = of_waitables + NumberOfEntities(
            len(self._subscriptions),
            len(self._guards) + len(self._own_guards),
            len(self._timers),
            len(self._clients),
            len(self._services),
        )
        self._wait_set = _rclpy.WaitSet(
            room.num_subscriptions,
            room.num_guard_conditions,
            room.num_timers,
            room.num_clients,
            room.num_services,
            room.num_events,
            executor.context.handle,
        )
        self._added = [
            (self._wait_set.add_subscription, _handles(self._subscriptions)),
            (self._wait_set.add_guard_condition, _handles(self._guards) + _handles(self._own_guards)),
            (self._wait_set.add_timer, _handles(self._timers)),
            (self._wait_set.add_client, _handles(self._clients)),
            (self._wait_set.add_service, _handles(self._services)),
        ]

    def close(self) -> None:
        self._held.close()

    def wait(self, timeout_sec: float, events: bool = False) -> tuple[list[Any], bool]:
        """The subscriptions that have a message, and whether anything else is due; events only where asked for."""
        wait_set = self._wait_set
        waitables = self._others + self._events if events else self._others
        wait_set.clear_entities()
        for add, handles in self._added:
            for handle in handles:
                add(handle)
        for waitable in waitables:
            waitable.add_to_wait_set(wait_set)
        wait_set.wait(timeout_sec_to_nsec(timeout_sec))
        guards = wait_set.get_ready_entities("guard_condition")
        for pointer in self._guards.keys() & set(guards):
            self._guards[pointer].trigger()  # once more, for rclpy to see
        others = [bool(guards)]
        others += [bool(wait_set.get_ready_entities(kind)) for kind in ("timer", "client", "service")]
        others += [waitable.is_ready(wait_set) for waitable in waitables]  # each of which remembers it
        return [self._subscriptions[pointer] for pointer in wait_set.get_ready_entities("subscription")], any(others)

    def _hold(self, entities: Iterable[Any]) -> dict[int, Any]:
        """By the addresses that the wait set tells."""
        return {entity.handle.pointer: entity for entity in entities if self._enter(entity.handle)}

    def _enter(self, handle: Any) -> bool:
        try:
            self._held.enter_context(handle)
        except InvalidHandle:  # being destroyed
            return False
        return True


def _handles(entities: dict[int, Any]) -> list[Any]:
    return [entity.handle for entity in entities.values()]
