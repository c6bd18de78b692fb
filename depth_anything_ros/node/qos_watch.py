"""What the middleware reports: endpoints of other nodes whose QoS is incompatible with ours, and lost messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible
from rclpy.topic_endpoint_info import TopicEndpointInfo

from depth_anything_ros.node.distributions import (
    PublisherEventCallbacks,
    SubscriptionEventCallbacks,
    UnsupportedEventTypeError,
)

UNKNOWN_NODE = "_NODE_NAME_UNKNOWN_"  # rmw_dds_common
POLICIES = ("reliability", "durability", "liveliness", "deadline")


class QosWatch:
    """Warns when the middleware reports an incompatible endpoint, and knows whether it is still there.

    Args:
        node: whose topics they are.
        warn: called once for each mismatch.
    """

    def __init__(self, node: Node, warn: Callable[[str], None]) -> None:
        self._node = node
        self._warn = warn
        # Topics and directions with an event so far -> the other endpoint's id -> what does not fit.
        self._found: dict[tuple[str, bool], dict[tuple[int, ...], str]] = {}

    def of_subscription(self, topic: str, lost: Callable[[int], None] | None = None) -> SubscriptionEventCallbacks:
        """Return `event_callbacks` for `create_subscription` of a topic.

        Args:
            lost: called with how many more messages were lost on their way. Those that a newer one replaced, or that
                were published before the subscription was found, are not among them.
        """
        name = self._node.resolve_topic_name(topic)
        return InputEvents(
            incompatible_qos=lambda _: self._look(name, is_input=True),
            message_lost=None if lost is None else lambda event: lost(event.total_count_change),
        )

    def of_publisher(self, topic: str) -> PublisherEventCallbacks:
        """Return `event_callbacks` for `create_publisher` of a topic."""
        name = self._node.resolve_topic_name(topic)
        return PublisherEventCallbacks(incompatible_qos=lambda _: self._look(name, is_input=False))

    @staticmethod
    def not_watched() -> SubscriptionEventCallbacks:
        """Return `event_callbacks` for a subscription that need not fit every publisher."""
        return SubscriptionEventCallbacks(use_default_callbacks=False)

    def problems(self) -> list[str]:
        """Return what is incompatible at this moment."""
        for topic, is_input in list(self._found):
            self._look(topic, is_input, with_strangers=True)
        return list(dict.fromkeys(text for found in self._found.values() for text in found.values()))

    def _look(self, topic: str, is_input: bool, with_strangers: bool = False) -> None:
        """Warn of what is new since the last look. An endpoint is discovered before its node's name is."""
        before = self._found.get((topic, is_input), {})
        found = {
            tuple(other.endpoint_gid): _describe(topic, own, other)
            for own, other in self._mismatches(topic, is_input)
            if with_strangers or other.node_name != UNKNOWN_NODE
        }
        for endpoint, text in found.items():
            if endpoint not in before and text not in before.values():
                self._warn(text)
        self._found[topic, is_input] = found

    def _mismatches(self, topic: str, is_input: bool) -> Iterator[tuple[TopicEndpointInfo, TopicEndpointInfo]]:
        """Other endpoints to which none of ours fits, each with the one of ours that differs least."""
        publishers = self._node.get_publishers_info_by_topic(topic)
        subscriptions = self._node.get_subscriptions_info_by_topic(topic)
        owns = list(filter(self._is_own, subscriptions if is_input else publishers))
        for other in (publishers if is_input else subscriptions) if owns else ():
            pairs = [(other, own) if is_input else (own, other) for own in owns]
            if not any(map(_fits, pairs)):
                yield min(owns, key=lambda own: len(_differences(own, other))), other

    def _is_own(self, endpoint: TopicEndpointInfo) -> bool:
        mine = (self._node.get_name(), self._node.get_namespace())
        return (endpoint.node_name, endpoint.node_namespace) == mine


class InputEvents(SubscriptionEventCallbacks):
    """Without the count of lost messages where the middleware has none."""

    def create_event_handlers(self, *args: Any, **kwargs: Any) -> Any:
        """Called by rclpy for a new subscription."""
        try:
            return super().create_event_handlers(*args, **kwargs)
        except UnsupportedEventTypeError:
            self.message_lost = None
            return super().create_event_handlers(*args, **kwargs)


def _fits(pair: tuple[TopicEndpointInfo, TopicEndpointInfo]) -> bool:
    """Whether messages pass between a publisher and a subscription."""
    fits, _ = qos_check_compatible(*(endpoint.qos_profile for endpoint in pair))
    return fits != QoSCompatibility.ERROR


def _differences(own: TopicEndpointInfo, other: TopicEndpointInfo) -> list[str]:
    return [policy for policy in POLICIES if _value(own.qos_profile, policy) != _value(other.qos_profile, policy)]


def _describe(topic: str, own: TopicEndpointInfo, other: TopicEndpointInfo) -> str:
    differing = [
        f"{policy} is {_value(own.qos_profile, policy)} here and {_value(other.qos_profile, policy)} there"
        for policy in _differences(own, other)
    ]
    name = f"{other.node_namespace.rstrip('/')}/{other.node_name}"
    return f"{topic}: nothing passes between this node and {name}, {', '.join(differing)}"


def _value(profile: QoSProfile, policy: str) -> Any:
    value = getattr(profile, policy)
    return getattr(value, "name", value)
