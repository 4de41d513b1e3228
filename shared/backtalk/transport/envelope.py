"""A message as the broker carries it: properties and bytes. What a body means is nobody's business here."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

ATTEMPT: Final = "x-backtalk-attempt"
ACCEPT_ENCODING: Final = "x-backtalk-accept-encoding"
REPLY_TO: Final = "x-reply-to"
REASON: Final = "x-backtalk-reason"
# has killed workers, and is worked on apart from the others
SUSPECT: Final = "x-backtalk-suspect"
# of the broker; before a redelivery it may be the sender's own invention
_DELIVERY_COUNT: Final = "x-delivery-count"
DEADLY: Final = 2
TRACEPARENT: Final = "traceparent"
# other traces that a message goes back to: their traceparents, with spaces between
TRACE_LINKS: Final = "x-backtalk-trace-links"
TRACESTATE: Final = "tracestate"
_TRACING: Final = (TRACEPARENT, TRACESTATE)
_OURS: Final = "x-backtalk-"


class TransportError(Exception):
    """The root of everything that can go wrong between us and the broker."""


class Unroutable(TransportError):
    """Raised when no queue takes a message: the receiver is gone, or nothing was ever declared."""


class QueueFull(TransportError):
    """Raised when the broker refuses a message: the queue is at its limit. Try again later."""


class Unconfirmed(TransportError):
    """Raised when the broker did not confirm in time; the message may still have been stored."""


class BadAddress(TransportError, ValueError):
    """Raised when the URL of a broker is none, or names files that cannot be used; it never holds the URL."""


class BrokerUnreachable(TransportError):
    """Raised when no connection came about in the time given."""


class TopologyMismatch(TransportError):
    """Raised when a queue or exchange exists with other arguments; the message names them."""


_MAX_KEPT: Final = 16_384
_MAX_TEXT: Final = 1024
# what Backtalk itself goes by
_NEEDED: Final = frozenset({*_TRACING, ATTEMPT, ACCEPT_ENCODING, REASON, f"{REASON}-text", SUSPECT})


@dataclass(frozen=True, slots=True)
class Envelope:
    """One message; `timestamp` is in seconds since the epoch."""

    body: bytes
    message_id: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    type: str | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    timestamp: float | None = None
    headers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def attempt(self) -> int:
        """How many times this message was put on a rung before; what is no number counts as never."""
        value = self.headers.get(ATTEMPT, 0)
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0

    @property
    def trace(self) -> dict[str, str]:
        """Return what its sender says of the trace it belongs to; no more than fits into the frame of an answer."""
        return {
            name: value
            for name in _TRACING
            if isinstance(value := self.headers.get(name), str) and len(value) < _MAX_TEXT
        }

    def republished(self, message_id: str, **headers: Any) -> Envelope:
        """Return the message as Backtalk sends it on: nothing of the broker's or the sender's that could harm.

        A sender's user_id closes the channel, a copied CC duplicates the message, x-death grows for ever.
        """
        # texts and numbers only: what else a header can hold, not every encoder can write again
        kept = {
            name: value
            for name, value in self.headers.items()
            if (name in _TRACING or name.startswith(_OURS)) and isinstance(value, str | int)
        }
        if len(str(kept)) > _MAX_KEPT:
            # all headers have to fit into one frame, or the broker closes the connection each time
            kept = {
                name: value for name, value in kept.items() if name in _NEEDED and len(str(value)) < _MAX_TEXT
            }
        return replace(
            self,
            message_id=message_id,
            content_type=None,
            timestamp=self.timestamp or time.time(),
            headers={**kept, **headers},
        )


async def _at_once() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message from a queue.

    `ack` acknowledges it, and tells whether that could be written; `acked` waits a moment and tells whether the broker
    has it. One that it has not is delivered again. From so many deliveries on that came to nothing it is `deadly`.
    """

    envelope: Envelope
    queue: str
    redelivered: bool
    ack: Callable[[], Awaitable[bool]]
    acked: Callable[[], Awaitable[bool]] = _at_once
    deadly: int = DEADLY

    @property
    def suspicious(self) -> bool:
        """Whether two workers or more died, or lost their connection, with this message in hand."""
        headers = self.envelope.headers
        count = headers.get(_DELIVERY_COUNT)
        deadly = isinstance(count, int) and count >= self.deadly
        return SUSPECT in headers or (self.redelivered and deadly)
