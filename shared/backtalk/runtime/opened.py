"""The identity of a delivery, known before a byte of its body is parsed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from backtalk.transport.envelope import Delivery
from backtalk.wire.codec import Unpacked, is_gzipped, unpack
from backtalk.wire.errors import Refused
from backtalk.wire.identity import request_id, work_key

# no JSON begins so: plain JSON that claims to be gzip must not pass for the same JSON that does not
_NOT_UNPACKED: Final = b"\0"
_WHOLE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Opened:
    """A delivery with its id and work key. It does not hold the unpacked body: a job may last for minutes."""

    delivery: Delivery
    id: str
    key: str


def identify(delivery: Delivery) -> Opened:
    """Return a delivery with its identity; a body that cannot be unpacked is nobody else's work."""
    body = delivery.envelope.body
    try:
        return _identified(delivery, _readable(body, delivery.envelope.content_encoding))
    except Refused:
        return _identified(delivery, body, _NOT_UNPACKED)


def _readable(body: bytes, encoding: str | None) -> bytes | Unpacked:
    """Return the uncompressed body; a large one in pieces, since it may be long before it is worked on."""
    if not is_gzipped(body, encoding):
        return body
    unpacked = Unpacked(body)
    return unpacked if len(unpacked) > _WHOLE else unpack(body, encoding)


def _identified(delivery: Delivery, body: bytes | Unpacked, mark: bytes = b"") -> Opened:
    envelope = delivery.envelope
    id = request_id(envelope.message_id, body, envelope.reply_to, envelope.correlation_id)
    return Opened(delivery, id, work_key(id, mark + body if isinstance(body, bytes) else body))
