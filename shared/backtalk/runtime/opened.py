"""The identity of a delivery, known before a byte of its body is parsed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from backtalk.transport.envelope import Delivery
from backtalk.wire.codec import unpack
from backtalk.wire.errors import Refused
from backtalk.wire.identity import request_id, work_key

# no JSON begins so: plain JSON that claims to be gzip must not pass for the same JSON that does not
_NOT_UNPACKED: Final = b"\0"


@dataclass(frozen=True, slots=True)
class Opened:
    """A delivery with its id and work key. It does not hold the unpacked body: a job may last for minutes."""

    delivery: Delivery
    id: str
    key: str


def identify(delivery: Delivery) -> Opened:
    """Return a delivery with its identity; a body that cannot be unpacked is nobody else's work."""
    envelope = delivery.envelope
    try:
        body = keyed = unpack(envelope.body, envelope.content_encoding)
    except Refused:
        body, keyed = envelope.body, _NOT_UNPACKED + envelope.body
    id = request_id(envelope.message_id, body, envelope.reply_to, envelope.correlation_id)
    return Opened(delivery, id, work_key(id, keyed))
