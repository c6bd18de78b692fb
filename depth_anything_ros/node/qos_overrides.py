"""QoS policies that parameters may override: `qos_overrides./TOPIC.subscription.durability` and the like."""

from __future__ import annotations

from rclpy.qos import QoSPolicyKind
from rclpy.qos_overriding_options import QoSOverridingOptions

# rclpy's default leaves durability out.
POLICIES = (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY)


def overridable() -> QoSOverridingOptions:
    """Return `qos_overriding_options` for a publisher or a subscription."""
    return QoSOverridingOptions(POLICIES)
