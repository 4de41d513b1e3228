"""Every exchange, queue and binding of Backtalk, as data. The arguments are constants: the broker compares them.

Tunables such as maximum lengths belong into a policy on the work queues, never here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

Arguments: TypeAlias = Mapping[str, str | int]

DEFAULT_URL: Final = "amqp://guest:guest@127.0.0.1:5672/"
ROLES: Final = ("forward", "backward")
RUNGS: Final = {"5s": 5, "30s": 30, "2m": 120, "10m": 600}

# looking at a letter counts as a delivery, and leaving the limit out means 20 on RabbitMQ 4
UNLIMITED: Final = 1_000_000_000
# a backstop: workers count deaths themselves, and one forced close of all connections may count ten times, since each
# message is handed on to every consumer that is not closed yet
DELIVERY_LIMIT: Final = 100
CONSUMER_TIMEOUT_MS: Final = 7_200_000
UNROUTED_TTL_MS: Final = 7 * 24 * 3600 * 1000
REPLIES_EXPIRE_MS: Final = 3600 * 1000

_QUORUM: Final[Arguments] = {"x-queue-type": "quorum"}
_KEEP: Final[Arguments] = {**_QUORUM, "x-delivery-limit": UNLIMITED}
# at-least-once dead-lettering loses messages without reject-publish
_SAFE_DEAD_LETTERS: Final[Arguments] = {
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
}


@dataclass(frozen=True, slots=True)
class Exchange:
    name: str
    kind: str
    arguments: Arguments = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Queue:
    name: str
    arguments: Arguments


@dataclass(frozen=True, slots=True)
class Binding:
    exchange: str
    key: str
    queue: str


@dataclass(frozen=True, slots=True)
class Topology:
    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    bindings: tuple[Binding, ...]

    def of(self, name: str) -> tuple[Queue, tuple[Binding, ...]]:
        """Return one queue with its bindings."""
        (queue,) = (one for one in self.queues if one.name == name)
        return queue, tuple(one for one in self.bindings if one.queue == name)


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one namespace; `role` is forward or backward."""

    namespace: str

    @property
    def jobs(self) -> str:
        return f"{self.namespace}.jobs"

    @property
    def results(self) -> str:
        return f"{self.namespace}.results"

    @property
    def unrouted(self) -> str:
        return f"{self.namespace}.unrouted"

    @property
    def kept_results(self) -> str:
        return f"{self.namespace}.results.unrouted"

    @property
    def dlx(self) -> str:
        return f"{self.namespace}.dlx"

    def work(self, role: str) -> str:
        return f"{self.namespace}.{role}"

    def rung(self, role: str, rung: str) -> str:
        return f"{self.namespace}.{role}.retry.{rung}"

    def crashed(self, role: str) -> str:
        return f"{self.namespace}.{role}.crashed"

    def suspect(self, role: str) -> str:
        return f"{self.namespace}.{role}.suspect"

    def dead(self, role: str) -> str:
        return f"{self.namespace}.{role}.dead"

    @property
    def control(self) -> str:
        return f"{self.namespace}.control"

    def ear(self, name: str) -> str:
        """Return the queue by which one worker hears what all are told."""
        return f"{self.control}.{name}"

    def replies(self, name: str) -> str:
        return f"{self.namespace}.replies.{name}"

    def refuses(self, reply_to: str) -> bool:
        """Tell whether a reply address is one of our own queues that no answer may go to."""
        return reply_to.startswith(f"{self.namespace}.") and not reply_to.startswith(self.replies(""))


def rung_for(seconds: float) -> str:
    """Return the shortest rung that waits at least so long, or the longest there is."""
    return next((name for name, wait in RUNGS.items() if wait >= seconds), list(RUNGS)[-1])


def reply_queue(names: Names, name: str, *, lasting: bool) -> Queue:
    """Return the queue a client receives answers on; one that is not lasting goes when nobody uses it."""
    expires = {} if lasting else {"x-expires": REPLIES_EXPIRE_MS}
    return Queue(names.replies(name), {**_KEEP, **expires})


def topology(names: Names) -> Topology:
    """Return all that the workers declare; works unchanged on RabbitMQ 3.10 to 4.x."""
    return Topology(
        exchanges=(
            Exchange(names.jobs, "topic"),
            Exchange(names.dlx, "direct"),
            Exchange(names.unrouted, "fanout"),
            Exchange(names.control, "fanout"),
            Exchange(names.results, "topic", {"alternate-exchange": names.unrouted}),
        ),
        queues=(
            *(queue for role in ROLES for queue in _of_role(names, role)),
            Queue(names.kept_results, {**_KEEP, "x-message-ttl": UNROUTED_TTL_MS}),
        ),
        bindings=(
            *(Binding(names.jobs, f"{role}.#", names.work(role)) for role in ROLES),
            *(Binding(names.dlx, role, names.crashed(role)) for role in ROLES),
            Binding(names.unrouted, "", names.kept_results),
        ),
    )


def _of_role(names: Names, role: str) -> tuple[Queue, ...]:
    worked_on = {
        **_QUORUM,
        **_SAFE_DEAD_LETTERS,
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": names.dlx,
        "x-dead-letter-routing-key": role,
        "x-consumer-timeout": CONSUMER_TIMEOUT_MS,
    }
    work = Queue(names.work(role), worked_on)
    suspect = Queue(names.suspect(role), worked_on)
    rungs = (
        Queue(
            names.rung(role, rung),
            {
                **_QUORUM,
                **_SAFE_DEAD_LETTERS,
                "x-message-ttl": seconds * 1000,
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": names.work(role),
            },
        )
        for rung, seconds in RUNGS.items()
    )
    crashed = Queue(names.crashed(role), _KEEP)
    dead = Queue(names.dead(role), {**_KEEP, "x-overflow": "reject-publish"})
    return (work, suspect, *rungs, crashed, dead)
