"""Policies: the one that Backtalk would like on its work queues, and what others do to its queues."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from backtalk.transport.topology import Names, Queue

MAX_LENGTH_BYTES: Final = 2 * 1024**3
LENGTHS: Final = ("max-length", "max-length-bytes")
# where a queue's argument and a policy both set one of these, the broker takes the lesser
_LESSER: Final = ("delivery-limit", "message-ttl", "expires")
# a policy sets these only where the queue's own arguments do not
_GAPS: Final = ("dead-letter-exchange", "dead-letter-routing-key", "overflow")


_QUEUES: Final = ("queues", "quorum_queues", "all")


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy as the broker keeps it; an operator's goes on top of the others."""

    name: str
    pattern: str
    applies_to: str
    priority: int
    definition: Mapping[str, Any]
    operator: bool = False

    def covers(self, queue: str) -> bool:
        return self.applies_to in _QUEUES and re.search(self.pattern, queue) is not None


def effective(policies: Iterable[Policy], queue: str) -> Mapping[str, Any]:
    """Return what policies say of a queue: the foremost of all, and the foremost of operators, the lesser number of both.

    Raises re.error for a pattern that Python reads otherwise than the broker.
    """
    covering = sorted((one for one in policies if one.covers(queue)), key=lambda one: -one.priority)
    own = next((one.definition for one in covering if not one.operator), {})
    above = next((one.definition for one in covering if one.operator), {})
    return {**own, **above, **{name: _lesser(own[name], above[name]) for name in own if name in above}}


def _lesser(own: Any, above: Any) -> Any:
    return min(own, above) if isinstance(own, int) and isinstance(above, int) else above


def limits_policy(names: Names) -> dict[str, Any]:
    """Return the policy that bounds the work queues; a queue at its limit refuses, and senders wait."""
    namespace = names.namespace.replace(".", r"\.")
    return {
        "name": f"{names.namespace}-limits",
        "pattern": rf"^{namespace}\.(forward|backward)$",
        "definition": {"max-length-bytes": MAX_LENGTH_BYTES},
        "apply-to": "queues",
    }


def limits_command(names: Names) -> str:
    """Return the command that sets the policy."""
    policy = limits_policy(names)
    definition = json.dumps(policy["definition"], separators=(",", ":"))
    return f"rabbitmqctl set_policy {policy['name']} '{policy['pattern']}' '{definition}' --apply-to {policy['apply-to']}"


def unbounded(policy: Mapping[str, Any]) -> bool:
    """Tell whether a work queue under a policy may grow until the broker's disk is full."""
    return not any(name in policy for name in LENGTHS)


def overridden(queue: Queue, policy: Mapping[str, Any]) -> list[str]:
    """Return what a policy changes of a queue that Backtalk relies on."""
    lesser = [
        f"{name} {policy[name]}"
        for name in _LESSER
        if isinstance(policy.get(name), int) and policy[name] < _own(queue, name)
    ]
    added = [
        f"{name} {policy[name]!r}" for name in _GAPS if name in policy and f"x-{name}" not in queue.arguments
    ]
    return [*lesser, *added]


def _own(queue: Queue, name: str) -> float:
    own = queue.arguments.get(f"x-{name}")
    return own if isinstance(own, int) else float("inf")
